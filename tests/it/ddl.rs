//! Changes of definitions under continuous writes.
//!
//! With the event triggers each row is judged by the definitions of its place: exactly. Without them
//! the new definitions count a moment later; no row may show more than the old or the new ones allow.

mod exact;
mod hostile;
mod steps;
mod writer;

pub use writer::ANNOUNCE;
