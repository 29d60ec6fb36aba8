//! Why a connection is closed, as a WebSocket close code.

use std::fmt;

/// The codes this server closes a WebSocket with.
///
/// None of them keeps a client away: the JavaScript, Python, Dart, Swift and Kotlin clients connect
/// again, with their own back-off, after every close they did not ask for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum CloseCode {
    /// No frame came for too long, or the client said goodbye.
    Normal,
    /// The client joins too fast and is sent away.
    GoingAway,
    /// A frame was larger than allowed.
    TooLarge,
    /// The server failed.
    InternalError,
    /// The server stops or restarts.
    ServiceRestart,
    /// The client reads more slowly than its changes arrive and its queue is full.
    ///
    /// 1013, "try again later", says best what helps; 1008 would blame the client for a rule it
    /// broke, and a private code (4000 and above) would need documents nobody reads.
    SlowConsumer,
}

impl CloseCode {
    /// All codes.
    pub const ALL: [Self; 6] = [
        Self::Normal,
        Self::GoingAway,
        Self::TooLarge,
        Self::InternalError,
        Self::ServiceRestart,
        Self::SlowConsumer,
    ];

    /// The number in the close frame.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::TooLarge => 1009,
            Self::InternalError => 1011,
            Self::ServiceRestart => 1012,
            Self::SlowConsumer => 1013,
        }
    }

    /// The text in the close frame.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::GoingAway => "too many joins",
            Self::TooLarge => "frame too large",
            Self::InternalError => "internal error",
            Self::ServiceRestart => "service restart",
            Self::SlowConsumer => "slow consumer",
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code(), self.reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_fits_a_close_frame() {
        for close in CloseCode::ALL {
            assert!(close.reason().len() <= 123, "{close}");
            assert!((1000..=1013).contains(&close.code()), "{close}");
        }
    }
}
