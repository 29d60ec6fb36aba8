//! The conformance vectors' changes, recorded by `record.py`, against the payloads they expect.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use walcast_change::{ColumnSet, Relation, RowEvent, Table};
use walcast_protocol::changes::{OldView, TableEncoder, View, problem};

use crate::{
    json::Json,
    recorded::{RecordedEvent, RecordedRelation, RecordedType, registry},
};

#[derive(Deserialize)]
struct Case {
    name: String,
    types: Vec<RecordedType>,
    relations: Vec<RecordedRelation>,
    events: Vec<RecordedEvent>,
    views: Vec<RecordedView>,
}

#[derive(Deserialize)]
struct RecordedView {
    event: usize,
    selectable: Vec<String>,
    selected: Option<Vec<String>>,
    key_only: bool,
    max_record_bytes: usize,
    expected: Box<RawValue>,
}

/// Values that differ from the reference's on purpose: case, column, its value, ours.
const DIFFERENCES: &[(&str, &str, &str, &str)] = &[
    // char(n) and bit(n) are delivered whole.
    ("type_varchar_char", "c5", r#""a""#, r#""abc  ""#),
    ("type_varchar_char", "c5", r#""a""#, r#""abcde""#),
    ("type_varchar_char", "c5", r#"" ""#, r#""  ab ""#),
    ("type_bit", "a", r#""1""#, r#""1010""#),
    ("rls_char_pk_probe_wrong_row", "code", r#""a""#, r#""abcd""#),
];

fn cases() -> Vec<Case> {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../data/payload/cases.json")).unwrap();
    assert!(cases.len() > 100, "{} cases", cases.len());
    cases
}

/// The case's events, each with the table aligned with its relation.
fn events(case: &Case) -> Vec<(Table, RowEvent)> {
    let types = registry(&case.types);
    let relations: Vec<Arc<Relation>> =
        case.relations.iter().map(|relation| Arc::new(relation.relation())).collect();
    let tables: Vec<Table> = case.relations.iter().map(|relation| relation.table(&types)).collect();
    let event = |event: &RecordedEvent| {
        let relation = &relations[event.relation];
        (tables[event.relation].align(relation), event.event(relation))
    };
    case.events.iter().map(event).collect()
}

fn positions(table: &Table, names: &[String]) -> ColumnSet {
    names.iter().filter_map(|name| table.position(name)).collect()
}

#[test]
fn payloads_equal_the_vectors() {
    let mut n_different = 0;
    for case in cases() {
        let events = events(&case);
        for view in &case.views {
            let (table, event) = &events[view.event];
            let encoder = TableEncoder::new(table);
            let selectable = positions(table, &view.selectable);
            let selected = view.selected.as_ref().map(|names| positions(table, names));
            let mut out = Vec::new();
            match problem(table, &selectable, event.kind()) {
                Some(problem) => encoder.encode_problem(event, problem, &mut out),
                None => encoder.encode(
                    event,
                    &View {
                        selectable: &selectable,
                        selected: selected.as_ref(),
                        old: if view.key_only { OldView::KeyOnly } else { OldView::Whole },
                        max_record_bytes: view.max_record_bytes,
                    },
                    &mut out,
                ),
            }
            let mut written = Json::parse(str::from_utf8(&out).unwrap());
            let mut expected = Json::parse(view.expected.get());
            mask_commit_timestamp(&mut written, &mut expected);
            n_different += even_out(&case.name, &mut written, &expected);
            assert_eq!(written, expected, "{}, event {}", case.name, view.event);
        }
    }
    assert!(n_different >= DIFFERENCES.len(), "every difference is still one");
}

/// Commit times cannot be recorded; 400 and 401 events carry one too, which the reference's do not.
fn mask_commit_timestamp(written: &mut Json, expected: &mut Json) {
    let Some(Json::Text(timestamp)) = written.member("commit_timestamp") else {
        panic!("no commit_timestamp");
    };
    let shape: String =
        timestamp.chars().map(|part| if part.is_ascii_digit() { '9' } else { part }).collect();
    assert_eq!(shape, "9999-99-99T99:99:99.999Z");
    timestamp.clear();
    if let Some(expected) = expected.member("commit_timestamp") {
        *expected = Json::Text(String::new());
    }
}

/// Replaces our values by the reference's where they differ on purpose; how many did.
fn even_out(case: &str, written: &mut Json, expected: &Json) -> usize {
    let mut n_different = 0;
    for (_, column, theirs, ours) in DIFFERENCES.iter().filter(|difference| difference.0 == case) {
        for record in ["record", "old_record"] {
            let reference =
                expected.clone().member(record).and_then(|record| record.member(column).cloned());
            let Some(value) = written.member(record).and_then(|record| record.member(column))
            else {
                continue;
            };
            if *value == Json::parse(ours) && reference == Some(Json::parse(theirs)) {
                *value = Json::parse(theirs);
                n_different += 1;
            }
        }
    }
    n_different
}

#[test]
fn a_change_is_too_large_from_the_byte_on_where_the_reference_says_so() {
    let mut n_events = 0;
    for case in cases() {
        let events = events(&case);
        for ((table, event), recorded) in events.iter().zip(&case.events) {
            let Some(size) = recorded.size else { continue };
            let encoder = TableEncoder::new(table);
            let all = ColumnSet::all(table.columns.len());
            let is_too_large = |max_record_bytes| {
                let view = View {
                    selectable: &all,
                    selected: None,
                    old: OldView::Whole,
                    max_record_bytes,
                };
                let mut out = Vec::new();
                encoder.encode(event, &view, &mut out);
                String::from_utf8(out)
                    .unwrap()
                    .ends_with(r#""errors":["Error 413: Payload Too Large"]}"#)
            };
            let measured = (0..).map(|step| size + step - 40).find(|limit| !is_too_large(*limit));
            assert_eq!(measured, Some(size), "{}: {event:?}", case.name);
            n_events += 1;
        }
    }
    assert!(n_events > 150, "{n_events} events");
}
