//! The connection to PostgreSQL.

pub(crate) mod tls;
