//! The loop of one connection: the same for every kind of socket.

mod orders;
mod outputs;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use walcast_channels::{
    ChannelId, Input, Output, ServerLimit, Session, SubscribeFailure, SubscribeRequest, Token,
};
use walcast_filters::claims::Audience;
use walcast_protocol::{
    ClientMessage, CloseCode, Frame, MalformedFrame, Version, message::ClientEvent,
};

use super::{
    TransportParts,
    control::Listed,
    outgoing::{Farewell, Outgoing},
    replay::{Replay, TooMany},
    wire::{Pushed, Unflushed, Wire},
};
use crate::{
    http::now_unix,
    messages::replay::Found,
    outbox::{Change, Delivery, Inbox, Outbox, TopicMessage, queue},
    presence::Visitor,
    router::{ChannelHandle, Command, ConnectionId, PreparedBinding},
    topics::Membership,
};

/// Frames that may pile up before the writer takes them; past it the driver takes nothing more. One
/// delivery may exceed it.
const BATCH_FRAMES_MAX: usize = 256;

/// Deliveries the driver takes from the inbox at a time.
const DELIVERIES_MAX: usize = 16;

/// Messages that came together and are taken together.
const RECEIVED_MAX: usize = 64;

/// Calls of `track` and `untrack` that may wait for the presence of topics; past it the driver takes
/// nothing more. Closing all channels may exceed it.
const PRESENCE_COMMANDS_MAX: usize = 64;

/// What a socket received.
#[derive(Debug)]
pub(super) enum Inbound {
    /// A message of the client, or why it is none.
    Message(Result<ClientMessage, MalformedFrame>),
    /// A ping or pong.
    Activity,
    /// A frame larger than allowed.
    TooLarge,
    /// The client closed the connection, or it broke.
    Gone,
}

/// A subscription that was checked.
struct Checked {
    channel: ChannelId,
    attempt: u32,
    request: Arc<SubscribeRequest>,
    outcome: Result<Vec<PreparedBinding>, SubscribeFailure>,
}

/// What a task of the connection found out.
enum Finished {
    /// Whether a subscription can be made.
    Checked(Box<Checked>),
    /// Something for the session.
    Answer(Box<Input>),
    /// Earlier messages, or none when they cannot be read.
    Found { channel: ChannelId, found: Option<Found> },
}

/// One connection.
pub(super) struct Driver {
    parts: Arc<TransportParts>,
    connection: ConnectionId,
    version: Version,
    session: Session,
    outbox: Outbox,
    inbox: Inbox,
    farewell: Farewell,
    /// The sending half of the socket; a transport without one takes batches.
    wire: Option<Arc<Wire>>,
    /// Sockets that were pushed to since they were last flushed, the own one among them.
    unflushed: Unflushed,
    batch: Vec<Outgoing>,
    outputs: Vec<Output>,
    /// The channels that were subscribed or are being checked for it.
    subscribed: HashMap<ChannelId, (u32, AbortHandle)>,
    tasks: JoinSet<Finished>,
    /// The tasks of channels other than checks of subscriptions, ended with their channel.
    errands: HashMap<ChannelId, Vec<AbortHandle>>,
    /// The topics of the joined channels.
    memberships: HashMap<ChannelId, Membership>,
    /// The channels that asked for earlier messages.
    replays: HashMap<ChannelId, Replay>,
    /// The headers of the handshake that policies may read, a JSON object.
    headers: Arc<str>,
    /// For the presence of topics.
    visitor: Visitor,
    /// For the router, in order; at most a few per channel.
    commands: VecDeque<Command>,
    n_channels: u32,
    /// In s since 1970.
    opened_unix: u64,
    listed: Listed,
    is_closing: bool,
}

