//! The payload of a join, read as leniently as clients need it.

use std::{fmt, time::Duration};

use serde_json::value::RawValue;

use crate::{
    binding::BindingItem,
    error_code::{ErrorCode, JoinError},
    message::{ClientPayload, Topic},
    raw_json::{self, RawJson, pick},
};

/// What a client wants of a channel.
#[derive(Clone, Eq, PartialEq)]
pub struct JoinConfig {
    /// Whether the topic is guarded by policies.
    pub is_private: bool,
    /// How broadcasts are treated.
    pub broadcast: BroadcastConfig,
    /// How presence is treated.
    pub presence: PresenceConfig,
    /// What it listens to.
    pub postgres_changes: Vec<BindingItem>,
    /// How long the reply may be held until the subscription is in place; `None` replies at once.
    pub wait: Option<Duration>,
    /// The token for this channel; `None` means the connection's.
    pub token: Option<Box<str>>,
    /// Whether the client speaks the interface of before 2022: no `config`, the topic is the
    /// binding, and events are called INSERT, UPDATE and DELETE.
    pub is_legacy: bool,
    /// Fields that had the wrong type and were ignored.
    pub warnings: Vec<JoinWarning>,
}

/// The `broadcast` part of a join.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BroadcastConfig {
    /// Whether each broadcast is replied to.
    pub acknowledge: bool,
    /// Whether the sender receives its own broadcasts.
    pub include_self: bool,
    /// Earlier broadcasts that are asked for.
    pub replay: Option<Replay>,
    /// Whether to say when broadcasts from the database flow.
    pub replication_ready: bool,
}

/// Which earlier broadcasts are asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Replay {
    /// Not older than this, in ms since 1970.
    pub since_ms: i64,
    /// At most so many.
    pub limit: u16,
}

/// The `presence` part of a join.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PresenceConfig {
    /// Whether presence is wanted from the start.
    pub is_enabled: bool,
    /// The key to appear under; `None` asks for a random one.
    pub key: Option<Box<str>>,
}

/// A field that had the wrong type and was ignored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct JoinWarning {
    /// Where it stands.
    pub path: &'static str,
    /// What belongs there.
    pub expected: &'static str,
}

impl fmt::Display for JoinWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: unable to parse, expected {}", self.path, self.expected)
    }
}

/// How long a join waits for its subscription unless it says otherwise.
const WAIT_DEFAULT: Duration = Duration::from_millis(15_000);
/// Broadcasts replayed unless the client says otherwise, and at most.
const REPLAY_LIMIT_DEFAULT: u16 = 10;
const REPLAY_LIMIT_MAX: u16 = 10_000;
/// Keys of the hosted service begin so; they are not tokens, and clients send them in their place.
pub(crate) const API_KEY_PREFIX: &str = "sb_";

impl JoinConfig {
    /// Reads the payload of a join on `topic`.
    ///
    /// Fields of a wrong type take their defaults; what fails the join is only what the reference
    /// server cannot survive either: a payload, `config.broadcast` or an item of
    /// `postgres_changes` that is no object.
    pub fn parse(topic: &Topic, payload: &ClientPayload) -> Result<Self, JoinError> {
        let refused = |text| JoinError::new(ErrorCode::UnknownErrorOnChannel, text);
        let ClientPayload::Json(payload) = payload else {
            return Err(refused("join payload must be a JSON object"));
        };
        let [config, access_token, user_token] =
            pick(payload.value(), ["config", "access_token", "user_token"])
                .ok_or_else(|| refused("join payload must be an object"))?;
        let mut reader = Reader { warnings: Vec::new() };
        let is_legacy = config.is_none();
        let [is_private, broadcast, presence, changes, changes_options] = reader.object(
            "config",
            config,
            ["private", "broadcast", "presence", "postgres_changes", "postgres_changes_options"],
        );
        if broadcast.is_some_and(|value| !raw_json::is_null(value) && !is_object(value)) {
            return Err(refused("config.broadcast must be an object"));
        }
        let postgres_changes = if is_legacy {
            vec![BindingItem::from_sub_topic(topic.sub_topic().unwrap_or_default())]
        } else {
            reader
                .items(changes)
                .ok_or_else(|| refused("items of config.postgres_changes must be objects"))?
        };
        let access_token = reader.string("access_token", access_token);
        let user_token = reader.string("user_token", user_token);
        Ok(Self {
            is_private: reader.flag("config.private", is_private),
            broadcast: reader.broadcast(broadcast),
            presence: reader.presence(presence),
            postgres_changes,
            wait: reader.wait(changes_options),
            token: choose_token(access_token, user_token),
            is_legacy,
            warnings: reader.warnings,
        })
    }
}

