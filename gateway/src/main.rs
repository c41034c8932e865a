//! Placeholder until the parts are there.
fn main() {}
