//! Texts of many types against `to_jsonb`, recorded by `record_types.py`.

use serde::Deserialize;
use walcast_change::TypeId;
use walcast_protocol::json::JsonForm;

use crate::{
    json::Json,
    recorded::{RecordedType, registry},
};

#[derive(Deserialize)]
struct Recording {
    types: Vec<RecordedType>,
    pairs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    r#type: u32,
    name: String,
    text: String,
    json: String,
}

#[test]
fn every_type_reads_as_to_jsonb_prints_it() {
    let recording: Recording =
        serde_json::from_str(include_str!("../data/payload/types.json")).unwrap();
    let types = registry(&recording.types);
    assert!(recording.pairs.len() > 150);
    for Pair { r#type, name, text, json } in &recording.pairs {
        let mut out = Vec::new();
        JsonForm::of_type(TypeId(*r#type), &types).write(text, &mut out);
        let written = String::from_utf8(out).unwrap();
        assert_eq!(Json::parse(&written), Json::parse(json), "{name}: {text}");
    }
}
