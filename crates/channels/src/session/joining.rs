//! Joins: whether one is admitted, what it waits for, how it is answered.

use std::sync::Arc;

use walcast_protocol::{
    ClientMessage, CloseCode, ErrorCode, Reference, Topic,
    binding::{assign_ids, echo_all},
    error_code::JoinError,
    join::JoinConfig,
    message::{ClientPayload, Extension, Reply, Status},
};

use super::{Session, reply_without_channel, unmatched_topic};
use crate::{
    ChannelId, Event, Limits, Output, SubscribeRequest, TokenError, VerifiedClaims,
    channel::{Channel, JoinAnswer, Stage, Verifying, Waiting},
    rights::PrivateRights,
    subscribe::read_bindings,
    subscription::Subscription,
    tokens::Tokens,
};

impl Session {
    /// Joins a topic. A channel that is there already gives way, whatever becomes of the new join.
    pub(super) fn join(&mut self, message: ClientMessage, out: &mut Vec<Output>) {
        if message.topic.sub_topic().is_none() {
            unmatched_topic(message, out);
            return;
        }
        let ClientMessage { join_ref, reference, topic, event: _, payload } = message;
        let replaced = self.topics.get(&topic).copied().and_then(|id| self.remove(id, out));
        let answer = JoinAnswer { reference, replaced: replaced.map(|channel| channel.join_ref) };
        match self.admit(&topic, &payload) {
            Ok((config, tokens)) => {
                self.start(topic, join_ref, Verifying { answer, config }, tokens, out);
            }
            Err(error) => {
                out.push(Output::Count(Event::JoinRefused(error.code)));
                let reply = Reply::Error { reason: error.to_string() };
                answer.send(&topic, &join_ref, reply, out);
                if error.code == ErrorCode::ClientJoinRateLimitReached {
                    self.close(CloseCode::GoingAway, out);
                }
            }
        }
    }

    /// Refuses a join that the server has no room for; a channel of that topic is not touched.
    pub(super) fn refuse_join(
        &mut self,
        message: ClientMessage,
        error: &JoinError,
        out: &mut Vec<Output>,
    ) {
        if message.topic.sub_topic().is_none() {
            unmatched_topic(message, out);
            return;
        }
        out.push(Output::Count(Event::JoinRefused(error.code)));
        let reply = Reply::Error { reason: error.to_string() };
        let join_ref = message.join_ref.clone();
        reply_without_channel(message, join_ref, reply, out);
    }

    /// The checks that need nobody's answer, in the order in which clients learn of them.
    fn admit(
        &mut self,
        topic: &Topic,
        payload: &ClientPayload,
    ) -> Result<(JoinConfig, Tokens), JoinError> {
        let limits = Arc::clone(&self.limits);
        if topic.sub_topic() == Some("") {
            let text = "You must provide a topic name";
            return Err(JoinError::new(ErrorCode::TopicNameRequired, text));
        }
        if topic.as_str().len() > limits.topic_bytes_max {
            let text = format!("Topic names must not exceed {} bytes", limits.topic_bytes_max);
            return Err(JoinError::new(ErrorCode::TopicNameTooLong, text));
        }
        if !self.joins.take(self.now) {
            let text = "Too many joins per second";
            return Err(JoinError::new(ErrorCode::ClientJoinRateLimitReached, text));
        }
        if let ClientPayload::Json(json) = payload
            && json.as_bytes().len() > limits.join_payload_bytes_max
        {
            let maximum = limits.join_payload_bytes_max;
            let text = format!("join payload must not exceed {maximum} bytes");
            return Err(JoinError::new(ErrorCode::UnknownErrorOnChannel, text));
        }
        let config = JoinConfig::parse(topic, payload)?;
        if self.channels.len() >= limits.channels_max {
            let text = "Too many channels";
            return Err(JoinError::new(ErrorCode::ChannelRateLimitReached, text));
        }
        if config.postgres_changes.len() > limits.bindings_per_channel_max {
            let maximum = limits.bindings_per_channel_max;
            let text = format!("Too many postgres_changes bindings, at most {maximum} per channel");
            return Err(JoinError::new(ErrorCode::RealtimeDisabledForConfiguration, text));
        }
        let tokens = self.tokens_for(&config).map_err(|error| error.join_error())?;
        Ok((config, tokens))
    }

    /// The token of the join; the connection's own was checked before.
    fn tokens_for(&self, config: &JoinConfig) -> Result<Tokens, TokenError> {
        match &config.token {
            Some(token) if token.len() > self.limits.token_bytes_max => Err(TokenError::Malformed),
            Some(token) if **token != *self.credentials.text => {
                Ok(Tokens::verifying(Arc::from(&**token)))
            }
            Some(_) | None => match self.credentials.expired_since(self.now) {
                Some(seconds_ago) => Err(TokenError::Expired { seconds_ago }),
                None => Ok(Tokens::verified(self.credentials.clone())),
            },
        }
    }

