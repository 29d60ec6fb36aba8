//! What a session wants done.

use std::{sync::Arc, time::Duration};

use walcast_protocol::{
    CloseCode, ErrorCode, MalformedFrame, ServerMessage, Topic, broadcast::BroadcastFault,
    join::JoinWarning, presence::Tracked,
};

use crate::{ChannelId, Extensions, ReplayRequest, RightsRequest, SubscribeRequest};

/// One wish of the session; they are carried out in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a message, encoded for the connection's version.
    Send(ServerMessage),
    /// Check a token; answered by [`Input::TokenVerified`](crate::Input::TokenVerified).
    VerifyToken {
        /// For whom.
        channel: ChannelId,
        /// The token.
        token: Arc<str>,
    },
    /// Deliver changes to the channel; answered by [`Input::Subscribed`](crate::Input::Subscribed).
    ///
    /// It replaces whatever was subscribed for the channel before.
    Subscribe {
        /// For whom.
        channel: ChannelId,
        /// The how-manieth attempt of the channel; it names the answer.
        attempt: u32,
        /// What is wanted.
        request: Arc<SubscribeRequest>,
    },
    /// Deliver no more changes to the channel, and forget an attempt that is not answered yet.
    Unsubscribe {
        /// For whom.
        channel: ChannelId,
    },
    /// Let the channel hear what is published on its topic, until [`Self::LeaveTopic`].
    JoinTopic {
        /// Who.
        channel: ChannelId,
        /// The topic.
        topic: Topic,
        /// Whether the channel is private; private and public ones do not hear each other.
        is_private: bool,
        /// What of it.
        hears: Extensions,
    },
    /// Let a channel that joined its topic hear this of it from here on.
    Hear {
        /// Who.
        channel: ChannelId,
        /// What.
        hears: Extensions,
    },
    /// Ask what a private channel may do; answered by
    /// [`Input::Authorized`](crate::Input::Authorized).
    Authorize {
        /// For whom.
        channel: ChannelId,
        /// The how-manieth question of the channel; it names the answer.
        question: u32,
        /// What is asked.
        request: Box<RightsRequest>,
    },
    /// Read earlier messages; answered by [`Input::Replayed`](crate::Input::Replayed). What is
    /// broadcast to the channel meanwhile is held back until [`Self::Resume`].
    Replay {
        /// For whom.
        channel: ChannelId,
        /// Which.
        request: Box<ReplayRequest>,
    },
    /// The earlier messages were sent: what was held back follows, and what comes live. Messages that
    /// were stored when the earlier ones were read are left out, since the stream may be behind.
    Resume {
        /// Who.
        channel: ChannelId,
    },
    /// The channel hears no more of its topic.
    LeaveTopic {
        /// Who.
        channel: ChannelId,
    },
    /// Tell everybody on the channel's topic, in the order in which the session says so.
    Broadcast {
        /// Who says it; its connection joined the topic with [`Self::JoinTopic`].
        channel: ChannelId,
        /// What is said.
        message: ServerMessage,
        /// Whether the channel hears it, too: at once, before anything that follows here.
        include_self: bool,
    },
    /// Tell the channel who is present on its topic; answered by
    /// [`Input::PresenceState`](crate::Input::PresenceState). The topic was joined before.
    ShowPresence {
        /// Whom.
        channel: ChannelId,
    },
    /// Show the channel as present on its topic, or what it says from here on; may be refused by
    /// [`Input::PresenceRefused`](crate::Input::PresenceRefused).
    Track {
        /// Which.
        channel: ChannelId,
        /// Under which key; without one, under one of its own.
        key: Option<Arc<str>>,
        /// What it says about itself.
        tracked: Tracked,
    },
    /// Show the channel as present no longer. It was tracked before.
    Untrack {
        /// Which.
        channel: ChannelId,
    },
    /// Say when messages from the database arrive, or that they do not in time; answered by
    /// [`Input::Replication`](crate::Input::Replication).
    AwaitReplication {
        /// Who asks.
        channel: ChannelId,
        /// How long to wait.
        timeout: Duration,
    },
    /// Close the connection; the session is over and ignores what follows.
    Close {
        /// Why.
        code: CloseCode,
    },
    /// Count something.
    Count(Event),
}

/// Something worth counting or logging.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// A frame was dropped: it is no message.
    MalformedFrame(MalformedFrame),
    /// A message was dropped: its `ref` or `join_ref` is longer than allowed.
    ReferenceTooLong,
    /// A message was sent to a topic that has no channel.
    UnmatchedTopic,
    /// A message on a channel asked for nothing that is known.
    UnknownEvent,
    /// A leave was dropped: it belongs to an earlier join.
    StaleLeave,
    /// A field of a join had the wrong type and was ignored.
    InvalidJoinPayload(JoinWarning),
    /// A channel was joined.
    Joined,
    /// A join was refused.
    JoinRefused(ErrorCode),
    /// A channel was left by the client.
    Left,
    /// A channel was closed by the server.
    ChannelShutdown,
    /// An `access_token` brought nothing to check.
    AccessTokenIgnored,
    /// A new token came too soon and waits.
    AccessTokenThrottled,
    /// A new token is in force.
    AccessTokenReplaced,
    /// A subscription is in place.
    Subscribed,
    /// A subscription was refused for good.
    SubscribeRefused,
    /// A subscription failed and is tried again.
    SubscribeRetried,
    /// A subscription was lost and is asked for again.
    SubscriptionLost,
    /// A broadcast went to nobody.
    BroadcastRefused(BroadcastRefusal),
    /// A channel called `track` or `untrack`.
    PresenceCalled,
}

/// Why a broadcast goes to nobody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BroadcastRefusal {
    /// The payload is not what it must be.
    Malformed(BroadcastFault),
    /// The payload is larger than allowed.
    TooLarge,
    /// The connection sends too much; the channel is closed for it.
    TooMany,
    /// The policies do not let the channel write, or could not be asked.
    Unauthorized,
}

impl BroadcastRefusal {
    /// A short name, for metrics and clients.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TooLarge => "payload_size_exceeded",
            Self::TooMany => "rate",
            Self::Unauthorized => "unauthorized",
        }
    }
}
