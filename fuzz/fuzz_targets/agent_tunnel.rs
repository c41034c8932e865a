//! Steps against the agent's end of the tunnel.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tunnel::fuzzing::agent_tunnel(data));
