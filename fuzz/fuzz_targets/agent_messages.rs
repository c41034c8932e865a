//! Bodies of the agent API and messages inside the tunnel.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| protocol::fuzzing::agent_messages(data));
