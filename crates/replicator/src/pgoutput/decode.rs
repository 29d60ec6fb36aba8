//! Bytes to messages, one function per message.

use walcast_change::{
    Cell, Commit, Lsn, Relation, RelationColumn, ReplicaIdentity, Row, RowBuilder, TableId, TypeId,
};

use super::{
    DecodeError, ImageKind, LogicalMessage, Message, Problem,
    reader::{Malformed, Reader},
};

/// From 1970-01-01, where Unix starts to count, to 2000-01-01, where PostgreSQL does.
const EPOCH_DIFFERENCE_US: i64 = 946_684_800_000_000;

/// Decodes one message; `lsn` is only for the error.
///
/// # Errors
/// When the bytes are not exactly one valid message.
pub fn decode(lsn: Lsn, bytes: &[u8]) -> Result<Message, DecodeError> {
    let mut reader = Reader::new(bytes);
    message(&mut reader)
        .and_then(|message| reader.end().map(|()| message))
        .map_err(|Malformed { offset, problem }| DecodeError { lsn, offset, problem })
}

fn message(reader: &mut Reader<'_>) -> Result<Message, Malformed> {
    let start = reader.clone();
    match reader.u8()? {
        b'B' => begin(reader),
        b'C' => commit(reader),
        b'O' => origin(reader),
        b'R' => relation(reader),
        b'Y' => type_name(reader),
        b'I' => insert(reader),
        b'U' => update(reader),
        b'D' => delete(reader),
        b'T' => truncate(reader),
        b'M' => logical_message(reader),
        unknown => Err(start.malformed(Problem::UnknownMessage(unknown))),
    }
}

fn begin(reader: &mut Reader<'_>) -> Result<Message, Malformed> {
    Ok(Message::Begin(Commit {
        lsn: lsn(reader)?,
        timestamp_us: timestamp_us(reader)?,
        transaction_id: reader.u32()?,
    }))
}

fn commit(reader: &mut Reader<'_>) -> Result<Message, Malformed> {
    let _flags = reader.u8()?;
    let commit = Message::Commit { lsn: lsn(reader)?, end: lsn(reader)? };
    let _timestamp = reader.i64()?;
    Ok(commit)
}

fn origin(reader: &mut Reader<'_>) -> Result<Message, Malformed> {
    let _lsn_there = reader.u64()?;
    let _name = reader.c_string()?;
    Ok(Message::Origin)
}

fn relation(reader: &mut Reader<'_>) -> Result<Message, Malformed> {
    let id = TableId(reader.u32()?);
    let schema = schema_name(reader)?;
    let name = reader.c_string()?.into();
    let replica_identity = replica_identity(reader)?;
    let n_columns = reader.count()?;
    let columns: Result<_, _> = (0..n_columns).map(|_| relation_column(reader)).collect();
    Ok(Message::Relation(Relation { id, schema, name, replica_identity, columns: columns? }))
}

/// `pgoutput` sends the schema `pg_catalog` as an empty text.
fn schema_name(reader: &mut Reader<'_>) -> Result<Box<str>, Malformed> {
    let name = reader.c_string()?;
    Ok(if name.is_empty() { "pg_catalog" } else { name }.into())
}

fn replica_identity(reader: &mut Reader<'_>) -> Result<ReplicaIdentity, Malformed> {
    let start = reader.clone();
    match reader.u8()? {
        b'd' => Ok(ReplicaIdentity::Default),
        b'n' => Ok(ReplicaIdentity::Nothing),
        b'f' => Ok(ReplicaIdentity::Full),
        b'i' => Ok(ReplicaIdentity::Index),
        unexpected => Err(start.malformed(Problem::UnexpectedMark(unexpected))),
    }
}

fn relation_column(reader: &mut Reader<'_>) -> Result<RelationColumn, Malformed> {
    let flags = reader.u8()?;
    Ok(RelationColumn {
        name: reader.c_string()?.into(),
        type_id: TypeId(reader.u32()?),
        type_modifier: reader.i32()?,
        is_identity: flags & 1 != 0,
    })
}

