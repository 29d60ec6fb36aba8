//! Lost connections: nothing lost, nothing twice.

use walcast_change::{Cell, Lsn};
use walcast_replicator::{Break, Continuity, ReplicationError, Resume, StreamItem};

use crate::{
    reading::{explain, next_batch, read_error, read_rows, show, start, try_start},
    server::{Database, Server},
};

/// Starts as soon as the old connection has left the slot.
async fn restart(database: &Database, resume: &Resume) -> walcast_replicator::ReplicationStream {
    loop {
        match try_start(database, Some(resume)).await {
            Ok((stream, started)) => {
                assert_eq!(started.continuity, Continuity::Unbroken);
                return stream;
            }
            Err(ReplicationError::SlotActive { .. } | ReplicationError::Transient(_)) => {}
            Err(error) => panic!("{}", explain(&error)),
        }
    }
}

#[tokio::test]
async fn the_backend_is_terminated() {
    const N_TRANSACTIONS: i32 = 300;
    const N_ROWS: i32 = 20;
    let database = Server::shared().database("terminated", "").await;
    database
        .run(
            "create table notes (id int primary key, body text);
             create publication supabase_realtime for table notes;",
        )
        .await;
    let (mut stream, _) = start(&database, None).await;
    let writer = Server::shared().existing_database("terminated").await;
    let writing = tokio::spawn(async move {
        for transaction in 0..N_TRANSACTIONS {
            let (first, last) = (transaction * N_ROWS, (transaction + 1) * N_ROWS - 1);
            writer
                .run(&format!(
                    "insert into notes select n, repeat('x', n % 500) \
                     from generate_series({first}, {last}) n"
                ))
                .await;
        }
    });
    let terminate = "select pg_terminate_backend(active_pid) from pg_replication_slots \
                     where slot_name = 'terminated_slot'";
    let mut ids: Vec<i32> = Vec::new();
    let mut n_batches = 0;
    let mut n_breaks = 0;
    let n_all = usize::try_from(N_TRANSACTIONS * N_ROWS).unwrap();
    while ids.len() < n_all {
        // A size that ends batches inside transactions.
        match next_batch(&mut stream, 33).await {
            Ok(items) => {
                for item in items {
                    match item {
                        StreamItem::Row(row) => {
                            let Some(Cell::Text(id)) = row.new_row().map(|row| row.cell(0)) else {
                                panic!("{row:?}");
                            };
                            assert_eq!(i64::from(row.index), id.parse::<i64>().unwrap() % 20);
                            ids.push(id.parse().unwrap());
                        }
                        // Not all are handed over at once, as by a slow consumer.
                        StreamItem::Commit { end, .. } if n_batches % 3 == 0 => {
                            stream.handed_over(end);
                        }
                        StreamItem::Commit { .. }
                        | StreamItem::Relation(_)
                        | StreamItem::Message(_)
                        | StreamItem::Keepalive { .. } => {}
                    }
                }
            }
            Err(error) => {
                assert!(error.is_transient(), "{}", explain(&error));
                let resume = stream.resume();
                drop(stream);
                stream = restart(&database, &resume).await;
                n_breaks += 1;
            }
        }
        n_batches += 1;
        if n_batches % 40 == 0 {
            database.run(terminate).await;
        }
    }
    writing.await.unwrap();
    assert!(n_breaks > 0);
    assert_eq!(ids, (0..N_TRANSACTIONS * N_ROWS).collect::<Vec<_>>());
}

