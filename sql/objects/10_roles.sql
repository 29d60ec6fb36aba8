-- The roles that tokens name. They cannot log in, own nothing and inherit nothing; what they may
-- see is granted to them table by table. A role that exists stays as it is.

do $walcast$
declare
  may_bypass boolean;
begin
  select rolsuper
      or (current_setting('server_version_num')::int >= 160000 and rolcreaterole and rolbypassrls)
    into may_bypass
    from pg_catalog.pg_roles where rolname = current_user;

  if to_regrole('anon') is null then
    create role anon nologin noinherit;
    comment on role anon is 'Clients without a user.';
    perform pg_temp.walcast_report('created role anon');
  end if;

  if to_regrole('authenticated') is null then
    create role authenticated nologin noinherit;
    comment on role authenticated is 'Clients whose token names a user.';
    perform pg_temp.walcast_report('created role authenticated');
  end if;

  if to_regrole('service_role') is null then
    if may_bypass then
      create role service_role nologin noinherit bypassrls;
      perform pg_temp.walcast_report('created role service_role, which bypasses row-level security');
    else
      create role service_role nologin noinherit;
      perform pg_temp.walcast_report(
        'created role service_role; it does not bypass row-level security, because '
        || current_user || ' may not grant that: as a superuser run '
        || '"alter role service_role bypassrls"');
    end if;
    comment on role service_role is 'Trusted servers, which see every row.';
  end if;
end
$walcast$;
