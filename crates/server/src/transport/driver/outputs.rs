//! Carries out what the session says.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use walcast_channels::{ChannelId, Event, Input, Output, SubscribeRequest};
use walcast_protocol::{ServerMessage, frame};

use super::{Checked, Driver, Finished};
use crate::{
    presence::{self, Call},
    subscribe,
    topics::{Listener, ListenerId, TopicName},
    transport::replay::Replay,
};

impl Driver {
    pub(super) fn perform(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Send(message) => {
                if let Some(frame) = frame::encode(self.version, &message) {
                    self.send(frame, None);
                }
            }
            Output::VerifyToken { channel, token } => {
                let now_unix =
                    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let result = self.parts.verifier.verify(&token, now_unix);
                if self.parts.verifier.may_need_new_keys(&result) {
                    let verifier = Arc::clone(&self.parts.verifier);
                    self.errand(channel, async move {
                        let result = verifier.verify_with_new_keys(&token, now_unix).await;
                        Input::TokenVerified { channel, token, result }
                    });
                    return None;
                }
                return Some(Input::TokenVerified { channel, token, result });
            }
            Output::Subscribe { channel, attempt, request } => {
                self.subscribe(channel, attempt, request);
            }
            Output::Unsubscribe { channel } => self.unsubscribe(channel),
            Output::JoinTopic { channel, topic, is_private, hears } => {
                let listener = Listener {
                    id: ListenerId { connection: self.connection, channel },
                    version: self.version,
                    hears,
                    // What is replayed first must not be overtaken.
                    wire: self.wire.clone().filter(|_| !self.is_replaying(channel)),
                    outbox: self.outbox.clone(),
                };
                let membership = self.parts.topics.join(TopicName { topic, is_private }, listener);
                self.memberships.insert(channel, membership);
            }
            Output::Hear { channel, hears } => {
                if let Some(membership) = self.memberships.get(&channel) {
                    self.parts.topics.hear(membership, hears);
                }
            }
            Output::Authorize { channel, question, request } => {
                let authorizer = Arc::clone(&self.parts.authorizer);
                let headers = Arc::clone(&self.headers);
                self.errand(channel, async move {
                    let result = authorizer.rights(&request, &headers).await;
                    Input::Authorized { channel, question, result }
                });
            }
            Output::Replay { channel, request } => {
                self.replays.insert(channel, Replay::default());
                let replayer = Arc::clone(&self.parts.replayer);
                self.task(channel, async move {
                    let found = replayer.read(&request).await.map_err(|error| {
                        tracing::warn!("UnableToReplayMessages: {error:#}");
                    });
                    Finished::Found { channel, found: found.ok() }
                });
            }
            Output::Resume { channel } => self.resume(channel),
            Output::Broadcast { channel, message, include_self } => {
                self.broadcast(channel, &message, include_self);
            }
            Output::ShowPresence { channel } => {
                self.call(channel, Call::Show { outbox: self.outbox.clone() });
            }
            Output::Track { channel, key, tracked } => {
                self.call(channel, Call::Track { key, tracked, outbox: self.outbox.clone() });
            }
            Output::Untrack { channel } => self.call(channel, Call::Untrack),
            Output::LeaveTopic { channel } => {
                self.memberships.remove(&channel);
                self.replays.remove(&channel);
                self.end_errands(channel);
            }
            Output::AwaitReplication { channel, timeout } => {
                let health = Arc::clone(&self.parts.health);
                self.errand(channel, async move {
                    let waited = tokio::time::timeout(timeout, health.messages_ready()).await;
                    Input::Replication { channel, is_ready: waited.is_ok() }
                });
            }
            Output::Close { code } => {
                self.farewell.close(code);
                self.is_closing = true;
            }
            Output::Count(event) => self.count(event),
        }
        None
    }

    fn broadcast(&mut self, channel: ChannelId, message: &ServerMessage, include_self: bool) {
        let Some(membership) = self.memberships.get(&channel) else { return };
        let sender = ListenerId { connection: self.connection, channel };
        let mut published = self.parts.topics.publish(membership.name(), message, Some(sender));
        self.parts.metrics.broadcasts_websocket.increment(1);
        // Not through the inbox: a client that hears itself could fill that faster than it is
        // emptied, and the copy would come after the reply.
        let own = published.frame(self.version).filter(|_| include_self);
        published.flush_later(&mut self.unflushed);
        if let Some(frame) = own {
            self.send(frame, None);
        }
    }

    /// Whether a channel that joins its topic has asked for earlier messages, or will next.
    fn is_replaying(&self, channel: ChannelId) -> bool {
        !self.session.is_open(channel)
    }

    fn count(&self, event: Event) {
        let metrics = &self.parts.metrics;
        match event {
            Event::MalformedFrame(_) | Event::ReferenceTooLong => {
                metrics.malformed_frames.increment(1);
            }
            Event::PresenceCalled => metrics.presence_calls.increment(1),
            Event::Joined => metrics.joins.increment(1),
            Event::BroadcastRefused(refusal) => metrics.broadcast_refused(refusal.as_str()),
            Event::JoinRefused(code) => metrics.join_error(code.as_str()),
            Event::UnmatchedTopic
            | Event::UnknownEvent
            | Event::StaleLeave
            | Event::InvalidJoinPayload(_)
            | Event::Left
            | Event::ChannelShutdown
            | Event::AccessTokenIgnored
            | Event::AccessTokenThrottled
            | Event::AccessTokenReplaced
            | Event::Subscribed
            | Event::SubscribeRefused
            | Event::SubscribeRetried
            | Event::SubscriptionLost => {}
        }
        tracing::debug!(connection = self.connection.0, ?event, "session");
    }

    /// Calls the presence of a channel's topic.
    fn call(&mut self, channel: ChannelId, call: Call) {
        if let Some(membership) = self.memberships.get(&channel) {
            let name = membership.name().clone();
            self.visitor.push(presence::Command { channel, name, call });
        }
    }

    /// Checks in a task of its own, so that a slow catalogue does not hold back the connection's
    /// heartbeats.
    fn subscribe(&mut self, channel: ChannelId, attempt: u32, request: Arc<SubscribeRequest>) {
        let parts = Arc::clone(&self.parts);
        let task = self.tasks.spawn(async move {
            let outcome = subscribe::prepare(&request, &parts.catalogue, &parts.authorizer).await;
            Finished::Checked(Box::new(Checked { channel, attempt, request, outcome }))
        });
        if let Some((_, earlier)) = self.subscribed.insert(channel, (attempt, task)) {
            earlier.abort();
        }
    }

    /// Does something for a channel in a task of its own; the session hears what came of it.
    fn errand(&mut self, channel: ChannelId, errand: impl Future<Output = Input> + Send + 'static) {
        self.task(channel, async move { Finished::Answer(Box::new(errand.await)) });
    }

    fn task(&mut self, channel: ChannelId, task: impl Future<Output = Finished> + Send + 'static) {
        let task = self.tasks.spawn(task);
        let tasks = self.errands.entry(channel).or_default();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    fn end_errands(&mut self, channel: ChannelId) {
        for task in self.errands.remove(&channel).into_iter().flatten() {
            task.abort();
        }
    }
}
