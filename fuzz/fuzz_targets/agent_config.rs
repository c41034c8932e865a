//! The agent's settings.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vpn_agent::fuzzing::agent_config(data));
