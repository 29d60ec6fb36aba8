//! What a world holds beside its tables: types, functions, and traps.

use super::random::Random;

/// Types, functions and the table `members`; every world has them.
pub const ALL: &[&str] = &[
    "create schema \"Odd Schema\"",
    // Its labels are neither created nor numbered in their order.
    "create type public.mood as enum ('low', 'Quoted Label')",
    "alter type public.mood add value 'high' before 'Quoted Label'",
    "alter type public.mood add value 'mid' before 'high'",
    "alter type public.mood add value 'ä'",
    "create domain public.idomain as int4 check (value > -1000)",
    "create domain public.tdomain as text check (length(value) < 40)",
    "create domain public.udomain as uuid",
    "create domain public.vdomain as varchar(4)",
    "create domain public.ddomain as public.idomain check (value < 1000)",
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

/// A function of PostgreSQL's that only some may run, among them walcast, which reads the catalogue.
macro_rules! revoked {
    ($function:literal) => {
        concat!(
            "revoke execute on function pg_catalog.",
            $function,
            " from public; grant execute on function pg_catalog.",
            $function,
            " to walcast, anon"
        )
    };
}

/// Traps; some worlds have one or two of them.
const TRAPS: &[&[&str]] = &[
    // The usual way from a label to its text is another.
    &[
        "create function public.mood_text(mood public.mood) returns text language sql immutable as \
           $$ select case mood when 'low' then 'a' else 'b' end $$",
        "create cast (public.mood as text) with function public.mood_text(public.mood)",
    ],
    // Operators and functions named like PostgreSQL's: where `public` comes first, they are meant.
    &[
        "create function public.other(a jsonb, b text) returns text language sql immutable as \
           $$ select 'a11ce000-0000-4000-8000-000000000001'::text $$",
        "create operator public.->> (leftarg = jsonb, rightarg = text, function = public.other)",
    ],
    &[
        "create function public.current_setting(a text, b boolean) returns text language sql stable as \
         $$ select '{\"sub\": \"b0b00000-0000-4000-8000-000000000002\"}'::text $$",
    ],
    &[
        "create function public.differ(a text, b text) returns boolean language sql immutable as \
           $$ select pg_catalog.textne(a, b) $$",
        "create operator public.= (leftarg = text, rightarg = text, function = public.differ)",
    ],
    &[
        "create function public.differ(a uuid, b uuid) returns boolean language sql immutable as \
           $$ select pg_catalog.uuid_ne(a, b) $$",
        "create operator public.= (leftarg = uuid, rightarg = uuid, function = public.differ)",
    ],
    // Not everybody sees every member.
    &[
        "alter table public.members enable row level security",
        "create policy own on public.members for select using (user_id = auth.uid() or org_id = 7)",
    ],
    &[
        "create table public.more_members () inherits (public.members)",
        "insert into public.more_members values \
           ('ca401000-0000-4000-8000-00000000000c', 1, 'member')",
    ],
    &["grant select on public.members to public"],
    // Not everybody may run everything.
    &["revoke execute on function auth.uid() from public; \
       grant execute on function auth.uid() to authenticated, oracle_owner"],
    &["revoke execute on function auth.jwt() from public; \
       grant execute on function auth.jwt() to anon, oracle_member"],
    &[revoked!("uuid_eq(uuid, uuid)")],
    &[revoked!("jsonb_object_field_text(jsonb, text)")],
    &[revoked!("numeric_eq(numeric, numeric)")],
    &[revoked!("textlike(text, text)")],
    &[revoked!("bpchareq(bpchar, bpchar)")],
    &[revoked!("timestamptz_gt(timestamptz, timestamptz)")],
];

/// `alter database … set`.
const SETTINGS: &[&str] = &[
    "timezone = 'America/New_York'",
    "timezone = 'Asia/Kolkata'",
    "datestyle = 'ISO, DMY'",
    "datestyle = 'German'",
    "datestyle = 'SQL, MDY'",
    "intervalstyle = 'iso_8601'",
    "extra_float_digits = 0",
    "extra_float_digits = -2",
    "extra_float_digits = 3",
    "bytea_output = 'escape'",
    "standard_conforming_strings = off",
    "quote_all_identifiers = on",
    "transform_null_equals = on",
    "search_path = \"Odd Schema\", public, auth",
    "search_path = public, pg_catalog",
    "search_path = public, pg_catalog",
    "\"request.jwt.claim.sub\" = 'ca401000-0000-4000-8000-00000000000c'",
    "\"request.jwt.claim.role\" = 'admin'",
    "\"request.jwt.claim\" = '{\"sub\": \"ca401000-0000-4000-8000-00000000000c\"}'",
];

/// The settings of a world; most have none.
pub fn settings(random: &mut Random) -> Vec<&'static str> {
    let count = if random.chance(45) { random.between(1, 3) } else { 0 };
    random.sample(SETTINGS, count)
}

/// The traps of a world; most have none.
pub fn traps(random: &mut Random) -> Vec<&'static str> {
    let count = if random.chance(50) { random.between(1, 2) } else { 0 };
    random.sample(TRAPS, count).concat()
}
