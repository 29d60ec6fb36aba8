-- realtime.topic(): the topic of the channel that is asked about, or that a message is sent to. The
-- policies on realtime.messages call it. Elsewhere the setting is unset or empty: null.

do $walcast$
begin
  if to_regnamespace('realtime') is null
    or not has_schema_privilege('realtime', 'CREATE')
    or to_regprocedure('realtime.topic()') is not null then
    return;
  end if;
  create function realtime.topic() returns text
  language sql stable set search_path = ''
  as $$ select nullif(current_setting('realtime.topic', true), '')::text $$;
  comment on function realtime.topic() is
    'The topic of the channel that a policy on realtime.messages is asked about, or null.';
  grant execute on function realtime.topic() to public;
  perform pg_temp.walcast_report('created function realtime.topic()');
end
$walcast$;
