//! Sessions without a socket: frames in, lines out.

mod broadcasting;
mod connection;
mod joining;
mod limits;
mod parse_params;
mod presence;
mod private;
mod properties;
mod subscribing;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use walcast_filters::claims::{Claims, Role};
use walcast_protocol::{Frame, RawJson, Topic, Version, frame};

use crate::{
    BroadcastRefusal, ChannelId, Event, Extensions, Input, Limits, Output, Rights, ServerLimit,
    Session, SubscribeFailure, SubscribeRequest, Token, TokenError, VerifiedClaims,
};

/// A session with its clock; every call returns what the session wants, one line each.
struct Client {
    session: Session,
    now: Duration,
    events: Vec<Event>,
    /// The channels that take part in their topics.
    listening: BTreeMap<ChannelId, Topic>,
    /// The channels that appear there.
    tracked: BTreeSet<ChannelId>,
    /// What the last channel that was told hears.
    hears: Extensions,
}

/// The claims of a token of this role.
fn claims(role: &str, expires_in: u64) -> VerifiedClaims {
    VerifiedClaims {
        role: Role::new(role),
        claims: Claims::new(&format!(r#"{{"role":"{role}"}}"#)),
        expires_in: Duration::from_secs(expires_in),
    }
}

impl Client {
    fn new(version: Version, limits: Limits) -> Self {
        let now = Duration::from_secs(1_000);
        let token = Token { text: "connection".into(), claims: claims("anon", 3_600) };
        let session = Session::new(version, token, Arc::new(limits), now);
        Self {
            session,
            now,
            events: Vec::new(),
            listening: BTreeMap::new(),
            tracked: BTreeSet::new(),
            hears: Extensions::default(),
        }
    }

    fn v1() -> Self {
        Self::new(Version::V1, Limits::default())
    }

    fn v2() -> Self {
        Self::new(Version::V2, Limits::default())
    }

    /// A client whose channel 1 is joined with this `config` on `realtime:room`, join_ref "1".
    fn joined(config: &str) -> Self {
        let mut client = Self::v2();
        let lines = client.join("1", "room", config);
        assert!(client.session.is_open(ChannelId(1)), "{lines:?}");
        client.events.clear();
        client
    }

    fn handle(&mut self, input: Input) -> Vec<String> {
        let mut out = Vec::new();
        self.session.handle(self.now, input, &mut out);
        let mut lines = Vec::new();
        for output in out {
            match output {
                Output::Count(event) => self.events.push(event),
                Output::Send(message) => {
                    let frame = frame::encode(self.session.version(), &message).unwrap();
                    lines.push(String::from_utf8(frame.bytes().to_vec()).unwrap());
                }
                Output::VerifyToken { channel, token } => {
                    lines.push(format!("verify {} {token}", channel.0));
                }
                Output::Subscribe { channel, attempt, request } => {
                    let bindings: Vec<String> = request
                        .bindings
                        .iter()
                        .map(|binding| {
                            let (id, event) = (binding.id, binding.binding.event.as_str());
                            let (schema, table) = (&binding.binding.schema, &binding.binding.table);
                            format!("{id}={event} {schema}.{table}")
                        })
                        .collect();
                    let (role, bindings) = (&request.role, bindings.join(", "));
                    lines.push(format!("subscribe {}#{attempt} {role}: {bindings}", channel.0));
                }
                Output::Unsubscribe { channel } => lines.push(format!("unsubscribe {}", channel.0)),
                Output::JoinTopic { channel, topic, is_private, hears } => {
                    assert!(topic.sub_topic().is_some());
                    assert!(is_private || hears == Extensions::ALL);
                    self.hears = hears;
                    assert_eq!(self.listening.insert(channel, topic), None);
                }
                Output::LeaveTopic { channel } => {
                    assert!(!self.tracked.contains(&channel), "nobody stays as a ghost");
                    assert!(self.listening.remove(&channel).is_some());
                }
                Output::Broadcast { channel, message, include_self } => {
                    assert!(self.listening.contains_key(&channel));
                    let frame = frame::encode(Version::V2, &message).unwrap();
                    let text = String::from_utf8_lossy(frame.bytes()).into_owned();
                    let whom = if include_self { "all" } else { "others" };
                    lines.push(format!("tell {whom} {}: {text}", channel.0));
                }
                Output::ShowPresence { channel } => {
                    assert!(self.listening.contains_key(&channel));
                    lines.push(format!("show presence {}", channel.0));
                }
                Output::Track { channel, key, tracked } => {
                    assert!(self.listening.contains_key(&channel));
                    self.tracked.insert(channel);
                    let key = key.as_deref().unwrap_or("(its own)");
                    lines.push(format!("track {} {key}: {} bytes", channel.0, tracked.len()));
                }
                Output::Untrack { channel } => {
                    assert!(self.tracked.remove(&channel));
                    lines.push(format!("untrack {}", channel.0));
                }
                Output::Hear { channel, hears } => {
                    assert!(self.listening.contains_key(&channel));
                    self.hears = hears;
                }
                Output::Authorize { channel, question, request } => {
                    let Rights { read, write } = request.asked;
                    let asked: String = [
                        (read.broadcast, " read broadcast"),
                        (read.presence, " read presence"),
                        (write.broadcast, " write broadcast"),
                        (write.presence, " write presence"),
                    ]
                    .iter()
                    .filter_map(|(is_asked, text)| is_asked.then_some(*text))
                    .collect();
                    lines.push(format!(
                        "authorize {}#{question} {}:{asked}",
                        channel.0, request.role
                    ));
                }
                Output::Replay { channel, request } => {
                    assert!(self.listening.contains_key(&channel));
                    let kind = if request.is_private { "private" } else { "public" };
                    let (since, limit) = (request.since_ms, request.limit);
                    lines.push(format!("replay {} {kind} since {since} limit {limit}", channel.0));
                }
                Output::Resume { channel } => lines.push(format!("resume {}", channel.0)),
                Output::AwaitReplication { channel, timeout } => {
                    lines.push(format!("await replication {} {timeout:?}", channel.0));
                }
                Output::Close { code } => lines.push(format!("close {code}")),
            }
        }
        lines
    }

    /// A text frame from the client.
    fn send(&mut self, frame: &str) -> Vec<String> {
        let frame = Frame::Text(Bytes::copy_from_slice(frame.as_bytes()));
        match frame::decode(self.session.version(), &frame) {
            Ok(message) => self.handle(Input::Message(message)),
            Err(malformed) => self.handle(Input::Malformed(malformed)),
        }
    }

    /// A frame that the whole server has no room for.
    fn send_too_much(&mut self, limit: ServerLimit, frame: &str) -> Vec<String> {
        let frame = Frame::Text(Bytes::copy_from_slice(frame.as_bytes()));
        let message = frame::decode(self.session.version(), &frame).unwrap();
        self.handle(Input::Overload { message, limit })
    }

    /// A join of `realtime:<name>` with equal ref and join_ref.
    fn join(&mut self, reference: &str, name: &str, config: &str) -> Vec<String> {
        self.send(&format!(
            r#"["{reference}","{reference}","realtime:{name}","phx_join",{{"config":{config}}}]"#
        ))
    }

    fn verified(
        &mut self,
        channel: u32,
        token: &str,
        result: Result<VerifiedClaims, TokenError>,
    ) -> Vec<String> {
        let (channel, token) = (ChannelId(channel), Arc::from(token));
        self.handle(Input::TokenVerified { channel, token, result })
    }

    fn subscribed(
        &mut self,
        channel: u32,
        attempt: u32,
        result: Result<(), SubscribeFailure>,
    ) -> Vec<String> {
        self.handle(Input::Subscribed { channel: ChannelId(channel), attempt, result })
    }

    /// The answer to a channel that asked who is present.
    fn presence_state(&mut self, channel: u32) -> Vec<String> {
        let channel = ChannelId(channel);
        let state = RawJson::parse(&Bytes::from_static(b"{\"k\":{\"metas\":[]}}")).unwrap();
        self.handle(Input::PresenceState { channel, state })
    }

    fn presence_refused(&mut self, channel: u32) -> Vec<String> {
        self.handle(Input::PresenceRefused { channel: ChannelId(channel) })
    }

    /// Lets time pass, calling at every deadline, while the client keeps giving signs of life.
    fn pass(&mut self, seconds: u64) -> Vec<String> {
        let end = self.now + Duration::from_secs(seconds);
        let mut lines = Vec::new();
        while self.now < end {
            let heartbeat = self.now + Duration::from_secs(25);
            self.now = self.session.deadline().min(heartbeat).min(end).max(self.now);
            lines.extend(self.handle(Input::Tick));
            lines.extend(self.handle(Input::Activity));
        }
        lines
    }

    fn events(&mut self) -> Vec<Event> {
        mem::take(&mut self.events)
    }
}

/// The first request to subscribe.
fn request(out: &[Output]) -> Option<&SubscribeRequest> {
    out.iter().find_map(|output| {
        let Output::Subscribe { request, .. } = output else { return None };
        Some(&**request)
    })
}

/// The reply of a join without bindings.
fn joined(reference: &str, name: &str) -> String {
    format!(
        r#"["{reference}","{reference}","realtime:{name}","phx_reply",{{"status":"ok","response":{{"postgres_changes":[]}}}}]"#
    )
}

/// The reply of a join that is refused.
fn refused(reference: &str, name: &str, reason: &str) -> String {
    format!(
        r#"["{reference}","{reference}","realtime:{name}","phx_reply",{{"status":"error","response":{{"reason":"{reason}"}}}}]"#
    )
}

/// A `system` message of channel "1" on `realtime:room`.
fn system(extension: &str, status: &str, message: &str) -> String {
    format!(
        r#"["1",null,"realtime:room","system",{{"extension":"{extension}","status":"{status}","message":"{message}","channel":"room"}}]"#
    )
}

/// The end of the channel that was joined with this reference.
fn closed(reference: &str, name: &str) -> String {
    format!(r#"["{reference}","{reference}","realtime:{name}","phx_close",{{}}]"#)
}
