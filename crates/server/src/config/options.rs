//! The table of options: everything about an option that is not the code which uses it.

use super::value::{self, ConversionError};

/// One option.
#[derive(Debug)]
pub struct OptionSpec {
    /// Its name: `--NAME` on the command line, `NAME = …` in the file, `WALCAST_NAME` in the
    /// environment.
    pub name: &'static str,
    /// The part of the server it concerns.
    pub group: Group,
    /// Further variables that set it.
    pub variables: &'static [Variable],
    /// What values it takes.
    pub kind: Kind,
    /// The value when nobody sets it.
    pub default: Option<&'static str>,
    /// What it does. The first sentence stands alone in short help.
    pub doc: &'static str,
}

/// A variable of another tradition that sets an option.
#[derive(Debug)]
pub struct Variable {
    /// The name of the variable.
    pub name: &'static str,
    /// Turns the variable's value into the option's.
    pub convert: fn(&str) -> Result<String, ConversionError>,
}

/// What values an option takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
    /// The name of a file.
    File,
    /// A whole number between two bounds.
    Number {
        /// The smallest legal value.
        min: u64,
        /// The largest legal value.
        max: u64,
    },
    /// A size such as `512kB` or `1GiB`; a bare number counts bytes.
    Bytes,
    /// A duration such as `500ms`, `10s`, `5m` or `1h`.
    Duration,
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Names separated by commas, or a TOML list.
    List,
    /// A JSON document, or a TOML table. Never shown: key sets may hold secrets.
    Json,
}

/// The part of the server an option concerns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Group {
    /// Where the options themselves come from.
    Sources,
    /// The connection to PostgreSQL.
    Database,
    /// The replication stream.
    Replication,
    /// The listening socket.
    Http,
    /// Token verification.
    Jwt,
    /// Questions to PostgreSQL.
    Authorization,
    /// Bounds.
    Limits,
    /// Logs and shutdown.
    Operation,
}

impl Group {
    /// Every group, in the order of the documentation.
    pub const ALL: &'static [Self] = &[
        Self::Sources,
        Self::Database,
        Self::Replication,
        Self::Http,
        Self::Jwt,
        Self::Authorization,
        Self::Limits,
        Self::Operation,
    ];

    /// The heading of the group.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Sources => "Configuration file",
            Self::Database => "Database",
            Self::Replication => "Replication",
            Self::Http => "HTTP",
            Self::Jwt => "Tokens",
            Self::Authorization => "Authorization",
            Self::Limits => "Limits",
            Self::Operation => "Operation",
        }
    }
}

impl Kind {
    /// The bounds of a number.
    pub(super) const fn bounds(self) -> (u64, u64) {
        if let Self::Number { min, max } = self { (min, max) } else { (0, u64::MAX) }
    }
}

impl OptionSpec {
    /// The option's own variable.
    #[must_use]
    pub fn own_variable(&self) -> String {
        format!("WALCAST_{}", self.name.to_uppercase().replace('-', "_"))
    }

    /// Whether its values may be repeated in an error text.
    #[must_use]
    pub const fn is_shown(&self) -> bool {
        !matches!(self.kind, Kind::Secret | Kind::Json)
    }

    /// The option of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().copied().find(|option| option.name == name)
    }

    /// The first sentence of the doc.
    #[must_use]
    pub fn short_doc(&self) -> &'static str {
        self.doc.split_once(". ").map_or(self.doc, |(first, _)| first).trim_end_matches('.')
    }
}

const fn same(name: &'static str) -> Variable {
    Variable { name, convert: value::unchanged }
}

const COUNT: Kind = Kind::Number { min: 1, max: 10_000_000 };

macro_rules! options {
    ($($constant:ident: $group:ident, $name:literal, [$($variable:expr),*], $kind:expr, $default:expr, $doc:literal;)*) => {
        $(pub(super) const $constant: OptionSpec = OptionSpec {
            name: $name,
            group: Group::$group,
            variables: &[$($variable),*],
            kind: $kind,
            default: $default,
            doc: $doc,
        };)*
        /// Every option, in the order of the documentation.
        pub(super) static ALL: &[&OptionSpec] = &[$(&$constant),*];
    };
}

