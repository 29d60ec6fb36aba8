//! A policy's expression, compiled.

/// An expression that is evaluated in process.
#[derive(Debug, Eq, PartialEq)]
pub struct Predicate(());
