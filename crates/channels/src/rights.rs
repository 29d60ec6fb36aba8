//! What a channel may do on its topic, as the policies of `realtime.messages` say.

use std::collections::VecDeque;

use walcast_filters::claims::{Claims, Role};
use walcast_protocol::{ClientMessage, ErrorCode, Topic, broadcast, error_code::JoinError};

/// One answer, or one question, for each of the two things a channel is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Extensions {
    /// About broadcasts.
    pub broadcast: bool,
    /// About presence.
    pub presence: bool,
}

impl Extensions {
    /// Both.
    pub const ALL: Self = Self { broadcast: true, presence: true };

    /// Whether it is about anything.
    #[must_use]
    pub fn any(self) -> bool {
        self.broadcast || self.presence
    }
}

/// What is asked about a private channel, and what the answer is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rights {
    /// Reading: a policy for SELECT lets a message be seen.
    pub read: Extensions,
    /// Writing: a policy for INSERT lets a message be sent.
    pub write: Extensions,
}

/// A question about a private channel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RightsRequest {
    /// The channel's topic.
    pub topic: Topic,
    /// As whom.
    pub role: Role,
    /// With these claims.
    pub claims: Claims,
    /// What is asked; nothing else is answered.
    pub asked: Rights,
}

/// Why there is no answer. None of them gives a right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RightsFailure {
    /// A policy raised, the role does not exist, or the table is not there.
    Refused,
    /// The policies took too long.
    Cancelled,
    /// Today has no partition.
    MissingPartition,
    /// PostgreSQL cannot be reached.
    Unavailable,
}

impl RightsFailure {
    /// What a join is refused with.
    pub(crate) fn join_error(self, topic: &Topic) -> JoinError {
        let (code, text) = match self {
            Self::Refused => return may_not_read(topic),
            Self::Cancelled => (
                ErrorCode::QueryCanceled,
                "The policies of realtime.messages took too long, please try again",
            ),
            Self::MissingPartition => (
                ErrorCode::MissingPartition,
                "Realtime was unable to find the expected messages partition",
            ),
            Self::Unavailable => (
                ErrorCode::UnableToConnectToProject,
                "Realtime was unable to connect to the project database",
            ),
        };
        JoinError::new(code, text)
    }

    /// What a joined channel is closed with.
    pub(crate) fn shutdown(self, topic: &Topic) -> JoinError {
        let text = match self {
            Self::Refused => return may_not_read(topic),
            Self::Cancelled => "Query was cancelled, please try again",
            Self::MissingPartition | Self::Unavailable => {
                "Realtime was unable to connect to the project database"
            }
        };
        JoinError::new(ErrorCode::ChannelShutdown, text)
    }
}

pub(crate) fn may_not_read(topic: &Topic) -> JoinError {
    let topic = topic.sub_topic().unwrap_or_default();
    let text = format!("You do not have permissions to read from this Channel topic: {topic}");
    JoinError::new(ErrorCode::Unauthorized, text)
}

pub(crate) fn may_no_longer_read(topic: &Topic) -> JoinError {
    let topic = topic.sub_topic().unwrap_or_default();
    let text = format!("You no longer have permission to read from this Channel topic: {topic}");
    JoinError::new(ErrorCode::Unauthorized, text)
}

pub(crate) fn may_not_write(topic: &Topic) -> JoinError {
    let topic = topic.sub_topic().unwrap_or_default();
    let text = format!("You do not have permissions to write to this Channel topic: {topic}");
    JoinError::new(ErrorCode::Unauthorized, text)
}

/// Messages of one channel that may wait for an answer.
const WAITING_MAX: usize = 64;

/// The rights of a private channel, as far as they are known, and what waits for them.
#[derive(Default)]
pub(crate) struct PrivateRights {
    pub(crate) read: Option<Extensions>,
    /// Whether reading presence was asked; without presence it is not.
    pub(crate) has_asked_presence: bool,
    pub(crate) write: Option<Extensions>,
    /// What is being asked, by the number of the question.
    asked: Option<(u32, Rights)>,
    n_questions: u32,
    waiting: VecDeque<ClientMessage>,
    waiting_bytes: usize,
}

impl PrivateRights {
    /// A question; the answer to an earlier one no longer counts.
    pub(crate) fn ask(&mut self, asked: Rights) -> u32 {
        self.n_questions = self.n_questions.wrapping_add(1);
        self.asked = Some((self.n_questions, asked));
        self.n_questions
    }

    /// What was asked, if this is the answer to it.
    pub(crate) fn answered(&mut self, number: u32) -> Option<Rights> {
        let (_, asked) = self.asked.take_if(|(asked, _)| *asked == number)?;
        Some(asked)
    }

    pub(crate) fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// Keeps a message until the answer; gives it back when too much waits.
    pub(crate) fn wait(
        &mut self,
        message: ClientMessage,
        bytes_max: usize,
    ) -> Result<(), Box<ClientMessage>> {
        let n_bytes = self.waiting_bytes.saturating_add(broadcast::payload_size(&message.payload));
        if self.waiting.len() >= WAITING_MAX || n_bytes > bytes_max {
            return Err(Box::new(message));
        }
        self.waiting_bytes = n_bytes;
        self.waiting.push_back(message);
        Ok(())
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What waited, in its order.
    pub(crate) fn take_waiting(&mut self) -> VecDeque<ClientMessage> {
        self.waiting_bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    /// What the channel may hear.
    pub(crate) fn hears(&self) -> Extensions {
        self.read.unwrap_or_default()
    }
}

/// Earlier messages that a channel asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReplayRequest {
    /// The channel's topic.
    pub topic: Topic,
    /// Whether those of private or of public channels.
    pub is_private: bool,
    /// Not older than this, in ms since 1970.
    pub since_ms: i64,
    /// At most so many, the newest.
    pub limit: u16,
}
