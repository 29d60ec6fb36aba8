//! Payloads against PostgreSQL's and the reference's own words, recorded in `tests/data/payload`.

mod arbitrary;
mod cases;
mod json;
mod recorded;
mod types;
