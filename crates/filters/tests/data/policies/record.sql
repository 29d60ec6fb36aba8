-- Records how PostgreSQL stores policies and what they say: psql -XqAt -f record.sql > 15.json
-- In an empty database of a server of one's own; every expression is evaluated for every row and
-- all claims. 't', 'f', 'n' (NULL), 'e' (an error) in that order.
\set ON_ERROR_STOP 1
set client_min_messages = error;
begin;
create role policies_reader;
create schema auth;
create type mood as enum ('sad', 'ok', 'happy');
create domain positive as int check (value > 0);
create collation nd (provider = icu, locale = 'und', deterministic = false);
create function auth.jwt() returns jsonb language sql stable set search_path = ''
as $$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;
create function auth.uid() returns uuid language sql stable set search_path = ''
as $$ select (nullif(auth.jwt() ->> 'sub', ''))::uuid $$;
create function auth.role() returns text language sql stable set search_path = ''
as $$ select auth.jwt() ->> 'role' $$;
create function auth.email() returns text language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.email', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email')
  )::text
$$;
create function is_member(uuid) returns boolean language sql stable as 'select true';
create function public.uid() returns uuid language sql stable as 'select null::uuid';
create table t (
    id bigint, i4 int, i2 smallint, u uuid, body text, v varchar(20), b boolean, m mood, p positive,
    j jsonb, js json, tags text[], n numeric, d date, ts timestamp, tz timestamptz, f double precision,
    c char(4), nm name, ids int[], r real, o oid, tm time, w text collate nd, moods mood[], box box
);
create table other (id bigint, u uuid);
alter table t enable row level security;
grant usage on schema auth, public to policies_reader;
grant select on t, other to policies_reader;

