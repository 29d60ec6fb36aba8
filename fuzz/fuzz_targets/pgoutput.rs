//! Any bytes as messages of pgoutput.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| walcast_replicator::fuzzing::decode_pgoutput(bytes));
