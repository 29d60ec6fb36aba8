//! Messages as PostgreSQL would write them, for tests.

use walcast_change::{
    Cell, Commit, Lsn, Relation, RelationColumn, ReplicaIdentity, Row, TableId, oid,
};

use super::{ImageKind, LogicalMessage, Message};

/// Name, bytes and meaning of one message of each kind.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>, Message)> {
    let old = [Cell::Text("1"), Cell::Null];
    let new = [Cell::Text("2"), Cell::Unchanged];
    let row = |cells: &[Cell<'_>]| cells.iter().copied().collect::<Row>();
    let delete = Message::Delete { relation: 16_384, old: (ImageKind::Key, row(&old)) };
    let update = |old| Message::Update { relation: 16_384, old, new: row(&new) };
    vec![
        ("begin", begin(100), Message::Begin(commit_of(100))),
        ("commit", commit(100, 140), Message::Commit { lsn: Lsn::new(100), end: Lsn::new(140) }),
        ("origin", b"O\0\0\0\0\0\0\0\x01elsewhere\0".to_vec(), Message::Origin),
        ("type", b"Y\0\0\x40\x01public\0mood\0".to_vec(), Message::Type),
        ("relation", relation(16_384, b'd', &[("id", true), ("body", false)]), {
            Message::Relation(relation_of(16_384, &[("id", true), ("body", false)]))
        }),
        ("insert", insert(16_384, &new), Message::Insert { relation: 16_384, new: row(&new) }),
        ("update", update_of(16_384, None, &new), update(None)),
        (
            "update with the old key",
            update_of(16_384, Some((b'K', &old)), &new),
            update(Some((ImageKind::Key, row(&old)))),
        ),
        (
            "update with the old row",
            update_of(16_384, Some((b'O', &old)), &new),
            update(Some((ImageKind::Full, row(&old)))),
        ),
        ("delete", delete_of(16_384, b'K', &old), delete),
        ("truncate", truncate(&[1, 2]), Message::Truncate { relations: vec![1, 2] }),
        ("message", message(77, "walcast", b"\0\xff", true), {
            Message::Logical(LogicalMessage {
                prefix: "walcast".into(),
                content: vec![0, 0xff],
                lsn: Lsn::new(77),
                is_transactional: true,
            })
        }),
    ]
}

pub(crate) fn commit_of(lsn: u64) -> Commit {
    Commit { lsn: Lsn::new(lsn), timestamp_us: 946_684_800_000_005, transaction_id: 700 }
}

pub(crate) fn begin(lsn: u64) -> Vec<u8> {
    let mut bytes = b"B".to_vec();
    bytes.extend(lsn.to_be_bytes());
    bytes.extend(5_i64.to_be_bytes());
    bytes.extend(700_u32.to_be_bytes());
    bytes
}

pub(crate) fn commit(lsn: u64, end: u64) -> Vec<u8> {
    let mut bytes = b"C\0".to_vec();
    bytes.extend(lsn.to_be_bytes());
    bytes.extend(end.to_be_bytes());
    bytes.extend(5_i64.to_be_bytes());
    bytes
}

pub(crate) fn relation_of(id: u32, columns: &[(&str, bool)]) -> Relation {
    let columns = columns.iter().map(|(name, is_identity)| RelationColumn {
        name: (*name).into(),
        type_id: oid::TEXT,
        type_modifier: -1,
        is_identity: *is_identity,
    });
    Relation {
        id: TableId(id),
        schema: "public".into(),
        name: "notes".into(),
        replica_identity: ReplicaIdentity::Default,
        columns: columns.collect(),
    }
}

pub(crate) fn relation(id: u32, replica_identity: u8, columns: &[(&str, bool)]) -> Vec<u8> {
    let mut bytes = b"R".to_vec();
    bytes.extend(id.to_be_bytes());
    bytes.extend(b"public\0notes\0");
    bytes.push(replica_identity);
    bytes.extend(u16::try_from(columns.len()).unwrap().to_be_bytes());
    for (name, is_identity) in columns {
        bytes.push(u8::from(*is_identity));
        bytes.extend(name.as_bytes());
        bytes.push(0);
        bytes.extend(oid::TEXT.0.to_be_bytes());
        bytes.extend((-1_i32).to_be_bytes());
    }
    bytes
}

pub(crate) fn insert(relation: u32, new: &[Cell<'_>]) -> Vec<u8> {
    let mut bytes = b"I".to_vec();
    bytes.extend(relation.to_be_bytes());
    bytes.push(b'N');
    tuple(&mut bytes, new);
    bytes
}

pub(crate) fn update_of(
    relation: u32,
    old: Option<(u8, &[Cell<'_>])>,
    new: &[Cell<'_>],
) -> Vec<u8> {
    let mut bytes = b"U".to_vec();
    bytes.extend(relation.to_be_bytes());
    if let Some((mark, old)) = old {
        bytes.push(mark);
        tuple(&mut bytes, old);
    }
    bytes.push(b'N');
    tuple(&mut bytes, new);
    bytes
}

pub(crate) fn delete_of(relation: u32, mark: u8, old: &[Cell<'_>]) -> Vec<u8> {
    let mut bytes = b"D".to_vec();
    bytes.extend(relation.to_be_bytes());
    bytes.push(mark);
    tuple(&mut bytes, old);
    bytes
}

pub(crate) fn truncate(relations: &[u32]) -> Vec<u8> {
    let mut bytes = b"T".to_vec();
    bytes.extend(u32::try_from(relations.len()).unwrap().to_be_bytes());
    bytes.push(0);
    for relation in relations {
        bytes.extend(relation.to_be_bytes());
    }
    bytes
}

pub(crate) fn message(lsn: u64, prefix: &str, content: &[u8], transactional: bool) -> Vec<u8> {
    let mut bytes = vec![b'M', u8::from(transactional)];
    bytes.extend(lsn.to_be_bytes());
    bytes.extend(prefix.as_bytes());
    bytes.push(0);
    bytes.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
    bytes.extend(content);
    bytes
}

fn tuple(bytes: &mut Vec<u8>, cells: &[Cell<'_>]) {
    bytes.extend(u16::try_from(cells.len()).unwrap().to_be_bytes());
    for cell in cells {
        match cell {
            Cell::Null => bytes.push(b'n'),
            Cell::Unchanged => bytes.push(b'u'),
            Cell::Text(text) => {
                bytes.push(b't');
                bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                bytes.extend(text.as_bytes());
            }
        }
    }
}