fn type_name(reader: &mut Reader<'_>) -> Result<Message, Malformed> {
    let _id = reader.u32()?;
    let _schema = reader.c_string()?;
    let _name = reader.c_string()?;
    Ok(Message::Type)
}

fn insert(reader: &mut Reader<'_>) -> Result<Message, Malformed> {
    let relation = reader.u32()?;
    new_mark(reader)?;
    Ok(Message::Insert { relation, new: row(reader)? })
}

fn update(reader: &mut Reader<'_>) -> Result<Message, Malformed> {
    let relation = reader.u32()?;
    let start = reader.clone();
    let old = match reader.u8()? {
        b'N' => None,
        b'K' => Some((ImageKind::Key, row(reader)?)),
        b'O' => Some((ImageKind::Full, row(reader)?)),
        unexpected => return Err(start.malformed(Problem::UnexpectedMark(unexpected))),
    };
    if old.is_some() {
        new_mark(reader)?;
    }
    Ok(Message::Update { relation, old, new: row(reader)? })
}

fn delete(reader: &mut Reader<'_>) -> Result<Message, Malformed> {
    let relation = reader.u32()?;
    let start = reader.clone();
    let kind = match reader.u8()? {
        b'K' => ImageKind::Key,
        b'O' => ImageKind::Full,
        unexpected => return Err(start.malformed(Problem::UnexpectedMark(unexpected))),
    };
    Ok(Message::Delete { relation, old: (kind, row(reader)?) })
}

fn truncate(reader: &mut Reader<'_>) -> Result<Message, Malformed> {
    let n_relations = reader.length()?;
    let _flags = reader.u8()?;
    // The count is not trusted with memory: the vector grows only with what is really there.
    let mut relations = Vec::new();
    for _ in 0..n_relations {
        relations.push(reader.u32()?);
    }
    Ok(Message::Truncate { relations })
}

fn logical_message(reader: &mut Reader<'_>) -> Result<Message, Malformed> {
    let flags = reader.u8()?;
    let lsn = lsn(reader)?;
    let prefix = reader.c_string()?.into();
    let length = reader.length()?;
    let content = reader.bytes(length)?.to_vec();
    let is_transactional = flags & 1 != 0;
    Ok(Message::Logical(LogicalMessage { prefix, content, lsn, is_transactional }))
}

fn new_mark(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    let start = reader.clone();
    match reader.u8()? {
        b'N' => Ok(()),
        unexpected => Err(start.malformed(Problem::UnexpectedMark(unexpected))),
    }
}

/// A tuple, read twice: the first pass counts, so that the row needs exactly two allocations.
fn row(reader: &mut Reader<'_>) -> Result<Row, Malformed> {
    let n_cells = reader.count()?;
    let mut builder = RowBuilder::with_capacity(n_cells, text_bytes(reader.clone(), n_cells)?);
    for _ in 0..n_cells {
        match reader.u8()? {
            b't' => {
                let length = reader.length()?;
                builder.push_bytes(reader.bytes(length)?);
            }
            b'u' => builder.push(Cell::Unchanged),
            // `text_bytes` has refused every other mark.
            _ => builder.push(Cell::Null),
        }
    }
    Ok(builder.finish())
}

fn text_bytes(mut reader: Reader<'_>, n_cells: usize) -> Result<usize, Malformed> {
    let mut n_bytes = 0;
    for _ in 0..n_cells {
        let start = reader.clone();
        match reader.u8()? {
            b't' => {
                let length = reader.length()?;
                reader.bytes(length)?;
                n_bytes += length;
            }
            b'n' | b'u' => {}
            b'b' => return Err(start.malformed(Problem::BinaryValue)),
            unexpected => return Err(start.malformed(Problem::UnexpectedMark(unexpected))),
        }
    }
    Ok(n_bytes)
}

fn lsn(reader: &mut Reader<'_>) -> Result<Lsn, Malformed> {
    reader.u64().map(Lsn::new)
}

