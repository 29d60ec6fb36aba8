-- $1 oids of tables, $2 'r' or 'a'. Policies that decide what SELECT shows or INSERT takes, with the
-- columns they read. Of a policy for all commands without an expression of its own for new rows, the
-- other one counts.
-- pg_depend knows the columns an expression refers to, but has no entry of its own for a reference
-- to the row as a whole; in the stored expression that is a variable with attribute number 0.
select
    policy.polrelid as table,
    policy.polname::pg_catalog.text as name,
    policy.polpermissive as permissive,
    policy.polroles as roles,
    pg_catalog.pg_get_expr(expression.stored, policy.polrelid) as using_expression,
    expression.stored::pg_catalog.text as tree,
    array(
        select depend.refobjsubid::pg_catalog.int2
        from pg_catalog.pg_depend as depend
        where depend.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass
            and depend.objid = policy.oid
            and depend.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
            and depend.refobjid = policy.polrelid
            and depend.refobjsubid > 0
    ) as columns,
    coalesce(expression.stored::pg_catalog.text like '%:varattno 0 %', false) as whole_row
from pg_catalog.pg_policy as policy
cross join lateral (
    select
        case
            when $2::"char" = 'r' then policy.polqual
            when policy.polcmd = '*' then coalesce(policy.polwithcheck, policy.polqual)
            else policy.polwithcheck
        end as stored
) as expression
where policy.polrelid = any ($1::pg_catalog.oid[])
    and policy.polcmd in ($2::"char", '*')
order by policy.polrelid, policy.polname