impl fmt::Debug for JoinConfig {
    /// Leaves the token out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinConfig")
            .field("is_private", &self.is_private)
            .field("broadcast", &self.broadcast)
            .field("presence", &self.presence)
            .field("postgres_changes", &self.postgres_changes)
            .field("wait", &self.wait)
            .field("is_legacy", &self.is_legacy)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// The token a join brings, if it is one.
fn choose_token(access_token: Option<String>, user_token: Option<String>) -> Option<Box<str>> {
    let first = access_token.as_ref().or(user_token.as_ref())?;
    if first.starts_with(API_KEY_PREFIX) {
        return None;
    }
    user_token.or(access_token).map(String::into_boxed_str)
}

fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

/// Reads fields, remembering those of a wrong type.
struct Reader {
    warnings: Vec<JoinWarning>,
}

impl Reader {
    fn warn(&mut self, path: &'static str, expected: &'static str) {
        self.warnings.push(JoinWarning { path, expected });
    }

    /// `null` is absent everywhere.
    fn object<'a, const N: usize>(
        &mut self,
        path: &'static str,
        value: Option<&'a RawValue>,
        keys: [&str; N],
    ) -> [Option<&'a RawValue>; N] {
        let Some(value) = value.filter(|value| !raw_json::is_null(value)) else { return [None; N] };
        pick(value, keys).unwrap_or_else(|| {
            self.warn(path, "a map");
            [None; N]
        })
    }

    /// A boolean, or a string that spells one.
    fn flag(&mut self, path: &'static str, value: Option<&RawValue>) -> bool {
        let Some(value) = value.filter(|value| !raw_json::is_null(value)) else { return false };
        let text = raw_json::string(value);
        match text.as_deref().unwrap_or(value.get()) {
            word if text.is_some() && word.eq_ignore_ascii_case("true") => true,
            word if text.is_some() && word.eq_ignore_ascii_case("false") => false,
            "true" => true,
            "false" => false,
            _ => {
                self.warn(path, "boolean");
                false
            }
        }
    }

    fn integer(&mut self, path: &'static str, value: Option<&RawValue>) -> Option<i64> {
        let value = value.filter(|value| !raw_json::is_null(value))?;
        let integer = serde_json::from_str(value.get()).ok();
        if integer.is_none() {
            self.warn(path, "integer");
        }
        integer
    }

    fn string(&mut self, path: &'static str, value: Option<&RawValue>) -> Option<String> {
        let value = value.filter(|value| !raw_json::is_null(value))?;
        let text = raw_json::string(value);
        if text.is_none() {
            self.warn(path, "string");
        }
        text
    }

    fn broadcast(&mut self, value: Option<&RawValue>) -> BroadcastConfig {
        let [acknowledge, include_self, replay, replication_ready] =
            self.object("config.broadcast", value, ["ack", "self", "replay", "replication_ready"]);
        BroadcastConfig {
            acknowledge: self.flag("config.broadcast.ack", acknowledge),
            include_self: self.flag("config.broadcast.self", include_self),
            // The key alone asks for it, even as `null`.
            replay: replay.map(|replay| self.replay(replay)),
            replication_ready: self.flag("config.broadcast.replication_ready", replication_ready),
        }
    }

    fn replay(&mut self, value: &RawValue) -> Replay {
        let [since, limit] =
            self.object("config.broadcast.replay", Some(value), ["since", "limit"]);
        let since_ms = self.integer("config.broadcast.replay.since", since).unwrap_or(0).max(0);
        let limit = self
            .integer("config.broadcast.replay.limit", limit)
            .unwrap_or_else(|| REPLAY_LIMIT_DEFAULT.into())
            .clamp(1, REPLAY_LIMIT_MAX.into());
        Replay { since_ms, limit: u16::try_from(limit).unwrap_or(REPLAY_LIMIT_MAX) }
    }

    fn presence(&mut self, value: Option<&RawValue>) -> PresenceConfig {
        let [enabled, key] = self.object("config.presence", value, ["enabled", "key"]);
        let key = key.filter(|key| !raw_json::is_null(key)).map(|key| {
            raw_json::string(key).unwrap_or_else(|| key.get().to_owned()).into_boxed_str()
        });
        PresenceConfig {
            is_enabled: self.flag("config.presence.enabled", enabled),
            key: key.filter(|key| !key.is_empty()),
        }
    }

