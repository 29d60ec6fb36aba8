//! Finds PostgreSQL's programs and runs a private server with them.
