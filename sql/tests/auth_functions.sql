-- The functions of schema auth read the claims of the current token.
begin;
set local client_min_messages = error;
drop schema if exists auth cascade;
\set ECHO none
\ir include_objects.psql
\set ECHO all

-- Without a token, and after one was reset, everything is null.
select auth.jwt(), auth.uid(), auth.role(), auth.email();
select set_config('request.jwt.claims', '', true);
select auth.jwt(), auth.uid(), auth.role(), auth.email();

-- A token without claims.
select set_config('request.jwt.claims', '{}', true);
select auth.jwt(), auth.uid(), auth.role(), auth.email();

-- A token of a user.
select set_config(
  'request.jwt.claims',
  '{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated", "email": "a@example.com"}',
  true);
select auth.uid(), auth.role(), auth.email();
select auth.jwt() ->> 'sub' as sub;

-- An empty subject is no user.
select set_config('request.jwt.claims', '{"sub": "", "role": null}', true);
select auth.uid(), auth.role(), auth.email();

-- The roles may call them, and objects of the caller's search path do not get in between.
select set_config('request.jwt.claims', '{"sub": "22222222-2222-4222-8222-222222222222"}', true);
create schema evil;
create function evil.current_setting(text, boolean) returns text
  language sql as $$ select '{"sub": "66666666-6666-4666-8666-666666666666"}' $$;
grant usage on schema evil to anon;
set local search_path = evil, pg_catalog;
set local role anon;
select auth.uid();
reset role;
set local search_path to default;
drop schema evil cascade;

-- A subject that is no uuid is an error, which denies.
select set_config('request.jwt.claims', '{"sub": "somebody"}', true);
do $$
begin
  perform auth.uid();
exception when invalid_text_representation then
  perform set_config('walcast.outcome', 'refused: ' || sqlerrm, true);
end
$$;
select current_setting('walcast.outcome', true) as outcome;

-- What they promise to the planner, and that each is described.
select proname, provolatile, prosecdef, proconfig, obj_description(oid, 'pg_proc')
from pg_proc where pronamespace = 'auth'::regnamespace order by proname;
rollback;
