//! Names of filings.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portal::fuzzing::filing_name(data));
