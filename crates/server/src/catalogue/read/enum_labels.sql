-- $1 oids of tables. The labels of the enums their columns are of, which stored constants name by
-- oid.
select
    label.oid as id,
    label.enumlabel::pg_catalog.text as label
from pg_catalog.pg_enum as label
where label.enumtypid in (
    select coalesce(nullif(type.typelem, 0), nullif(type.typbasetype, 0), type.oid)
    from pg_catalog.pg_attribute as attribute
    join pg_catalog.pg_type as type on type.oid = attribute.atttypid
    where attribute.attrelid = any ($1::pg_catalog.oid[])
        and attribute.attnum > 0
        and not attribute.attisdropped
)
