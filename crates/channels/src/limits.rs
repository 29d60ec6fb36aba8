//! Every bound of a connection.

use std::time::Duration;

/// What one connection may use. Reaching a bound has a defined outcome, named at each of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Channels at a time; one more is refused with `ChannelRateLimitReached`.
    pub channels_max: usize,
    /// Items of `postgres_changes` per join; more are refused with
    /// `RealtimeDisabledForConfiguration`.
    pub bindings_per_channel_max: usize,
    /// Joins per second in the long run; more are refused with `ClientJoinRateLimitReached` and
    /// close the connection.
    pub joins_per_second: u32,
    /// Joins at once, after a pause. A client that has all its channels must be able to join them
    /// again, and once more when that connection breaks early.
    pub joins_burst: u32,
    /// Length of a topic with its prefix; longer ones are refused with `TopicNameTooLong`.
    pub topic_bytes_max: usize,
    /// Length of a `ref` or `join_ref`; messages with longer ones are dropped.
    pub reference_bytes_max: usize,
    /// Length of a token; longer ones count as malformed.
    pub token_bytes_max: usize,
    /// Size of a join's payload; larger ones are refused with `UnknownErrorOnChannel`.
    pub join_payload_bytes_max: usize,
    /// Size of what a broadcast carries; larger ones go to nobody, with `payload_size_exceeded` for
    /// those who asked for replies. Also of what a member says about itself; more closes the channel,
    /// with `Track message size exceeded`.
    pub payload_bytes_max: usize,
    /// Broadcasts per second in the long run; one more closes the channel that sent it, with
    /// `Too many messages per second`.
    pub events_per_second: u32,
    /// Broadcasts at once, after a pause.
    pub events_burst: u32,
    /// Calls of `track` and `untrack` on one channel: so many in this time, in the long run and at
    /// once after a pause; one more closes the channel, with `Client presence rate limit exceeded`.
    pub presence_calls_max: (u32, Duration),
    /// Size of a frame, for the transport; larger ones close the connection with 1009.
    pub frame_bytes_max: usize,
    /// How long a channel's token stays before the next one is applied; the latest one waits.
    pub access_token_throttle: Duration,
    /// How long an expired token stays in force while the next one is being checked; after that the
    /// channel is shut down.
    pub token_grace: Duration,
    /// How long a client may be silent; the connection is closed with 1000.
    pub idle_timeout: Duration,
    /// How long a connection stays after it has left all its channels; then it is closed with 1000.
    pub no_channel_timeout: Duration,
    /// Earlier messages that a join gets at most; clients that ask for more get so many.
    pub replay_max: u16,
    /// Whether public channels may ask for earlier messages, too; otherwise such a join is refused
    /// with `UnableToReplayMessages`.
    pub replay_public: bool,
    /// Whether public channels are refused, with `PrivateOnly`.
    pub private_only: bool,
    /// Whether every channel takes part in presence, whatever it says.
    pub presence_enabled: bool,
    /// How long a channel waits for messages from the database when it asks to be told; after that
    /// it is closed, with `Replication connection was not established in time`.
    pub replication_wait: Duration,
    /// The longest time a join waits for its subscription; clients that ask for more get this.
    pub subscribe_wait_max: Duration,
    /// Pauses between attempts to subscribe while a join waits: shortest and longest.
    pub waiting_retry: (Duration, Duration),
    /// Pauses between attempts to subscribe of a joined channel: shortest and longest.
    pub joined_retry: (Duration, Duration),
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            channels_max: 100,
            bindings_per_channel_max: 100,
            joins_per_second: 100,
            joins_burst: 200,
            topic_bytes_max: 1_024,
            reference_bytes_max: 255,
            token_bytes_max: 16 * 1_024,
            join_payload_bytes_max: 1_024 * 1_024,
            payload_bytes_max: 3_000_500,
            events_per_second: 100,
            events_burst: 6_000,
            presence_calls_max: (5, Duration::from_secs(30)),
            frame_bytes_max: 5_000_000,
            access_token_throttle: Duration::from_secs(10),
            token_grace: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            no_channel_timeout: Duration::from_mins(10),
            replay_max: 25,
            replay_public: false,
            private_only: false,
            presence_enabled: false,
            replication_wait: Duration::from_mins(1),
            subscribe_wait_max: Duration::from_secs(20),
            waiting_retry: (Duration::from_millis(100), Duration::from_secs(1)),
            joined_retry: (Duration::from_secs(1), Duration::from_secs(10)),
        }
    }
}
