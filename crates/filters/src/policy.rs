//! Row-level security: the part that can be decided without asking PostgreSQL.
