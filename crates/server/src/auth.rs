//! Tokens become claims.
