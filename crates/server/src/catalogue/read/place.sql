-- $1 oids of tables. Where in the log, and after which transactions, the catalogue is read; and a
-- digest of what PostgreSQL's functions for privileges and expressions read in its newest state.
select
    pg_catalog.pg_current_snapshot()::pg_catalog.text as snapshot,
    pg_catalog.pg_wal_lsn_diff(
        case
            when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
            else pg_catalog.pg_current_wal_insert_lsn()
        end,
        '0/0'
    )::pg_catalog.int8 as position,
    (
        select
            case
                when pg_catalog.count(*) = 2 then
                    pg_catalog.string_agg(
                        trigger.oid::pg_catalog.text || ':' || trigger.xmin::pg_catalog.text,
                        ',' order by trigger.evtname
                    )
            end
        from pg_catalog.pg_event_trigger as trigger
        where trigger.evtname in ('walcast_ddl', 'walcast_drop') and trigger.evtenabled in ('O', 'A')
    ) as trigger,
    pg_catalog.md5(
        pg_catalog.concat_ws(
            ' ',
            (
                select pg_catalog.string_agg(
                    pg_catalog.concat_ws(' ', namespace.oid, namespace.nspname, namespace.nspacl),
                    ',' order by namespace.oid
                )
                from pg_catalog.pg_namespace as namespace
                where namespace.nspname !~ '^pg_(toast_)?temp_'
            ),
            (
                select pg_catalog.string_agg(
                    pg_catalog.concat_ws(' ', class.oid, class.relacl), ',' order by class.oid
                )
                from pg_catalog.pg_class as class
                where class.oid = any ($1::pg_catalog.oid[])
            ),
            (
                select pg_catalog.string_agg(
                    pg_catalog.concat_ws(
                        ' ', attribute.attrelid, attribute.attnum, attribute.attname,
                        attribute.atttypid, attribute.attacl
                    ),
                    ',' order by attribute.attrelid, attribute.attnum
                )
                from pg_catalog.pg_attribute as attribute
                where attribute.attrelid = any ($1::pg_catalog.oid[]) and attribute.attnum > 0
            )
        )
    ) as digest
