//! A connection and its channels: sorts what happens to the channel it concerns.

mod authorizing;
mod broadcasting;
mod joining;
mod presence;
mod replaying;
mod subscribing;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use walcast_filters::claims::{Claims, Role};
use walcast_protocol::{
    ClientMessage, CloseCode, ErrorCode, Reference, ServerMessage, Topic, Version,
    error_code::JoinError,
    message::{ClientEvent, ClientPayload, Extension, Reply, Status},
    push,
};

use crate::{
    ChannelId, Event, Input, Limits, Output, ServerLimit, Token, TokenError,
    channel::{Channel, Stage},
    rate::TokenBucket,
    subscription::Subscription,
    tokens::{Credentials, Offered, TokenDue},
};

/// A channel as it is shown to whoever runs the server.
#[derive(Clone, Copy, Debug)]
pub struct JoinedChannel<'a> {
    /// Its topic, prefix included.
    pub topic: &'a Topic,
    /// Whether policies decide about it.
    pub is_private: bool,
    /// The role of its token.
    pub role: &'a Role,
    /// The claims of its token.
    pub claims: &'a Claims,
}

/// The state of one connection.
pub struct Session {
    version: Version,
    limits: Arc<Limits>,
    /// The token the connection was opened with; channels without one of their own use it.
    credentials: Credentials,
    now: Duration,
    last_frame: Duration,
    joins: TokenBucket,
    events: TokenBucket,
    /// Boxed: a node of the map has room for eleven.
    channels: BTreeMap<ChannelId, Box<Channel>>,
    topics: BTreeMap<Topic, ChannelId>,
    last_channel: ChannelId,
    /// The earliest moment at which a channel has something to do.
    next_due: Duration,
    /// Since when there is no channel, after there was one.
    without_channels_since: Option<Duration>,
    is_closed: bool,
}

impl Session {
    /// A connection that was just accepted, with the token it brought.
    #[must_use]
    pub fn new(
        version: Version,
        connection_token: Token,
        limits: Arc<Limits>,
        now: Duration,
    ) -> Self {
        let Token { text, claims } = connection_token;
        Self {
            version,
            credentials: Credentials::new(now, text, claims),
            now,
            last_frame: now,
            joins: TokenBucket::new(limits.joins_per_second, limits.joins_burst),
            events: TokenBucket::new(limits.events_per_second, limits.events_burst),
            channels: BTreeMap::new(),
            topics: BTreeMap::new(),
            last_channel: ChannelId(0),
            next_due: Duration::MAX,
            without_channels_since: None,
            is_closed: false,
            limits,
        }
    }

    /// Takes note of what happened and appends what is to be done about it.
    pub fn handle(&mut self, now: Duration, input: Input, out: &mut Vec<Output>) {
        if self.is_closed {
            return;
        }
        self.now = self.now.max(now);
        if matches!(
            input,
            Input::Message(_) | Input::Overload { .. } | Input::Malformed(_) | Input::Activity
        ) {
            self.last_frame = self.now;
        }
        let had_channels = !self.channels.is_empty();
        self.run_timers(out);
        if !self.is_closed {
            self.sort(input, out);
            self.run_timers(out);
            match (had_channels, self.channels.is_empty()) {
                (true, true) => self.without_channels_since = Some(self.now),
                (_, false) => self.without_channels_since = None,
                (false, true) => {}
            }
        }
    }

