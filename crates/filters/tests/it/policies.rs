//! Policies as PostgreSQL stored them, against what PostgreSQL said (see `data/policies/record.sql`).

use walcast_change::Cell;
use walcast_filters::policy::{ClaimsRead, Compiler, Necessary, Policy, PolicyKind, Verdict};

use crate::recorded::{NEWEST, OLDEST, policy, read, rule, text};

/// The oldest and the newest version.
const RECORDED: [(&str, &str); 2] = [("14", OLDEST), ("18", NEWEST)];

/// Every verdict is PostgreSQL's, or it is left to PostgreSQL.
#[test]
fn verdicts_are_those_that_postgresql_gave() {
    for (version, json) in RECORDED {
        let recorded = read(json);
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
        let recorded = read(json);
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
    let recorded = read(OLDEST);
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
    let recorded = read(NEWEST);
    let mut compiler = Compiler::new(recorded.environment.clone(), &Compiler::default());
    let mut make =
        |using: &str, kind: PolicyKind| Policy { kind, ..recorded.compile(&mut compiler, using) };
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
