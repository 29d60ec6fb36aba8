//! Payloads against PostgreSQL's and the reference's own words, recorded in `tests/data/payload`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arbitrary;
mod cases;
mod json;
mod pg_types;
mod recorded;
