//! What the old row holds, by replica identity, and what becomes of values that are not in the WAL.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::{Postgres, Token};

use super::column_names;
use crate::world::{ALICE, World};

/// A replica identity, and the old row of an UPDATE that leaves the key alone, of one that changes
/// key and index, and of a DELETE.
struct Case {
    identity: &'static str,
    kept: Value,
    moved: Value,
    deleted: Value,
}

fn cases() -> [Case; 3] {
    let whole = |id: i32, code: &str, n: i32| json!({"id": id, "code": code, "n": n, "body": "b"});
    [
        Case {
            identity: "default",
            kept: json!({"id": 1}),
            moved: json!({"id": 1}),
            deleted: json!({"id": 2}),
        },
        Case {
            identity: "full",
            kept: whole(1, "a", 1),
            moved: whole(1, "a", 2),
            deleted: whole(2, "z", 2),
        },
        Case {
            identity: "using index notes_code",
            kept: json!({"code": "a"}),
            moved: json!({"code": "a"}),
            deleted: json!({"code": "z"}),
        },
    ]
}

const NOTES: &str = "
    create table notes (id int primary key, code text not null, n int, body text);
    create unique index notes_code on notes (code);
    alter publication supabase_realtime add table notes;";

const WRITES: &str = "
    insert into notes values (1, 'a', 1, 'b'); update notes set n = 2;
    update notes set id = 2, code = 'z'; delete from notes;";

#[tokio::test]
async fn the_replica_identity_says_what_the_old_row_holds() -> Result<()> {
    for case in cases() {
        let setup = format!("{NOTES} alter table notes replica identity {};", case.identity);
        let world = World::new("identity", &setup).await?;
        let mut client = world.listener(&Token::anon(), "notes").await?;
        world.database.run(WRITES).await?;
        let changes = world.settled(&mut client).await?;
        assert_eq!(changes.len(), 4);
        assert_eq!(changes[0].get("old_record"), None);
        assert_eq!(changes[1]["old_record"], case.kept, "{}", case.identity);
        assert_eq!(changes[2]["old_record"], case.moved, "{}", case.identity);
        assert_eq!(changes[2]["record"], json!({"id": 2, "code": "z", "n": 2, "body": "b"}));
        assert_eq!(changes[3]["old_record"], case.deleted, "{}", case.identity);
        assert!(changes.iter().all(|data| column_names(data) == ["id", "code", "n", "body"]));
        world.end().await?;
    }
    Ok(())
}

/// With row security the old row is shown to those who may see it; a policy that reads a column the
/// old row lacks cannot be asked, and what is left is the primary key.
#[tokio::test]
async fn row_security_cuts_the_old_row_where_it_cannot_be_judged() -> Result<()> {
    for case in cases() {
        let holds_index = case.identity.starts_with("using");
        for (policy, is_judged) in [
            ("true", true),
            ("code <> 'secret'", case.identity != "default"),
            ("n is not null", case.identity == "full"),
        ] {
            let world = World::new(
                "identity_policy",
                &format!(
                    "{NOTES} alter table notes replica identity {};
                     alter table notes enable row level security;
                     create policy p on notes for select using ({policy});",
                    case.identity
                ),
            )
            .await?;
            let mut client = world.listener(&Token::user(ALICE), "notes").await?;
            world.database.run(WRITES).await?;
            let changes = world.settled(&mut client).await?;
            assert_eq!(changes.len(), 4);
            // An UPDATE that leaves the identity alone has no old image: its old values are the new
            // ones, which were judged. An index that lacks the primary key leaves nothing to show.
            let key = |id: i32| if holds_index { json!({}) } else { json!({"id": id}) };
            let kept = if holds_index { case.kept.clone() } else { key(1) };
            let expected = if is_judged {
                [case.kept.clone(), case.moved.clone(), case.deleted.clone()]
            } else {
                [kept, key(1), key(2)]
            };
            let old: Vec<Value> =
                changes[1..].iter().map(|data| data["old_record"].clone()).collect();
            assert_eq!(old, expected, "{} {policy}", case.identity);
            world.end().await?;
        }
    }
    Ok(())
}

