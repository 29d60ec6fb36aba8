-- Records PostgreSQL's own operators and functions: psql -XqAt -f operators.sql > operators.txt
-- The same on 14 to 18.
with supported(id) as (
    select type.oid
    from pg_catalog.pg_type as type
    where type.typname in (
        'bool', 'int2', 'int4', 'int8', 'oid', 'float4', 'float8', 'numeric', 'text', 'name', 'bpchar',
        'uuid', 'date', 'time', 'timestamp', 'timestamptz', 'json', 'jsonb', '_text', 'anyenum'
    )
        and type.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
)
select line from (
    select
        operator.oid,
        pg_catalog.format(
            'operator %s %s %s', operator.oid, operator.oprname,
            coalesce(left_type.typname || ' ', '') || right_type.typname
        ) as line
    from pg_catalog.pg_operator as operator
    left join pg_catalog.pg_type as left_type on left_type.oid = operator.oprleft
    join pg_catalog.pg_type as right_type on right_type.oid = operator.oprright
    where operator.oid < 10000
        and operator.oprright in (select supported.id from supported)
        and (operator.oprleft = 0 or operator.oprleft in (select supported.id from supported))
    union all
    select
        function.oid,
        pg_catalog.format(
            'function %s %s %s', function.oid, function.proname,
            (
                select pg_catalog.string_agg(argument.typname, ' ' order by place.number)
                from pg_catalog.unnest(function.proargtypes::pg_catalog.oid[])
                    with ordinality as place(id, number)
                join pg_catalog.pg_type as argument on argument.oid = place.id
            )
        )
    from pg_catalog.pg_proc as function
    where function.oid < 10000
        and function.prokind = 'f'
        and function.proisstrict
        and function.provolatile = 'i'
        and function.proargtypes::pg_catalog.oid[] <@ array(select supported.id from supported)
        and function.proname in (
            'int2', 'int4', 'int8', 'numeric', 'float8', 'bool', 'text', 'lower', 'upper', 'length',
            'char_length', 'character_length', 'starts_with', 'textcat', 'jsonb_exists',
            'jsonb_extract_path', 'jsonb_extract_path_text', 'json_extract_path', 'json_extract_path_text'
        )
) as described(id, line)
order by line collate "C"