    /// When to call with [`Input::Tick`], unless something else happens before.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        if self.is_closed {
            return Duration::MAX;
        }
        self.next_due.min(self.idle_at()).min(self.unused_at())
    }

    /// Whether the client knows the channel and has not been told that it is gone.
    ///
    /// Frames for any other channel must not be sent.
    #[must_use]
    pub fn is_open(&self, channel: ChannelId) -> bool {
        self.channels.get(&channel).is_some_and(|channel| channel.is_joined())
    }

    /// Whether there is such a channel, joined or joining.
    #[must_use]
    pub fn knows(&self, channel: ChannelId) -> bool {
        self.channels.contains_key(&channel)
    }

    /// How many channels there are, those that are still joining included.
    #[must_use]
    pub fn n_channels(&self) -> usize {
        self.channels.len()
    }

    /// Who opened the connection.
    #[must_use]
    pub fn opened_by(&self) -> (&Role, &Claims) {
        (&self.credentials.role, &self.credentials.claims)
    }

    /// The channels that are joined.
    pub fn joined(&self) -> impl Iterator<Item = JoinedChannel<'_>> {
        let joined = self.channels.values().filter(|channel| channel.is_joined());
        joined.filter_map(|channel| {
            let Credentials { role, claims, .. } = channel.tokens.current()?;
            let (topic, is_private) = (&channel.topic, channel.is_private);
            Some(JoinedChannel { topic, is_private, role, claims })
        })
    }

    /// The version messages are to be encoded for.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    fn sort(&mut self, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Message(message) => self.message(message, out),
            Input::Overload { message, limit } => self.overload(message, limit, out),
            Input::Malformed(frame) => out.push(Output::Count(Event::MalformedFrame(frame))),
            Input::Activity | Input::Tick => {}
            Input::TokenVerified { channel, token, result } => match result {
                Ok(claims) => self.token_accepted(channel, &token, claims, out),
                Err(error) => self.token_refused(channel, &token, &error, out),
            },
            Input::Subscribed { channel, attempt, result } => {
                self.subscribed(channel, attempt, result, out);
            }
            Input::SubscriptionLost { channel } => self.subscription_lost(channel, out),
            Input::PresenceState { channel, state } => self.presence_state(channel, state, out),
            Input::PresenceRefused { channel } => self.presence_refused(channel, out),
            Input::Authorized { channel, question, result } => {
                self.authorized(channel, question, result, out);
            }
            Input::Replayed { channel, result } => self.replayed(channel, result, out),
            Input::Replication { channel, is_ready } => self.replication(channel, is_ready, out),
            Input::Disconnect => self.disconnect(out),
            Input::Shutdown => self.close(CloseCode::ServiceRestart, out),
        }
    }

    /// Says so on each channel, then closes.
    fn disconnect(&mut self, out: &mut Vec<Output>) {
        for channel in self.channels.values().filter(|channel| channel.is_joined()) {
            let text = "Server requested disconnect".to_owned();
            channel.system(Extension::System, Status::Ok, text, out);
        }
        self.close(CloseCode::ServiceRestart, out);
    }

    /// Refuses what the server has no room for.
    fn overload(&mut self, message: ClientMessage, limit: ServerLimit, out: &mut Vec<Output>) {
        match limit {
            ServerLimit::Joins => {
                let code = ErrorCode::ClientJoinRateLimitReached;
                self.refuse_join(message, &JoinError::new(code, "Too many joins per second"), out);
                self.close(CloseCode::GoingAway, out);
            }
            ServerLimit::ConcurrentUsers => {
                let code = ErrorCode::ConnectionRateLimitReached;
                self.refuse_join(message, &JoinError::new(code, "Too many connected users"), out);
            }
            ServerLimit::Events => match self.topics.get(&message.topic) {
                Some(&id) => self.too_many_events(id, out),
                None => unmatched_topic(message, out),
            },
        }
    }

    fn message(&mut self, message: ClientMessage, out: &mut Vec<Output>) {
        let longest = message.join_ref.len().max(message.reference.len());
        if longest > self.limits.reference_bytes_max {
            out.push(Output::Count(Event::ReferenceTooLong));
            return;
        }
        match &message.event {
            ClientEvent::Heartbeat if message.topic.is_phoenix() => {
                reply_without_channel(message, Reference::Null, Reply::Ok, out);
            }
            ClientEvent::Join => self.join(message, out),
            ClientEvent::Leave => self.leave(message, out),
            ClientEvent::Heartbeat
            | ClientEvent::AccessToken
            | ClientEvent::Broadcast
            | ClientEvent::Presence
            | ClientEvent::Other(_) => match self.topics.get(&message.topic) {
                Some(&id) => self.push(id, message, out),
                None => unmatched_topic(message, out),
            },
        }
    }

    /// A message on a channel. Its `join_ref` may be stale or missing; clients depend on that.
    fn push(&mut self, id: ChannelId, message: ClientMessage, out: &mut Vec<Output>) {
        match message.event {
            ClientEvent::AccessToken => self.access_token(id, &message.payload, out),
            ClientEvent::Broadcast | ClientEvent::Presence => {
                if let Some(message) = self.waits_for_rights(id, message, out) {
                    self.carry_out(id, message, out);
                }
            }
            ClientEvent::Heartbeat
            | ClientEvent::Join
            | ClientEvent::Leave
            | ClientEvent::Other(_) => out.push(Output::Count(Event::UnknownEvent)),
        }
    }

    /// A message whose channel's rights are known.
    fn carry_out(&mut self, id: ChannelId, message: ClientMessage, out: &mut Vec<Output>) {
        if matches!(message.event, ClientEvent::Broadcast) {
            self.broadcast(id, message, out);
        } else {
            self.presence(id, message, out);
        }
    }

    /// Leaves a channel. A leave that names an earlier join is not meant for this one.
    fn leave(&mut self, message: ClientMessage, out: &mut Vec<Output>) {
        let Some(&id) = self.topics.get(&message.topic) else {
            let join_ref = message.join_ref.clone();
            reply_without_channel(message, join_ref, Reply::Ok, out);
            return;
        };
        let is_meant = self.channels.get(&id).is_some_and(|channel| {
            channel.join_ref.is_null()
                || message.join_ref.is_null()
                || channel.join_ref == message.join_ref
        });
        if !is_meant {
            out.push(Output::Count(Event::StaleLeave));
            return;
        }
        if let Some(channel) = self.remove(id, out) {
            out.push(Output::Count(Event::Left));
            channel.reply(message.reference, Reply::Ok, out);
            channel.close(out);
        }
    }

    /// Takes a new token; never replied to.
    fn access_token(&mut self, id: ChannelId, payload: &ClientPayload, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let Some(token) = push::access_token(payload) else {
            out.push(Output::Count(Event::AccessTokenIgnored));
            return;
        };
        if token.len() > self.limits.token_bytes_max {
            self.token_failed(id, &TokenError::Malformed, out);
            return;
        }
        match channel.tokens.offer(self.now, &token) {
            Offered::Known => out.push(Output::Count(Event::AccessTokenIgnored)),
            Offered::Later => out.push(Output::Count(Event::AccessTokenThrottled)),
            Offered::Verify(token) => out.push(Output::VerifyToken { channel: id, token }),
        }
    }

    fn token_refused(
        &mut self,
        id: ChannelId,
        token: &str,
        error: &TokenError,
        out: &mut Vec<Output>,
    ) {
        if self.channels.get(&id).is_some_and(|channel| channel.tokens.is_verifying(token)) {
            self.token_failed(id, error, out);
        }
    }

    fn token_failed(&mut self, id: ChannelId, error: &TokenError, out: &mut Vec<Output>) {
        self.shut_down(id, &error.join_error(), out);
    }

    /// Ends a channel for a reason: a join that has no reply yet is refused, a joined channel is told
    /// and closed.
    fn shut_down(&mut self, id: ChannelId, error: &JoinError, out: &mut Vec<Output>) {
        let Some(mut channel) = self.remove(id, out) else { return };
        let answer = match std::mem::replace(&mut channel.stage, Stage::Joined) {
            Stage::Verifying(verifying) => verifying.answer,
            Stage::Waiting(waiting) => waiting.answer,
            Stage::Joined => {
                out.push(Output::Count(Event::ChannelShutdown));
                channel.system(Extension::System, Status::Error, error.text.clone(), out);
                channel.close(out);
                return;
            }
        };
        out.push(Output::Count(Event::JoinRefused(error.code)));
        let reply = Reply::Error { reason: error.to_string() };
        answer.send(&channel.topic, &channel.join_ref, reply, out);
    }

    /// Tells a channel that messages from the database arrive, or ends one that waited too long.
    fn replication(&mut self, id: ChannelId, is_ready: bool, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get(&id).filter(|channel| channel.is_joined()) else {
            return;
        };
        if is_ready {
            let text = "Replication connection established".to_owned();
            channel.system(Extension::System, Status::Ok, text, out);
        } else {
            let text = "Replication connection was not established in time";
            self.shut_down(id, &JoinError::new(ErrorCode::ChannelShutdown, text), out);
        }
    }

    /// Forgets a channel and takes back what it had.
    fn remove(&mut self, id: ChannelId, out: &mut Vec<Output>) -> Option<Box<Channel>> {
        let channel = self.channels.remove(&id)?;
        self.topics.remove(&channel.topic);
        if let Some(subscription) = &channel.subscription {
            subscription.end(id, out);
        }
        if channel.attendance.is_tracked {
            out.push(Output::Untrack { channel: id });
        }
        if channel.is_listening {
            out.push(Output::LeaveTopic { channel: id });
        }
        Some(channel)
    }

    fn close(&mut self, code: CloseCode, out: &mut Vec<Output>) {
        while let Some((&id, _)) = self.channels.first_key_value() {
            self.remove(id, out);
        }
        self.is_closed = true;
        out.push(Output::Close { code });
    }

    fn idle_at(&self) -> Duration {
        self.last_frame.saturating_add(self.limits.idle_timeout)
    }

    /// When a connection that has left all its channels is closed.
    fn unused_at(&self) -> Duration {
        self.without_channels_since
            .map_or(Duration::MAX, |since| since.saturating_add(self.limits.no_channel_timeout))
    }

    /// Does everything whose time has come.
    fn run_timers(&mut self, out: &mut Vec<Output>) {
        if self.is_closed {
            return;
        }
        if self.now >= self.idle_at() || self.now >= self.unused_at() {
            self.close(CloseCode::Normal, out);
            return;
        }
        let due: Vec<ChannelId> = self
            .channels
            .iter()
            .filter_map(|(id, channel)| (channel.due() <= self.now).then_some(*id))
            .collect();
        for id in due {
            self.fire(id, out);
        }
        self.next_due =
            self.channels.values().map(|channel| channel.due()).min().unwrap_or(Duration::MAX);
    }

    /// Does what is due for a channel.
    fn fire(&mut self, id: ChannelId, out: &mut Vec<Output>) {
        let (now, grace) = (self.now, self.limits.token_grace);
        let Some(channel) = self.channels.get_mut(&id) else { return };
        match channel.tokens.fire(now, grace) {
            TokenDue::Nothing => {}
            TokenDue::Verify(token) => out.push(Output::VerifyToken { channel: id, token }),
            TokenDue::Expired { seconds_ago } => {
                self.token_failed(id, &TokenError::Expired { seconds_ago }, out);
                return;
            }
        }
        if let Stage::Waiting(waiting) = &channel.stage
            && waiting.until <= now
        {
            let text = format!(
                "Timed out after {}ms waiting for the postgres_changes subscription",
                waiting.timeout.as_millis()
            );
            let error = JoinError::new(ErrorCode::PostgresChangesSubscribeTimeout, text);
            self.shut_down(id, &error, out);
            return;
        }
        if let Some(subscription) = &mut channel.subscription
            && Subscription::due(subscription) <= now
        {
            subscription.ask(id, out);
        }
    }
}

/// Answers a message that belongs to no channel.
fn reply_without_channel(
    message: ClientMessage,
    join_ref: Reference,
    reply: Reply,
    out: &mut Vec<Output>,
) {
    let ClientMessage { reference, topic, .. } = message;
    out.push(Output::Send(ServerMessage::Reply { join_ref, reference, topic, reply }));
}

fn unmatched_topic(message: ClientMessage, out: &mut Vec<Output>) {
    out.push(Output::Count(Event::UnmatchedTopic));
    let reply = Reply::Error { reason: "unmatched topic".to_owned() };
    reply_without_channel(message, Reference::Null, reply, out);
}

#[cfg(test)]
mod tests;
