-- $1 names of roles.
select
    role.oid as id,
    role.rolname::pg_catalog.text as name,
    role.rolsuper or role.rolbypassrls as bypasses_row_security,
    array(
        select other.oid
        from pg_catalog.pg_roles as other
        where pg_catalog.pg_has_role(role.oid, other.oid, 'USAGE')
    ) as has_privileges_of,
    array(
        select function.oid
        from pg_catalog.pg_proc as function
        where function.pronargs = 0
            and (
                function.proname in ('uid', 'role', 'jwt', 'email')
                    and function.pronamespace = pg_catalog.to_regnamespace('auth')
                or function.proname = 'topic'
                    and function.pronamespace = pg_catalog.to_regnamespace('realtime')
            )
            and pg_catalog.has_schema_privilege(role.oid, function.pronamespace, 'USAGE')
            and pg_catalog.has_function_privilege(role.oid, function.oid, 'EXECUTE')
    ) as may_run
from pg_catalog.pg_roles as role
where role.rolname = any ($1::pg_catalog.text[])
