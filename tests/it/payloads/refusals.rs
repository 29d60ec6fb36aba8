//! What a subscription is refused for, in the words of PostgreSQL and of the reference.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use walcast_tests::Token;

use crate::world::World;

/// A filter, and how the refusal ends; nothing when it is accepted.
const FILTERS: &[(&str, &str)] = &[
    ("n=eq.1", ""),
    ("nope=eq.1", "invalid column for filter nope"),
    ("hidden=eq.1", "invalid column for filter hidden"),
    ("N=eq.1", "invalid column for filter N"),
    ("n=eq.abc", r#"invalid input syntax for type integer: "abc""#),
    ("n=eq.2147483648", r#"value "2147483648" is out of range for type integer"#),
    ("n=in.(1,abc)", r#"invalid input syntax for type integer: "abc""#),
    (
        "at=gt.yesterday morning",
        r#"invalid input syntax for type timestamp with time zone: "yesterday morning""#,
    ),
    ("u=eq.1", r#"invalid input syntax for type uuid: "1""#),
    ("m=eq.angry", r#"invalid input value for enum mood: "angry""#),
    ("m=gt.happy", ""),
    ("c=eq.0", r#"value for domain count violates check constraint "count_check""#),
    ("c=eq.1", ""),
    ("s=is.yes", "invalid value for is filter: must be null, true, false, or unknown"),
    ("s=is.null", ""),
    ("s=is.true", "is true filter requires a boolean column, got text"),
    ("b=is.unknown", ""),
    ("n=like.1%", "operator like requires a text-compatible column type, got integer"),
    ("n=match.1", "operator match requires a text-compatible column type, got integer"),
    ("v=ilike.a%", ""),
    ("v=imatch.^a", ""),
    ("s=match.(", "invalid regular expression: parentheses () not balanced"),
    ("n=foo.1", r#"Error parsing `filter` params: ["foo", "1"]"#),
    ("n", r#"Error parsing `filter` params: ["n"]"#),
    ("n=in.1", "Error parsing `filter` params: `in` filter value must be wrapped by parentheses"),
    ("n=eq.1,", "filter must not contain empty segments (check for extra commas)"),
    ("n=not.not.eq.1", r#"Error parsing `filter` params: ["not", "eq.1"]"#),
    ("", ""),
];

#[tokio::test]
async fn a_filter_is_refused_in_known_words() -> Result<()> {
    let world = World::new(
        "filter_words",
        "create type mood as enum ('happy', 'sad');
         create domain count as int check (value > 0);
         create table notes (id int primary key, n int, s text, v varchar(9), b bool, u uuid,
           at timestamptz, m mood, c count, hidden int);
         revoke select on notes from anon;
         grant select (id, n, s, v, b, u, at, m, c) on notes to anon;
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    let list = |n: usize| {
        let items: Vec<String> = (0..n).map(|item| item.to_string()).collect();
        format!("n=in.({})", items.join(","))
    };
    let mut cases: Vec<(String, &str)> =
        FILTERS.iter().map(|(filter, end)| ((*filter).to_owned(), *end)).collect();
    cases.push((list(100), ""));
    cases.push((list(101), "too many values for `in` filter. Maximum 100"));
    let mut wrong = Vec::new();
    for (filter, end) in cases {
        let bindings =
            json!([{"event": "*", "schema": "public", "table": "notes", "filter": filter}]);
        client.join("realtime:test", &json!({"config": {"postgres_changes": bindings}})).await?;
        let system = client.system("realtime:test").await?;
        let message = system.payload["message"].as_str().context("a message")?;
        let is_right = if end.is_empty() {
            system.payload["status"] == "ok"
        } else {
            // Details and hints follow on lines of their own.
            let first = message.lines().next().unwrap_or_default();
            system.payload["status"] == "error" && first.ends_with(end)
        };
        if !is_right {
            wrong.push(format!("{filter}: {message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.end().await
}

/// Members of a binding beside `event`, and the refusal; nothing when it is accepted.
fn bindings() -> Vec<(Value, &'static str)> {
    let wildcard_select = "Column selection is not supported for wildcard subscriptions. \
                           Provide an explicit schema and table name.";
    let not_enabled = "Please check Realtime is enabled for the given connect parameters: ";
    let nothing = "No subscription params provided. Please provide at least a `schema` or `table` \
                   to subscribe to: ";
    vec![
        (json!({"table": "notes"}), ""),
        (json!({"schema": "public"}), ""),
        (json!({"schema": "*"}), ""),
        (json!({"schema": "public", "table": "Notes"}), not_enabled),
        (json!({"schema": "other", "table": "notes"}), not_enabled),
        (json!({"schema": "public", "table": "unpublished"}), not_enabled),
        (json!({"schema": "public", "table": "seen"}), not_enabled),
        (json!({}), nothing),
        (json!({"filter": "id=eq.1"}), nothing),
        (json!({"schema": "public", "table": "notes", "select": ["id", "body"]}), ""),
        (json!({"schema": "public", "table": "notes", "select": []}), ""),
        (
            json!({"schema": "public", "table": "notes", "select": ["nope"]}),
            "invalid column for select nope",
        ),
        (
            json!({"schema": "public", "table": "notes", "select": ["hidden"]}),
            "invalid column for select hidden",
        ),
        (json!({"schema": "public", "table": "*", "select": ["id"]}), wildcard_select),
        (json!({"schema": "*", "table": "notes", "select": ["id"]}), wildcard_select),
        (
            json!({"schema": "public", "table": "notes", "select": "id"}),
            "Error parsing `select` params: expected a list of column name strings",
        ),
    ]
}

#[tokio::test]
async fn a_binding_is_refused_in_known_words() -> Result<()> {
    let world = World::new(
        "binding_words",
        "create table notes (id int primary key, body text, hidden int);
         revoke select on notes from anon; grant select (id, body) on notes to anon;
         create table unpublished (id int primary key);
         create view seen as select id from notes;
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    let mut wrong = Vec::new();
    for (mut binding, words) in bindings() {
        binding["event"] = json!("*");
        let config = json!({"config": {"postgres_changes": [binding]}});
        client.join("realtime:test", &config).await?;
        let system = client.system("realtime:test").await?;
        let message = system.payload["message"].as_str().context("a message")?;
        let is_right = if words.is_empty() {
            system.payload["status"] == "ok"
        } else {
            system.payload["status"] == "error" && message.contains(words)
        };
        if !is_right {
            wrong.push(format!("{binding}: {message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.end().await
}
