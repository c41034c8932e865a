//! Requests to the agent's loopback proxy.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vpn_agent::fuzzing::proxy_requests(data));
