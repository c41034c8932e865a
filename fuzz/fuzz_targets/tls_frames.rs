//! WireGuard datagrams in a byte stream.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tunnel::fuzzing::tls_frames(data));
