//! A world: a database with tables that share their rows, each with policies of its own.

use super::{
    audiences::{Asking, NAMED, audiences},
    grammar::{Column, Expression, Grammar},
    random::Random,
    realistic,
    values::{KINDS, Kind, identifier, kind_of, quoted},
};

/// How much a world holds.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Tables, each with its own policies.
    pub tables: usize,
    /// Rows of every table.
    pub rows: usize,
    /// Audiences of the world.
    pub audiences: usize,
    /// Audiences that look at one table.
    pub looks: usize,
    /// Filters.
    pub filters: usize,
}

/// Everything about a world, from its seed alone.
#[derive(Debug)]
pub struct World {
    /// The seed.
    pub seed: u64,
    /// `alter database` statements without their first words.
    pub settings: Vec<&'static str>,
    /// Types, functions and the table `members`.
    pub objects: Vec<String>,
    /// How the functions of schema `auth` come about.
    pub auth: Auth,
    /// The columns that expressions may read; not the key `id`.
    pub columns: Vec<Column>,
    /// The table the others are copies of.
    pub base: String,
    /// One statement per row.
    pub rows: Vec<String>,
    /// The tables.
    pub tables: Vec<TablePlan>,
    /// Who asks.
    pub audiences: Vec<Asking>,
}

/// A table.
#[derive(Debug)]
pub struct TablePlan {
    /// Schema and name as SQL writes them.
    pub name: String,
    /// The statements after the table was created, but for its policies.
    pub alterations: Vec<String>,
    /// Its policies.
    pub policies: Vec<PolicyPlan>,
    /// Positions in [`World::audiences`].
    pub looks: Vec<usize>,
}

/// A policy.
#[derive(Clone, Debug)]
pub struct PolicyPlan {
    /// Everything up to the condition.
    pub head: String,
    /// The condition.
    pub condition: Expression,
    /// `using` or `with check`.
    pub clause: &'static str,
}

impl PolicyPlan {
    /// The statement.
    pub fn sql(&self) -> String {
        format!("{} {} ({})", self.head, self.clause, self.condition.sql)
    }
}

/// Where `auth.uid()` and its like come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Auth {
    /// `walcast migrate`
    Migrated,
    /// Supabase's definitions.
    Supabase,
    /// The prelude of these tests, as early Supabase projects have them.
    Prelude,
    /// Something of the user's own under these names.
    OwnWords,
}

const SUPABASE: &str = "
create or replace function auth.uid() returns uuid language sql stable as $$
  select
  coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
  )::uuid
