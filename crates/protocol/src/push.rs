//! What the messages on a joined channel ask for.

use crate::{
    join::API_KEY_PREFIX,
    message::ClientPayload,
    presence::Tracked,
    raw_json::{self, pick},
};

/// The token an `access_token` message brings.
///
/// `None` when there is none to check: absent, `null`, no string, or an API key in its place.
#[must_use]
pub fn access_token(payload: &ClientPayload) -> Option<String> {
    let ClientPayload::Json(payload) = payload else { return None };
    let [token] = pick(payload.value(), ["access_token"])?;
    raw_json::string(token?).filter(|token| !token.starts_with(API_KEY_PREFIX))
}

/// What a `presence` message asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PresenceAction {
    /// To be shown as present, with these remarks.
    Track(Tracked),
    /// To be shown as present, with remarks that are no JSON object.
    TrackNoObject,
    /// To be shown no longer.
    Untrack,
    /// Something that is not known.
    Unknown,
    /// Nothing: there is no `event`.
    Nothing,
}

/// Reads a `presence` message; its `event` in any letter case.
#[must_use]
pub fn presence_action(payload: &ClientPayload) -> PresenceAction {
    let ClientPayload::Json(json) = payload else { return PresenceAction::Nothing };
    let Some([Some(event), remarks]) = pick(json.value(), ["event", "payload"]) else {
        return PresenceAction::Nothing;
    };
    let event = raw_json::string(event).unwrap_or_default();
    if event.eq_ignore_ascii_case("track") {
        match remarks.map_or_else(|| Some(Tracked::default()), Tracked::read) {
            Some(tracked) => PresenceAction::Track(tracked),
            None => PresenceAction::TrackNoObject,
        }
    } else if event.eq_ignore_ascii_case("untrack") {
        PresenceAction::Untrack
    } else {
        PresenceAction::Unknown
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::raw_json::RawJson;

    fn payload(json: &str) -> ClientPayload {
        ClientPayload::Json(RawJson::parse(&Bytes::copy_from_slice(json.as_bytes())).unwrap())
    }

    #[test]
    fn only_strings_that_are_no_api_keys_are_tokens() {
        let check = |json: &str, expected: Option<&str>| {
            assert_eq!(access_token(&payload(json)).as_deref(), expected, "{json}");
        };
        check(r#"{"access_token":"a.b.c"}"#, Some("a.b.c"));
        check(r#"{"access_token":""}"#, Some(""));
        check(r#"{"access_token":"sb_publishable"}"#, None);
        check(r#"{"access_token":null}"#, None);
        check(r#"{"access_token":{}}"#, None);
        check("{}", None);
        check("[]", None);
        assert_eq!(access_token(&ClientPayload::Push(Bytes::new())), None);
    }

    #[test]
    fn presence_events_are_read_in_any_case() {
        let check =
            |json: &str, expected| assert_eq!(presence_action(&payload(json)), expected, "{json}");
        let tracked = |json: &str| {
            let PresenceAction::Track(tracked) = presence_action(&payload(json)) else {
                panic!("{json} tracks nothing")
            };
            tracked
        };
        assert_eq!(tracked(r#"{"event":"track"}"#), Tracked::default());
        assert_eq!(tracked(r#"{"event":"TRACK","payload":{}}"#), Tracked::default());
        assert_ne!(tracked(r#"{"event":"Track","payload":{"a":1}}"#), Tracked::default());
        for remarks in ["null", "[]", "\"x\"", "7", "true"] {
            let json = format!(r#"{{"event":"track","payload":{remarks}}}"#);
            check(&json, PresenceAction::TrackNoObject);
        }
        check(r#"{"event":"UNTRACK"}"#, PresenceAction::Untrack);
        for event in ["5", "null", "{}", "\"\"", "\"tracks\""] {
            check(&format!(r#"{{"event":{event}}}"#), PresenceAction::Unknown);
        }
        for json in ["7", "{}", "[]", r#"{"type":"presence","payload":{}}"#] {
            check(json, PresenceAction::Nothing);
        }
        assert_eq!(presence_action(&ClientPayload::Push(Bytes::new())), PresenceAction::Nothing);
    }
}
