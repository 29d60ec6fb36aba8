//! What this version does not offer, in one place: to be replaced as the features arrive.

use walcast_protocol::{
    ErrorCode,
    error_code::JoinError,
    message::{ClientPayload, Reply, Topic},
    push::{PresenceAction, presence_action},
};

/// Refuses private channels: as long as no policy is asked, nobody may read from them.
pub(crate) fn private_channel(topic: &Topic) -> JoinError {
    JoinError::new(
        ErrorCode::Unauthorized,
        format!(
            "You do not have permissions to read from this Channel topic: {}",
            topic.sub_topic().unwrap_or_default()
        ),
    )
}

/// Answers a presence message. To be shown no longer is granted: nobody is shown.
pub(crate) fn presence(payload: &ClientPayload) -> Reply {
    match presence_action(payload) {
        PresenceAction::Untrack | PresenceAction::Nothing => Reply::Ok,
        PresenceAction::Track(_) | PresenceAction::TrackNoObject | PresenceAction::Unknown => {
            not_available("Presence is not available in this version")
        }
    }
}

fn not_available(text: &str) -> Reply {
    Reply::Error { reason: JoinError::new(ErrorCode::FeatureNotAvailable, text).to_string() }
}