async fn with_notes(server: &Server) -> Database {
    let database = server.existing_database("postgres").await;
    database
        .run(
            "create table notes (id int primary key);
             create publication supabase_realtime for table notes;",
        )
        .await;
    database
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_is_restarted() {
    let mut server = Server::start("");
    let database = with_notes(&server).await;
    let (mut stream, _) = start(&database, None).await;
    database.run("insert into notes values (1)").await;
    read_rows(&mut stream, 1).await;
    database.run("insert into notes values (2)").await;
    let reading = tokio::spawn(async move {
        // Goes on reading, so that the server can stop as soon as everything was confirmed.
        let error = read_error(&mut stream).await;
        assert!(error.is_transient(), "{}", explain(&error));
        stream.resume()
    });
    server.restart();
    let resume = reading.await.unwrap();
    let database = server.existing_database("postgres").await;
    database.run("insert into notes values (3)").await;
    let mut stream = restart(&database, &resume).await;
    let rows = read_rows(&mut stream, 1).await;
    assert_eq!(rows.iter().map(show).collect::<Vec<_>>(), ["notes insert new(3)"]);
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn the_timeline_goes_up_and_the_slot_comes_along() {
    let mut server = Server::start("");
    let database = with_notes(&server).await;
    let (mut stream, started) = start(&database, None).await;
    assert_eq!(started.identity.timeline, 1);
    database.run("insert into notes values (1)").await;
    read_rows(&mut stream, 1).await;
    let mut resume = stream.resume();
    stream.finish().await.unwrap();
    server.create_file("standby.signal");
    server.restart();
    let database = server.existing_database("postgres").await;
    database.await_true("select pg_promote()").await;
    database.await_true("select not pg_is_in_recovery()").await;
    database.run("insert into notes values (2)").await;
    let (mut stream, started) = start(&database, Some(&resume)).await;
    assert_eq!(started.identity.timeline, 2);
    assert_eq!(started.continuity, Continuity::Unbroken);
    let rows = read_rows(&mut stream, 1).await;
    assert_eq!(rows.iter().map(show).collect::<Vec<_>>(), ["notes insert new(2)"]);
    stream.finish().await.unwrap();
    // A reader that had seen more of the first timeline than there was.
    resume.taken.end = Lsn::new(u64::MAX);
    let (stream, started) = loop {
        match try_start(&database, Some(&resume)).await {
            Err(ReplicationError::SlotActive { .. }) => {}
            result => break result.unwrap(),
        }
    };
    let Continuity::Broken(Break::TimelineBranched { branched_at, read_up_to }) =
        started.continuity
    else {
        panic!("{started:?}");
    };
    assert!(branched_at > Lsn::ZERO && branched_at < read_up_to);
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn what_was_not_handed_over_comes_again_to_another_process() {
    let database = Server::shared().database("unacknowledged", "").await;
    database
        .run(
            "create table notes (id int primary key);
             create publication supabase_realtime for table notes;",
        )
        .await;
    let (mut stream, _) = start(&database, None).await;
    database.run("insert into notes values (1)").await;
    database.run("insert into notes values (2)").await;
    let mut ends = Vec::new();
    while ends.len() < 2 {
        for item in next_batch(&mut stream, 100).await.unwrap() {
            if let StreamItem::Commit { end, .. } = item {
                ends.push(end);
            }
        }
    }
    stream.handed_over(ends[0]);
    assert_eq!(stream.progress().handed_over(), ends[0]);
    assert!(stream.progress().received() >= ends[1]);
    assert_eq!(stream.finish().await.unwrap(), ends[0]);
    let (mut stream, _) = loop {
        match try_start(&database, None).await {
            Ok(started) => break started,
            Err(ReplicationError::SlotActive { .. }) => {}
            Err(error) => panic!("{}", explain(&error)),
        }
    };
    let rows = read_rows(&mut stream, 1).await;
    let ids: Vec<_> = rows.iter().map(show).collect();
    assert_eq!(ids, ["notes insert new(2)"]);
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn nobody_listens() {
    let database = Server::shared().existing_database("postgres").await;
    let mut database = database;
    database.connect.host = walcast_replicator::Host::Unix("/nonexistent".into());
    let error = try_start(&database, None).await.map(|_| ()).unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(explain(&error).contains("/nonexistent/.s.PGSQL"), "{}", explain(&error));
}
