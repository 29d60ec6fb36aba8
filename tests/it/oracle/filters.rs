//! Random filters, compared with SQL that follows from what filters promise.
//!
//! The SQL is written here, from the rules, and shares nothing with walcast's own.

mod expected;

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tokio_postgres::Client;
use walcast_change::{ColumnSet, Row};
use walcast_filters::{Filter, Match, Operator, RawCondition, parse};
use walcast_server::{
    authz::{Authorizer, Question, composite_literal},
    catalogue::KnownTable,
    http::Health,
    telemetry::Metrics,
};

use super::{
    grammar::{Column, PATTERNS, REGULAR_EXPRESSIONS},
    random::Random,
    report::Report,
    stage::Stage,
    truth::{Shown, texts},
    values::{KINDS, kind_of},
    world::{Size, World},
};

const REFUSED: &str = "walcast refuses a filter that PostgreSQL takes";
const ACCEPTED: &str = "walcast takes a filter that PostgreSQL refuses";
const OTHER_ERROR: &str = "walcast refuses a filter with another error than PostgreSQL";
const MATCHES: &str = "a filter matches a row that PostgreSQL leaves out";
const LEAVES_OUT: &str = "a filter leaves out a row that PostgreSQL finds";
const QUESTION: &str = "the question about a filter has another answer than PostgreSQL's table";
const GRAMMAR: &str = "a filter that was printed is not read back";

/// A condition with what the truth needs to know about it.
struct Written {
    condition: RawCondition,
    kind: &'static str,
    /// The values of `in`.
    items: Vec<Option<String>>,
}

/// Compares filters on the table that all others are copies of.
pub async fn compare(world: &World, stage: &Stage, size: Size, report: &mut Report) -> Result<()> {
    // Filters are compared as walcast's login, which may lack what is revoked.
    if world.traps.iter().any(|trap| trap.contains("revoke")) {
        return Ok(());
    }
    let mut random = Random::new(world.seed ^ 3);
    let base = stage.base()?;
    let mut columns = world.columns.clone();
    columns.push(Column { name: "\"id\"".to_owned(), kind: "int4" });
    let mut questions = Vec::new();
    for _ in 0..size.filters {
        let count = *random.pick(&[1, 1, 1, 2, 3]);
        let filter: Vec<Written> = (0..count).map(|_| condition(&columns, &mut random)).collect();
        if let Some(question) = compare_one(world, stage, &base, &filter, report).await? {
            questions.push(question);
        }
    }
    if !world.has_other_answers() {
        compare_answers(stage, questions, report).await;
    }
    Ok(())
}

/// A question about the rows that a filter left undecided, with the truth about each.
struct Open {
    question: Question,
    shown: Vec<Shown>,
    case: String,
}