$$;
create or replace function auth.role() returns text language sql stable as $$
  select
  coalesce(
    nullif(current_setting('request.jwt.claim.role', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
  )::text
$$;
create or replace function auth.email() returns text language sql stable as $$
  select
  coalesce(
    nullif(current_setting('request.jwt.claim.email', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email')
  )::text
$$;
create or replace function auth.jwt() returns jsonb language sql stable as $$
  select
    coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
    )::jsonb
$$;";

const OWN_WORDS: &str = "
create or replace function auth.uid() returns uuid language sql stable as
  $$ select '00000000-0000-0000-0000-000000000000'::uuid $$;
create or replace function auth.role() returns text language plpgsql stable as
  $$ begin return upper(auth.jwt() ->> 'role'); end $$;
create or replace function auth.email() returns text language sql immutable as
  $$ select 'alice@example.com' $$;";

const PRELUDE: &str = "
create function auth.email() returns text language sql stable
  as $$ select auth.jwt() ->> 'email' $$;";

const OBJECTS: &[&str] = &[
    "create schema \"Odd Schema\"",
    "create type public.mood as enum ('low', 'mid', 'high', 'Quoted Label', 'ä')",
    "create domain public.idomain as int4 check (value > -1000)",
    "create domain public.tdomain as text check (length(value) < 40)",
    "create domain public.udomain as uuid",
    "create table public.members (user_id uuid, org_id int8, role text)",
    "insert into public.members values ('a11ce000-0000-4000-8000-000000000001', 1, 'admin'), \
       ('a11ce000-0000-4000-8000-000000000001', 42, 'member'), \
       ('b0b00000-0000-4000-8000-000000000002', 2, 'member'), (null, 7, 'a'), \
       ('ca401000-0000-4000-8000-00000000000c', null, null)",
    "create function public.is_member(org int8) returns boolean language sql stable security definer as \
       $$ select exists (select from public.members m where m.org_id = org and m.user_id = auth.uid()) $$",
    "create function public.same(a text, b text) returns boolean language sql immutable strict as \
       $$ select a = b $$",
    "create function public.same_text(a text, b text) returns boolean language plpgsql volatile as \
       $$ begin if a = 'b' then raise exception 'b'; end if; return a is not distinct from b; end $$",
    "create function public.whole_row(a anyelement) returns boolean language sql immutable as \
       $$ select a is not null $$",
    "create function public.flip(a boolean) returns boolean language sql as $$ select not a $$",
    "create function public.lower(a varchar) returns varchar language sql immutable as $$ select 'low' $$",
    "create function public.uid() returns uuid language sql stable as \
       $$ select 'b0b00000-0000-4000-8000-000000000002'::uuid $$",
    "create function public.current_org() returns int8 language sql stable as \
       $$ select (auth.jwt() ->> 'org_id')::int8 $$",
    "create function public.equals(a uuid, b text) returns boolean language sql immutable as \
       $$ select a::text <> b $$",
    "create operator public.= (leftarg = uuid, rightarg = text, function = public.equals)",
    "create function public.mood_number(mood public.mood) returns int4 language sql immutable as \
       $$ select case mood when 'low' then 1 when 'mid' then 7 else 42 end $$",
    "create cast (public.mood as int4) with function public.mood_number(public.mood)",
    "create schema oracle",
    super::truth::BY_ROW,
];

/// Hijacks the usual way from a label to its text.
const MOOD_CAST: &[&str] = &[
    "create function public.mood_text(mood public.mood) returns text language sql immutable as \
       $$ select case mood when 'low' then 'a' else 'b' end $$",
    "create cast (public.mood as text) with function public.mood_text(public.mood)",
];

#[rustfmt::skip]
const SETTINGS: &[&str] = &[
    "timezone = 'America/New_York'", "timezone = 'Asia/Kolkata'", "datestyle = 'ISO, DMY'",
    "datestyle = 'German'", "datestyle = 'SQL, MDY'", "intervalstyle = 'iso_8601'",
    "extra_float_digits = 0", "extra_float_digits = -2", "extra_float_digits = 3",
    "bytea_output = 'escape'", "standard_conforming_strings = off", "quote_all_identifiers = on",
    "transform_null_equals = on", "search_path = \"Odd Schema\", public, auth",
];

/// Columns that every world has, for [`realistic::SETS`].
const USUAL: &[(&str, &str)] = &[
    ("user_id", "uuid"),
    ("org_id", "int8"),
    ("status", "text"),
    ("is_public", "bool"),
    ("meta", "jsonb"),
    ("tags", "texts"),
    ("created_at", "timestamptz"),
    ("price", "price"),
    ("email", "text"),
    ("visibility", "mood"),
];

const ODD_NAMES: &[&str] =
    &["select", "User Id", "current_user", "ünï", "a\"b", "uid", "value", "it's", "user", "role"];

impl World {
    /// The world of a seed. `has_icu` says whether there are collations that are not deterministic.
    pub fn new(seed: u64, size: Size, has_icu: bool) -> Self {
        let mut random = Random::new(seed);
        let random = &mut random;
        let n_settings = if random.chance(35) { random.between(1, 3) } else { 0 };
        let settings = random.sample(SETTINGS, n_settings);
        let auth = *random.pick(&[
            Auth::Migrated,
            Auth::Migrated,
            Auth::Migrated,
            Auth::Supabase,
            Auth::Supabase,
            Auth::Prelude,
            Auth::OwnWords,
        ]);
        let mut objects: Vec<String> = OBJECTS.iter().map(|sql| (*sql).to_owned()).collect();
        if random.chance(20) {
            objects.extend(MOOD_CAST.iter().map(|sql| (*sql).to_owned()));
        }
        if has_icu {
            let sql = "create collation public.nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";
            objects.push(sql.to_owned());
        }
        let columns = columns(random);
        let base = base(&columns, has_icu);
        let rows = (1..=size.rows).map(|id| row(id, &columns, random)).collect();
        let audiences = audiences(random, size.audiences);
        let positions: Vec<usize> = (0..audiences.len()).collect();
        let tables = (0..size.tables)
            .map(|number| {
                let mut table = table(number, &columns, random);
                table.looks = random.sample(&positions, size.looks);
                table
            })
            .collect();
        Self { seed, settings, objects, auth, columns, base, rows, tables, audiences }
    }

    /// What replaces the functions that the template has, beside the migration.
    pub fn auth_sql(&self) -> String {
        match self.auth {
            Auth::Migrated => "drop schema auth cascade".to_owned(),
            Auth::Supabase => format!("{PRELUDE}{SUPABASE}"),
            Auth::Prelude => PRELUDE.to_owned(),
            Auth::OwnWords => format!("{PRELUDE}{OWN_WORDS}"),
        }
    }

    /// Everything that was run to make one of its tables, to be read.
    pub fn script(&self, database: &str, table: &TablePlan) -> String {
        let mut script = Vec::new();
        script.extend(
            self.settings.iter().map(|setting| format!("alter database {database} set {setting}")),
        );
        script.push(format!("-- auth: {:?}", self.auth));
        script.push(self.auth_sql());
        script.extend(self.objects.iter().filter(|sql| !sql.contains("oracle")).cloned());
        script.push(self.base.clone());
        script.push(format!("create table {} (like public.base including all)", table.name));
        script.extend(table.alterations.iter().cloned());
        script.extend(table.policies.iter().map(PolicyPlan::sql));
        script.join(";\n") + ";"
    }
}

fn columns(random: &mut Random) -> Vec<Column> {
    let column = |name: &str, kind: &'static str| Column { name: identifier(name), kind };
    let mut columns: Vec<Column> = USUAL.iter().map(|(name, kind)| column(name, kind)).collect();
    let others: Vec<&Kind> = KINDS.iter().collect();
    let names = random.sample(ODD_NAMES, 3);
    let count = random.between(9, 13);
    for (number, kind) in random.sample(&others, count).into_iter().enumerate() {
        let plain = format!("c_{}", kind.key);
        columns.push(column(names.get(number).copied().unwrap_or(&plain), kind.key));
    }
    // A second one of some kinds, so that columns meet.
    for kind in random.sample(&["text", "int4", "bool", "jsonb", "timestamp", "varchar"], 2) {
        columns.push(column(&format!("d_{kind}"), kind));
    }
    random.sample(&columns, columns.len())
}

fn base(columns: &[Column], has_icu: bool) -> String {
    let columns = columns.iter().map(|Column { name, kind }| {
        let collate = if *kind == "ndtext" && has_icu { " collate public.nd" } else { "" };
        format!(", {name} {}{collate}", kind_of(kind).column_type)
    });
    format!("create table public.base (id int4 primary key{})", columns.collect::<String>())
}

fn row(id: usize, columns: &[Column], random: &mut Random) -> String {
    // Mostly full rows, and some that are nearly empty.
    let percent_null = *random.pick(&[0, 10, 10, 10, 30, 90]);
    let values = columns.iter().map(|column| {
        if random.chance(percent_null) {
            return ", null".to_owned();
        }
        let kind = kind_of(column.kind);
        let text = match column.name.as_str() {
            "\"email\"" if random.chance(80) => (*random.pick(super::values::EMAILS)).to_owned(),
            "\"status\"" if random.chance(70) => {
                (*random.pick(&["draft", "published", "admin"])).to_owned()
            }
            _ => kind.text(random),
        };
        let cast = if kind.key == "bpchar" { "char(5)" } else { kind.cast };
        format!(", {}::{cast}", quoted(&text))
    });
    format!("insert into public.base values ({id}{})", values.collect::<String>())
}

fn table(number: usize, columns: &[Column], random: &mut Random) -> TablePlan {
    let name = match random.below(10) {
        0 => format!("\"Odd Schema\".\"Table {number}\""),
        1 => format!("public.\"T'{number}\""),
        _ => format!("public.t{number}"),
    };
    let mut alterations = Vec::new();
    if random.chance(96) {
        alterations.push(format!("alter table {name} enable row level security"));
    }
    if random.chance(25) {
        alterations.push(format!("alter table {name} force row level security"));
    }
    if random.chance(40) {
        alterations.push(format!("alter table {name} owner to oracle_owner"));
    }
    let policies = policies(&name, columns, random);
    TablePlan { name, alterations, policies, looks: Vec::new() }
}

fn policies(table: &str, columns: &[Column], random: &mut Random) -> Vec<PolicyPlan> {
    let head = |number: usize, kind: &str, command: &str, roles: &str| {
        format!("create policy p{number} on {table} as {kind} for {command} to {roles}")
    };
    if random.chance(30) {
        let set = *random.pick(realistic::SETS);
        let plans = set.iter().enumerate().map(|(number, (roles, kind, command, condition))| {
            let sql = condition.replace("$table", table);
            PolicyPlan {
                head: head(number, kind, command, roles),
                condition: Expression { sql, parts: Vec::new() },
                clause: if *command == "insert" { "with check" } else { "using" },
            }
        });
        return plans.collect();
    }
    let beyond_percent = *random.pick(&[0, 0, 0, 0, 20, 50]);
    let grammar = Grammar { table, columns, beyond_percent };
    let mut kinds = vec!["permissive"; *random.pick(&[1, 1, 1, 1, 2, 3])];
    kinds.extend(vec!["restrictive"; *random.pick(&[0, 0, 0, 1, 1, 2])]);
    let plans = kinds.into_iter().enumerate().map(|(number, kind)| {
        let command = *random.pick(&["select", "select", "all"]);
        let roles = if random.chance(65) {
            "public".to_owned()
        } else {
            let n_roles = random.between(1, 2);
            random.sample(NAMED, n_roles).join(", ")
        };
        let budget = *random.pick(&[0, 1, 1, 2, 2, 3]);
        let condition = if random.chance(2) {
            grammar.large_condition(random)
        } else {
            grammar.condition(random, budget)
        };
        PolicyPlan { head: head(number, kind, command, &roles), condition, clause: "using" }
    });
    plans.collect()
}
