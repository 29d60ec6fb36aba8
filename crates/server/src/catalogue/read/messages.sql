-- What decides whether a row like those that are asked about can be inserted into realtime.messages,
-- beside policies and privileges: $1 names of roles. No row without the table.
select
    class.oid as id,
    class.relowner as owner,
    -- Each day (UTC, YYYY-MM-DD) that has a partition of exactly that day.
    array(
        select day.start::pg_catalog.text
        from pg_catalog.pg_inherits as inherits
        join pg_catalog.pg_class as partition on partition.oid = inherits.inhrelid
        cross join lateral (
            select pg_catalog.to_date(pg_catalog.right(partition.relname, 10), 'YYYY_MM_DD') as start
        ) as day
        where inherits.inhparent = class.oid
            and partition.relname ~ '^messages_[0-9]{4}_[0-9]{2}_[0-9]{2}$'
            and pg_catalog.pg_get_expr(partition.relpartbound, partition.oid) = pg_catalog.format(
                'FOR VALUES FROM (''%s 00:00:00'') TO (''%s 00:00:00'')', day.start, day.start + 1)
    ) as days,
    -- Whether nothing of users takes part in an INSERT: no trigger, no rule, no constraint, index or
    -- column but those that walcast or Supabase made.
    class.relkind = 'p'
    and class.relrowsecurity
    and not class.relforcerowsecurity
    and pg_catalog.pg_get_partkeydef(class.oid) = 'RANGE (inserted_at)'
    and not exists (
        select from pg_catalog.pg_class as part
        where (part.oid = class.oid or part.oid in (
                select inherits.inhrelid from pg_catalog.pg_inherits as inherits
                where inherits.inhparent = class.oid))
            and (
                part.relhasrules
                or part.relkind not in ('p', 'r')
                or (part.relkind = 'p' and part.oid <> class.oid)
                or exists (
                    select from pg_catalog.pg_trigger as trigger where trigger.tgrelid = part.oid)
                or exists (
                    select from pg_catalog.pg_constraint as constraint_
                    where constraint_.conrelid = part.oid
                        and constraint_.contype not in ('p', 'n')
                        and pg_catalog.pg_get_constraintdef(constraint_.oid)
                            <> 'CHECK (((payload IS NULL) OR (binary_payload IS NULL)))')
                or exists (
                    select from pg_catalog.pg_index as index
                    where index.indrelid = part.oid
                        and (index.indexprs is not null
                            or (index.indisunique and not index.indisprimary)
                            or (index.indpred is not null
                                and pg_catalog.pg_get_expr(index.indpred, part.oid)
                                    <> '((extension = ''broadcast''::text) AND (private IS TRUE))')))
            )
    )
    and not exists (
        select from pg_catalog.pg_attribute as attribute
        left join pg_catalog.pg_attrdef as default_
            on default_.adrelid = attribute.attrelid and default_.adnum = attribute.attnum
        left join (values
            ('topic', 'text'), ('extension', 'text'), ('payload', 'jsonb'), ('event', 'text'),
            ('private', 'boolean'), ('updated_at', 'timestamp without time zone'),
            ('inserted_at', 'timestamp without time zone'), ('id', 'uuid'), ('binary_payload', 'bytea')
        ) as known(name, type) on known.name = attribute.attname
            and known.type = pg_catalog.format_type(attribute.atttypid, attribute.atttypmod)
        where attribute.attrelid = class.oid
            and attribute.attnum > 0
            and not attribute.attisdropped
            and (
                known.name is null
                or attribute.attgenerated <> ''
                or attribute.attidentity <> ''
                or (attribute.attname in ('private', 'payload', 'event', 'binary_payload')
                    and attribute.attnotnull)
                or (attribute.attname in ('payload', 'event', 'binary_payload')
                    and default_.oid is not null)
            )
    ) as is_plain,
    -- The roles as which the login may act and which may insert such a row; and the owner.
    array(
        select role.rolname::pg_catalog.text
        from pg_catalog.pg_roles as role
        where role.rolname = any ($1::pg_catalog.text[])
            and pg_catalog.pg_has_role(session_user, role.oid, login.privilege)
    ) as settable,
    array(
        select role.rolname::pg_catalog.text
        from pg_catalog.pg_roles as role
        where role.rolname = any ($1::pg_catalog.text[])
            and pg_catalog.has_schema_privilege(role.oid, class.relnamespace, 'USAGE')
            and not exists (
                select from pg_catalog.pg_attribute as attribute
                where attribute.attrelid = class.oid
                    and attribute.attname
                        in ('id', 'topic', 'extension', 'private', 'inserted_at', 'updated_at')
                    and not pg_catalog.has_column_privilege(
                        role.oid, class.oid, attribute.attnum, 'INSERT'))
    ) as may_insert,
    pg_catalog.pg_has_role(session_user, class.relowner, login.privilege) as owner_is_settable
from pg_catalog.pg_class as class
join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
cross join lateral (
    select case
        when pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 160000 then 'SET'
        else 'MEMBER' end as privilege
) as login
where namespace.nspname = 'realtime' and class.relname = 'messages'