    fn start(
        &mut self,
        topic: Topic,
        join_ref: Reference,
        verifying: Verifying,
        tokens: Tokens,
        out: &mut Vec<Output>,
    ) {
        self.last_channel = ChannelId(self.last_channel.0.wrapping_add(1));
        let id = self.last_channel;
        for warning in &verifying.config.warnings {
            out.push(Output::Count(Event::InvalidJoinPayload(*warning)));
        }
        let token = match tokens.current() {
            Some(_) => None,
            None => verifying.config.token.as_deref().map(Arc::from),
        };
        let verifying_is_private = verifying.config.is_private;
        let channel = Channel {
            topic: topic.clone(),
            join_ref,
            is_private: verifying.config.is_private,
            broadcast: verifying.config.broadcast.clone(),
            attendance: self.attendance(&verifying.config.presence),
            tokens,
            stage: Stage::Verifying(Box::new(verifying)),
            subscription: None,
            rights: verifying_is_private.then(PrivateRights::default),
            is_listening: false,
            replayed: None,
        };
        self.channels.insert(id, Box::new(channel));
        self.topics.insert(topic, id);
        match token {
            Some(token) => out.push(Output::VerifyToken { channel: id, token }),
            None => self.proceed(id, out),
        }
    }

    /// A token is valid: the join goes on, or the channel goes on with new claims.
    pub(super) fn token_accepted(
        &mut self,
        id: ChannelId,
        token: &str,
        claims: VerifiedClaims,
        out: &mut Vec<Output>,
    ) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if !channel.tokens.is_verifying(token) {
            return;
        }
        channel.tokens.accept(self.now, claims, self.limits.access_token_throttle);
        match &channel.stage {
            Stage::Verifying(_) => self.proceed(id, out),
            Stage::Waiting(_) | Stage::Joined => {
                out.push(Output::Count(Event::AccessTokenReplaced));
                if let (Some(subscription), Some(credentials)) =
                    (&mut channel.subscription, channel.tokens.current())
                {
                    subscription.ask_as(credentials, id, out);
                }
                self.ask_to_read(id, out);
            }
        }
    }

    /// Goes on with a join whose token is valid.
    fn proceed(&mut self, id: ChannelId, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let Stage::Verifying(verifying) = &channel.stage else { return };
        if let Some(error) = refusal(&verifying.config, &self.limits) {
            self.shut_down(id, &error, out);
        } else if channel.is_private {
            self.ask_to_read(id, out);
        } else {
            self.proceed_authorized(id, out);
        }
    }

    /// Goes on with a join that may read its topic.
    pub(super) fn proceed_authorized(&mut self, id: ChannelId, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get(&id) else { return };
        match channel.broadcast.replay {
            // With a new token the question about rights may come a second time.
            Some(_) if channel.is_listening => {}
            Some(replay) => self.ask_for_replay(id, replay, out),
            None => self.complete(id, out),
        }
    }

    /// Answers a join that nothing speaks against.
    pub(super) fn complete(&mut self, id: ChannelId, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let (Stage::Verifying(verifying), Some(credentials)) =
            (&channel.stage, channel.tokens.current())
        else {
            return;
        };
        let JoinConfig { postgres_changes: items, wait, is_legacy, .. } = &verifying.config;
        let bindings = read_bindings(items);
        let wait = wait.filter(|_| !items.is_empty());
        if let (Err(text), Some(_)) = (&bindings, wait) {
            let error = JoinError::new(ErrorCode::RealtimeDisabledForConfiguration, text.as_str());
            self.shut_down(id, &error, out);
            return;
        }
        let echo = echo_all(items, &assign_ids(items));
        let (subscription, problem) = match bindings {
            Ok(bindings) if bindings.is_empty() => (None, None),
            Ok(bindings) => {
                let request = SubscribeRequest {
                    topic: channel.topic.clone(),
                    bindings,
                    role: credentials.role.clone(),
                    claims: credentials.claims.clone(),
                    is_legacy: *is_legacy,
                };
                (Some(Subscription::new(request)), None)
            }
            Err(problem) => (None, Some(problem)),
        };
        let Stage::Verifying(verifying) = std::mem::replace(&mut channel.stage, Stage::Joined)
        else {
            return;
        };
        let answer = verifying.answer;
        channel.subscription = subscription;
        match wait {
            Some(timeout) => {
                let timeout = timeout.min(self.limits.subscribe_wait_max);
                channel.stage = Stage::Waiting(Box::new(Waiting {
                    answer,
                    postgres_changes: echo,
                    until: self.now.saturating_add(timeout),
                    timeout,
                }));
            }
            None => {
                let reply = Reply::Joined { postgres_changes: echo };
                answer.send(&channel.topic, &channel.join_ref, reply, out);
                channel.listen(id, self.limits.replication_wait, out);
            }
        }
        if let Some(problem) = problem {
            out.push(Output::Count(Event::SubscribeRefused));
            channel.system(Extension::PostgresChanges, Status::Error, problem, out);
        }
        if let Some(subscription) = &mut channel.subscription {
            subscription.ask(id, out);
        }
    }
}

/// What a join with a valid token is refused for.
fn refusal(config: &JoinConfig, limits: &Limits) -> Option<JoinError> {
    if config.is_private {
        return None;
    }
    if limits.private_only {
        let text = "This project only allows private channels";
        return Some(JoinError::new(ErrorCode::PrivateOnly, text));
    }
    config.broadcast.replay.filter(|_| !limits.replay_public).map(|_| {
        let text = "Replay is not allowed for public channels";
        JoinError::new(ErrorCode::UnableToReplayMessages, text)
    })
}
