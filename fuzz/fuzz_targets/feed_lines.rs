//! The grant feed, in chunks.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gateway::fuzzing::feed_lines(data));
