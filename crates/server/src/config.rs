//! The configuration: one tree, each option declared once.
//!
//! ```text
//! options      the table: name, variables, kind, default, doc
//! flags        the command line's share of it
//! environment  the process environment, read here and nowhere else
//! settings     flag > environment > file > default, contradictions refused
//! Config       the tree the rest of the server uses
//! ```
#![deny(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

mod database_url;
mod environment;
mod error;
mod file;
mod flags;
mod options;
mod reference;
mod settings;
mod value;

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use walcast_channels::{Limits, TokenBucket};
use walcast_replicator::{ConnectOptions, Host, ReplicationOptions, Secret, SslMode};

use crate::{
    auth::{ClaimValidators, JwksUrl, KeySet},
    quota::{Quota, ServerQuotas},
};

pub use environment::Environment;
pub use error::ConfigError;
pub use flags::Flags;
pub use options::{Group, Kind, OptionSpec, Variable};
pub use reference::reference_page;

use settings::Settings;

/// The length of a secret that lets its owner send users away.
const ADMIN_SECRET_BYTES_MIN: usize = 32;

/// Everything an operator can decide.
#[derive(Clone, Debug)]
pub struct Config {
    /// How PostgreSQL is reached.
    pub database: ConnectOptions,
    /// What is read from the write-ahead log.
    pub replication: ReplicationConfig,
    /// Where clients connect.
    pub http: HttpConfig,
    /// Whose tokens are believed.
    pub jwt: JwtConfig,
    /// How PostgreSQL is asked about permissions.
    pub authorization: AuthorizationConfig,
    /// The bounds of the server.
    pub limits: LimitsConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// How long open connections may take to close when the server stops.
    pub shutdown_timeout: Duration,
    /// Remarks for the log, once it is open: variables that were accepted and have no effect.
    pub notices: Vec<String>,
}

/// What is read from the write-ahead log.
#[derive(Clone, Debug)]
pub struct ReplicationConfig {
    /// The slot and the publications.
    pub options: ReplicationOptions,
    /// What becomes of deletes that cannot be authorised.
    pub deletes_unverifiable: DeletesUnverifiable,
    /// The size of a record from which on it is delivered without its values.
    pub max_record_bytes: usize,
    /// Whether the server creates what is missing in schema `realtime`.
    pub migrate: bool,
    /// How long rows of `realtime.messages` are kept.
    pub messages_retention: Duration,
}

/// What becomes of a delete whose old image lacks columns that the policies read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeletesUnverifiable {
    /// Its primary key is sent to everyone who subscribed.
    SendKey,
    /// It is sent to nobody.
    Withhold,
}

/// Where clients connect.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// The address or host name to listen on.
    pub host: String,
    /// The port to listen on; 0 takes a free one.
    pub port: u16,
    /// The secret that signs tokens for `/metrics`; without it the route is open.
    pub metrics_secret: Option<Secret>,
    /// The secret that signs tokens for the admin endpoints; without it there are none.
    pub admin_secret: Option<Secret>,
}

/// Whose tokens are believed.
#[derive(Clone, Debug, Default)]
pub struct JwtConfig {
    /// The shared secret of the HMAC algorithms.
    pub secret: Option<Secret>,
    /// The public keys (and further shared secrets) by key id.
    pub keys: Option<KeySet>,
    /// Where further public keys are.
    pub urls: Vec<JwksUrl>,
    /// Claims that must have exactly these values when a token has them.
    pub validators: ClaimValidators,
}

/// How PostgreSQL is asked about permissions.
#[derive(Clone, Copy, Debug)]
pub struct AuthorizationConfig {
    /// The longest a question may take; a question that takes longer is answered with no.
    pub statement_timeout: Duration,
    /// How many connections ask.
    pub connections: usize,
    /// How old the knowledge of the catalogue may become.
    pub catalogue_max_age: Duration,
}

