//! Events that were lost, late for ever, or wrong.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::Token;

use crate::world::{ALICE, BOB, World, summary};

/// W8: any error lost the batch, the slot, and what was committed until the slot was back. What
/// fails for a subscriber withholds that row from it alone: each of the tables here raises for
/// Alice in its own way, and neither those who ask another question nor the bystanders notice.
#[tokio::test]
async fn w08_an_error_harms_only_its_own_subscriber() -> Result<()> {
    let world = World::new(
        "w08",
        r#"create schema closed; create schema "My Schema";
         create type "My Schema"."Mood" as enum ('so "so"');
         grant usage on schema closed, "My Schema" to anon;
         create table secrets (id int); revoke all on secrets from authenticated;
         create function forbidden() returns bool language sql as 'select true';
         revoke execute on function forbidden from public;
         create function guarded(name text, condition text) returns void language plpgsql as $$
         begin
           execute format(
             'create table %s (id int primary key, keys int[], mood "My Schema"."Mood")', name);
           execute format('alter table %s enable row level security', name);
           execute format('create policy p on %s for select to authenticated using (%s)',
             name, condition);
           execute format('create policy q on %s for select to anon using (id > 0)', name);
           execute format('grant select on %s to anon, authenticated', name);
           execute format('alter publication supabase_realtime add table %s', name);
         end $$;
         select guarded('public.raising', '1 / (id - id) = 1'),
           guarded('public.ungranted', 'exists (select from secrets)'),
           guarded('public.unexecutable', 'forbidden()'),
           guarded('public.subjects', 'auth.uid() is not null'),
           guarded('closed.notes', 'id > 0');
         create table calm (id int primary key);
         alter publication supabase_realtime add table calm;"#,
    )
    .await?;
    // The subject is no uuid, so that auth.uid() raises for it; and she has no USAGE on `closed`.
    let alice = Token::user("auth0|abc");
    let mut bystander = world.listener(&Token::user(BOB), "calm").await?;
    let mut cases = Vec::new();
    for name in [
        "public.raising",
        "public.ungranted",
        "public.unexecutable",
        "public.subjects",
        "closed.notes",
    ] {
        let (schema, table) = name.split_once('.').unwrap_or_default();
        let binding = json!([{"event": "*", "schema": schema, "table": table}]);
        let victim = world.listener_to(&alice, &binding).await?;
        cases.push((name, victim, world.listener_to(&Token::anon(), &binding).await?));
    }
    for id in 1..=3 {
        world.database.run(&format!("insert into calm values ({id})")).await?;
        for (name, ..) in &cases {
            let row = format!("insert into {name} values ({id}, '{{1}}', 'so \"so\"')");
            world.database.run(&row).await?;
        }
    }
    let all = ["INSERT 1", "INSERT 2", "INSERT 3"];
    assert_eq!(summary(&world.settled(&mut bystander).await?), all);
    for (name, victim, other) in &mut cases {
        let changes = world.settled(other).await?;
        assert_eq!(summary(&changes), all, "{name}");
        assert_eq!(changes[0]["record"]["mood"], "so \"so\"");
        let withheld = world.settled(victim).await?;
        assert!(withheld.iter().all(|data| data["record"] == json!({})), "{name}: {withheld:?}");
    }
    world.end().await
}

/// W8, DDL: a column that was renamed or dropped before the poll lost everything. Each row comes,
/// and nothing else is touched.
#[tokio::test]
async fn w08_a_renamed_or_dropped_column_stops_nothing() -> Result<()> {
    let world = World::new(
        "w08_ddl",
        "create table notes (id int primary key, body text, n int);
         create table calm (id int primary key);
         alter publication supabase_realtime add table notes, calm;",
    )
    .await?;
    let mut bystander = world.listener(&Token::anon(), "calm").await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    for (id, ddl) in [
        (1, "alter table notes rename body to text"),
        (2, "alter table notes drop column n"),
        (3, "alter table notes rename text to body"),
    ] {
        world
            .database
            .run(&format!(
                "insert into notes values ({id}, 'a'); {ddl}; insert into calm values ({id})"
            ))
            .await?;
    }
    let all = ["INSERT 1", "INSERT 2", "INSERT 3"];
    assert_eq!(summary(&world.settled(&mut bystander).await?), all);
    assert_eq!(summary(&world.settled(&mut client).await?), all);
    world.end().await
}

