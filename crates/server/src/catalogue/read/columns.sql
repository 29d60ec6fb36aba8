-- $1 oids of tables.
with asked as (
    select class.oid, class.relkind
    from pg_catalog.pg_class as class
    where class.oid = any ($1::pg_catalog.oid[])
),
-- A change under the name of a partitioned table comes from one of its leaves, and its old row is
-- what the leaf's replica identity holds. A leaf without one refuses such changes.
writer as (
    select asked.oid as of_table, asked.oid as written
    from asked
    where asked.relkind <> 'p'
    union all
    select asked.oid, leaf.oid
    from asked
    cross join lateral pg_catalog.pg_partition_tree(asked.oid::pg_catalog.regclass) as tree
    join pg_catalog.pg_class as leaf on leaf.oid = tree.relid
    where asked.relkind = 'p' and leaf.relkind = 'r' and leaf.relreplident <> 'n'
),
identity as (
    select
        writer.of_table,
        attribute.attname,
        pg_catalog.bool_and(
            case class.relreplident
                when 'f' then true
                when 'd' then
                    coalesce(attribute.attnum = any (primary_key.indkey::pg_catalog.int2[]), false)
                when 'i' then
                    coalesce(attribute.attnum = any (chosen.indkey::pg_catalog.int2[]), false)
                else false
            end
        ) as is_identity
    from writer
    join pg_catalog.pg_class as class on class.oid = writer.written
    join pg_catalog.pg_attribute as attribute
        on attribute.attrelid = writer.written
        and attribute.attnum > 0
        and not attribute.attisdropped
    left join pg_catalog.pg_index as primary_key
        on primary_key.indrelid = class.oid and primary_key.indisprimary
    left join pg_catalog.pg_index as chosen
        on chosen.indrelid = class.oid and chosen.indisreplident
    group by writer.of_table, attribute.attname
)
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
    coalesce(identity.is_identity, false) as is_identity,
    attribute.attgenerated <> '' as is_generated
from pg_catalog.pg_attribute as attribute
left join identity
    on identity.of_table = attribute.attrelid and identity.attname = attribute.attname
left join pg_catalog.pg_collation as collation_ on collation_.oid = attribute.attcollation
left join pg_catalog.pg_index as primary_key
    on primary_key.indrelid = attribute.attrelid and primary_key.indisprimary
where attribute.attrelid = any ($1::pg_catalog.oid[])
    and attribute.attnum > 0
    and not attribute.attisdropped
order by attribute.attrelid, attribute.attnum
