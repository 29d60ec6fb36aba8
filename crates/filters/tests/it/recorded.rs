//! Policies as PostgreSQL stored them, with its answers (`data/policies/record.sql`).
#![expect(clippy::unwrap_used, reason = "the recording is the test's own")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;
use walcast_change::{
    Cell, Collation, Column, PgType, ReplicaIdentity, RoleId, Row, Table, TableId, TableKind,
    TypeId, TypeKind, TypeRegistry, oid,
};
use walcast_filters::{
    claims::{Audience, Claims, Role},
    policy::{
        Compiled, Compiler, Environment, FunctionFacts, FunctionId, Policy, PolicyKind,
        PolicyRoles, Reads, RoleFacts, RowRule, RowSecurity,
    },
};

/// What the oldest version recorded.
pub(crate) const OLDEST: &str = include_str!("../data/policies/14.json");
/// What the newest version recorded.
pub(crate) const NEWEST: &str = include_str!("../data/policies/18.json");

/// One recording.
pub(crate) struct Recorded {
    pub(crate) table: Table,
    pub(crate) environment: Environment,
    pub(crate) rows: Vec<Row>,
    pub(crate) audiences: Vec<Audience>,
    pub(crate) policies: Vec<Value>,
}

impl Recorded {
    /// The policy with this expression, compiled.
    pub(crate) fn compile(&self, compiler: &mut Compiler, using: &str) -> Policy {
        let found = self.policies.iter().find(|policy| policy["using"] == using).unwrap();
        policy(using, compiler.compile(text(&found["tree"]), &self.table))
    }
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn pg_type(recorded: &Value) -> PgType {
    let related = TypeId(number(&recorded[3]));
    let kind = match text(&recorded[2]) {
        "enum" => TypeKind::Enum {
            labels: recorded[4]
                .as_array()
                .unwrap()
                .iter()
                .map(|label| text(label).into())
                .collect(),
        },
        "domain" => TypeKind::Domain { base: related },
        "array" => TypeKind::Array { element: related },
        _ => TypeKind::Base,
    };
    PgType {
        id: TypeId(number(&recorded[0])),
        schema: "s".into(),
        name: text(&recorded[1]).into(),
        delimiter: text(&recorded[5]).chars().next().unwrap(),
        kind,
    }
}

fn table(recorded: &Value) -> Table {
    let types: TypeRegistry = recorded["types"].as_array().unwrap().iter().map(pg_type).collect();
    let types = Arc::new(types);
    let columns = recorded["columns"].as_array().unwrap().iter().map(|column| {
        let data_type = Arc::clone(types.find(TypeId(number(&column[2]))).unwrap());
        let base_type = Arc::clone(types.find(types.base_of(data_type.id)).unwrap());
        let is_text = [oid::TEXT, oid::VARCHAR, oid::BPCHAR].contains(&base_type.id);
        Column {
            name: text(&column[0]).into(),
            number: i16::try_from(number(&column[1])).unwrap(),
            collation: if is_text { Collation::Locale } else { Collation::None },
            data_type,
            base_type,
            type_modifier: -1,
            is_primary_key: false,
            is_identity: false,
            is_generated: false,
        }
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

fn environment(recorded: &Value) -> Environment {
    let functions = recorded["functions"].as_array().unwrap().iter().map(|function| {
        let facts = FunctionFacts {
            schema: text(&function[1]).into(),
            name: text(&function[2]).into(),
            is_plain: function[3].as_bool().unwrap(),
            is_immutable: function[4].as_bool().unwrap(),
            result_type: number(&function[5]),
            settings: function[6].as_array().unwrap().iter().map(|one| text(one).into()).collect(),
            source: text(&function[7]).into(),
        };
        (FunctionId(number(&function[0])), facts)
    });
    let names = |field: &str| -> BTreeMap<u32, Box<str>> {
        let names = recorded[field].as_object().unwrap().iter();
        names.map(|(oid, name)| (oid.parse().unwrap(), text(name).into())).collect()
    };
    let nondeterministic = recorded["nondeterministic"].as_array().unwrap().iter();
    Environment {
        has_known_layout: true,
        default_collation: Collation::Locale,
        nondeterministic_collations: nondeterministic.map(number).collect(),
        has_no_claim_defaults: true,
        has_channel_settings: false,
        has_usual_names: true,
        revoked: BTreeSet::new(),
        functions: functions.collect(),
        operators: names("operators"),
        enum_labels: names("enum_labels"),
        relations: BTreeMap::new(),
    }
}

/// Reads one of the recordings.
pub(crate) fn read(json: &str) -> Recorded {
    let recorded: Value = serde_json::from_str(json).unwrap();
    let rows = recorded["rows"].as_array().unwrap().iter();
    let cells = |row: &Value| -> Row {
        let cells = row.as_array().unwrap().iter();
        cells.map(|cell| cell.as_str().map_or(Cell::Null, Cell::Text)).collect()
    };
    let claims = recorded["claims"].as_array().unwrap().iter();
    let audience = |claims: &Value| Audience {
        role: Role::new("policies_reader"),
        claims: Claims::new(text(claims)),
    };
    Recorded {
        table: table(&recorded),
        environment: environment(&recorded),
        rows: rows.map(cells).collect(),
        audiences: claims.map(audience).collect(),
        policies: recorded["policies"].as_array().unwrap().clone(),
    }
}

/// A permissive policy for everybody.
pub(crate) fn policy(using: &str, compiled: Compiled) -> Policy {
    let Compiled { decision, partial, claims_read, membership } = compiled;
    Policy {
        name: "p".into(),
        kind: PolicyKind::Permissive,
        applies_to: PolicyRoles::Public,
        using: Some(using.into()),
        reads: Reads::default(),
        decision,
        partial,
        claims_read,
        membership,
    }
}

/// The rule for a role that these policies concern.
pub(crate) fn rule(policies: Vec<Policy>, environment: &Environment) -> RowRule {
    let role = RoleFacts {
        id: RoleId(20),
        bypasses_row_security: false,
        has_privileges_of: BTreeSet::from([RoleId(20)]),
        may_run: environment.functions.keys().copied().collect(),
    };
    let security = RowSecurity { is_enabled: true, is_forced: false, policies: policies.into() };
    security.rule_for(&role, RoleId(10))
}