create temp table expressions (position int generated always as identity, using_text text, is_decided boolean);
insert into expressions (using_text, is_decided) values
    -- Who asks.
    ('auth.uid() = u', true),
    ('(select auth.uid()) = u', true),
    ('u = auth.uid() or b', true),
    ('u is not distinct from auth.uid()', true),
    ('auth.uid() is not null', true),
    ('auth.role() = ''authenticated''', true),
    ('(select auth.email()) = body', true),
    ('auth.jwt() ->> ''org'' = body', true),
    ('(auth.jwt() -> ''app'' ->> ''n'')::int = i4', true),
    ('((auth.jwt() -> ''app'') ->> ''admin'')::boolean', true),
    ('(auth.jwt() #>> ''{app,n}'')::bigint = id', true),
    ('(auth.jwt() -> ''app'' -> ''admin'')::boolean', true),
    ('(auth.jwt() -> ''app'' -> ''n'')::int > 3', true),
    ('(auth.jwt() -> ''role'')::text = ''"authenticated"''', true),
    ('auth.jwt() ? ''org''', true),
    ('auth.jwt() -> ''app'' @> ''{"admin": true}''', true),
    ('auth.jwt() -> ''app'' -> ''list'' ? body', true),
    ('(auth.jwt() -> ''app'' -> ''list'' ->> 0) = body', true),
    ('current_setting(''request.jwt.claims'', true)::json ->> ''sub'' = u::text', true),
    ('(current_setting(''request.jwt.claims'')::jsonb ->> ''sub'')::uuid = u', true),
    ('nullif(current_setting(''request.jwt.claim.sub'', true), '''')::uuid = u', true),
    ('coalesce(nullif(current_setting(''request.jwt.claim.sub'', true), ''''), auth.jwt() ->> ''sub'')::uuid = u', true),
    ('current_user = ''policies_reader''', true),
    ('current_role = body', true),
    ('current_user::text = body or user = nm', true),
    ('body = ''room:'' || (auth.jwt() ->> ''org'')', true),
    ('m = (auth.jwt() ->> ''org'')::mood', true),
    -- Comparing.
    ('body = ''abc'' and v in (''x'', ''y'') or not b', true),
    ('id between 1 and 10', true),
    ('id = i4 and i2 < i4 and i4 >= id', true),
    ('i4 = any (ids)', true),
    ('i4 <> all (array[1, 2, null])', true),
    ('body = any (tags)', true),
    ('v = any (tags)', true),
    ('''abc'' = any (tags) is true', true),
    ('body = any (''{abc,b}'')', true),
    ('body in (''abc'', auth.jwt() ->> ''org'')', true),
    ('u in (auth.uid(), ''00000000-0000-0000-0000-000000000001'')', true),
    ('m = ''happy''', true),
    ('m in (''ok'', ''happy'')', true),
    ('m = any (''{ok,sad}'')', true),
    ('m = any (moods)', true),
    ('m > ''sad''', true),
    ('m::text = body', true),
    ('p > 3', true),
    ('n = 1.5', true),
    ('n > -12345678901234567890.000123', true),
    ('n = any (''{1.50,NaN,0,1000000}'')', true),
    ('n = i4', true),
    ('d > ''2024-01-01''', true),
    ('d = any (''{2024-02-29,infinity}'')', true),
    ('ts >= ''1999-12-31 23:59:59.999999''', true),
    ('tz is distinct from ''2024-01-01 00:00:00+00''', true),
    ('tz < ''infinity''', true),
    ('tm = ''12:34:56''', true),
    ('f = ''NaN''', true),
    ('f > 0.1 and r <= 1.5', true),
    ('f = r', true),
    ('c = ''ab''', true),
    ('c::text = ''ab''', true),
    ('nm = ''abc''', true),
    ('o = 5', true),
    ('b = true', true),
    ('b is true', true),
    ('b is not false', true),
    ('b is unknown', true),
    ('(body = ''abc'') is not true', true),
    ('box is null', true),
    ('m is not null and js is not null', true),
    ('body <> ''abc'' and not (id > 3)', true),
    ('not (b and body = ''abc'')', true),
    -- Texts.
    ('body like ''a%''', true),
    ('body not like ''%b_''', true),
    ('v like body', true),
    ('body ilike ''A%''', true),
    ('lower(body) = ''abc''', true),
    ('upper(v) = ''X''', true),
    ('length(body) > 3', true),
    ('body || v = ''abcx''', true),
    ('starts_with(body, ''a'')', true),
    ('body::int = 7', true),
    ('body::uuid = u', true),
    ('id::text = body', true),
    ('u::text = body', true),
    ('b::text = ''true''', true),
    ('body::boolean', true),
    ('body::jsonb ->> ''a'' = ''1''', true),
    -- JSON.
    ('j ->> ''a'' = ''1''', true),
    ('j -> ''a'' = ''1''', true),
    ('j -> ''o'' ->> ''p'' = ''q''', true),
    ('(j -> ''o'')::text = ''{"p": "q"}''', true),
    ('j #>> ''{l,1}'' = ''2''', true),
    ('j #> ''{l,-1}'' = ''"x"''', true),
    ('j -> ''l'' -> 0 = ''1.0''', true),
    ('j -> 0 is null', true),
    ('j ? ''a''', true),
    ('j ?| ''{z,a}''', true),
    ('j ?& array[''a'', ''l'']', true),
    ('j @> ''{"a":1}''', true),
    ('j @> ''{"l":[2,"x"],"o":{}}''', true),
    ('''{"a":1,"b":[true,null,-0.5,1e3],"c":{"d":"é\"\\"}}'' @> j', true),
    ('j <@ ''{"a":1}''', true),
    ('j @> ''"x"''', true),
    ('j = ''{"a": 1.0}''', true),
    ('js ->> ''a'' = ''1''', true),
    ('js -> ''o'' ->> ''p'' = ''q''', true),
    ('js #>> ''{l,0}'' = ''1''', true),
    ('js ->> ''n'' is null', true),
    ('j ->> ''n'' is null', true),
    ('(j ->> ''a'')::int + 1 = i4', true),
    ('jsonb_extract_path_text(j, ''o'', ''p'') = ''q''', true),
    -- Logic and arithmetic.
    ('case body when ''abc'' then b when ''7'' then true else false end', true),
    ('case when id > 3 then b when b is null then true end', true),
    ('coalesce(v, ''x'') = ''x''', true),
    ('coalesce(b, id > 3, true)', true),
    ('nullif(body, '''') is not null', true),
    ('i4 + 1 = 8', true),
    ('i4 * 1000000 > 0', true),
    ('10 / i4 > 1', true),
    ('i2 % 2 = 1', true),
    ('-id < 0', true),
    ('(i4 + i2)::bigint = id', true),
    ('id::int = 7', true),
    ('i4::float8 = f', true),
    ('b or body::int = 7', true),
    ('body::int = 7 or b', true),
    ('b and body::int = 7', true),
    ('not (b or body::int = 7)', true),
    ('b or (auth.jwt() ->> ''org'')::int = 7', true),
    ('false and body::int = 7', true),
    ('body::int = 7 and false', true),
    ('(body::int = 7 and false) or true', true),
    ('body::int + null = 7', true),
    ('true', true),
    ('b and null', true),
    ('exists (select 1) is null and b', false),
    -- Left to PostgreSQL.
    ('is_member(u)', false),
    ('public.uid() = u', false),
    ('u in (select other.u from other where other.id = t.id)', false),
    ('u = (select auth.uid() from other limit 1)', false),
    ('b and is_member(u)', false),
    ('b or is_member(u)', false),
    ('body ~ ''^a''', false),
    ('body ~ (auth.jwt() ->> ''org'')', false),
    ('body < ''b''', false),
    ('body collate "C" < ''b''', false),
    ('w = ''abc''', false),
    ('tz < now()', false),
    ('d < ts', false),
    ('t is not null', false),
    ('t = t', false),
    ('tableoid > 0', false),
    ('b or 1 / 0 = 1', false),
    ('session_user = ''x''', false),
    ('current_setting(''app.tenant'', true) = body', false),
    ('current_setting(body, true) = ''x''', false),
    ('tags @> ''{a}''', false),
    ('box = box', false),
    ('(body::positive) > 1', false),
    ('b and (body like ''a\'')', false);

