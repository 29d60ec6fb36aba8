-- realtime.topic(): the channel a policy is asked about, or that the present transaction sends to.

do $walcast$
begin
  if to_regnamespace('realtime') is null or to_regprocedure('realtime.topic()') is not null then
    return;
  end if;
  create function realtime.topic() returns text
  language sql stable
  as $$ select nullif(current_setting('realtime.topic', true), '')::text $$;
  comment on function realtime.topic() is
    'The topic, without "realtime:", that a policy decides about; null outside of that.';
  grant execute on function realtime.topic() to public;
  perform pg_temp.walcast_report('created function realtime.topic()');
end
$walcast$;
