//! Any bytes as the filter of a subscription.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| walcast_filters::fuzzing::parse_filter(bytes));
