//! The changes, each with and without the triggers.

use anyhow::Result;
use serde_json::{Value, json};

use super::steps::{Step, check, nothing, row, unauthorized};

const NOTES: &str = "
    create table notes (id int primary key, body text);
    alter publication supabase_realtime add table notes";

/// Rows with a body.
const BODY: &str = "insert into notes (id, body) values ({id}, 'b{id}')";

fn binding() -> Value {
    json!([{"event": "INSERT", "schema": "public", "table": "notes"}])
}

fn body(id: u64) -> Option<Value> {
    row("notes", &json!({"id": id, "body": format!("b{id}")}))
}

#[tokio::test]
async fn columns_come_and_go() -> Result<()> {
    let wide = |id: u64| row("notes", &json!({"id": id, "body": format!("b{id}"), "extra": 7}));
    let steps = [
        Step { change: "", insert: BODY, seen: body },
        Step {
            change: "alter table notes add column extra int default 7",
            insert: BODY,
            seen: wide,
        },
        Step { change: "alter table notes drop column extra", insert: BODY, seen: body },
    ];
    check("columns_come_and_go", NOTES, &binding(), &steps).await
}

#[tokio::test]
async fn a_column_is_renamed() -> Result<()> {
    let renamed = |id: u64| row("notes", &json!({"id": id, "words": format!("b{id}")}));
    let words = "insert into notes (id, words) values ({id}, 'b{id}')";
    let steps = [
        Step { change: "", insert: BODY, seen: body },
        Step { change: "alter table notes rename body to words", insert: words, seen: renamed },
        Step { change: "alter table notes rename words to body", insert: BODY, seen: body },
    ];
    check("a_column_is_renamed", NOTES, &binding(), &steps).await
}

#[tokio::test]
async fn a_column_is_retyped() -> Result<()> {
    let setup = "create table notes (id int primary key, n int);
                 alter publication supabase_realtime add table notes";
    let number = |id: u64| row("notes", &json!({"id": id, "n": id}));
    let text = |id: u64| row("notes", &json!({"id": id, "n": id.to_string()}));
    let insert = "insert into notes (id, n) values ({id}, {id})";
    let steps = [
        Step { change: "", insert, seen: number },
        Step { change: "alter table notes alter n type text", insert, seen: text },
        // A row is delivered with the columns it was written with, hence another way to write.
        Step {
            change: "alter table notes alter n type int using n::int",
            insert: "insert into notes (n, id) values ({id}, {id})",
            seen: number,
        },
    ];
    check("a_column_is_retyped", setup, &binding(), &steps).await
}

#[tokio::test]
async fn a_table_is_renamed() -> Result<()> {
    let renamed = |id: u64| row("letters", &json!({"id": id, "body": format!("b{id}")}));
    let letters = "insert into letters (id, body) values ({id}, 'b{id}')";
    let steps = [
        Step { change: "", insert: BODY, seen: body },
        Step { change: "alter table notes rename to letters", insert: letters, seen: renamed },
        Step { change: "alter table letters rename to notes", insert: BODY, seen: body },
    ];
    check("a_table_is_renamed", NOTES, &binding(), &steps).await
}

#[tokio::test]
async fn a_table_is_dropped_and_made_again() -> Result<()> {
    let made_again = |id: u64| row("notes", &json!({"id": id, "n": id}));
    let steps = [
        Step { change: "", insert: BODY, seen: body },
        Step {
            change: "drop table notes; create table notes (id int primary key, n int); \
                     alter publication supabase_realtime add table notes",
            insert: "insert into notes (id, n) values ({id}, {id})",
            seen: made_again,
        },
        Step {
            change: "drop table notes; create table notes (id int primary key, n int)",
            insert: "insert into notes (id, n) values ({id}, {id})",
            seen: nothing,
        },
    ];
    check("a_table_is_dropped_and_made_again", NOTES, &binding(), &steps).await
}

#[tokio::test]
async fn a_policy_is_changed() -> Result<()> {
    let even = |id: u64| if id.is_multiple_of(2) { body(id) } else { None };
    let third = |id: u64| if id.is_multiple_of(3) { body(id) } else { None };
    let steps = [
        Step {
            change: "alter table notes enable row level security;
                     create policy p on notes for select using (id % 2 = 0)",
            insert: BODY,
            seen: even,
        },
        Step { change: "alter policy p on notes using (id % 3 = 0)", insert: BODY, seen: third },
        Step {
            change: "create policy q on notes for select using (true)",
            insert: BODY,
            seen: body,
        },
        Step { change: "drop policy q on notes", insert: BODY, seen: third },
        Step { change: "drop policy p on notes", insert: BODY, seen: nothing },
    ];
    check("a_policy_is_changed", NOTES, &binding(), &steps).await
}

#[tokio::test]
async fn a_policy_is_changed_by_its_function() -> Result<()> {
    let setup = format!(
        "create function may_see(n int) returns bool language plpgsql as $$ begin return n % 2 = 0; end $$;
         {NOTES}"
    );
    let even = |id: u64| if id.is_multiple_of(2) { body(id) } else { None };
    let steps = [
        Step {
            change: "alter table notes enable row level security;
                     create policy p on notes for select using (may_see(id))",
            insert: BODY,
            seen: even,
        },
        Step { change: "alter function may_see(int) rename to may_read", insert: BODY, seen: even },
        Step { change: "alter function may_read(int) rename to may_see", insert: BODY, seen: even },
    ];
    check("a_policy_is_changed_by_its_function", &setup, &binding(), &steps).await
}

