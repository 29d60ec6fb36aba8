-- Everything the doctor looks at, as one JSON object: $1 publications, $2 slot.
-- Columns that newer versions have are read through to_jsonb, so that one text serves them all.
with setting as (
  select current_setting('server_version_num')::int as version_num
),
publication as (
  select p.*, coalesce(to_jsonb(p) ->> 'pubgencols', 'n') as generated_columns
  from pg_publication p where p.pubname = any ($1::text[])
),
api_role as (
  select name, to_regrole(name) as oid
  from unnest(array['anon', 'authenticated', 'service_role']) as name
),
published as (
  select distinct c.oid, n.oid as namespace, n.nspname, c.relname, c.relkind, c.relreplident,
    c.relrowsecurity
  from pg_publication_tables t
  join pg_namespace n on n.nspname = t.schemaname
  join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
  where t.pubname = any ($1::text[])
),
key_column as (
  select i.indrelid, a.attnum, a.attname
  from pg_index i
  join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
  where i.indisprimary and i.indrelid in (select oid from published)
)
select jsonb_build_object(
  'version_num', version_num,
  'version', current_setting('server_version'),
  'database', current_database(),
  'encoding', current_setting('server_encoding'),
  'wal_level', current_setting('wal_level'),
  'synchronous_commit', current_setting('synchronous_commit'),
  'max_slot_wal_keep_size_mb',
    (select setting::bigint from pg_settings where name = 'max_slot_wal_keep_size'),
  'max_replication_slots', current_setting('max_replication_slots')::bigint,
  'n_replication_slots', (select count(*) from pg_replication_slots),
  'max_wal_senders', current_setting('max_wal_senders')::bigint,
  'n_wal_senders', (select count(*) from pg_stat_replication),
  'login', (
    select jsonb_build_object(
      'name', rolname,
      'is_superuser', rolsuper,
      'may_replicate', rolreplication or rolsuper or coalesce(
        pg_has_role(oid, to_regrole('rds_replication'), 'MEMBER'), false))
    from pg_roles where rolname = current_user),
  'roles', (
    select jsonb_agg(jsonb_build_object(
      'name', name,
      'exists', oid is not null,
      'may_be_set', coalesce(
        case when version_num >= 160000
          then pg_has_role(current_user, oid, 'SET')
          else pg_has_role(current_user, oid, 'MEMBER') end, false)) order by name)
    from api_role),
  'publications', (
    select jsonb_agg(jsonb_build_object(
      'name', wanted.name,
      'exists', p.oid is not null,
      'n_tables', (select count(*) from pg_publication_tables where pubname = wanted.name),
      'publishes', array_remove(array[
        case when p.pubinsert then 'insert' end,
        case when p.pubupdate then 'update' end,
        case when p.pubdelete then 'delete' end], null),
      'via_root', coalesce(p.pubviaroot, false)) order by wanted.name)
    from unnest($1::text[]) as wanted (name)
    left join publication p on p.pubname = wanted.name),
  'publishes_updates', (select coalesce(bool_or(pubupdate or pubdelete), false) from publication),
  'publishes_generated_columns',
    (select coalesce(bool_or(generated_columns = 's'), false) from publication),
  'ddl_triggers', (
    select jsonb_agg(jsonb_build_object(
      'name', wanted.name,
      'exists', t.oid is not null,
      'is_enabled', coalesce(t.evtenabled in ('O', 'A'), false)) order by wanted.name)
    from unnest(array['walcast_ddl', 'walcast_drop']) as wanted (name)
    left join pg_event_trigger t on t.evtname = wanted.name),
  'slot', (
    select jsonb_build_object(
      'plugin', plugin,
      'database', database,
      'is_active', active,
      'wal_status', wal_status,
      'lag_bytes', case when not pg_is_in_recovery()
        then pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint end)
    from pg_replication_slots where slot_name = $2::text),
  'messages', (
    select jsonb_build_object(
      'owner', pg_get_userbyid(c.relowner),
      'owner_may_be_set', case when version_num >= 160000
        then pg_has_role(current_user, c.relowner, 'SET')
        else pg_has_role(current_user, c.relowner, 'MEMBER') end,
      'is_partitioned', c.relkind = 'p',
      'is_published', exists (
        select from pg_publication_rel as r join pg_publication as p on p.oid = r.prpubid
        where r.prrelid = c.oid and p.pubname = 'supabase_realtime_messages_publication'))
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'realtime' and c.relname = 'messages'),
  'tables', (
    select coalesce(jsonb_agg(jsonb_build_object(
      'schema', t.nspname,
      'name', t.relname,
      'quoted', format('%I.%I', t.nspname, t.relname),
      'replica_identity', t.relreplident,
      'has_row_security', t.relrowsecurity,
      'n_select_policies', (
        select count(*) from pg_policy
        where polrelid = t.oid and polcmd in ('r', '*') and polpermissive),
      'key_columns', (
        select coalesce(jsonb_agg(attname order by attnum), '[]')
        from key_column where indrelid = t.oid),
      'generated_columns', (
        select coalesce(jsonb_agg(attname order by attnum), '[]')
        from pg_attribute where attrelid = t.oid and attgenerated = 's' and not attisdropped),
      'grants', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'role', r.name,
          'has_schema_usage', has_schema_privilege(r.oid, t.namespace, 'USAGE'),
          'may_select', has_any_column_privilege(r.oid, t.oid, 'SELECT'),
          'key_columns_hidden', (
            select coalesce(jsonb_agg(attname order by attnum), '[]')
            from key_column
            where indrelid = t.oid
              and not has_column_privilege(r.oid, t.oid, attnum, 'SELECT'))
          ) order by r.name), '[]')
        from api_role r where r.oid is not null)
      ) order by t.nspname, t.relname), '[]')
    from published t)
)
from setting
