//! PDFs that are handed in.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portal::fuzzing::pdf_scanner(data));
