//! Policies as PostgreSQL stored them, against what PostgreSQL said (see `data/policies/record.sql`).
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
        ClaimsRead, Compiled, Compiler, Environment, FunctionFacts, FunctionId, Necessary, Policy,
        PolicyKind, PolicyRoles, Reads, RoleFacts, RowRule, RowSecurity, Verdict,
    },
};

/// The oldest and the newest version.
const RECORDED: [(&str, &str); 2] = [
    ("14", include_str!("../data/policies/14.json")),
    ("18", include_str!("../data/policies/18.json")),
];

/// One recording.
struct Recorded {
    table: Table,
    environment: Environment,
    rows: Vec<Row>,
    audiences: Vec<Audience>,
    policies: Vec<Value>,
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn text(value: &Value) -> &str {
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
        has_usual_names: true,
        revoked: BTreeSet::new(),
        functions: functions.collect(),
        operators: names("operators"),
        enum_labels: names("enum_labels"),
        relations: BTreeMap::new(),
    }
}

fn recorded(json: &str) -> Recorded {
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

fn policy(using: &str, compiled: Compiled) -> Policy {
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

fn rule(policies: Vec<Policy>, environment: &Environment) -> RowRule {
    let role = RoleFacts {
        id: RoleId(20),
        bypasses_row_security: false,
        has_privileges_of: BTreeSet::from([RoleId(20)]),
        may_run: environment.functions.keys().copied().collect(),
    };
    let security = RowSecurity { is_enabled: true, is_forced: false, policies: policies.into() };
    security.rule_for(&role, RoleId(10))
}

/// Every verdict is PostgreSQL's, or it is left to PostgreSQL.
#[test]
fn verdicts_are_those_that_postgresql_gave() {
    for (version, json) in RECORDED {
        let recorded = recorded(json);
        let mut compiler = Compiler::new(recorded.environment.clone(), &Compiler::default());
        let (mut n_decided, mut n_undecided, mut wrong) = (0, 0, Vec::new());
        for recorded_policy in &recorded.policies {
            let using = text(&recorded_policy["using"]);
            let tree = text(&recorded_policy["tree"]);
            let compiled = compiler.compile(tree, &recorded.table);
            let expected = recorded_policy["is_decided"].as_bool().unwrap();
            if compiled.decision.is_ok() != expected {
                wrong.push(format!("{using}: {:?}", compiled.decision));
            }
            let rule = rule(vec![policy(using, compiled)], &recorded.environment);
            let answers = text(&recorded_policy["answers"]).chars();
            let images = recorded
                .rows
                .iter()
                .flat_map(|row| recorded.audiences.iter().map(move |audience| (row, audience)));
            for (answer, (row, audience)) in answers.zip(images) {
                let verdict = rule.decide(&recorded.table, row, audience);
                let allowed = answer == 't';
                let is_right = match verdict {
                    Verdict::Allow => allowed,
                    Verdict::Deny => !allowed,
                    Verdict::Undecided => true,
                };
                if verdict == Verdict::Undecided {
                    n_undecided += usize::from(expected);
                } else {
                    n_decided += usize::from(expected);
                }
                let claims = audience.claims.as_str();
                if !is_right {
                    wrong.push(format!("{using} is {verdict:?}, not {answer}: {row:?} {claims}"));
                }
                // What is necessary holds of each row that is visible.
                let is_impossible = match rule.necessary(audience) {
                    Necessary::Unknown => false,
                    Necessary::Never => allowed,
                    Necessary::Equal(condition) => {
                        let position = recorded.table.position(&condition.column).unwrap();
                        let value = row.cell(position);
                        allowed && value != Cell::Text(&condition.value)
                    }
                };
                if is_impossible {
                    wrong.push(format!("{using} has another necessary condition: {claims}"));
                }
            }
        }
        assert_eq!(wrong, Vec::<String>::new(), "PostgreSQL {version}");
        println!("PostgreSQL {version}: {n_decided} decided, {n_undecided} undecided");
        assert!(n_decided > 6 * n_undecided, "{n_decided} decided, {n_undecided} undecided");
    }
}

/// Audiences whose projections are equal get the same answers.
#[test]
fn answers_depend_on_nothing_but_the_claims_that_are_read() {
    for (version, json) in RECORDED {
        let recorded = recorded(json);
        let mut compiler = Compiler::new(recorded.environment.clone(), &Compiler::default());
        for recorded_policy in &recorded.policies {
            let compiled = compiler.compile(text(&recorded_policy["tree"]), &recorded.table);
            let answers: Vec<char> = text(&recorded_policy["answers"]).chars().collect();
            let by_row = answers.chunks(recorded.audiences.len());
            for answers in by_row {
                let mut known = Vec::new();
                for (audience, answer) in recorded.audiences.iter().zip(answers) {
                    let projection = compiled.claims_read.project(&audience.claims);
                    let same = known.iter().find(|(other, _)| *other == projection);
                    assert!(
                        same.is_none_or(|(_, other)| other == answer),
                        "PostgreSQL {version}: {recorded_policy}"
                    );
                    known.push((projection, *answer));
                }
            }
        }
    }
}

#[test]
fn what_is_read_of_the_claims_is_known() {
    let recorded = recorded(RECORDED[0].1);
    let mut compiler = Compiler::new(recorded.environment.clone(), &Compiler::default());
    let mut check = |using: &str, expected: Option<&[&[&str]]>| {
        let found = recorded.policies.iter().find(|policy| policy["using"] == using).unwrap();
        let compiled = compiler.compile(text(&found["tree"]), &recorded.table);
        let expected = expected.map_or(ClaimsRead::Everything, |paths| {
            let path = |path: &&[&str]| path.iter().map(|name| (*name).into()).collect();
            ClaimsRead::Paths(paths.iter().map(path).collect())
        });
        assert_eq!(compiled.claims_read, expected, "{using}");
    };
    check("auth.uid() = u", Some(&[&["sub"]]));
    check("b is true", Some(&[]));
    check("auth.role() = 'authenticated'", Some(&[&["role"]]));
    check("((auth.jwt() -> 'app') ->> 'admin')::boolean", Some(&[&["app", "admin"]]));
    check("(auth.jwt() #>> '{app,n}')::bigint = id", Some(&[&["app", "n"]]));
    check("(auth.jwt() -> 'app' -> 'list' ->> 0) = body", Some(&[&["app", "list"]]));
    check("auth.jwt() ? 'org'", None);
    check("body ~ '^a'", Some(&[]));
    check("body ~ (auth.jwt() ->> 'org')", Some(&[&["org"]]));
    check("tz < now()", Some(&[]));
    check("is_member(u)", None);
    check("u in (select other.u from other where other.id = t.id)", None);
    check("current_setting('app.tenant', true) = body", None);
}

#[test]
fn several_policies_are_decided_together() {
    let recorded = recorded(RECORDED[1].1);
    let mut compiler = Compiler::new(recorded.environment.clone(), &Compiler::default());
    let mut make = |using: &str, kind: PolicyKind| {
        let found = recorded.policies.iter().find(|policy| policy["using"] == using).unwrap();
        let compiled = compiler.compile(text(&found["tree"]), &recorded.table);
        Policy { kind, ..policy(using, compiled) }
    };
    let (permissive, restrictive) = (PolicyKind::Permissive, PolicyKind::Restrictive);
    let owner = make("auth.uid() = u", permissive);
    let admin = make("((auth.jwt() -> 'app') ->> 'admin')::boolean", permissive);
    let member = make("is_member(u)", permissive);
    let flagged = make("b is true", restrictive);
    let late = make("id between 1 and 10", restrictive);
    let first = 0;
    let check = |policies: &[&Policy], row: usize, audience: usize, expected: Verdict| {
        let policies: Vec<Policy> = policies.iter().map(|policy| (*policy).clone()).collect();
        let rule = rule(policies, &recorded.environment);
        let verdict =
            rule.decide(&recorded.table, &recorded.rows[row], &recorded.audiences[audience]);
        assert_eq!(verdict, expected, "{row} {audience}");
    };
    check(&[&owner], first, 0, Verdict::Allow);
    check(&[&owner], 1, 0, Verdict::Deny);
    check(&[&owner, &admin], 1, 0, Verdict::Allow);
    // A claim that the second policy cannot read may raise before any row is looked at.
    check(&[&owner, &admin], 1, 1, Verdict::Allow);
    check(&[&admin, &owner], first, 2, Verdict::Deny);
    check(&[&owner, &flagged], first, 0, Verdict::Allow);
    check(&[&owner, &flagged, &late], first, 0, Verdict::Allow);
    check(&[&owner, &flagged], 1, 1, Verdict::Deny);
    // What is not known may raise, whatever comes before; it can only be kept from saying yes.
    check(&[&owner, &member], first, 0, Verdict::Undecided);
    check(&[&member, &flagged], 1, 0, Verdict::Deny);
    check(&[&member, &flagged], first, 0, Verdict::Undecided);
}
