//! The matrix through the server: a channel per filter, and the values inserted.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use walcast_tests::{Client, Database, Token, Version, Walcast};

use super::super::case::condition_text;
use super::super::judge::Verdict;
use super::{Item, Matrix, Outcome, table_name};

/// A table whose row is inserted last.
const END: &str = "m_end";

/// Judges every filter.
pub async fn run(database: &Database, matrix: &Matrix) -> Result<Vec<(String, Verdict)>> {
    database
        .run(&format!(
            "create table {END} (id int primary key); \
             alter publication supabase_realtime add table {END}"
        ))
        .await?;
    let walcast = Walcast::at(database.superuser_url(), &format!("slot_{}", database.name()))
        .set("WALCAST_MAX_CHANNELS_PER_CONNECTION", "10000")
        .set("WALCAST_MAX_JOINS_PER_SECOND", "10000")
        .start()
        .await?;
    let mut verdicts = Vec::new();
    for (name, (items, stored)) in matrix {
        let token = Token::role("authenticated").sign();
        let mut client = Client::connect(walcast.port(), &token, Version::V2).await?;
        let answers = subscribe(&mut client, name, items).await?;
        client.subscribe("realtime:end", &json!([{"schema": "public", "table": END}])).await?;
        let table = table_name(name);
        for (id, value) in stored.iter().enumerate() {
            database.run(&format!("insert into {table} values ({id}, {value})")).await?;
        }
        database.run(&format!("delete from {END}; insert into {END} values (0)")).await?;
        client
            .next_where("the last row", |message| {
                message.topic == "realtime:end"
                    && message.is_change()
                    && message.data()["type"] == "INSERT"
            })
            .await?;
        let mut delivered: BTreeMap<String, Vec<bool>> = BTreeMap::new();
        for message in client.take_inbox() {
            if message.is_change() && message.topic != "realtime:end" {
                let id = message.data()["record"]["id"].as_u64().context("a row without its id")?;
                let seen =
                    delivered.entry(message.topic).or_insert_with(|| vec![false; stored.len()]);
                *seen.get_mut(usize::try_from(id)?).context("an unknown row")? = true;
            }
        }
        for (index, (item, answer)) in items.iter().zip(answers).enumerate() {
            let came = match answer {
                Some(text) => Outcome::RefusedWith(text),
                None => Outcome::Delivered(
                    delivered.remove(&topic(index)).unwrap_or_else(|| vec![false; stored.len()]),
                ),
            };
            verdicts.push((item.name.clone(), item.wanted.judge(&came, item.difference)));
        }
        client.close().await?;
    }
    Ok(verdicts)
}

/// Joins a channel per filter; returns the error of each that was refused.
async fn subscribe(client: &mut Client, name: &str, items: &[Item]) -> Result<Vec<Option<String>>> {
    for (index, item) in items.iter().enumerate() {
        let binding = json!({
            "event": "*", "schema": "public", "table": table_name(name),
            "filter": condition_text(&item.condition),
        });
        let payload = json!({"config": {"postgres_changes": [binding]}});
        client.push(&topic(index), "phx_join", &payload).await?;
    }
    let mut answers = Vec::new();
    for index in 0..items.len() {
        let system = client.system(&topic(index)).await?;
        answers.push(refusal(&system.payload));
    }
    Ok(answers)
}

/// PostgreSQL's part of an error message.
fn refusal(payload: &Value) -> Option<String> {
    if payload["status"] == "ok" {
        return None;
    }
    let message = payload["message"].as_str().unwrap_or_default();
    Some(message.split_once("Exception: ").map_or(message, |(_, error)| error).to_owned())
}

fn topic(index: usize) -> String {
    format!("realtime:filter {index}")
}
