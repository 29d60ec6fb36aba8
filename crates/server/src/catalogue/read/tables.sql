-- $1 publications, $2 oids of tables known from the previous snapshot. $3 whether a lock is in the
-- way of listing what is published; $4 is it then.
with published as (
    select class.oid
    from pg_catalog.pg_publication_tables as publication_table
    join pg_catalog.pg_namespace as namespace
        on namespace.nspname = publication_table.schemaname
    join pg_catalog.pg_class as class
        on class.relnamespace = namespace.oid and class.relname = publication_table.tablename
    where publication_table.pubname = any ($1::pg_catalog.text[])
        and not $3::pg_catalog.bool
    union
    select known.oid from pg_catalog.unnest($4::pg_catalog.oid[]) as known(oid)
),
wanted as (
    select published.oid from published
    union
    select ancestor.relid::pg_catalog.oid
    from published
    cross join lateral pg_catalog.pg_partition_ancestors(published.oid::pg_catalog.regclass)
        as ancestor(relid)
    union
    select known.oid from pg_catalog.unnest($2::pg_catalog.oid[]) as known(oid)
)
select
    class.oid as id,
    namespace.nspname::pg_catalog.text as schema,
    class.relname::pg_catalog.text as name,
    class.relkind as kind,
    class.relowner as owner,
    -- Of a partitioned table what all its leaves have; 'i' where they differ.
    case
        when class.relkind = 'p' then coalesce(leaves.replica_identity, class.relreplident)
        else class.relreplident
    end as replica_identity,
    class.relrowsecurity as row_security,
    class.relforcerowsecurity as force_row_security,
    coalesce(
        (
            select pg_catalog.string_agg(
                policy.oid::pg_catalog.text || ':' || policy.xmin::pg_catalog.text,
                ',' order by policy.oid
            )
            from pg_catalog.pg_policy as policy
            where policy.polrelid = class.oid
        ),
        ''
    ) as policy_versions,
    exists (
        select from pg_catalog.pg_attribute as attribute
        join pg_catalog.pg_type as type on type.oid = attribute.atttypid
        where attribute.attrelid = class.oid
            and attribute.attnum > 0
            and not attribute.attisdropped
            and attribute.attcollation <> type.typcollation
    ) as has_own_collation,
    class.oid in (select published.oid from published) as is_published,
    array(
        select ancestor.relid::pg_catalog.oid
        from pg_catalog.pg_partition_ancestors(class.oid::pg_catalog.regclass) as ancestor(relid)
        where ancestor.relid <> class.oid
    ) as ancestors,
    exists (
        select from pg_catalog.pg_index as index
        where index.indrelid = class.oid and index.indisprimary
    ) as has_primary_key
from wanted
join pg_catalog.pg_class as class on class.oid = wanted.oid
join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
cross join lateral (
    select
        case
            when pg_catalog.bool_and(leaf.relreplident = 'f') then 'f'::"char"
            when pg_catalog.bool_and(leaf.relreplident = 'd') then 'd'::"char"
            when pg_catalog.count(*) > 0 then 'i'::"char"
        end as replica_identity
    from pg_catalog.pg_partition_tree(class.oid::pg_catalog.regclass) as tree
    join pg_catalog.pg_class as leaf on leaf.oid = tree.relid
    where leaf.relkind = 'r' and leaf.relreplident <> 'n'
) as leaves
where class.relkind in ('r', 'p')
order by class.oid
