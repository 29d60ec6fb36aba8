//! Slots and publications: found, missing, taken, given up.

use walcast_replicator::{
    Break, Continuity, Definite, ReplicationError, ReplicationStream, SlotStart, drop_slot,
};

use crate::{
    reading::{explain, read_error, read_rows, show, start, try_start},
    server::{Database, Server},
};

async fn with_notes(server: &Server, name: &str) -> Database {
    let database = server.database(name, "").await;
    database
        .run(
            "create table notes (id int primary key);
             create publication supabase_realtime for table notes;",
        )
        .await;
    database
}

async fn n_slots(database: &Database) -> String {
    let sql = "select count(*) from pg_replication_slots where database = current_database()";
    database.value(sql).await.unwrap()
}

/// Waits until the connection that had the slot is gone.
async fn await_inactive(database: &Database) {
    let slot = &database.replication.slot;
    database
        .await_true(&format!(
            "select not exists (select from pg_replication_slots \
                                where slot_name = '{slot}' and active)"
        ))
        .await;
}

#[tokio::test]
async fn a_durable_slot_goes_on_after_the_process() {
    let database = with_notes(Server::shared(), "durable").await;
    let (mut stream, _) = start(&database, None).await;
    database.run("insert into notes values (1)").await;
    read_rows(&mut stream, 1).await;
    let confirmed = stream.finish().await.unwrap();
    await_inactive(&database).await;
    let told = database
        .value(
            "select confirmed_flush_lsn from pg_replication_slots where slot_name = 'durable_slot'",
        )
        .await;
    assert_eq!(told, Some(confirmed.to_string()));
    database.run("insert into notes values (2)").await;
    let (mut stream, started) = start(&database, None).await;
    assert_eq!(started.slot, SlotStart::Resumed { confirmed });
    assert_eq!(started.continuity, Continuity::FirstStart);
    let rows = read_rows(&mut stream, 1).await;
    assert_eq!(rows.iter().map(show).collect::<Vec<_>>(), ["notes insert new(2)"]);
    stream.finish().await.unwrap();
    await_inactive(&database).await;
    drop_slot(&database.connect, "durable_slot").await.unwrap();
    assert_eq!(n_slots(&database).await, "0");
    drop_slot(&database.connect, "durable_slot").await.unwrap();
}

