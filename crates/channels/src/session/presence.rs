//! Presence: what a channel calls, and what it is told.

use std::sync::Arc;

use walcast_protocol::{
    ClientMessage, ErrorCode, RawJson, ServerMessage,
    error_code::JoinError,
    join::PresenceConfig,
    message::{Reference, Reply},
    presence::Tracked,
    push::{PresenceAction, presence_action},
};

use super::Session;
use crate::{ChannelId, Event, Output, channel::Attendance, rate::TokenBucket};

impl Session {
    /// What a channel that joins like this has to do with presence.
    pub(super) fn attendance(&self, config: &PresenceConfig) -> Attendance {
        let (n_calls, window) = self.limits.presence_calls_max;
        Attendance {
            is_enabled: config.is_enabled || self.limits.presence_enabled,
            key: config.key.as_deref().map(Arc::from),
            calls: TokenBucket::filling_in(window, n_calls),
            is_tracked: false,
        }
    }

    /// Takes a `presence` message. Whatever names an event counts as a call, also where it changes
    /// nothing.
    pub(super) fn presence(
        &mut self,
        id: ChannelId,
        message: ClientMessage,
        out: &mut Vec<Output>,
    ) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let ClientMessage { reference, payload, .. } = message;
        let action = presence_action(&payload);
        if action == PresenceAction::Nothing {
            channel.reply(reference, Reply::Ok, out);
            return;
        }
        out.push(Output::Count(Event::PresenceCalled));
        if !channel.attendance.calls.take(self.now) {
            let text = "Client presence rate limit exceeded";
            let error = JoinError::new(ErrorCode::ClientPresenceRateLimitReached, text);
            self.shut_down(id, &error, out);
            return;
        }
        // Who is not on the topic cannot be shown there. Clients wait for the reply to their join.
        if !channel.is_joined() {
            channel.reply(reference, Reply::Refused, out);
            return;
        }
        match action {
            PresenceAction::Track(tracked) if tracked.len() > self.limits.payload_bytes_max => {
                let text = "Track message size exceeded";
                self.shut_down(id, &JoinError::new(ErrorCode::ChannelShutdown, text), out);
            }
            PresenceAction::Track(_) if !channel.may_appear() => {
                channel.reply(reference, Reply::Refused, out);
            }
            PresenceAction::Track(tracked) => {
                channel.reply(reference, Reply::Ok, out);
                self.track(id, tracked, out);
            }
            PresenceAction::TrackNoObject => {
                let reason = "Presence track payload must be a map".to_owned();
                channel.reply(reference, Reply::Error { reason }, out);
            }
            PresenceAction::Untrack => {
                if std::mem::take(&mut channel.attendance.is_tracked) {
                    out.push(Output::Untrack { channel: id });
                }
                channel.reply(reference, Reply::Ok, out);
            }
            PresenceAction::Unknown | PresenceAction::Nothing => {
                channel.reply(reference, Reply::Refused, out);
            }
        }
    }

    /// Shows a channel as present. One that joined without presence takes part in it from here on,
    /// and is told who is there.
    fn track(&mut self, id: ChannelId, tracked: Tracked, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let is_enabled = std::mem::replace(&mut channel.attendance.is_enabled, true);
        if !is_enabled && channel.hears().presence {
            out.push(Output::ShowPresence { channel: id });
        }
        channel.attendance.is_tracked = true;
        let key = channel.attendance.key.clone();
        out.push(Output::Track { channel: id, key, tracked });
    }

    pub(super) fn presence_state(&mut self, id: ChannelId, state: RawJson, out: &mut Vec<Output>) {
        let channel = self.channels.get(&id).filter(|channel| channel.is_joined());
        let Some(channel) = channel else { return };
        out.push(Output::Send(ServerMessage::Push {
            join_ref: channel.join_ref.clone(),
            topic: channel.topic.clone(),
            event: "presence_state".into(),
            payload: state,
        }));
    }

    /// A call that the policies could not be asked about, or that cannot wait for them.
    pub(super) fn presence_denied(
        &self,
        id: ChannelId,
        reference: Reference,
        out: &mut Vec<Output>,
    ) {
        out.push(Output::Count(Event::PresenceCalled));
        if let Some(channel) = self.channels.get(&id) {
            channel.reply(reference, Reply::Refused, out);
        }
    }

    pub(super) fn presence_refused(&mut self, id: ChannelId, out: &mut Vec<Output>) {
        let text = "Too many presence messages per second";
        let error = JoinError::new(ErrorCode::PresenceRateLimitReached, text);
        self.shut_down(id, &error, out);
    }
}
