//! Broadcasts of the client: whether one goes out, and what the sender hears of it.

use walcast_protocol::{
    ClientMessage, ErrorCode, broadcast,
    error_code::JoinError,
    message::{ClientPayload, Reference, Reply},
};

use super::{Session, unmatched_topic};
use crate::{
    BroadcastRefusal, ChannelId, Event, Extensions, Output, channel::Channel, rights::may_not_write,
};

/// What a private channel may write; `None` for a public one, which may all.
fn channel_rights(channel: Option<&Channel>) -> Option<Extensions> {
    let rights = channel?.rights.as_ref()?;
    Some(rights.write.unwrap_or_default())
}

impl Session {
    /// Passes a broadcast on to all who joined the topic.
    ///
    /// The sender hears of it only if its channel asked for that: the copy first, then the reply.
    pub(super) fn broadcast(
        &mut self,
        id: ChannelId,
        message: ClientMessage,
        out: &mut Vec<Output>,
    ) {
        let Some(channel) = self.channels.get(&id) else { return };
        if !channel.is_joined() {
            unmatched_topic(message, out);
            return;
        }
        if !self.events.take(self.now) {
            self.too_many_events(id, out);
            return;
        }
        let ClientMessage { reference, payload, .. } = message;
        if broadcast::payload_size(&payload) > self.limits.payload_bytes_max {
            self.refuse_broadcast(id, reference, BroadcastRefusal::TooLarge, out);
            return;
        }
        let rights = channel_rights(self.channels.get(&id).map(|channel| &**channel));
        if rights.is_some_and(|write| !write.broadcast) {
            self.broadcast_denied(id, reference, out);
            return;
        }
        self.relay(id, reference, payload, out);
    }

    /// Closes the channel of a broadcast that was one too many.
    pub(super) fn too_many_events(&mut self, id: ChannelId, out: &mut Vec<Output>) {
        out.push(Output::Count(Event::BroadcastRefused(BroadcastRefusal::TooMany)));
        let code = ErrorCode::MessagePerSecondRateLimitReached;
        self.shut_down(id, &JoinError::new(code, "Too many messages per second"), out);
    }

    /// A broadcast that the policies do not allow, or that nobody could be asked about.
    pub(super) fn broadcast_denied(
        &self,
        id: ChannelId,
        reference: Reference,
        out: &mut Vec<Output>,
    ) {
        self.refuse_broadcast(id, reference, BroadcastRefusal::Unauthorized, out);
    }

    fn relay(
        &self,
        id: ChannelId,
        reference: Reference,
        payload: ClientPayload,
        out: &mut Vec<Output>,
    ) {
        let Some(channel) = self.channels.get(&id) else { return };
        match broadcast::relay(&channel.topic, payload) {
            Ok(message) => {
                out.push(Output::Broadcast {
                    channel: id,
                    message,
                    include_self: channel.broadcast.include_self,
                });
                if channel.broadcast.acknowledge {
                    channel.reply(reference, Reply::Ok, out);
                }
            }
            Err(fault) => {
                self.refuse_broadcast(id, reference, BroadcastRefusal::Malformed(fault), out);
            }
        }
    }

    /// Says why a broadcast did not go out, where the channel asked for replies. The reason is in
    /// an object: the reference's bare string breaks client libraries.
    fn refuse_broadcast(
        &self,
        id: ChannelId,
        reference: Reference,
        refusal: BroadcastRefusal,
        out: &mut Vec<Output>,
    ) {
        out.push(Output::Count(Event::BroadcastRefused(refusal)));
        let Some(channel) = self.channels.get(&id) else { return };
        if channel.broadcast.acknowledge {
            let reason = match refusal {
                BroadcastRefusal::Malformed(fault) => {
                    JoinError::new(ErrorCode::UnableToHandleBroadcast, fault.as_str()).to_string()
                }
                BroadcastRefusal::Unauthorized => may_not_write(&channel.topic).to_string(),
                BroadcastRefusal::TooLarge | BroadcastRefusal::TooMany => {
                    refusal.as_str().to_owned()
                }
            };
            channel.reply(reference, Reply::Error { reason }, out);
        }
    }
}
