//! Reading bindings: the recorded results of the reference's parser, compared in process.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use walcast_filters::parse;
use walcast_protocol::{BindingItem, RawJson};

use super::Tally;
use super::differences::Difference;
use super::judge::Verdict;
use super::print_verdict;

#[derive(Deserialize)]
struct File {
    cases: Vec<ParseCase>,
}

#[derive(Deserialize)]
struct ParseCase {
    params: Value,
    ok: Option<Value>,
    error: Option<String>,
}

/// Compares a file; `None` when there is none. Only what does not pass gets a line.
pub fn run(path: &Path) -> Result<Option<Tally>> {
    if !path.exists() {
        return Ok(None);
    }
    let file: File = serde_json::from_str(&fs::read_to_string(path)?)
        .with_context(|| format!("{}", path.display()))?;
    let mut tally = Tally::default();
    for case in &file.cases {
        let verdict = judge(case);
        if verdict != Verdict::Passed {
            print_verdict(&format!("parse {}", case.params), &verdict);
        }
        tally.count(&verdict);
    }
    Ok(Some(tally))
}

fn judge(case: &ParseCase) -> Verdict {
    let read = read(&case.params);
    match (&case.ok, &case.error, &read) {
        (Some(expected), _, Ok(binding)) if expected == binding => Verdict::Passed,
        (_, Some(expected), Err(error)) if expected == error => Verdict::Passed,
        (None, Some(_), Ok(_)) if has_null(&case.params) => {
            Verdict::Deliberate([Difference::NullIsAbsent].into())
        }
        (Some(expected), _, _) => Verdict::Failed(format!("expected {expected}, got {read:?}")),
        (_, expected, _) => Verdict::Failed(format!("expected error {expected:?}, got {read:?}")),
    }
}

fn has_null(params: &Value) -> bool {
    ["table", "filter"].iter().any(|key| params.get(key).is_some_and(Value::is_null))
}

/// What walcast reads, in the shape of the recording.
fn read(params: &Value) -> Result<Value, String> {
    let raw = RawJson::parse(&Bytes::from(params.to_string())).ok_or("no JSON")?;
    let item = BindingItem::new(raw).ok_or("no object")?;
    let binding = item.parse().map_err(|error| error.to_string())?;
    let conditions = match &binding.filter {
        Some(filter) => parse(filter).map_err(|error| error.to_string())?,
        None => Vec::new(),
    };
    let filters: Vec<Value> = conditions
        .iter()
        .map(|condition| {
            json!([
                condition.column,
                condition.operator.name(),
                condition.value,
                condition.is_negated
            ])
        })
        .collect();
    Ok(json!({
        "action_filter": binding.event.as_str(),
        "filters": filters,
        "schema": binding.schema.as_str(),
        "selected_columns": binding.select,
        "table": binding.table.as_str(),
    }))
}
