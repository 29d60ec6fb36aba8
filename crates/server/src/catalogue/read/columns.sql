-- $1 oids of tables.
select
    attribute.attrelid as table,
    attribute.attnum as number,
    attribute.attname::pg_catalog.text as name,
    attribute.atttypid as type_id,
    attribute.atttypmod as type_modifier,
    case
        when attribute.attcollation = 0 then 'none'
        when not collation_.collisdeterministic then 'nondeterministic'
        when collation_.collprovider = 'c' and collation_.collcollate in ('C', 'POSIX') then 'bytes'
        when collation_.collprovider = 'b' then 'bytes'
        when collation_.collprovider = 'd' and (
            select database.datcollate in ('C', 'POSIX')
                and coalesce(pg_catalog.to_jsonb(database) ->> 'datlocprovider', 'c') = 'c'
            from pg_catalog.pg_database as database
            where database.datname = pg_catalog.current_database()
        ) then 'bytes'
        else 'locale'
    end as collation,
    coalesce(attribute.attnum = any (primary_key.indkey::pg_catalog.int2[]), false)
        as is_primary_key,
    case class.relreplident
        when 'f' then true
        when 'd' then coalesce(attribute.attnum = any (primary_key.indkey::pg_catalog.int2[]), false)
        when 'i' then coalesce(attribute.attnum = any (identity.indkey::pg_catalog.int2[]), false)
        else false
    end as is_identity,
    attribute.attgenerated <> '' as is_generated
from pg_catalog.pg_attribute as attribute
join pg_catalog.pg_class as class on class.oid = attribute.attrelid
left join pg_catalog.pg_collation as collation_ on collation_.oid = attribute.attcollation
left join pg_catalog.pg_index as primary_key
    on primary_key.indrelid = class.oid and primary_key.indisprimary
left join pg_catalog.pg_index as identity
    on identity.indrelid = class.oid and identity.indisreplident
where attribute.attrelid = any ($1::pg_catalog.oid[])
    and attribute.attnum > 0
    and not attribute.attisdropped
order by attribute.attrelid, attribute.attnum