create temp table images (position int generated always as identity, image text);
insert into images (image) values
    ('(7,7,3,00000000-0000-4000-8000-000000000001,abc,x,t,happy,4,"{""a"": 1, ""l"": [1, 2, ""x""], ""n"": null, ""o"": {""p"": ""q""}}","{""a"":1,""l"":[1,2],""n"":null,""o"":{""p"":""q""}}","{abc,b}",1.50,2024-02-29,2024-01-01 10:00:00,2024-01-01 00:00:00+00,0.5,ab,abc,"{7,8}",1.5,5,12:34:56,abc,"{ok,happy}","(1,1),(0,0)")'),
    ('(1,2147483647,0,00000000-0000-4000-8000-000000000002,7,Y,f,sad,1,"{""a"": ""1""}","{ ""a"" : ""x"" }","{NULL,7}",NaN,infinity,-infinity,infinity,NaN,AB,policies_reader,{},0.1,4294967295,24:00:00,ABC,{sad},)'),
    ('(,,,,,,,,,,,,,,,,,,,,,,,,,)'),
    ('(-3,0,-32768,00000000-0000-0000-0000-000000000001,ABCÉ,,,ok,9,"[""x"", 1]","[1]",{},-0.1,0044-03-15 BC,0001-01-01 00:00:00 BC,1969-12-31 23:59:59+00,0.1,"é",,"{NULL,1}",NaN,0,00:00:00,,"{NULL}",)'),
    ('(7,8,1,00000000-0000-4000-8000-000000000001,room:abc,x,t,ok,3,"""x""","""x""","{""a,b""}",1000000,1999-12-31,1999-12-31 23:59:59.999999,1999-01-01 00:00:00+00,7,,x,"{1}",7,7,01:00:00,x,,)');

create temp table claims (position int generated always as identity, claims text);
insert into claims (claims) values
    ('{"sub":"00000000-0000-4000-8000-000000000001","role":"authenticated","email":"abc","org":"abc","app":{"n":7,"admin":true,"list":["abc","7"]}}'),
    ('{"sub":"00000000-0000-4000-8000-000000000002","role":"anon","org":"7","app":{"n":"7","admin":"yes","list":"abc"}}'),
    ('{"sub":"not a uuid","role":null,"org":"ok","app":{"n":1.5,"admin":null,"list":[]}}'),
    ('{"sub":"","org":"","app":null}'),
    ('{}'),
    (''),
    ('{"sub":1,"org":true,"app":{"n":99999999999,"list":{"abc":1}},"role":["authenticated"]}'),
    ('{"sub":"{00000000000040008000000000000001}","org":"a\u0062c","app":{"n":7,"n":8,"admin":false}}'),
    ('[1]'),
    ('no json');

