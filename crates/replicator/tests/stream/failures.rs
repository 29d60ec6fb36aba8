//! Lost connections: nothing lost, nothing twice.

use walcast_change::Cell;
use walcast_replicator::{Continuity, ReplicationError, Resume, StreamItem};

use crate::{
    reading::{explain, next_batch, start, try_start},
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
    let rows = crate::reading::read_rows(&mut stream, 1).await;
    let ids: Vec<_> = rows.iter().map(crate::reading::show).collect();
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
