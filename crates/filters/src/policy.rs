//! Row-level security: the part that can be decided without asking PostgreSQL.
//!
//! ```text
//! RowSecurity (a table's policies)  +  RoleFacts (a role)     →  RowRule, once per table and role
//! RowRule                           +  a row and an audience  →  Allow | Deny | Undecided
//! ```
//!
//! What is `Undecided` PostgreSQL evaluates over the row image: the rule holds the SQL expression.

mod apply;
mod channel;
mod claims_read;
mod compile;
mod constant;
mod environment;
mod evaluate;
mod expression;
mod fold;
pub(crate) mod json;
mod known;
mod membership;
mod necessary;
mod not_decided;
mod operators;
mod predicate;
mod rule;
mod shape;
mod tree;

use std::{collections::BTreeSet, sync::Arc};

use walcast_change::RoleId;

pub use self::{
    channel::ChannelRule,
    claims_read::{ClaimsRead, Path, Projection},
    environment::{Environment, FunctionFacts, Named, RelationFacts, named_in},
    membership::{MEMBERS_MAX, Member, Membership},
    necessary::Necessary,
    not_decided::NotDecided,
    predicate::{Compiled, Compiler, Predicate},
    rule::{RowExpression, RowRule},
};

/// What row-level security says about one row for one audience.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Visible.
    Allow,
    /// Hidden.
    Deny,
    /// Only PostgreSQL can tell; it must be asked.
    Undecided,
}

/// The row security of one table.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RowSecurity {
    /// `pg_class.relrowsecurity`
    pub is_enabled: bool,
    /// `pg_class.relforcerowsecurity`: the owner is subject to it, too.
    pub is_forced: bool,
    /// The policies FOR SELECT and FOR ALL, ordered by name.
    pub policies: Box<[Policy]>,
}

/// One policy FOR SELECT or FOR ALL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// The policy's name.
    pub name: Box<str>,
    /// Permissive policies are ORed, restrictive ones ANDed.
    pub kind: PolicyKind,
    /// Whom it concerns.
    pub applies_to: PolicyRoles,
    /// The USING expression as `pg_get_expr` prints it under an empty search path; `None` when the
    /// policy has none.
    pub using: Option<Arc<str>>,
    /// What the expression reads of the row.
    pub reads: Reads,
    /// The compiled expression, or why PostgreSQL must be asked.
    pub decision: Result<Arc<Predicate>, NotDecided>,
    /// Of an expression that is not decided what is known of it, which can still say no.
    pub partial: Option<Arc<Predicate>>,
    /// The question for members that it amounts to, if it is one.
    pub membership: Option<Arc<Membership>>,
    /// What the expression reads of the claims.
    pub claims_read: ClaimsRead,
}

/// How a policy combines with the others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PolicyKind {
    /// At least one permissive policy must pass.
    Permissive,
    /// Every restrictive policy must pass.
    Restrictive,
}

/// The roles a policy concerns.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PolicyRoles {
    /// TO PUBLIC
    Public,
    /// TO these roles and those that inherit from them.
    Only(Box<[RoleId]>),
}

/// The part of a row an expression reads.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reads {
    /// Attribute numbers.
    pub columns: BTreeSet<i16>,
    /// Whether the expression refers to the row as a whole, and so to every column.
    pub whole_row: bool,
}

/// What must be known of a role to tell which policies concern it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoleFacts {
    /// The role's oid.
    pub id: RoleId,
    /// Superuser or BYPASSRLS.
    pub bypasses_row_security: bool,
    /// The roles whose privileges it has (`pg_has_role(…, 'USAGE')`), itself included.
    pub has_privileges_of: BTreeSet<RoleId>,
    /// The functions of policies that it may run.
    pub may_run: BTreeSet<FunctionId>,
}

/// The oid of a function (`pg_proc.oid`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FunctionId(pub u32);

impl RowSecurity {
    /// The rule for a role on a table owned by `owner`, as PostgreSQL combines policies
    /// (`check_enable_rls`, `get_row_security_policies`).
    #[must_use]
    pub fn rule_for(&self, role: &RoleFacts, owner: RoleId) -> RowRule {
        let owns = role.has_privileges_of.contains(&owner);
        if !self.is_enabled || role.bypasses_row_security || (owns && !self.is_forced) {
            return RowRule::Everything;
        }
        let applying = self.policies.iter().filter(|policy| policy.concerns(role));
        let (mut permissive, restrictive): (Vec<_>, Vec<_>) =
            applying.partition(|policy| policy.kind == PolicyKind::Permissive);
        // The order matters where an expression raises: PostgreSQL evaluates the restrictive policies
        // first, by name, and of the permissive ones the last name first (`RelationBuildRowSecurity`
        // builds its list from the end, `add_security_quals` puts the restrictive quals in front).
        permissive.reverse();
        RowRule::of(&permissive, &restrictive, &role.may_run)
    }
}

