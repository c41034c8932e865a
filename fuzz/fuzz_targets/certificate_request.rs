//! Certificate requests of PCs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portal::fuzzing::certificate_request(data));
