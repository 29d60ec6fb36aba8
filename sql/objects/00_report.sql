-- What a migration did, one line per step; `walcast migrate` prints it.
-- The function lives as long as the session, the setting as long as the transaction.

do $walcast$
begin
  if to_regprocedure('pg_temp.walcast_report(text)') is null then
    create function pg_temp.walcast_report(line text) returns void
    language plpgsql set search_path = ''
    as $$
    begin
      perform set_config(
        'walcast.report',
        concat_ws(E'\n', nullif(current_setting('walcast.report', true), ''), line),
        true);
    end
    $$;
    comment on function pg_temp.walcast_report(text) is
      'Adds a line to the report of the current migration.';
  end if;
end
$walcast$;
