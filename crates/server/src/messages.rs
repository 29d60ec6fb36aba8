//! Messages that SQL sends to channels: rows of `realtime.messages`.
//!
//! ```text
//! keeper       makes the table, its partitions and its publication    SQL
//! stream       the rows come with all others, in commit order          RowEvent
//! this file    a row → a broadcast to the channels of its topic        Topics
//! replay       earlier rows for a channel that asks                    SQL
//! ```
#![deny(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

pub mod keeper;
pub mod partitions;
pub mod recent;
pub mod replay;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use walcast_change::{Cell, Commit, Relation, Row, RowChange, RowEvent};
use walcast_protocol::{
    RawJson, ServerMessage, Topic,
    message::{Encoding, UserBroadcast},
};

use self::recent::RecentTransactions;
use crate::{
    telemetry::{Metrics, milliseconds},
    topics::{TopicName, Topics},
    transport::wire::Unflushed,
};

/// The publication that brings the rows, walcast's own.
pub const PUBLICATION: &str = "supabase_realtime_messages_publication";

/// The schema of the table and its partitions.
const SCHEMA: &str = "realtime";

/// The name of the table, and what those of its partitions begin with.
const TABLE: &str = "messages";

/// The columns that a message is made of, in the order of [`Layout`].
const COLUMNS: [&str; 6] = ["topic", "event", "payload", "private", "id", BINARY_PAYLOAD];

/// The one that a table made by an older Supabase lacks.
const BINARY_PAYLOAD: &str = "binary_payload";

/// Turns rows into broadcasts.
#[derive(Debug)]
pub struct Messages {
    topics: Arc<Topics>,
    metrics: Arc<Metrics>,
    payload_bytes_max: usize,
    recent: Arc<RecentTransactions>,
    /// The relation of the last row and where its columns are; rows come in runs.
    last: Option<(Arc<Relation>, Option<Layout>)>,
    /// The sockets that messages were put down for.
    unflushed: Unflushed,
    /// The reasons that were logged; each is once.
    logged: Mutex<BTreeSet<&'static str>>,
}

/// The positions of [`COLUMNS`]; `None` for one that the table may lack and does.
type Layout = [Option<usize>; 6];

/// A message as its row says it.
#[derive(Debug, Eq, PartialEq)]
pub struct StoredMessage {
    /// Where it goes.
    pub name: TopicName,
    /// What is said.
    pub broadcast: UserBroadcast,
}

impl Messages {
    /// Tells the channels of `topics`.
    #[must_use]
    pub fn new(
        topics: Arc<Topics>,
        metrics: Arc<Metrics>,
        payload_bytes_max: usize,
        recent: Arc<RecentTransactions>,
    ) -> Self {
        let logged = Mutex::default();
        let unflushed = Unflushed::default();
        Self { topics, metrics, payload_bytes_max, recent, last: None, unflushed, logged }
    }

    /// Whether this is a row of `realtime.messages`; an inserted one is broadcast.
    pub fn take(&mut self, event: &RowEvent) -> bool {
        let Some(layout) = self.layout(&event.relation) else { return false };
        if let RowChange::Insert { new } = &event.change {
            self.recent.note(event.commit.transaction_id);
            self.publish(new, layout, event.commit);
        }
        true
    }

    fn layout(&mut self, relation: &Arc<Relation>) -> Option<Layout> {
        if let Some((last, layout)) = &self.last
            && Arc::ptr_eq(last, relation)
        {
            return *layout;
        }
        let layout = layout_of(relation);
        self.last = Some((Arc::clone(relation), layout));
        layout
    }

    fn publish(&mut self, row: &Row, layout: Layout, commit: Commit) {
        let message = match read(row, layout) {
            Ok(message) => message,
            Err(reason) => return self.skip(reason),
        };
        if message.broadcast.payload.len() > self.payload_bytes_max {
            return self.skip("payload_size_exceeded");
        }
        let StoredMessage { name, broadcast } = message;
        let topic = name.topic.clone();
        self.metrics.broadcasts_database.increment(1);
        let message = ServerMessage::UserBroadcast { topic, broadcast };
        let mut published = self.topics.publish_stored(&name, &message, commit.transaction_id);
        published.flush_later(&mut self.unflushed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let committed =
            Duration::from_micros(u64::try_from(commit.timestamp_us).unwrap_or_default());
        let latency = milliseconds(now.saturating_sub(committed));
        self.metrics.broadcast_latency_ms.record(latency);
    }

    /// Writes what was passed on to the sockets: messages that came together leave together.
    pub async fn flush(&mut self) {
        self.unflushed.flush_in_turns().await;
    }

    fn skip(&self, reason: &'static str) {
        self.metrics.broadcast_refused(reason);
        if let Ok(mut logged) = self.logged.lock()
            && logged.insert(reason)
        {
            tracing::warn!(
                reason,
                "UnableToBroadcastChanges: a row of realtime.messages was skipped"
            );
        }
    }
}

fn layout_of(relation: &Relation) -> Option<Layout> {
    let is_ours = &*relation.schema == SCHEMA
        && relation
            .name
            .strip_prefix(TABLE)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    if !is_ours {
        return None;
    }
    let layout =
        COLUMNS.map(|name| relation.columns.iter().position(|column| &*column.name == name));
    let is_whole = layout
        .iter()
        .zip(COLUMNS)
        .all(|(position, name)| position.is_some() || name == BINARY_PAYLOAD);
    is_whole.then_some(layout)
}

/// Reads a row; what is missing is named as the reference names it.
fn read(row: &Row, layout: Layout) -> Result<StoredMessage, &'static str> {
    let [topic, event, payload, private, id, binary_payload] =
        layout.map(|position| match row.cell(position?) {
            Cell::Text(text) => Some(text),
            Cell::Null | Cell::Unchanged => None,
        });
    let topic = topic.ok_or("topic_missing")?;
    let event = event.ok_or("event_missing")?;
    let is_private = private.ok_or("private_missing")? == "t";
    let id = id.ok_or("id_missing")?;
    let (encoding, payload) = match (binary_payload, payload) {
        (Some(hex), _) => (Encoding::Binary, bytes_of(hex).ok_or("payload_malformed")?),
        (None, Some(json)) => (Encoding::Json, Bytes::copy_from_slice(json.as_bytes())),
        (None, None) => return Err("payload_missing"),
    };
    Ok(StoredMessage {
        name: TopicName { topic: Topic::of_sub_topic(topic), is_private },
        broadcast: UserBroadcast {
            event: event.into(),
            metadata: metadata(id, false),
            encoding,
            payload,
        },
    })
}

