//! The portal's settings.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portal::fuzzing::portal_config(data));
