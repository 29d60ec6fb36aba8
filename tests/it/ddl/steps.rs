//! Steps: a change of definitions, how rows are written after it, and what a client gets of them.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use walcast_tests::{Client, DEADLINE, Token};

use super::writer::{ANNOUNCE, Session, Writer};
use crate::world::World;

/// Rows that are written around each change.
const ROWS: u64 = 40;

/// What a client gets for the row of this number; nothing when it must not get it.
pub type Seen = fn(u64) -> Option<Value>;

/// One change of definitions.
pub struct Step {
    /// The statements, run as one transaction.
    pub change: &'static str,
    /// How rows are written from then on, with `{id}` for the number.
    pub insert: &'static str,
    /// What a client gets for them.
    pub seen: Seen,
}

/// A whole row of a table.
pub fn row(table: &str, record: &Value) -> Option<Value> {
    Some(json!({"table": table, "record": record}))
}

/// An error event: the role may not select the table.
pub fn unauthorized(table: &str) -> Option<Value> {
    Some(json!({"table": table, "errors": ["Error 401: Unauthorized"]}))
}

/// Nothing.
pub fn nothing(_: u64) -> Option<Value> {
    None
}

/// Runs the steps one after the other while rows are written, with and without the triggers.
pub async fn check(name: &str, setup: &str, binding: &Value, steps: &[Step]) -> Result<()> {
    exactly(name, setup, binding, steps).await?;
    soon(name, setup, binding, steps).await
}

/// With the triggers: each row as of its place, none missing, in order.
async fn exactly(name: &str, setup: &str, binding: &Value, steps: &[Step]) -> Result<()> {
    let (first, changes) = steps.split_first().expect("a first step");
    let setup = format!("{setup}; {}; {ANNOUNCE}", first.change);
    let world = World::new(&format!("{name}_exactly"), &setup).await?;
    let mut client = world.listener_to(&Token::anon(), binding).await?;
    let writer = Writer::start(&world.database, first.insert).await?;
    writer.advance(ROWS).await?;
    let mut got = events(&world.settled(&mut client).await?);
    let mut expected: Vec<Value> = Vec::new();
    let (mut from, mut seen) = (1, first.seen);
    // Every other change has rows in its own transaction.
    for (position, step) in changes.iter().enumerate() {
        let mut session = writer.pause().await;
        expected.extend((from..session.next).filter_map(seen));
        (from, seen) = (session.next, step.seen);
        if position % 2 == 0 {
            session.run(step.change).await?;
            session.write_by(step.insert);
        } else {
            change_among_rows(&mut session, step).await?;
        }
        drop(session);
        writer.advance(ROWS).await?;
        got.extend(events(&world.settled(&mut client).await?));
    }
    let last = writer.stop().await?;
    expected.extend((from..=last).filter_map(seen));
    got.extend(events(&world.settled(&mut client).await?));
    assert_same(name, &got, &expected);
    world.end().await
}

/// The change and rows in one transaction: nobody ever saw them under the old definitions.
async fn change_among_rows(session: &mut Session, step: &Step) -> Result<()> {
    let is_same_insert = session.writes_by(step.insert);
    let before = if is_same_insert { session.take_insert() } else { String::new() };
    session.write_by(step.insert);
    let after = session.take_insert();
    session.run(&format!("begin; {before}; {}; {after}; commit", step.change)).await
}

/// Without the triggers: the new definitions count soon, and the stream goes on.
async fn soon(name: &str, setup: &str, binding: &Value, steps: &[Step]) -> Result<()> {
    let (first, changes) = steps.split_first().expect("a first step");
    let setup = format!("{setup}; {}", first.change);
    let world = World::new(&format!("{name}_soon"), &setup).await?;
    let mut client = world.listener_to(&Token::anon(), binding).await?;
    let writer = Writer::start(&world.database, first.insert).await?;
    let mut seen = first.seen;
    settles(name, &world, &mut client, &writer, seen, seen).await?;
    for step in changes {
        let mut session = writer.pause().await;
        session.run(step.change).await?;
        session.write_by(step.insert);
        drop(session);
        settles(name, &world, &mut client, &writer, seen, step.seen).await?;
        seen = step.seen;
    }
    writer.stop().await?;
    world.end().await
}

/// Waits until a few rows in succession are seen as `after` says. Until then no row may show more
/// than `before` or `after` allows.
async fn settles(
    name: &str,
    world: &World,
    client: &mut Client,
    writer: &Writer,
    before: Seen,
    after: Seen,
) -> Result<()> {
    let started = std::time::Instant::now();
    loop {
        writer.advance(ROWS).await?;
        let mut session = writer.pause().await;
        let last = session.next - 1;
        for event in events(&world.settled(client).await?) {
            let fits = (1..=last).rev().any(|id| {
                [before(id), after(id)].into_iter().flatten().any(|seen| is_part(&event, &seen))
            });
            ensure!(fits, "{name}: neither the old nor the new definitions allow {event}");
        }
        session.write(5).await?;
        let got = events(&world.settled(client).await?);
        let expected: Vec<Value> = (last + 1..session.next).filter_map(after).collect();
        if got == expected {
            return Ok(());
        }
        ensure!(started.elapsed() < DEADLINE, "{name}: still {got:?}, expected {expected:?}");
    }
}

/// Whether all that an event shows is in another. An error shows nothing.
fn is_part(event: &Value, whole: &Value) -> bool {
    let shown = event["record"].as_object().into_iter().flatten();
    shown.into_iter().all(|(column, value)| whole["record"].get(column) == Some(value))
}

/// What the tests look at of the changes.
fn events(changes: &[Value]) -> Vec<Value> {
    let event = |data: &Value| {
        if data["errors"].is_null() {
            json!({"table": data["table"], "record": data["record"]})
        } else {
            json!({"table": data["table"], "errors": data["errors"]})
        }
    };
    let is_ours = |data: &&Value| data["table"] != "marks";
    changes.iter().filter(is_ours).map(event).collect()
}

fn assert_same(name: &str, got: &[Value], expected: &[Value]) {
    let differs = got.iter().zip(expected).position(|(got, expected)| got != expected);
    let place = differs.unwrap_or(got.len().min(expected.len()));
    assert!(
        differs.is_none() && got.len() == expected.len(),
        "{name}: got {} events and expected {}; the first that differs is number {place}: \
         got {:?}, expected {:?}",
        got.len(),
        expected.len(),
        got.get(place),
        expected.get(place)
    );
}
