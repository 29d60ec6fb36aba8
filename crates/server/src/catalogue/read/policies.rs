//! The policies, and what the meaning of their expressions depends on.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context as _;
use tokio_postgres::Transaction;
use walcast_change::{Collation, RoleId, Table, TableId};
use walcast_filters::policy::{
    ClaimsRead, Compiled, Compiler, Environment, FunctionFacts, FunctionId, Named, NotDecided,
    Policy, PolicyKind, PolicyRoles, Reads, RelationFacts, named_in,
};

const POLICIES: &str = include_str!("policies.sql");
const ENVIRONMENT: &str = include_str!("environment.sql");
const FUNCTIONS: &str = include_str!("functions.sql");
const OPERATORS: &str = include_str!("operators.sql");
const RELATIONS: &str = include_str!("relations.sql");
const ENUM_LABELS: &str = include_str!("enum_labels.sql");

/// Architectures, as `version()` names them, that are little-endian with 64-bit datums.
const KNOWN_ARCHITECTURES: [&str; 7] =
    ["x86_64", "amd64", "aarch64", "arm64", "riscv64", "powerpc64le", "loongarch64"];

/// What policies are read for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Command {
    /// What SELECT shows.
    Select,
    /// What INSERT takes.
    Insert,
}

impl Command {
    /// `pg_policy.polcmd`
    fn letter(self) -> i8 {
        match self {
            Self::Select => i8::from_ne_bytes(*b"r"),
            Self::Insert => i8::from_ne_bytes(*b"a"),
        }
    }
}

/// All that was read about policies.
#[derive(PartialEq)]
pub(super) struct Policies {
    by_table: HashMap<TableId, Vec<PolicyRow>>,
    pub(super) environment: Environment,
}

/// A policy as it is stored.
#[derive(PartialEq)]
struct PolicyRow {
    name: String,
    kind: PolicyKind,
    applies_to: PolicyRoles,
    using: Option<String>,
    tree: Option<String>,
    reads: Reads,
}

impl Policies {
    /// Reads the policies of these tables for a command.
    pub(super) async fn read(
        transaction: &Transaction<'_>,
        tables: &[u32],
        command: Command,
    ) -> anyhow::Result<Self> {
        let by_table = policies(transaction, tables, command).await?;
        let mut named = Named::default();
        for tree in by_table.values().flatten().filter_map(|policy| policy.tree.as_deref()) {
            let Named { functions, operators, relations } = named_in(tree);
            named.functions.extend(functions);
            named.operators.extend(operators);
            named.relations.extend(relations);
        }
        let functions: Vec<u32> = named.functions.into_iter().map(|id| id.0).collect();
        let operators: Vec<u32> = named.operators.into_iter().collect();
        let relations: Vec<u32> = named.relations.into_iter().collect();
        let environment = Environment {
            functions: self::functions(transaction, &functions).await.context("read functions")?,
            operators: self::operators(transaction, &operators).await.context("read operators")?,
            enum_labels: enum_labels(transaction, tables).await.context("read labels")?,
            relations: self::relations(transaction, &relations).await.context("read relations")?,
            ..environment(transaction).await.context("read settings")?
        };
        Ok(Self { by_table, environment })
    }

    /// Takes out a table's policies, compiled.
    pub(super) fn compile(&mut self, table: &Table, compiler: &mut Compiler) -> Box<[Policy]> {
        let rows = self.by_table.remove(&table.id).unwrap_or_default();
        rows.into_iter().map(|row| row.compile(table, compiler)).collect()
    }
}

impl PolicyRow {
    fn compile(self, table: &Table, compiler: &mut Compiler) -> Policy {
        let compiled = self.tree.map(|tree| compiler.compile(&tree, table));
        let Compiled { decision, partial, claims_read, membership } =
            compiled.unwrap_or(Compiled {
                decision: Err(NotDecided::NotRead),
                partial: None,
                claims_read: ClaimsRead::Everything,
                membership: None,
            });
        Policy {
            name: self.name.into(),
            kind: self.kind,
            applies_to: self.applies_to,
            using: self.using.map(Into::into),
            reads: self.reads,
            decision,
            partial,
            claims_read,
            membership,
        }
    }
}

async fn policies(
    transaction: &Transaction<'_>,
    tables: &[u32],
    command: Command,
) -> anyhow::Result<HashMap<TableId, Vec<PolicyRow>>> {
    let mut policies: HashMap<TableId, Vec<PolicyRow>> = HashMap::new();
    for row in transaction.query(POLICIES, &[&tables, &command.letter()]).await? {
        let roles: Vec<u32> = row.try_get("roles")?;
        let columns: Vec<i16> = row.try_get("columns")?;
        let policy = PolicyRow {
            name: row.try_get("name")?,
            kind: if row.try_get("permissive")? {
                PolicyKind::Permissive
            } else {
                PolicyKind::Restrictive
            },
            applies_to: if roles.contains(&0) {
                PolicyRoles::Public
            } else {
                PolicyRoles::Only(roles.into_iter().map(RoleId).collect())
            },
            using: row.try_get("using_expression")?,
            tree: row.try_get("tree")?,
            reads: Reads {
                columns: columns.into_iter().collect(),
                whole_row: row.try_get("whole_row")?,
            },
        };
        policies.entry(TableId(row.try_get("table")?)).or_default().push(policy);
    }
    Ok(policies)
}

