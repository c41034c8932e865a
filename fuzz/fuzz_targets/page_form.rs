//! Forms of the agent's own page.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vpn_agent::fuzzing::page_form(data));
