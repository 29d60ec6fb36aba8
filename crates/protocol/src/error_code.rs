//! Everything a client can be told went wrong, with what to do about it.

use std::fmt;

macro_rules! error_codes {
    ($($name:ident, $visibility:ident, $meaning:literal, $remedy:literal;)*) => {
        /// A stable name for one kind of failure.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum ErrorCode {
            $(#[doc = $meaning] $name,)*
        }

        impl ErrorCode {
            /// All codes, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as clients and logs spell it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What happened.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// What to do about it.
            #[must_use]
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }

            /// Who gets to see it.
            #[must_use]
            pub fn visibility(self) -> Visibility {
                match self { $(Self::$name => Visibility::$visibility,)* }
            }
        }
    };
}

/// Where an error code can be seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Visibility {
    /// In the reply to a join.
    Reply,
    /// Its text in a `system` message, without the code.
    System,
    /// In logs and metrics only.
    Log,
}

error_codes! {
    TopicNameRequired, Reply,
    "A join on `realtime:` without a name behind the colon.",
    "Give the channel a name.";
    TopicNameTooLong, Reply,
    "The topic of a join is longer than the server keeps.",
    "Use a shorter channel name; binary frames carry at most 255 bytes.";
    InvalidJoinPayload, Log,
    "A field of a join payload has the wrong type; the join went on with its default.",
    "Correct the field named in the log.";
    InvalidJWTToken, Reply,
    "The token has expired, lacks `role` or `exp`, or carries claims this server does not accept.",
    "Send a fresh token with both claims.";
    MalformedJWT, Reply,
    "The token is not a JWT.",
    "Send the token as it was issued: three parts joined by dots.";
    JwtSignatureError, Reply,
    "The token's signature does not match.",
    "Sign with the secret or key this server is configured with.";
    JwtSignerError, Reply,
    "The server has no key for the token's algorithm and key id.",
    "Configure the JWT secret or the JWKS, or sign with a key that is configured.";
    Unauthorized, Reply,
    "The role of the token may not read from this private channel, or not write to it.",
    "Grant it with policies on realtime.messages, or use a public channel.";
    PrivateOnly, Reply,
    "The server admits private channels only.",
    "Join with `private: true`.";
    QueryCanceled, Reply,
    "The policies of realtime.messages took longer than a question may.",
    "Make them faster, with an index on what they read, or raise `authorization-timeout`.";
    MissingPartition, Reply,
    "realtime.messages has no partition for today.",
    "Let `serve` keep the partitions, or run `walcast migrate`.";
    UnableToConnectToProject, Reply,
    "PostgreSQL cannot be reached, so that nobody can say what the channel may do.",
    "Look at the database connection; joining again helps once it is there.";
    ChannelRateLimitReached, Reply,
    "The connection holds as many channels as it may.",
    "Leave channels that are not used, or open another connection.";
    ClientJoinRateLimitReached, Reply,
    "The connection, or all of them together, join channels faster than they may; it is closed.",
    "Join with pauses, and do not join again in a loop after an error; raise `max-server-joins-per-second` if the server bears more.";
    ConnectionRateLimitReached, Reply,
    "As many connections have channels as may.",
    "Raise `max-concurrent-users`, or close connections that are not used.";
    UnableToReplayMessages, Reply,
    "Replay was asked for where it cannot be given, or the messages could not be read.",
    "Ask for replay on private channels, or allow it on public ones with replay-public-channels; the server's log says why reading failed.";
    RealtimeDisabledForConfiguration, Reply,
    "A postgres_changes binding cannot be subscribed to.",
    "Check schema, table, filter and columns of the binding, and that the publication has the table.";
    PostgresChangesSubscribeTimeout, Reply,
    "A join that waits for its subscription waited as long as it asked to.",
    "Check that the server reaches the database, or wait longer.";
    UnknownErrorOnChannel, Reply,
    "The join payload cannot be read.",
    "Send objects where objects are expected.";
    UnableToSubscribeToPostgres, Log,
    "A subscription failed for a reason that may pass; it is tried again.",
    "Look at the database connection if it goes on.";
    UnableToHandleBroadcast, Reply,
    "The payload of a broadcast is not what it must be; it went to nobody.",
    "Send a JSON object, or a binary frame of kind 3.";
    MessagePerSecondRateLimitReached, System,
    "The connection sends messages faster than it may; the channel it used is closed.",
    "Send less often, or raise `max-events-per-second`.";
    ClientPresenceRateLimitReached, System,
    "A channel calls `track` or `untrack` more often than it may; it is closed.",
    "Track less often, or raise `max-presence-calls`.";
    PresenceRateLimitReached, System,
    "All clients together call `track` or `untrack` more often than they may; the channel of the call is closed.",
    "Track less often, or raise `max-presence-events-per-second`.";
    ChannelShutdown, System,
    "The channel was closed by the server; the message says why.",
    "Join again after removing the cause.";
    AccessTokenRefreshThrottled, Log,
    "A new token came too soon after the one before; it is applied a little later.",
    "Refresh the token less often.";
    MalformedWebSocketMessage, Log,
    "A frame is no message and was dropped.",
    "Check the client's serialiser and its `vsn` parameter.";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a join was refused; its `Display` is the `reason` of the reply, `Code: text`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JoinError {
    /// The kind of failure.
    pub code: ErrorCode,
    /// What happened in this case.
    pub text: String,
}

impl JoinError {
    /// A refusal.
    #[must_use]
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

impl std::error::Error for JoinError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_the_code_and_the_text() {
        let error = JoinError::new(ErrorCode::ChannelRateLimitReached, "Too many channels");
        assert_eq!(error.to_string(), "ChannelRateLimitReached: Too many channels");
    }

    #[test]
    fn every_code_is_explained_in_sentences_and_named_once() {
        let mut names: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        for code in ErrorCode::ALL {
            assert!(code.meaning().ends_with('.') && code.remedy().ends_with('.'), "{code}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }
}
