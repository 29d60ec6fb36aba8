//! Text frames: objects for V1, arrays for V2.

mod decode;
mod encode;

pub use decode::decode;
pub use encode::encode_client;
pub(crate) use encode::{Head, encode, push_string};