/// The bounds of the server.
#[derive(Clone, Copy, Debug)]
pub struct LimitsConfig {
    /// Open sockets.
    pub connections: usize,
    /// Connections with at least one channel.
    pub concurrent_users: usize,
    /// Channels on one connection.
    pub channels_per_connection: usize,
    /// Joins per second of one connection.
    pub joins_per_second: u32,
    /// Joins per second of all connections, averaged over a minute.
    pub server_joins_per_second: u32,
    /// Broadcasts per second of all connections and requests, averaged over a minute; 0 is no bound.
    pub server_events_per_second: u32,
    /// Broadcasts per second of one connection, averaged over a minute.
    pub events_per_second: u32,
    /// Broadcasts per second of all HTTP requests, averaged over a minute.
    pub http_events_per_second: u32,
    /// The largest payload of a broadcast.
    pub payload_bytes: usize,
    /// Calls of `track` on the whole server, averaged over a minute.
    pub presence_events_per_second: u32,
    /// Calls of `track` and `untrack` on one channel within `presence_window`.
    pub presence_calls: u32,
    /// The time in which they count.
    pub presence_window: Duration,
    /// Earlier messages that a join gets at most.
    pub replay_messages: u16,
    /// Whether public channels may ask for them, too.
    pub replay_public: bool,
    /// Whether public channels are refused.
    pub private_only: bool,
    /// Whether every channel takes part in presence.
    pub presence_enabled: bool,
    /// The longest topic of a join.
    pub topic_bytes: usize,
    /// The largest frame a client may send.
    pub frame_bytes: usize,
    /// Silence after which a connection is closed.
    pub idle_timeout: Duration,
    /// How long a connection stays after it has left all its channels.
    pub no_channel_timeout: Duration,
    /// Open sockets that are no WebSockets and have no request under way.
    pub silent_sockets: usize,
    /// The longest value of a request header.
    pub header_bytes: usize,
    /// Frames that may wait for one connection.
    pub outbound_queue_frames: usize,
    /// Bytes that may wait for one connection.
    pub outbound_queue_bytes: usize,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A level, or directives such as `info,walcast_server::authz=debug`.
    pub filter: String,
    /// The shape of a line.
    pub format: LogFormat,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What a configuration is loaded for, and so what it must hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// Serving clients: a way to verify tokens is required.
    Serve,
    /// Looking at or changing the database only.
    Inspect,
}

