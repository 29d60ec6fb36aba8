//! The questions only PostgreSQL can answer.