async fn compare_one(
    world: &World,
    stage: &Stage,
    base: &Arc<KnownTable>,
    written: &[Written],
    report: &mut Report,
) -> Result<Option<Open>> {
    let printed: Vec<String> =
        written.iter().map(|written| written.condition.to_string()).collect();
    let printed = printed.join(",");
    let case = || {
        format!(
            "replay: cargo xtask oracle --dev --seed {} --cases 1\n{:?}\n{}\nfilter: {printed}\nSQL: {}\n",
            world.seed,
            world.settings,
            world.base,
            expected::sql(written)
        )
    };
    let conditions: Vec<RawCondition> =
        written.iter().map(|written| written.condition.clone()).collect();
    if parse(&printed).as_ref() != Ok(&conditions) {
        report.find(GRAMMAR, &printed, case);
    }
    let table = &base.table;
    let all: ColumnSet = (0..table.columns.len()).collect();
    let refusal = expected::refusal(written);
    let truth = match &refusal {
        Some(code) => Err(code.clone()),
        None => find(&stage.session, &expected::sql(written), stage.rows.len()).await?,
    };
    let filter = match Filter::check(&conditions, table, &all) {
        Ok(filter) => filter,
        Err(error) => {
            report.filters_refused += 1;
            match truth {
                Ok(_) => report.find(REFUSED, &printed, || format!("{}{error}\n", case())),
                // What is wrong in two ways may be refused for either.
                Err(code)
                    if refusal.is_none() && code != error.sqlstate() && written.len() == 1 =>
                {
                    report.find(OTHER_ERROR, &printed, || {
                        format!("{}PostgreSQL: {code}; walcast: {error}\n", case())
                    });
                }
                Err(_) => {}
            }
            return Ok(None);
        }
    };
    for verification in filter.verifications() {
        let sql = format!("select {}", verification.sql);
        if let Err(error) = stage.session.simple_query(&sql).await {
            report.filters_refused += 1;
            if truth.is_ok() {
                report.find(REFUSED, &printed, || format!("{}{sql}: {error:?}\n", case()));
            }
            return Ok(None);
        }
    }
    report.filters += 1;
    let shown = match truth {
        Ok(shown) => shown,
        Err(code) if is_about_rows(&code) => vec![Shown::Raised; stage.rows.len()],
        Err(code) => {
            report.find(ACCEPTED, &printed, || format!("{}PostgreSQL: {code}\n", case()));
            return Ok(None);
        }
    };
    let undecided = compare_rows(stage, base, &filter, &shown, report, &printed, &case);
    if undecided.is_empty() {
        return Ok(None);
    }
    let images =
        undecided.iter().map(|at| composite_literal(table, table, &stage.rows[*at]).into());
    let question = Question {
        audience: None,
        guard: Arc::clone(base),
        expression: filter.to_sql(table).into(),
        images: images.collect(),
    };
    let shown = undecided.iter().map(|at| shown[*at]).collect();
    Ok(Some(Open { question, shown, case: case() }))
}

fn compare_rows(
    stage: &Stage,
    base: &KnownTable,
    filter: &Filter,
    shown: &[Shown],
    report: &mut Report,
    printed: &str,
    case: &impl Fn() -> String,
) -> Vec<usize> {
    let mut undecided = Vec::new();
    for (position, (row, shown)) in stage.rows.iter().zip(shown).enumerate() {
        report.matches += 1;
        let shown_row = |row: &Row| {
            let cells = base.table.columns.iter().zip(row.cells());
            let used = cells.filter(|(column, _)| printed.contains(&*column.name));
            used.map(|(column, cell)| format!("  {}: {cell:?}\n", column.name)).collect::<String>()
        };
        let wrong = match (filter.matches(&base.table, row), shown) {
            (Match::Yes, Shown::No | Shown::Raised | Shown::Faulty) => MATCHES,
            (Match::No, Shown::Yes) => LEAVES_OUT,
            (Match::Undecided, _) => {
                report.matches_undecided += 1;
                undecided.push(position);
                continue;
            }
            (Match::Yes, Shown::Yes) | (Match::No, Shown::No | Shown::Raised | Shown::Faulty) => {
                continue;
            }
        };
        report.find(wrong, printed, || format!("{}row:\n{}", case(), shown_row(row)));
    }
    undecided
}

async fn compare_answers(stage: &Stage, open: Vec<Open>, report: &mut Report) {
    let authorizer = Authorizer::new(
        stage.connect.clone(),
        1,
        Duration::from_secs(20),
        Arc::new(Health::new()),
        Arc::new(Metrics::new()),
    );
    let questions: Vec<Question> = open.iter().map(|open| open.question.clone()).collect();
    let answers = authorizer.ask(&questions).await;
    for (open, answers) in open.iter().zip(answers) {
        for (answer, shown) in answers.into_iter().zip(&open.shown) {
            report.answers += 1;
            if answer != (*shown == Shown::Yes) {
                report.find(QUESTION, &open.question.expression, || {
                    format!("{}question: {}\n", open.case, open.question.expression)
                });
            }
        }
    }
}

