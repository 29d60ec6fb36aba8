//! Reads a stream in tests.

use tokio::time::timeout;
use walcast_change::{Cell, Row, RowChange, RowEvent};
use walcast_replicator::{ReplicationError, ReplicationStream, Resume, Started, StreamItem};

use crate::server::{DEADLINE, Database};

pub(crate) async fn start(
    database: &Database,
    resume: Option<&Resume>,
) -> (ReplicationStream, Started) {
    try_start(database, resume).await.unwrap_or_else(|error| panic!("{}", explain(&error)))
}

pub(crate) async fn try_start(
    database: &Database,
    resume: Option<&Resume>,
) -> Result<(ReplicationStream, Started), ReplicationError> {
    let start = ReplicationStream::start(&database.connect, &database.replication, resume);
    timeout(DEADLINE, Box::pin(start)).await.expect("start in time")
}

pub(crate) async fn next_batch(
    stream: &mut ReplicationStream,
    max_items: usize,
) -> Result<Vec<StreamItem>, ReplicationError> {
    let mut items = Vec::new();
    timeout(DEADLINE, stream.next_batch(max_items, &mut items)).await.expect("items in time")?;
    assert!(!items.is_empty());
    Ok(items)
}

/// Reads until `n_rows` row events came and their transaction ended, and hands over.
pub(crate) async fn read_rows(stream: &mut ReplicationStream, n_rows: usize) -> Vec<RowEvent> {
    let mut rows = Vec::new();
    let mut is_inside = false;
    while rows.len() < n_rows || is_inside {
        for item in next_batch(stream, 1000).await.unwrap() {
            match item {
                StreamItem::Row(row) => {
                    rows.push(row);
                    is_inside = true;
                }
                StreamItem::Commit { end, .. } => {
                    stream.handed_over(end);
                    is_inside = false;
                }
                StreamItem::Relation(_) | StreamItem::Message(_) | StreamItem::Keepalive { .. } => {
                }
            }
        }
    }
    rows
}

/// Reads until the stream fails.
pub(crate) async fn read_error(stream: &mut ReplicationStream) -> ReplicationError {
    loop {
        match next_batch(stream, 1000).await {
            Ok(items) => {
                for item in items {
                    if let StreamItem::Commit { end, .. } = item {
                        stream.handed_over(end);
                    }
                }
            }
            Err(error) => return error,
        }
    }
}

/// A row in short: values, `-` for NULL, `~` for unchanged.
pub(crate) fn show_row(row: &Row) -> String {
    let cells = row.cells().map(|cell| match cell {
        Cell::Null => "-",
        Cell::Unchanged => "~",
        Cell::Text(text) if text.len() > 100 => "long",
        Cell::Text(text) => text,
    });
    cells.collect::<Vec<_>>().join(" ")
}

/// An event in short: table, kind, old key or row, new row.
pub(crate) fn show(event: &RowEvent) -> String {
    use walcast_change::OldImage;
    let old = event.old_image().map(|old| match old {
        OldImage::Key(row) => format!(" key({})", show_row(row)),
        OldImage::Full(row) => format!(" old({})", show_row(row)),
    });
    let new = event.new_row().map(|row| format!(" new({})", show_row(row)));
    let table = &event.relation.name;
    let kind = match event.change {
        RowChange::Insert { .. } => "insert",
        RowChange::Update { .. } => "update",
        RowChange::Delete { .. } => "delete",
        RowChange::Truncate => "truncate",
    };
    format!("{table} {kind}{}{}", old.unwrap_or_default(), new.unwrap_or_default())
}

/// An error with its causes.
pub(crate) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
