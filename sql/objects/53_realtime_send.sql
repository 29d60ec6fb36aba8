-- realtime.send(): sends a message to the channel of a topic when the transaction commits.
--
-- It runs as its caller, and so do the policies. It sets no search_path, since the functions in the
-- policies of users may rely on the caller's; every name in it says its schema instead.

do $walcast$
begin
  if to_regnamespace('realtime') is null
    or not has_schema_privilege('realtime', 'CREATE')
    or to_regprocedure('realtime.send(jsonb, text, text, boolean)') is not null then
    return;
  end if;
  create function realtime.send(payload jsonb, event text, topic text, private boolean default true)
  returns void
  language plpgsql
  as $$
  declare
    message_id pg_catalog.uuid := pg_catalog.gen_random_uuid();
    message pg_catalog.jsonb := payload;
  begin
    if payload is not null and not payload operator(pg_catalog.?) 'id' then
      message := pg_catalog.jsonb_set(payload, '{id}', pg_catalog.to_jsonb(message_id));
    end if;
    -- For the policies, and for realtime.topic() until the end of the transaction.
    execute pg_catalog.format('set local realtime.topic to %L', topic);
    insert into realtime.messages (id, payload, event, topic, private, extension)
    values (message_id, message, event, topic, private, 'broadcast');
  exception when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
  end
  $$;
  comment on function realtime.send(jsonb, text, text, boolean) is
    'Sends a message to the channel of a topic when the transaction commits. Never raises: warns.';
  grant execute on function realtime.send(jsonb, text, text, boolean) to public;
  perform pg_temp.walcast_report('created function realtime.send(jsonb, text, text, boolean)');
end
$walcast$;

-- realtime.send_binary(): realtime.send() for bytes. Clients of protocol 2 receive them.

do $walcast$
begin
  if to_regnamespace('realtime') is null
    or not has_schema_privilege('realtime', 'CREATE')
    or to_regprocedure('realtime.send_binary(bytea, text, text, boolean)') is not null then
    return;
  end if;
  -- A table of an older Supabase has no place for bytes.
  if not exists (
    select from pg_catalog.pg_attribute
    where attrelid = to_regclass('realtime.messages') and attname = 'binary_payload'
      and not attisdropped
  ) then
    perform pg_temp.walcast_report(
      'function realtime.send_binary is not created: realtime.messages has no column binary_payload');
    return;
  end if;
  create function realtime.send_binary(
    payload bytea, event text, topic text, private boolean default true)
  returns void
  language plpgsql
  as $$
  begin
    execute pg_catalog.format('set local realtime.topic to %L', topic);
    insert into realtime.messages (binary_payload, event, topic, private, extension)
    values (payload, event, topic, private, 'broadcast');
  exception when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
  end
  $$;
  comment on function realtime.send_binary(bytea, text, text, boolean) is
    'Sends bytes to the channel of a topic when the transaction commits. Never raises: warns.';
  grant execute on function realtime.send_binary(bytea, text, text, boolean) to public;
  perform pg_temp.walcast_report('created function realtime.send_binary(bytea, text, text, boolean)');
end
$walcast$;
