//! Codes, secrets and tokens in single fields.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portal::fuzzing::typed_fields(data));
