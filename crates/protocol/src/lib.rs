//! What a client of walcast sees: Phoenix frames and change payloads. Pure.
//!
//! ```text
//! bytes ──► text / binary ──► ClientMessage ──► join, binding, push      what a client says
//! ServerMessage ──► text / binary ──► Frame                              what it is told
//! RowEvent ──► changes ──► data ──► frame::postgres_changes ──► Frame    what it subscribed to
//! ```
//!
//! Only this crate knows the wire; nothing here knows sockets, time or who is connected.
#![deny(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

pub mod binary;
pub mod binding;
pub mod broadcast;
pub mod changes;
pub mod close;
pub mod error_code;
pub mod frame;
pub mod fuzzing;
mod inspect;
pub mod join;
pub mod json;
pub mod message;
pub mod presence;
pub mod push;
pub mod raw_json;
pub mod text;

pub use binding::{Binding, BindingEvent, BindingItem, Pattern};
pub use close::CloseCode;
pub use error_code::ErrorCode;
pub use frame::Frame;
pub use inspect::inspect_text;
pub use message::{ClientMessage, MalformedFrame, Reference, ServerMessage, Topic, Version};
pub use raw_json::RawJson;
