//! The PROXY header of connections to the portal.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| protocol::fuzzing::proxy_header(data));
