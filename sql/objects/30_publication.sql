-- The publication that says which tables are sent. It starts empty; tables are added by their
-- owners: alter publication supabase_realtime add table …
-- Its name comes from the setting walcast.publication.

do $walcast$
declare
  publication text := coalesce(
    nullif(current_setting('walcast.publication', true), ''), 'supabase_realtime');
begin
  if exists (select from pg_catalog.pg_publication where pubname = publication) then
    return;
  end if;
  if not has_database_privilege(current_database(), 'CREATE') then
    perform pg_temp.walcast_report(format(
      'publication %s is missing and %s may not create it: as the owner of the database run '
      '"create publication %I"', publication, current_user, publication));
    return;
  end if;
  execute format('create publication %I', publication);
  execute format(
    'comment on publication %I is %L', publication, 'The tables whose changes walcast sends.');
  perform pg_temp.walcast_report(format('created publication %s', publication));
end
$walcast$;
