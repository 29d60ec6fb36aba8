//! Any bytes as the payload of a join.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| walcast_protocol::fuzzing::join_payload(bytes));
