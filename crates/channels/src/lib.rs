//! The life of a connection as a pure state machine.
//!
//! ```text
//!            Input::Message ──► Session ──► Output::Send
//!                                  │
//!                         one Channel per topic
//!
//!   phx_join ──► verifying ──► waiting ──► joined ──► gone
//!                the token,    for the     reply      left, replaced,
//!                the rights    first       sent       or shut down
//!                of a private  Subscribed
//!                channel,      (optional)
//!                replay
//! ```
//!
//! [`Session::handle`] is the only door. Whoever drives it does what the outputs say, hands the
//! answers back as inputs, and calls with [`Input::Tick`] when [`Session::deadline`] has come.
//! Nothing here waits, so that a slow answer for one channel never delays another.
#![deny(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

mod channel;
mod input;
mod limits;
mod output;
pub mod presence;
mod rate;
mod rights;
mod session;
mod subscribe;
mod subscription;
mod token;
mod tokens;

pub use channel::ChannelId;
pub use input::{Input, ServerLimit};
pub use limits::Limits;
pub use output::{BroadcastRefusal, Event, Output};
pub use rate::TokenBucket;
pub use rights::{Extensions, ReplayRequest, Rights, RightsFailure, RightsRequest};
pub use session::{JoinedChannel, Session};
pub use subscribe::{ChangesBinding, SubscribeFailure, SubscribeRequest};
pub use token::{Token, TokenError, VerifiedClaims};
