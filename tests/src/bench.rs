//! The benchmark: what the tunnel and the portal cost, as ratios against something measured in
//! the same run on the same machine.
//!
//! Called by `scripts/bench`. Contestants take turns and medians are shown, because a machine
//! is never quite at rest. Nothing here is part of the product, and nothing in the product
//! knows of it: the programs run as they are installed.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

mod agent;
mod client;
mod first_byte;
mod namespaces;
mod nginx;
mod portal;
mod profile;
mod renkei;
mod report;
mod softether;
mod tunnel;
mod upload;
mod usage;
mod wireguard;

const USAGE: &str = "usage: renkei-bench agent | portal [--filings N] [--hand-in N] [--only PART]… [--database NAME] | \
     tunnel [--quick] [--only PART]… | upload";

/// Runs what the command line asks for.
///
/// # Errors
/// If the command line is wrong or a part of the benchmark cannot be run.
pub fn main(arguments: Vec<String>) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.split_first() {
        Some((&"agent", [])) => agent::run(),
        Some((&"portal", rest)) => portal::run(rest),
        Some((&"tunnel", rest)) => tunnel::run(rest),
        Some((&"upload", [])) => upload::run(),
        // Called by the benchmark itself, in a network namespace.
        Some((&"first-byte", rest)) => first_byte::run(rest),
        _ => bail!("{USAGE}"),
    }
}

/// Bytes that no layer can shrink.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The middle one; of an even number the upper of the two.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the machine's clock"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_round_does_not_move_the_median() {
        assert_eq!(median(&[1.0, 99.0, 2.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }
}