create function evaluate(expression text, image text, claims text) returns text language plpgsql as $$
declare
    answer boolean;
begin
    perform set_config('request.jwt.claims', claims, true);
    execute 'set local role policies_reader';
    execute format('select (select (%s) from unnest(array[$1::t]) as t)', expression)
        into answer using image;
    execute 'reset role';
    return coalesce(left(answer::text, 1), 'n');
exception when others then
    return 'e';
end
$$;
create function cell(image text, column_name name) returns text language plpgsql as $$
declare
    answer text;
begin
    execute format('select (%L::t).%I::text', image, column_name) into answer;
    -- As the stream has it, which is what the output function gives.
    return case when column_name = 'b' then left(answer, 1)
        when column_name = 'c' then rpad(answer, 4) else answer end;
end
$$;
set local datestyle = 'ISO';
set local timezone = 'UTC';

do $$
declare
    expression record;
begin
    for expression in select * from expressions loop
        execute format('create policy %I on t using (%s)', 'p' || expression.position, expression.using_text);
    end loop;
end
$$;

set local search_path = public, pg_temp;
select jsonb_build_object(
    'columns', (
        select jsonb_agg(jsonb_build_array(attname, attnum, atttypid::bigint) order by attnum)
        from pg_attribute where attrelid = 't'::regclass and attnum > 0
    ),
    'types', (
        select jsonb_agg(jsonb_build_array(
            oid::bigint, typname,
            case when typtype = 'e' then 'enum' when typtype = 'd' then 'domain'
                when typsubscript = 'array_subscript_handler'::regproc then 'array' else 'base' end,
            case when typtype = 'd' then typbasetype else typelem end::bigint,
            array(select enumlabel from pg_enum where enumtypid = pg_type.oid order by enumsortorder),
            typdelim
        ) order by oid)
        from pg_type
        where typtype in ('b', 'e', 'd') and (oid < 4100 or typnamespace = 'public'::regnamespace)
    ),
    'enum_labels', (select jsonb_object_agg(oid::text, enumlabel) from pg_enum),
    'nondeterministic', (select jsonb_agg(oid::bigint) from pg_collation where not collisdeterministic),
    'functions', (
        select jsonb_agg(jsonb_build_array(
            function.oid::bigint, nspname, proname, lanname = 'sql' and pronargs = 0,
            provolatile = 'i', prorettype::bigint, coalesce(to_jsonb(proconfig), '[]'), prosrc
        ) order by function.oid)
        from pg_proc as function
        join pg_namespace as namespace on namespace.oid = pronamespace
        join pg_language as language on language.oid = prolang
        where nspname = 'auth' or function.oid::text in (
            select match[1] from pg_policy, regexp_matches(polqual::text, 'funcid (\d+)', 'g') as match
        )
    ),
    'operators', (select jsonb_object_agg(oid::text, oprname) from pg_operator where oid < 4000),
    'rows', (
        select jsonb_agg(
            (
                select jsonb_agg(cell(image, attname) order by attnum)
                from pg_attribute where attrelid = 't'::regclass and attnum > 0
            )
            order by position
        )
        from images
    ),
    'claims', (select jsonb_agg(claims order by position) from claims),
    'policies', (
        select jsonb_agg(jsonb_build_object(
            'using', using_text,
            'is_decided', is_decided,
            'tree', (select polqual::text from pg_policy where polname = 'p' || expressions.position),
            'answers', (
                select string_agg(
                    evaluate(
                        (select pg_get_expr(polqual, polrelid) from pg_policy where polname = 'p' || expressions.position),
                        image, claims
                    ), '' order by images.position, claims.position)
                from images, claims
            )
        ) order by position)
        from expressions
    )
);
rollback;
