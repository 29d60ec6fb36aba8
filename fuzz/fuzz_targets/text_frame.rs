//! Any bytes as text frames of both versions.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| walcast_protocol::fuzzing::text_frame(bytes));
