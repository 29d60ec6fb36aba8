//! The HTTP routes.
