//! Where `auth.uid()` and its like come from in a world.

use super::random::Random;

/// The functions of schema `auth`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Auth {
    /// `walcast migrate` creates them.
    Migrated,
    /// These statements do; schema and `auth.jwt()`, `auth.uid()`, `auth.role()` exist already.
    Written(Vec<&'static str>),
}

/// Without it some of the definitions below would have nothing to replace.
const EMAIL: &str = "create function auth.email() returns text language sql stable
  as $$ select auth.jwt() ->> 'email' $$";

/// Supabase's, at present.
const SUPABASE: &[&str] = &[
    "create or replace function auth.uid() returns uuid language sql stable as $$
  select
  coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
  )::uuid
$$",
    "create or replace function auth.role() returns text language sql stable as $$
  select
  coalesce(
    nullif(current_setting('request.jwt.claim.role', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
  )::text
$$",
    "create or replace function auth.email() returns text language sql stable as $$
  select
  coalesce(
    nullif(current_setting('request.jwt.claim.email', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email')
  )::text
$$",
    "create or replace function auth.jwt() returns jsonb language sql stable as $$
  select
    coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
    )::jsonb
$$",
];

/// Definitions of which several replace what was there: old ones, a user's own, and some that differ
/// from a known one in what is easily overlooked.
const OTHERS: &[&str] = &[
    "create or replace function auth.uid() returns uuid language sql stable as
  $$ select nullif(current_setting('request.jwt.claim.sub', true), '')::uuid $$",
    "create or replace function auth.uid() returns uuid language sql stable as
  $$ select '00000000-0000-0000-0000-000000000000'::uuid $$",
    "create or replace function auth.uid() returns uuid language sql stable as
  $$ select (auth.jwt() ->> 'user_id')::uuid $$",
    "create or replace function auth.uid() returns uuid language sql stable set timezone = 'UTC' as
  $$ select (nullif(auth.jwt() ->> 'sub', ''))::uuid $$",
    "create or replace function auth.uid() returns uuid language sql stable security definer as
  $$ select (nullif(auth.jwt() ->> 'sub', ''))::uuid $$",
    "create or replace function auth.uid() returns uuid language sql volatile as
  $$ SELECT (nullif(auth.jwt()->>'sub', ''))::uuid; $$",
    "create or replace function auth.uid() returns uuid language sql stable as
  $$ select (nullif(auth.jwt() ->> 'sub', ''))::uuid; select null::uuid $$",
    "create or replace function auth.uid() returns uuid language sql immutable as
  $$ select (nullif(auth.jwt() ->> 'sub', ''))::uuid $$",
    "create or replace function auth.uid() returns uuid language sql stable
  return (nullif(auth.jwt() ->> 'sub', ''))::uuid",
    "create or replace function auth.role() returns text language plpgsql stable as
  $$ begin return upper(auth.jwt() ->> 'role'); end $$",
    "create or replace function auth.role() returns text language sql stable strict as
  $$ select auth.jwt() ->> 'role' $$",
    "create or replace function auth.role() returns text language sql stable as
  $$ select nullif(current_setting('request.jwt.claim.role', true), '')::text $$",
    "create or replace function auth.email() returns text language sql immutable as
  $$ select 'alice@example.com' $$",
    "create or replace function auth.jwt() returns jsonb language sql stable as
  $$ select '{\"sub\": \"b0b00000-0000-4000-8000-000000000002\", \"role\": \"admin\"}'::jsonb $$",
    "create or replace function auth.jwt() returns jsonb language sql stable as
  $$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb -> 'app_metadata' $$",
    "create or replace function auth.jwt() returns jsonb language sql stable
  set \"request.jwt.claims\" = '{}' as
  $$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb $$",
];

impl Auth {
    /// Some definitions, the usual ones more often.
    pub fn random(random: &mut Random) -> Self {
        let mut written = vec![EMAIL];
        match random.below(8) {
            0..=2 => return Self::Migrated,
            3 | 4 => written.extend(SUPABASE),
            5 => {}
            6 => written.extend(random.sample(OTHERS, 3)),
            _ => {
                written.extend(SUPABASE);
                written.extend(random.sample(OTHERS, 2));
            }
        }
        Self::Written(written)
    }

    /// The statements before the migration, if there is one.
    pub fn statements(&self) -> Vec<&'static str> {
        match self {
            Self::Migrated => vec!["drop schema auth cascade"],
            Self::Written(statements) => statements.clone(),
        }
    }
}
