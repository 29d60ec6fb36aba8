//! The bodies of the fuzz targets; a unit test runs them over the committed corpora.

use bytes::Bytes;

use crate::{
    binary::{self, ServerFrame},
    binding::assign_ids,
    frame::{self, Frame},
    join::JoinConfig,
    message::{ClientPayload, ServerMessage, Topic, Version},
    push,
    raw_json::RawJson,
    text,
};

/// Any bytes as a text frame of both versions; what is read is written and read again, unchanged.
pub fn text_frame(input: &[u8]) {
    let input = Bytes::copy_from_slice(input);
    for version in [Version::V1, Version::V2] {
        let Ok(message) = text::decode(version, &input) else { continue };
        let written = text::encode_client(version, &message);
        let again = written.map(|written| text::decode(version, &written));
        assert_eq!(again, Some(Ok(message.clone())), "a message changed on its way");
        let _ = (push::access_token(&message.payload), push::presence_action(&message.payload));
    }
}

/// Any bytes as a binary frame; what is read is written and read again, unchanged.
pub fn binary_frame(input: &[u8]) {
    let input = Bytes::copy_from_slice(input);
    if let Ok(message) = binary::decode(&input) {
        let written = binary::encode_client(&message);
        let again = written.map(|written| binary::decode(&written));
        assert_eq!(again, Some(Ok(message.clone())), "a message changed on its way");
        if let ClientPayload::UserBroadcast(broadcast) = message.payload {
            let message = ServerMessage::UserBroadcast { topic: message.topic, broadcast };
            for version in [Version::V1, Version::V2] {
                if let Some(Frame::Text(text)) = frame::encode(version, &message) {
                    assert!(RawJson::parse(&text).is_some(), "a text frame is no JSON");
                }
            }
        }
    }
    if let Ok(frame) = ServerFrame::decode(&input) {
        let again = frame.encode().map(|written| ServerFrame::decode(&written));
        assert_eq!(again, Some(Ok(frame)), "a frame changed on its way");
    }
}

/// Any bytes as the payload of a join; every binding is parsed and its echo is JSON.
pub fn join_payload(input: &[u8]) {
    let Some(json) = RawJson::parse(&Bytes::copy_from_slice(input)) else { return };
    let topic = Topic::new("realtime:public:todos:id=eq.1");
    let Ok(join) = JoinConfig::parse(&topic, &ClientPayload::Json(json)) else { return };
    let ids = assign_ids(&join.postgres_changes);
    assert_eq!(ids.len(), join.postgres_changes.len(), "every item has an id");
    for (item, id) in join.postgres_changes.iter().zip(ids) {
        let _ = item.parse().map_err(|error| error.to_string());
        let mut echo = String::new();
        item.echo(id, &mut echo);
        assert!(RawJson::parse(&Bytes::from(echo)).is_some(), "an echo is no JSON");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_corpus(name: &str, body: fn(&[u8])) {
        let corpus = format!("{}/../../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut n_inputs = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            let input = std::fs::read(entry.unwrap().path()).unwrap();
            for end in 0..=input.len() {
                body(&input[..end]);
            }
            n_inputs += 1;
        }
        assert!(n_inputs >= 10, "{name}: {n_inputs}");
    }

    #[test]
    fn the_corpora_and_all_their_prefixes_are_survived() {
        run_corpus("text_frame", text_frame);
        run_corpus("binary_frame", binary_frame);
        run_corpus("join_payload", join_payload);
    }
}
