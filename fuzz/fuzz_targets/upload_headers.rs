//! Headers of the upload protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portal::fuzzing::upload_headers(data));
