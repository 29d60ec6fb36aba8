-- What the meaning of stored policies depends on, beside what they name themselves.
-- A session starts with the login's own defaults, which is what the settings show here; what is
-- stored for later sessions counts, too.
with revoked as (
    select function.oid
    from pg_catalog.pg_proc as function
    where function.oid < 10000
        and function.proacl is not null
        and not exists (
            select from pg_catalog.aclexplode(function.proacl) as acl
            where acl.grantee = 0 and acl.privilege_type = 'EXECUTE'
        )
)
select
    pg_catalog.version() as version,
    pg_catalog.getdatabaseencoding() = 'UTF8' as is_utf8,
    (
        select database.datcollate in ('C', 'POSIX')
            and coalesce(pg_catalog.to_jsonb(database) ->> 'datlocprovider', 'c') = 'c'
        from pg_catalog.pg_database as database
        where database.datname = pg_catalog.current_database()
    ) as default_collation_is_bytes,
    array(
        select collation_.oid
        from pg_catalog.pg_collation as collation_
        where not collation_.collisdeterministic
    ) as nondeterministic_collations,
    -- The planner may put the negator or the commutator of an operator in its place.
    array(
        select function.oid
        from revoked as function
        union
        select operator.oprcode::pg_catalog.oid
        from pg_catalog.pg_operator as operator
        join pg_catalog.pg_operator as other on other.oid in (operator.oprnegate, operator.oprcom)
        join revoked as function on function.oid = other.oprcode
    ) as revoked,
    coalesce(
        nullif(pg_catalog.current_setting('request.jwt.claim', true), ''),
        nullif(pg_catalog.current_setting('request.jwt.claim.sub', true), ''),
        nullif(pg_catalog.current_setting('request.jwt.claim.role', true), ''),
        nullif(pg_catalog.current_setting('request.jwt.claim.email', true), '')
    ) is null
    and not exists (
        select from pg_catalog.pg_db_role_setting as stored
        cross join lateral pg_catalog.unnest(stored.setconfig) as setting(text)
        where pg_catalog.lower(setting.text) like 'request.jwt.claim%'
    ) as has_no_claim_defaults,
    not exists (
        select from pg_catalog.pg_settings as setting
        where setting.name = 'search_path' and setting.reset_val like '%pg_catalog%'
    )
    and not exists (
        select from pg_catalog.pg_db_role_setting as stored
        cross join lateral pg_catalog.unnest(stored.setconfig) as setting(text)
        where setting.text like 'search_path=%pg_catalog%'
    )
    and not exists (
        select from pg_catalog.pg_proc as function
        where function.proname = 'current_setting'
            and function.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace
    )
    and not exists (
        select from pg_catalog.pg_operator as operator
        where operator.oprname = '->>'
            and operator.oprleft = 'pg_catalog.jsonb'::pg_catalog.regtype
            and operator.oprnamespace <> 'pg_catalog'::pg_catalog.regnamespace
    ) as has_usual_names