impl Config {
    /// Combines the flags, the environment, the file they name and the defaults.
    ///
    /// # Errors
    /// An option that is unknown, has a value that does not fit, or contradicts another one.
    pub fn load(
        flags: &Flags,
        environment: &Environment,
        purpose: Purpose,
    ) -> Result<Self, ConfigError> {
        let settings = Settings::collect(flags, environment)?;
        let config = Self {
            database: database(&settings)?,
            replication: replication(&settings)?,
            http: HttpConfig {
                host: settings.text(&options::HOST)?,
                port: settings.number(&options::PORT)?,
                metrics_secret: settings.secret(&options::METRICS_JWT_SECRET),
                admin_secret: settings.secret(&options::ADMIN_JWT_SECRET),
            },
            jwt: jwt(&settings)?,
            authorization: AuthorizationConfig {
                statement_timeout: settings.duration(&options::AUTHORIZATION_TIMEOUT)?,
                connections: settings.number(&options::AUTHORIZATION_CONNECTIONS)?,
                catalogue_max_age: settings.duration(&options::CATALOGUE_MAX_AGE)?,
            },
            limits: LimitsConfig {
                connections: settings.number(&options::MAX_CONNECTIONS)?,
                concurrent_users: settings.number(&options::MAX_CONCURRENT_USERS)?,
                channels_per_connection: settings.number(&options::MAX_CHANNELS_PER_CONNECTION)?,
                joins_per_second: settings.number(&options::MAX_JOINS_PER_SECOND)?,
                server_joins_per_second: settings.number(&options::MAX_SERVER_JOINS_PER_SECOND)?,
                server_events_per_second: settings
                    .number(&options::MAX_SERVER_EVENTS_PER_SECOND)?,
                events_per_second: settings.number(&options::MAX_EVENTS_PER_SECOND)?,
                http_events_per_second: settings.number(&options::MAX_HTTP_EVENTS_PER_SECOND)?,
                payload_bytes: settings.bytes(&options::MAX_PAYLOAD_BYTES)?,
                presence_events_per_second: settings
                    .number(&options::MAX_PRESENCE_EVENTS_PER_SECOND)?,
                presence_calls: settings.number(&options::MAX_PRESENCE_CALLS)?,
                presence_window: settings.duration(&options::PRESENCE_CALLS_WINDOW)?,
                replay_messages: settings.number(&options::MAX_REPLAYED_MESSAGES)?,
                replay_public: settings.boolean(&options::REPLAY_PUBLIC_CHANNELS)?,
                private_only: settings.boolean(&options::PRIVATE_ONLY)?,
                presence_enabled: settings.boolean(&options::PRESENCE_ENABLED)?,
                frame_bytes: settings.bytes(&options::MAX_FRAME_BYTES)?,
                topic_bytes: settings.number(&options::MAX_TOPIC_BYTES)?,
                idle_timeout: settings.duration(&options::IDLE_TIMEOUT)?,
                no_channel_timeout: settings.duration(&options::NO_CHANNEL_TIMEOUT)?,
                silent_sockets: settings.number(&options::MAX_SILENT_SOCKETS)?,
                header_bytes: settings.number(&options::MAX_HEADER_BYTES)?,
                outbound_queue_frames: settings.number(&options::OUTBOUND_QUEUE_FRAMES)?,
                outbound_queue_bytes: settings.bytes(&options::OUTBOUND_QUEUE_BYTES)?,
            },
            log: LogConfig {
                filter: settings.text(&options::LOG_LEVEL)?,
                format: match settings.text(&options::LOG_FORMAT)?.as_str() {
                    "json" => LogFormat::Json,
                    _ => LogFormat::Text,
                },
            },
            shutdown_timeout: settings.duration(&options::SHUTDOWN_TIMEOUT)?,
            notices: environment.notices(),
        };
        if config.jwt.secret.as_ref().is_some_and(|secret| secret.expose().is_empty()) {
            let reason = "must not be empty: anybody could sign tokens with it";
            return Err(settings.invalid(&options::JWT_SECRET, reason));
        }
        let admin = config.http.admin_secret.as_ref().map(Secret::expose);
        if admin.is_some_and(|secret| secret.len() < ADMIN_SECRET_BYTES_MIN) {
            let reason = format!("must have at least {ADMIN_SECRET_BYTES_MIN} characters");
            return Err(settings.invalid(&options::ADMIN_JWT_SECRET, reason));
        }
        if admin.is_some() && admin == config.jwt.secret.as_ref().map(Secret::expose) {
            let reason = "must differ from jwt-secret: every user's token would be one of an admin";
            return Err(settings.invalid(&options::ADMIN_JWT_SECRET, reason));
        }
        if purpose == Purpose::Serve && !config.jwt.has_keys() {
            return Err(ConfigError::NoKeys);
        }
        Ok(config)
    }
}

impl JwtConfig {
    fn has_keys(&self) -> bool {
        self.secret.is_some() || self.keys.is_some() || !self.urls.is_empty()
    }
}

impl Config {
    /// The defaults, for a database and a secret of `walcast dev`, reachable from this machine only.
    #[must_use]
    #[expect(clippy::expect_used, reason = "nothing is read that could be wrong")]
    pub fn for_dev(database: ConnectOptions, jwt_secret: Secret, port: u16) -> Self {
        let nobody = (Flags::default(), Environment::default());
        let mut config = Self::load(&nobody.0, &nobody.1, Purpose::Inspect)
            .expect("every default is a legal value, as a test of the table shows");
        config.database = database;
        config.jwt.secret = Some(jwt_secret);
        config.http.port = port;
        "127.0.0.1".clone_into(&mut config.http.host);
        config
    }
}

