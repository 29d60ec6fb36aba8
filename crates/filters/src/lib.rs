//! Who is concerned by a row event, and who may see it. Pure.
#![deny(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

pub mod claims;
pub mod policy;
