//! Random policies on `realtime.messages`: what is decided in process about private channels is what
//! PostgreSQL says about the rows that it is given for them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use walcast_channels::{Extensions, Rights, RightsRequest};
use walcast_filters::{
    claims::{Claims, Role},
    policy::Compiler,
};
use walcast_protocol::Topic;
use walcast_server::{
    authz::{Authorizer, rules::decide},
    catalogue::read::channel_rules,
    database,
    http::{Health, now_unix},
    telemetry::Metrics,
};
use walcast_tests::{Postgres, Walcast};

use super::{number, random::Random, stage::connect_options};
use crate::world::{ALICE, allow_messages};

/// Sets of policies in the short run.
const ROUNDS: u64 = 40;

/// What policies are made of; some raise for some audiences, some only PostgreSQL can evaluate.
const ATOMS: &[&str] = &[
    "true",
    "false",
    "null::boolean",
    "realtime.topic() = 'room'",
    "(select realtime.topic()) = 'room'",
    "realtime.topic() like 'room:%'",
    "realtime.topic() in ('room', 'hall')",
    "realtime.topic() is null",
    "realtime.topic() is distinct from topic",
    "length(realtime.topic()) > 4",
    "topic = 'room'",
    "topic = realtime.topic()",
    "starts_with(topic, 'user:')",
    "upper(topic) = 'ROOM'",
    "extension = 'broadcast'",
    "extension in ('broadcast', 'presence')",
    "messages.extension <> 'presence'",
    "private is null",
    "not private",
    "event is null",
    "payload is null",
    "payload ->> 'a' = 'b'",
    "inserted_at < now()",
    "id is not null",
    "auth.uid() = 'a11ce000-0000-4000-8000-000000000001'",
    "(select auth.uid()) is not null",
    "auth.role() = 'authenticated'",
    "(select auth.jwt()) ->> 'team' = realtime.topic()",
    "(auth.jwt() -> 'app_metadata' ->> 'level')::int > 3",
    "realtime.topic() = 'user:' || (select auth.uid())::text",
    "topic::uuid = auth.uid()",
    "1 / (length(topic) - 4) > 0",
    "current_setting('request.jwt.claim.sub', true) = auth.uid()::text",
    "current_setting('request.jwt.claim.role', true) = 'authenticated'",
    "nullif(current_setting('request.jwt.claim.email', true), '') is null",
    "current_setting('request.jwt.claims', true)::jsonb ->> 'team' = topic",
    "current_setting('realtime.topic', true) = 'room'",
    "current_user = 'authenticated'",
    "exists (select from members where members.topic = realtime.topic())",
    "public.tells_true()",
];

const SETUP: &str = "
    create table members (topic text);
    insert into members values ('room');
    grant select on members to public;
    create function tells_true() returns boolean language sql stable as 'select true';";

fn expression(random: &mut Random, depth: usize) -> String {
    if depth == 0 || random.chance(40) {
        return (*random.pick(ATOMS)).to_owned();
    }
    let mut part = || expression(random, depth - 1);
    let (a, b, c) = (part(), part(), part());
    match random.below(6) {
        0 | 1 => format!("(({a}) and ({b}))"),
        2 | 3 => format!("(({a}) or ({b}))"),
        4 => format!("not ({a})"),
        _ => format!("case when {a} then {b} else {c} end"),
    }
}

fn policy(random: &mut Random, number: usize) -> String {
    let kind = if random.chance(75) { "permissive" } else { "restrictive" };
    let command = *random.pick(&["select", "insert", "all"]);
    let roles = *random.pick(&["public", "anon", "authenticated", "anon, authenticated"]);
    let depth = random.below(3);
    let using = expression(random, depth);
    let check = expression(random, depth);
    let expressions = match command {
        "select" => format!("using ({using})"),
        "insert" => format!("with check ({check})"),
        _ if random.chance(50) => format!("using ({using})"),
        _ => format!("using ({using}) with check ({check})"),
    };
    format!(
        "create policy p{number} on realtime.messages as {kind} for {command} to {roles} {expressions}"
    )
}

fn audiences() -> Vec<(Role, Claims)> {
    let claims = |value: Value| {
        let role = Role::new(value["role"].as_str().unwrap_or_default());
        (role, Claims::new(&value.to_string()))
    };
    vec![
        claims(json!({"role": "anon"})),
        claims(json!({"role": "authenticated", "sub": ALICE, "team": "room",
            "app_metadata": {"level": "5"}})),
        claims(json!({"role": "authenticated", "sub": "", "app_metadata": {"level": 1}})),
        claims(json!({"role": "authenticated", "sub": "no uuid", "team": 7,
            "app_metadata": {"level": "high"}})),
        claims(json!({"role": "service_role"})),
        claims(json!({"role": "nobody there"})),
    ]
}

