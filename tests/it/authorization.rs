//! Who may see a row.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::{Token, http_get};

use crate::world::{ALICE, BOB, PRIVATE_NOTES, World, summary};

#[tokio::test]
async fn two_users_never_see_each_others_rows() -> Result<()> {
    let world = World::new("two_users", PRIVATE_NOTES).await?;
    let mut alice = world.listener(&Token::user(ALICE), "notes").await?;
    let mut bob = world.listener(&Token::user(BOB), "notes").await?;
    let mut anon = world.listener(&Token::anon(), "notes").await?;
    let mut service = world.listener(&Token::service_role(), "notes").await?;
    world
        .database
        .run(&format!(
            "insert into notes values (1, '{ALICE}', 'hers'), (2, '{BOB}', 'his'), \
             (3, null, 'nobody''s')"
        ))
        .await?;
    world.database.run("update notes set body = body || '!'").await?;
    let all = ["INSERT 1", "INSERT 2", "INSERT 3", "UPDATE 1", "UPDATE 2", "UPDATE 3"];
    assert_eq!(summary(&world.settled(&mut alice).await?), ["INSERT 1", "UPDATE 1"]);
    assert_eq!(summary(&world.settled(&mut bob).await?), ["INSERT 2", "UPDATE 2"]);
    assert_eq!(world.settled(&mut anon).await?, Vec::<Value>::new());
    assert_eq!(summary(&world.settled(&mut service).await?), all);
    world.end().await
}

#[tokio::test]
async fn a_new_token_changes_what_is_seen() -> Result<()> {
    let world = World::new("new_token", PRIVATE_NOTES).await?;
    let mut client = world.listener(&Token::user(ALICE), "notes").await?;
    let rows = |first: u32| {
        format!("insert into notes values ({first}, '{ALICE}'), ({}, '{BOB}')", first + 1)
    };
    world.database.run(&rows(1)).await?;
    assert_eq!(summary(&world.settled(&mut client).await?), ["INSERT 1"]);
    let token = Token::user(BOB).sign();
    client.push("realtime:test", "access_token", &json!({"access_token": token})).await?;
    let system = client.system("realtime:test").await?;
    assert!(system.is_system("Subscribed to PostgreSQL"), "{}", system.payload_text);
    world.database.run(&rows(3)).await?;
    assert_eq!(summary(&world.settled(&mut client).await?), ["INSERT 4"]);
    world.end().await
}

