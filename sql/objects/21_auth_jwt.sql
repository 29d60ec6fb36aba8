-- auth.jwt(): all claims of the token. Without a token the setting is unset or empty: null.
-- It reads a setting of the session and nothing else, so everybody with the schema may call it.

do $walcast$
begin
  if to_regprocedure('auth.jwt()') is null then
    create function auth.jwt() returns jsonb
    language sql stable set search_path = ''
    as $$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;
    comment on function auth.jwt() is 'The claims of the token, or null without one.';
    grant execute on function auth.jwt() to public;
    perform pg_temp.walcast_report('created function auth.jwt()');
  end if;
end
$walcast$;
