//! One value as JSON, straight from PostgreSQL's text form.
//!
//! ```text
//! column's type ── JsonForm::of_column ──► JsonForm ── write(text) ──► JSON bytes
//!                                            │
//!             number · timestamp · document · array · composite · hstore · string
//! ```
//!
//! The form of a type is worked out once; writing a value then walks its text once and allocates
//! only where a quoted element holds an escape. A text that is not of its type's grammar, which no
//! PostgreSQL server sends, becomes a JSON string: what is written is always valid JSON.

mod array;
mod composite;
mod document;
mod form;
mod hstore;
mod number;
mod quoted;
mod string;
mod timestamp;

pub use form::{JsonForm, jsonb_text_len};
pub use string::write_string;

pub(crate) use number::{expanded_len, is_finite};
pub(crate) use string::string_len;
