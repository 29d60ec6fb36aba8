//! A second, independent reader of `pgoutput` (protocol version 1), over SQL: what PostgreSQL says
//! was committed, for tests to compare with what clients received.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use tokio_postgres::Client;

/// A table as the stream describes it.
#[derive(Clone, Debug)]
pub struct WalRelation {
    /// Its oid.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name at the change.
    pub name: String,
    /// `d`, `n`, `f` or `i`.
    pub replica_identity: char,
    /// Name of each column, and whether the replica identity holds it.
    pub columns: Vec<(String, bool)>,
}

/// One value of a row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ImageCell {
    /// NULL, or not part of this image.
    Null,
    /// A large value that the change did not touch and that is not in the WAL.
    Unchanged,
    /// The value as text.
    Text(String),
}

/// One committed change of one row.
#[derive(Clone, Debug)]
pub struct WalChange {
    /// The table.
    pub relation: WalRelation,
    /// `INSERT`, `UPDATE` or `DELETE`.
    pub kind: &'static str,
    /// The row after the change.
    pub new: Option<Vec<ImageCell>>,
    /// The row before the change, as far as the WAL holds it.
    pub old: Option<Vec<ImageCell>>,
    /// Whether `old` holds the identity columns only.
    pub old_is_key: bool,
}

/// A slot of its own that is read with SQL functions.
#[derive(Debug)]
pub struct WalReader {
    slot: String,
    publication: String,
    relations: BTreeMap<u32, WalRelation>,
}

impl WalReader {
    /// Creates the slot.
    pub async fn create(client: &Client, slot: &str, publication: &str) -> Result<Self> {
        client
            .execute("select pg_create_logical_replication_slot($1, 'pgoutput')", &[&slot])
            .await?;
        Ok(Self::new(slot, publication))
    }

    /// Takes everything that was committed since the last call.
    pub async fn take(&mut self, client: &Client) -> Result<Vec<WalChange>> {
        self.call(client, "pg_logical_slot_get_binary_changes").await
    }

    /// What a slot has not acknowledged. It stays there.
    pub async fn peek(client: &Client, slot: &str, publication: &str) -> Result<Vec<WalChange>> {
        let mut reader = Self::new(slot, publication);
        reader.call(client, "pg_logical_slot_peek_binary_changes").await
    }

    fn new(slot: &str, publication: &str) -> Self {
        Self {
            slot: slot.to_owned(),
            publication: publication.to_owned(),
            relations: BTreeMap::new(),
        }
    }

    async fn call(&mut self, client: &Client, function: &str) -> Result<Vec<WalChange>> {
        let query = format!(
            "select data from {function}($1, null, null, \
             'proto_version', '1', 'publication_names', $2)"
        );
        let mut changes = Vec::new();
        for row in client.query(&query, &[&self.slot, &self.publication]).await? {
            let bytes: Vec<u8> = row.get(0);
            if let Some(change) = self.read(&bytes)? {
                changes.push(change);
            }
        }
        Ok(changes)
    }

    fn read(&mut self, bytes: &[u8]) -> Result<Option<WalChange>> {
        let mut cursor = Cursor { bytes };
        match cursor.byte()? {
            b'R' => {
                let relation = cursor.relation()?;
                self.relations.insert(relation.oid, relation);
                Ok(None)
            }
            b'I' => {
                let relation = self.relation(cursor.u32()?)?;
                cursor.byte()?;
                let new = Some(cursor.row()?);
                Ok(Some(WalChange { relation, kind: "INSERT", new, old: None, old_is_key: false }))
            }
            b'U' => {
                let relation = self.relation(cursor.u32()?)?;
                let mut old = None;
                let mut old_is_key = false;
                let mut tag = cursor.byte()?;
                if tag != b'N' {
                    old_is_key = tag == b'K';
                    old = Some(cursor.row()?);
                    tag = cursor.byte()?;
                }
                if tag != b'N' {
                    bail!("an update without its new row");
                }
                let new = Some(cursor.row()?);
                Ok(Some(WalChange { relation, kind: "UPDATE", new, old, old_is_key }))
            }
            b'D' => {
                let relation = self.relation(cursor.u32()?)?;
                let old_is_key = cursor.byte()? == b'K';
                let old = Some(cursor.row()?);
                Ok(Some(WalChange { relation, kind: "DELETE", new: None, old, old_is_key }))
            }
            // Begin, Commit, Origin, Type, Truncate, Message.
            b'B' | b'C' | b'O' | b'Y' | b'T' | b'M' => Ok(None),
            other => bail!("unknown message {:?}", char::from(other)),
        }
    }

    fn relation(&self, oid: u32) -> Result<WalRelation> {
        self.relations.get(&oid).cloned().with_context(|| format!("relation {oid} never described"))
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.bytes.split_at_checked(count).context("the message is too short")?;
        self.bytes = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into()?))
    }

    fn text(&mut self) -> Result<String> {
        let end = self.bytes.iter().position(|byte| *byte == 0).context("a text without end")?;
        let text = std::str::from_utf8(self.take(end)?)?.to_owned();
        self.byte()?;
        Ok(text)
    }

    fn relation(&mut self) -> Result<WalRelation> {
        let oid = self.u32()?;
        let schema = self.text()?;
        let name = self.text()?;
        let replica_identity = char::from(self.byte()?);
        let count = self.u16()?;
        let columns = (0..count)
            .map(|_| {
                let key = self.byte()? == 1;
                let name = self.text()?;
                self.take(8)?;
                Ok((name, key))
            })
            .collect::<Result<_>>()?;
        let schema = if schema.is_empty() { "pg_catalog".to_owned() } else { schema };
        Ok(WalRelation { oid, schema, name, replica_identity, columns })
    }

    fn row(&mut self) -> Result<Vec<ImageCell>> {
        let count = self.u16()?;
        (0..count)
            .map(|_| {
                Ok(match self.byte()? {
                    b'n' => ImageCell::Null,
                    b'u' => ImageCell::Unchanged,
                    b't' => {
                        let length = usize::try_from(self.u32()?)?;
                        ImageCell::Text(text_of(self.take(length)?))
                    }
                    other => bail!("unknown kind of value {:?}", char::from(other)),
                })
            })
            .collect()
    }
}

/// PostgreSQL 14 sends a single byte of a longer character for `"char"`; later ones escape it.
fn text_of(bytes: &[u8]) -> String {
    match bytes {
        [byte] if !byte.is_ascii() => format!("\\{byte:o}"),
        text => String::from_utf8_lossy(text).into_owned(),
    }
}
