//! What decides about private channels, as the catalogue says it at one moment.

use std::collections::{BTreeMap, BTreeSet};

use walcast_change::{ColumnSet, Table};
use walcast_filters::{claims::Role, policy::ChannelRule};

/// The rules of private channels, at one moment.
#[derive(Debug)]
pub struct ChannelRules {
    /// `realtime.messages`
    pub table: Table,
    /// The roles as which the login may act.
    pub roles: BTreeMap<Role, ChannelRole>,
    /// The days (UTC) with a partition, as `YYYY-MM-DD`.
    pub days: BTreeSet<String>,
}

/// What concerns a role.
#[derive(Debug)]
pub struct ChannelRole {
    /// The numbers of the columns it may SELECT.
    pub selectable: ColumnSet,
    /// Whether it has the privileges for an INSERT of such a row.
    pub may_insert: bool,
    /// The policies for SELECT; `None` when they are PostgreSQL's to decide.
    pub select: Option<ChannelRule>,
    /// The policies for INSERT; `None` when they are PostgreSQL's to decide.
    pub insert: Option<ChannelRule>,
}
