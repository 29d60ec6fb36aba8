//! Private channels: what they may do is asked, and what waits for the answer goes on with it.

use walcast_protocol::{ClientMessage, message::ClientEvent};

use super::Session;
use crate::{
    ChannelId, Extensions, Output, Rights, RightsFailure, RightsRequest,
    channel::{Channel, Stage},
    rights::{may_no_longer_read, may_not_read},
};

impl Session {
    /// Asks whether the channel may be read: broadcasts, and presence where it takes part in it. A
    /// question about writing that is open is asked again, since the token may be another one.
    pub(super) fn ask_to_read(&mut self, id: ChannelId, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let Some(rights) = &mut channel.rights else { return };
        rights.write = None;
        rights.has_asked_presence |= channel.attendance.is_enabled;
        let read = Extensions { broadcast: true, presence: rights.has_asked_presence };
        let write = if rights.has_waiting() { Extensions::ALL } else { Extensions::default() };
        ask(channel, id, Rights { read, write }, out);
    }

    /// Whether a message of a private channel has to wait for its rights; it is kept then.
    pub(super) fn waits_for_rights(
        &mut self,
        id: ChannelId,
        message: ClientMessage,
        out: &mut Vec<Output>,
    ) -> Option<ClientMessage> {
        let bytes_max = self.limits.payload_bytes_max.saturating_mul(2);
        let Some(channel) = self.channels.get_mut(&id).filter(|channel| channel.is_joined()) else {
            return Some(message);
        };
        let Some(rights) = &mut channel.rights else { return Some(message) };
        if rights.write.is_some() && !rights.has_waiting() {
            return Some(message);
        }
        if let Err(message) = rights.wait(message, bytes_max) {
            self.deny(id, *message, out);
            return None;
        }
        self.ask_to_write(id, out);
        None
    }

    /// Asks whether what waits may be sent, unless an answer is on its way.
    fn ask_to_write(&mut self, id: ChannelId, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let Some(rights) = channel.rights.as_mut().filter(|rights| !rights.is_asking()) else {
            return;
        };
        // Who speaks of presence takes part in it.
        let presence = !rights.has_asked_presence;
        rights.has_asked_presence = true;
        let read = Extensions { broadcast: false, presence };
        ask(channel, id, Rights { read, write: Extensions::ALL }, out);
    }

    pub(super) fn authorized(
        &mut self,
        id: ChannelId,
        question: u32,
        result: Result<Rights, RightsFailure>,
        out: &mut Vec<Output>,
    ) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let Some(rights) = &mut channel.rights else { return };
        let Some(asked) = rights.answered(question) else { return };
        let is_joining = matches!(channel.stage, Stage::Verifying(_));
        let answer = match result {
            Ok(answer) => answer,
            Err(failure) if is_joining => {
                let error = failure.join_error(&channel.topic);
                return self.shut_down(id, &error, out);
            }
            Err(failure) if asked.read.broadcast => {
                let error = failure.shutdown(&channel.topic);
                return self.shut_down(id, &error, out);
            }
            // Nothing is known about writing: what waits is refused, and the next one asks again.
            Err(_) => {
                for message in rights.take_waiting() {
                    self.deny(id, message, out);
                }
                return;
            }
        };
        let before = rights.hears();
        let mut now = before;
        if asked.read.broadcast {
            now.broadcast = answer.read.broadcast;
        }
        if asked.read.presence {
            now.presence = answer.read.presence;
        }
        rights.read = Some(now);
        if asked.write.any() {
            rights.write = Some(answer.write);
        }
        let is_lost = before.broadcast && !now.broadcast || before.presence && !now.presence;
        if is_joining {
            if now.any() {
                self.proceed_authorized(id, out);
            } else {
                let error = may_not_read(&channel.topic);
                self.shut_down(id, &error, out);
            }
            return;
        }
        if is_lost || !now.any() {
            let error = if is_lost {
                may_no_longer_read(&channel.topic)
            } else {
                may_not_read(&channel.topic)
            };
            return self.shut_down(id, &error, out);
        }
        if now != before && channel.is_listening {
            out.push(Output::Hear { channel: id, hears: now });
            if now.presence && !before.presence && channel.attendance.is_enabled {
                out.push(Output::ShowPresence { channel: id });
            }
        }
        self.go_on_with_waiting(id, out);
    }

    fn go_on_with_waiting(&mut self, id: ChannelId, out: &mut Vec<Output>) {
        let rights = self.channels.get_mut(&id).and_then(|channel| channel.rights.as_mut());
        let Some(rights) = rights.filter(|rights| rights.has_waiting()) else { return };
        if rights.write.is_none() {
            // The question was about reading only, when nothing waited yet.
            return self.ask_to_write(id, out);
        }
        for message in rights.take_waiting() {
            // Too many of them close the channel.
            if self.channels.contains_key(&id) {
                self.carry_out(id, message, out);
            }
        }
    }

    /// Refuses what cannot wait, or whose question failed.
    fn deny(&mut self, id: ChannelId, message: ClientMessage, out: &mut Vec<Output>) {
        match message.event {
            ClientEvent::Broadcast => self.broadcast_denied(id, message.reference, out),
            ClientEvent::Presence
            | ClientEvent::Heartbeat
            | ClientEvent::Join
            | ClientEvent::Leave
            | ClientEvent::AccessToken
            | ClientEvent::Other(_) => self.presence_denied(id, message.reference, out),
        }
    }
}

fn ask(channel: &mut Channel, id: ChannelId, asked: Rights, out: &mut Vec<Output>) {
    let (Some(rights), Some(credentials)) = (&mut channel.rights, channel.tokens.current()) else {
        return;
    };
    let question = rights.ask(asked);
    let request = RightsRequest {
        topic: channel.topic.clone(),
        role: credentials.role.clone(),
        claims: credentials.claims.clone(),
        asked,
    };
    out.push(Output::Authorize { channel: id, question, request: Box::new(request) });
}
