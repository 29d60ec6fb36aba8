//! The integration tests: the `walcast` program as a black box on a real PostgreSQL.

mod harness;