/// An UPDATE does not log a large value that it does not touch. The old row has it when the replica
/// identity is full; otherwise `columns` names the column and `record` lacks it.
#[tokio::test]
async fn an_unchanged_large_value_comes_from_the_old_row() -> Result<()> {
    let large = "x".repeat(20_000);
    for (identity, body) in
        [("default", None), ("full", Some(large.as_str())), ("using index notes_code", None)]
    {
        let world = World::new(
            "unchanged",
            &format!(
                "{NOTES} alter table notes alter body set storage external;
                 alter table notes replica identity {identity};
                 insert into notes values (1, 'a', 1, repeat('x', 20000));
                 create role no_body nologin; grant no_body to walcast;
                 grant usage on schema public to no_body;
                 grant select (id, code, n) on notes to no_body;"
            ),
        )
        .await?;
        let mut everything = world.listener(&Token::anon(), "notes").await?;
        let mut hidden = world.listener(&Token::role("no_body"), "notes").await?;
        let selecting =
            json!([{"event": "*", "schema": "public", "table": "notes", "select": ["n"]}]);
        let mut selected = world.listener_to(&Token::anon(), &selecting).await?;
        world.database.run("update notes set n = 2; update notes set body = 'short'").await?;

        let changes = world.settled(&mut everything).await?;
        let mut expected = json!({"id": 1, "code": "a", "n": 2});
        if let Some(body) = body {
            expected["body"] = json!(body);
        }
        assert_eq!(changes[0]["record"], expected, "{identity}");
        assert_eq!(column_names(&changes[0]), ["id", "code", "n", "body"]);
        assert_eq!(changes[1]["record"]["body"], "short");
        for (client, columns) in
            [(&mut hidden, &["id", "code", "n"][..]), (&mut selected, &["id", "n"])]
        {
            let changes = world.settled(client).await?;
            assert_eq!(column_names(&changes[0]), columns);
            assert_eq!(changes[0]["record"].get("body"), None);
            assert_eq!(changes[0]["old_record"].get("body"), None);
        }
        world.database.run("drop owned by no_body; drop role no_body").await?;
        world.end().await?;
    }
    Ok(())
}

/// INSERT and UPDATE of a table without primary key are errors; its DELETE is not.
#[tokio::test]
async fn a_table_without_primary_key_delivers_its_deletes() -> Result<()> {
    for (identity, old) in
        [("full", json!({"id": 2, "code": "a"})), ("using index notes_code", json!({"code": "a"}))]
    {
        let world = World::new(
            "no_primary_key",
            &format!(
                "create table notes (id int, code text not null);
                 create unique index notes_code on notes (code);
                 alter table notes replica identity {identity};
                 alter publication supabase_realtime add table notes;
                 create table guarded (like notes);
                 create unique index guarded_code on guarded (code);
                 alter table guarded replica identity {};
                 alter table guarded enable row level security;
                 create policy p on guarded for select using (id > 0);
                 alter publication supabase_realtime add table guarded;",
                identity.replace("notes", "guarded")
            ),
        )
        .await?;
        for table in ["notes", "guarded"] {
            let mut client = world.listener(&Token::anon(), table).await?;
            let filtered = json!([{"event": "INSERT", "schema": "public", "table": table,
                                   "filter": "id=eq.9"}]);
            let mut filtered = world.listener_to(&Token::anon(), &filtered).await?;
            world
                .database
                .run(&format!(
                    "insert into {table} values (1, 'a'); update {table} set id = 2;
                     delete from {table}"
                ))
                .await?;
            let changes = world.settled(&mut client).await?;
            assert_eq!(changes.len(), 3, "{table}");
            for data in &changes[..2] {
                assert_eq!(data["errors"], json!(["Error 400: Bad Request, no primary key"]));
                assert_eq!((&data["record"], &data["columns"]), (&json!({}), &json!([])));
            }
            assert_eq!(changes[1]["old_record"], json!({}));
            // A policy on a column that the old row lacks leaves the key, and there is none.
            let is_judged = table == "notes" || identity == "full";
            let expected = if is_judged { old.clone() } else { json!({}) };
            assert_eq!(changes[2]["old_record"], expected, "{table} {identity}");
            assert_eq!(changes[2]["errors"], Value::Null);
            // Errors ignore filters: whoever subscribed gets no rows and should learn why.
            assert_eq!(world.settled(&mut filtered).await?.len(), 1);
        }
        world.end().await?;
    }
    Ok(())
}

