//! Names inside archives.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portal::fuzzing::entry_name(data));
