-- $1 names of roles.
select
    role.oid as id,
    role.rolname::pg_catalog.text as name,
    role.rolsuper or role.rolbypassrls as bypasses_row_security,
    array(
        select other.oid
        from pg_catalog.pg_roles as other
        where pg_catalog.pg_has_role(role.oid, other.oid, 'USAGE')
    ) as has_privileges_of
from pg_catalog.pg_roles as role
where role.rolname = any ($1::pg_catalog.text[])
