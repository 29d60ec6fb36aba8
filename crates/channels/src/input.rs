//! What can happen to a connection.

use std::sync::Arc;

use walcast_protocol::{ClientMessage, MalformedFrame, RawJson, message::UserBroadcast};

use crate::{ChannelId, Rights, RightsFailure, SubscribeFailure, TokenError, VerifiedClaims};

/// One thing that happened, in the order in which it did.
#[derive(Clone, Debug)]
pub enum Input {
    /// The client sent a message.
    Message(ClientMessage),
    /// The client sent a message for which the whole server has no room. It is refused.
    Overload {
        /// The message.
        message: ClientMessage,
        /// What there is too much of.
        limit: ServerLimit,
    },
    /// The client sent a frame that is no message.
    Malformed(MalformedFrame),
    /// The client gave another sign of life: a ping or a pong.
    Activity,
    /// The answer to [`Output::VerifyToken`](crate::Output::VerifyToken).
    TokenVerified {
        /// As asked.
        channel: ChannelId,
        /// As asked.
        token: Arc<str>,
        /// The token's claims, or why it is refused.
        result: Result<VerifiedClaims, TokenError>,
    },
    /// The answer to [`Output::Subscribe`](crate::Output::Subscribe).
    ///
    /// `Ok` means: changes that commit from here on are delivered. It has to reach the session
    /// before the first of these changes is handed to the client, since a join may wait for it.
    /// `Err` means: nothing of this attempt is left; what an earlier one put in place may be, and
    /// the session takes it back.
    Subscribed {
        /// As asked.
        channel: ChannelId,
        /// As asked; answers to earlier attempts are ignored.
        attempt: u32,
        /// Whether it worked.
        result: Result<(), SubscribeFailure>,
    },
    /// A subscription that was in place is gone: continuity broke, or the catalogue changed.
    ///
    /// The session subscribes again at once and announces it to the client when that is answered.
    SubscriptionLost {
        /// Whose subscription.
        channel: ChannelId,
    },
    /// The answer to [`Output::ShowPresence`](crate::Output::ShowPresence).
    PresenceState {
        /// As asked.
        channel: ChannelId,
        /// The payload of the `presence_state`.
        state: RawJson,
    },
    /// A call of `track` or `untrack` was not carried out: there are too many on the whole server.
    PresenceRefused {
        /// Whose call.
        channel: ChannelId,
    },
    /// The answer to [`Output::Authorize`](crate::Output::Authorize).
    Authorized {
        /// As asked.
        channel: ChannelId,
        /// As asked; answers to earlier questions are ignored.
        question: u32,
        /// What is allowed of what was asked; errors allow nothing.
        result: Result<Rights, RightsFailure>,
    },
    /// The answer to [`Output::Replay`](crate::Output::Replay).
    Replayed {
        /// As asked.
        channel: ChannelId,
        /// The messages with the metadata that clients get, oldest first, or that they could not be
        /// read.
        result: Result<Vec<UserBroadcast>, ()>,
    },
    /// The answer to [`Output::AwaitReplication`](crate::Output::AwaitReplication).
    Replication {
        /// As asked.
        channel: ChannelId,
        /// Whether messages from the database arrive; otherwise they did not in time.
        is_ready: bool,
    },
    /// Whoever runs the server wants the client to connect anew.
    Disconnect,
    /// The deadline has come.
    Tick,
    /// The server stops.
    Shutdown,
}

/// A bound on what all connections of the server do together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ServerLimit {
    /// Joins per second: the join is refused and the connection closed.
    Joins,
    /// Connections with channels: the join is refused.
    ConcurrentUsers,
    /// Broadcasts per second: the channel of the broadcast is closed.
    Events,
}
