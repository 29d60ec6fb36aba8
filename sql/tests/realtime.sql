-- Schema realtime: what is created, whom it is granted to, and how messages are sent from SQL.
begin;
set local client_min_messages = error;
\set ECHO none
\ir include_objects.psql
\set ECHO all
select relkind, relrowsecurity, pg_get_userbyid(relowner) as owner from pg_class
where oid = 'realtime.messages'::regclass;
select attname, format_type(atttypid, atttypmod) as type, attnotnull, pg_get_expr(adbin, adrelid)
from pg_attribute left join pg_attrdef on (adrelid, adnum) = (attrelid, attnum)
where attrelid = 'realtime.messages'::regclass and attnum > 0 order by attnum;
select conname, pg_get_constraintdef(oid) from pg_constraint
where conrelid = 'realtime.messages'::regclass and contype in ('p', 'c') order by conname;
select pg_get_indexdef(indexrelid) from pg_index
where indrelid = 'realtime.messages'::regclass order by 1;
select grantee, string_agg(privilege_type, ', ' order by privilege_type)
from information_schema.role_table_grants
where table_schema = 'realtime' and table_name = 'messages'
  and grantee in ('anon', 'authenticated', 'service_role') group by grantee order by grantee;
select rolname, rolcanlogin, rolinherit from pg_roles where rolname = 'supabase_realtime_admin';

-- The server makes the partitions; here one is enough.
create table realtime.messages_all partition of realtime.messages for values from (minvalue) to (maxvalue);
select tablename from pg_publication_tables where pubname = 'supabase_realtime_messages_publication';

-- send: an id is added to an object that has none, and is the row's.
set local client_min_messages = warning;
select realtime.send('{"a": 1}', 'greet', 'room');
select realtime.topic();
select realtime.send('{"id": null}', 'greet', 'room', false);
select topic, extension, event, private, payload - 'id' as payload, payload -> 'id' = to_jsonb(id) as is_id
from realtime.messages order by private desc;
delete from realtime.messages;

-- NULLs are inserted.
select realtime.send(null, null, 'nulls', null);
select topic, event, private, payload, binary_payload from realtime.messages;
delete from realtime.messages;

-- Anything wrong is a warning, and the row is not there.
\set VERBOSITY terse
select realtime.send('[1]', 'greet', 'room');
select realtime.send('7', 'greet', 'room');
select realtime.send('{}', 'greet', null);
select count(*) from realtime.messages;

-- Two megabytes, and a topic with all that must be quoted.
select realtime.send(jsonb_build_object('long', repeat('x', 2000000)), 'long', E'it''s \\ "a" topic');
select topic, length(payload::text) > 2000000 as is_long, realtime.topic() from realtime.messages;
delete from realtime.messages;

-- Bytes.
select realtime.send_binary('\x00ff', 'bytes', 'room', false);
select realtime.send_binary('\x', 'bytes', null);
select topic, extension, event, private, payload, binary_payload from realtime.messages;
delete from realtime.messages;

-- Row-level security applies to the caller.
set local role authenticated;
select realtime.send('{}', 'greet', 'room');
select realtime.send_binary('', 'greet', 'room');
reset role;
create policy "may send to room" on realtime.messages for insert to authenticated
  with check ((select realtime.topic()) = 'room' and extension = 'broadcast');
set local role authenticated;
select realtime.send('{}', 'greet', 'room');
select realtime.send('{}', 'greet', 'elsewhere');
reset role;
select topic, private from realtime.messages;
delete from realtime.messages;

-- Nobody's search path decides what is called.
create schema evil;
create function evil.gen_random_uuid() returns uuid language plpgsql
  as $$ begin raise exception 'evil'; end $$;
create function evil.evil(jsonb, text) returns boolean language plpgsql
  as $$ begin raise exception 'evil'; end $$;
create operator evil.? (leftarg = jsonb, rightarg = text, function = evil.evil);
create function evil.same(text, text) returns boolean language plpgsql
  as $$ begin raise exception 'evil'; end $$;
create operator evil.= (leftarg = text, rightarg = text, function = evil.same);
set local search_path = evil, pg_catalog;
select realtime.send('{}', 'greet', 'room');
select realtime.topic();
set local search_path = public;
select count(*) from realtime.messages;
delete from realtime.messages;

-- broadcast_changes, in a trigger.
create table public.notes (id int primary key, body text);
create function public.tell() returns trigger language plpgsql security definer as $$
begin
  perform realtime.broadcast_changes('topic:' || coalesce(new.id, old.id), tg_op, tg_op,
    tg_table_name, tg_table_schema, new, old);
  return null;
end $$;
create trigger tell after insert or update or delete on public.notes
  for each row execute function public.tell();
insert into public.notes values (1, 'a');
update public.notes set body = 'b';
delete from public.notes;
select topic, event, private, payload - 'id' as payload from realtime.messages order by event desc;
savepoint before;
select realtime.broadcast_changes('t', 'e', 'TRUNCATE', 'notes', 'public', null::notes, null::notes);
rollback to before;
select realtime.broadcast_changes('t', 'e', null, 'notes', 'public', null::notes, null::notes);
rollback to before;
select realtime.broadcast_changes('t', 'e', 'INSERT', 'notes', 'public', null::notes, null::notes, 'STATEMENT');
rollback to before;
delete from realtime.messages;

-- Without a partition for today: a warning.
drop table realtime.messages_all;
select realtime.send('{}', 'greet', 'room');

-- A publication that lists partitions of any name is right; what lists others is made anew.
set local client_min_messages = error;
create table public.others partition of realtime.messages for values from (minvalue) to (maxvalue);
select oid as publication from pg_publication where pubname like '%messages%' \gset
\set ECHO none
\ir ../objects/00_report.sql
\ir ../objects/55_realtime_publication.sql
\set ECHO all
select oid = :publication as is_same from pg_publication where pubname like '%messages%';
alter publication supabase_realtime_messages_publication add table public.notes;
\set ECHO none
\ir ../objects/55_realtime_publication.sql
\set ECHO all
select tablename from pg_publication_tables
where pubname = 'supabase_realtime_messages_publication' order by 1;

-- A role that may create nothing is told so, and nothing fails.
select set_config('walcast.report', '', true);
create role walcast_sql_test;
set local role walcast_sql_test;
\set ECHO none
\ir ../objects/00_report.sql
\ir ../objects/50_realtime.sql
\ir ../objects/51_realtime_topic.sql
\ir ../objects/52_realtime_messages.sql
\ir ../objects/53_realtime_send.sql
\ir ../objects/54_realtime_broadcast_changes.sql
\ir ../objects/55_realtime_publication.sql
\set ECHO all
select current_setting('walcast.report');
reset role;
drop schema realtime cascade;
select set_config('walcast.report', '', true);
set local role walcast_sql_test;
\set ECHO none
\ir ../objects/00_report.sql
\ir ../objects/50_realtime.sql
\ir ../objects/51_realtime_topic.sql
\ir ../objects/52_realtime_messages.sql
\ir ../objects/53_realtime_send.sql
\ir ../objects/54_realtime_broadcast_changes.sql
\ir ../objects/55_realtime_publication.sql
\set ECHO all
select current_setting('walcast.report');
reset role;
rollback;
