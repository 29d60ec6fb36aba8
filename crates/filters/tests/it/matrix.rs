//! The reference's verdicts for 40 types and 13 operators, cell by cell.
//!
//! A cell of ours agrees, is left to PostgreSQL, or differs for a reason listed here.

use serde_json::Value;
use walcast_change::{ColumnSet, TypeId, oid};
use walcast_filters::{Filter, Match, Operator, RawCondition};

use crate::support::{self, row, table};

/// For each type what PostgreSQL sends for the stored values, and cells of `[operator, operand,
/// verdicts per value or the error]`; a verdict is the error when the reference's poll aborted.
const MATRIX: &str = include_str!("../data/filter_matrix.json");

/// Why a cell differs on purpose: type, operators (empty: all), operand (empty: all), reason.
const DIFFERENCES: &[(&str, &[&str], &str, &str)] = &[
    ("bpchar", &[], "", "char(n) is compared whole, not by its first character"),
    ("bit", &[], "", "bit(n) is compared whole, not by its first bit"),
    ("bytea", &[], r"\x6162", "hexadecimal with \\x means the bytes, too"),
    ("bytea", &["in", "not.in"], r#"{"\\x6162"}"#, "hexadecimal with \\x means the bytes, too"),
    ("bytea", &["like", "not.like"], "", "hexadecimal with \\x means the bytes, too"),
];

/// Operators that the reference refuses and we have.
const GAINS: &[(&str, &str)] = &[
    ("varchar", "like ilike match imatch"),
    ("bpchar", "match imatch"),
    ("name", "match imatch"),
    ("enum", "like ilike match imatch"),
    ("domain_text", "like ilike match imatch"),
];

#[derive(Default)]
struct Counts {
    agree: usize,
    differ: usize,
    left_to_postgresql: usize,
}

#[test]
fn every_cell_agrees_or_is_left_to_postgresql_or_differs_for_a_reason() {
    let matrix: Value = serde_json::from_str(MATRIX).expect("JSON");
    let mut counts = Counts::default();
    for (name, data) in matrix.as_object().expect("types by name") {
        let table = table(&[("v", type_id(name, data))]);
        for cell in data["cells"].as_array().expect("cells") {
            let condition = condition(cell);
            let filter =
                Filter::check(&[condition], &table, &ColumnSet::all(1)).map_err(|e| e.to_string());
            match (&cell[2], filter) {
                (Value::String(error), filter) => {
                    check_refusal(name, cell, error, filter, &mut counts);
                }
                (verdicts, Err(error)) => {
                    // Refused at once, where the reference's poll aborts with the same words.
                    let verdicts = verdicts.as_array().expect("verdicts");
                    assert!(
                        verdicts.iter().any(|verdict| *verdict == *error),
                        "{name} {cell} {error}"
                    );
                    counts.agree += 1;
                }
                (verdicts, Ok(filter)) => {
                    for (value, verdict) in data["values"]
                        .as_array()
                        .expect("values")
                        .iter()
                        .zip(verdicts.as_array().expect("verdicts"))
                    {
                        let found = filter.matches(&table, &row(&[value.as_str()]));
                        check_verdict(name, cell, value, verdict, found, &mut counts);
                    }
                }
            }
        }
    }
    let Counts { agree, differ, left_to_postgresql } = counts;
    assert!(agree > 2000, "{agree} agree");
    assert!(differ < 250, "{differ} differ");
    assert!(left_to_postgresql < 900, "{left_to_postgresql} left");
}

fn type_id(name: &str, data: &Value) -> TypeId {
    let known = data["type"]["oid"].as_u64().and_then(|id| u32::try_from(id).ok());
    known.map_or_else(
        || match name {
            "citext" => support::CITEXT,
            "enum" => support::MOOD,
            "domain_int" => support::POSINT,
            "domain_text" => support::EMAIL,
            "composite" => support::ADDR,
            "hstore" => support::HSTORE,
            "ltree" => support::LTREE,
            _ => panic!("no type for {name}"),
        },
        TypeId,
    )
}

fn condition(cell: &Value) -> RawCondition {
    let operator = cell[0].as_str().expect("an operator");
    let positive = operator.strip_prefix("not.");
    RawCondition {
        column: "v".to_owned(),
        operator: Operator::from_name(positive.unwrap_or(operator)).expect("an operator"),
        value: cell[1].as_str().expect("an operand").to_owned(),
        is_negated: positive.is_some(),
    }
}

fn check_refusal(
    name: &str,
    cell: &Value,
    expected: &str,
    found: Result<Filter, String>,
    counts: &mut Counts,
) {
    let operator = condition(cell).operator.name();
    let is_gain = GAINS.iter().any(|(gains_type, operators)| {
        *gains_type == name && operators.split(' ').any(|gained| gained == operator)
    });
    match found {
        Err(error) => {
            assert!(!is_gain, "{name} {cell}");
            // `in` on arrays has no operator, whatever its values.
            if !error.contains("operator does not exist") {
                assert_eq!(error, expected, "{name} {cell}");
            }
            counts.agree += 1;
        }
        Ok(_) if is_gain => counts.differ += 1,
        Ok(filter) => {
            assert!(!filter.verifications().is_empty(), "{name} {cell} is accepted");
            counts.left_to_postgresql += 1;
        }
    }
}

fn check_verdict(
    name: &str,
    cell: &Value,
    value: &Value,
    expected: &Value,
    found: Match,
    counts: &mut Counts,
) {
    if found == Match::Undecided {
        counts.left_to_postgresql += 1;
        return;
    }
    let found = found == Match::Yes;
    if *expected == found {
        counts.agree += 1;
        return;
    }
    let is_deliberate = expected.is_string()
        || DIFFERENCES.iter().any(|(differing_type, operators, operand, _)| {
            *differing_type == name
                && (operators.is_empty() || operators.iter().any(|operator| cell[0] == **operator))
                && (operand.is_empty() || cell[1] == **operand)
        });
    assert!(is_deliberate, "{name} {cell} {value}: {found}");
    counts.differ += 1;
}

#[test]
fn nan_and_infinity_are_null_as_in_payloads() {
    let table = table(&[("n", oid::NUMERIC), ("f", oid::FLOAT8)]);
    let check = |text: &str, cells: &[Option<&str>], expected| {
        let filter = support::filter(text, &table).expect("a filter");
        assert_eq!(filter.matches(&table, &row(cells)), expected, "{text}");
    };
    let special = [Some("NaN"), Some("Infinity")];
    check("n=eq.NaN", &special, Match::No);
    check("n=gt.1e100", &special, Match::No);
    check("n=is.null", &special, Match::Yes);
    check("f=eq.infinity", &special, Match::No);
    check("f=isdistinct.1", &special, Match::Yes);
    check("f=not.is.null", &special, Match::No);
}
