-- $1 oids of functions. Those, and the functions of schema auth that policies call or that these call.
select
    function.oid as id,
    namespace.nspname::pg_catalog.text as schema,
    function.proname::pg_catalog.text as name,
    language.lanname = 'sql'
        and function.prokind = 'f'
        and function.provolatile = 's'
        and function.pronargs = 0
        and not function.proisstrict
        and not function.prosecdef
        and not function.proretset
        and function.prosupport = 0
        and function.probin is null
        and coalesce(pg_catalog.to_jsonb(function) ->> 'prosqlbody', '') = '' as is_plain,
    function.provolatile = 'i' as is_immutable,
    function.prorettype as result_type,
    coalesce(function.proconfig, '{}') as settings,
    case when language.lanname = 'sql' then function.prosrc else '' end as source
from pg_catalog.pg_proc as function
join pg_catalog.pg_namespace as namespace on namespace.oid = function.pronamespace
join pg_catalog.pg_language as language on language.oid = function.prolang
where function.oid = any ($1::pg_catalog.oid[] || array(
    select known.oid
    from pg_catalog.pg_proc as known
    where known.proname in ('uid', 'role', 'jwt', 'email')
        and known.pronargs = 0
        and known.pronamespace = pg_catalog.to_regnamespace('auth')
))
