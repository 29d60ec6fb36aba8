//! Answers about subscriptions, and what the client hears of them.

use std::mem;

use walcast_protocol::{
    ErrorCode,
    error_code::JoinError,
    message::{Extension, Reply, Status},
};

use super::Session;
use crate::{ChannelId, Event, Output, SubscribeFailure, channel::Stage};

impl Session {
    /// An attempt to subscribe is answered.
    pub(super) fn subscribed(
        &mut self,
        id: ChannelId,
        attempt: u32,
        result: Result<(), SubscribeFailure>,
        out: &mut Vec<Output>,
    ) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let Some(subscription) = &mut channel.subscription else { return };
        if !subscription.expects(attempt) {
            return;
        }
        match result {
            Ok(()) => {
                subscription.succeeded();
                self.announce(id, out);
            }
            Err(SubscribeFailure::NoTable { binding }) => {
                subscription.refused(id, out);
                let text = subscription.request().no_table(binding);
                self.subscribe_refused(id, text, out);
            }
            Err(SubscribeFailure::Refused { binding, error }) => {
                subscription.refused(id, out);
                let text = subscription.request().refused(binding, &error);
                self.subscribe_refused(id, text, out);
            }
            Err(SubscribeFailure::Unavailable { error: _ }) => {
                // The client hears nothing of it: several of them take an error message as a reason
                // to join again, all at once, while the database is in trouble.
                let pauses = match channel.stage {
                    Stage::Waiting(_) => self.limits.waiting_retry,
                    Stage::Verifying(_) | Stage::Joined => self.limits.joined_retry,
                };
                subscription.failed(id, self.now, pauses, out);
                out.push(Output::Count(Event::SubscribeRetried));
            }
        }
    }

    /// A subscription is gone without the client's doing.
    pub(super) fn subscription_lost(&mut self, id: ChannelId, out: &mut Vec<Output>) {
        let subscription =
            self.channels.get_mut(&id).and_then(|channel| channel.subscription.as_mut());
        if subscription.is_some_and(|subscription| subscription.lost(id, out)) {
            out.push(Output::Count(Event::SubscriptionLost));
        }
    }

    /// Says that changes flow, after the reply to a join that waited for it.
    fn announce(&mut self, id: ChannelId, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if let Stage::Waiting(waiting) = mem::replace(&mut channel.stage, Stage::Joined) {
            let reply = Reply::Joined { postgres_changes: waiting.postgres_changes };
            waiting.answer.send(&channel.topic, &channel.join_ref, reply, out);
            channel.listen(id, self.limits.replication_wait, out);
        }
        out.push(Output::Count(Event::Subscribed));
        let text = "Subscribed to PostgreSQL".to_owned();
        channel.system(Extension::PostgresChanges, Status::Ok, text, out);
    }

    fn subscribe_refused(&mut self, id: ChannelId, text: String, out: &mut Vec<Output>) {
        out.push(Output::Count(Event::SubscribeRefused));
        let Some(channel) = self.channels.get(&id) else { return };
        if channel.is_joined() {
            channel.system(Extension::PostgresChanges, Status::Error, text, out);
        } else {
            let error = JoinError::new(ErrorCode::RealtimeDisabledForConfiguration, text);
            self.shut_down(id, &error, out);
        }
    }
}