/// W9: a filter that was accepted and raised later let any client stop the feed. Filters work on
/// the types that can be compared and are refused at once on the others.
#[tokio::test]
async fn w09_no_filter_of_a_client_stops_the_others() -> Result<()> {
    let world = World::new(
        "w09",
        r#"create type pair as (a int, b text);
         create table notes (id int primary key,
           tags text[], pair pair, doc jsonb, plain json, p point);
         alter publication supabase_realtime add table notes;"#,
    )
    .await?;
    let mut bystander = world.listener(&Token::anon(), "notes").await?;
    let binding = |filter: &str| {
        let filter = filter.to_owned();
        json!([{"event": "*", "schema": "public", "table": "notes", "filter": filter}])
    };
    for filter in [
        "plain=eq.{}",
        "plain=in.({})",
        "p=eq.(1,2)",
        "doc=like.a%",
        "tags=match.a",
        "tags=in.({a})",
    ] {
        let refused = world.listener_to(&Token::anon(), &binding(filter)).await;
        assert!(refused.is_err(), "{filter} was accepted");
    }
    let mut accepted = Vec::new();
    for filter in [
        r#"tags=eq."{a,b}""#,
        r#"pair=eq."(1,x)""#,
        r#"doc=eq."\"text\"""#,
        "doc=gt.1",
        "plain=is.null",
    ] {
        let client = world.listener_to(&Token::anon(), &binding(filter)).await?;
        accepted.push((filter, client));
    }
    world
        .database
        .run(
            r#"insert into notes values (1, '{a,b}', '(1,x)', '"text"', '{}', '(1,2)'),
             (2, '{c}', '(2,x)', '{"a": 1}', null, null), (3, null, null, null, null, null)"#,
        )
        .await?;
    let expected: [&[&str]; 5] =
        [&["INSERT 1"], &["INSERT 1"], &["INSERT 1"], &["INSERT 2"], &["INSERT 2", "INSERT 3"]];
    assert_eq!(
        summary(&world.settled(&mut bystander).await?),
        ["INSERT 1", "INSERT 2", "INSERT 3"]
    );
    for ((filter, client), expected) in accepted.iter_mut().zip(expected) {
        assert_eq!(summary(&world.settled(client).await?), expected, "{filter}");
    }
    world.end().await
}

