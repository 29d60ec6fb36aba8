//! Any input in any order: no panic, no bound passed, no deadline in the past.

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::*;
use crate::RightsFailure;

/// One thing that happens, with few enough names that things meet.
#[derive(Clone, Debug)]
enum Step {
    Pass(u16),
    Frame(String),
    Verified(u32, &'static str, Result<u16, ()>),
    Subscribed(u32, u32, u8),
    Authorized(u32, u32, u8),
    Replayed(u32, bool),
    Lost(u32),
    PresenceState(u32),
    PresenceRefused(u32),
    Activity,
    Tick,
    Shutdown,
}

const TOKENS: [&str; 4] = ["connection", "a", "b", ""];

fn tokens() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&TOKENS[..])
}

fn frames() -> impl Strategy<Value = String> {
    let topics = proptest::sample::select(
        &["realtime:a", "realtime:b", "realtime:c", "realtime:d", "phoenix", "realtime:", "x"][..],
    );
    let events = proptest::sample::select(
        &[
            "phx_join",
            "phx_join",
            "phx_leave",
            "access_token",
            "broadcast",
            "presence",
            "presence",
            "presence",
            "heartbeat",
            "y",
        ][..],
    );
    let actions = proptest::sample::select(&["track", "track", "untrack", "x"][..]);
    let refs = proptest::sample::select(&["null", "1", "\"1\"", "\"2\"", "\"long reference\""][..]);
    let configs = proptest::sample::select(
        &[
            "{}",
            r#"{"private":true}"#,
            r#"{"private":true,"broadcast":{"ack":true,"replay":{}},"presence":{"enabled":true}}"#,
            r#"{"broadcast":{"ack":true}}"#,
            r#"{"presence":{"enabled":true,"key":"k"}}"#,
            r#"{"postgres_changes":[{"table":"t"}]}"#,
            r#"{"postgres_changes":[{"table":"t","filter":"x"}]}"#,
            r#"{"postgres_changes":[{"table":"t"}],"postgres_changes_options":{"wait":true,"timeout":3000}}"#,
            r#"{"postgres_changes":5}"#,
        ][..],
    );
    (refs.clone(), refs, topics, events, configs, tokens(), actions).prop_map(
        |(join_ref, reference, topic, event, config, token, action)| {
            format!(
                r#"[{join_ref},{reference},"{topic}","{event}",{{"config":{config},"access_token":"{token}","event":"{action}","payload":{config}}}]"#
            )
        },
    )
}

fn steps() -> impl Strategy<Value = Step> {
    let channels = || 0_u32..30;
    prop_oneof![
        2 => (0_u16..20_000).prop_map(Step::Pass),
        8 => frames().prop_map(Step::Frame),
        1 => any::<String>().prop_map(Step::Frame),
        4 => (channels(), tokens(), prop_oneof![(0_u16..100).prop_map(Ok), Just(Err(()))])
            .prop_map(|(channel, token, result)| Step::Verified(channel, token, result)),
        4 => (channels(), 0_u32..4, any::<u8>())
            .prop_map(|(channel, attempt, result)| Step::Subscribed(channel, attempt, result)),
        4 => (channels(), 0_u32..4, any::<u8>())
            .prop_map(|(channel, question, answer)| Step::Authorized(channel, question, answer)),
        2 => (channels(), any::<bool>()).prop_map(|(channel, is_read)| Step::Replayed(channel, is_read)),
        1 => channels().prop_map(Step::Lost),
        1 => channels().prop_map(Step::PresenceRefused),
        1 => channels().prop_map(Step::PresenceState),
        2 => Just(Step::Activity),
        2 => Just(Step::Tick),
        1 => any::<u8>().prop_map(|n| if n == 0 { Step::Shutdown } else { Step::Tick }),
    ]
}

