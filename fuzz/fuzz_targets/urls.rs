//! Addresses of gateways and of the portal.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vpn_agent::fuzzing::urls(data));
