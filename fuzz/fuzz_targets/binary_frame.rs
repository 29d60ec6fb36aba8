//! Any bytes as binary frames of both directions.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| walcast_protocol::fuzzing::binary_frame(bytes));
