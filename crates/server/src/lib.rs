//! The rim of walcast: sockets, database, configuration, wiring.
//!
//! ```text
//! source      keeps the slot streaming                      replicator → RowEvents
//! router      one task, owns the MatchIndex                 RowEvents → recipients
//! authz       asks PostgreSQL what only it can answer       Undecided → Allow | Deny
//! topics      which channels listen to which topic           a message → outboxes
//! messages    what SQL says to channels                     rows → topics
//! quota       what all clients together may do
//! presence    one task, owns who is present on topics     changes → one diff per tick
//! outbox      the bounded queue of one connection           frames → transport
//! transport   drives one Session over one socket            frames ⇄ client messages
//! app         builds and runs all of it
//! ```

pub mod app;
pub mod auth;
pub mod authz;
pub mod catalogue;
pub mod cli;
pub mod config;
pub mod database;
pub mod dev;
pub mod doctor;
pub mod embedded;
mod error_chain;
pub mod healthcheck;
pub mod http;
pub mod listen;
pub mod messages;
pub mod migrate;
pub mod outbox;
pub mod policies;
pub mod presence;
pub mod quota;
pub mod random;
pub mod router;
pub mod source;
pub mod subscribe;
pub mod telemetry;
pub mod topics;
pub mod transport;
