//! Any bytes as frames of the copy stream.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| walcast_replicator::fuzzing::decode_copy_frame(bytes));
