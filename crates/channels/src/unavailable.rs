//! What this version does not offer, in one place: to be replaced as the features arrive.

use walcast_protocol::{ErrorCode, error_code::JoinError, message::Topic};

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
