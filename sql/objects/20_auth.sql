-- Schema auth: the functions that policies call to learn who asks.

do $walcast$
declare
  api_role text;
begin
  if to_regnamespace('auth') is null then
    create schema auth;
    comment on schema auth is 'Who asks: the claims of the current token.';
    perform pg_temp.walcast_report('created schema auth');
  end if;

  foreach api_role in array array['anon', 'authenticated', 'service_role'] loop
    if not has_schema_privilege(api_role, 'auth', 'USAGE') then
      execute format('grant usage on schema auth to %I', api_role);
      perform pg_temp.walcast_report(format('granted usage on schema auth to %s', api_role));
    end if;
    if not has_schema_privilege(api_role, 'public', 'USAGE') then
      execute format('grant usage on schema public to %I', api_role);
      perform pg_temp.walcast_report(format('granted usage on schema public to %s', api_role));
    end if;
  end loop;
end
$walcast$;
