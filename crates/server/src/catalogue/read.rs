//! Reads the catalogue with SQL.
//!
//! Every statement runs with an empty `search_path`, so that names and expressions come out fully
//! qualified and no object of a user can stand in for one of PostgreSQL's. All of them run in one
//! read-only transaction with one snapshot.

mod blocked;
mod messages;
mod policies;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use anyhow::Context as _;
use tokio_postgres::{Client, IsolationLevel, Transaction};
use walcast_change::{
    Collation, Column, ColumnSet, Field, Lsn, PgType, ReplicaIdentity, RoleId, Table, TableId,
    TableKind, TypeId, TypeKind, TypeRegistry,
};
use walcast_filters::{
    claims::Role,
    policy::{Compiler, FunctionId, RoleFacts, RowSecurity},
};

pub use self::messages::channel_rules;
use self::{
    blocked::{Blocked, is_blocked},
    policies::{Command, Policies},
};
use crate::catalogue::{Catalogue, KnownRole, KnownTable, reading::Place, snapshot::Snapshot};

const PLACE: &str = include_str!("read/place.sql");
const TABLES: &str = include_str!("read/tables.sql");
const COLUMNS: &str = include_str!("read/columns.sql");
const TYPES: &str = include_str!("read/types.sql");
const ROLES: &str = include_str!("read/roles.sql");
const PRIVILEGES: &str = include_str!("read/privileges.sql");

/// How often a catalogue that keeps changing is read before its reader gives up for the moment.
const ATTEMPTS_MAX: usize = 5;

/// Reads a snapshot: the tables of the publications, those of `previous` that still exist, and
/// `roles`.
///
/// PostgreSQL's functions for privileges and for the text of expressions answer by the newest state,
/// not by the transaction's snapshot. A transaction that enabled row security and granted SELECT
/// could thus be seen half. So tables and policies, and a digest of what those functions read, are
/// read once more afterwards; when they differ, everything is read again. What is returned is then
/// the state of the first snapshot.
///
/// # Errors
/// When a statement fails, or the catalogue changes faster than it can be read.
pub async fn catalogue(
    client: &mut Client,
    publications: &[String],
    previous: &Catalogue,
    roles: &BTreeSet<Role>,
) -> anyhow::Result<(Catalogue, Place)> {
    let mut blocked = Blocked::default();
    for _ in 0..ATTEMPTS_MAX {
        match attempt(client, publications, previous, roles, &blocked).await {
            Ok(Some(read)) => return Ok(read),
            Ok(None) => {}
            Err(error) if is_blocked(&error) => {
                blocked = Blocked::find(client, previous).await.context("read the locks")?;
            }
            Err(error) => return Err(error),
        }
    }
    anyhow::bail!("read the catalogue: it changed, or was locked, each time it was read")
}

/// Reads once; `None` when the catalogue changed meanwhile.
async fn attempt(
    client: &mut Client,
    publications: &[String],
    previous: &Catalogue,
    roles: &BTreeSet<Role>,
    blocked: &Blocked,
) -> anyhow::Result<Option<(Catalogue, Place)>> {
    let known: Vec<u32> = previous.tables.keys().map(|id| id.0).collect();
    let transaction = begin(client).await?;
    let guards = guards(&transaction, publications, &known, blocked).await?;
    let ids: Vec<u32> = guards.tables.iter().map(|table| table.id.0).collect();
    let (place, digest) = place(&transaction, &ids).await.context("read the place")?;
    let types = Arc::new(types(&transaction, &ids).await.context("read the types")?);
    // One value for equal types makes tables quick to compare.
    let earlier = previous.tables.values().map(|known| &known.table.types).next();
    let types = match earlier {
        Some(earlier) if *earlier == types => Arc::clone(earlier),
        _ => types,
    };
    let columns = columns(&transaction, &ids, &types).await.context("read the columns")?;
    let roles = known_roles(&transaction, &ids, roles).await.context("read the roles")?;
    transaction.commit().await?;

    let transaction = begin(client).await?;
    let guards_after = self::guards(&transaction, publications, &known, blocked).await?;
    let (_, digest_after) = self::place(&transaction, &ids).await.context("read the place")?;
    transaction.commit().await?;
    if guards != guards_after || digest != digest_after {
        return Ok(None);
    }
    let (mut tables, compiler) = assemble(guards, columns, &types, &previous.compiler);
    for (id, known) in &mut tables {
        if blocked.tables.contains(id)
            && let Some(known) = Arc::get_mut(known)
        {
            let (read, versions) = (&known.row_security, &known.policy_versions);
            known.row_security = Blocked::row_security(previous, *id, versions, read);
        }
    }
    let compiler = Arc::new(compiler);
    Ok(Some((Catalogue { generation: 0, tables, roles, compiler }, place)))
}

