//! The server's settings, the login and the roles.

use crate::database::quote_identifier;
use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;
use crate::embedded::programs::OLDEST_MAJOR;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![
        version(facts),
        wal_level(facts),
        encoding(facts),
        synchronous_commit(facts),
        slots(facts),
        senders(facts),
        login(facts),
    ];
    findings.extend(superuser(facts));
    findings.extend(roles(facts));
    findings
}

fn version(facts: &Facts) -> Finding {
    if facts.version_num / 10_000 >= OLDEST_MAJOR {
        return Finding::good(format!("PostgreSQL {}", facts.version));
    }
    Finding::failure(format!(
        "PostgreSQL {} is too old: walcast needs {OLDEST_MAJOR} or newer",
        facts.version
    ))
}

fn wal_level(facts: &Facts) -> Finding {
    if facts.wal_level == "logical" {
        return Finding::good("wal_level is logical");
    }
    Finding::failure(format!("wal_level is {}: changes cannot be decoded", facts.wal_level))
        .mend("alter system set wal_level = 'logical'; -- then restart PostgreSQL")
}

fn encoding(facts: &Facts) -> Finding {
    match facts.encoding.as_str() {
        "SQL_ASCII" => Finding::warning(
            "the database has the encoding SQL_ASCII: bytes that are not UTF-8 cannot be sent; \
             only a new database with encoding UTF8 helps",
        ),
        encoding => Finding::good(format!("the database has the encoding {encoding}")),
    }
}

fn synchronous_commit(facts: &Facts) -> Finding {
    if facts.synchronous_commit != "off" {
        return Finding::good(format!("synchronous_commit is {}", facts.synchronous_commit));
    }
    Finding::warning(
        "synchronous_commit is off: only flushed WAL is sent, so changes arrive a tenth of a \
         second late or more",
    )
    .mend("alter system set synchronous_commit = on; select pg_reload_conf();")
}

fn slots(facts: &Facts) -> Finding {
    let (used, limit) = (facts.n_replication_slots, facts.max_replication_slots);
    let text = format!("{used} of {limit} replication slots are in use");
    if used < limit || facts.slot.is_some() {
        return Finding::good(text);
    }
    Finding::failure(format!("{text}: there is no room for walcast's")).mend(format!(
        "alter system set max_replication_slots = {}; -- then restart PostgreSQL",
        limit + 4
    ))
}

fn senders(facts: &Facts) -> Finding {
    let (used, limit) = (facts.n_wal_senders, facts.max_wal_senders);
    let text = format!("{used} of {limit} WAL senders are in use");
    if used < limit || facts.slot.as_ref().is_some_and(|slot| slot.is_active) {
        return Finding::good(text);
    }
    Finding::failure(format!("{text}: there is no room for walcast's")).mend(format!(
        "alter system set max_wal_senders = {}; -- then restart PostgreSQL",
        limit + 4
    ))
}

fn login(facts: &Facts) -> Finding {
    let name = &facts.login.name;
    if facts.login.may_replicate {
        // Said because people look for it: rows come from the WAL, and policies are asked over
        // those rows given as values, never over the table.
        return Finding::good(format!(
            "{name} may replicate; it needs no SELECT on the tables, since rows come from the WAL"
        ));
    }
    Finding::failure(format!("{name} lacks the attribute REPLICATION"))
        .mend(format!("alter role {} replication;", quote_identifier(name)))
}

fn superuser(facts: &Facts) -> Option<Finding> {
    let name = &facts.login.name;
    facts.login.is_superuser.then(|| {
        Finding::note(format!("{name} is a superuser: walcast needs much less")).mend(
            "create role walcast login replication noinherit password '…'; \
             grant anon, authenticated, service_role to walcast;",
        )
    })
}

fn roles(facts: &Facts) -> impl Iterator<Item = Finding> {
    let login = quote_identifier(&facts.login.name);
    facts.roles.iter().map(move |role| {
        let name = &role.name;
        match (role.exists, role.may_be_set) {
            (false, _) => {
                Finding::warning(format!("role {name} does not exist: its tokens are refused"))
                    .mend(format!(
                        "create role {name} nologin noinherit; -- walcast migrate --bootstrap"
                    ))
            }
            (true, false) => Finding::failure(format!(
                "{} cannot act as {name}: its permissions cannot be asked",
                facts.login.name
            ))
            .mend(format!("grant {name} to {login};")),
            (true, true) => Finding::good(format!("{} can act as {name}", facts.login.name)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::Slot;
    use crate::doctor::finding::Level;
    use crate::doctor::tests::healthy;

    fn problems(change: impl FnOnce(&mut Facts)) -> Vec<String> {
        let mut facts = healthy();
        change(&mut facts);
        check(&facts)
            .into_iter()
            .filter(|finding| finding.level != Level::Good)
            .map(|finding| finding.to_string())
            .collect()
    }

    fn check_one(change: impl FnOnce(&mut Facts), start: &str, end: &str) {
        let problems = problems(change);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(start) && problems[0].ends_with(end), "{problems:?}");
    }

    #[test]
    fn a_healthy_server_has_no_problems() {
        assert_eq!(problems(|_| {}), [""; 0]);
    }

    #[test]
    fn each_setting_that_is_in_the_way_is_named_with_its_remedy() {
        check_one(|facts| facts.version_num = 130_009, "FAIL  PostgreSQL", "14 or newer");
        check_one(
            |facts| facts.wal_level = "replica".into(),
            "FAIL  wal_level is replica",
            "set wal_level = 'logical'; -- then restart PostgreSQL",
        );
        check_one(|facts| facts.encoding = "SQL_ASCII".into(), "warn  the database", "helps");
        check_one(
            |facts| facts.synchronous_commit = "off".into(),
            "warn  synchronous_commit is off",
            "pg_reload_conf();",
        );
        check_one(
            |facts| facts.n_replication_slots = 10,
            "FAIL  10 of 10 replication slots",
            "max_replication_slots = 14; -- then restart PostgreSQL",
        );
        check_one(
            |facts| facts.n_wal_senders = 10,
            "FAIL  10 of 10 WAL senders",
            "max_wal_senders = 14; -- then restart PostgreSQL",
        );
    }

    #[test]
    fn what_walcast_uses_already_needs_no_more_room() {
        let full = |facts: &mut Facts| {
            facts.n_replication_slots = 10;
            facts.n_wal_senders = 10;
            facts.slot = Some(Slot {
                plugin: Some("pgoutput".into()),
                database: Some("app".into()),
                is_active: true,
                wal_status: Some("reserved".into()),
                lag_bytes: Some(0),
            });
        };
        assert_eq!(problems(full), [""; 0]);
    }

    #[test]
    fn the_login_needs_replication_and_membership_and_no_more() {
        check_one(
            |facts| facts.login.may_replicate = false,
            "FAIL  walcast lacks",
            "alter role \"walcast\" replication;",
        );
        check_one(
            |facts| facts.login.is_superuser = true,
            "note  walcast is a superuser",
            "walcast;",
        );
        check_one(
            |facts| facts.roles[0].may_be_set = false,
            "FAIL  walcast cannot act as anon",
            "grant anon to \"walcast\";",
        );
        check_one(
            |facts| facts.roles[0].exists = false,
            "warn  role anon does not exist",
            "walcast migrate --bootstrap",
        );
    }
}