/// Reads a duration such as `500ms`, `10s`, `5m` or `1h`.
///
/// # Errors
/// The text is something else; the error says what it must be.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    value::duration(text).map_err(|error| format!("must be {}", error.0))
}

impl LimitsConfig {
    /// The bounds of one connection, with the built-in ones where there is no option.
    #[must_use]
    pub fn of_connection(&self) -> Limits {
        Limits {
            channels_max: self.channels_per_connection,
            joins_per_second: self.joins_per_second,
            // A client that has all its channels must be able to join them again at once.
            joins_burst: self.joins_per_second.saturating_mul(2),
            events_per_second: self.events_per_second,
            // The reference averages over a minute, so that one minute's worth passes at once.
            events_burst: self.events_per_second.saturating_mul(60),
            payload_bytes_max: self.payload_bytes,
            presence_calls_max: (self.presence_calls, self.presence_window),
            replay_max: self.replay_messages,
            replay_public: self.replay_public,
            private_only: self.private_only,
            presence_enabled: self.presence_enabled,
            topic_bytes_max: self.topic_bytes,
            frame_bytes_max: self.frame_bytes,
            idle_timeout: self.idle_timeout,
            no_channel_timeout: self.no_channel_timeout,
            ..Limits::default()
        }
    }
}

impl LimitsConfig {
    /// What all clients together may do.
    #[must_use]
    pub fn of_server(&self) -> ServerQuotas {
        let events = self.server_events_per_second;
        ServerQuotas {
            joins: Quota::new(self.server_joins_per_second),
            events: (events > 0).then(|| Quota::new(events)),
        }
    }

    /// The calls of `track` that all clients together may make.
    #[must_use]
    pub fn presence_calls(&self) -> TokenBucket {
        let per_second = self.presence_events_per_second;
        // The reference averages over a minute, so that one minute's worth passes at once: clients
        // that come back together after a restart all appear.
        TokenBucket::new(per_second, per_second.saturating_mul(60))
    }
}

fn database(settings: &Settings) -> Result<ConnectOptions, ConfigError> {
    let host = settings.text(&options::DATABASE_HOST)?;
    let root_certificate = settings.optional(&options::DATABASE_SSL_ROOT_CERT);
    let mode = settings.text(&options::DATABASE_SSL_MODE)?;
    // A certificate to check against is only of use when it is checked. `DB_SSL=true` beside
    // `DB_SSL_CA_CERT` means the same in the reference.
    let mode_is_open = settings.is_default(&options::DATABASE_SSL_MODE)
        || (settings.is_from_variable(&options::DATABASE_SSL_MODE, "DB_SSL") && mode == "require");
    let ssl_mode = if root_certificate.is_some() && mode_is_open {
        SslMode::VerifyFull
    } else {
        match mode.as_str() {
            "disable" => SslMode::Disable,
            "require" => SslMode::Require,
            "verify-ca" => SslMode::VerifyCa,
            "verify-full" => SslMode::VerifyFull,
            _ => SslMode::Prefer,
        }
    };
    Ok(ConnectOptions {
        host: if host.starts_with('/') { Host::Unix(host.into()) } else { Host::Tcp(host) },
        port: settings.number(&options::DATABASE_PORT)?,
        user: settings.text(&options::DATABASE_USER)?,
        password: settings.secret(&options::DATABASE_PASSWORD),
        database: settings.text(&options::DATABASE_NAME)?,
        ssl_mode,
        // `system` is libpq's word for the certificates of the operating system.
        ssl_root_cert: root_certificate.filter(|path| path != "system").map(PathBuf::from),
        application_name: settings.text(&options::DATABASE_APPLICATION_NAME)?,
        connect_timeout: settings.duration(&options::DATABASE_CONNECT_TIMEOUT)?,
    })
}

