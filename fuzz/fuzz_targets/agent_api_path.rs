//! Paths of the agent API.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gateway::fuzzing::agent_api_path(data));
