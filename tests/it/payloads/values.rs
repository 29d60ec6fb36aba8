//! The JSON of every type.

use anyhow::{Context, Result};
use serde_json::json;
use walcast_tests::{Client, Json, Token};

use crate::world::World;

/// Types that the cases use, those with names that need quoting among them.
const TYPES: &str = r#"
    create schema "My Schema";
    create type "My Schema"."Mood" as enum ('so-so', 'so "so"');
    create type pair as (a int, "B c" text, c numeric);
    create type deep as (p pair, list pair[], n float8, bytes bytea);
    create type span as range (subtype = float8);
    create domain count as int check (value > 0);
    create domain counts as int[];
    create domain amount as numeric;
    create domain code as char(3);
    create domain inner_code as code;
    create domain bytes as bytea;
    create domain moment as timestamp;
    create domain point_of_time as timestamptz;
    create domain feeling as "My Schema"."Mood";
    create domain document as jsonb;
    create domain couple as pair;
    create table shape (a int, gone int, b text); alter table shape drop gone;"#;

/// Type, value, its name in `columns`, its JSON; the value is what stands between quotes.
const CASES: &[(&str, &str, &str, &str)] = &[
    ("int2", "-32768", "int2", "-32768"),
    ("int4", "2147483647", "int4", "2147483647"),
    ("int8", "9223372036854775807", "int8", "9223372036854775807"),
    ("numeric", "1.10", "numeric", "1.10"),
    ("numeric", "1.000", "numeric", "1.000"),
    ("numeric", "-0.000000000000000000001", "numeric", "-0.000000000000000000001"),
    ("numeric(10,2)", "7", "numeric", "7.00"),
    (
        "numeric",
        "123456789012345678901234567890.123456789",
        "numeric",
        "123456789012345678901234567890.123456789",
    ),
    ("numeric", "NaN", "numeric", "null"),
    ("numeric", "-Infinity", "numeric", "null"),
    ("float4", "0.1", "float4", "0.1"),
    ("float4", "16777216", "float4", "16777216"),
    ("float8", "0.30000000000000004", "float8", "0.30000000000000004"),
    ("float8", "1e20", "float8", "100000000000000000000"),
    ("float8", "1.5e-7", "float8", "0.00000015"),
    ("float8", "-0", "float8", "0"),
    ("float8", "NaN", "float8", "null"),
    ("float4", "Infinity", "float4", "null"),
    ("bool", "yes", "bool", "true"),
    ("text", "", "text", r#""""#),
    ("text", "a\"b\\c/\u{1}\u{7f}\n\u{e9}\u{1f600}", "text", r#""a\"b\\c/\u0001\u007f\né😀""#),
    ("varchar(10)", "  a ", "varchar", r#""  a ""#),
    ("name", "nm", "name", r#""nm""#),
    ("char(5)", "abc", "bpchar", r#""abc  ""#),
    ("char", "", "bpchar", r#"" ""#),
    (r#""char""#, "z", "char", r#""z""#),
    ("bytea", r"\x00ff10", "bytea", r#""00ff10""#),
    ("bytea", "", "bytea", r#""""#),
    (
        "uuid",
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "uuid",
        r#""a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11""#,
    ),
    ("date", "2024-02-29", "date", r#""2024-02-29""#),
    ("date", "infinity", "date", r#""infinity""#),
    ("date", "0044-03-15 BC", "date", r#""0044-03-15 BC""#),
    ("date", "12345-01-01", "date", r#""12345-01-01""#),
    ("time", "12:34:56.789012", "time", r#""12:34:56.789012""#),
    ("time", "24:00", "time", r#""24:00:00""#),
    ("timetz", "12:34:56.789+02", "timetz", r#""12:34:56.789+02""#),
    ("timestamp", "2024-01-02 03:04:05.678901", "timestamp", r#""2024-01-02T03:04:05.678901""#),
    ("timestamp", "2024-01-02 03:04:05.500", "timestamp", r#""2024-01-02T03:04:05.5""#),
    ("timestamp", "-infinity", "timestamp", r#""-infinity""#),
    ("timestamp", "0044-03-15 12:00 BC", "timestamp", r#""0044-03-15T12:00:00 BC""#),
    (
        "timestamptz",
        "2024-01-02 03:04:05.678901+02",
        "timestamptz",
        r#""2024-01-02T01:04:05.678901+00:00""#,
    ),
    ("timestamptz(0)", "2024-01-02 03:04:05.6+00", "timestamptz", r#""2024-01-02T03:04:06+00:00""#),
    ("timestamptz", "infinity", "timestamptz", r#""infinity""#),
    (
        "interval",
        "1 year 2 mons 3 days 04:05:06.789",
        "interval",
        r#""1 year 2 mons 3 days 04:05:06.789""#,
    ),
    (
        "json",
        r#"{"a": 1, "a": 2, "n": 1e5, "k": "\u0041"}"#,
        "json",
        r#"{"a":2,"n":100000,"k":"A"}"#,
    ),
    ("json", "null", "json", "null"),
    ("json", "1.10", "json", "1.10"),
    ("jsonb", r#"[1.50, {"x": null}]"#, "jsonb", r#"[1.50,{"x":null}]"#),
    ("jsonb", r#""text""#, "jsonb", r#""text""#),
    ("int[]", "{{1,2},{3,NULL}}", "_int4", "[[1,2],[3,null]]"),
    ("int[]", "[2:3]={7,8}", "_int4", "[7,8]"),
    ("int[]", "{}", "_int4", "[]"),
    ("numeric[]", "{NaN,1.10}", "_numeric", r#"["NaN",1.10]"#),
    ("float8[]", "{-Infinity,1e20}", "_float8", r#"["-Infinity",100000000000000000000]"#),
    ("text[]", r#"{"a,b",NULL,"NULL","","q\"\\"}"#, "_text", r#"["a,b",null,"NULL","","q\"\\"]"#),
    ("bool[]", "{t,f}", "_bool", "[true,false]"),
    ("bytea[]", r#"{"\\x00ff"}"#, "_bytea", r#"["\\x00ff"]"#),
    ("char(3)[]", "{a}", "_bpchar", r#"["a  "]"#),
    ("oid[]", "{4294967295}", "_oid", r#"["4294967295"]"#),
    (
        "timestamp[]",
        r#"{"2024-01-02 03:04:05",NULL}"#,
        "_timestamp",
        r#"["2024-01-02T03:04:05",null]"#,
    ),
    ("jsonb[]", r#"{"{\"a\": 1}","null"}"#, "_jsonb", r#"[{"a":1},null]"#),
    ("box[]", "{(1,1),(0,0);(3,3),(2,2)}", "_box", r#"["(1,1),(0,0)","(3,3),(2,2)"]"#),
    (r#""My Schema"."Mood""#, r#"so "so""#, "Mood", r#""so \"so\"""#),
    (r#""My Schema"."Mood"[]"#, r#"{so-so,"so \"so\""}"#, "_Mood", r#"["so-so","so \"so\""]"#),
    ("feeling", "so-so", "feeling", r#""so-so""#),
    ("count", "5", "count", "5"),
    ("counts", "{1,2}", "counts", "[1,2]"),
    ("count[]", "{1,2}", "_count", "[1,2]"),
    ("amount", "1.10", "amount", "1.10"),
    ("amount", "NaN", "amount", r#""NaN""#),
    ("code", "x", "code", r#""x  ""#),
    ("inner_code", "x", "inner_code", r#""x  ""#),
    ("bytes", r"\x00ff", "bytes", r#""\\x00ff""#),
    ("moment", "2024-01-02 03:04:05", "moment", r#""2024-01-02T03:04:05""#),
    ("point_of_time", "2024-01-02 03:04:05+00", "point_of_time", r#""2024-01-02T03:04:05+00:00""#),
    ("document", r#"{"a": [1.0]}"#, "document", r#"{"a":[1.0]}"#),
    ("pair", r#"(1,"a ""b"", c",1.10)"#, "pair", r#"{"a":1,"B c":"a \"b\", c","c":1.10}"#),
    ("pair", "(,,)", "pair", r#"{"a":null,"B c":null,"c":null}"#),
    ("pair", "(,\"\",NaN)", "pair", r#"{"a":null,"B c":"","c":"NaN"}"#),
    ("shape", "(1,x)", "shape", r#"{"a":1,"b":"x"}"#),
    ("couple", "(1,x,)", "couple", r#"{"a":1,"B c":"x","c":null}"#),
    ("pair[]", r#"{"(1,x,2)",NULL}"#, "_pair", r#"[{"a":1,"B c":"x","c":2},null]"#),
    (
        "deep",
        r#"("(1,x,)","{""(2,y,)""}",Infinity,"\\x00")"#,
        "deep",
        r#"{"p":{"a":1,"B c":"x","c":null},"list":[{"a":2,"B c":"y","c":null}],
            "n":"Infinity","bytes":"\\x00"}"#,
    ),
    ("int4range", "[1,5]", "int4range", r#""[1,6)""#),
    ("numrange", "empty", "numrange", r#""empty""#),
    ("tstzrange", "[2024-01-02 03:04:05+02,)", "tstzrange", r#""[\"2024-01-02 01:04:05+00\",)""#),
    ("span", "[1.5,2)", "span", r#""[1.5,2)""#),
    ("int4multirange", "{[1,3),[5,8)}", "int4multirange", r#""{[1,3),[5,8)}""#),
    ("int4range[]", r#"{"[1,3)"}"#, "_int4range", r#"["[1,3)"]"#),
    ("inet", "10.0.0.1/24", "inet", r#""10.0.0.1/24""#),
    ("cidr", "10.0.0.0/8", "cidr", r#""10.0.0.0/8""#),
    ("macaddr", "08:00:2B:01:02:03", "macaddr", r#""08:00:2b:01:02:03""#),
    ("macaddr8", "08:00:2b:01:02:03:04:05", "macaddr8", r#""08:00:2b:01:02:03:04:05""#),
    ("bit(4)", "1011", "bit", r#""1011""#),
    ("varbit", "", "varbit", r#""""#),
    ("money", "1234.5", "money", r#""$1,234.50""#),
    ("tsvector", "fat:2 cat:3B", "tsvector", r#""'cat':3B 'fat':2""#),
    ("tsquery", "fat & !cat", "tsquery", r#""'fat' & !'cat'""#),
    ("point", "(1,2.5)", "point", r#""(1,2.5)""#),
    ("polygon", "((0,0),(1,1))", "polygon", r#""((0,0),(1,1))""#),
    ("jsonpath", "$.a[*]", "jsonpath", r#""$.\"a\"[*]""#),
    ("oid", "4294967295", "oid", r#""4294967295""#),
    ("int2vector", "1 2 3", "int2vector", "[1,2,3]"),
    ("oidvector", "1 2", "oidvector", r#"["1","2"]"#),
    ("regclass", "pg_class", "regclass", r#""pg_class""#),
    ("pg_lsn", "16/B374D848", "pg_lsn", r#""16/B374D848""#),
    ("tid", "(0,1)", "tid", r#""(0,1)""#),
    ("xid", "42", "xid", r#""42""#),
    ("xid8", "42", "xid8", r#""42""#),
];

#[tokio::test]
async fn every_type_has_the_json_that_clients_know() -> Result<()> {
    let world =
        World::new("every_type", &format!("{TYPES} {}", tables("id int primary key, v"))).await?;
    let mut client = wildcard(&world).await?;
    for (number, (_, value, ..)) in CASES.iter().enumerate() {
        let value = quoted(value);
        world.database.run(&format!("insert into case_{number} values (1, {value})")).await?;
    }
    let changes = exactly(&world, &mut client).await?;
    assert_eq!(changes.len(), CASES.len());
    let mut wrong = Vec::new();
    for ((type_name, value, named, expected), data) in CASES.iter().zip(&changes) {
        let column = data.member("columns").context("columns")?.items().get(1).context("v")?;
        let found_name = column.member("type").and_then(Json::as_str);
        let found = data.member("record").and_then(|record| record.member("v"));
        if found_name != Some(*named) || found != Some(&Json::parse(expected)?) {
            wrong.push(format!("{type_name} {value}: {found_name:?} {found:?}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.end().await
}

/// Inside an array, a domain and a composite a value is what PostgreSQL itself makes of it, and in
/// the old row the same as in the new one.
#[tokio::test]
async fn a_value_inside_another_is_what_postgres_makes_of_it() -> Result<()> {
    let mut setup = TYPES.to_owned();
    for (number, (type_name, ..)) in CASES.iter().enumerate() {
        // PostgreSQL has no arrays of arrays; an array's elements are arrays' own business.
        let list = if type_name.ends_with("[]") { "" } else { "[]" };
        setup.push_str(&format!(
            "create domain domain_{number} as {type_name};
             create type composite_{number} as (\"a b\" {type_name}, c {type_name}{list});
             create table case_{number} (id int primary key, list {type_name}{list},
               domain domain_{number}, composite composite_{number});
             alter table case_{number} replica identity full;
             alter publication supabase_realtime add table case_{number};"
        ));
    }
    let world = World::new("inside_another", &setup).await?;
    let mut client = wildcard(&world).await?;
    let mut expected = Vec::new();
    for (number, (type_name, value, ..)) in CASES.iter().enumerate() {
        let value = quoted(value);
        let list = if type_name.ends_with("[]") {
            format!("{value}::{type_name}")
        } else {
            format!("array[{value}, null, {value}]::{type_name}[]")
        };
        world
            .database
            .run(&format!(
                "insert into case_{number}
                   values (1, {list}, {value}, row({value}, {list})::composite_{number});
                 delete from case_{number}"
            ))
            .await?;
        let query = format!(
            "select jsonb_build_object('id', 1, 'list', {list},
               'domain', {value}::domain_{number},
               'composite', row({value}, {list})::composite_{number})"
        );
        let row = world.database.text(&query).await?.context("a row")?;
        expected.push((type_name, Json::parse(&row)?));
    }
    let changes = exactly(&world, &mut client).await?;
    assert_eq!(changes.len(), 2 * CASES.len());
    for ((type_name, row), data) in expected.iter().zip(changes.chunks(2)) {
        assert_eq!(data[0].member("record"), Some(row), "{type_name}");
        assert_eq!(data[1].member("old_record"), Some(row), "{type_name}");
    }
    world.end().await
}

/// Offsets of minutes and, long ago, of seconds.
#[tokio::test]
async fn timestamps_are_in_the_time_zone_of_the_database() -> Result<()> {
    for zone in ["Asia/Kolkata", "Europe/Amsterdam", "America/St_Johns"] {
        let world = World::new(
            "zones",
            &format!(
                "create table notes (id int primary key, at timestamptz, list timestamptz[]);
                 do $$ begin execute format('alter database %I set timezone = ''{zone}''',
                   current_database()); end $$;
                 alter publication supabase_realtime add table notes;"
            ),
        )
        .await?;
        let mut client = world.listener(&Token::anon(), "notes").await?;
        let session = world.database.session().await?;
        session
            .batch_execute(
                "insert into notes select row_number() over (), at, array[at] from unnest(array[
                   '2024-07-01 12:00:00+00', '1900-01-01 00:00:00+00', '0044-03-15 12:00:00+00 BC',
                   '294276-12-31 00:00:00.000001+00', '-infinity']::timestamptz[]) as at",
            )
            .await?;
        let rows =
            session.query("select to_jsonb(notes)::text from notes order by id", &[]).await?;
        let expected: Vec<Json> =
            rows.iter().map(|row| Json::parse(row.get(0))).collect::<Result<_>>()?;
        let changes = exactly(&world, &mut client).await?;
        let records: Vec<Json> =
            changes.iter().filter_map(|data| data.member("record").cloned()).collect();
        assert_eq!(records, expected, "{zone}");
        world.end().await?;
    }
    Ok(())
}

/// As far as PostgreSQL itself goes.
#[tokio::test]
async fn values_of_any_size_and_depth_are_delivered() -> Result<()> {
    const DEPTH: usize = 4_000;
    let world = World::new(
        "size_and_depth",
        "create table notes (id int primary key, digits numeric, fraction numeric, deep json,
           deeper jsonb, wide int[]);
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world
        .database
        .run(&format!(
            "insert into notes values (1, repeat('9', 131072)::numeric,
               ('-0.' || repeat('3', 16383))::numeric,
               (repeat('[', {DEPTH}) || repeat(']', {DEPTH}))::json,
               (repeat('{{\"a\":', {DEPTH}) || '1' || repeat('}}', {DEPTH}))::jsonb,
               array(select generate_series(1, 20000)))"
        ))
        .await?;
    let messages = world.settled_messages(&mut client).await?;
    let text = &messages[0].payload_text;
    for (name, expected) in [
        ("digits", "9".repeat(131_072)),
        ("fraction", format!("-0.{}", "3".repeat(16_383))),
        ("deep", "[".repeat(DEPTH) + &"]".repeat(DEPTH)),
        ("deeper", r#"{"a":"#.repeat(DEPTH) + "1" + &"}".repeat(DEPTH)),
    ] {
        assert!(text.contains(&format!("\"{name}\":{expected}")), "{name}");
    }
    assert!(text.contains(",19999,20000]"));
    world.end().await
}

/// Neither the settings of the session that writes nor those of its role.
#[tokio::test]
async fn settings_of_the_writer_do_not_matter() -> Result<()> {
    let world = World::new(
        "writer_settings",
        "create table notes (id int primary key, d date, at timestamptz, i interval, f float8,
           b bytea, r tstzrange, m money[]);
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world
        .database
        .run(
            r"set datestyle = 'German'; set timezone = 'Asia/Tokyo'; set intervalstyle = 'iso_8601';
             set extra_float_digits = -5; set bytea_output = 'escape';
             insert into notes values (1, '29.02.2024', '2024-07-01 12:00:00+00', '1 day 02:00:00',
               0.30000000000000004, '\x00ff', '[2024-07-01 12:00:00+00,)', '{1.5}')",
        )
        .await?;
    assert_eq!(
        world.settled(&mut client).await?[0]["record"],
        json!({"id": 1, "d": "2024-02-29", "at": "2024-07-01T12:00:00+00:00", "i": "1 day 02:00:00",
               "f": 0.300_000_000_000_000_04, "b": "00ff", "r": "[\"2024-07-01 12:00:00+00\",)",
               "m": ["$1.50"]})
    );
    world.end().await
}

/// PostgreSQL 14 sends the byte as it is, which is no UTF-8; nobody can ask it about such a value,
/// so a policy that reads the column hides the row there.
#[tokio::test]
async fn a_char_that_is_not_ascii_is_escaped() -> Result<()> {
    let world = World::new(
        "not_ascii",
        r#"create table notes (id int primary key, c "char", n int);
         create table guarded (like notes including all);
         alter table guarded enable row level security;
         create policy p on guarded for select using (c <> 'x');
         create table elsewhere (like notes including all);
         alter table elsewhere enable row level security;
         create policy p on elsewhere for select using (n / 2 = 1);
         alter publication supabase_realtime add table notes, guarded, elsewhere;"#,
    )
    .await?;
    let major = walcast_tests::Postgres::shared().await?.major();
    for (table, is_shown) in [("notes", true), ("guarded", major >= 15), ("elsewhere", true)] {
        let mut client = world.listener(&Token::anon(), table).await?;
        let rows = format!(
            r#"insert into {table} values (1, 'a', 2);
             insert into {table} values (2, 'é'::text::"char", 2)"#
        );
        world.database.run(&rows).await?;
        let changes = world.settled(&mut client).await?;
        let records: Vec<_> = changes.iter().map(|data| data["record"].clone()).collect();
        let mut expected = vec![json!({"id": 1, "c": "a", "n": 2})];
        expected.extend(is_shown.then(|| json!({"id": 2, "c": r"\303", "n": 2})));
        assert_eq!(records, expected, "{table}");
    }
    world.end().await
}

/// A published table per case, with the case's type after `columns`.
fn tables(columns: &str) -> String {
    let table = |(number, (type_name, ..)): (usize, &(&str, &str, &str, &str))| {
        format!(
            "create table case_{number} ({columns} {type_name});
             alter publication supabase_realtime add table case_{number};"
        )
    };
    CASES.iter().enumerate().map(table).collect()
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// A client that is subscribed to everything.
async fn wildcard(world: &World) -> Result<Client> {
    let bindings = json!([{"event": "*", "schema": "public"}]);
    world.listener_to(&Token::service_role(), &bindings).await
}

/// The `data` of all changes of the cases' tables with every digit of their numbers.
async fn exactly(world: &World, client: &mut Client) -> Result<Vec<Json>> {
    let mut found = Vec::new();
    for message in world.settled_messages(client).await? {
        let payload = Json::parse(&message.payload_text)?;
        let data = payload.member("data").context("a change without data")?;
        if data.member("table").and_then(Json::as_str) != Some("marks") {
            found.push(data.clone());
        }
    }
    Ok(found)
}