fn timestamp_us(reader: &mut Reader<'_>) -> Result<i64, Malformed> {
    Ok(reader.i64()?.saturating_add(EPOCH_DIFFERENCE_US))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pgoutput::samples;

    #[test]
    fn messages_are_decoded() {
        for (name, bytes, expected) in samples::all() {
            assert_eq!(decode(Lsn::ZERO, &bytes), Ok(expected), "{name}");
        }
    }

    #[test]
    fn each_prefix_of_a_message_fails_at_its_end() {
        for (name, bytes, _) in samples::all() {
            for length in 0..bytes.len() {
                let error = decode(Lsn::new(9), &bytes[..length]).unwrap_err();
                assert_eq!(error.lsn, Lsn::new(9));
                assert!(error.offset <= length, "{name} cut at {length}: {error}");
            }
        }
    }

    #[test]
    fn wrong_messages_are_refused_with_their_place() {
        let check = |bytes: &[u8], offset, problem| {
            let lsn = Lsn::new(7);
            assert_eq!(decode(lsn, bytes), Err(DecodeError { lsn, offset, problem }));
        };
        check(b"", 0, Problem::UnexpectedEnd { n_missing: 1 });
        check(b"S", 0, Problem::UnknownMessage(b'S'));
        check(b"I\0\0\0\x01K", 5, Problem::UnexpectedMark(b'K'));
        check(b"I\0\0\0\x01N\xff\xff", 6, Problem::NegativeLength { value: -1 });
        check(b"I\0\0\0\x01N\0\x01b\0\0\0\x01x", 8, Problem::BinaryValue);
        check(b"I\0\0\0\x01N\0\x01x", 8, Problem::UnexpectedMark(b'x'));
        check(b"M\0\0\0\0\0\0\0\0\x01a\xff\0\0\0\0\0", 11, Problem::NotUtf8);
        check(
            b"I\0\0\0\x01N\0\x01t\x7f\xff\xff\xff",
            13,
            Problem::UnexpectedEnd { n_missing: 0x7fff_ffff },
        );
        check(b"D\0\0\0\x01N", 5, Problem::UnexpectedMark(b'N'));
        check(b"T\x7f\xff\xff\xff\0", 6, Problem::UnexpectedEnd { n_missing: 4 });
        let mut long = samples::insert(1, &[Cell::Text("a")]);
        long.push(0);
        check(&long, long.len() - 1, Problem::TrailingBytes { n_bytes: 1 });
    }

    /// PostgreSQL 14 sends a `"char"` as the byte it is; the stream must not end at it.
    #[test]
    fn a_value_that_is_not_utf8_is_escaped() {
        let message = decode(Lsn::ZERO, b"I\0\0\0\x01N\0\x01t\0\0\0\x01\xc3");
        let Ok(Message::Insert { new, .. }) = message else { panic!("{message:?}") };
        assert_eq!(new.cell(0), Cell::Text(r"\303"));
        assert!(new.is_escaped(0));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Err(error) = decode(Lsn::ZERO, &bytes) {
                prop_assert!(error.offset <= bytes.len());
            }
        }

        #[test]
        fn damaged_messages_never_panic(
            choice in any::<prop::sample::Index>(),
            place in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let samples = samples::all();
            let (_, mut bytes, _) = choice.get(&samples).clone();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if let Err(error) = decode(Lsn::ZERO, &bytes) {
                prop_assert!(error.offset <= bytes.len());
            }
        }

        #[test]
        fn rows_come_back_as_they_were_written(
            cells in proptest::collection::vec(
                prop_oneof![Just(None), Just(Some(None)), ".{0,20}".prop_map(|text| Some(Some(text)))],
                0..12,
            ),
        ) {
            let cells: Vec<Cell<'_>> = cells
                .iter()
                .map(|cell| match cell {
                    None => Cell::Null,
                    Some(None) => Cell::Unchanged,
                    Some(Some(text)) => Cell::Text(text),
                })
                .collect();
            let expected: Row = cells.iter().copied().collect();
            let decoded = decode(Lsn::ZERO, &samples::insert(5, &cells));
            prop_assert_eq!(decoded, Ok(Message::Insert { relation: 5, new: expected }));
        }
    }
}
