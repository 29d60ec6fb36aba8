-- walcast.announce_ddl() and its two event triggers: a transaction that changes a definition puts a
-- message with the prefix walcast into the log, and walcast reads the catalogue anew at that place.
-- The message is empty: whoever can write one says no more than "here".
--
-- The function runs as its owner, so that the rights of the role behind the statement do not matter.
-- It takes no argument, runs no text and writes no row. Whatever goes wrong in it, the statement goes
-- on, and the change is noticed by walcast's timer.

do $walcast$
declare
  -- By the catalogue: a name would need USAGE on the schema.
  announce_ddl oid := (
    select function.oid from pg_catalog.pg_proc as function
    join pg_catalog.pg_namespace as namespace on namespace.oid = function.pronamespace
    where namespace.nspname = 'walcast' and function.proname = 'announce_ddl'
      and function.pronargs = 0);
  is_complete boolean := (
    select count(*) = 2 from pg_catalog.pg_event_trigger
    where evtname in ('walcast_ddl', 'walcast_drop'));
begin
  if announce_ddl is not null and is_complete then
    return;
  end if;
  -- An event trigger runs within everybody's statements, so it must not call what others may replace.
  if announce_ddl is not null and not exists (
    select from pg_catalog.pg_proc as function
    join pg_catalog.pg_roles as owner on owner.oid = function.proowner
    where function.oid = announce_ddl
      and (owner.rolsuper or owner.rolname = current_user)
  ) then
    perform pg_temp.walcast_report(
      'the event triggers are missing and are not created: walcast.announce_ddl() belongs to a role '
      'without superuser; drop it and run walcast migrate again');
    return;
  end if;

  if to_regnamespace('walcast') is null then
    create schema walcast;
    comment on schema walcast is 'What walcast installs. It works without.';
  end if;

  if announce_ddl is null then
    create function walcast.announce_ddl() returns event_trigger
    language plpgsql security definer set search_path = ''
    as $$
    begin
      -- The tables of a session are no business of others.
      if tg_event = 'sql_drop' then
        if not exists (
          select from pg_catalog.pg_event_trigger_dropped_objects() as dropped
          where not dropped.is_temporary
        ) then
          return;
        end if;
      elsif tg_tag in ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE') then
        if not exists (
          select from pg_catalog.pg_event_trigger_ddl_commands() as command
          where command.schema_name is distinct from 'pg_temp'
        ) then
          return;
        end if;
      end if;
      perform pg_catalog.pg_logical_emit_message(true, 'walcast', ''::pg_catalog.text);
    exception when others then
      return;
    end
    $$;
    comment on function walcast.announce_ddl() is
      'Tells walcast, at its place in the log, that a definition changed.';
    revoke all on function walcast.announce_ddl() from public;
  end if;

  if not exists (select from pg_catalog.pg_event_trigger where evtname = 'walcast_ddl') then
    create event trigger walcast_ddl on ddl_command_end
    when tag in (
      'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE',
      'CREATE POLICY', 'ALTER POLICY', 'GRANT', 'REVOKE', 'DROP OWNED',
      'CREATE PUBLICATION', 'ALTER PUBLICATION',
      'CREATE SCHEMA', 'ALTER SCHEMA', 'CREATE TYPE', 'ALTER TYPE', 'CREATE DOMAIN', 'ALTER DOMAIN',
      'CREATE FUNCTION', 'ALTER FUNCTION', 'ALTER ROUTINE', 'CREATE CAST', 'ALTER OPERATOR',
      'ALTER COLLATION', 'CREATE EXTENSION', 'ALTER EXTENSION')
    execute function walcast.announce_ddl();
    -- Also in sessions that replay what happened elsewhere.
    alter event trigger walcast_ddl enable always;
    comment on event trigger walcast_ddl is 'Tells walcast that a definition changed.';
  end if;

  if not exists (select from pg_catalog.pg_event_trigger where evtname = 'walcast_drop') then
    create event trigger walcast_drop on sql_drop
    when tag in (
      'DROP TABLE', 'DROP POLICY', 'DROP PUBLICATION', 'DROP SCHEMA', 'DROP TYPE', 'DROP DOMAIN',
      'DROP FUNCTION', 'DROP ROUTINE', 'DROP CAST', 'DROP OPERATOR', 'DROP EXTENSION', 'DROP OWNED')
    execute function walcast.announce_ddl();
    alter event trigger walcast_drop enable always;
    comment on event trigger walcast_drop is 'Tells walcast that a definition is gone.';
  end if;
  perform pg_temp.walcast_report(
    'created the event triggers walcast_ddl and walcast_drop and function walcast.announce_ddl()');
exception when insufficient_privilege then
  perform pg_temp.walcast_report(format(
    'the event triggers walcast_ddl and walcast_drop are missing and %s may not create them: changes '
    'of tables, policies and privileges take effect within two seconds, not at their place in the '
    'stream; run walcast migrate once as a superuser', current_user));
end
$walcast$;
