//! The part of PostgreSQL's catalogue that walcast needs, read as one snapshot.
