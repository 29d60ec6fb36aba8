-- The tables whose policies cannot be read: PostgreSQL locks a table to write its policies as text,
-- and the tables that they name, too.
with locked as (
    select lock.relation as oid
    from pg_catalog.pg_locks as lock
    join pg_catalog.pg_database as database on database.oid = lock.database
    where lock.locktype = 'relation'
        and lock.mode = 'AccessExclusiveLock'
        and database.datname = pg_catalog.current_database()
)
select locked.oid as table from locked
union
select policy.polrelid
from pg_catalog.pg_policy as policy
join pg_catalog.pg_depend as depend
    on depend.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass
    and depend.objid = policy.oid
    and depend.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
    and depend.refobjid in (select locked.oid from locked)