async fn begin(client: &mut Client) -> anyhow::Result<Transaction<'_>> {
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
        .context("read the catalogue")?;
    // Compiling these statements costs 1.8 s, running them 0.02 s.
    // Constants in policies come out with all their digits, and moments with the offset of their zone:
    // its abbreviation may mean another one. Whoever holds a table does not hold up the rest.
    transaction
        .batch_execute(
            "set local search_path = ''; set local jit = off; set local extra_float_digits = 1; \
             set local datestyle = 'ISO'; set local intervalstyle = 'postgres'; \
             set local lock_timeout = 200",
        )
        .await?;
    Ok(transaction)
}

/// Where the transaction's snapshot is in the stream, and a digest of what is not read through it.
async fn place(transaction: &Transaction<'_>, tables: &[u32]) -> anyhow::Result<(Place, String)> {
    let row = transaction.query_one(PLACE, &[&tables]).await?;
    let text: &str = row.try_get("snapshot")?;
    let snapshot = Snapshot::parse(text).with_context(|| format!("understand {text:?}"))?;
    let position: i64 = row.try_get("position")?;
    let trigger: Option<&str> = row.try_get("trigger")?;
    let place = Place {
        snapshot,
        position: Lsn::new(position.cast_unsigned()),
        trigger: trigger.map(Into::into),
    };
    Ok((place, row.try_get("digest")?))
}

/// What decides about rows, beside the privileges.
#[derive(PartialEq)]
struct Guards {
    tables: Vec<TableRow>,
    policies: Policies,
}

async fn guards(
    transaction: &Transaction<'_>,
    publications: &[String],
    known: &[u32],
    blocked: &Blocked,
) -> anyhow::Result<Guards> {
    let tables =
        tables(transaction, publications, known, blocked).await.context("read the tables")?;
    let is_read = |table: &&TableRow| !blocked.tables.contains(&table.id);
    let ids: Vec<u32> = tables.iter().filter(is_read).map(|table| table.id.0).collect();
    let policies = Policies::read(transaction, &ids, Command::Select);
    let policies = policies.await.context("read the policies")?;
    Ok(Guards { tables, policies })
}

#[derive(PartialEq)]
struct TableRow {
    id: TableId,
    schema: String,
    name: String,
    kind: TableKind,
    owner: RoleId,
    replica_identity: ReplicaIdentity,
    is_row_security_enabled: bool,
    is_row_security_forced: bool,
    policy_versions: String,
    has_own_collation: bool,
    is_published: bool,
    ancestors: Vec<u32>,
    has_primary_key: bool,
}

fn assemble(
    guards: Guards,
    mut columns: HashMap<TableId, Vec<Column>>,
    types: &Arc<TypeRegistry>,
    compiler: &Compiler,
) -> (HashMap<TableId, Arc<KnownTable>>, Compiler) {
    let Guards { tables, mut policies } = guards;
    let mut compiler = Compiler::new(std::mem::take(&mut policies.environment), compiler);
    let tables = tables.into_iter().map(|row| {
        let table = Table {
            id: row.id,
            schema: row.schema.into(),
            name: row.name.into(),
            kind: row.kind,
            owner: row.owner,
            replica_identity: row.replica_identity,
            columns: columns.remove(&row.id).unwrap_or_default().into(),
            types: Arc::clone(types),
            has_primary_key: row.has_primary_key,
        };
        let row_security = RowSecurity {
            is_enabled: row.is_row_security_enabled,
            is_forced: row.is_row_security_forced,
            policies: policies.compile(&table, &mut compiler),
        };
        let known = KnownTable {
            table,
            row_security,
            policy_versions: row.policy_versions.into(),
            has_own_collation: row.has_own_collation,
            is_published: row.is_published,
            ancestors: row.ancestors.into_iter().map(TableId).collect(),
        };
        (row.id, Arc::new(known))
    });
    (tables.collect(), compiler.finish())
}

async fn tables(
    transaction: &Transaction<'_>,
    publications: &[String],
    known: &[u32],
    blocked: &Blocked,
) -> anyhow::Result<Vec<TableRow>> {
    let Blocked { is_publication, published, .. } = blocked;
    let rows =
        transaction.query(TABLES, &[&publications, &known, is_publication, published]).await?;
    let tables = rows.iter().map(|row| {
        Ok(TableRow {
            id: TableId(row.try_get("id")?),
            schema: row.try_get("schema")?,
            name: row.try_get("name")?,
            kind: match row.try_get::<_, i8>("kind")?.cast_unsigned() {
                b'p' => TableKind::Partitioned,
                _ => TableKind::Ordinary,
            },
            owner: RoleId(row.try_get("owner")?),
            replica_identity: match row.try_get::<_, i8>("replica_identity")?.cast_unsigned() {
                b'n' => ReplicaIdentity::Nothing,
                b'f' => ReplicaIdentity::Full,
                b'i' => ReplicaIdentity::Index,
                _ => ReplicaIdentity::Default,
            },
            is_row_security_enabled: row.try_get("row_security")?,
            is_row_security_forced: row.try_get("force_row_security")?,
            policy_versions: row.try_get("policy_versions")?,
            has_own_collation: row.try_get("has_own_collation")?,
            is_published: row.try_get("is_published")?,
            ancestors: row.try_get("ancestors")?,
            has_primary_key: row.try_get("has_primary_key")?,
        })
    });
    tables.collect()
}