impl Driver {
    /// A connection whose token was verified.
    pub(super) fn new(
        parts: Arc<TransportParts>,
        version: Version,
        token: Token,
        headers: Arc<str>,
        farewell: Farewell,
        wire: Option<Arc<Wire>>,
    ) -> Self {
        let now = parts.started.elapsed();
        let session = Session::new(version, token, Arc::clone(&parts.limits), now);
        let (outbox, inbox) = queue(parts.outbox_limits);
        let connection = parts.next_connection();
        Self {
            connection,
            visitor: parts.presence.visitor(connection),
            version,
            session,
            outbox,
            inbox,
            farewell,
            wire,
            unflushed: Unflushed::default(),
            batch: Vec::new(),
            outputs: Vec::new(),
            subscribed: HashMap::new(),
            tasks: JoinSet::new(),
            errands: HashMap::new(),
            memberships: HashMap::new(),
            replays: HashMap::new(),
            headers,
            commands: VecDeque::new(),
            n_channels: 0,
            opened_unix: now_unix(),
            listed: parts.open.list(connection),
            is_closing: false,
            parts,
        }
    }

    /// Runs until either side closes. `inbound` is read only while there is room for answers, so
    /// that a client that sends without reading is held back by TCP.
    pub(super) async fn run(
        &mut self,
        mut inbound: impl Receive,
        batches: Option<mpsc::Sender<Vec<Outgoing>>>,
    ) {
        let wire = self.wire.clone();
        let overflow = self.inbox.overflow();
        let shutdown = self.parts.shutdown.clone();
        let commands = self.parts.router.commands.clone();
        let mut deliveries = Vec::new();
        let control = Arc::clone(&self.listed.control);
        let mut is_told_to_stop = false;
        while !self.is_closing {
            let deadline = self.deadline();
            let n_waiting = wire.as_ref().map_or(self.batch.len(), |wire| wire.n_waiting());
            let has_room =
                n_waiting < BATCH_FRAMES_MAX && self.visitor.n_waiting() < PRESENCE_COMMANDS_MAX;
            tokio::select! {
                biased;
                () = overflow.cancelled() => {
                    self.farewell.abandon(CloseCode::SlowConsumer);
                    self.batch.clear();
                    self.is_closing = true;
                }
                () = shutdown.cancelled(), if !is_told_to_stop => {
                    is_told_to_stop = true;
                    self.feed(Input::Shutdown);
                }
                orders = control.ordered() => {
                    for order in orders {
                        self.obey(order);
                    }
                }
                () = attention(wire.as_deref()) => self.attend(),
                permit = room(batches.as_ref()), if !self.batch.is_empty() => match permit {
                    Some(permit) => permit.send(std::mem::take(&mut self.batch)),
                    None => self.is_closing = true,
                },
                () = tokio::time::sleep_until(deadline) => self.feed(Input::Tick),
                permit = commands.reserve(), if !self.commands.is_empty() => {
                    match (permit, self.commands.pop_front()) {
                        (Ok(permit), Some(command)) => permit.send(command),
                        _ => self.is_closing = true,
                    }
                }
                is_running = self.visitor.forward(), if self.visitor.n_waiting() > 0 => {
                    self.is_closing |= !is_running;
                }
                Some(finished) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    match finished {
                        Ok(Finished::Checked(checked)) => self.take_checked(*checked),
                        Ok(Finished::Answer(input)) => self.feed(*input),
                        Ok(Finished::Found { channel, found }) => self.take_found(channel, found),
                        // A task that was abandoned.
                        Err(_) => {}
                    }
                }
                received = inbound.receive(), if has_room => {
                    // A client that sends without pause must not keep what others say waiting.
                    self.inbox.receive_waiting(&mut deliveries, DELIVERIES_MAX);
                    for delivery in deliveries.drain(..) {
                        self.deliver(delivery);
                    }
                    self.take(received);
                    // What came together is answered together, and passed on together.
                    for _ in 0..RECEIVED_MAX {
                        match inbound.received() {
                            Some(received) if !self.is_closing => self.take(received),
                            _ => break,
                        }
                    }
                }
                () = self.inbox.receive(&mut deliveries, DELIVERIES_MAX), if has_room => {
                    for delivery in deliveries.drain(..) {
                        self.deliver(delivery);
                    }
                }
            }
            self.unflushed.flush_in_turns().await;
        }
        if let Some(batches) = batches.as_ref().filter(|_| !self.batch.is_empty()) {
            // The writer is gone already when this fails.
            let _ = batches.try_send(std::mem::take(&mut self.batch));
        }
        drop(batches);
        self.forget_subscriptions().await;
    }

    fn deadline(&self) -> Instant {
        let started = self.parts.started;
        Instant::from_std(started + self.session.deadline().min(Duration::from_secs(1 << 32)))
    }

    fn take(&mut self, received: Inbound) {
        match received {
            Inbound::Message(Ok(message)) => {
                self.parts.metrics.messages_in.increment(1);
                let input = match self.exceeded_by(&message) {
                    None => Input::Message(message),
                    Some(limit) => Input::Overload { message, limit },
                };
                self.feed(input);
            }
            Inbound::Message(Err(malformed)) => self.feed(Input::Malformed(malformed)),
            Inbound::Activity => self.feed(Input::Activity),
            Inbound::TooLarge => {
                self.farewell.close(CloseCode::TooLarge);
                self.is_closing = true;
            }
            Inbound::Gone => self.is_closing = true,
        }
    }

    /// What the whole server has no room for.
    fn exceeded_by(&self, message: &ClientMessage) -> Option<ServerLimit> {
        let parts = &self.parts;
        match message.event {
            ClientEvent::Join if self.n_channels == 0 && !parts.has_room_for_user() => {
                Some(ServerLimit::ConcurrentUsers)
            }
            ClientEvent::Join => (!parts.quotas.joins.take(1)).then_some(ServerLimit::Joins),
            ClientEvent::Broadcast => (!parts.quotas.take_events(1)).then_some(ServerLimit::Events),
            ClientEvent::Heartbeat
            | ClientEvent::Leave
            | ClientEvent::AccessToken
            | ClientEvent::Presence
            | ClientEvent::Other(_) => None,
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Changes(changes) => {
                for Change { channel, frame, committed_us } in changes {
                    if self.session.is_open(channel) {
                        self.send(frame, Some(committed_us));
                    }
                }
            }
            Delivery::Message(message) => self.pass_on(message),
            Delivery::Answer(input) => self.feed(*input),
        }
    }

    /// Sends what was published, unless the channel is given earlier messages.
    fn pass_on(&mut self, message: TopicMessage) {
        let channel = message.channel;
        let heard = match self.replays.get_mut(&channel) {
            Some(replay) => replay.hear(message),
            None => Ok(Some(message)),
        };
        match heard {
            Ok(Some(TopicMessage { frame, .. })) if self.session.is_open(channel) => {
                self.send(frame, None);
            }
            Ok(_) => {}
            // Whoever asked for messages must not miss some: the join fails.
            Err(TooMany) => self.feed(Input::Replayed { channel, result: Err(()) }),
        }
    }

    fn take_found(&mut self, channel: ChannelId, found: Option<Found>) {
        let Some(replay) = self.replays.get_mut(&channel) else { return };
        let result = found.map(|found| replay.found(found)).ok_or(());
        self.feed(Input::Replayed { channel, result });
    }

    /// The earlier messages were sent: what was held back follows.
    fn resume(&mut self, channel: ChannelId) {
        let held = self.replays.get_mut(&channel).map(Replay::resume).unwrap_or_default();
        for message in held {
            self.pass_on(message);
        }
    }

    /// Sends a frame: to the socket with the next flush, or with the next batch.
    fn send(&mut self, frame: Frame, committed_us: Option<i64>) {
        let Some(wire) = &self.wire else {
            self.batch.push(Outgoing { frame, committed_us });
            return;
        };
        if wire.push_own(frame.into()) == Pushed::Dirty {
            self.unflushed.add(Arc::clone(wire));
        }
        if let Some(committed_us) = committed_us {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let committed = Duration::from_micros(u64::try_from(committed_us).unwrap_or_default());
            self.parts.metrics.delivery_seconds.record(now.saturating_sub(committed));
        }
    }

    /// The socket takes more, is full for good, or is gone.
    fn attend(&mut self) {
        let Some(wire) = &self.wire else { return };
        if wire.has_overflowed() {
            self.farewell.abandon(CloseCode::SlowConsumer);
            wire.abandon();
            self.is_closing = true;
        } else if wire.is_broken() {
            self.is_closing = true;
        } else {
            wire.attend();
        }
    }

    /// Gives the session an input and does what it says.
    fn feed(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut outputs = std::mem::take(&mut self.outputs);
            self.session.handle(self.parts.started.elapsed(), input, &mut outputs);
            for output in outputs.drain(..) {
                inputs.extend(self.perform(output));
            }
            self.outputs = outputs;
        }
        if self.errands.len() > self.session.n_channels() {
            self.forget_errands();
        }
        self.note_channels(self.session.n_channels());
    }

    /// Ends what is under way for channels that are gone, joins that were refused included.
    fn forget_errands(&mut self) {
        let session = &self.session;
        self.errands.retain(|channel, tasks| {
            let is_known = session.knows(*channel);
            if !is_known {
                tasks.iter().for_each(AbortHandle::abort);
            }
            is_known
        });
    }

    /// Keeps the gauge over all connections up to date.
    fn note_channels(&mut self, n_channels: usize) {
        let n_channels = u32::try_from(n_channels).unwrap_or(u32::MAX);
        let gauge = &self.parts.metrics.channels;
        gauge.increment(f64::from(n_channels) - f64::from(self.n_channels));
        match (self.n_channels, n_channels) {
            (0, 1..) => _ = self.parts.n_users.fetch_add(1, Ordering::Relaxed),
            (1.., 0) => _ = self.parts.n_users.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
        self.n_channels = n_channels;
    }

    fn take_checked(&mut self, checked: Checked) {
        let Checked { channel, attempt, request, outcome } = checked;
        // A check that had ended before it was abandoned comes here all the same.
        if self.subscribed.get(&channel).is_none_or(|(newest, _)| *newest != attempt) {
            return;
        }
        match outcome {
            Ok(bindings) => {
                let channel = Arc::new(ChannelHandle {
                    connection: self.connection,
                    id: channel,
                    topic: request.topic.clone(),
                    version: self.version,
                    is_legacy: request.is_legacy,
                    audience: Audience {
                        role: request.role.clone(),
                        claims: request.claims.clone(),
                    },
                    outbox: self.outbox.clone(),
                });
                self.commands.push_back(Command::Subscribe { channel, attempt, bindings });
            }
            Err(failure) => {
                self.feed(Input::Subscribed { channel, attempt, result: Err(failure) });
            }
        }
    }

    fn unsubscribe(&mut self, channel: ChannelId) {
        if let Some((_, task)) = self.subscribed.remove(&channel) {
            task.abort();
        }
        self.commands.push_back(Command::Unsubscribe { connection: self.connection, channel });
    }

    async fn forget_subscriptions(&mut self) {
        self.tasks.abort_all();
        let channels: Vec<ChannelId> = self.subscribed.keys().copied().collect();
        for channel in channels {
            self.unsubscribe(channel);
        }
        for command in self.commands.drain(..) {
            // A router that is gone has no subscriptions to forget.
            let _ = self.parts.router.commands.send(command).await;
        }
        self.note_channels(0);
    }
}

/// Waits until the socket needs attention; for ever without one.
async fn attention(wire: Option<&Wire>) {
    match wire {
        Some(wire) => wire.needs_attention().await,
        None => std::future::pending().await,
    }
}

/// Waits for room for a batch; `None` when nobody takes them any more.
async fn room(
    batches: Option<&mpsc::Sender<Vec<Outgoing>>>,
) -> Option<mpsc::Permit<'_, Vec<Outgoing>>> {
    batches?.reserve().await.ok()
}

/// The receiving half of a socket.
pub(super) trait Receive: Send {
    /// The next thing the client sent; cancel-safe.
    fn receive(&mut self) -> impl Future<Output = Inbound> + Send;

    /// What came with it and can be taken without waiting.
    fn received(&mut self) -> Option<Inbound> {
        None
    }
}
