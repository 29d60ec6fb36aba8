-- $1 oids of tables that policies read. Those without row security, which hides nothing from anybody.
select
    class.oid as id,
    namespace.nspname::pg_catalog.text as schema,
    class.relname::pg_catalog.text as name,
    array(
        select attribute.attnum
        from pg_catalog.pg_attribute as attribute
        where attribute.attrelid = class.oid
            and attribute.attnum > 0
            and not attribute.attisdropped
        order by attribute.attnum
    ) as column_numbers,
    array(
        select attribute.attname::pg_catalog.text
        from pg_catalog.pg_attribute as attribute
        where attribute.attrelid = class.oid
            and attribute.attnum > 0
            and not attribute.attisdropped
        order by attribute.attnum
    ) as column_names
from pg_catalog.pg_class as class
join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
where class.oid = any ($1::pg_catalog.oid[])
    and class.relkind in ('r', 'p')
    and not class.relrowsecurity
