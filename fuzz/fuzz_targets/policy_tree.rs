//! Any bytes as the stored form of a policy.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| walcast_filters::fuzzing::compile_policy(bytes));
