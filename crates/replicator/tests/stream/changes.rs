//! What comes out of the stream.

use std::time::Duration;

use walcast_change::{Cell, ReplicaIdentity};
use walcast_replicator::{Continuity, SlotStart, StreamItem};

use crate::{
    reading::{next_batch, read_rows, show, show_row, start},
    server::{DEADLINE, Server},
};

#[tokio::test]
async fn every_change_has_the_images_its_replica_identity_allows() {
    let database = Server::shared().database("identities", "").await;
    database
        .run(
            "create table plain (id int primary key, a text, b text);
             create table whole (id int primary key, a text, b text);
             alter table whole replica identity full;
             create table by_index (id int, code text not null unique, a text);
             alter table by_index replica identity using index by_index_code_key;
             create table nothing (id int, a text);
             alter table nothing replica identity nothing;
             alter table plain alter b set storage external;
             alter table whole alter b set storage external;
             create publication supabase_realtime for all tables;",
        )
        .await;
    let (mut stream, started) = start(&database, None).await;
    assert_eq!(started.continuity, Continuity::FirstStart);
    assert!(matches!(started.slot, SlotStart::Created { .. }));
    assert_eq!(started.publication_tables, 4);
    assert_eq!(started.identity.database, "identities");
    assert!((140_000..400_000).contains(&started.server_version));
    database
        .run(
            "begin;
             insert into plain values (1, 'a', repeat('x', 10000)), (2, null, '');
             update plain set a = 'b' where id = 1;
             update plain set id = 3 where id = 2;
             delete from plain where id = 3;
             insert into whole values (1, 'a', repeat('x', 10000));
             update whole set a = 'b';
             delete from whole;
             insert into by_index values (1, 'k', null);
             update by_index set a = 'é';
             update by_index set code = 'l';
             delete from by_index;
             insert into nothing values (1, null);
             truncate plain, whole;
             commit;",
        )
        .await;
    let rows = read_rows(&mut stream, 15).await;
    let shown: Vec<_> = rows.iter().map(show).collect();
    let (truncates, changes) = shown.split_at(13);
    let (changes, mut truncates) = (truncates, changes.to_vec());
    assert_eq!(
        changes,
        [
            "plain insert new(1 a long)",
            "plain insert new(2 - )",
            "plain update new(1 b ~)",
            "plain update key(2 ~ ~) new(3 - )",
            "plain delete key(3 ~ ~)",
            "whole insert new(1 a long)",
            "whole update old(1 a long) new(1 b long)",
            "whole delete old(1 b long)",
            "by_index insert new(1 k -)",
            "by_index update new(1 k é)",
            "by_index update key(~ k ~) new(1 l é)",
            "by_index delete key(~ l ~)",
            "nothing insert new(1 -)",
        ]
    );
    truncates.sort();
    assert_eq!(truncates, ["plain truncate", "whole truncate"]);
    let indexes: Vec<_> = rows.iter().map(|row| row.index).collect();
    assert_eq!(indexes, (0..15).collect::<Vec<_>>());
    let commit = rows[0].commit;
    assert!(rows.iter().all(|row| row.commit == commit));
    let now_us = database.value("select (extract(epoch from now()) * 1000000)::bigint").await;
    let age_us = now_us.unwrap().parse::<i64>().unwrap() - commit.timestamp_us;
    assert!((0..3_600_000_000).contains(&age_us), "{age_us}");
    let identities: Vec<_> = [0, 5, 8, 12].map(|row| rows[row].relation.replica_identity).into();
    assert_eq!(
        identities,
        [
            ReplicaIdentity::Default,
            ReplicaIdentity::Full,
            ReplicaIdentity::Index,
            ReplicaIdentity::Nothing
        ]
    );
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn messages_and_changed_definitions_come_at_their_place() {
    let database = Server::shared().database("messages", "").await;
    database.run("create table notes (id int primary key)").await;
    database.run("create publication supabase_realtime for table notes").await;
    let (mut stream, _) = start(&database, None).await;
    database
        .run(
            "begin;
             insert into notes values (1);
             select pg_logical_emit_message(true, 'walcast', 'inside');
             alter table notes add body text;
             insert into notes values (2, 'b');
             commit;
             select pg_logical_emit_message(false, 'walcast', 'outside');",
        )
        .await;
    let mut seen = Vec::new();
    while !seen.iter().any(|line: &String| line.starts_with("message outside")) {
        for item in next_batch(&mut stream, 3).await.unwrap() {
            match item {
                StreamItem::Relation(relation) => {
                    seen.push(format!("relation with {}", relation.columns.len()));
                }
                StreamItem::Row(row) => seen.push(format!("{} {}", row.index, show(&row))),
                StreamItem::Commit { end, .. } => {
                    stream.handed_over(end);
                    seen.push("commit".to_owned());
                }
                StreamItem::Message(message) => {
                    let content = String::from_utf8(message.content).unwrap();
                    assert_eq!(&*message.prefix, "walcast");
                    seen.push(format!("message {content} {}", message.is_transactional));
                }
                StreamItem::Keepalive { .. } => {}
            }
        }
    }
    // A message outside of transactions is there at once, a transaction after its commit.
    assert_eq!(
        seen,
        [
            "relation with 1",
            "0 notes insert new(1)",
            "message inside true",
            "relation with 2",
            "1 notes insert new(2 b)",
            "commit",
            "message outside false",
        ]
    );
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn values_are_written_as_the_database_writes_them() {
    let server = Server::shared();
    let database = server.database("formats", "").await;
    database
        .run(
            "alter database formats set timezone = 'Asia/Kolkata';
             alter database formats set intervalstyle = 'iso_8601';
             alter database formats set datestyle = 'SQL, DMY';
             alter database formats set extra_float_digits = 0;
             alter database formats set bytea_output = 'escape';
             create table moments (id int primary key, at timestamptz, span interval, day date,
                                   ratio float8, bytes bytea);
             create publication supabase_realtime for table moments;",
        )
        .await;
    let (mut stream, _) = start(&database, None).await;
    database
        .run(
            "set datestyle = iso;
             insert into moments values
                 (1, '2026-01-02 00:00:00Z', '1 day 2 hours', '2026-01-02', 0.1::float8 + 0.2,
                  '\\x00ff')",
        )
        .await;
    let rows = read_rows(&mut stream, 1).await;
    assert_eq!(
        show_row(rows[0].new_row().unwrap()),
        "1 2026-01-02 05:30:00+05:30 P1DT2H 2026-01-02 0.30000000000000004 \\x00ff"
    );
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn large_rows_and_small_batches_lose_nothing() {
    let database = Server::shared().database("sizes", "").await;
    database.run("create table notes (id int primary key, body text)").await;
    database.run("create publication supabase_realtime for table notes").await;
    let (mut stream, _) = start(&database, None).await;
    database
        .run(
            "insert into notes select n, repeat('x', 1 << (n % 24)) from generate_series(0, 23) n;
             insert into notes select n, 'y' from generate_series(24, 5000) n;",
        )
        .await;
    let mut lengths = Vec::new();
    while lengths.len() < 5001 {
        let items = next_batch(&mut stream, 7).await.unwrap();
        assert!(items.len() <= 7);
        for item in items {
            match item {
                StreamItem::Row(row) => {
                    let Cell::Text(id) = row.new_row().unwrap().cell(0) else { panic!() };
                    assert_eq!(id, lengths.len().to_string());
                    let Cell::Text(body) = row.new_row().unwrap().cell(1) else { panic!() };
                    lengths.push(body.len());
                }
                StreamItem::Commit { end, .. } => stream.handed_over(end),
                StreamItem::Relation(_) | StreamItem::Message(_) | StreamItem::Keepalive { .. } => {
                }
            }
        }
    }
    assert_eq!(lengths[23], 1 << 23);
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn an_idle_stream_lets_the_log_go_and_is_not_timed_out() {
    let server = Server::shared();
    let database = server.database("idle", "").await;
    let busy = server.database("busy", "").await;
    database.run("create publication supabase_realtime").await;
    database.run("create role quick superuser login replication").await;
    database.run("alter role quick set wal_sender_timeout = '1s'").await;
    let mut database = database;
    database.connect.user = "quick".to_owned();
    let (mut stream, started) = start(&database, None).await;
    assert_eq!(started.publication_tables, 0);
    let reading = tokio::spawn(async move {
        let mut items = Vec::new();
        let error = loop {
            if let Err(error) = stream.next_batch(10, &mut items).await {
                break error;
            }
            items.clear();
        };
        error.to_string()
    });
    let pid = "select active_pid from pg_replication_slots where slot_name = 'idle_slot'";
    let first_pid = database.value(pid).await;
    assert!(first_pid.is_some());
    // Three times the time-out of silence, as the server measures it.
    let begin = database.value("select clock_timestamp()").await.unwrap();
    let end = format!("select clock_timestamp() > '{begin}'::timestamptz + interval '3 s'");
    database.await_true(&end).await;
    assert_eq!(database.value(pid).await, first_pid);
    busy.run("create table t as select generate_series(1, 10000)").await;
    let position = database.value("select pg_current_wal_lsn()").await.unwrap();
    let confirmed = format!(
        "select confirmed_flush_lsn >= '{position}' from pg_replication_slots \
         where slot_name = 'idle_slot'"
    );
    database.await_true(&confirmed).await;
    assert_eq!(database.value(pid).await, first_pid);
    reading.abort();
    assert!(tokio::time::timeout(DEADLINE, reading).await.unwrap().is_err());
}

#[tokio::test]
async fn a_busy_caller_keeps_the_connection_by_feedback() {
    let mut database = Server::shared().database("occupied", "").await;
    database
        .run(
            "create role hasty superuser login replication;
             alter role hasty set wal_sender_timeout = '1s';
             create table notes (id int primary key);
             create publication supabase_realtime for table notes;",
        )
        .await;
    database.connect.user = "hasty".to_owned();
    let (mut stream, _) = start(&database, None).await;
    database.run("insert into notes values (1)").await;
    let begin = database.value("select clock_timestamp()").await.unwrap();
    let is_over = format!("select clock_timestamp() > '{begin}'::timestamptz + interval '3 s'");
    while database.value(&is_over).await.as_deref() != Some("t") {
        stream.feedback().await.unwrap();
    }
    assert_eq!(read_rows(&mut stream, 1).await.len(), 1);
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn a_wait_that_is_given_up_loses_nothing() {
    const N_ROWS: usize = 3000;
    let database = Server::shared().database("impatient", "").await;
    database.run("create table notes (id int primary key, body text)").await;
    database.run("create publication supabase_realtime for table notes").await;
    let (mut stream, _) = start(&database, None).await;
    let writing = tokio::spawn(async move {
        let insert = "do $$ begin for n in 1..3000 loop
                          insert into notes values (n, repeat('x', n)); commit;
                      end loop; end $$";
        database.run(insert).await;
    });
    let (mut rows, mut n_given_up) = (Vec::new(), 0);
    while rows.len() < N_ROWS || n_given_up == 0 {
        let mut items = Vec::new();
        let wait = stream.next_batch(5, &mut items);
        if let Ok(result) = tokio::time::timeout(Duration::from_micros(50), wait).await {
            result.unwrap();
        } else {
            assert!(items.is_empty());
            n_given_up += 1;
        }
        for item in items {
            if let StreamItem::Row(row) = item {
                rows.push(show_row(row.new_row().unwrap()).len());
            }
        }
    }
    writing.await.unwrap();
    assert_eq!(rows.len(), N_ROWS);
    stream.finish().await.unwrap();
}
