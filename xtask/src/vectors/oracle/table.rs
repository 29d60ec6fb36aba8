//! What the catalogue says about the table of a change, for one role.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use tokio_postgres::Client;
use walcast_tests::{ImageCell, WalChange, WalRelation};

use super::super::differences::Difference;
use super::{literal, rows};

/// A table of the stream, with the privileges on the table that was subscribed to.
#[derive(Debug)]
pub struct TableFacts {
    /// The table that was subscribed to: the root of a partition, or the table itself.
    pub subscribed: u32,
    /// Its name as SQL writes it.
    pub subscribed_name: String,
    /// Its columns in order.
    pub columns: Vec<ColumnFacts>,
    /// Whether the subscribed table has row-level security.
    pub has_row_security: bool,
    /// Whether the role may use nothing of the schema.
    pub is_in_hidden_schema: bool,
    /// Whether the role is not subject to it.
    pub is_bypassed: bool,
}

/// A column.
#[derive(Clone, Debug)]
pub struct ColumnFacts {
    /// Its name.
    pub name: String,
    /// Its type with modifiers as SQL writes it.
    pub sql_type: String,
    /// Its type without modifiers, meaning any length.
    pub open_type: String,
    /// `pg_type.typname`.
    pub type_name: String,
    /// `pg_type.typtype`.
    pub type_kind: String,
    /// The name of the type below a domain.
    pub base_type_name: String,
    /// Whether it is part of the primary key.
    pub is_primary_key: bool,
    /// Whether it is a stored generated column.
    pub is_generated: bool,
    /// Whether the role may select it.
    pub is_selectable: bool,
}

impl TableFacts {
    /// Reads the catalogue.
    pub async fn read(session: &Client, oid: u32, subscribed: u32, role: &str) -> Result<Self> {
        let role = literal(role);
        let columns = rows(
            session,
            &format!(
                "select a.attname, format_type(a.atttypid, a.atttypmod), \
                   format_type(a.atttypid, -1), t.typname, t.typtype, \
                   coalesce(b.typname, t.typname), \
                   coalesce(a.attnum = any (i.indkey), false), a.attgenerated <> '', \
                   has_column_privilege({role}, s.attrelid, s.attnum, 'select') \
                     and has_schema_privilege({role}, n.oid, 'usage') \
                 from pg_attribute a join pg_type t on t.oid = a.atttypid \
                 left join pg_type b on b.oid = nullif(t.typbasetype, 0) \
                 left join pg_index i on i.indrelid = a.attrelid and i.indisprimary \
                 join pg_attribute s on s.attrelid = {subscribed} and s.attname = a.attname \
                 join pg_class c on c.oid = {subscribed} join pg_namespace n on n.oid = c.relnamespace \
                 where a.attrelid = {oid} and a.attnum > 0 and not a.attisdropped \
                 order by a.attnum"
            ),
        )
        .await?
        .iter()
        .map(|row| ColumnFacts::read(row))
        .collect::<Result<Vec<_>>>()?;
        if columns.is_empty() {
            bail!("table {oid} is gone");
        }
        let facts = rows(
            session,
            &format!(
                "select c.oid::regclass::text, c.relrowsecurity, \
                   not has_schema_privilege({role}, c.relnamespace, 'usage'), \
                   r.rolsuper or r.rolbypassrls or \
                   (pg_has_role({role}, c.relowner, 'usage') and not c.relforcerowsecurity) \
                 from pg_class c, pg_roles r where c.oid = {subscribed} and r.rolname = {role}"
            ),
        )
        .await?;
        let Some([name, row_security, hidden_schema, bypassed]) = facts.first().map(Vec::as_slice)
        else {
            bail!("the subscribed table or role {role} is gone");
        };
        Ok(Self {
            subscribed,
            subscribed_name: name.clone().context("a table has a name")?,
            columns,
            has_row_security: is_true(row_security.as_ref()),
            is_in_hidden_schema: is_true(hidden_schema.as_ref()),
            is_bypassed: is_true(bypassed.as_ref()),
        })
    }

    /// A column by name.
    pub fn column(&self, name: &str) -> Option<&ColumnFacts> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Rules that concern everything this table sends.
    pub fn differences(&self, relation: &WalRelation) -> Vec<Difference> {
        let mut found = Vec::new();
        if self.is_in_hidden_schema {
            found.push(Difference::SchemaUsage);
        }
        for column in &self.columns {
            if column.has_length() {
                found.push(Difference::WholeCharacters);
            }
            if relation.columns.iter().all(|(name, _)| *name != column.name) {
                found.push(if column.is_generated {
                    Difference::GeneratedColumnMissing
                } else {
                    Difference::PublicationApplied
                });
            }
        }
        found
    }
}

impl ColumnFacts {
    /// Whether the reference cuts its values to one character or bit.
    pub fn has_length(&self) -> bool {
        self.type_name == "bpchar" || self.type_name == "bit"
    }

    fn read(row: &[Option<String>]) -> Result<Self> {
        let text = |index: usize| {
            row.get(index).cloned().flatten().context("the catalogue has no such value")
        };
        let flag = |index: usize| is_true(row.get(index).and_then(Option::as_ref));
        Ok(Self {
            name: text(0)?,
            sql_type: text(1)?,
            open_type: text(2)?,
            type_name: text(3)?,
            type_kind: text(4)?,
            base_type_name: text(5)?,
            is_primary_key: flag(6),
            is_generated: flag(7),
            is_selectable: flag(8),
        })
    }
}

fn is_true(text: Option<&String>) -> bool {
    text.is_some_and(|text| text == "t")
}

/// The values of a row that are known, by column; `None` is NULL.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// The values.
    pub values: BTreeMap<String, Option<String>>,
    /// Columns whose value was taken from the old row.
    pub from_old: Vec<String>,
    unknown: bool,
}

impl Image {
    /// The row after the change, unchanged large values filled in from the old row.
    pub fn new(change: &WalChange) -> Self {
        let old = Self::old(change);
        let mut image = Self::default();
        for ((name, _), cell) in change.relation.columns.iter().zip(change.new.iter().flatten()) {
            match cell {
                ImageCell::Null => drop(image.values.insert(name.clone(), None)),
                ImageCell::Text(text) => {
                    image.values.insert(name.clone(), Some(text.clone()));
                }
                ImageCell::Unchanged => match old.values.get(name) {
                    Some(value) => {
                        image.from_old.push(name.clone());
                        image.values.insert(name.clone(), value.clone());
                    }
                    None => image.unknown = true,
                },
            }
        }
        image
    }

    /// The row before the change, as far as its replica identity keeps it. The identity's values
    /// are in the new row when the change did not touch them.
    pub fn old(change: &WalChange) -> Self {
        let mut image = Self::default();
        let (cells, key_only) = match (&change.old, &change.new) {
            (Some(cells), _) => (cells, change.old_is_key),
            (None, Some(cells)) if change.kind == "UPDATE" => (cells, true),
            (None, _) => return image,
        };
        for ((name, is_key), cell) in change.relation.columns.iter().zip(cells) {
            if key_only && !is_key {
                continue;
            }
            match cell {
                ImageCell::Null => drop(image.values.insert(name.clone(), None)),
                ImageCell::Text(text) => {
                    image.values.insert(name.clone(), Some(text.clone()));
                }
                ImageCell::Unchanged => {}
            }
        }
        image
    }

    /// Whether some value of the row is not in the WAL.
    pub fn has_unknown_values(&self) -> bool {
        self.unknown
    }
}
