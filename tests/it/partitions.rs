//! The daily partitions of `realtime.messages`, with the clock as an argument.

use std::time::Duration;

use anyhow::Result;
use tokio_postgres::NoTls;
use walcast_server::messages::partitions;
use walcast_tests::{Database, Postgres, Walcast};

use crate::world::allow_messages;

/// 2026-11-26 23:59:59 UTC.
const BEFORE_MIDNIGHT: u64 = 1_795_737_599;
const DAY: u64 = 24 * 60 * 60;
const RETENTION: Duration = Duration::from_hours(72);

/// A database with the table and no partitions, and a connection of the process' login.
async fn without_partitions(name: &str) -> Result<(Database, tokio_postgres::Client)> {
    let database = Postgres::shared().await?.database(name).await?;
    allow_messages(&database).await?;
    drop(Walcast::on(&database).start().await?);
    database
        .run(
            "do $$ declare partition regclass; begin
               for partition in
                 select inhrelid from pg_inherits where inhparent = 'realtime.messages'::regclass
               loop execute format('drop table %s', partition); end loop;
             end $$",
        )
        .await?;
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await?;
    tokio::spawn(connection);
    Ok((database, client))
}

async fn partitions_of(database: &Database) -> Result<String> {
    let names = database
        .text(
            "select string_agg(inhrelid::regclass::text, ' ' order by inhrelid::regclass::text)
             from pg_inherits where inhparent = 'realtime.messages'::regclass",
        )
        .await?;
    Ok(names.unwrap_or_default().replace("realtime.messages_2026_", ""))
}

#[tokio::test]
async fn a_partition_is_there_before_its_day_begins_anywhere() -> Result<()> {
    let (database, mut client) = without_partitions("partitions_midnight").await?;
    let made = partitions::create(&mut client, BEFORE_MIDNIGHT).await?;
    assert_eq!(made.len(), 5);
    assert_eq!(partitions_of(&database).await?, "11_25 11_26 11_27 11_28 11_29");
    // Whoever comes second has nothing to do.
    assert!(partitions::create(&mut client, BEFORE_MIDNIGHT).await?.is_empty());
    let made = partitions::create(&mut client, BEFORE_MIDNIGHT + 1).await?;
    assert_eq!(made, ["messages_2026_11_30"]);
    // A clock that jumps leaves days out and loses none of its own.
    let made = partitions::create(&mut client, BEFORE_MIDNIGHT + 1 + 20 * DAY).await?;
    assert_eq!(made.first().map(String::as_str), Some("messages_2026_12_16"));
    assert_eq!(made.len(), 5);
    // What a day takes in: its first moment, and all but its end.
    database
        .run(
            "insert into realtime.messages (topic, extension, inserted_at) values
               ('a', 'broadcast', '2026-11-26 00:00'), ('a', 'broadcast', '2026-11-26 23:59:59.999999')",
        )
        .await?;
    let rows = database.text("select count(*) from realtime.messages_2026_11_26").await?;
    assert_eq!(rows.as_deref(), Some("2"));
    let owner = database
        .text(
            "select string_agg(distinct pg_get_userbyid(relowner), ',') from pg_class
             where relname like 'messages_20%' or relname = 'messages'",
        )
        .await?;
    assert_eq!(owner.map(|owners| owners.split(',').count()), Some(1));
    drop(client);
    database.remove().await
}

#[tokio::test]
async fn whole_days_are_dropped_after_the_retention_and_nothing_of_others() -> Result<()> {
    let (database, mut client) = without_partitions("partitions_retention").await?;
    database
        .run(
            "create table realtime.messages_archive partition of realtime.messages
               for values from ('2020-01-01') to ('2021-01-01');
             create table realtime.messages_2020_01_01 (id int);",
        )
        .await?;
    partitions::create(&mut client, BEFORE_MIDNIGHT).await?;
    let at = |days: u64| BEFORE_MIDNIGHT + days * DAY;
    // The 25th ended a second after the 28th began its last one.
    for (now, dropped) in [
        (at(2), [].as_slice()),
        (at(2) + 1, &["messages_2026_11_25"]),
        (at(3), &[]),
        (at(4) + 1, &["messages_2026_11_26", "messages_2026_11_27"]),
    ] {
        assert_eq!(partitions::drop_outdated(&mut client, now, RETENTION).await?, dropped, "{now}");
    }
    assert_eq!(partitions_of(&database).await?, "11_28 11_29 realtime.messages_archive");
    let other = database.text("select to_regclass('realtime.messages_2020_01_01')::text").await?;
    assert_eq!(other.as_deref(), Some("realtime.messages_2020_01_01"));
    drop(client);
    database.remove().await
}

#[tokio::test]
async fn days_that_others_hold_are_left_to_them() -> Result<()> {
    let (database, mut client) = without_partitions("partitions_others").await?;
    database
        .run(
            "create table realtime.theirs partition of realtime.messages
               for values from ('2026-11-26 12:00') to ('2026-11-27 12:00');",
        )
        .await?;
    let made = partitions::create(&mut client, BEFORE_MIDNIGHT).await?;
    assert_eq!(made, ["messages_2026_11_25", "messages_2026_11_28", "messages_2026_11_29"]);
    assert!(partitions::create(&mut client, BEFORE_MIDNIGHT).await?.is_empty());
    // Rows of a day that a default partition has taken stay there.
    database
        .run(
            "create table realtime.rest partition of realtime.messages default;
             insert into realtime.messages (topic, extension, inserted_at)
               values ('a', 'broadcast', '2026-11-30 10:00');",
        )
        .await?;
    let made = partitions::create(&mut client, BEFORE_MIDNIGHT + 2 * DAY).await?;
    assert_eq!(made, ["messages_2026_12_01"]);
    drop(client);
    database.remove().await
}

#[tokio::test]
async fn a_name_that_is_taken_is_told_and_the_other_days_are_made() -> Result<()> {
    let (database, mut client) = without_partitions("partitions_taken").await?;
    partitions::create(&mut client, BEFORE_MIDNIGHT).await?;
    database
        .run(
            "alter table realtime.messages detach partition realtime.messages_2026_11_26;
             drop table realtime.messages_2026_11_29;",
        )
        .await?;
    let error = partitions::create(&mut client, BEFORE_MIDNIGHT).await.unwrap_err().to_string();
    assert!(error.contains("realtime.messages_2026_11_26 is no partition"), "{error}");
    assert_eq!(partitions_of(&database).await?, "11_25 11_27 11_28 11_29");
    drop(client);
    database.remove().await
}
