//! One channel: a topic joined by a connection.

use std::{sync::Arc, time::Duration};

use walcast_protocol::{
    RawJson, Reference, ServerMessage, Topic, broadcast,
    join::{BroadcastConfig, JoinConfig},
    message::{Extension, Reply, Status, UserBroadcast},
};

use crate::{
    Event, Extensions, Output, rate::TokenBucket, rights::PrivateRights,
    subscription::Subscription, tokens::Tokens,
};

/// The name of a channel within its session.
///
/// Every join gets a new one, so that an answer meant for an earlier join is recognised.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ChannelId(pub u32);

/// A channel, from its join until it is gone.
pub(crate) struct Channel {
    pub(crate) topic: Topic,
    pub(crate) join_ref: Reference,
    pub(crate) is_private: bool,
    pub(crate) broadcast: BroadcastConfig,
    pub(crate) attendance: Attendance,
    /// What a private channel may do.
    pub(crate) rights: Option<PrivateRights>,
    /// Whether it hears its topic.
    pub(crate) is_listening: bool,
    /// Earlier messages that wait for the reply to the join.
    pub(crate) replayed: Option<Vec<UserBroadcast>>,
    pub(crate) tokens: Tokens,
    pub(crate) stage: Stage,
    pub(crate) subscription: Option<Subscription>,
}

/// What a channel has to do with the presence of its topic.
pub(crate) struct Attendance {
    /// Whether the channel is told who is present when it joins. All are told about changes.
    pub(crate) is_enabled: bool,
    /// The key to appear under.
    pub(crate) key: Option<Arc<str>>,
    /// The calls it may make.
    pub(crate) calls: TokenBucket,
    /// Whether it appears, as far as this session knows.
    pub(crate) is_tracked: bool,
}

/// How far a join got.
pub(crate) enum Stage {
    /// Its token is being checked, then what it may do, then what was said before.
    Verifying(Box<Verifying>),
    /// The reply is held until the subscription is in place.
    Waiting(Box<Waiting>),
    /// The reply is sent.
    Joined,
}

/// A join whose token is being checked.
pub(crate) struct Verifying {
    pub(crate) answer: JoinAnswer,
    pub(crate) config: JoinConfig,
}

/// A join that waits for its subscription.
pub(crate) struct Waiting {
    pub(crate) answer: JoinAnswer,
    /// The echo of its bindings, for the reply.
    pub(crate) postgres_changes: RawJson,
    pub(crate) until: Duration,
    /// How long it waits in all, for the text of the refusal.
    pub(crate) timeout: Duration,
}

/// What is needed to answer a join.
pub(crate) struct JoinAnswer {
    pub(crate) reference: Reference,
    /// The join this one took the place of.
    pub(crate) replaced: Option<Reference>,
}

impl JoinAnswer {
    /// Replies to the join, then closes the channel it took the place of.
    ///
    /// Clients tell the two apart by their refs. Where these cannot tell, being null or equal, the
    /// old channel is closed without a word: the client would close the new one.
    pub(crate) fn send(
        self,
        topic: &Topic,
        join_ref: &Reference,
        reply: Reply,
        out: &mut Vec<Output>,
    ) {
        let Self { reference, replaced } = self;
        out.push(Output::Send(ServerMessage::Reply {
            join_ref: join_ref.clone(),
            reference,
            topic: topic.clone(),
            reply,
        }));
        match replaced {
            Some(old) if !old.is_null() && old != *join_ref => {
                let topic = topic.clone();
                out.push(Output::Send(ServerMessage::Close { join_ref: old, topic }));
            }
            Some(_) | None => {}
        }
    }
}

impl Channel {
    /// When something is to be done for the channel.
    pub(crate) fn due(&self) -> Duration {
        let subscription = self.subscription.as_ref().map_or(Duration::MAX, Subscription::due);
        let waiting = match &self.stage {
            Stage::Waiting(waiting) => waiting.until,
            Stage::Verifying(_) | Stage::Joined => Duration::MAX,
        };
        self.tokens.due().min(subscription).min(waiting)
    }

    pub(crate) fn is_joined(&self) -> bool {
        matches!(self.stage, Stage::Joined)
    }

    /// What it hears of its topic.
    pub(crate) fn hears(&self) -> Extensions {
        self.rights.as_ref().map_or(Extensions::ALL, PrivateRights::hears)
    }

    /// Whether it may be shown as present.
    pub(crate) fn may_appear(&self) -> bool {
        self.rights.as_ref().is_none_or(|rights| rights.write.unwrap_or_default().presence)
    }

    /// Hears its topic from here on.
    pub(crate) fn take_part(&mut self, id: ChannelId, out: &mut Vec<Output>) {
        if std::mem::replace(&mut self.is_listening, true) {
            return;
        }
        let (topic, is_private) = (self.topic.clone(), self.is_private);
        out.push(Output::JoinTopic { channel: id, topic, is_private, hears: self.hears() });
    }

    /// What follows the reply to the join: earlier messages, then the topic as it is.
    pub(crate) fn listen(
        &mut self,
        id: ChannelId,
        replication_wait: Duration,
        out: &mut Vec<Output>,
    ) {
        out.push(Output::Count(Event::Joined));
        self.take_part(id, out);
        if let Some(replayed) = self.replayed.take() {
            for broadcast in replayed {
                let message = broadcast::replayed(&self.topic, &self.join_ref, broadcast);
                out.extend(message.map(Output::Send));
            }
            out.push(Output::Resume { channel: id });
        }
        if self.attendance.is_enabled && self.hears().presence {
            out.push(Output::ShowPresence { channel: id });
        }
        if self.broadcast.replication_ready {
            out.push(Output::AwaitReplication { channel: id, timeout: replication_wait });
        }
    }

    /// Replies to a message on the channel.
    pub(crate) fn reply(&self, reference: Reference, reply: Reply, out: &mut Vec<Output>) {
        out.push(Output::Send(ServerMessage::Reply {
            join_ref: self.join_ref.clone(),
            reference,
            topic: self.topic.clone(),
            reply,
        }));
    }

    /// Tells the client something about the channel.
    pub(crate) fn system(
        &self,
        extension: Extension,
        status: Status,
        message: String,
        out: &mut Vec<Output>,
    ) {
        out.push(Output::Send(ServerMessage::System {
            join_ref: self.join_ref.clone(),
            topic: self.topic.clone(),
            extension,
            status,
            message,
        }));
    }

    /// Tells the client that the channel is gone.
    pub(crate) fn close(&self, out: &mut Vec<Output>) {
        out.push(Output::Send(ServerMessage::Close {
            join_ref: self.join_ref.clone(),
            topic: self.topic.clone(),
        }));
    }
}
