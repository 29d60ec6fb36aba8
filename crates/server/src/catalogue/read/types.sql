-- $1 oids of tables. The types of their columns, what those are made of, and PostgreSQL's own.
with recursive wanted(oid) as (
    select attribute.atttypid
    from pg_catalog.pg_attribute as attribute
    where attribute.attrelid = any ($1::pg_catalog.oid[])
        and attribute.attnum > 0
        and not attribute.attisdropped
    union
    select type.oid
    from pg_catalog.pg_type as type
    where type.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
        and type.typtype in ('b', 'r', 'm')
        and type.typrelid = 0
        and type.oid < 10000
    union
    select part.oid
    from wanted
    join pg_catalog.pg_type as type on type.oid = wanted.oid
    cross join lateral (
        select type.typbasetype where type.typtype = 'd'
        union all
        select type.typelem
        where type.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc
        union all
        select attribute.atttypid
        from pg_catalog.pg_attribute as attribute
        where type.typtype = 'c'
            and attribute.attrelid = type.typrelid
            and attribute.attnum > 0
            and not attribute.attisdropped
    ) as part(oid)
    where part.oid <> 0
)
select
    type.oid as id,
    namespace.nspname::pg_catalog.text as schema,
    type.typname::pg_catalog.text as name,
    type.typdelim as delimiter,
    case
        when type.typtype = 'e' then 'enum'
        when type.typtype = 'd' then 'domain'
        when type.typtype = 'c' then 'composite'
        when type.typtype = 'r' then 'range'
        when type.typtype = 'm' then 'multirange'
        when type.typtype = 'p' then 'pseudo'
        when type.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc
            then 'array'
        else 'base'
    end as kind,
    case when type.typtype = 'd' then type.typbasetype else type.typelem end as related,
    case type.typtype
        when 'e' then array(
            select label.enumlabel::pg_catalog.text
            from pg_catalog.pg_enum as label
            where label.enumtypid = type.oid
            order by label.enumsortorder
        )
        when 'c' then array(
            select attribute.attname::pg_catalog.text
            from pg_catalog.pg_attribute as attribute
            where attribute.attrelid = type.typrelid
                and attribute.attnum > 0
                and not attribute.attisdropped
            order by attribute.attnum
        )
        else '{}'
    end as labels,
    case type.typtype
        when 'c' then array(
            select attribute.atttypid
            from pg_catalog.pg_attribute as attribute
            where attribute.attrelid = type.typrelid
                and attribute.attnum > 0
                and not attribute.attisdropped
            order by attribute.attnum
        )
        else '{}'
    end as field_types
from wanted
join pg_catalog.pg_type as type on type.oid = wanted.oid
join pg_catalog.pg_namespace as namespace on namespace.oid = type.typnamespace
