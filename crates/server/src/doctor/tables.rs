//! The published tables: keys, replica identity, row-level security, grants.

use crate::database::quote_identifier;
use crate::doctor::facts::{Facts, Grant, Table};
use crate::doctor::finding::Finding;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    facts.tables.iter().flat_map(|table| check_table(table, facts)).collect()
}

/// One table: a line for each thing to know, or one line that all is well.
fn check_table(table: &Table, facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = [
        primary_key(table),
        replica_identity(table, facts),
        policies(table),
        open_to_everybody(table),
        generated_columns(table, facts),
        readers(table),
    ]
    .into_iter()
    .flatten()
    .collect();
    findings.extend(table.grants.iter().filter_map(|grant| schema_usage(table, grant)));
    findings.extend(table.grants.iter().filter_map(|grant| hidden_key(table, grant)));
    if findings.is_empty() {
        findings.push(Finding::good(format!("{}: nothing to remark", name(table))));
    }
    findings
}

fn primary_key(table: &Table) -> Option<Finding> {
    table.key_columns.is_empty().then(|| {
        Finding::warning(format!(
            "{}: there is no primary key, so its changes arrive as error 400 without values",
            name(table)
        ))
        .mend(format!("alter table {} add primary key (…);", table.quoted))
    })
}

fn replica_identity(table: &Table, facts: &Facts) -> Option<Finding> {
    let quoted = &table.quoted;
    let full = format!("alter table {quoted} replica identity full;");
    let has_key = !table.key_columns.is_empty();
    match table.replica_identity.as_str() {
        "n" if facts.publishes_updates => Some(
            Finding::failure(format!(
                "{}: replica identity is nothing, so PostgreSQL refuses UPDATE and DELETE",
                name(table)
            ))
            .mend(if has_key {
                format!("alter table {quoted} replica identity default;")
            } else {
                full
            }),
        ),
        "d" if !has_key && facts.publishes_updates => Some(
            Finding::failure(format!(
                "{}: without a primary key there is no replica identity, so PostgreSQL refuses \
                 UPDATE and DELETE",
                name(table)
            ))
            .mend(full),
        ),
        "d" | "i" if table.has_row_security && facts.publishes_updates => Some(
            Finding::note(format!(
                "{}: the stream holds only the key of old rows, so old_record is the key, and a \
                 DELETE can be authorised only by policies that read nothing else (see \
                 --deletes-unverifiable)",
                name(table)
            ))
            .mend(full),
        ),
        "d" | "i" if facts.publishes_updates => Some(
            Finding::note(format!(
                "{}: the stream holds only the key of old rows, so old_record is the key",
                name(table)
            ))
            .mend(full),
        ),
        _ => None,
    }
}

fn policies(table: &Table) -> Option<Finding> {
    (table.has_row_security && table.n_select_policies == 0).then(|| {
        Finding::warning(format!(
            "{}: row-level security is on without a policy for SELECT, so only roles that bypass \
             it receive rows",
            name(table)
        ))
        .mend(format!("create policy … on {} for select to authenticated using (…);", table.quoted))
    })
}

fn open_to_everybody(table: &Table) -> Option<Finding> {
    let anon_reads = table.grants.iter().any(|grant| grant.role == "anon" && grant.may_select);
    (!table.has_row_security && anon_reads).then(|| {
        Finding::note(format!(
            "{}: anon may select and row-level security is off, so everybody receives every row",
            name(table)
        ))
        .mend(format!("alter table {} enable row level security;", table.quoted))
    })
}

fn generated_columns(table: &Table, facts: &Facts) -> Option<Finding> {
    if table.generated_columns.is_empty() {
        return None;
    }
    let columns = table.generated_columns.join(", ");
    if facts.version_num < 180_000 {
        return Some(Finding::note(format!(
            "{}: the generated columns {columns} are not in the stream; PostgreSQL 18 can publish \
             them",
            name(table)
        )));
    }
    (!facts.publishes_generated_columns).then(|| {
        let publication = facts.publications.first().map_or("…", |first| first.name.as_str());
        Finding::note(format!("{}: the generated columns {columns} are not published", name(table)))
            .mend(format!(
                "alter publication {} set (publish_generated_columns = stored);",
                quote_identifier(publication)
            ))
    })
}

fn readers(table: &Table) -> Option<Finding> {
    let has_readers = table.grants.iter().any(|grant| grant.may_select);
    (!has_readers && !table.grants.is_empty()).then(|| {
        Finding::warning(format!(
            "{}: none of anon, authenticated and service_role may select, so its changes arrive \
             as error 401 without values",
            name(table)
        ))
        .mend(format!("grant select on {} to authenticated;", table.quoted))
    })
}