    /// The items but for `null`; `None` when one of them is no object.
    fn items(&mut self, value: Option<&RawValue>) -> Option<Vec<BindingItem>> {
        let Some(value) = value.filter(|value| !raw_json::is_null(value)) else {
            return Some(Vec::new());
        };
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(value.get()) else {
            self.warn("config.postgres_changes", "an array of maps");
            return Some(Vec::new());
        };
        items
            .into_iter()
            .filter(|item| !raw_json::is_null(item))
            .map(|item| BindingItem::new(RawJson::copied(item)))
            .collect()
    }

    fn wait(&mut self, value: Option<&RawValue>) -> Option<Duration> {
        let [wait, timeout] =
            self.object("config.postgres_changes_options", value, ["wait", "timeout"]);
        let timeout = match self.integer("config.postgres_changes_options.timeout", timeout) {
            None => WAIT_DEFAULT,
            Some(milliseconds) => match u64::try_from(milliseconds) {
                Ok(milliseconds @ 1..) => Duration::from_millis(milliseconds),
                Ok(0) | Err(_) => {
                    self.warn("config.postgres_changes_options.timeout", "integer");
                    WAIT_DEFAULT
                }
            },
        };
        self.flag("config.postgres_changes_options.wait", wait).then_some(timeout)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn parse(payload: &str) -> Result<JoinConfig, JoinError> {
        let json = RawJson::parse(&Bytes::copy_from_slice(payload.as_bytes())).unwrap();
        JoinConfig::parse(&Topic::new("realtime:room"), &ClientPayload::Json(json))
    }

    fn config(config: &str) -> JoinConfig {
        parse(&format!(r#"{{"config":{config}}}"#)).unwrap()
    }

    fn warnings(config: &JoinConfig) -> Vec<String> {
        config.warnings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_join_of_the_javascript_client_is_read() {
        let join = parse(
            r#"{"config":{"broadcast":{"ack":true,"self":true},"presence":{"key":"u1","enabled":true},
                "postgres_changes":[{"event":"INSERT","schema":"public","table":"todos"}],
                "private":false},"access_token":"a.b.c","version":"realtime-js/2"}"#,
        )
        .unwrap();
        assert!(join.broadcast.acknowledge && join.broadcast.include_self && !join.is_private);
        assert_eq!(join.broadcast.replay, None);
        assert_eq!(join.presence.key.as_deref(), Some("u1"));
        assert!(join.presence.is_enabled && !join.is_legacy);
        assert_eq!(join.postgres_changes.len(), 1);
        assert_eq!(join.token.as_deref(), Some("a.b.c"));
        assert_eq!(join.wait, None);
        assert_eq!(join.warnings, []);
        assert!(!format!("{join:?}").contains("a.b.c"));
    }

    #[test]
    fn flags_are_booleans_or_words() {
        let check = |value: &str, expected: bool, is_valid: bool| {
            let join = config(&format!(r#"{{"private":{value}}}"#));
            assert_eq!(join.is_private, expected, "{value}");
            assert_eq!(join.warnings.is_empty(), is_valid, "{value}");
        };
        check("true", true, true);
        check("false", false, true);
        check("null", false, true);
        check(r#""TRUE""#, true, true);
        check(r#""False""#, false, true);
        check(r#""yes""#, false, false);
        check("1", false, false);
        check("[]", false, false);
        check(r#"" true""#, false, false);
    }

    #[test]
    fn wrong_types_take_defaults_and_leave_a_warning() {
        let check = |json: &str, expected: &[&str]| {
            assert_eq!(warnings(&config(json)), expected, "{json}");
        };
        check("null", &[]);
        check("{}", &[]);
        check("5", &["config: unable to parse, expected a map"]);
        check(r#"{"presence":"x"}"#, &["config.presence: unable to parse, expected a map"]);
        check(
            r#"{"postgres_changes":{"a":1}}"#,
            &["config.postgres_changes: unable to parse, expected an array of maps"],
        );
        check(
            r#"{"broadcast":{"ack":"x","replay":{"since":"now","limit":2.5}},"presence":{"enabled":0}}"#,
            &[
                "config.broadcast.ack: unable to parse, expected boolean",
                "config.broadcast.replay.since: unable to parse, expected integer",
                "config.broadcast.replay.limit: unable to parse, expected integer",
                "config.presence.enabled: unable to parse, expected boolean",
            ],
        );
        assert_eq!(
            warnings(&parse(r#"{"config":{},"access_token":5}"#).unwrap()),
            ["access_token: unable to parse, expected string"]
        );
    }

    #[test]
    fn only_what_cannot_be_read_at_all_fails_the_join() {
        let check = |payload: &str, expected: &str| {
            let error = parse(payload).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("UnknownErrorOnChannel: {expected}"),
                "{payload}"
            );
        };
        check("[]", "join payload must be an object");
        check("null", "join payload must be an object");
        check(r#"{"config":{"broadcast":"x"}}"#, "config.broadcast must be an object");
        check(
            r#"{"config":{"postgres_changes":[{},5]}}"#,
            "items of config.postgres_changes must be objects",
        );
        let push = ClientPayload::Push(Bytes::new());
        assert!(JoinConfig::parse(&Topic::new("realtime:room"), &push).is_err());
    }

    #[test]
    fn null_items_are_dropped() {
        assert_eq!(
            config(r#"{"postgres_changes":[null,{"table":"t"},null]}"#).postgres_changes.len(),
            1
        );
        assert_eq!(config(r#"{"postgres_changes":null}"#).postgres_changes.len(), 0);
    }

    #[test]
    fn the_token_is_chosen_in_the_documented_order() {
        let check = |payload: &str, expected: Option<&str>| {
            assert_eq!(parse(payload).unwrap().token.as_deref(), expected, "{payload}");
        };
        check(r#"{"config":{}}"#, None);
        check(r#"{"config":{},"access_token":"a"}"#, Some("a"));
        check(r#"{"config":{},"access_token":""}"#, Some(""));
        check(r#"{"config":{},"access_token":null,"user_token":"u"}"#, Some("u"));
        check(r#"{"config":{},"access_token":"a","user_token":"u"}"#, Some("u"));
        check(r#"{"config":{},"access_token":"sb_a","user_token":"u"}"#, None);
        check(r#"{"config":{},"user_token":"sb_u"}"#, None);
        check(r#"{"config":{},"access_token":"a","user_token":"sb_u"}"#, Some("sb_u"));
        check(r#"{"config":{},"access_token":7}"#, None);
    }

    #[test]
    fn waiting_is_optional_and_has_a_default() {
        let check = |options: &str, expected: Option<u64>| {
            let join = config(&format!(r#"{{"postgres_changes_options":{options}}}"#));
            assert_eq!(join.wait, expected.map(Duration::from_millis), "{options}");
        };
        check("null", None);
        check("{}", None);
        check(r#"{"timeout":5}"#, None);
        check(r#"{"wait":true}"#, Some(15_000));
        check(r#"{"wait":"true","timeout":5}"#, Some(5));
        check(r#"{"wait":true,"timeout":0}"#, Some(15_000));
        check(r#"{"wait":true,"timeout":-1}"#, Some(15_000));
        check(r#"{"wait":true,"timeout":"5"}"#, Some(15_000));
    }

    #[test]
    fn replay_is_asked_for_by_the_key_alone() {
        let check = |replay: &str, since_ms, limit| {
            let join = config(&format!(r#"{{"broadcast":{{"replay":{replay}}}}}"#));
            assert_eq!(join.broadcast.replay, Some(Replay { since_ms, limit }), "{replay}");
        };
        check("null", 0, 10);
        check("{}", 0, 10);
        check(r#"{"since":17,"limit":3}"#, 17, 3);
        check(r#"{"since":-17,"limit":0}"#, 0, 1);
        check(r#"{"limit":9000}"#, 0, 9_000);
        check(r#"{"limit":9223372036854775807}"#, 0, 10_000);
    }

    #[test]
    fn presence_keys_become_text() {
        let check = |key: &str, expected: Option<&str>| {
            let join = config(&format!(r#"{{"presence":{{"key":{key}}}}}"#));
            assert_eq!(join.presence.key.as_deref(), expected, "{key}");
        };
        check("null", None);
        check(r#""""#, None);
        check(r#""me""#, Some("me"));
        check("7", Some("7"));
    }

    #[test]
    fn without_config_the_topic_is_the_binding() {
        let join = parse("{}").unwrap();
        assert!(join.is_legacy);
        assert_eq!(join.postgres_changes, [BindingItem::from_sub_topic("room")]);
    }
}