impl Policy {
    fn concerns(&self, role: &RoleFacts) -> bool {
        match &self.applies_to {
            PolicyRoles::Public => true,
            PolicyRoles::Only(roles) => {
                roles.iter().any(|candidate| role.has_privileges_of.contains(candidate))
            }
        }
    }
}

impl Reads {
    fn union(mut self, other: Self) -> Self {
        self.columns.extend(other.columns);
        self.whole_row |= other.whole_row;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: RoleId = RoleId(10);
    const ANON: RoleId = RoleId(20);
    const MANAGER: RoleId = RoleId(30);

    fn policy(kind: PolicyKind, roles: &[RoleId], using: Option<&str>) -> Policy {
        let applies_to =
            if roles.is_empty() { PolicyRoles::Public } else { PolicyRoles::Only(roles.into()) };
        Policy {
            name: "p".into(),
            kind,
            applies_to,
            using: using.map(Into::into),
            reads: Reads::default(),
            decision: Err(NotDecided::NotRead),
            partial: None,
            membership: None,
            claims_read: ClaimsRead::Everything,
        }
    }

    fn permissive(using: &str) -> Policy {
        policy(PolicyKind::Permissive, &[], Some(using))
    }

    fn restrictive(using: &str) -> Policy {
        policy(PolicyKind::Restrictive, &[], Some(using))
    }

    fn role(id: RoleId, inherits: &[RoleId]) -> RoleFacts {
        let has_privileges_of = inherits.iter().copied().chain([id]).collect();
        RoleFacts { id, bypasses_row_security: false, has_privileges_of, may_run: BTreeSet::new() }
    }

    fn secured(policies: &[Policy]) -> RowSecurity {
        RowSecurity { is_enabled: true, is_forced: false, policies: policies.into() }
    }

    fn check(security: &RowSecurity, role: &RoleFacts, expected: &str) {
        let shown = match security.rule_for(role, OWNER) {
            RowRule::Everything => "everything".to_owned(),
            RowRule::Nothing => "nothing".to_owned(),
            RowRule::Expression(expression) => expression.sql.to_string(),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn policies_combine_as_in_postgresql() {
        let anon = role(ANON, &[]);
        for (policies, expected) in [
            (vec![], "nothing"),
            (vec![permissive("true")], "everything"),
            (vec![permissive("(true)")], "everything"),
            (vec![permissive("false")], "nothing"),
            (vec![permissive("a"), permissive("true")], "everything"),
            (vec![permissive("a"), permissive("false")], "((a))"),
            (vec![permissive("a"), permissive("b")], "((b) OR (a))"),
            (vec![restrictive("true")], "nothing"),
            (vec![permissive("true"), restrictive("r")], "((r))"),
            (vec![permissive("true"), restrictive("false")], "nothing"),
            (vec![permissive("a"), restrictive("r"), restrictive("s")], "((r) AND (s)) AND ((a))"),
            (vec![policy(PolicyKind::Permissive, &[], None)], "nothing"),
            (vec![permissive("true"), policy(PolicyKind::Restrictive, &[], None)], "everything"),
            (vec![policy(PolicyKind::Permissive, &[MANAGER], Some("true"))], "nothing"),
        ] {
            check(&secured(&policies), &anon, expected);
        }
    }

    /// Found by the oracle: a policy that raises must not come before one that lets the row pass.
    #[test]
    fn policies_are_evaluated_in_the_order_of_postgresql() {
        let security = secured(&[permissive("first"), restrictive("r"), permissive("last")]);
        check(&security, &role(ANON, &[]), "((r)) AND ((last) OR (first))");
    }

    #[test]
    fn a_role_gets_the_policies_of_the_roles_it_inherits_from() {
        let security = secured(&[policy(PolicyKind::Permissive, &[MANAGER], Some("m"))]);
        check(&security, &role(ANON, &[MANAGER]), "((m))");
        check(&security, &role(ANON, &[]), "nothing");
    }

    #[test]
    fn row_security_does_not_bind_everybody() {
        let mut security = secured(&[]);
        check(&security, &role(ANON, &[]), "nothing");
        check(&security, &role(ANON, &[OWNER]), "everything");
        let bypass = RoleFacts { bypasses_row_security: true, ..role(ANON, &[]) };
        check(&security, &bypass, "everything");
        security.is_forced = true;
        check(&security, &role(OWNER, &[]), "nothing");
        check(&security, &bypass, "everything");
        security.is_enabled = false;
        check(&security, &role(ANON, &[]), "everything");
    }
}
