//! The few messages that listening needs, in version 2.0.0 of the serialiser.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, json, value::RawValue};

/// The topic that is joined. Its name has no meaning for changes.
const TOPIC: &str = "realtime:walcast-listen";

/// The reference of the join.
const JOIN: &str = "1";

/// A heartbeat.
pub(super) const HEARTBEAT: &str = r#"[null,"2","phoenix","heartbeat",{}]"#;

/// One subscription to changes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Binding {
    /// `INSERT`, `UPDATE`, `DELETE` or `*`.
    pub event: String,
    /// The schema, or `*`.
    pub schema: String,
    /// The table, or `*`.
    pub table: String,
    /// Conditions such as `id=eq.1`.
    pub filter: Option<String>,
    /// The columns to deliver; all when there are none.
    pub select: Vec<String>,
}

impl Binding {
    fn to_json(&self) -> Value {
        let mut members = Map::new();
        members.insert("event".to_owned(), self.event.as_str().into());
        members.insert("schema".to_owned(), self.schema.as_str().into());
        members.insert("table".to_owned(), self.table.as_str().into());
        if let Some(filter) = &self.filter {
            members.insert("filter".to_owned(), filter.as_str().into());
        }
        if !self.select.is_empty() {
            members.insert("select".to_owned(), self.select.clone().into());
        }
        members.into()
    }
}

/// What the server says.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Push {
    /// The join succeeded.
    Joined,
    /// The join failed.
    Refused { reason: String },
    /// The state of the subscription, or why the channel ends.
    System { ok: bool, message: String },
    /// The channel has ended.
    Closed,
    /// A change, as one line.
    Change { data: String },
    /// Of no interest here.
    Other,
}

/// The join with these bindings.
pub(super) fn join(token: &str, bindings: &[Binding]) -> String {
    let changes: Vec<Value> = bindings.iter().map(Binding::to_json).collect();
    let payload = json!({"config": {"postgres_changes": changes}, "access_token": token});
    json!([JOIN, JOIN, TOPIC, "phx_join", payload]).to_string()
}

/// Reads a text frame.
pub(super) fn read(text: &str) -> Push {
    let Ok(frame) = serde_json::from_str::<Frame<'_>>(text) else { return Push::Other };
    let Frame(_, reference, topic, event, payload) = frame;
    if topic != TOPIC {
        return Push::Other;
    }
    match event.as_str() {
        "phx_reply" if reference.as_deref() == Some(JOIN) => read_reply(payload),
        "phx_close" | "phx_error" => Push::Closed,
        "system" => read_system(payload),
        "postgres_changes" => read_change(payload),
        _ => Push::Other,
    }
}

/// `[join_ref, ref, topic, event, payload]`.
#[derive(Deserialize)]
struct Frame<'a>(IgnoredAny, Option<String>, String, String, #[serde(borrow)] &'a RawValue);

fn read_reply(payload: &RawValue) -> Push {
    #[derive(Deserialize)]
    struct Reply {
        status: String,
        #[serde(default)]
        response: Value,
    }
    match serde_json::from_str::<Reply>(payload.get()) {
        Ok(reply) if reply.status == "ok" => Push::Joined,
        Ok(reply) => {
            let reason = reply.response.get("reason").and_then(Value::as_str);
            Push::Refused {
                reason: reason.map_or_else(|| reply.response.to_string(), str::to_owned),
            }
        }
        Err(_) => Push::Other,
    }
}

fn read_system(payload: &RawValue) -> Push {
    #[derive(Deserialize)]
    struct System {
        status: String,
        message: String,
    }
    match serde_json::from_str::<System>(payload.get()) {
        Ok(System { status, message }) => Push::System { ok: status == "ok", message },
        Err(_) => Push::Other,
    }
}

fn read_change(payload: &RawValue) -> Push {
    #[derive(Deserialize)]
    struct Change<'a> {
        // Kept as it was sent: large numbers would suffer from being read.
        #[serde(borrow)]
        data: &'a RawValue,
    }
    match serde_json::from_str::<Change<'_>>(payload.get()) {
        // Between JSON values a line break is a space like others; inside strings it cannot stand.
        Ok(Change { data }) => Push::Change { data: data.get().replace(['\n', '\r'], " ") },
        Err(_) => Push::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_join_has_only_what_was_asked_for() {
        let plain = Binding {
            event: "*".to_owned(),
            schema: "public".to_owned(),
            table: "messages".to_owned(),
            ..Binding::default()
        };
        let full = Binding {
            event: "INSERT".to_owned(),
            filter: Some("id=eq.1".to_owned()),
            select: vec!["a".to_owned()],
            ..plain.clone()
        };
        let frame: Value = serde_json::from_str(&join("token", &[plain, full])).unwrap();
        assert_eq!(
            frame,
            json!(["1", "1", "realtime:walcast-listen", "phx_join", {
                "config": {"postgres_changes": [
                    {"event": "*", "schema": "public", "table": "messages"},
                    {"event": "INSERT", "schema": "public", "table": "messages",
                     "filter": "id=eq.1", "select": ["a"]},
                ]},
                "access_token": "token",
            }])
        );
    }

    #[test]
    fn messages_are_told_apart() {
        let check = |event: &str, payload: &str, expected: Push| {
            let frame = format!(r#"["1","1","{TOPIC}","{event}",{payload}]"#);
            assert_eq!(read(&frame), expected, "{frame}");
        };
        check("phx_reply", r#"{"status":"ok","response":{"postgres_changes":[]}}"#, Push::Joined);
        check(
            "phx_reply",
            r#"{"status":"error","response":{"reason":"MalformedJWT: no"}}"#,
            Push::Refused { reason: "MalformedJWT: no".to_owned() },
        );
        check(
            "system",
            r#"{"status":"ok","message":"Subscribed to PostgreSQL","extension":"postgres_changes"}"#,
            Push::System { ok: true, message: "Subscribed to PostgreSQL".to_owned() },
        );
        check(
            "system",
            r#"{"status":"error","message":"no"}"#,
            Push::System { ok: false, message: "no".to_owned() },
        );
        check("phx_close", "{}", Push::Closed);
        check("phx_error", "{}", Push::Closed);
        check("presence_state", "{}", Push::Other);
        check("system", "[]", Push::Other);
        check(
            "postgres_changes",
            "{\"ids\":[1],\"data\":{\"record\":{\n\"id\":12345678901234567890123}}}",
            Push::Change { data: "{\"record\":{ \"id\":12345678901234567890123}}".to_owned() },
        );
        for other in ["", "[]", "{}", r#"[null,"2","phoenix","phx_reply",{"status":"ok"}]"#] {
            assert_eq!(read(other), Push::Other, "{other}");
        }
    }
}