async fn columns(
    transaction: &Transaction<'_>,
    tables: &[u32],
    types: &TypeRegistry,
) -> anyhow::Result<HashMap<TableId, Vec<Column>>> {
    let mut columns: HashMap<TableId, Vec<Column>> = HashMap::new();
    for row in transaction.query(COLUMNS, &[&tables]).await? {
        let type_id = TypeId(row.try_get("type_id")?);
        let find = |id: TypeId| {
            let found = types.find(id).map(Arc::clone);
            found.with_context(|| format!("find the type with oid {}", id.0))
        };
        let column = Column {
            name: row.try_get::<_, String>("name")?.into(),
            number: row.try_get("number")?,
            data_type: find(type_id)?,
            base_type: find(types.base_of(type_id))?,
            type_modifier: row.try_get("type_modifier")?,
            collation: match row.try_get("collation")? {
                "none" => Collation::None,
                "bytes" => Collation::Bytes,
                "locale" => Collation::Locale,
                _ => Collation::NonDeterministic,
            },
            is_primary_key: row.try_get("is_primary_key")?,
            is_identity: row.try_get("is_identity")?,
            is_generated: row.try_get("is_generated")?,
        };
        columns.entry(TableId(row.try_get("table")?)).or_default().push(column);
    }
    Ok(columns)
}

async fn types(transaction: &Transaction<'_>, tables: &[u32]) -> anyhow::Result<TypeRegistry> {
    let rows = transaction.query(TYPES, &[&tables]).await?;
    let types = rows.iter().map(|row| {
        let kind = match row.try_get("kind")? {
            "enum" => {
                let labels: Vec<String> = row.try_get("labels")?;
                TypeKind::Enum { labels: labels.into_iter().map(Into::into).collect() }
            }
            "domain" => TypeKind::Domain { base: TypeId(row.try_get("related")?) },
            "array" => TypeKind::Array { element: TypeId(row.try_get("related")?) },
            "composite" => {
                let names: Vec<String> = row.try_get("labels")?;
                let ids: Vec<u32> = row.try_get("field_types")?;
                let fields = names
                    .into_iter()
                    .zip(ids)
                    .map(|(name, id)| Field { name: name.into(), type_id: TypeId(id) });
                TypeKind::Composite { fields: fields.collect() }
            }
            "range" => TypeKind::Range,
            "multirange" => TypeKind::Multirange,
            "pseudo" => TypeKind::Pseudo,
            _ => TypeKind::Base,
        };
        anyhow::Ok(PgType {
            id: TypeId(row.try_get("id")?),
            schema: row.try_get::<_, String>("schema")?.into(),
            name: row.try_get::<_, String>("name")?.into(),
            delimiter: char::from(row.try_get::<_, i8>("delimiter")?.cast_unsigned()),
            kind,
        })
    });
    types.collect()
}

async fn known_roles(
    transaction: &Transaction<'_>,
    tables: &[u32],
    wanted: &BTreeSet<Role>,
) -> anyhow::Result<BTreeMap<Role, Option<KnownRole>>> {
    let mut roles: BTreeMap<Role, Option<KnownRole>> =
        wanted.iter().map(|role| (role.clone(), None)).collect();
    let names: Vec<&str> = wanted.iter().map(Role::as_str).collect();
    let mut by_id: HashMap<RoleId, Role> = HashMap::new();
    for row in transaction.query(ROLES, &[&names]).await? {
        let id = RoleId(row.try_get("id")?);
        let inherits: Vec<u32> = row.try_get("has_privileges_of")?;
        let may_run: Vec<u32> = row.try_get("may_run")?;
        let facts = RoleFacts {
            id,
            bypasses_row_security: row.try_get("bypasses_row_security")?,
            has_privileges_of: inherits.into_iter().map(RoleId).collect(),
            may_run: may_run.into_iter().map(FunctionId).collect(),
        };
        let role = Role::new(row.try_get("name")?);
        by_id.insert(id, role.clone());
        roles.insert(role, Some(KnownRole { facts, selectable: HashMap::new() }));
    }
    let ids: Vec<u32> = by_id.keys().map(|id| id.0).collect();
    for row in transaction.query(PRIVILEGES, &[&tables, &ids]).await? {
        let id = RoleId(row.try_get("role")?);
        let numbers: Vec<i16> = row.try_get("columns")?;
        let selectable: ColumnSet =
            numbers.into_iter().filter_map(|number| usize::try_from(number).ok()).collect();
        if let Some(Some(known)) = by_id.get(&id).and_then(|role| roles.get_mut(role)) {
            known.selectable.insert(TableId(row.try_get("table")?), selectable);
        }
    }
    Ok(roles)
}
