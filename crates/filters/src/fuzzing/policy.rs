//! Damaged policies, over any row and any claims.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use walcast_change::{
    Cell, Collation, Column, PgType, ReplicaIdentity, RoleId, Row, RowBuilder, Table, TableId,
    TableKind, TypeId, TypeKind, TypeRegistry, oid,
};

use crate::{
    claims::{Audience, Claims, Role},
    policy::{
        Compiled, Compiler, Environment, FunctionFacts, FunctionId, Necessary, Policy, PolicyKind,
        PolicyRoles, Reads, RoleFacts, RowRule, RowSecurity, Verdict, named_in,
    },
};

/// An enum, an array of it and a domain, numbered as in the recorded trees.
const MOODS: u32 = 16_416;
const MOOD: u32 = 16_417;
const POSITIVE: u32 = 16_424;

/// The columns of the recorded table, in the order of their attribute numbers.
const COLUMNS: [(&str, u32); 26] = [
    ("id", 20),
    ("i4", 23),
    ("i2", 21),
    ("u", 2950),
    ("body", 25),
    ("v", 1043),
    ("b", 16),
    ("m", MOOD),
    ("p", POSITIVE),
    ("j", 3802),
    ("js", 114),
    ("tags", 1009),
    ("n", 1700),
    ("d", 1082),
    ("ts", 1114),
    ("tz", 1184),
    ("f", 701),
    ("c", 1042),
    ("nm", 19),
    ("ids", 1007),
    ("r", 700),
    ("o", 26),
    ("tm", 1083),
    ("w", 25),
    ("moods", MOODS),
    ("box", 603),
];

/// Arrays and their elements.
const ARRAYS: [(u32, u32); 8] = [
    (1009, 25),
    (1007, 23),
    (1016, 20),
    (1015, 1043),
    (1005, 21),
    (2951, 2950),
    (1000, 16),
    (MOODS, MOOD),
];

/// Oid, name, type of the result and source of functions in schema `auth`.
const FUNCTIONS: [(u32, &str, u32, &str); 4] = [
    (16_427, "jwt", 3802, "select nullif(current_setting('request.jwt.claims', true), '')::jsonb"),
    (16_428, "uid", 2950, "select (nullif(auth.jwt() ->> 'sub', ''))::uuid"),
    (16_429, "role", 25, "select auth.jwt() ->> 'role'"),
    (16_430, "email", 25, "select auth.jwt() ->> 'email'"),
];

static TABLE: LazyLock<Table> = LazyLock::new(table);
static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(environment);

/// Compiles any bytes as the stored form of a policy: it is refused, or compiled the same way each
/// time.
///
/// # Panics
///
/// It was compiled differently the second time.
pub fn compile_policy(data: &[u8]) {
    let Ok(tree) = std::str::from_utf8(data) else { return };
    let _ = named_in(tree);
    let compiled = compile(tree);
    assert_eq!(compiled, compile(tree), "{tree:?}");
    assert!(compiled.decision.is_err() || compiled.partial.is_none(), "{tree:?}");
}

/// Decides rows by damaged policies: a permissive one, a restrictive one, the claims and the values
/// of the row, separated by zero bytes. A value that is missing is NULL, `!` one that was not sent.
///
/// # Panics
///
/// A row is visible that is said to be impossible, or a claim that no policy reads changed a verdict.
pub fn decide_policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.split('\0');
    let [permissive, restrictive, claims] = [(); 3].map(|()| parts.next().unwrap_or_default());
    let mut row = RowBuilder::with_capacity(COLUMNS.len(), text.len());
    for _ in COLUMNS {
        row.push(match parts.next() {
            None => Cell::Null,
            Some("!") => Cell::Unchanged,
            Some(value) => Cell::Text(value),
        });
    }
    let row = row.finish();
    let rule = rule(permissive, restrictive);
    let audience = audience(claims);
    let verdict = rule.decide(&TABLE, &row, &audience);
    if matches!(rule.necessary(&audience), Necessary::Never) {
        assert_ne!(verdict, Verdict::Allow, "{text:?}");
    }
    if let Some(rest) = claims.strip_prefix('{') {
        let other = self::audience(&format!("{{\"a claim that nobody reads\":1,{rest}"));
        let read = rule.claims_read();
        if read.project(&audience.claims) == read.project(&other.claims) {
            check_alike(verdict, &rule, &row, &other);
        }
    }
}

/// Two audiences that share a question must not be told apart.
fn check_alike(verdict: Verdict, rule: &RowRule, row: &Row, other: &Audience) {
    let second = rule.decide(&TABLE, row, other);
    let differ = matches!(
        (verdict, second),
        (Verdict::Allow, Verdict::Deny) | (Verdict::Deny, Verdict::Allow)
    );
    assert!(!differ, "{verdict:?} became {second:?}");
}

