-- auth.uid(): the claim sub, as the id of a user. Without a token, or without the claim: null.

do $walcast$
begin
  if to_regprocedure('auth.uid()') is null then
    create function auth.uid() returns uuid
    language sql stable set search_path = ''
    as $$ select (nullif(auth.jwt() ->> 'sub', ''))::uuid $$;
    comment on function auth.uid() is 'The user the token was made for, or null.';
    grant execute on function auth.uid() to public;
    perform pg_temp.walcast_report('created function auth.uid()');
  end if;
end
$walcast$;
