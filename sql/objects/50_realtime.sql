-- Schema realtime with its owner: what SQL and policies know of channels. A database of Supabase has
-- both; what exists stays as it is.

do $walcast$
declare
  owner text := 'supabase_realtime_admin';
  api_role text;
begin
  if to_regrole(owner) is null then
    if not (select rolsuper or rolcreaterole from pg_roles where rolname = current_user) then
      perform pg_temp.walcast_report(format(
        'role %s is missing and %s may not create it: %s owns schema realtime itself',
        owner, current_user, current_user));
    else
      execute format('create role %I nologin noinherit', owner);
      execute format('comment on role %I is %L', owner, 'Owns what walcast keeps in schema realtime.');
      perform pg_temp.walcast_report(format('created role %s', owner));
    end if;
  end if;
  -- The login asks as the owner whether a channel may be read, and makes partitions in its name.
  if to_regrole(owner) is not null
    and not (select rolsuper from pg_roles where rolname = current_user)
    and not pg_has_role(current_user, owner,
      case when current_setting('server_version_num')::int >= 160000 then 'SET' else 'MEMBER' end)
  then
    begin
      execute format('grant %I to %I', owner, current_user);
      perform pg_temp.walcast_report(format('granted %s to %s', owner, current_user));
    exception when insufficient_privilege then
      perform pg_temp.walcast_report(format(
        '%s is no member of %s: as a superuser run "grant %I to %I"',
        current_user, owner, owner, current_user));
    end;
  end if;

  if to_regnamespace('realtime') is not null then
    return;
  end if;
  if not has_database_privilege(current_database(), 'CREATE') then
    perform pg_temp.walcast_report(format(
      'schema realtime is missing and %s may not create it: nothing can be sent from SQL, and '
      'there are no private channels; as the owner of the database run "grant create on database '
      '%I to %I"', current_user, current_database(), current_user));
    return;
  end if;
  create schema realtime;
  comment on schema realtime is 'Messages to channels, and what policies ask about them.';
  if to_regrole(owner) is not null and pg_has_role(current_user, owner, 'USAGE') then
    execute format('grant usage, create on schema realtime to %I with grant option', owner);
  end if;
  foreach api_role in array array['anon', 'authenticated', 'service_role', 'postgres'] loop
    if to_regrole(api_role) is not null then
      execute format('grant usage on schema realtime to %I', api_role);
    end if;
  end loop;
  perform pg_temp.walcast_report('created schema realtime');
end
$walcast$;