async fn environment(transaction: &Transaction<'_>) -> anyhow::Result<Environment> {
    let row = transaction.query_one(ENVIRONMENT, &[]).await?;
    let version: &str = row.try_get("version")?;
    let is_utf8: bool = row.try_get("is_utf8")?;
    let nondeterministic_collations: Vec<u32> = row.try_get("nondeterministic_collations")?;
    let revoked: Vec<u32> = row.try_get("revoked")?;
    let is_bytes: bool = row.try_get("default_collation_is_bytes")?;
    Ok(Environment {
        has_known_layout: is_utf8 && has_known_architecture(version),
        default_collation: if is_bytes { Collation::Bytes } else { Collation::Locale },
        nondeterministic_collations: nondeterministic_collations.into_iter().collect(),
        has_no_claim_defaults: row.try_get("has_no_claim_defaults")?,
        has_usual_names: row.try_get("has_usual_names")?,
        revoked: revoked.into_iter().map(FunctionId).collect(),
        ..Environment::default()
    })
}

/// `PostgreSQL 15.4 on x86_64-pc-linux-gnu, compiled by …, 64-bit`
fn has_known_architecture(version: &str) -> bool {
    let is_known = version
        .split_once(" on ")
        .and_then(|(_, target)| target.split(['-', ',', ' ']).next())
        .is_some_and(|architecture| KNOWN_ARCHITECTURES.contains(&architecture));
    is_known && version.trim_end().ends_with("64-bit")
}

async fn functions(
    transaction: &Transaction<'_>,
    ids: &[u32],
) -> anyhow::Result<BTreeMap<FunctionId, FunctionFacts>> {
    let rows = transaction.query(FUNCTIONS, &[&ids]).await?;
    let functions = rows.iter().map(|row| {
        let settings: Vec<String> = row.try_get("settings")?;
        let facts = FunctionFacts {
            schema: row.try_get::<_, &str>("schema")?.into(),
            name: row.try_get::<_, &str>("name")?.into(),
            is_plain: row.try_get("is_plain")?,
            is_immutable: row.try_get("is_immutable")?,
            result_type: row.try_get("result_type")?,
            settings: settings.into_iter().map(Into::into).collect(),
            source: row.try_get::<_, &str>("source")?.into(),
        };
        Ok((FunctionId(row.try_get("id")?), facts))
    });
    functions.collect()
}

async fn operators(
    transaction: &Transaction<'_>,
    ids: &[u32],
) -> anyhow::Result<BTreeMap<u32, Box<str>>> {
    let rows = transaction.query(OPERATORS, &[&ids]).await?;
    let names =
        rows.iter().map(|row| Ok((row.try_get("id")?, row.try_get::<_, &str>("name")?.into())));
    names.collect()
}

async fn relations(
    transaction: &Transaction<'_>,
    ids: &[u32],
) -> anyhow::Result<BTreeMap<u32, RelationFacts>> {
    let rows = transaction.query(RELATIONS, &[&ids]).await?;
    let relations = rows.iter().map(|row| {
        let numbers: Vec<i16> = row.try_get("column_numbers")?;
        let names: Vec<String> = row.try_get("column_names")?;
        let facts = RelationFacts {
            schema: row.try_get::<_, &str>("schema")?.into(),
            name: row.try_get::<_, &str>("name")?.into(),
            columns: numbers.into_iter().zip(names.into_iter().map(Into::into)).collect(),
        };
        Ok((row.try_get("id")?, facts))
    });
    relations.collect()
}

async fn enum_labels(
    transaction: &Transaction<'_>,
    tables: &[u32],
) -> anyhow::Result<BTreeMap<u32, Box<str>>> {
    let rows = transaction.query(ENUM_LABELS, &[&tables]).await?;
    let labels =
        rows.iter().map(|row| Ok((row.try_get("id")?, row.try_get::<_, &str>("label")?.into())));
    labels.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_of_constants_is_known_by_the_architecture() {
        for (version, expected) in [
            (
                "PostgreSQL 15.4 on x86_64-pc-linux-gnu, compiled by gcc (Debian) 12.2.0, 64-bit",
                true,
            ),
            ("PostgreSQL 17.0 on aarch64-apple-darwin23, compiled by clang, 64-bit", true),
            ("PostgreSQL 16.1 on s390x-ibm-linux-gnu, compiled by gcc, 64-bit", false),
            ("PostgreSQL 16.1 on x86_64-pc-linux-gnux32, compiled by gcc, 32-bit", false),
            ("PostgreSQL 16.1 (x86_64 on sparc64-sun), compiled by gcc, 64-bit", false),
            ("", false),
        ] {
            assert_eq!(has_known_architecture(version), expected, "{version}");
        }
    }
}
