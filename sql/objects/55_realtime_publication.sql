-- The publication that brings realtime.messages into the stream. It is walcast's own: when it lists
-- anything else, or not the table, it is made anew.

do $walcast$
declare
  publication constant text := 'supabase_realtime_messages_publication';
  is_there boolean;
begin
  if to_regclass('realtime.messages') is null then
    return;
  end if;
  select exists (select from pg_publication where pubname = publication) into is_there;
  if is_there
    and (select not puballtables from pg_publication where pubname = publication)
    and exists (
      select from pg_publication p join pg_publication_rel r on r.prpubid = p.oid
      where p.pubname = publication and r.prrelid = 'realtime.messages'::regclass)
    and not exists (
      select from pg_publication_tables where pubname = publication
        and not (schemaname = 'realtime'
          and (tablename = 'messages' or tablename like 'messages\_%')))
  then
    return;
  end if;
  if is_there then
    execute format('drop publication %I', publication);
  end if;
  execute format('create publication %I for table realtime.messages', publication);
  execute format(
    'comment on publication %I is %L', publication, 'Brings messages to channels to walcast.');
  perform pg_temp.walcast_report(format('created publication %s', publication));
end
$walcast$;