/// What goes with a stored message: `{"id": …}`, and whether it is replayed.
#[must_use]
pub fn metadata(id: &str, is_replayed: bool) -> Option<RawJson> {
    let replayed = if is_replayed { "\"replayed\":true," } else { "" };
    let id = serde_json::Value::from(id);
    RawJson::parse(&Bytes::from(format!("{{{replayed}\"id\":{id}}}")))
}

/// The bytes of a bytea in its hex form, `\x…`.
fn bytes_of(text: &str) -> Option<Bytes> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let value =
        |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some((value(*high)? << 4) | value(*low)?));
    rest.is_empty().then(|| bytes.collect::<Option<Vec<u8>>>())?.map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use walcast_change::{RelationColumn, ReplicaIdentity, RowBuilder, TableId, TypeId};

    use super::*;

    fn relation(schema: &str, name: &str, columns: &[&str]) -> Relation {
        Relation {
            id: TableId(1),
            schema: schema.into(),
            name: name.into(),
            replica_identity: ReplicaIdentity::Default,
            columns: columns
                .iter()
                .map(|name| RelationColumn {
                    name: (*name).into(),
                    type_id: TypeId(25),
                    type_modifier: -1,
                    is_identity: false,
                })
                .collect(),
        }
    }

    #[test]
    fn partitions_are_known_by_schema_name_and_columns() {
        let is_ours = |schema, name, columns| layout_of(&relation(schema, name, columns)).is_some();
        assert!(is_ours("realtime", "messages", &COLUMNS));
        assert!(is_ours("realtime", "messages_2026_11_26", &COLUMNS));
        assert!(!is_ours("public", "messages", &COLUMNS));
        assert!(!is_ours("realtime", "messagesx", &COLUMNS));
        assert!(!is_ours("realtime", "messages_of_a_user", &["id", "topic"]));
        assert!(is_ours("realtime", "messages", &COLUMNS[..5]), "as before binary messages");
    }

    fn row(cells: [Option<&str>; 6]) -> Row {
        let mut builder = RowBuilder::with_capacity(6, 64);
        for cell in cells {
            builder.push(cell.map_or(Cell::Null, Cell::Text));
        }
        builder.finish()
    }

    fn read_row(cells: [Option<&str>; 6]) -> Result<StoredMessage, &'static str> {
        read(&row(cells), [0, 1, 2, 3, 4, 5].map(Some))
    }

    #[test]
    fn a_row_becomes_a_broadcast_with_its_id() {
        let message =
            read_row([Some("room:1"), Some("e"), Some("{\"a\": 1}"), Some("t"), Some("x"), None])
                .unwrap();
        assert_eq!(message.name.topic.as_str(), "realtime:room:1");
        assert!(message.name.is_private);
        assert_eq!(&*message.broadcast.payload, b"{\"a\": 1}");
        assert_eq!(message.broadcast.metadata.unwrap().as_bytes(), b"{\"id\":\"x\"}");
    }

    #[test]
    fn bytes_come_out_of_their_hex_form() {
        let message =
            read_row([Some("r"), Some("e"), None, Some("f"), Some("x"), Some("\\x00ffAb")])
                .unwrap();
        assert_eq!(&*message.broadcast.payload, b"\0\xff\xab");
        assert_eq!(message.broadcast.encoding, Encoding::Binary);
        assert!(!message.name.is_private);
        for broken in ["00", "\\x0", "\\x0g"] {
            let read = read_row([Some("r"), Some("e"), None, Some("f"), Some("x"), Some(broken)]);
            assert_eq!(read, Err("payload_malformed"), "{broken}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let whole = [Some("r"), Some("e"), Some("{}"), Some("f"), Some("x"), None];
        for (position, reason) in [
            (0, "topic_missing"),
            (1, "event_missing"),
            (2, "payload_missing"),
            (3, "private_missing"),
            (4, "id_missing"),
        ] {
            let mut cells = whole;
            cells[position] = None;
            assert_eq!(read_row(cells), Err(reason));
        }
    }
}
