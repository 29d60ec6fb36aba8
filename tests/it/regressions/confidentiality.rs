//! Rows, values and claims that somebody saw who may not.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::{Postgres, Token};

use crate::world::{ALICE, BOB, PRIVATE_NOTES, World, summary};

/// W1: contents leaked when their row became visible before the next poll. The row as committed
/// decides: only the version that was visible is sent.
#[tokio::test]
async fn w01_secret_earlier_versions_stay_secret() -> Result<()> {
    let world = World::new(
        "w01",
        "create table notes (id int primary key, body text, published bool);
         alter table notes enable row level security;
         create policy p on notes for select using (published);
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world
        .database
        .run(
            "insert into notes values (1, 'SECRET DRAFT', false); \
              update notes set body = 'SECRET 2'; \
              update notes set body = 'clean', published = true; \
              insert into notes values (2, 'brief', true); \
              delete from notes where id = 2",
        )
        .await?;
    let changes = world.settled(&mut client).await?;
    // The key of the deleted row says nothing about who might see it, hence it is sent.
    assert_eq!(summary(&changes), ["UPDATE 1", "INSERT 2", "DELETE 2"]);
    assert!(!json!(changes).to_string().contains("SECRET"), "{changes:?}");
    world.end().await
}

/// W2: the old row of an UPDATE was never checked. It is shown whole only to those who might see
/// it; the others get its key.
#[tokio::test]
async fn w02_the_old_row_needs_the_policies_consent() -> Result<()> {
    let setup = format!("{PRIVATE_NOTES} alter table notes replica identity full;");
    let world = World::new("w02", &setup).await?;
    world.database.run(&format!("insert into notes values (1, '{ALICE}', 'private')")).await?;
    let mut alice = world.listener(&Token::user(ALICE), "notes").await?;
    let mut bob = world.listener(&Token::user(BOB), "notes").await?;
    world.database.run("update notes set body = 'still hers'").await?;
    world.database.run(&format!("update notes set owner = '{BOB}', body = 'his'")).await?;
    let hers = world.settled(&mut alice).await?;
    assert_eq!(summary(&hers), ["UPDATE 1"]);
    assert_eq!(hers[0]["old_record"], json!({"id": 1, "owner": ALICE, "body": "private"}));
    let his = world.settled(&mut bob).await?;
    assert_eq!(summary(&his), ["UPDATE 1"]);
    assert_eq!(his[0]["old_record"], json!({"id": 1}));
    world.end().await
}

/// W3: a DELETE went to everybody, those of foreign keys included, and filters saw the whole old
/// row. It reaches those who could see the row, and a filter answers nobody else.
#[tokio::test]
async fn w03_a_delete_reaches_only_those_who_could_see_the_row() -> Result<()> {
    let setup = format!(
        "{PRIVATE_NOTES} alter table notes replica identity full;
         create table parents (id int primary key);
         alter table notes add foreign key (id) references parents on delete cascade;
         insert into parents select generate_series(1, 2);"
    );
    let world = World::new("w03", &setup).await?;
    let rows = format!("(1, '{ALICE}', 'hiv+'), (2, '{ALICE}', 'hiv-')");
    world.database.run(&format!("insert into notes values {rows}")).await?;
    let mut alice = world.listener(&Token::user(ALICE), "notes").await?;
    let mut service = world.listener(&Token::service_role(), "notes").await?;
    let mut strangers = vec![world.listener(&Token::anon(), "notes").await?];
    for filter in ["body=eq.hiv+", "body=neq.hiv+", "id=eq.1"] {
        let binding =
            json!([{"event": "*", "schema": "public", "table": "notes", "filter": filter}]);
        strangers.push(world.listener_to(&Token::user(BOB), &binding).await?);
    }
    world.database.run("delete from notes where id = 1; delete from parents where id = 2").await?;
    let whole = |id: i32, body: &str| json!({"id": id, "owner": ALICE, "body": body});
    for client in [&mut alice, &mut service] {
        let changes = world.settled(client).await?;
        let old: Vec<&Value> = changes.iter().map(|data| &data["old_record"]).collect();
        assert_eq!(old, [&whole(1, "hiv+"), &whole(2, "hiv-")]);
    }
    for stranger in &mut strangers {
        assert_eq!(world.settled(stranger).await?, Vec::<Value>::new());
    }
    world.end().await
}

/// W3, when the old image is the key alone: nobody can judge the row, so the key goes out, and a
/// filter on any other column tells nothing.
#[tokio::test]
async fn w03_a_filter_on_a_deleted_row_sees_its_key_alone() -> Result<()> {
    let world = World::new("w03_key", PRIVATE_NOTES).await?;
    world.database.run(&format!("insert into notes values (1, '{ALICE}', 'hiv+')")).await?;
    let binding = |filter: &str| {
        let filter = filter.to_owned();
        json!([{"event": "*", "schema": "public", "table": "notes", "filter": filter}])
    };
    let mut by_key = world.listener_to(&Token::user(BOB), &binding("id=eq.1")).await?;
    let mut by_value = world.listener_to(&Token::user(BOB), &binding("body=eq.hiv+")).await?;
    world.database.run("delete from notes").await?;
    let changes = world.settled(&mut by_key).await?;
    assert_eq!(summary(&changes), ["DELETE 1"]);
    assert_eq!(changes[0]["old_record"], json!({"id": 1}));
    assert_eq!(world.settled(&mut by_value).await?, Vec::<Value>::new());
    world.end().await
}

/// W4: keys of some types found another row, or none. The row itself is judged, whatever its key.
#[tokio::test]
async fn w04_a_key_of_any_type_finds_its_own_row() -> Result<()> {
    let world = World::new(
        "w04",
        "create function keyed(name text, type text) returns void language plpgsql as $$ begin
           execute format('create table %I (id %s primary key, public bool, body text)',
             name, type);
           execute format('alter table %I enable row level security', name);
           execute format('create policy p on %I for select using (public)', name);
           execute format('alter publication supabase_realtime add table %I', name);
         end $$;
         select keyed('by_char', 'char(4)'), keyed('by_bytes', 'bytea'), keyed('by_bits', 'bit(4)'),
           keyed('by_numeric', 'numeric'), keyed('by_array', 'int[]');",
    )
    .await?;
    // One key is seen and one hidden, where a careless comparison takes them for the same.
    let cases = [
        ("by_char", "'a'", "'abcd'", json!("a   ")),
        ("by_bytes", r"'\x00ff'", r"'\x00'", json!("00ff")),
        ("by_bits", "'1010'", "'1011'", json!("1010")),
        ("by_numeric", "'NaN'", "'1'", Value::Null),
        ("by_array", "'{1,2}'", "'{1}'", json!([1, 2])),
    ];
    for (table, seen, hidden, key) in cases {
        let mut client = world.listener(&Token::anon(), table).await?;
        world
            .database
            .run(&format!(
                "insert into {table} values ({hidden}, false, 'SECRET'), ({seen}, true, 'open')"
            ))
            .await?;
        let changes = world.settled(&mut client).await?;
        let records: Vec<&Value> = changes.iter().map(|data| &data["record"]).collect();
        assert_eq!(records, [&json!({"id": key, "public": true, "body": "open"})], "{table}");
    }
    world.end().await
}

/// W5, partitions: policies of the root did not guard what was sent. The policies of the table that
/// was subscribed to apply, as they do to a SELECT from it.
#[tokio::test]
async fn w05_the_policies_of_the_subscribed_table_apply() -> Result<()> {
    for via_root in [false, true] {
        let world = World::new(
            "w05",
            &format!(
                "create table notes (id int primary key, owner uuid) partition by range (id);
                 create table low partition of notes for values from (0) to (10);
                 create table high partition of notes for values from (10) to (20);
                 alter table notes enable row level security;
                 create policy own on notes for select using (owner = auth.uid());
                 alter table high enable row level security;
                 alter publication supabase_realtime set (publish_via_partition_root = {via_root});
                 alter publication supabase_realtime add table notes;"
            ),
        )
        .await?;
        let mut root = world.listener(&Token::user(ALICE), "notes").await?;
        let mut everybody = world.listener(&Token::anon(), "notes").await?;
        let mut leaves = Vec::new();
        if !via_root {
            leaves.push((world.listener(&Token::user(ALICE), "low").await?, vec!["INSERT 1"]));
            leaves.push((world.listener(&Token::user(ALICE), "high").await?, vec![]));
        }
        world
            .database
            .run(&format!("insert into notes values (1, '{BOB}'), (11, '{BOB}'), (12, '{ALICE}')"))
            .await?;
        let changes = world.settled(&mut root).await?;
        assert_eq!(summary(&changes), ["INSERT 12"], "via root: {via_root}");
        assert_eq!(changes[0]["table"], if via_root { "notes" } else { "high" });
        assert_eq!(world.settled(&mut everybody).await?, Vec::<Value>::new());
        for (leaf, expected) in &mut leaves {
            assert_eq!(summary(&world.settled(leaf).await?), *expected);
        }
        world.end().await?;
    }
    Ok(())
}

/// W5, schemas and publications: USAGE on the schema was not required, column lists and row filters
/// of the publication were ignored. Nothing is sent that the role could not select or that is not
/// published.
#[tokio::test]
async fn w05_schema_usage_and_the_publication_are_respected() -> Result<()> {
    let world = World::new(
        "w05_usage",
        "create schema hidden; create table hidden.notes (id int primary key, body text);
         grant select on hidden.notes to anon;
         alter publication supabase_realtime add table hidden.notes;",
    )
    .await?;
    let binding = json!([{"event": "*", "schema": "hidden", "table": "notes"}]);
    let mut outsider = world.listener_to(&Token::anon(), &binding).await?;
    world.database.run("insert into hidden.notes values (1, 'SECRET')").await?;
    let changes = world.settled(&mut outsider).await?;
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0]["errors"], json!(["Error 401: Unauthorized"]));
    assert_eq!(changes[0]["record"], json!({}));
    world.end().await?;

    if Postgres::shared().await?.major() < 15 {
        return Ok(());
    }
    let world = World::new(
        "w05_publication",
        "create table notes (id int primary key, body text, secret text);
         alter publication supabase_realtime add table notes (id, body) where (id > 10);",
    )
    .await?;
    let mut client = world.listener(&Token::service_role(), "notes").await?;
    world.database.run("insert into notes values (1, 'a', 'SECRET'), (11, 'b', 'SECRET')").await?;
    let changes = world.settled(&mut client).await?;
    assert_eq!(summary(&changes), ["INSERT 11"]);
    assert_eq!(changes[0]["record"], json!({"id": 11, "body": "b"}));
    world.end().await
}

