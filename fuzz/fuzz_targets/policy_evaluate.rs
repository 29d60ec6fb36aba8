//! Rows of any values before damaged policies and any claims.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| walcast_filters::fuzzing::decide_policy(bytes));
