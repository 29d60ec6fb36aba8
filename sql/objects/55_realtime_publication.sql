-- The publication that brings realtime.messages into the stream. It lists this table and its
-- partitions, and nothing else: what it lists is read as messages to channels.

do $walcast$
declare
  messages oid := (
    select class.oid from pg_catalog.pg_class as class
    join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
    where namespace.nspname = 'realtime' and class.relname = 'messages');
  publication record;
  exists_already boolean;
  is_right boolean;
begin
  if messages is null then
    return;
  end if;
  select oid, puballtables, pubowner, pubinsert into publication
    from pg_catalog.pg_publication where pubname = 'supabase_realtime_messages_publication';
  exists_already := found;
  if exists_already then
    -- A table without partitions publishes none, so what it was told to list is looked at, too.
    is_right := not publication.puballtables
      and not exists (
        select from pg_catalog.pg_publication_tables as listed
        join pg_catalog.pg_namespace as namespace on namespace.nspname = listed.schemaname
        join pg_catalog.pg_class as class
          on class.relnamespace = namespace.oid and class.relname = listed.tablename
        where listed.pubname = 'supabase_realtime_messages_publication'
          and class.oid not in (select relid from pg_catalog.pg_partition_tree(messages)))
      and exists (
        select from pg_catalog.pg_publication_rel
        where prpubid = publication.oid and prrelid = messages);
    if is_right then
      return;
    end if;
  end if;

  begin
    if exists_already then
      drop publication supabase_realtime_messages_publication;
    end if;
    create publication supabase_realtime_messages_publication for table realtime.messages;
    comment on publication supabase_realtime_messages_publication is
      'Brings realtime.messages to walcast. It must list nothing else.';
    perform pg_temp.walcast_report(
      case when exists_already
        then 'created publication supabase_realtime_messages_publication anew: it listed what it must not'
        else 'created publication supabase_realtime_messages_publication' end);
  exception when insufficient_privilege then
    perform pg_temp.walcast_report(format(
      'publication supabase_realtime_messages_publication is missing or lists what it must not, and %s '
      'may not create it: as the owner of the database and of realtime.messages run walcast migrate',
      current_user));
  end;
end
$walcast$;
