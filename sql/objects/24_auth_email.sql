-- auth.email(): the claim email. Without a token, or without the claim: null.

do $walcast$
begin
  if to_regprocedure('auth.email()') is null then
    create function auth.email() returns text
    language sql stable set search_path = ''
    as $$ select auth.jwt() ->> 'email' $$;
    comment on function auth.email() is 'The e-mail address of the token, or null.';
    grant execute on function auth.email() to public;
    perform pg_temp.walcast_report('created function auth.email()');
  end if;
end
$walcast$;
