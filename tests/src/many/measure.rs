//! What a program has used so far, from `/proc`.

use anyhow::{Context as _, Result};

/// Ticks of `/proc/PID/stat` in a second (USER_HZ).
const TICKS_PER_S: f64 = 100.0;

/// What a process has used since it started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// CPU seconds, its own and the system's for it.
    pub(super) cpu_s: f64,
}

pub(super) fn usage(pid: u32) -> Result<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before the last bracket may hold anything.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("a field")?.parse()?) };
    Ok(Usage {
        cpu_s: (ticks(11)? + ticks(12)?) / TICKS_PER_S,
    })
}

/// What a process has in memory now, in bytes, without what it shares with others.
pub(super) fn resident_bytes(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .context("RssAnon")?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024.0)
}
