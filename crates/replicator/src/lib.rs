//! A replication slot in, row events out.
//!
//! ```text
//!  PostgreSQL
//!     │  bytes
//!  connection   startup, login, TLS, simple queries                  I/O
//!  slot         publication, slot, continuity                        I/O
//!  stream       START_REPLICATION, reading, feedback                 I/O
//!     │  CopyData
//!  wire         XLogData, keepalive, standby status                  pure
//!  pgoutput     Message                                              pure
//!  assemble     StreamItem: tables remembered, commit stamped        pure
//!  progress     received, handed over, acknowledged                  pure
//! ```
#![deny(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

mod assemble;
mod backoff;
mod connection;
mod continuity;
mod error;
pub mod fuzzing;
mod options;
mod pgoutput;
mod progress;
mod server_error;
mod slot;
mod stream;
mod wire;

pub use assemble::{Assembler, Partial, StreamItem, Taken};
pub use backoff::Backoff;
pub use connection::tls::{TlsError, tls_client_config};
pub use continuity::{Break, Continuity, Resume, SlotStart, Started, SystemIdentity};
pub use error::{Definite, ReplicationError, Transient};
pub use options::{ConnectOptions, Host, ReplicationOptions, Secret, SslMode, SslModeError};
pub use pgoutput::{DecodeError, ImageKind, LogicalMessage, Message, Problem, decode};
pub use progress::Progress;
pub use server_error::ServerError;
pub use slot::drop_slot;
pub use stream::ReplicationStream;
pub use wire::{CopyFrame, MESSAGE_BYTES_MAX, StandbyStatus, WireError, decode_copy_frame};