/// The rows that PostgreSQL finds, or the SQLSTATE of its refusal.
async fn find(
    session: &Client,
    condition: &str,
    n_rows: usize,
) -> Result<Result<Vec<Shown>, String>> {
    // A user's own operators are not meant, wherever `public` stands.
    let sql = format!(
        "begin; set local search_path = pg_catalog, public; \
         select id from public.base where {condition}; rollback"
    );
    match session.simple_query(&sql).await {
        Ok(messages) => {
            let mut rows = vec![Shown::No; n_rows];
            for id in texts(&messages) {
                rows[id.parse::<usize>()? - 1] = Shown::Yes;
            }
            Ok(Ok(rows))
        }
        Err(error) => {
            session.batch_execute("rollback").await?;
            match error.as_db_error() {
                Some(refusal) => Ok(Err(refusal.code().code().to_owned())),
                None => Err(error.into()),
            }
        }
    }
}

/// Whether PostgreSQL refuses to compare values, not to take the operand: patterns under a collation
/// that is not deterministic.
fn is_about_rows(code: &str) -> bool {
    code == "0A000"
}

fn condition(columns: &[Column], random: &mut Random) -> Written {
    let column = random.pick(columns);
    let is_text = ["text", "varchar", "name", "bpchar", "mood"]
        .iter()
        .any(|kind| column.kind.ends_with(kind));
    // Patterns where there are texts, `is` now and then: most filters should be taken.
    let fitting: Vec<Operator> = Operator::ALL
        .iter()
        .copied()
        .filter(|operator| (is_text || !operator.is_pattern()) && *operator != Operator::Is)
        .collect();
    let operators = if random.chance(85) { &fitting } else { Operator::ALL };
    let operator = *random.pick(operators);
    let name = column.name.trim_matches('"').replace("\"\"", "\"");
    let mut items = Vec::new();
    let value = match operator {
        Operator::Is => {
            (*random.pick(&["null", "null", "true", "false", "unknown", "NULL", "1"])).to_owned()
        }
        Operator::In => {
            let count = *random.pick(&[0, 1, 1, 2, 2, 3, 5, 101]);
            items = (0..count)
                .map(|_| (!random.chance(8)).then(|| operand(column.kind, random)))
                .collect();
            array(&items)
        }
        Operator::Like | Operator::Ilike if random.chance(70) => {
            (*random.pick(PATTERNS)).to_owned()
        }
        Operator::Match | Operator::Imatch if random.chance(80) => {
            (*random.pick(REGULAR_EXPRESSIONS)).to_owned()
        }
        _ => operand(column.kind, random),
    };
    let condition = RawCondition { column: name, operator, value, is_negated: random.chance(30) };
    Written { condition, kind: column.kind, items }
}

fn operand(kind: &str, random: &mut Random) -> String {
    #[rustfmt::skip]
    const GARBAGE: &[&str] = &[
        "", " ", "abc", "1x", "0x10", "1_000", "1e400", "-", "99999999999999999999", "NaN", "+1",
        " 42 ", "1.", ".5", "1e-400", "infinity", "today", "2024-13-01", "2024-02-29T12:00:00Z",
        "2024-02-29 12:00 America/New_York", "24:00:01", "\\x6", "\\", "'", "{", "null", "TRUE",
        "yes", "of", "o", "{1,2}", "[1,2)", "(1,2]", "2", "b'1'", "x'f'", "\"a\"",
    ];
    if random.chance(80) {
        return kind_of(kind).text(random);
    }
    if random.chance(50) {
        (*random.pick(GARBAGE)).to_owned()
    } else {
        random.pick(KINDS).text(random)
    }
}

/// An array literal in which every value is quoted; parentheses take its braces' place in a filter.
fn array(items: &[Option<String>]) -> String {
    let items = items.iter().map(|item| match item {
        None => "null".to_owned(),
        Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
    });
    format!("{{{}}}", items.collect::<Vec<_>>().join(","))
}
