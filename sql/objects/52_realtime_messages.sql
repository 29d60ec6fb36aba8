-- realtime.messages: what SQL sends to channels, and the table whose policies say who may read and
-- write a private channel. One partition per day; walcast makes and drops them.

do $walcast$
declare
  owner text := 'supabase_realtime_admin';
  api_role text;
begin
  if to_regnamespace('realtime') is null or to_regclass('realtime.messages') is not null then
    return;
  end if;
  create table realtime.messages (
    topic text not null,
    extension text not null,
    payload jsonb,
    event text,
    private boolean default false,
    updated_at timestamp without time zone not null default now(),
    inserted_at timestamp without time zone not null default now(),
    id uuid not null default gen_random_uuid(),
    binary_payload bytea,
    constraint messages_pkey primary key (id, inserted_at),
    constraint messages_payload_exclusive check (payload is null or binary_payload is null)
  ) partition by range (inserted_at);
  create index messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
    where extension = 'broadcast' and private is true;
  comment on table realtime.messages is
    'Messages to channels. Policies for SELECT and INSERT say who may read and write a private one.';
  comment on column realtime.messages.topic is 'The channel, without "realtime:".';
  comment on column realtime.messages.extension is 'broadcast or presence.';
  comment on column realtime.messages.private is 'Whether private channels hear it, or public ones.';
  alter table realtime.messages enable row level security;
  foreach api_role in array array['anon', 'authenticated', 'service_role'] loop
    if to_regrole(api_role) is not null then
      execute format('grant select, insert, update on realtime.messages to %I', api_role);
    end if;
  end loop;
  if to_regrole(owner) is not null and pg_has_role(current_user, owner, 'USAGE') then
    execute format('alter table realtime.messages owner to %I', owner);
  end if;
  perform pg_temp.walcast_report('created table realtime.messages');
end
$walcast$;