fn schema_usage(table: &Table, grant: &Grant) -> Option<Finding> {
    (grant.may_select && !grant.has_schema_usage).then(|| {
        let (schema, role) = (quote_identifier(&table.schema), &grant.role);
        Finding::warning(format!(
            "{}: {role} may select but lacks USAGE on the schema, so its policies cannot be asked",
            name(table)
        ))
        .mend(format!("grant usage on schema {schema} to {role};"))
    })
}

fn hidden_key(table: &Table, grant: &Grant) -> Option<Finding> {
    (grant.may_select && !grant.key_columns_hidden.is_empty()).then(|| {
        let columns: Vec<String> =
            grant.key_columns_hidden.iter().map(|column| quote_identifier(column)).collect();
        let (columns, role) = (columns.join(", "), &grant.role);
        Finding::warning(format!(
            "{}: {role} may not select the key, so it receives error 401 without values",
            name(table)
        ))
        .mend(format!("grant select ({columns}) on {} to {role};", table.quoted))
    })
}

fn name(table: &Table) -> String {
    format!("{}.{}", table.schema, table.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::healthy;

    fn lines(change: impl FnOnce(&mut Facts)) -> Vec<String> {
        let mut facts = healthy();
        change(&mut facts);
        check(&facts).iter().map(ToString::to_string).collect()
    }

    fn check_one(change: impl FnOnce(&mut Table), start: &str, end: &str) {
        let lines = lines(|facts| change(&mut facts.tables[0]));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with(start) && lines[0].ends_with(end), "{lines:?}");
    }

    #[test]
    fn a_healthy_table_is_one_line() {
        assert_eq!(lines(|_| {}), ["ok    public.messages: nothing to remark"]);
    }

    #[test]
    fn keys_and_replica_identity_decide_what_clients_receive() {
        check_one(
            |table| table.key_columns.clear(),
            "warn  public.messages: there is no primary key",
            "alter table public.messages add primary key (…);",
        );
        check_one(
            |table| table.replica_identity = "n".into(),
            "FAIL  public.messages: replica identity is nothing",
            "alter table public.messages replica identity default;",
        );
        check_one(
            |table| table.replica_identity = "d".into(),
            "note  public.messages: the stream holds only the key",
            "alter table public.messages replica identity full;",
        );
        let neither = lines(|facts| {
            facts.tables[0].key_columns.clear();
            facts.tables[0].replica_identity = "d".into();
        });
        assert!(
            neither[0].starts_with("warn  ") && neither[1].starts_with("FAIL  "),
            "{neither:?}"
        );
    }

    #[test]
    fn without_updates_the_replica_identity_does_not_matter() {
        let lines = lines(|facts| {
            facts.publishes_updates = false;
            facts.tables[0].replica_identity = "n".into();
        });
        assert_eq!(lines, ["ok    public.messages: nothing to remark"]);
    }

    #[test]
    fn row_level_security_that_hides_or_opens_everything_is_told() {
        check_one(
            |table| table.n_select_policies = 0,
            "warn  public.messages: row-level security is on without a policy",
            "for select to authenticated using (…);",
        );
        check_one(
            |table| table.has_row_security = false,
            "note  public.messages: anon may select and row-level security is off",
            "enable row level security;",
        );
    }

    #[test]
    fn grants_that_lead_to_errors_are_told_with_the_missing_one() {
        check_one(
            |table| table.grants[1].key_columns_hidden = vec!["id".into(), "Day".into()],
            "warn  public.messages: authenticated may not select the key",
            "grant select (\"id\", \"Day\") on public.messages to authenticated;",
        );
        check_one(
            |table| table.grants[1].has_schema_usage = false,
            "warn  public.messages: authenticated may select but lacks USAGE",
            "grant usage on schema \"public\" to authenticated;",
        );
        check_one(
            |table| table.grants.iter_mut().for_each(|grant| grant.may_select = false),
            "warn  public.messages: none of anon, authenticated and service_role may select",
            "grant select on public.messages to authenticated;",
        );
    }

    #[test]
    fn generated_columns_need_a_new_server_and_an_option() {
        check_one(
            |table| table.generated_columns = vec!["total".into()],
            "note  public.messages: the generated columns total are not in the stream",
            "publish them",
        );
        let on_18 = |is_published| {
            lines(|facts| {
                facts.version_num = 180_004;
                facts.publishes_generated_columns = is_published;
                facts.tables[0].generated_columns = vec!["total".into()];
            })
        };
        assert!(on_18(false)[0].ends_with("(publish_generated_columns = stored);"));
        assert_eq!(on_18(true), ["ok    public.messages: nothing to remark"]);
    }
}
