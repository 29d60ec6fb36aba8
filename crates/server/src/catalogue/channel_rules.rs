//! What decides about private channels, as the catalogue says it at one moment.

use std::collections::{BTreeMap, BTreeSet};

use walcast_change::{ColumnSet, RoleId, Table};
use walcast_filters::{
    claims::Role,
    policy::{RoleFacts, RowSecurity},
};

/// The rules of private channels, at one moment.
#[derive(Debug)]
pub struct ChannelRules {
    /// Who owns it.
    pub owner: RoleId,
    /// `realtime.messages`
    pub table: Table,
    /// Its policies for SELECT.
    pub select: RowSecurity,
    /// Its policies for INSERT.
    pub insert: RowSecurity,
    /// The roles as which the login may act.
    pub roles: BTreeMap<Role, ChannelRole>,
    /// The days (UTC) with a partition, as `YYYY-MM-DD`.
    pub days: BTreeSet<String>,
}

/// A role.
#[derive(Debug)]
pub struct ChannelRole {
    /// What decides which policies concern it.
    pub facts: RoleFacts,
    /// The numbers of the columns it may SELECT.
    pub selectable: ColumnSet,
    /// Whether it has the privileges for such an INSERT.
    pub may_insert: bool,
}
