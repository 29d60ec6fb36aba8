-- The login acts as these roles when it asks PostgreSQL what a subscriber may see, and so must be
-- able to SET ROLE to them. It inherits none of their rights.

do $walcast$
declare
  member text := current_user;
  api_role text;
  may_set boolean;
begin
  foreach api_role in array array['anon', 'authenticated', 'service_role'] loop
    if current_setting('server_version_num')::int >= 160000 then
      may_set := pg_has_role(member, api_role, 'SET');
    else
      may_set := pg_has_role(member, api_role, 'MEMBER');
    end if;
    if not may_set then
      execute format('grant %I to %I', api_role, member);
      perform pg_temp.walcast_report(format('granted %s to %s', api_role, member));
    end if;
  end loop;
end
$walcast$;
