//! Bindings as recorded from the reference server: what is understood, and how errors read.

use serde_json::Value;
use walcast_protocol::ServerMessage;

use super::*;

/// Where this server differs on purpose: `null` for `table` or `filter` counts as absent, which is
/// what clients mean that write out all fields.
const LENIENT: [&str; 2] = [
    r#"{"event":"*","schema":"public","table":null}"#,
    r#"{"event":"*","schema":"public","table":"t","filter":null}"#,
];

/// Joins with one binding and returns the outputs.
fn join(params: &Value) -> (Client, Vec<Output>) {
    let mut client = Client::v2();
    let frame = format!(
        r#"["1","1","realtime:room","phx_join",{{"config":{{"postgres_changes":[{params}]}}}}]"#
    );
    let message = frame::decode(Version::V2, &Frame::Text(Bytes::from(frame))).unwrap();
    let mut out = Vec::new();
    client.session.handle(client.now, Input::Message(message), &mut out);
    (client, out)
}

fn system_message(out: &[Output]) -> Option<String> {
    out.iter().find_map(|output| {
        let Output::Send(ServerMessage::System { message, .. }) = output else { return None };
        Some(message.clone())
    })
}

/// What was understood, in the words of the recording.
fn understood(out: &[Output]) -> Option<Value> {
    let request = request(out)?;
    let [binding] = &request.bindings[..] else { panic!("one binding was asked for") };
    let filters: Vec<Value> = binding
        .conditions
        .iter()
        .map(|condition| {
            serde_json::json!([
                condition.column,
                condition.operator.name(),
                condition.value,
                condition.is_negated
            ])
        })
        .collect();
    Some(serde_json::json!({
        "action_filter": binding.binding.event.as_str(),
        "filters": filters,
        "schema": binding.binding.schema.as_str(),
        "selected_columns": binding.binding.select,
        "table": binding.binding.table.as_str(),
    }))
}

fn without_blanks(text: &str) -> String {
    text.chars().filter(|character| !character.is_whitespace()).collect()
}

#[test]
fn bindings_are_understood_as_recorded() {
    let recording: Value = serde_json::from_str(include_str!("parse_params.json")).unwrap();
    let (mut n_understood, mut n_refused, mut n_lenient, mut n_broken) = (0, 0, 0, 0);
    for case in recording["cases"].as_array().unwrap() {
        let params = &case["params"];
        let (mut client, out) = join(params);
        if LENIENT.contains(&params.to_string().as_str()) {
            assert!(case["error"].is_string() && understood(&out).is_some(), "{params}");
            n_lenient += 1;
        } else if let Some(error) = case["error"].as_str() {
            assert_eq!(system_message(&out).as_deref(), Some(error), "{params}");
            assert_eq!(understood(&out), None, "{params}");
            n_refused += 1;
        } else {
            assert_eq!(understood(&out).as_ref(), Some(&case["ok"]), "{params}");
            let mut out = Vec::new();
            let (channel, result) = (ChannelId(1), Err(SubscribeFailure::NoTable { binding: 0 }));
            let answer = Input::Subscribed { channel, attempt: 1, result };
            client.session.handle(client.now, answer, &mut out);
            let message = system_message(&out).unwrap();
            let log = case["log"].as_str().unwrap();
            let (_, described) = message.split_once("connect parameters: ").unwrap();
            // The reference server breaks long lists into lines; one line is easier to search for.
            n_broken += usize::from(log.contains('\n'));
            assert_eq!(without_blanks(described), without_blanks(&format!("[{log}]")), "{params}");
            assert!(log.contains('\n') || *described == format!("[{log}]"), "{described}");
            n_understood += 1;
        }
    }
    assert_eq!((n_understood, n_refused, n_lenient, n_broken), (278, 53, LENIENT.len(), 1));
}