/// W6: error events ignore filters, so that clients learn why they get no rows. They go to the
/// roles that cannot be served and to nobody else, and tell nothing but that a row was written.
#[tokio::test]
async fn w06_an_error_event_carries_no_value() -> Result<()> {
    let world = World::new(
        "w06",
        "create table notes (id int primary key, body text);
         revoke select on notes from anon;
         alter table notes replica identity full;
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let mut refused = world.listener(&Token::anon(), "notes").await?;
    let mut served = world.listener(&Token::user(ALICE), "notes").await?;
    world
        .database
        .run("insert into notes values (1, 'SECRET'); update notes set id = 2; delete from notes")
        .await?;
    let errors = world.settled(&mut refused).await?;
    for (data, (kind, old)) in errors.iter().zip([
        ("INSERT", None),
        ("UPDATE", Some(json!({}))),
        ("DELETE", Some(json!({}))),
    ]) {
        assert_eq!(data["type"], kind);
        assert_eq!(data["columns"], json!([]));
        assert_eq!(data.get("old_record"), old.as_ref());
        assert_eq!(data.get("record"), (kind != "DELETE").then(|| json!({})).as_ref());
        assert!(data["commit_timestamp"].is_string());
    }
    assert_eq!(errors.len(), 3);
    let rows = world.settled(&mut served).await?;
    assert!(rows.iter().all(|data| data["errors"] == Value::Null), "{rows:?}");
    assert_eq!(summary(&rows), ["INSERT 1", "UPDATE 2", "DELETE 2"]);
    world.end().await
}

/// W7: names in subscriptions were patterns. A name is exact, `*` is the only wildcard.
#[tokio::test]
async fn w07_a_name_is_no_pattern() -> Result<()> {
    let world = World::new(
        "w07",
        "create table user_x (id int primary key); create table userax (id int primary key);
         alter publication supabase_realtime add table user_x, userax;",
    )
    .await?;
    let mut client = world.listener(&Token::anon(), "user_x").await?;
    world.database.run("insert into userax values (1); insert into user_x values (2)").await?;
    assert_eq!(summary(&world.settled(&mut client).await?), ["INSERT 2"]);
    for pattern in ["user%", "%", "user__", ""] {
        assert!(world.listener(&Token::anon(), pattern).await.is_err(), "{pattern:?}");
    }
    world.end().await
}

/// W12: every client could read the claims of all others. They are stored nowhere that SQL reaches,
/// neither in a table nor in the text of a statement.
#[tokio::test]
async fn w12_claims_are_stored_nowhere_that_sql_reaches() -> Result<()> {
    const SECRET: &str = "alice@secret.example";
    let world = World::new(
        "w12",
        "create table notes (id int primary key, owner text);
         alter table notes enable row level security;
         create function owns(owner text) returns bool language plpgsql stable
           as $$ begin return owner = auth.jwt() ->> 'email'; end $$;
         create policy p on notes for select using (owns(owner));
         alter publication supabase_realtime add table notes;
         create function places_with(secret text) returns setof text language plpgsql as $$
         declare place regclass; found bool; begin
           for place in select oid from pg_class where relkind in ('r', 'v', 'm')
               and relnamespace::regnamespace::text not in ('pg_catalog', 'information_schema')
           loop
             execute format('select exists (select from %s as t where t::text like %L)',
               place, '%' || secret || '%') into found;
             if found then return next place::text; end if;
           end loop;
           return query select 'the statement of ' || usename from pg_stat_activity
             where pid <> pg_backend_pid() and query like '%' || secret || '%';
         end $$;",
    )
    .await?;
    let token = Token::user(ALICE).claim("email", json!(SECRET));
    let mut client = world.listener(&token, "notes").await?;
    // The claims have been with PostgreSQL once the row is there.
    world.database.run(&format!("insert into notes values (1, '{SECRET}')")).await?;
    assert_eq!(summary(&world.settled(&mut client).await?), ["INSERT 1"]);
    let places = format!("select string_agg(place, ', ') from places_with('{SECRET}') as place");
    assert_eq!(world.database.text(&places).await?.as_deref(), Some("notes"));
    world.database.run("delete from notes").await?;
    assert_eq!(world.database.text(&places).await?, None);
    world.end().await
}
