-- The publication is created empty, under the name that was asked for, and only when missing.
begin;
set local client_min_messages = error;
select set_config('walcast.publication', 'some "changes"', true);
\set ECHO none
\ir ../objects/00_report.sql
\ir ../objects/30_publication.sql
\set ECHO all
select current_setting('walcast.report');
select pubname, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot
from pg_publication where pubname like 'some%';
select count(*) from pg_publication_tables where pubname like 'some%';

-- A role that may not create it is told what to do, and nothing fails.
select set_config('walcast.publication', 'others', true), set_config('walcast.report', '', true);
create role walcast_sql_test;
set local role walcast_sql_test;
\set ECHO none
\ir ../objects/00_report.sql
\ir ../objects/30_publication.sql
\set ECHO all
select current_setting('walcast.report');
reset role;
rollback;