#[tokio::test]
async fn a_temporary_slot_ends_with_the_connection() {
    let mut database = with_notes(Server::shared(), "temporary").await;
    database.replication.temporary = true;
    let (mut stream, _) = start(&database, None).await;
    assert_eq!(n_slots(&database).await, "1");
    database.run("insert into notes values (1)").await;
    read_rows(&mut stream, 1).await;
    let resume = stream.resume();
    stream.finish().await.unwrap();
    database
        .await_true("select count(*) = 0 from pg_replication_slots where database = 'temporary'")
        .await;
    let (stream, started) = start(&database, Some(&resume)).await;
    assert_eq!(started.continuity, Continuity::Broken(Break::SlotMissing));
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn a_slot_in_use_makes_a_standby() {
    let database = with_notes(Server::shared(), "in_use").await;
    let (stream, _) = start(&database, None).await;
    let pid = database
        .value("select active_pid from pg_replication_slots where slot_name = 'in_use_slot'")
        .await;
    match try_start(&database, None).await.map(|_| ()) {
        Err(ReplicationError::SlotActive { pid: found }) => {
            assert_eq!(found.map(|pid| pid.to_string()), pid);
        }
        other => panic!("{other:?}"),
    }
    stream.finish().await.unwrap();
    await_inactive(&database).await;
    let (stream, _) = start(&database, None).await;
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn a_dropped_slot_breaks_continuity() {
    let database = with_notes(Server::shared(), "dropped").await;
    let (mut stream, _) = start(&database, None).await;
    database.run("insert into notes values (1)").await;
    read_rows(&mut stream, 1).await;
    let resume = stream.resume();
    stream.finish().await.unwrap();
    await_inactive(&database).await;
    database.run("select pg_drop_replication_slot('dropped_slot')").await;
    database.run("insert into notes values (2)").await;
    let (mut stream, started) = start(&database, Some(&resume)).await;
    assert_eq!(started.continuity, Continuity::Broken(Break::SlotMissing));
    assert!(matches!(started.slot, SlotStart::Created { .. }));
    database.run("insert into notes values (3)").await;
    let rows = read_rows(&mut stream, 1).await;
    assert_eq!(rows.iter().map(show).collect::<Vec<_>>(), ["notes insert new(3)"]);
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn a_slot_that_postgresql_gave_up_breaks_continuity() {
    let server =
        Server::start("max_slot_wal_keep_size = 1MB\nmin_wal_size = 32MB\nmax_wal_size = 32MB");
    let database = with_notes(&server, "lost").await;
    let (stream, _) = start(&database, None).await;
    let resume = stream.resume();
    stream.finish().await.unwrap();
    await_inactive(&database).await;
    for _ in 0..4 {
        database
            .run("insert into notes select max(id) + 1 from notes where id > 0 having max(id) > 0")
            .await;
        database.run("select pg_logical_emit_message(false, 'fill', repeat('x', 1000))").await;
        database.run("select pg_switch_wal()").await;
        database.run("checkpoint").await;
    }
    database
        .await_true(
            "select wal_status = 'lost' from pg_replication_slots where slot_name = 'lost_slot'",
        )
        .await;
    let (mut stream, started) = start(&database, Some(&resume)).await;
    let Continuity::Broken(Break::SlotInvalidated { reason }) = started.continuity else {
        panic!("{started:?}");
    };
    assert_eq!(reason, "wal_removed");
    database.run("insert into notes values (7)").await;
    assert_eq!(read_rows(&mut stream, 1).await.len(), 1);
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn another_server_breaks_continuity() {
    let database = with_notes(Server::shared(), "moved").await;
    let (stream, _) = start(&database, None).await;
    let mut resume = stream.resume();
    stream.finish().await.unwrap();
    await_inactive(&database).await;
    resume.identity.system_id = "1".to_owned();
    let (stream, started) = start(&database, Some(&resume)).await;
    let Continuity::Broken(Break::OtherServer { before, now }) = started.continuity else {
        panic!("{started:?}");
    };
    assert!(before.starts_with("1 ") && !now.starts_with("1 "), "{before} {now}");
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn another_reader_of_the_slot_breaks_continuity() {
    let database = with_notes(Server::shared(), "advanced").await;
    let (stream, _) = start(&database, None).await;
    let resume = stream.resume();
    stream.finish().await.unwrap();
    await_inactive(&database).await;
    database.run("insert into notes values (1)").await;
    let (mut other, _) = start(&database, None).await;
    read_rows(&mut other, 1).await;
    other.finish().await.unwrap();
    await_inactive(&database).await;
    let (stream, started) = start(&database, Some(&resume)).await;
    assert!(
        matches!(started.continuity, Continuity::Broken(Break::SlotAdvanced { .. })),
        "{started:?}"
    );
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn a_missing_publication_is_told_before_a_slot_is_made() {
    let database = Server::shared().database("unpublished", "").await;
    let error = try_start(&database, None).await.map(|_| ()).unwrap_err();
    let ReplicationError::PublicationMissing { name } = &error else { panic!("{error:?}") };
    assert_eq!(name, "supabase_realtime");
    assert_eq!(n_slots(&database).await, "0");
    database.run("create publication supabase_realtime").await;
    let (stream, _) = start(&database, None).await;
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn a_publication_dropped_while_streaming_needs_a_new_slot() {
    let mut database = with_notes(Server::shared(), "republished").await;
    let (mut stream, started) = start(&database, None).await;
    database.run("drop publication supabase_realtime").await;
    database.run("insert into notes values (1)").await;
    if started.server_version >= 180_000 {
        // From 18 on PostgreSQL only warns, and goes on when there is one again.
        database.run("create publication supabase_realtime for table notes").await;
        database.run("insert into notes values (2)").await;
        let rows = read_rows(&mut stream, 1).await;
        assert_eq!(rows.iter().map(show).collect::<Vec<_>>(), ["notes insert new(2)"]);
        stream.finish().await.unwrap();
        return;
    }
    let error = read_error(&mut stream).await;
    assert!(
        matches!(&error, ReplicationError::PublicationMissing { name } if name == "supabase_realtime"),
        "{}",
        explain(&error)
    );
    let resume = stream.resume();
    drop(stream);
    await_inactive(&database).await;
    database.replication.recreate_slot = true;
    assert!(matches!(
        try_start(&database, Some(&resume)).await.map(|_| ()),
        Err(ReplicationError::PublicationMissing { .. })
    ));
    database.run("create publication supabase_realtime for table notes").await;
    let (mut stream, started) = start(&database, Some(&resume)).await;
    assert_eq!(started.continuity, Continuity::Broken(Break::PublicationRecreated));
    database.run("insert into notes values (2)").await;
    assert_eq!(read_rows(&mut stream, 1).await.len(), 1);
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn tables_added_while_streaming_are_read() {
    let database = with_notes(Server::shared(), "added").await;
    let (mut stream, _) = start(&database, None).await;
    database.run("create table more (id int primary key)").await;
    database.run("insert into more values (1)").await;
    database.run("alter publication supabase_realtime add table more").await;
    database.run("insert into more values (2)").await;
    let rows = read_rows(&mut stream, 1).await;
    assert_eq!(rows.iter().map(show).collect::<Vec<_>>(), ["more insert new(2)"]);
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn foreign_slots_and_databases_are_refused() {
    let server = Server::shared();
    let mut database = with_notes(server, "foreign_slots").await;
    let check = async |database: &Database, words: &str| {
        let error = try_start(database, None).await.map(|_| ()).unwrap_err();
        assert!(!error.is_transient() && explain(&error).contains(words), "{}", explain(&error));
    };
    database.run("select pg_create_physical_replication_slot('physical')").await;
    database.replication.slot = "physical".to_owned();
    check(&database, "physical").await;
    database.run("select pg_drop_replication_slot('physical')").await;
    let other = with_notes(server, "foreign_other").await;
    other.run("select pg_create_logical_replication_slot('of_other', 'pgoutput')").await;
    database.replication.slot = "of_other".to_owned();
    check(&database, "foreign_other").await;
    let plugin = "select pg_create_logical_replication_slot('decoding', 'test_decoding')";
    if database.sql.batch_execute(plugin).await.is_ok() {
        database.replication.slot = "decoding".to_owned();
        check(&database, "test_decoding").await;
    }
    database.replication.slot = "Not allowed".to_owned();
    check(&database, "lower-case").await;
    let ascii =
        server.database("ascii", "encoding 'SQL_ASCII' locale 'C' template template0").await;
    ascii.run("create publication supabase_realtime").await;
    check(&ascii, "SQL_ASCII").await;
}

#[tokio::test]
async fn too_small_a_log_level_is_told() {
    let server = Server::start("wal_level = replica");
    let database = server.existing_database("postgres").await;
    let start = ReplicationStream::start(&database.connect, &database.replication, None);
    let error = Box::pin(start).await.map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, ReplicationError::Definite(Definite::WalLevel { wal_level }) if wal_level == "replica"),
        "{}",
        explain(&error)
    );
}
