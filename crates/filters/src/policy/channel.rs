//! The policies of `realtime.messages` as they concern a role: whether a channel passes, where that is
//! certain.

use std::sync::Arc;

use walcast_change::{RoleId, Row, Table};

use super::{Predicate, RoleFacts, RowRule, RowSecurity, evaluate::Scope};
use crate::claims::Audience;

/// The policies of one command for one role, each of which is decided in process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChannelRule {
    rule: RowRule,
    /// Of each policy, also of those that play no part in the rule: PostgreSQL may evaluate them.
    predicates: Vec<Arc<Predicate>>,
}

impl RowSecurity {
    /// The rule for a role on a table owned by `owner`; `None` when PostgreSQL must be asked about one
    /// of the policies that concern it.
    #[must_use]
    pub fn channel_rule_for(&self, role: &RoleFacts, owner: RoleId) -> Option<ChannelRule> {
        let is_bound = self.is_enabled && !role.bypasses_row_security;
        let concerning = self.policies.iter().filter(|policy| is_bound && policy.concerns(role));
        let mut predicates = Vec::new();
        for policy in concerning.filter(|policy| policy.using.is_some()) {
            let predicate = policy.decision.as_ref().ok()?;
            if !predicate.calls.is_subset(&role.may_run) {
                return None;
            }
            predicates.push(Arc::clone(predicate));
        }
        Some(ChannelRule { rule: self.rule_for(role, owner), predicates })
    }
}

impl ChannelRule {
    /// Whether a channel on `topic` (without its prefix) passes with this row of the table. `None` where
    /// that is open, and where PostgreSQL might raise an error, about whichever policy and in whatever
    /// order it evaluates them.
    #[must_use]
    pub fn passes(&self, image: (&Table, &Row), audience: &Audience, topic: &str) -> Option<bool> {
        // PostgreSQL reads the claims as JSON before it asks any policy, and takes no zero bytes.
        if !audience.claims.is_certain() || topic.contains('\0') {
            return None;
        }
        let scope = Scope {
            image: Some(image),
            audience: Some(audience),
            topic: Some(topic),
            case_operand: None,
        };
        if !self.predicates.iter().all(|predicate| predicate.is_calm(&scope)) {
            return None;
        }
        self.rule.is_certain(&scope)
    }
}
