//! Drives one session over one socket.
//!
//! ```text
//! socket ──► inbound ──► Session ──► outputs ─┬─► batch ──► writer ──► socket
//!                          ▲                  ├─► verify the token, at once
//! router ──► inbox ────────┴── answers        ├─► subscribe, unsubscribe
//! presence ──┤                                └─► track, untrack
//!               └───── changes ───────────────────► batch
//! ```
//!
//! The driver owns the session; the writer owns the sending half. While the writer waits for a
//! client that does not read, the batch fills, then the driver takes no more from client or inbox,
//! then the inbox overflows and the connection is closed. Nobody else waits.

mod admission;
pub mod control;
mod driver;
pub mod longpoll;
mod outgoing;
mod reader;
mod replay;
pub mod websocket;
pub mod wire;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use walcast_channels::Limits;

use self::control::OpenConnections;
use crate::{
    auth::TokenVerifier,
    authz::Authorizer,
    catalogue::keeper::CatalogueKeeper,
    http::Health,
    messages::replay::Replayer,
    outbox::OutboxLimits,
    presence::PresenceHandle,
    quota::ServerQuotas,
    router::{ConnectionId, RouterHandle},
    telemetry::Metrics,
    topics::Topics,
};

/// What every connection needs.
#[derive(Debug)]
pub struct TransportParts {
    /// Verifies tokens.
    pub verifier: Arc<TokenVerifier>,
    /// The bounds of a session.
    pub limits: Arc<Limits>,
    /// Who listens to which topic.
    pub topics: Arc<Topics>,
    /// Who is present on them.
    pub presence: PresenceHandle,
    /// The router.
    pub router: RouterHandle,
    /// Gives catalogue snapshots.
    pub catalogue: Arc<CatalogueKeeper>,
    /// Asks PostgreSQL.
    pub authorizer: Arc<Authorizer>,
    /// Tells when messages from the database arrive.
    pub health: Arc<Health>,
    /// Reads earlier messages.
    pub replayer: Arc<Replayer>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The bounds of a connection's queue.
    pub outbox_limits: OutboxLimits,
    /// The largest frame a client may send, in bytes.
    pub frame_bytes_max: usize,
    /// Open sockets at a time.
    pub connections_max: usize,
    /// Sockets with a channel at a time.
    pub users_max: usize,
    /// What all of them together may do.
    pub quotas: Arc<ServerQuotas>,
    /// Sockets that have a channel.
    pub n_users: AtomicUsize,
    /// The start of time for sessions.
    pub started: Instant,
    /// Cancelled when the server stops.
    pub shutdown: CancellationToken,
    /// Knows the tasks of the connections that are open.
    pub connections: TaskTracker,
    /// Lists them.
    pub open: Arc<OpenConnections>,
    /// The last connection id given out.
    pub last_connection: AtomicU64,
}

impl TransportParts {
    /// Whether there is room for another connection.
    fn has_room(&self) -> bool {
        self.connections.len() < self.connections_max && self.has_room_for_user()
    }

    /// Whether there is room for another connection with channels.
    fn has_room_for_user(&self) -> bool {
        self.n_users.load(Ordering::Relaxed) < self.users_max
    }

    fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.last_connection.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
