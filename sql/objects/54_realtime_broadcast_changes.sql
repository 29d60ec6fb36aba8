-- realtime.broadcast_changes(): sends what happened to a row, from a trigger for each row.

do $walcast$
begin
  if to_regnamespace('realtime') is null
    or not has_schema_privilege('realtime', 'CREATE')
    or to_regprocedure(
      'realtime.broadcast_changes(text, text, text, text, text, record, record, text)') is not null
  then
    return;
  end if;
  create function realtime.broadcast_changes(
    topic_name text, event_name text, operation text, table_name text, table_schema text,
    new record, old record, level text default 'ROW')
  returns void
  language plpgsql
  as $$
  declare
    is_statement pg_catalog.bool := level operator(pg_catalog.=) 'STATEMENT';
    is_known pg_catalog.bool := operation operator(pg_catalog.=) any (
      array['INSERT', 'UPDATE', 'DELETE']::pg_catalog.text[]);
  begin
    if is_statement then
      raise exception
        'function can only be triggered for each row, not for each statement';
    end if;
    if is_known is not true then
      raise exception 'Unexpected operation type: %', operation;
    end if;
    perform realtime.send(
      pg_catalog.jsonb_build_object(
        'old_record', pg_catalog.to_jsonb(old), 'record', pg_catalog.to_jsonb(new),
        'operation', operation, 'table', table_name, 'schema', table_schema),
      event_name, topic_name);
  exception when others then
    raise exception 'Failed to process the row: %', sqlerrm;
  end
  $$;
  comment on function
    realtime.broadcast_changes(text, text, text, text, text, record, record, text) is
    'Sends what happened to a row to the private channel of a topic.';
  grant execute on function
    realtime.broadcast_changes(text, text, text, text, text, record, record, text) to public;
  perform pg_temp.walcast_report('created function realtime.broadcast_changes(…)');
end
$walcast$;
