//! Replay: earlier messages, after the reply to the join and before what comes live.

use walcast_protocol::{ErrorCode, error_code::JoinError, join::Replay, message::UserBroadcast};

use super::Session;
use crate::{ChannelId, Output, ReplayRequest, channel::Stage, rights::may_not_read};

impl Session {
    /// Asks for the earlier messages a join wants. The channel listens from here on: what is said in
    /// the meantime is held back until they were delivered.
    pub(super) fn ask_for_replay(&mut self, id: ChannelId, replay: Replay, out: &mut Vec<Output>) {
        let limit = replay.limit.min(self.limits.replay_max);
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if !channel.hears().broadcast {
            let error = may_not_read(&channel.topic);
            return self.shut_down(id, &error, out);
        }
        let request = ReplayRequest {
            topic: channel.topic.clone(),
            is_private: channel.is_private,
            since_ms: replay.since_ms,
            limit,
        };
        channel.take_part(id, out);
        out.push(Output::Replay { channel: id, request: Box::new(request) });
    }

    pub(super) fn replayed(
        &mut self,
        id: ChannelId,
        result: Result<Vec<UserBroadcast>, ()>,
        out: &mut Vec<Output>,
    ) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if !matches!(channel.stage, Stage::Verifying(_)) {
            return;
        }
        match result {
            // Lost meanwhile, with a new token.
            Ok(_) if !channel.hears().broadcast => {
                let error = may_not_read(&channel.topic);
                self.shut_down(id, &error, out);
            }
            Ok(replayed) => {
                channel.replayed = Some(replayed);
                self.complete(id, out);
            }
            Err(()) => {
                let text = "Realtime was unable to replay messages";
                let error = JoinError::new(ErrorCode::UnableToReplayMessages, text);
                self.shut_down(id, &error, out);
            }
        }
    }
}
