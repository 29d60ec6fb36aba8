-- $1 oids of tables, $2 oids of roles.
select
    role.oid as role,
    class.oid as table,
    array(
        select attribute.attnum
        from pg_catalog.pg_attribute as attribute
        where attribute.attrelid = class.oid
            and attribute.attnum > 0
            and not attribute.attisdropped
            and pg_catalog.has_column_privilege(role.oid, class.oid, attribute.attnum, 'SELECT')
    ) as columns
from pg_catalog.unnest($2::pg_catalog.oid[]) as role(oid)
cross join pg_catalog.pg_class as class
where class.oid = any ($1::pg_catalog.oid[])
    and pg_catalog.has_schema_privilege(role.oid, class.relnamespace, 'USAGE')
