-- realtime.messages: a row that is inserted is sent to the channel of its topic, and the policies on
-- the table say who may use private channels. It is the users' table: one that exists stays as it is.

do $walcast$
declare
  api_role text;
  is_new boolean := false;
  -- By the catalogue: a name would need USAGE on the schema.
  messages oid := (
    select class.oid from pg_catalog.pg_class as class
    join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
    where namespace.nspname = 'realtime' and class.relname = 'messages');
begin
  if messages is null then
    if to_regnamespace('realtime') is null then
      return;
    end if;
    if not has_schema_privilege('realtime', 'CREATE') then
      perform pg_temp.walcast_report(format(
        'table realtime.messages is missing and %s may not create it, so SQL cannot send messages: as '
        'the owner of schema realtime run walcast migrate', current_user));
      return;
    end if;
    create table realtime.messages (
      topic text not null,
      extension text not null,
      payload jsonb,
      event text,
      private boolean default false,
      -- Without a zone, and so the clock of the session that inserts.
      updated_at timestamp without time zone not null default now(),
      inserted_at timestamp without time zone not null default now(),
      id uuid not null default gen_random_uuid(),
      binary_payload bytea,
      constraint messages_pkey primary key (id, inserted_at),
      constraint messages_payload_exclusive check (payload is null or binary_payload is null)
    ) partition by range (inserted_at);
    comment on table realtime.messages is
      'What is inserted is sent to the channel of its topic. Policies on this table say who may use '
      'private channels.';
    create index messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
      where extension = 'broadcast' and private is true;
    alter table realtime.messages enable row level security;
    messages := 'realtime.messages'::regclass;
    is_new := true;
    perform pg_temp.walcast_report('created table realtime.messages');
  end if;

  foreach api_role in array array['anon', 'authenticated', 'service_role'] loop
    continue when to_regrole(api_role) is null
      or (has_table_privilege(api_role, messages, 'SELECT')
        and has_table_privilege(api_role, messages, 'INSERT')
        and has_table_privilege(api_role, messages, 'UPDATE'));
    if pg_has_role((select relowner from pg_catalog.pg_class where oid = messages), 'USAGE') then
      execute format(
        'grant select, insert, update on table realtime.messages to %I', api_role);
      perform pg_temp.walcast_report(format(
        'granted select, insert and update on realtime.messages to %s', api_role));
    end if;
  end loop;

  if is_new and to_regrole('supabase_realtime_admin') is not null then
    begin
      alter table realtime.messages owner to supabase_realtime_admin;
    exception when insufficient_privilege then
      perform pg_temp.walcast_report(format(
        'realtime.messages belongs to %s, because it may not be given to supabase_realtime_admin',
        current_user));
    end;
  end if;
end
$walcast$;
