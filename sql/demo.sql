-- The demonstration schema of `walcast dev`: three tables and a login without special rights.
-- Applied once to a fresh private server, after sql/objects.

-- walcast's own login: it reads the replication stream and acts as the roles of the tokens.
-- It owns nothing, bypasses nothing and is no superuser.
create role walcast login replication noinherit;
comment on role walcast is 'The login of the walcast server.';
grant anon, authenticated, service_role, supabase_realtime_admin to walcast;

-- Messages: private to their owner unless made public.
create table public.messages (
  id bigint generated always as identity primary key,
  owner uuid not null default auth.uid(),
  body text not null,
  is_public boolean not null default false,
  created_at timestamptz not null default now()
);
comment on table public.messages is 'Private to their owner unless made public.';
-- The whole old row is in the stream: only then can a DELETE and an old_record be authorised by
-- a policy that reads other columns than the key. It costs WAL for each update and delete.
alter table public.messages replica identity full;
alter table public.messages enable row level security;
create policy "everybody reads public messages" on public.messages
  for select to anon, authenticated using (is_public);
create policy "owners read their messages" on public.messages
  for select to authenticated using (owner = (select auth.uid()));
create policy "owners write their messages" on public.messages
  for insert to authenticated with check (owner = (select auth.uid()));
create policy "owners change their messages" on public.messages
  for update to authenticated
  using (owner = (select auth.uid())) with check (owner = (select auth.uid()));
create policy "owners delete their messages" on public.messages
  for delete to authenticated using (owner = (select auth.uid()));
grant select on public.messages to anon;
grant select, insert, update, delete on public.messages to authenticated, service_role;

-- Todos: no row-level security, so every user sees every row.
create table public.todos (
  id bigint generated always as identity primary key,
  task text not null,
  priority int not null default 3 check (priority between 1 and 5),
  is_done boolean not null default false
);
comment on table public.todos is 'Shared by all users.';
-- The default replica identity suffices here: nothing but the key of an old row is needed.
grant select, insert, update, delete on public.todos to authenticated, service_role;

-- Countries: reference data that clients only read.
create table public.countries (
  code text primary key check (code ~ '^[A-Z]{2}$'),
  name text not null
);
comment on table public.countries is 'Reference data.';
grant select on public.countries to anon, authenticated;
grant select, insert, update, delete on public.countries to service_role;
insert into public.countries values
  ('BR', 'Brazil'), ('DE', 'Germany'), ('IN', 'India'), ('JP', 'Japan'), ('KE', 'Kenya');

alter publication supabase_realtime
  add table public.messages, public.todos, public.countries;
