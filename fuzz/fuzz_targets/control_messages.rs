//! Bodies between gateways and the portal.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| protocol::fuzzing::control_messages(data));
