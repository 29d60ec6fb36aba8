//! Filters over types: every recorded pair of filter and value, in process and over the wire.
//!
//! Where walcast's own rules differ from the reference (see [`super::differences`]), PostgreSQL says
//! what must come out.

mod in_process;
mod over_the_wire;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use walcast_tests::{Database, Postgres};

use super::differences::Difference;
use super::judge::Verdict;
use super::oracle::matrix::{Question, answer};
use super::{Options, Tally, print_verdict};

#[derive(Deserialize)]
struct File {
    types: BTreeMap<String, RecordedType>,
}

#[derive(Deserialize)]
struct RecordedType {
    column_type: String,
    stored: Vec<String>,
    filters: Vec<RecordedFilter>,
}

#[derive(Deserialize)]
struct RecordedFilter {
    op: String,
    negate: bool,
    value: String,
    subscribe: String,
    #[serde(default)]
    delivered: Vec<Value>,
}

/// One filter and what must come of it.
#[derive(Debug)]
struct Item {
    /// The filter, for people.
    name: String,
    /// Column, operator, value, negated.
    condition: (String, String, String, bool),
    /// What must come.
    wanted: Outcome,
    /// The rule, when it is not what the reference recorded.
    difference: Option<Difference>,
}

/// What comes of a filter.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Outcome {
    /// Which of the stored values are delivered.
    Delivered(Vec<bool>),
    /// The subscription is refused with this text.
    RefusedWith(String),
    /// The subscription is refused; walcast chooses the words.
    Refused,
}

impl Outcome {
    /// The verdict on what came.
    fn judge(&self, came: &Self, difference: Option<Difference>) -> Verdict {
        let is_equal = match (self, came) {
            (Self::Refused, Self::RefusedWith(_)) => true,
            (Self::RefusedWith(wanted), Self::RefusedWith(given)) => {
                first_line(given) == first_line(wanted)
            }
            (wanted, came) => wanted == came,
        };
        match (is_equal, difference) {
            (true, None) => Verdict::Passed,
            (true, Some(difference)) => Verdict::Deliberate([difference].into()),
            (false, _) => Verdict::Failed(format!("expected {self:?}, got {came:?}")),
        }
    }
}

/// Compares a file; nothing when there is none. Only failures get a line.
pub async fn run(
    server: &Postgres,
    path: &Path,
    options: &Options,
) -> Result<Vec<(&'static str, Tally)>> {
    if !path.exists() || options.only.is_some() {
        return Ok(Vec::new());
    }
    let file: File = serde_json::from_str(&fs::read_to_string(path)?)
        .with_context(|| format!("{}", path.display()))?;
    let database = server.database("filter_matrix").await?;
    let types = create_tables(&database, &file).await?;
    let mut matrix = BTreeMap::new();
    for (name, recorded) in &file.types {
        if types.contains(name) {
            let items = items(&database, name, recorded).await?;
            matrix.insert(name.clone(), (items, recorded.stored.clone()));
        } else {
            println!("skipped filter matrix of {name}: this PostgreSQL lacks the type");
        }
    }
    let in_process = Box::pin(in_process::run(&database, &matrix)).await?;
    let wire = Box::pin(over_the_wire::run(&database, &matrix)).await?;
    database.remove().await?;
    Ok(vec![
        ("filter matrix in process", tally("in process", &in_process)),
        ("filter matrix over the wire", tally("over the wire", &wire)),
    ])
}

/// The table of a type.
fn table_name(name: &str) -> String {
    format!("m_{name}")
}

type Matrix = BTreeMap<String, (Vec<Item>, Vec<String>)>;

/// Creates a table per type and returns the types this PostgreSQL has.
async fn create_tables(database: &Database, file: &File) -> Result<Vec<String>> {
    database
        .run(
            "create type mood as enum ('sad', 'ok', 'happy');
             create domain posint as int check (value > 0);
             create domain email as text;
             create type addr as (s text, n int);",
        )
        .await?;
    for extension in ["citext", "hstore", "ltree"] {
        // Some builds come without the contributed modules.
        drop(database.run(&format!("create extension {extension} schema extensions")).await);
    }
    let mut types = Vec::new();
    for (name, recorded) in &file.types {
        let table = table_name(name);
        let created = database
            .run(&format!(
                "create table {table} (id int primary key, v {}); \
                 alter publication supabase_realtime add table {table}",
                recorded.column_type
            ))
            .await;
        if created.is_ok() {
            types.push(name.clone());
        }
    }
    Ok(types)
}

async fn items(database: &Database, name: &str, recorded: &RecordedType) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for filter in &recorded.filters {
        let condition = ("v".to_owned(), filter.op.clone(), filter.value.clone(), filter.negate);
        let question = Question {
            table: table_name(name),
            condition: condition.clone(),
            stored: recorded.stored.clone(),
            refusal: (filter.subscribe != "ok").then(|| filter.subscribe.clone()),
        };
        let recorded_outcome =
            filter.delivered.iter().map(Value::as_bool).collect::<Option<Vec<bool>>>().map(
                |delivered| match &question.refusal {
                    Some(text) => Outcome::RefusedWith(text.clone()),
                    None => Outcome::Delivered(delivered),
                },
            );
        let own = answer(database.client(), &question).await?;
        let (wanted, difference) = match (recorded_outcome, own) {
            (Some(recorded), None) => (recorded, None),
            (None, None) => (Outcome::Refused, Some(Difference::ErrorsAreIsolated)),
            (recorded, Some((difference, own))) => {
                let own = own.map_or(Outcome::Refused, Outcome::Delivered);
                match recorded {
                    Some(recorded) if recorded == own => (recorded, None),
                    _ => (own, Some(difference)),
                }
            }
        };
        let negation = if filter.negate { "not." } else { "" };
        items.push(Item {
            name: format!("{name} v={negation}{}.{}", filter.op, filter.value),
            condition,
            wanted,
            difference,
        });
    }
    Ok(items)
}

fn tally(how: &str, verdicts: &[(String, Verdict)]) -> Tally {
    let mut tally = Tally::default();
    for (name, verdict) in verdicts {
        if matches!(verdict, Verdict::Failed(_) | Verdict::Crashed(_)) {
            print_verdict(&format!("filter matrix {how}: {name}"), verdict);
        }
        tally.count(verdict);
    }
    tally
}

/// Hints and details are on further lines, which the recording lacks.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