#[tokio::test]
async fn private_channels_are_decided_as_postgresql_decides() -> Result<()> {
    let rounds = number("WALCAST_ORACLE_CASES")?.map_or(ROUNDS, |cases| cases / 500);
    let seed = number("WALCAST_ORACLE_SEED")?.unwrap_or(1);
    let server = Postgres::shared().await?;
    let database = server.database("oracle_channels").await?;
    allow_messages(&database).await?;
    drop(Walcast::on(&database).start().await?);
    database.run(SETUP).await?;

    let connect = connect_options(server, "walcast", database.name());
    let mut client = database::connect(&connect).await?;
    let health = Arc::new(Health::new());
    let metrics = Arc::new(Metrics::new());
    let timeout = Duration::from_secs(5);
    let postgresql = Authorizer::new(connect, 2, timeout, health, metrics);
    let audiences = audiences();
    let roles: BTreeSet<Role> = audiences.iter().map(|(role, _)| role.clone()).collect();
    let topics = ["room", "hall", "Room", "room:1", "", ALICE]
        .map(str::to_owned)
        .into_iter()
        .chain([format!("user:{ALICE}")])
        .collect::<Vec<_>>();
    let mut compilers = [Compiler::default(), Compiler::default()];
    let (mut n_decided, mut n_asked) = (0_u64, 0_u64);
    for round in 0..rounds {
        let mut random = Random::new(seed + round);
        let policies: Vec<String> =
            (0..random.between(1, 4)).map(|number| policy(&mut random, number)).collect();
        database
            .run(
                "do $$ declare name text; begin
                    for name in select polname from pg_policy
                      where polrelid = 'realtime.messages'::regclass
                    loop execute format('drop policy %I on realtime.messages', name); end loop;
                  end $$",
            )
            .await?;
        let mut kept = Vec::new();
        for policy in policies {
            // Some combinations have no types; PostgreSQL says so.
            if database.run(&policy).await.is_ok() {
                kept.push(policy);
            }
        }
        let rules = channel_rules(&mut client, &roles, &mut compilers).await?;
        let rules = rules.context("the table is made by walcast")?;
        for (role, claims) in &audiences {
            for topic in &topics {
                for asked in [
                    Rights { read: Extensions::ALL, write: Extensions::default() },
                    Rights { read: Extensions::default(), write: Extensions::ALL },
                    Rights {
                        read: Extensions { broadcast: true, presence: false },
                        write: Extensions::ALL,
                    },
                ] {
                    let request = RightsRequest {
                        topic: Topic::of_sub_topic(topic),
                        role: role.clone(),
                        claims: claims.clone(),
                        asked,
                    };
                    let Some(decided) = decide(&rules, &request, now_unix()) else {
                        n_asked += 1;
                        continue;
                    };
                    n_decided += 1;
                    let answer = postgresql.rights(&request, "{}").await;
                    ensure!(
                        answer == Ok(decided),
                        "seed {}: {request:?} {}\n{decided:?} was decided, PostgreSQL says {answer:?}\n{}",
                        seed + round,
                        claims.as_str(),
                        kept.join(";\n")
                    );
                }
            }
        }
    }
    println!("{n_decided} decided in process and right, {n_asked} left to PostgreSQL");
    ensure!(n_decided > n_asked / 4, "{n_decided} of {n_asked} were decided: too few to tell");
    database.remove().await
}

#[tokio::test]
async fn a_table_that_is_not_plain_is_left_to_postgresql() -> Result<()> {
    let server = Postgres::shared().await?;
    let database = server.database("oracle_channels_plain").await?;
    allow_messages(&database).await?;
    drop(Walcast::on(&database).start().await?);
    database
        .run("create policy all_do on realtime.messages using (true) with check (true)")
        .await?;
    let connect = connect_options(server, "walcast", database.name());
    let mut client = database::connect(&connect).await?;
    let mut compilers = [Compiler::default(), Compiler::default()];
    let roles = BTreeSet::from([Role::new("anon")]);
    let request = RightsRequest {
        topic: Topic::of_sub_topic("room"),
        role: Role::new("anon"),
        claims: Claims::new(r#"{"role":"anon"}"#),
        asked: Rights { read: Extensions::ALL, write: Extensions::ALL },
    };
    let mut decides = async || -> Result<bool> {
        let rules = channel_rules(&mut client, &roles, &mut compilers).await?;
        Ok(rules.is_some_and(|rules| decide(&rules, &request, now_unix()).is_some()))
    };
    assert!(decides().await?);
    for (what, back) in [
        (
            "create function refuse() returns trigger language plpgsql as 'begin return null; end';
             create trigger refuse before insert on realtime.messages for each row execute function refuse()",
            "drop trigger refuse on realtime.messages",
        ),
        (
            "alter table realtime.messages add constraint short check (length(topic) < 3)",
            "alter table realtime.messages drop constraint short",
        ),
        (
            "alter table realtime.messages add column extra int not null default 1",
            "alter table realtime.messages drop column extra",
        ),
        (
            "alter table realtime.messages alter column payload set not null",
            "alter table realtime.messages alter column payload drop not null",
        ),
        (
            "create index on realtime.messages (lower(topic))",
            "drop index realtime.messages_lower_idx",
        ),
        (
            "alter table realtime.messages force row level security",
            "alter table realtime.messages no force row level security",
        ),
        (
            "revoke insert on realtime.messages from anon",
            "grant insert on realtime.messages to anon",
        ),
        (
            "revoke select on realtime.messages from anon; grant select (topic) on realtime.messages to anon",
            "grant select on realtime.messages to anon",
        ),
        ("revoke usage on schema realtime from anon", "grant usage on schema realtime to anon"),
        (
            "create policy topic on realtime.messages as restrictive using (realtime.topic() = 'room');
             revoke execute on function realtime.topic() from public",
            "grant execute on function realtime.topic() to public",
        ),
        (
            "create or replace function realtime.topic() returns text language sql stable as 'select ''room''::text'",
            "create or replace function realtime.topic() returns text language sql stable
               set search_path = '' as $$ select nullif(current_setting('realtime.topic', true), '')::text $$",
        ),
        ("revoke anon from walcast", "grant anon to walcast"),
        (
            "do $$ declare name text; begin
               for name in select inhrelid::regclass::text from pg_inherits
                 where inhparent = 'realtime.messages'::regclass
               loop execute 'drop table ' || name; end loop;
             end $$",
            "select 1",
        ),
    ] {
        database.run(what).await?;
        assert!(!decides().await?, "{what}");
        database.run(back).await?;
        if back != "select 1" {
            assert!(decides().await?, "{back}");
        }
    }
    database.remove().await
}