#[tokio::test]
async fn select_is_granted_and_revoked() -> Result<()> {
    let refused = |_| unauthorized("notes");
    let steps = [
        Step { change: "revoke all on notes from anon", insert: BODY, seen: refused },
        Step { change: "grant select on notes to anon", insert: BODY, seen: body },
        Step { change: "revoke select on notes from anon", insert: BODY, seen: refused },
        Step { change: "grant select on notes to public", insert: BODY, seen: body },
        Step {
            change: "revoke usage on schema public from anon, public",
            insert: BODY,
            seen: refused,
        },
    ];
    check("select_is_granted_and_revoked", NOTES, &binding(), &steps).await
}

#[tokio::test]
async fn columns_are_granted_and_revoked() -> Result<()> {
    let key = |id: u64| row("notes", &json!({"id": id}));
    let steps = [
        Step {
            change: "revoke all on notes from anon; grant select (id) on notes to anon",
            insert: BODY,
            seen: key,
        },
        Step { change: "grant select (body) on notes to anon", insert: BODY, seen: body },
        Step { change: "revoke select (body) on notes from anon", insert: BODY, seen: key },
    ];
    check("columns_are_granted_and_revoked", NOTES, &binding(), &steps).await
}

#[tokio::test]
async fn row_security_is_switched() -> Result<()> {
    let on = "alter table notes enable row level security";
    let off = "alter table notes disable row level security";
    let steps = [
        Step { change: "", insert: BODY, seen: body },
        Step { change: on, insert: BODY, seen: nothing },
        Step { change: off, insert: BODY, seen: body },
        Step { change: off, insert: BODY, seen: body },
        Step { change: on, insert: BODY, seen: nothing },
    ];
    check("row_security_is_switched", NOTES, &binding(), &steps).await
}

#[tokio::test]
async fn a_table_joins_and_leaves_the_publication() -> Result<()> {
    let setup = format!("{NOTES}; create table others (id int primary key, body text)");
    let both = "insert into notes (id, body) values ({id}, 'b{id}'); \
                insert into others (id, body) values ({id}, 'b{id}')";
    let other = |id: u64| row("others", &json!({"id": id, "body": format!("b{id}")}));
    let binding = json!([{"event": "INSERT", "schema": "public", "table": "*"}]);
    let steps = [
        Step { change: "", insert: both, seen: body },
        Step {
            change: "alter publication supabase_realtime drop table notes; \
                     alter publication supabase_realtime add table others",
            insert: both,
            seen: other,
        },
        Step {
            change: "alter publication supabase_realtime drop table others",
            // PostgreSQL publishes a row by the publication of that moment, also within the
            // transaction that changes it; hence another way to write.
            insert: "insert into others (id, body) values ({id}, 'b{id}'); \
                     insert into notes (id, body) values ({id}, 'b{id}')",
            seen: nothing,
        },
        Step {
            change: "alter publication supabase_realtime add table notes",
            insert: both,
            seen: body,
        },
    ];
    check("joins_and_leaves_the_publication", &setup, &binding, &steps).await
}

/// A policy that PostgreSQL must be asked about, over names that change under it.
const MEMBERS: &str = "
    create table members (note_parity int primary key);
    insert into members values (0);
    grant select on members to anon;
    create table notes (id int primary key, body text);
    alter table notes enable row level security;
    create policy p on notes for select
      using (exists (select from members where note_parity = id % 2 and body is not null));
    alter publication supabase_realtime add table notes";

fn even(id: u64) -> Option<Value> {
    if id.is_multiple_of(2) { body(id) } else { None }
}

#[tokio::test]
async fn names_in_a_policy_change() -> Result<()> {
    let renamed = |id: u64| {
        let record = json!({"id": id, "words": format!("b{id}")});
        if id.is_multiple_of(2) { row("notes", &record) } else { None }
    };
    let words = "insert into notes (id, words) values ({id}, 'b{id}')";
    let steps = [
        Step { change: "", insert: BODY, seen: even },
        Step { change: "alter table members rename to people", insert: BODY, seen: even },
        Step {
            change: "alter table people rename note_parity to parity",
            insert: BODY,
            seen: even,
        },
        Step { change: "alter table notes rename body to words", insert: words, seen: renamed },
        Step { change: "alter table notes rename words to body", insert: BODY, seen: even },
        Step {
            change: "alter table notes add column extra text",
            insert: BODY,
            seen: |id| {
                let record = json!({"id": id, "body": format!("b{id}"), "extra": null});
                if id.is_multiple_of(2) { row("notes", &record) } else { None }
            },
        },
        Step { change: "alter table notes drop column extra", insert: BODY, seen: even },
    ];
    check("names_in_a_policy_change", MEMBERS, &binding(), &steps).await
}

#[tokio::test]
async fn a_table_with_a_policy_is_renamed_and_dropped() -> Result<()> {
    let renamed = |id: u64| {
        let record = json!({"id": id, "body": format!("b{id}")});
        if id.is_multiple_of(2) { row("letters", &record) } else { None }
    };
    let letters = "insert into letters (id, body) values ({id}, 'b{id}')";
    let steps = [
        Step { change: "", insert: BODY, seen: even },
        Step { change: "alter table notes rename to letters", insert: letters, seen: renamed },
        Step {
            change: "drop table letters; create table letters (id int primary key, body text)",
            insert: "insert into letters (body, id) values ('b{id}', {id})",
            seen: nothing,
        },
    ];
    check("a_table_with_a_policy_is_renamed", MEMBERS, &binding(), &steps).await
}
