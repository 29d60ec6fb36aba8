-- auth.role(): the claim role. Without a token, or without the claim: null.

do $walcast$
begin
  if to_regprocedure('auth.role()') is null then
    create function auth.role() returns text
    language sql stable set search_path = ''
    as $$ select auth.jwt() ->> 'role' $$;
    comment on function auth.role() is 'The role the token names, or null.';
    grant execute on function auth.role() to public;
    perform pg_temp.walcast_report('created function auth.role()');
  end if;
end
$walcast$;