fn replication(settings: &Settings) -> Result<ReplicationConfig, ConfigError> {
    let slot = settings.text(&options::SLOT)?;
    if !value::is_slot_name(&slot) {
        let reason = "a slot name has 1 to 63 lower-case letters, digits and underscores";
        return Err(settings.invalid(&options::SLOT, reason));
    }
    let publications = settings.list(&options::PUBLICATION)?;
    if publications.is_empty() {
        return Err(settings.invalid(&options::PUBLICATION, "name at least one publication"));
    }
    Ok(ReplicationConfig {
        options: ReplicationOptions {
            slot,
            temporary: settings.boolean(&options::SLOT_TEMPORARY)?,
            publications,
            wal_budget_bytes: Some(settings.bytes(&options::WAL_BUDGET)?),
            recreate_slot: false,
        },
        deletes_unverifiable: match settings.text(&options::DELETES_UNVERIFIABLE)?.as_str() {
            "withhold" => DeletesUnverifiable::Withhold,
            _ => DeletesUnverifiable::SendKey,
        },
        max_record_bytes: settings.bytes(&options::MAX_RECORD_BYTES)?,
        migrate: settings.boolean(&options::MIGRATE)?,
        messages_retention: settings.duration(&options::MESSAGES_RETENTION)?,
    })
}

fn jwt(settings: &Settings) -> Result<JwtConfig, ConfigError> {
    let keys = match settings.optional(&options::JWT_JWKS) {
        Some(text) => Some(
            KeySet::parse(&text)
                .map_err(|error| settings.invalid(&options::JWT_JWKS, error.to_string()))?,
        ),
        None => match settings.optional(&options::JWT_JWKS_FILE) {
            Some(path) => {
                let text = file::read(&path)?;
                Some(KeySet::parse(&text).map_err(|error| {
                    settings.invalid(&options::JWT_JWKS_FILE, error.to_string())
                })?)
            }
            None => None,
        },
    };
    let validators = ClaimValidators::parse(&settings.text(&options::JWT_CLAIM_VALIDATORS)?)
        .map_err(|error| settings.invalid(&options::JWT_CLAIM_VALIDATORS, error.to_string()))?;
    let mut urls = Vec::new();
    for text in settings.optional(&options::JWT_JWKS_URL).iter().flat_map(|text| value::list(text))
    {
        let url = JwksUrl::parse(&text, None);
        urls.push(
            url.map_err(|error| settings.invalid(&options::JWT_JWKS_URL, error.to_string()))?,
        );
    }
    if let Some(text) = settings.optional(&options::JWT_ISSUERS) {
        let issuers =
            issuers(&text).map_err(|reason| settings.invalid(&options::JWT_ISSUERS, reason))?;
        urls.extend(issuers);
    }
    Ok(JwtConfig { secret: settings.secret(&options::JWT_SECRET), keys, urls, validators })
}

/// Reads `[{"issuer": "…", "jwks_url": "…"}]`.
fn issuers(text: &str) -> Result<Vec<JwksUrl>, String> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Issuer {
        issuer: String,
        jwks_url: String,
    }
    let shape = "must be a list such as [{\"issuer\": \"https://example.com\", \
                 \"jwks_url\": \"https://example.com/.well-known/jwks.json\"}]";
    let issuers: Vec<Issuer> = serde_json::from_str(text).map_err(|_| shape.to_owned())?;
    let urls = issuers.into_iter().map(|Issuer { issuer, jwks_url }| {
        JwksUrl::parse(&jwks_url, Some(issuer)).map_err(|error| format!("jwks_url {error}"))
    });
    urls.collect()
}

impl fmt::Display for LogFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl HttpConfig {
    /// Whether the address is one that only this machine reaches.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

#[cfg(test)]
mod tests;
