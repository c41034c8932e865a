//! The reader of inner IPv6/UDP headers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tunnel::fuzzing::inner_packet(data));
