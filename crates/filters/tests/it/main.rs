//! Filters as the server uses them: text and table in, verdicts and subscriptions out.

mod filter;
mod index;
mod matrix;
mod policies;
mod recorded;
mod support;
