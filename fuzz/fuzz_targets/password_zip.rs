//! Password zips that are handed in.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portal::fuzzing::password_zip(data));