impl Step {
    fn take(self, client: &mut Client) -> Vec<String> {
        match self {
            Self::Pass(milliseconds) => {
                client.now += Duration::from_millis(milliseconds.into());
                Vec::new()
            }
            Self::Frame(frame) => client.send(&frame),
            Self::Verified(channel, token, result) => {
                let result = match result {
                    Ok(expires_in) => Ok(claims("user", expires_in.into())),
                    Err(()) => Err(TokenError::Signature),
                };
                client.verified(channel, token, result)
            }
            Self::Subscribed(channel, attempt, result) => {
                let result = match result % 4 {
                    0 => Err(SubscribeFailure::NoTable { binding: result.into() }),
                    1 => Err(SubscribeFailure::Unavailable { error: String::new() }),
                    _ => Ok(()),
                };
                client.subscribed(channel, attempt, result)
            }
            Self::Authorized(channel, question, answer) => {
                let is = |bit: u8| answer & (1 << bit) != 0;
                let extensions = |bit| Extensions { broadcast: is(bit), presence: is(bit + 1) };
                let result = match answer >> 5 {
                    0 => Err(RightsFailure::Refused),
                    _ => Ok(Rights { read: extensions(0), write: extensions(2) }),
                };
                client.handle(Input::Authorized { channel: ChannelId(channel), question, result })
            }
            Self::Replayed(channel, is_read) => {
                let result = is_read.then(Vec::new).ok_or(());
                client.handle(Input::Replayed { channel: ChannelId(channel), result })
            }
            Self::Lost(channel) => {
                client.handle(Input::SubscriptionLost { channel: ChannelId(channel) })
            }
            Self::PresenceState(channel) => client.presence_state(channel),
            Self::PresenceRefused(channel) => client.presence_refused(channel),
            Self::Activity => client.handle(Input::Activity),
            Self::Tick => client.handle(Input::Tick),
            Self::Shutdown => client.handle(Input::Shutdown),
        }
    }
}

/// What every client relies on: payloads are objects, and a channel speaks only after its join was
/// replied to.
fn check_frame(line: &str, joined: &mut std::collections::BTreeSet<String>) {
    let Ok(frame) = serde_json::from_str::<serde_json::Value>(line) else { return };
    let [join_ref, reference, topic, event, payload] = &frame.as_array().unwrap()[..] else {
        panic!("a frame has five elements: {line}")
    };
    let key = format!("{topic} {join_ref}");
    match event.as_str() {
        Some("phx_reply") => {
            assert!(payload["response"].is_object(), "{line}");
            if payload["response"]["postgres_changes"].is_array() {
                joined.insert(key);
            }
        }
        Some("system") => {
            assert!(reference.is_null() && joined.contains(&key), "{line}");
            for part in ["extension", "status", "message", "channel"] {
                assert!(payload[part].is_string(), "{line}");
            }
        }
        Some("presence_state") => assert!(joined.contains(&key), "{line}"),
        Some("phx_close") => assert_eq!(join_ref, reference, "{line}"),
        _ => panic!("an event nobody asked for: {line}"),
    }
}

proptest! {
    #[test]
    fn any_order_of_inputs_is_survived(steps in proptest::collection::vec(steps(), 0..120)) {
        let limits = Limits { channels_max: 3, reference_bytes_max: 8, ..Limits::default() };
        let mut client = Client::new(Version::V2, limits);
        // Subscriptions the driver would hold: every one is taken back before the end.
        let mut held = std::collections::BTreeSet::new();
        let mut joined = std::collections::BTreeSet::new();
        let mut is_closed = false;
        for step in steps {
            let is_handled = !matches!(step, Step::Pass(_));
            let described = format!("{step:?}");
            let lines = step.take(&mut client);
            assert!(!is_closed || lines.is_empty(), "a closed session wants nothing: {lines:?}");
            for line in &lines {
                check_frame(line, &mut joined);
                let mut words = line.split([' ', '#']);
                match (words.next(), words.next()) {
                    (Some("subscribe"), Some(channel)) => {
                        held.insert(channel.to_owned());
                    }
                    (Some("unsubscribe"), Some(channel)) => {
                        assert!(held.remove(channel), "{described}: {line}");
                    }
                    (Some("close"), _) => is_closed = true,
                    _ => {}
                }
            }
            assert!(client.session.n_channels() <= 3);
            for channel in (0..30).map(ChannelId) {
                let is_listening = client.listening.contains_key(&channel);
                // A channel that has earlier messages replayed listens before it is open.
                assert!(is_listening || !client.session.is_open(channel), "{described}");
            }
            if is_handled {
                assert!(client.session.deadline() > client.now, "{described}");
            }
        }
        let end = client.handle(Input::Shutdown);
        let n_taken_back = end.iter().filter(|line| line.starts_with("unsubscribe")).count();
        assert!(is_closed || n_taken_back <= held.len());
        assert_eq!(client.session.n_channels(), 0);
        assert!(client.listening.is_empty());
        assert_eq!(client.session.deadline(), Duration::MAX);
    }
}
