//! Who is concerned by a row event, and who may see it. Pure.
//!
//! ```text
//! text ── parse ──► RawCondition ── Filter::check(table) ──► Filter ── MatchIndex ──► Matches
//!                                        │                     │
//!                          FilterError ◄─┘                     └─► matches(row): Yes, No, Undecided
//! ```
//!
//! Filters compare as PostgreSQL compares, or say `Undecided`: then PostgreSQL is asked
//! ([`Filter::to_sql`]). They never guess.
#![deny(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

mod array;
pub mod claims;
mod condition;
mod datetime;
mod error;
mod filter;
pub mod fuzzing;
mod index;
mod inspect;
mod like;
mod numeric;
mod operator;
mod parse;
pub mod policy;
mod regular_expression;
mod sql;
mod type_name;
mod value;

pub use condition::MAX_IN_VALUES;
pub use error::FilterError;
pub use filter::{Filter, Match, Verification};
pub use index::{EventSelection, Interest, MatchIndex, Matches, Scope, SubscriptionId, Visible};
pub use operator::Operator;
pub use parse::{MAX_CONDITIONS, MAX_FILTER_BYTES, ParseError, RawCondition, parse};
