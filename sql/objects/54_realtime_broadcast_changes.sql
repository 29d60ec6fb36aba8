-- realtime.broadcast_changes: for row triggers, sends the change of a row to a private channel.

do $walcast$
begin
  if to_regnamespace('realtime') is null or to_regprocedure(
    'realtime.broadcast_changes(text,text,text,text,text,record,record,text)') is not null
  then
    return;
  end if;
  create function realtime.broadcast_changes(
    topic_name text, event_name text, operation text, table_name text, table_schema text,
    new record, old record, level text default 'ROW')
  returns void
  language plpgsql
  set search_path = ''
  as $$
  declare
    content jsonb;
  begin
    if level = 'STATEMENT' then
      raise exception 'function can only be triggered for each row, not for each statement';
    end if;
    if operation is null or operation not in ('INSERT', 'UPDATE', 'DELETE') then
      raise exception 'Unexpected operation type: %', operation;
    end if;
    content := jsonb_build_object(
      'old_record', to_jsonb(old), 'record', to_jsonb(new), 'operation', operation,
      'table', table_name, 'schema', table_schema);
    perform realtime.send(content, event_name, topic_name);
  exception when others then
    raise exception 'Failed to process the row: %', sqlerrm;
  end
  $$;
  comment on function
    realtime.broadcast_changes(text, text, text, text, text, record, record, text) is
    'For row triggers: sends the change of a row to the private channels of a topic.';
  grant execute on function
    realtime.broadcast_changes(text, text, text, text, text, record, record, text) to public;
  perform pg_temp.walcast_report('created function realtime.broadcast_changes(…)');
end
$walcast$;
