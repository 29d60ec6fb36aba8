//! What the messages on a joined channel ask for.

use crate::{
    join::API_KEY_PREFIX,
    message::ClientPayload,
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
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PresenceAction {
    /// To be shown as present, with a state.
    Track,
    /// To be shown no longer.
    Untrack,
    /// Nothing that is known.
    Unknown,
}

/// Reads the `event` of a `presence` message, in any letter case.
#[must_use]
pub fn presence_action(payload: &ClientPayload) -> PresenceAction {
    let event = match payload {
        ClientPayload::Json(payload) => pick(payload.value(), ["event"])
            .and_then(|[event]| event)
            .and_then(raw_json::string)
            .unwrap_or_default(),
        ClientPayload::UserBroadcast(_) | ClientPayload::Push(_) => String::new(),
    };
    if event.eq_ignore_ascii_case("track") {
        PresenceAction::Track
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
        check(r#"{"event":"track","payload":{}}"#, PresenceAction::Track);
        check(r#"{"event":"UNTRACK"}"#, PresenceAction::Untrack);
        check(r#"{"event":5}"#, PresenceAction::Unknown);
        check("7", PresenceAction::Unknown);
    }
}
