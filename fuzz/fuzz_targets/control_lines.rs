//! Lines between two runs of the agent.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vpn_agent::fuzzing::control_lines(data));
