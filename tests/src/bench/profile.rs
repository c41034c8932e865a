//! Where a process spends its time, by perf: shares of its samples by kind of work.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::process::{output, signal};

/// Samples per second and core.
const FREQUENCY: &str = "2000";

/// Kinds of work, with what their symbols or files have in their names; the first that fits
/// counts.
pub(super) type Kinds = &'static [(&'static str, &'static [&'static str])];

/// The kinds of work at both ends of a tunnel.
pub(super) const TUNNEL: Kinds = &[
    (
        "WireGuard's ChaCha20-Poly1305",
        &["chacha20", "poly1305", "ChaCha20", "Poly1305"],
    ),
    (
        "AES-GCM of QUIC",
        &[
            "aes_gcm", "aesni", "aes_hw", "ghash", "gcm_", "vaes", "aes_nohw",
        ],
    ),
    (
        "UDP and TCP in the kernel, copies included",
        &["[kernel", "[k]", "vmlinux"],
    ),
    ("QUIC (quinn-proto)", &["quinn_proto"]),
    (
        "memory: copies, clearing, allocation",
        &[
            "memcpy", "memmove", "memset", "malloc", "free", "realloc", "_int_", "bytes::",
        ],
    ),
    (
        "boringtun and the tunnel around it",
        &["boringtun", "tunnel::", "quinn_udp", "udp::"],
    ),
    (
        "the event loop and the proxy",
        &[
            "tokio",
            "gateway::",
            "vpn_agent",
            "mio",
            "hyper",
            "std::",
            "core::",
            "alloc::",
        ],
    ),
];

/// perf, recording some processes until it is stopped.
#[derive(Debug)]
pub(super) struct Recording {
    child: Child,
    file: std::path::PathBuf,
}

/// Says whether perf can be used here.
pub(super) fn is_possible() -> bool {
    let tried = Command::new("perf")
        .args(["record", "-q", "-e", "cpu-clock", "-o", "/dev/null", "true"])
        .output();
    tried.is_ok_and(|output| output.status.success())
}

/// Starts to record.
pub(super) fn start(processes: &[u32], file: &Path) -> Result<Recording> {
    let pids: Vec<String> = processes.iter().map(u32::to_string).collect();
    let child = Command::new("perf")
        .args([
            "record",
            "-q",
            "-e",
            "cpu-clock",
            "-F",
            FREQUENCY,
            "-p",
            &pids.join(","),
        ])
        .arg("-o")
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start perf")?;
    Ok(Recording {
        child,
        file: file.to_owned(),
    })
}

impl Recording {
    /// Stops and returns each kind's share, the largest first, in percent.
    pub(super) fn shares(mut self, kinds: Kinds) -> Result<Vec<(&'static str, f64)>> {
        signal(self.child.id(), "INT")?;
        self.child.wait()?;
        let mut report = Command::new("perf");
        report
            .args([
                "report",
                "--stdio",
                "--no-children",
                "-g",
                "none",
                "--percent-limit",
                "0",
            ])
            .args(["-F", "overhead,dso,sym", "-t", ";", "-i"])
            .arg(&self.file);
        let shares = fold(&output(&mut report)?, kinds);
        ensure!(!shares.is_empty(), "perf has taken no samples");
        Ok(shares)
    }
}

fn fold(report: &str, kinds: Kinds) -> Vec<(&'static str, f64)> {
    let mut shares: Vec<(&str, f64)> = Vec::new();
    for line in report.lines().filter(|line| !line.starts_with('#')) {
        let Some((percent, what)) = line.split_once(';') else {
            continue;
        };
        let Ok(percent) = percent.trim().trim_end_matches('%').parse::<f64>() else {
            continue;
        };
        let kind = kinds
            .iter()
            .find(|(_, parts)| parts.iter().any(|part| what.contains(part)))
            .map_or("the rest", |(kind, _)| *kind);
        match shares.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, share)) => *share += percent,
            None => shares.push((kind, percent)),
        }
    }
    shares.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_added_up_by_kind() {
        let report = "# Overhead;Object;Symbol\n 40.00%;gateway;[.] ring_core_0_17_14__chacha20_poly1305_seal_avx2\n \
                      25.00%;[kernel.kallsyms];[k] udp_sendmsg\n 5.50%;gateway;[.] ring_core_chacha20_poly1305_open\n 1.00%;libz;[.] odd\n";
        assert_eq!(
            fold(report, TUNNEL),
            [
                ("WireGuard's ChaCha20-Poly1305", 45.5),
                ("UDP and TCP in the kernel, copies included", 25.0),
                ("the rest", 1.0)
            ]
        );
    }
}