fn compile(tree: &str) -> Compiled {
    Compiler::new(ENVIRONMENT.clone(), &Compiler::default()).compile(tree, &TABLE)
}

fn rule(permissive: &str, restrictive: &str) -> RowRule {
    let kinds = [(PolicyKind::Permissive, permissive), (PolicyKind::Restrictive, restrictive)];
    let given = kinds.into_iter().filter(|(_, tree)| !tree.is_empty());
    let policies = given.map(|(kind, tree)| policy(kind, compile(tree))).collect();
    let role = RoleFacts {
        id: RoleId(20),
        bypasses_row_security: false,
        has_privileges_of: BTreeSet::from([RoleId(20)]),
        may_run: ENVIRONMENT.functions.keys().copied().collect(),
    };
    RowSecurity { is_enabled: true, is_forced: false, policies }.rule_for(&role, RoleId(10))
}

fn policy(kind: PolicyKind, compiled: Compiled) -> Policy {
    let Compiled { decision, partial, claims_read, membership } = compiled;
    Policy {
        name: "p".into(),
        kind,
        applies_to: PolicyRoles::Public,
        using: Some("question".into()),
        reads: Reads::default(),
        decision,
        partial,
        claims_read,
        membership,
    }
}

fn audience(claims: &str) -> Audience {
    Audience { role: Role::new("authenticated"), claims: Claims::new(claims) }
}

fn types() -> TypeRegistry {
    let named = |id: u32, name: &str, kind: TypeKind| PgType {
        id: TypeId(id),
        schema: "pg_catalog".into(),
        name: name.into(),
        delimiter: ',',
        kind,
    };
    let labels = ["sad", "ok", "happy"].into_iter().map(Into::into).collect();
    let arrays = ARRAYS
        .map(|(id, element)| named(id, "array", TypeKind::Array { element: TypeId(element) }));
    let domain = TypeKind::Domain { base: TypeId(23) };
    let own = [named(MOOD, "mood", TypeKind::Enum { labels }), named(POSITIVE, "positive", domain)];
    let known: Vec<PgType> = arrays.into_iter().chain(own).collect();
    let others: BTreeSet<u32> = COLUMNS.iter().map(|(_, id)| *id).collect();
    let others: Vec<PgType> = others
        .into_iter()
        .filter(|id| known.iter().all(|one| one.id.0 != *id))
        .map(|id| named(id, "base", TypeKind::Base))
        .collect();
    known.into_iter().chain(others).collect()
}

fn table() -> Table {
    let types = Arc::new(types());
    let columns = (1_i16..).zip(COLUMNS).filter_map(|(number, (name, id))| {
        let data_type = Arc::clone(types.find(TypeId(id))?);
        let base_type = Arc::clone(types.find(types.base_of(data_type.id))?);
        let is_text = [oid::TEXT, oid::VARCHAR, oid::BPCHAR].contains(&base_type.id);
        Some(Column {
            name: name.into(),
            number,
            collation: if is_text { Collation::Locale } else { Collation::None },
            data_type,
            base_type,
            type_modifier: -1,
            is_primary_key: false,
            is_identity: false,
            is_generated: false,
        })
    });
    Table {
        id: TableId(1),
        schema: "public".into(),
        name: "t".into(),
        kind: TableKind::Ordinary,
        owner: RoleId(10),
        replica_identity: ReplicaIdentity::Full,
        columns: columns.collect(),
        types: Arc::clone(&types),
        has_primary_key: true,
    }
}

fn environment() -> Environment {
    let functions = FUNCTIONS.map(|(id, name, result_type, source)| {
        let facts = FunctionFacts {
            schema: "auth".into(),
            name: name.into(),
            is_plain: true,
            is_immutable: false,
            result_type,
            settings: ["search_path=\"\"".into()].into(),
            source: source.into(),
        };
        (FunctionId(id), facts)
    });
    let labels = [(16_418, "sad"), (16_420, "ok"), (16_422, "happy")];
    Environment {
        has_known_layout: true,
        default_collation: Collation::Locale,
        nondeterministic_collations: BTreeSet::from([16_426]),
        has_no_claim_defaults: true,
        has_channel_settings: false,
        has_usual_names: true,
        revoked: BTreeSet::new(),
        functions: functions.into(),
        operators: BTreeMap::new(),
        enum_labels: labels.map(|(id, label)| (id, label.into())).into(),
        relations: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else the targets would look at refusals only.
    #[test]
    fn the_corpus_has_policies_that_are_decided() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/policy_tree");
        let trees: Vec<String> = std::fs::read_dir(corpus)
            .unwrap()
            .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        let n_decided = trees.iter().filter(|tree| compile(tree).decision.is_ok()).count();
        assert!(2 * n_decided > trees.len(), "{n_decided} of {}", trees.len());
    }
}