/// Each role gets what it may SELECT; without a part of the primary key INSERT and UPDATE are
/// errors.
#[tokio::test]
async fn each_role_gets_the_columns_it_may_select() -> Result<()> {
    let world = World::new(
        "roles",
        "create table notes (a int, b int, body text, secret text, primary key (a, b));
         revoke select on notes from anon, authenticated;
         grant select (a, b, body) on notes to anon;
         grant select (b, body) on notes to authenticated;
         alter table notes replica identity full;
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let mut service = world.listener(&Token::service_role(), "notes").await?;
    let mut anon = world.listener(&Token::anon(), "notes").await?;
    let mut partial = world.listener(&Token::user(ALICE), "notes").await?;
    world
        .database
        .run("insert into notes values (1, 2, 'x', 's'); update notes set a = 3; delete from notes")
        .await?;
    let row = |a: i32| json!({"a": a, "b": 2, "body": "x"});
    let with_secret = |a: i32| json!({"a": a, "b": 2, "body": "x", "secret": "s"});
    for (client, row) in [(&mut service, &with_secret as &dyn Fn(i32) -> Value), (&mut anon, &row)]
    {
        let changes = world.settled(client).await?;
        assert_eq!(changes.len(), 3);
        assert_eq!(changes[0]["record"], row(1));
        assert_eq!((&changes[1]["record"], &changes[1]["old_record"]), (&row(3), &row(1)));
        assert_eq!(changes[2]["old_record"], row(3));
    }
    let changes = world.settled(&mut partial).await?;
    for data in &changes[..2] {
        assert_eq!(data["errors"], json!(["Error 401: Unauthorized"]));
        assert_eq!((&data["record"], &data["columns"]), (&json!({}), &json!([])));
    }
    assert_eq!(changes[2]["old_record"], json!({"b": 2, "body": "x"}));
    assert_eq!(changes[2]["errors"], Value::Null);
    world.end().await
}

/// PostgreSQL refuses the UPDATE of a published table without replica identity; its new rows come.
#[tokio::test]
async fn a_table_without_identity_delivers_its_inserts() -> Result<()> {
    let setup = format!("{NOTES} alter table notes replica identity nothing;");
    let world = World::on(Postgres::shared().await?, "nothing", &setup, |builder| builder).await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world.database.run("insert into notes values (1, 'a')").await?;
    assert!(world.database.run("update notes set n = 1").await.is_err());
    let changes = world.settled(&mut client).await?;
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0]["record"], json!({"id": 1, "code": "a", "n": null, "body": null}));
    world.end().await
}

/// Of several errors the first is told: no primary key, then privileges, then the size.
#[tokio::test]
async fn one_error_is_told_where_several_apply() -> Result<()> {
    let setup = "
        create table keyless (id int, body text); revoke select on keyless from anon;
        create table hidden (id int primary key, body text); revoke select on hidden from anon;
        create table large (id int primary key, body text);
        alter publication supabase_realtime add table keyless, hidden, large;";
    let world =
        World::with("one_error", setup, |builder| builder.set("WALCAST_MAX_RECORD_BYTES", "1000"))
            .await?;
    for (table, error) in [
        ("keyless", "Error 400: Bad Request, no primary key"),
        ("hidden", "Error 401: Unauthorized"),
        ("large", "Error 413: Payload Too Large"),
    ] {
        let mut client = world.listener(&Token::anon(), table).await?;
        let row = format!("insert into {table} values (1, repeat('x', 5000))");
        world.database.run(&row).await?;
        let changes = world.settled(&mut client).await?;
        assert_eq!(changes.len(), 1, "{table}");
        assert_eq!(changes[0]["errors"], json!([error]));
    }
    world.end().await
}

/// A filter on a DELETE sees the columns of the replica identity, and no others.
#[tokio::test]
async fn a_filter_on_a_delete_sees_what_the_identity_holds() -> Result<()> {
    for (identity, seen) in [
        ("default", &["id=eq.1"][..]),
        ("full", &["id=eq.1", "code=eq.a", "n=gt.0", "body=is.null"]),
        ("using index notes_code", &["code=eq.a"]),
    ] {
        let setup = format!(
            "{NOTES} alter table notes replica identity {identity};
             insert into notes values (1, 'a', 1);"
        );
        let world = World::new("delete_filter", &setup).await?;
        let mut clients = Vec::new();
        for filter in ["id=eq.1", "code=eq.a", "n=gt.0", "body=is.null", "id=eq.2", "code=neq.a"] {
            let binding = json!([
                {"event": "DELETE", "schema": "public", "table": "notes", "filter": filter},
            ]);
            clients.push((filter, world.listener_to(&Token::anon(), &binding).await?));
        }
        world.database.run("delete from notes").await?;
        for (filter, client) in &mut clients {
            let n_changes = usize::from(seen.contains(filter));
            assert_eq!(world.settled(client).await?.len(), n_changes, "{identity} {filter}");
        }
        world.end().await?;
    }
    Ok(())
}
