//! Text frames: objects for V1, arrays for V2.

mod decode;
mod encode;

pub use decode::decode;
pub use encode::encode_client;
pub(crate) use encode::{Head, encode, push_string};

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

    use super::*;
    use crate::{
        message::{
            ClientEvent, ClientMessage, ClientPayload, Extension, MalformedFrame, Reference, Reply,
            ServerMessage, Status, Topic, Version,
        },
        raw_json::RawJson,
    };

    fn json(text: &str) -> RawJson {
        RawJson::parse(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn shown(reference: &Reference) -> String {
        match reference {
            Reference::Null => "null".to_owned(),
            Reference::Text(text) => format!("{text:?}"),
            Reference::Number(digits) => digits.to_string(),
        }
    }

    fn check_decode(version: Version, frame: &str, expected: Result<&str, MalformedFrame>) {
        let decoded = decode(version, &Bytes::copy_from_slice(frame.as_bytes())).map(|message| {
            let ClientPayload::Json(payload) = &message.payload else { panic!("expected JSON") };
            format!(
                "{} {} {} {} {}",
                shown(&message.join_ref),
                shown(&message.reference),
                message.topic,
                message.event.as_str(),
                std::str::from_utf8(payload.as_bytes()).unwrap()
            )
        });
        assert_eq!(decoded, expected.map(ToOwned::to_owned), "{frame}");
    }

    #[test]
    fn objects_are_messages_of_version_1() {
        let check = |frame, expected| check_decode(Version::V1, frame, Ok(expected));
        check(
            r#"{"topic":"realtime:room","event":"phx_join","payload":{},"ref":"1","join_ref":"2"}"#,
            r#""2" "1" realtime:room phx_join {}"#,
        );
        check(
            r#" {"ref":null,"payload":[1, 2],"x":{"topic":5},"topic":"phoenix","event":"heartbeat"} "#,
            "null null phoenix heartbeat [1, 2]",
        );
        check(
            r#"{"topic":"a","topic":"\u00e9","event":"x\"y","payload":null,"ref":1.50,"join_ref":-7}"#,
            "-7 1.50 é x\"y null",
        );
    }

    #[test]
    fn arrays_are_messages_of_version_2() {
        let check = |frame, expected| check_decode(Version::V2, frame, Ok(expected));
        check(
            r#"["1","2","realtime:room","broadcast",{"a":1}]"#,
            r#""1" "2" realtime:room broadcast {"a":1}"#,
        );
        check(r#"[null,5,"phoenix","heartbeat",{}]"#, "null 5 phoenix heartbeat {}");
        check(r#"["","","t","e","p",6,{}]"#, r#""" "" t e "p""#);
    }

    #[test]
    fn malformed_frames_are_told_apart() {
        use MalformedFrame::{BadReference, MissingKey, NotJson, TooFewElements, WrongShape};
        let check = |version, frame, expected| check_decode(version, frame, Err(expected));
        for version in [Version::V1, Version::V2] {
            check(version, "", NotJson);
            check(version, "{", NotJson);
            check(version, "[1,2,3,4,5", NotJson);
            check(version, "{}{}", NotJson);
            check(version, r#""phoenix""#, WrongShape);
            check(version, "null", WrongShape);
            check(version, "12", WrongShape);
            check(version, "-1.5", WrongShape);
            check(version, "true", WrongShape);
        }
        check(Version::V1, "[1]", WrongShape);
        check(Version::V2, "{}", WrongShape);
        check(Version::V1, r#"{"topic":"t","event":"e","payload":{}}"#, MissingKey);
        check(Version::V1, r#"{"topic":"t","event":"e","ref":null}"#, MissingKey);
        check(Version::V1, r#"{"topic":5,"event":"e","payload":{},"ref":null}"#, WrongShape);
        check(Version::V1, r#"{"topic":"t","event":"e","payload":{},"ref":{}}"#, BadReference);
        check(Version::V2, "[]", TooFewElements);
        check(Version::V2, r#"["1","2","t","e"]"#, TooFewElements);
        check(Version::V2, r#"["1","2",null,"e",{}]"#, WrongShape);
        check(Version::V2, r#"[true,"2","t","e",{}]"#, BadReference);
        check(Version::V2, r#"["1",["2"],"t","e",{}]"#, BadReference);
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_not_json() {
        for frame in
            [&b"[\"1\",\"2\",\"t\",\"e\",\"\xff\"]"[..], b"[\"1\",\"2\",\"\xff\",\"e\",{}]"]
        {
            let frame = Bytes::from_static(frame);
            assert_eq!(decode(Version::V2, &frame), Err(MalformedFrame::NotJson));
        }
    }

    #[test]
    fn deeply_nested_payloads_are_no_danger() {
        let depth = 100_000;
        let frame = format!(r#"["1","2","t","e",{}{}]"#, "[".repeat(depth), "]".repeat(depth));
        assert!(decode(Version::V2, &Bytes::from(frame)).is_ok());
        let frame = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for version in [Version::V1, Version::V2] {
            assert!(decode(version, &Bytes::from(frame.clone())).is_err());
        }
    }

    #[test]
    fn every_prefix_of_a_frame_fails_cleanly() {
        let frames = [
            (Version::V1, r#"{"topic":"rü","event":"e","payload":{"a":[1,"\n"]},"ref":"1"}"#),
            (Version::V2, r#"["1",2,"realtime:rü","phx_join",{"config":{"a":[1e5,"\u00e9"]}}]"#),
        ];
        for (version, frame) in frames {
            let frame = Bytes::from(frame);
            assert!(decode(version, &frame).is_ok());
            for end in 0..frame.len() {
                assert!(decode(version, &frame.slice(..end)).is_err(), "{end}");
            }
        }
    }

    fn check_encode(message: &ServerMessage, v1: &str, v2: &str) {
        let text = |version| String::from_utf8(encode(version, message).unwrap().into()).unwrap();
        assert_eq!(text(Version::V1), v1);
        assert_eq!(text(Version::V2), v2);
    }

    #[test]
    fn replies_echo_both_refs_on_version_2_and_one_on_version_1() {
        let reply = |reply| ServerMessage::Reply {
            join_ref: Reference::text("1"),
            reference: Reference::Number("2".into()),
            topic: Topic::new("realtime:room"),
            reply,
        };
        check_encode(
            &reply(Reply::Ok),
            r#"{"event":"phx_reply","payload":{"status":"ok","response":{}},"ref":2,"topic":"realtime:room"}"#,
            r#"["1",2,"realtime:room","phx_reply",{"status":"ok","response":{}}]"#,
        );
        check_encode(
            &reply(Reply::Joined { postgres_changes: json(r#"[{"id":1}]"#) }),
            r#"{"event":"phx_reply","payload":{"status":"ok","response":{"postgres_changes":[{"id":1}]}},"ref":2,"topic":"realtime:room"}"#,
            r#"["1",2,"realtime:room","phx_reply",{"status":"ok","response":{"postgres_changes":[{"id":1}]}}]"#,
        );
        check_encode(
            &reply(Reply::Error { reason: "a \"b\"\n".to_owned() }),
            r#"{"event":"phx_reply","payload":{"status":"error","response":{"reason":"a \"b\"\n"}},"ref":2,"topic":"realtime:room"}"#,
            r#"["1",2,"realtime:room","phx_reply",{"status":"error","response":{"reason":"a \"b\"\n"}}]"#,
        );
    }

    #[test]
    fn pushes_have_a_null_ref_that_is_there() {
        let (join_ref, topic) = (Reference::text("1"), Topic::new("realtime:room:7"));
        check_encode(
            &ServerMessage::System {
                join_ref,
                topic: topic.clone(),
                extension: Extension::PostgresChanges,
                status: Status::Ok,
                message: "Subscribed to PostgreSQL".to_owned(),
            },
            r#"{"event":"system","payload":{"extension":"postgres_changes","status":"ok","message":"Subscribed to PostgreSQL","channel":"room:7"},"ref":null,"topic":"realtime:room:7"}"#,
            r#"["1",null,"realtime:room:7","system",{"extension":"postgres_changes","status":"ok","message":"Subscribed to PostgreSQL","channel":"room:7"}]"#,
        );
        check_encode(
            &ServerMessage::Push {
                join_ref: Reference::Null,
                topic,
                event: Arc::from("presence_state"),
                payload: RawJson::empty_object(),
            },
            r#"{"event":"presence_state","payload":{},"ref":null,"topic":"realtime:room:7"}"#,
            r#"[null,null,"realtime:room:7","presence_state",{}]"#,
        );
    }

    #[test]
    fn a_channel_that_ends_is_named_by_both_refs() {
        let (join_ref, topic) = (Reference::text("1"), Topic::new("realtime:r"));
        check_encode(
            &ServerMessage::Close { join_ref, topic: topic.clone() },
            r#"{"event":"phx_close","payload":{},"ref":"1","topic":"realtime:r"}"#,
            r#"["1","1","realtime:r","phx_close",{}]"#,
        );
        check_encode(
            &ServerMessage::Error { join_ref: Reference::Null, topic },
            r#"{"event":"phx_error","payload":{},"ref":null,"topic":"realtime:r"}"#,
            r#"[null,null,"realtime:r","phx_error",{}]"#,
        );
    }

    fn references() -> impl Strategy<Value = Reference> {
        prop_oneof![
            Just(Reference::Null),
            any::<String>().prop_map(|text| Reference::text(&text)),
            any::<i64>().prop_map(|number| Reference::Number(number.to_string().into())),
        ]
    }

    fn payloads() -> impl Strategy<Value = RawJson> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<i64>().prop_map(|number| number.to_string()),
            any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        ];
        leaf.prop_recursive(4, 16, 4, |inner| {
            proptest::collection::vec((any::<String>(), inner), 0..4).prop_map(|members| {
                let object: Vec<String> = members
                    .iter()
                    .map(|(key, value)| format!("{}: {value}", serde_json::Value::from(&**key)))
                    .collect();
                format!("{{{}}}", object.join(" ,"))
            })
        })
        .prop_map(|text| json(&text))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            join_ref in references(),
            reference in references(),
            topic in any::<String>(),
            event in any::<String>(),
            payload in payloads(),
        ) {
            let message = ClientMessage {
                join_ref,
                reference,
                topic: Topic::new(&topic),
                event: ClientEvent::new(&event),
                payload: ClientPayload::Json(payload),
            };
            for version in [Version::V1, Version::V2] {
                let frame = encode_client(version, &message).unwrap();
                assert_eq!(decode(version, &frame), Ok(message.clone()));
            }
        }
    }
}