#[tokio::test]
async fn claims_reach_policies_as_a_value_and_never_as_sql() -> Result<()> {
    let world = World::new(
        "claims",
        "create table notes (id int primary key, org text);
         alter table notes enable row level security;
         create policy p on notes for select
           using (org = auth.jwt() -> 'app_metadata' ->> 'org');
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let hostile = "x'); drop table notes; --";
    let claim = |org: &str| Token::user(ALICE).claim("app_metadata", json!({"org": org}));
    let mut acme = world.listener(&claim("acme"), "notes").await?;
    let mut odd = world.listener(&claim(hostile), "notes").await?;
    world
        .database
        .run(&format!(
            "insert into notes values (1, 'acme'), (2, '{}')",
            hostile.replace('\'', "''")
        ))
        .await?;
    assert_eq!(summary(&world.settled(&mut acme).await?), ["INSERT 1"]);
    assert_eq!(summary(&world.settled(&mut odd).await?), ["INSERT 2"]);
    world.end().await
}

#[tokio::test]
async fn an_unknown_role_gets_an_error_and_no_rows() -> Result<()> {
    let world = World::new("unknown_role", PRIVATE_NOTES).await?;
    let mut client = world.walcast.client(&Token::role("no such role")).await?;
    let bindings = json!([{"event": "*", "schema": "public", "table": "notes"}]);
    let config = json!({"config": {"postgres_changes": bindings}});
    client.join("realtime:test", &config).await?;
    let system = client.system("realtime:test").await?;
    assert_eq!(system.payload["status"], "error");
    assert!(
        system.payload["message"]
            .as_str()
            .is_some_and(|text| text.contains("role \"no such role\" does not exist")),
        "{}",
        system.payload_text
    );
    world.end().await
}

/// A table whose policy fails for some rows, and one that has nothing to do with it.
const FAILING: &str = "
    create table notes (id int primary key, n int);
    alter table notes enable row level security;
    create policy p on notes for select to authenticated using (1 / n > 0);
    create policy q on notes for select to anon using (n is not null);
    create table calm (id int primary key);
    alter publication supabase_realtime add table notes, calm;";

#[tokio::test]
async fn a_policy_that_raises_denies_its_own_audience_only() -> Result<()> {
    let world = World::new("raising_policy", FAILING).await?;
    let mut victim = world.listener(&Token::user(ALICE), "notes").await?;
    let mut other = world.listener(&Token::anon(), "notes").await?;
    let mut bystander = world.listener(&Token::user(BOB), "calm").await?;
    for id in [1, 3, 5] {
        world.database.run(&format!("insert into calm values ({id})")).await?;
        world.database.run(&format!("insert into notes values ({id}, 0), ({}, 1)", id + 1)).await?;
    }
    assert_eq!(summary(&world.settled(&mut victim).await?), ["INSERT 2", "INSERT 4", "INSERT 6"]);
    assert_eq!(world.settled(&mut other).await?.len(), 6);
    assert_eq!(
        summary(&world.settled(&mut bystander).await?),
        ["INSERT 1", "INSERT 3", "INSERT 5"]
    );
    world.end().await
}

#[tokio::test]
async fn a_policy_that_sleeps_denies_its_own_audience_only() -> Result<()> {
    let setup = "
        create function slow(n int) returns bool language plpgsql as
          $$ begin if n = 0 then perform pg_sleep(600); end if; return true; end $$;
        create table notes (id int primary key, n int);
        alter table notes enable row level security;
        create policy p on notes for select to authenticated using (slow(n));
        create policy q on notes for select to anon using (n is not null);
        create table calm (id int primary key);
        alter publication supabase_realtime add table notes, calm;";
    let world = World::with("sleeping_policy", setup, |builder| {
        builder.set("WALCAST_AUTHORIZATION_TIMEOUT", "300ms")
    })
    .await?;
    let mut victim = world.listener(&Token::user(ALICE), "notes").await?;
    let mut other = world.listener(&Token::anon(), "notes").await?;
    let mut bystander = world.listener(&Token::user(BOB), "calm").await?;
    world.database.run("insert into notes values (1, 0); insert into calm values (3)").await?;
    assert_eq!(summary(&world.settled(&mut bystander).await?), ["INSERT 3"]);
    assert_eq!(summary(&world.settled(&mut other).await?), ["INSERT 1"]);
    world.database.run("insert into notes values (2, 1)").await?;
    assert_eq!(summary(&world.settled(&mut other).await?), ["INSERT 2"]);
    assert_eq!(summary(&world.settled(&mut victim).await?), ["INSERT 2"]);
    let health = http_get(world.walcast.port(), "/healthcheck").await?;
    assert_eq!(health.status, 200, "{}", health.body);
    world.end().await
}

#[tokio::test]
async fn a_delete_that_cannot_be_verified_shows_the_key_alone() -> Result<()> {
    for (option, expected) in [("send-key", 1), ("withhold", 0)] {
        let world = World::with(option, PRIVATE_NOTES, |builder| {
            builder.set("WALCAST_DELETES_UNVERIFIABLE", option)
        })
        .await?;
        world.database.run(&format!("insert into notes values (1, '{ALICE}', 'x')")).await?;
        let mut bob = world.listener(&Token::user(BOB), "notes").await?;
        world.database.run("delete from notes").await?;
        let changes = world.settled(&mut bob).await?;
        assert_eq!(changes.len(), expected, "{option}");
        for change in changes {
            assert_eq!(change["old_record"], json!({"id": 1}));
        }
        world.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn columns_that_may_not_be_selected_are_absent() -> Result<()> {
    let world = World::new(
        "hidden_columns",
        "create table notes (id int primary key, body text, secret text);
         revoke select on notes from anon, authenticated;
         grant select (id, body) on notes to anon;
         grant select (body) on notes to authenticated;
         alter table notes replica identity full;
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let mut anon = world.listener(&Token::anon(), "notes").await?;
    let mut keyless = world.listener(&Token::user(ALICE), "notes").await?;
    world
        .database
        .run("insert into notes values (1, 'a', 'secret'); update notes set body = 'b'")
        .await?;
    let changes = world.settled(&mut anon).await?;
    assert_eq!(changes[0]["record"], json!({"id": 1, "body": "a"}));
    assert_eq!(changes[1]["old_record"], json!({"id": 1, "body": "a"}));
    assert!(!json!(changes).to_string().contains("secret"));
    let refused = world.settled(&mut keyless).await?;
    assert_eq!(refused[0]["errors"], json!(["Error 401: Unauthorized"]));
    assert_eq!(refused[0]["record"], json!({}));
    world.end().await
}

#[tokio::test]
async fn row_security_that_is_switched_on_hides_later_rows() -> Result<()> {
    let world = World::new(
        "switched_on",
        "create table notes (id int primary key);
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let mut anon = world.listener(&Token::anon(), "notes").await?;
    world.database.run("insert into notes values (0)").await?;
    assert_eq!(summary(&world.settled(&mut anon).await?), ["INSERT 0"]);
    world.database.run("alter table notes enable row level security").await?;
    // Without an event trigger the catalogue is read again within its maximal age.
    for id in 1..1000 {
        world.database.run(&format!("insert into notes values ({id})")).await?;
        if world.settled(&mut anon).await?.is_empty() {
            world.database.run("insert into notes values (-1)").await?;
            assert_eq!(world.settled(&mut anon).await?, Vec::<Value>::new());
            return world.end().await;
        }
    }
    anyhow::bail!("rows are still shown after row security was switched on")
}

#[tokio::test]
async fn a_key_that_leaves_out_a_required_domain_still_tells_of_the_delete() -> Result<()> {
    let world = World::new(
        "required_domain",
        "create domain required as text not null;
         create table members (name text);
         insert into members values ('anon');
         create table notes (id int primary key, body required);
         alter table notes enable row level security;
         create policy p on notes for select
             using (id < 10 and exists (select from members where name = current_user));
         grant select on members to anon;
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    let rows = "insert into notes values (1, 'seen'), (11, 'hidden'); delete from notes";
    world.database.run(rows).await?;
    // The key alone is no row of the table's type: nobody can be asked, and the key is sent. That of
    // 11 is withheld: the condition on it says no, whatever the other would.
    let changes = world.settled(&mut client).await?;
    assert_eq!(summary(&changes), ["INSERT 1", "DELETE 1"]);
    world.end().await
}

/// Policies that ask who is a member are asked once for everybody, and say the same as one by one.
#[tokio::test]
async fn members_see_the_rows_of_their_teams() -> Result<()> {
    let policies = [
        "exists (select from members m where m.team = notes.team and m.user_id = auth.uid())",
        "team in (select team from members where user_id = (select auth.uid()))",
        "auth.uid() in (select user_id from members m where m.team = notes.team)",
    ];
    for (number, policy) in policies.iter().enumerate() {
        let world = World::new(
            &format!("members_{number}"),
            &format!(
                "create table members (team int, user_id uuid);
                 create table notes (id int primary key, team int);
                 alter table notes enable row level security;
                 create policy p on notes for select using ({policy});
                 grant select on members to anon, authenticated;
                 insert into members values (1, '{ALICE}'), (2, '{ALICE}'), (2, '{BOB}'), (1, null);
                 insert into members select 3, gen_random_uuid() from generate_series(1, 2000);
                 insert into members values (3, '{BOB}');
                 alter publication supabase_realtime add table notes;"
            ),
        )
        .await?;
        let mut alice = world.listener(&Token::user(ALICE), "notes").await?;
        let mut bob = world.listener(&Token::user(BOB), "notes").await?;
        let mut anon = world.listener(&Token::anon(), "notes").await?;
        let mut wrong = world.listener(&Token::user("auth0|abc"), "notes").await?;
        // Of team 3 there are more members than a list holds.
        let rows = "insert into notes values (1, 1), (2, 2), (3, 3), (4, null), (5, 4)";
        world.database.run(rows).await?;
        // Who becomes a member in the transaction of the row is one.
        let both = format!(
            "begin; insert into members values (5, '{BOB}'); \
                            insert into notes values (6, 5); commit"
        );
        world.database.run(&both).await?;
        assert_eq!(
            summary(&world.settled(&mut alice).await?),
            ["INSERT 1", "INSERT 2"],
            "{policy}"
        );
        let bobs = ["INSERT 2", "INSERT 3", "INSERT 6"];
        assert_eq!(summary(&world.settled(&mut bob).await?), bobs, "{policy}");
        assert_eq!(world.settled(&mut anon).await?, Vec::<Value>::new(), "{policy}");
        assert_eq!(world.settled(&mut wrong).await?, Vec::<Value>::new(), "{policy}");
        // Row security on the members themselves leaves each question to its asker.
        world
            .database
            .run(
                "alter table members enable row level security; \
                 create policy own on members for select using (user_id = auth.uid()); \
                 insert into notes values (7, 2)",
            )
            .await?;
        assert_eq!(summary(&world.settled(&mut alice).await?), ["INSERT 7"], "{policy}");
        assert_eq!(summary(&world.settled(&mut bob).await?), ["INSERT 7"], "{policy}");
        world.end().await?;
    }
    Ok(())
}

/// What a user put before PostgreSQL's own schema does not change what a policy or filter means.
#[tokio::test]
async fn operators_of_a_user_stand_in_for_none_of_postgresqls() -> Result<()> {
    let world = World::new(
        "shadowed_names",
        "create table members (name text);
         insert into members values ('somebody');
         grant select on members to anon;
         create table notes (id int primary key, owner text, tags xml);
         alter table notes enable row level security;
         create policy p on notes for select
             using (exists (select from members where name = owner));
         alter publication supabase_realtime add table notes;
         create function public.always(text, text) returns bool language sql immutable
             as 'select true';
         create operator public.= (leftarg = text, rightarg = text, function = public.always);
         do $$ begin
             execute format('alter database %I set search_path = public, pg_catalog',
                            current_database());
         end $$;",
    )
    .await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    let rows = "insert into notes (id, owner) values (1, 'somebody'), (2, 'else')";
    world.database.run(rows).await?;
    assert_eq!(summary(&world.settled(&mut client).await?), ["INSERT 1"]);
    world.end().await
}