options! {
    CONFIG: Sources, "config", [], Kind::File, None,
        "A TOML file with options. Its keys are the names on this page; flags and variables win over it.";

    DATABASE_URL: Database, "database-url", [same("DATABASE_URL")], Kind::Secret, None,
        "Where PostgreSQL is: postgres://user:password@host:port/name, or key=value pairs. Understands the parameters host (a socket folder when it starts with /), port, user, password, dbname, sslmode, sslrootcert, application_name and connect_timeout. Connect directly or through a pooler in session mode: replication does not pass a transaction pooler.";
    DATABASE_HOST: Database, "database-host", [same("DB_HOST")], Kind::Text, Some("127.0.0.1"),
        "The database's host name or address, or the folder of its socket.";
    DATABASE_PORT: Database, "database-port", [same("DB_PORT")], Kind::Number { min: 1, max: 65535 }, Some("5432"),
        "The database's port.";
    DATABASE_USER: Database, "database-user", [same("DB_USER")], Kind::Text, Some("postgres"),
        "The role to connect as. It needs REPLICATION, SELECT on what is published, and membership in the roles that tokens name.";
    DATABASE_PASSWORD: Database, "database-password", [same("DB_PASSWORD")], Kind::Secret, None,
        "The role's password. Better given as a variable: flags are visible to other users of the machine.";
    DATABASE_NAME: Database, "database-name", [same("DB_NAME")], Kind::Text, Some("postgres"),
        "The database's name.";
    DATABASE_SSL_MODE: Database, "database-ssl-mode", [Variable { name: "DB_SSL", convert: value::ssl_mode_from_boolean }], Kind::Choice(&["disable", "prefer", "require", "verify-ca", "verify-full"]), Some("prefer"),
        "Whether the connection is encrypted, and what is checked. Means verify-full when database-ssl-root-cert is set and this is not. DB_SSL takes true (require, or verify-full beside DB_SSL_CA_CERT) and false (disable).";
    DATABASE_SSL_ROOT_CERT: Database, "database-ssl-root-cert", [same("DB_SSL_CA_CERT")], Kind::File, None,
        "A file with the certificates that may sign the database's, in PEM form. Without it, and for the word system, those of the operating system are used.";
    DATABASE_APPLICATION_NAME: Database, "database-application-name", [], Kind::Text, Some("walcast"),
        "The name shown in pg_stat_activity.";
    DATABASE_CONNECT_TIMEOUT: Database, "database-connect-timeout", [], Kind::Duration, Some("10s"),
        "How long connecting may take before it counts as failed.";

    SLOT: Replication, "slot", [Variable { name: "SLOT_NAME_SUFFIX", convert: value::slot_from_suffix }], Kind::Text, Some("walcast"),
        "The replication slot. It is created when missing. SLOT_NAME_SUFFIX=blue means walcast_blue.";
    SLOT_TEMPORARY: Replication, "slot-temporary", [], Kind::Boolean, Some("false"),
        "Whether the slot lives only as long as the connection. A temporary slot never retains write-ahead log while the server is away, and changes committed in that time are not delivered.";
    PUBLICATION: Replication, "publication", [], Kind::List, Some("supabase_realtime"),
        "The publication, or several separated by commas, whose tables can be subscribed to.";
    MIGRATE: Replication, "migrate", [], Kind::Boolean, Some("true"),
        "Whether serve creates what is missing in schema realtime when it starts: realtime.messages with its functions and publication. Without it, walcast migrate does.";
    MESSAGES_RETENTION: Replication, "messages-retention", [], Kind::Duration, Some("72h"),
        "How long rows of realtime.messages are kept; whole days (UTC) are dropped once the whole day is older.";
    REPLAY_PUBLIC_CHANNELS: Replication, "replay-public-channels", [], Kind::Boolean, Some("false"),
        "Whether public channels may ask for earlier messages, too. The reference allows it for private ones only.";
    MAX_REPLAYED_MESSAGES: Replication, "max-replayed-messages", [], Kind::Number { min: 1, max: 10_000 }, Some("25"),
        "Earlier messages that a join gets at most.";
    WAL_BUDGET: Replication, "wal-budget", [], Kind::Bytes, Some("1GiB"),
        "How much write-ahead log the slot may retain. Beyond it the slot is given up for a new one, and clients are told that continuity broke.";
    DELETES_UNVERIFIABLE: Replication, "deletes-unverifiable", [], Kind::Choice(&["send-key", "withhold"]), Some("send-key"),
        "What becomes of a DELETE whose old image lacks columns that row-level security reads. send-key sends the primary key to every subscriber; withhold sends nothing. REPLICA IDENTITY FULL makes such deletes verifiable.";
    MAX_RECORD_BYTES: Replication, "max-record-bytes", [], Kind::Bytes, Some("1MiB"),
        "The size of a change from which on large values are left out and error 413 is reported with it.";

    HOST: Http, "host", [same("HOST")], Kind::Text, Some("0.0.0.0"),
        "The address to listen on.";
    PORT: Http, "port", [same("PORT")], Kind::Number { min: 0, max: 65535 }, Some("4000"),
        "The port to listen on. 0 takes a free one.";
    METRICS_JWT_SECRET: Http, "metrics-jwt-secret", [same("METRICS_JWT_SECRET")], Kind::Secret, None,
        "Closes /metrics to all but bearers of a token signed with this secret. Without it the route is open.";

    ADMIN_JWT_SECRET: Http, "admin-jwt-secret", [], Kind::Secret, None,
        "Opens the admin endpoints, /admin/api/…, to bearers of a token signed with this secret (HS256). At least 32 characters, and another one than jwt-secret. Without it there are no such endpoints.";

    JWT_SECRET: Jwt, "jwt-secret", [same("JWT_SECRET"), same("API_JWT_SECRET")], Kind::Secret, None,
        "The secret that signs HS256, HS384 and HS512 tokens. This, jwt-jwks or jwt-jwks-url is required.";
    JWT_JWKS: Jwt, "jwt-jwks", [same("API_JWT_JWKS")], Kind::Json, None,
        "A JSON Web Key Set, {\"keys\": […]}. Tokens signed with RS256 to RS512, ES256 to ES512 or EdDSA (Ed25519) choose a key of it by their kid.";
    JWT_JWKS_FILE: Jwt, "jwt-jwks-file", [], Kind::File, None,
        "A file with the JSON Web Key Set, read at start.";
    JWT_JWKS_URL: Jwt, "jwt-jwks-url", [], Kind::List, None,
        "The URL of a JSON Web Key Set, or several separated by commas. It is fetched at start, then as often as its Cache-Control says (every minute to every day, else every ten minutes), and when a token names a key that is not known. Keys stay when fetching fails. https only; http for loopback and private addresses and for names without a dot. Shared secrets in it are left out.";
    JWT_ISSUERS: Jwt, "jwt-issuers", [], Kind::Json, None,
        "Key sets as with jwt-jwks-url that count for the tokens of one issuer only: [{\"issuer\": \"https://example.com\", \"jwks_url\": \"https://example.com/.well-known/jwks.json\"}]. The claim iss of a token must be the issuer, letter by letter.";
    JWT_CLAIM_VALIDATORS: Jwt, "jwt-claim-validators", [same("JWT_CLAIM_VALIDATORS")], Kind::Json, Some("{}"),
        "A JSON object of claims with the exact values they must have in tokens that carry them. For example {\"iss\": \"https://example.com\"}.";

    PRIVATE_ONLY: Authorization, "private-only", [], Kind::Boolean, Some("false"),
        "Whether only private channels can be joined. Others are refused with PrivateOnly.";
    PRESENCE_ENABLED: Authorization, "presence-enabled", [], Kind::Boolean, Some("false"),
        "Whether every channel takes part in presence, also one that does not ask for it.";
    AUTHORIZATION_TIMEOUT: Authorization, "authorization-timeout", [], Kind::Duration, Some("1s"),
        "The longest a policy may take in PostgreSQL. A policy that takes longer denies the row.";
    AUTHORIZATION_CONNECTIONS: Authorization, "authorization-connections", [], Kind::Number { min: 1, max: 1000 }, Some("4"),
        "How many database connections evaluate policies.";
    CATALOGUE_MAX_AGE: Authorization, "catalogue-max-age", [], Kind::Duration, Some("1s"),
        "How old the knowledge of policies and privileges may be when it is used. It is read again only while changes arrive. With the event triggers of walcast migrate, changes of definitions take effect at their place whatever the age; the age then bounds what no trigger sees, such as membership in roles.";

    MAX_CONNECTIONS: Limits, "max-connections", [same("MAX_CONNECTIONS")], COUNT, Some("16384"),
        "How many sockets may be open.";
    MAX_CONCURRENT_USERS: Limits, "max-concurrent-users", [same("TENANT_MAX_CONCURRENT_USERS")], COUNT, Some("16384"),
        "How many connections may have channels. Beyond it connecting is answered with 429 and joining with an error.";
    MAX_CHANNELS_PER_CONNECTION: Limits, "max-channels-per-connection", [same("TENANT_MAX_CHANNELS_PER_CLIENT")], COUNT, Some("100"),
        "How many channels one connection may have.";
    MAX_JOINS_PER_SECOND: Limits, "max-joins-per-second", [], COUNT, Some("100"),
        "How many channels one connection may join per second. Beyond it the connection is closed.";
    MAX_SERVER_JOINS_PER_SECOND: Limits, "max-server-joins-per-second", [same("TENANT_MAX_JOINS_PER_SECOND")], COUNT, Some("100"),
        "How many channels all connections together may join per second, averaged over a minute. Beyond it connecting is answered with 429, and a join with an error before its connection is closed.";
    MAX_EVENTS_PER_SECOND: Limits, "max-events-per-second", [same("TENANT_MAX_EVENTS_PER_SECOND")], COUNT, Some("100"),
        "How many broadcasts one connection may send per second, averaged over a minute. One more closes the channel it was sent on with the message Too many messages per second.";
    MAX_HTTP_EVENTS_PER_SECOND: Limits, "max-http-events-per-second", [], COUNT, Some("100"),
        "How many broadcasts all HTTP requests together may send per second, averaged over a minute. More are answered with 429.";
    MAX_SERVER_EVENTS_PER_SECOND: Limits, "max-server-events-per-second", [], Kind::Number { min: 0, max: 1_000_000_000 }, Some("0"),
        "How many broadcasts all connections and HTTP requests together may send per second, averaged over a minute. One more closes the channel it was sent on, or is answered with 429. 0 sets no bound. Messages from SQL are never dropped for it.";
    MAX_PAYLOAD_BYTES: Limits, "max-payload-bytes", [], Kind::Bytes, Some("3000500"),
        "The largest payload of a broadcast. A larger one goes to nobody; who asked for replies is told payload_size_exceeded. Also the largest object a channel may track; a larger one closes the channel with the message Track message size exceeded.";
    MAX_PRESENCE_EVENTS_PER_SECOND: Limits, "max-presence-events-per-second", [], COUNT, Some("1000"),
        "How many calls of track all clients may make per second, averaged over a minute. One more closes the channel of the call with the message Too many presence messages per second.";
    MAX_PRESENCE_CALLS: Limits, "max-presence-calls", [same("CLIENT_PRESENCE_MAX_CALLS")], COUNT, Some("5"),
        "How many calls of track and untrack one channel may make within presence-calls-window. One more closes the channel with the message Client presence rate limit exceeded.";
    PRESENCE_CALLS_WINDOW: Limits, "presence-calls-window", [Variable { name: "CLIENT_PRESENCE_WINDOW_MS", convert: value::milliseconds }], Kind::Duration, Some("30s"),
        "The time in which max-presence-calls counts. CLIENT_PRESENCE_WINDOW_MS takes milliseconds.";
    MAX_TOPIC_BYTES: Limits, "max-topic-bytes", [], Kind::Number { min: 32, max: 65_536 }, Some("1024"),
        "The longest topic of a join, with its prefix realtime:. A longer one is refused with TopicNameTooLong. Binary frames carry at most 255 bytes.";
    MAX_FRAME_BYTES: Limits, "max-frame-bytes", [], Kind::Bytes, Some("5000000"),
        "The largest frame a client may send. A larger one closes the connection with code 1009.";
    IDLE_TIMEOUT: Limits, "idle-timeout", [], Kind::Duration, Some("60s"),
        "The silence after which a connection is closed. Clients send a heartbeat about every 25 seconds.";
    NO_CHANNEL_TIMEOUT: Limits, "no-channel-timeout", [Variable { name: "NO_CHANNEL_TIMEOUT_IN_MS", convert: value::milliseconds }], Kind::Duration, Some("10m"),
        "How long a connection stays open after it has left all its channels. NO_CHANNEL_TIMEOUT_IN_MS takes milliseconds.";
    MAX_SILENT_SOCKETS: Limits, "max-silent-sockets", [], COUNT, Some("1024"),
        "How many sockets may be open without a request under way and without having become a WebSocket. One more closes the one that has been silent for longest, so that sockets which say nothing keep nobody out.";
    MAX_HEADER_BYTES: Limits, "max-header-bytes", [same("MAX_HEADER_LENGTH")], COUNT, Some("4096"),
        "The longest value of a request header. A longer one is answered with 431.";
    OUTBOUND_QUEUE_FRAMES: Limits, "outbound-queue-frames", [], COUNT, Some("4096"),
        "How many frames may wait for a client that reads slowly. Beyond it the connection is closed.";
    OUTBOUND_QUEUE_BYTES: Limits, "outbound-queue-bytes", [], Kind::Bytes, Some("16MiB"),
        "How many bytes may wait for a client that reads slowly. Beyond it the connection is closed.";

    LOG_LEVEL: Operation, "log-level", [Variable { name: "LOG_LEVEL", convert: value::log_level }], Kind::Text, Some("info"),
        "What is logged: error, warn, info, debug, trace or off. Directives for parts are understood, such as info,walcast_server::authz=debug.";
    LOG_FORMAT: Operation, "log-format", [], Kind::Choice(&["text", "json"]), Some("text"),
        "The shape of a log line.";
    SHUTDOWN_TIMEOUT: Operation, "shutdown-timeout", [], Kind::Duration, Some("10s"),
        "How long stopping may take. Connections that are still open then are dropped.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_name_or_variable_is_given_twice() {
        let mut seen = BTreeSet::new();
        for option in ALL {
            assert!(seen.insert(option.name.to_owned()), "{} is declared twice", option.name);
            assert!(seen.insert(option.own_variable()), "{}", option.own_variable());
            for variable in option.variables {
                assert!(seen.insert(variable.name.to_owned()), "{}", variable.name);
            }
        }
    }

    #[test]
    fn every_doc_is_made_of_sentences() {
        for option in ALL {
            assert!(option.doc.ends_with('.'), "{}", option.name);
            assert!(!option.short_doc().is_empty(), "{}", option.name);
        }
    }

    #[test]
    fn every_default_is_a_legal_value() {
        for option in ALL {
            if let Some(default) = option.default {
                assert_eq!(value::check(option.kind, default), Ok(()), "{}", option.name);
            }
        }
    }
}
