-- Changes of definitions put a message into the log; nobody's statement fails because of it.
begin;
set local client_min_messages = error;
drop event trigger if exists walcast_ddl;
drop event trigger if exists walcast_drop;
drop schema if exists walcast cascade;

-- A role that may not create event triggers is told what is lost, and nothing is left behind.
create role walcast_sql_test;
grant create on schema public to walcast_sql_test;
savepoint nothing_there;
do $$ begin execute format('grant create on database %I to walcast_sql_test', current_database()); end $$;
set local role walcast_sql_test;
\set ECHO none
\ir ../objects/00_report.sql
\ir ../objects/40_announce_ddl.sql
\set ECHO all
select current_setting('walcast.report');
select to_regnamespace('walcast');
reset role;

-- A function that somebody without superuser put there is never called.
set local role walcast_sql_test;
create schema walcast;
create function walcast.announce_ddl() returns event_trigger language plpgsql as $$ begin end $$;
reset role;
select set_config('walcast.report', '', true);
\set ECHO none
\ir ../objects/40_announce_ddl.sql
\set ECHO all
select current_setting('walcast.report');
select count(*) from pg_event_trigger where evtname like 'walcast%';
rollback to savepoint nothing_there;

-- A superuser creates them, once.
select set_config('walcast.report', '', true);
\set ECHO none
\ir ../objects/00_report.sql
\ir ../objects/40_announce_ddl.sql
\set ECHO all
select current_setting('walcast.report');
select set_config('walcast.report', '', true);
\set ECHO none
\ir ../objects/40_announce_ddl.sql
\set ECHO all
select current_setting('walcast.report');
select evtname, evtevent, evtenabled, evtfoid::regprocedure, obj_description(oid, 'pg_event_trigger')
from pg_event_trigger where evtname like 'walcast%' order by evtname;
select prosecdef, proconfig, proacl = array[format('%1$s=X/%1$s', proowner::regrole)::aclitem] as is_private
from pg_proc where oid = 'walcast.announce_ddl()'::regprocedure;

-- Everybody's statements go through, whatever may be wrong with the message.
do $$
declare emit regprocedure;
begin
  for emit in select oid from pg_proc where proname = 'pg_logical_emit_message' loop
    execute format('revoke execute on function %s from public', emit);
  end loop;
end
$$;
set local role walcast_sql_test;
create table public.walcast_sql_test (id int);
alter table public.walcast_sql_test enable row level security;
create temporary table walcast_sql_test_2 (id int) on commit drop;
drop table walcast_sql_test_2;
drop table public.walcast_sql_test;
reset role;
create or replace function walcast.announce_ddl() returns event_trigger
language plpgsql security definer set search_path = ''
as $$ begin perform 1 / 0; exception when others then return; end $$;
create table public.walcast_sql_test (id int);
drop table public.walcast_sql_test;
rollback;
