//! Steps against the gateway's end of the tunnel.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tunnel::fuzzing::gateway_tunnel(data));