/// W10: an event whose row was gone, hidden or had another key at the next poll was lost. What was
/// visible when it was committed is delivered.
#[tokio::test]
async fn w10_what_was_visible_when_committed_is_delivered() -> Result<()> {
    let world = World::new(
        "w10",
        "create table notes (id int primary key, shown bool);
         alter table notes enable row level security;
         create policy p on notes for select using (shown);
         alter table notes replica identity full;
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let mut anon = world.listener(&Token::anon(), "notes").await?;
    let mut service = world.listener(&Token::service_role(), "notes").await?;
    world
        .database
        .run(
            "begin; insert into notes values (1, true); delete from notes; commit;
             begin; insert into notes values (2, true); update notes set shown = false; commit;
             begin; insert into notes values (3, true);
             update notes set id = 4 where shown; commit",
        )
        .await?;
    let seen = ["INSERT 1", "DELETE 1", "INSERT 2", "INSERT 3", "UPDATE 4"];
    let changes = world.settled(&mut anon).await?;
    assert_eq!(summary(&changes), seen);
    let all = ["INSERT 1", "DELETE 1", "INSERT 2", "UPDATE 2", "INSERT 3", "UPDATE 4"];
    assert_eq!(summary(&world.settled(&mut service).await?), all);
    world.end().await
}

/// W11: each reconnect of the poller and each change of the publication was a silent gap. The slot
/// stays, so nothing is lost and nothing comes twice.
#[tokio::test]
async fn w11_a_reconnect_leaves_no_gap() -> Result<()> {
    let world = World::new(
        "w11",
        "create table notes (id serial primary key);
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    for statement in [
        "select pg_terminate_backend(pid) from pg_stat_replication \
         where pid in (select active_pid from pg_replication_slots \
                       where database = current_database())",
        "create table later (id int primary key); \
         alter publication supabase_realtime add table later",
        "alter publication supabase_realtime drop table later",
    ] {
        world.database.run("insert into notes default values").await?;
        world.database.run(statement).await?;
        world.database.run("insert into notes default values").await?;
    }
    let changes = world.settled(&mut client).await?;
    let ids: Vec<u64> = changes.iter().filter_map(|data| data["record"]["id"].as_u64()).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
    world.end().await
}

/// W13: a row that leaves a filter or a subscriber's sight does so silently, since default frames
/// stay what clients expect; what matters is that its new contents are not told. A row that
/// comes into sight is an UPDATE.
#[tokio::test]
async fn w13_a_row_that_leaves_tells_nothing_and_one_that_enters_is_an_update() -> Result<()> {
    let world = World::new(
        "w13",
        "create table notes (id int primary key, n int, owner uuid);
         alter table notes replica identity full;
         alter table notes enable row level security;
         create policy own on notes for select using (owner = auth.uid());
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let binding =
        json!([{"event": "*", "schema": "public", "table": "notes", "filter": "n=lt.10"}]);
    let mut filtered = world.listener_to(&Token::service_role(), &binding).await?;
    let mut alice = world.listener(&Token::user(ALICE), "notes").await?;
    world.database.run(&format!("insert into notes values (1, 1, '{ALICE}')")).await?;
    world
        .database
        .run(&format!(
            "update notes set n = 77, owner = '{BOB}'; update notes set n = 2, owner = '{ALICE}'"
        ))
        .await?;
    for client in [&mut filtered, &mut alice] {
        let changes = world.settled(client).await?;
        assert_eq!(summary(&changes), ["INSERT 1", "UPDATE 1"]);
        assert_eq!(changes[1]["record"]["n"], 2);
    }
    world.end().await
}

/// W14: a filter on a large value that an UPDATE did not touch dropped the event. With replica
/// identity full the old value decides; without it the value is unknown and the event is dropped.
#[tokio::test]
async fn w14_a_filter_sees_an_unchanged_large_value() -> Result<()> {
    let world = World::new(
        "w14",
        "create table whole (id int primary key, n int, body text);
         create table keyed (like whole including all);
         alter table whole alter body set storage external, replica identity full;
         alter table keyed alter body set storage external;
         insert into whole values (1, 0, repeat('x', 20000)), (2, 0, repeat('y', 20000));
         insert into keyed table whole;
         alter publication supabase_realtime add table whole, keyed;",
    )
    .await?;
    for (table, expected) in [("whole", &["UPDATE 1"][..]), ("keyed", &[])] {
        let binding = json!([
            {"event": "*", "schema": "public", "table": table, "filter": "body=like.x%"},
        ]);
        let mut client = world.listener_to(&Token::anon(), &binding).await?;
        let mut unfiltered = world.listener(&Token::anon(), table).await?;
        world.database.run(&format!("update {table} set n = n + 1")).await?;
        assert_eq!(summary(&world.settled(&mut client).await?), expected, "{table}");
        let changes = world.settled(&mut unfiltered).await?;
        let length = changes[0]["record"]["body"].as_str().map(str::len);
        assert_eq!(length, (table == "whole").then_some(20_000), "{table}");
    }
    world.end().await
}

/// W15: char(n) and bit(n) were cut to their first character. They are delivered and compared
/// whole, and patterns work on everything that is text. What JSON has no number for stays null,
/// and timestamps follow the database's time zone, as clients know them.
#[tokio::test]
async fn w15_values_are_delivered_as_they_are() -> Result<()> {
    let world = World::new(
        "w15",
        "create type mood as enum ('happy', 'sad'); create domain email as text;
         create table notes (id int primary key, c char(4), b bit(4), f float8, n numeric,
           at timestamptz, v varchar(20), m mood, e email);
         do $$ begin execute format('alter database %I set timezone = ''America/New_York''',
           current_database()); end $$;
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    let mut filtered = Vec::new();
    for filter in
        ["c=eq.abcd", "b=eq.1011", "v=like.long%", "v=imatch.^LONG", "m=match.^hap", "e=ilike.A@%"]
    {
        let binding =
            json!([{"event": "*", "schema": "public", "table": "notes", "filter": filter}]);
        filtered.push((filter, world.listener_to(&Token::anon(), &binding).await?));
    }
    world
        .database
        .run(
            "insert into notes values (1, 'abcd', '1011', 'NaN', 'Infinity',
               '2024-07-01 12:00:00+00', 'long text', 'happy', 'a@b.example'),
             (2, 'ab', '1000', '-Infinity', 'NaN', null, 'short', 'sad', 'c@d.example')",
        )
        .await?;
    let changes = world.settled(&mut client).await?;
    assert_eq!(
        changes[0]["record"],
        json!({"id": 1, "c": "abcd", "b": "1011", "f": null, "n": null,
               "at": "2024-07-01T08:00:00-04:00", "v": "long text", "m": "happy",
               "e": "a@b.example"})
    );
    assert_eq!(changes[1]["record"]["c"], "ab  ");
    assert_eq!(changes[1]["record"]["b"], "1000");
    for (filter, client) in &mut filtered {
        assert_eq!(summary(&world.settled(client).await?), ["INSERT 1"], "{filter}");
    }
    world.end().await
}

/// W16: a subscription to the root of a partitioned table got nothing when the publication
/// publishes via the root, and was refused otherwise. It works both ways.
#[tokio::test]
async fn w16_the_root_of_a_partitioned_table_can_be_subscribed_to() -> Result<()> {
    for (via_root, named) in [(true, "notes"), (false, "low")] {
        let world = World::new(
            "w16",
            &format!(
                "create table notes (id int primary key, body text) partition by range (id);
                 create table low (body text, id int not null);
                 alter table notes attach partition low for values from (0) to (10);
                 alter publication supabase_realtime set (publish_via_partition_root = {via_root});
                 alter publication supabase_realtime add table notes;"
            ),
        )
        .await?;
        let mut root = world.listener(&Token::anon(), "notes").await?;
        world
            .database
            .run(
                "insert into notes values (1, 'a'); update notes set body = 'b'; delete from notes",
            )
            .await?;
        let changes = world.settled(&mut root).await?;
        assert_eq!(summary(&changes), ["INSERT 1", "UPDATE 1", "DELETE 1"]);
        assert!(changes.iter().all(|data| data["table"] == named), "{changes:?}");
        assert_eq!(changes[1]["record"], json!({"id": 1, "body": "b"}));
        world.end().await?;
    }
    Ok(())
}

/// W17: after DDL `columns` and `record` disagreed. They name the same columns, those the row was
/// written with, and a type is the one the value was written as.
#[tokio::test]
async fn w17_columns_and_record_agree_after_ddl() -> Result<()> {
    let world = World::new(
        "w17",
        "create table notes (id int primary key, n int);
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world
        .database
        .run(
            "insert into notes values (1, 1);
             alter table notes add column later text default 'x';
             insert into notes values (2, 2, 'y');
             alter table notes alter column n type text;
             insert into notes values (3, '3', 'z');
             alter table notes drop column later;
             insert into notes values (4, '4')",
        )
        .await?;
    let changes = world.settled(&mut client).await?;
    assert_eq!(summary(&changes), ["INSERT 1", "INSERT 2", "INSERT 3", "INSERT 4"]);
    for data in &changes {
        let described: Vec<&str> = data["columns"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|column| column["name"].as_str())
            .collect();
        let mut named: Vec<&str> = data["record"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect();
        named.sort_by_key(|name| described.iter().position(|column| column == name));
        assert_eq!(described, named, "{data}");
    }
    let kinds: Vec<&Value> = changes.iter().map(|data| &data["columns"][1]["type"]).collect();
    let values: Vec<&Value> = changes.iter().map(|data| &data["record"]["n"]).collect();
    for (kind, value) in kinds.iter().zip(values) {
        assert_eq!(value.is_number(), **kind == "int4", "{kind} {value}");
    }
    world.end().await
}
