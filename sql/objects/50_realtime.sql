-- The role that owns realtime.messages. It cannot log in. The login becomes a member, so that it can
-- make and drop partitions and is not held back by the policies of users. A role that exists stays as
-- it is; where none can be made, the login owns the table itself.

do $walcast$
declare
  is_new_rule boolean := current_setting('server_version_num')::int >= 160000;
  may_create boolean := (
    select rolsuper or rolcreaterole from pg_catalog.pg_roles where rolname = current_user);
  api_role text;
begin
  if to_regrole('supabase_realtime_admin') is null then
    if not may_create then
      perform pg_temp.walcast_report(format(
        'role supabase_realtime_admin is missing and %s may not create it: %s owns what is created in '
        'schema realtime', current_user, current_user));
      return;
    end if;
    create role supabase_realtime_admin nologin noinherit;
    comment on role supabase_realtime_admin is 'Owns realtime.messages.';
    perform pg_temp.walcast_report('created role supabase_realtime_admin');
  end if;

  foreach api_role in array array['anon', 'authenticated', 'service_role'] loop
    continue when to_regrole(api_role) is null
      or pg_has_role('supabase_realtime_admin', api_role, 'MEMBER');
    begin
      execute format('grant %I to supabase_realtime_admin', api_role);
    exception when insufficient_privilege then
      -- Nothing here acts through this membership; it is there because Supabase's role has it.
      null;
    end;
  end loop;

  if not pg_has_role('supabase_realtime_admin', case when is_new_rule then 'SET' else 'MEMBER' end)
  then
    begin
      execute format('grant supabase_realtime_admin to %I', current_user);
      perform pg_temp.walcast_report(
        format('granted supabase_realtime_admin to %s', current_user));
    exception when insufficient_privilege then
      perform pg_temp.walcast_report(format(
        '%s is not a member of supabase_realtime_admin and may not make itself one: as a superuser run '
        '"grant supabase_realtime_admin to %I"', current_user, current_user));
    end;
  end if;
end
$walcast$;

-- Schema realtime: what SQL sends messages with. Whoever may use it is granted that once, when the
-- schema is created or a role appears that tokens name.

do $walcast$
declare
  api_role text;
begin
  if to_regnamespace('realtime') is null then
    if not has_database_privilege(current_database(), 'CREATE') then
      perform pg_temp.walcast_report(format(
        'schema realtime is missing and %s may not create it, so SQL cannot send messages and there are '
        'no private channels: as the owner of the database run walcast migrate', current_user));
      return;
    end if;
    create schema realtime;
    comment on schema realtime is 'Messages to channels, sent from SQL.';
    perform pg_temp.walcast_report('created schema realtime');
  end if;

  -- Who may not create in it finds everything made, or is told by the files that follow.
  if not has_schema_privilege('realtime', 'CREATE') then
    return;
  end if;

  foreach api_role in array array['anon', 'authenticated', 'service_role', 'postgres'] loop
    continue when to_regrole(api_role) is null
      or has_schema_privilege(api_role, 'realtime', 'USAGE');
    begin
      execute format('grant usage on schema realtime to %I', api_role);
      perform pg_temp.walcast_report(format('granted usage on schema realtime to %s', api_role));
    exception when insufficient_privilege then
      perform pg_temp.walcast_report(format(
        '%s may not use schema realtime, and %s may not grant that: as its owner run '
        '"grant usage on schema realtime to %I"', api_role, current_user, api_role));
    end;
  end loop;

  if to_regrole('supabase_realtime_admin') is not null
    and not (has_schema_privilege('supabase_realtime_admin', 'realtime', 'USAGE')
      and has_schema_privilege('supabase_realtime_admin', 'realtime', 'CREATE')) then
    begin
      grant usage, create on schema realtime to supabase_realtime_admin with grant option;
    exception when insufficient_privilege then
      null;
    end;
  end if;
end
$walcast$;
