-- Applying the objects again changes nothing, and what exists is never replaced.
begin;
set local client_min_messages = error;
drop schema if exists auth cascade;
create schema auth;
create function auth.uid() returns uuid language sql stable
  as $$ select '33333333-3333-4333-8333-333333333333'::uuid $$;
\set ECHO none
\ir include_objects.psql
\set ECHO all
select auth.uid();
select to_regprocedure('auth.jwt()'), to_regprocedure('auth.role()'), to_regprocedure('auth.email()');

-- The second time there is nothing to report.
select set_config('walcast.report', '', true);
\set ECHO none
\ir include_objects.psql
\set ECHO all
select current_setting('walcast.report');

-- The roles: no login, no inheritance; only service_role sees every row.
select rolname, rolcanlogin, rolinherit, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls
from pg_roles where rolname in ('anon', 'authenticated', 'service_role') order by rolname;
rollback;
