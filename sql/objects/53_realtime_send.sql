-- realtime.send and realtime.send_binary: a message to a channel, sent with the commit. They never
-- fail the caller's transaction; what went wrong is a warning.

do $walcast$
begin
  if to_regnamespace('realtime') is null then
    return;
  end if;
  if to_regprocedure('realtime.send(jsonb,text,text,boolean)') is null then
    create function realtime.send(payload jsonb, event text, topic text, private boolean default true)
    returns void
    language plpgsql
    set search_path = ''
    as $$
    declare
      message_id uuid := gen_random_uuid();
      content jsonb := payload;
    begin
      if content is not null and not content ? 'id' then
        content := jsonb_set(content, '{id}', to_jsonb(message_id));
      end if;
      -- A statement and not set_config(): it outlives the call, and so policies and later statements
      -- of the transaction see it. SET takes no NULL, which is told like every other failure.
      execute format('set local realtime.topic to %L', topic);
      insert into realtime.messages (id, payload, event, topic, private, extension)
      values (message_id, content, event, topic, private, 'broadcast');
    exception when others then
      raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
    end
    $$;
    comment on function realtime.send(jsonb, text, text, boolean) is
      'Sends a JSON object to the channels of a topic when the transaction commits.';
    grant execute on function realtime.send(jsonb, text, text, boolean) to public;
    perform pg_temp.walcast_report('created function realtime.send(jsonb, text, text, boolean)');
  end if;

  if to_regprocedure('realtime.send_binary(bytea,text,text,boolean)') is null then
    create function realtime.send_binary(
      payload bytea, event text, topic text, private boolean default true)
    returns void
    language plpgsql
    set search_path = ''
    as $$
    declare
      message_id uuid := gen_random_uuid();
    begin
      execute format('set local realtime.topic to %L', topic);
      insert into realtime.messages (id, binary_payload, event, topic, private, extension)
      values (message_id, payload, event, topic, private, 'broadcast');
    exception when others then
      raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
    end
    $$;
    comment on function realtime.send_binary(bytea, text, text, boolean) is
      'Sends bytes to the channels of a topic when the transaction commits.';
    grant execute on function realtime.send_binary(bytea, text, text, boolean) to public;
    perform pg_temp.walcast_report(
      'created function realtime.send_binary(bytea, text, text, boolean)');
  end if;
end
$walcast$;
