//! The bounded queue of one connection.
