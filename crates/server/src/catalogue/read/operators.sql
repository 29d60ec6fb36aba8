-- $1 oids of operators.
select
    operator.oid as id,
    case
        when namespace.nspname = 'pg_catalog' then operator.oprname::pg_catalog.text
        else namespace.nspname || '.' || operator.oprname
    end as name
from pg_catalog.pg_operator as operator
join pg_catalog.pg_namespace as namespace on namespace.oid = operator.oprnamespace
where operator.oid = any ($1::pg_catalog.oid[])
