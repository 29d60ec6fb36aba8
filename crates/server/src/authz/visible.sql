-- $1 transaction ids as the stream gives them, 32 bits wide. Whether a snapshot taken now sees them.
select coalesce(
    pg_catalog.bool_and(
        pg_catalog.pg_visible_in_snapshot(
            (case
                when near.id > next.id + 2147483648 then near.id - 4294967296
                when near.id < next.id - 2147483648 then near.id + 4294967296
                else near.id
            end)::pg_catalog.text::pg_catalog.xid8,
            now.snapshot
        )
    ),
    true
)
from (select pg_catalog.pg_current_snapshot() as snapshot) as now
cross join lateral (
    select pg_catalog.pg_snapshot_xmax(now.snapshot)::pg_catalog.text::pg_catalog.int8 as id
) as next
cross join lateral (
    select next.id / 4294967296 * 4294967296 + streamed.id as id
    from pg_catalog.unnest($1::pg_catalog.int8[]) as streamed(id)
) as near
