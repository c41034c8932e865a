//! What the processes behind the pages use while something is done: the portal with its
//! workers, the database's server, the virus scanner, and this program as all the PCs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use crate::bench::profile::{self, Kinds};
use crate::bench::usage::{cpu_seconds, ended_children_cpu_seconds, forget_peak, peak_bytes};

/// Kinds of work in the portal, by what their symbols have in their names.
const KINDS: Kinds = &[
    ("argon2", &["argon2", "blake2"]),
    (
        "the kernel: sockets, files, syncing",
        &["[kernel", "[k]", "vmlinux"],
    ),
    (
        "SQLite",
        &[
            "sqlite3", "vdbe", "btree", "Btree", "pager", "Pager", "pcache", "walFrame", "walIndex",
        ],
    ),
    ("the drivers of the databases (sqlx)", &["sqlx"]),
    (
        "cryptography: TLS, sealing, hashes",
        &[
            "ring", "rustls", "aes", "ghash", "gcm", "sha2", "sha256", "sha512", "hmac", "x25519",
            "p256", "ed25519", "fiat_", "chacha20", "poly1305", "hkdf",
        ],
    ),
    (
        "reading PDFs",
        &[
            "hayro",
            "lopdf",
            "pdf::",
            "text_layer",
            "lexer",
            "inflate",
            "miniz",
            "zlib",
        ],
    ),
    (
        "memory: copies, clearing, allocation",
        &[
            "memcpy", "memmove", "memset", "malloc", "free", "realloc", "_int_", "bytes::",
        ],
    ),
    (
        "the web server and the event loop",
        &["tokio", "hyper", "axum", "tower", "http", "mio", "askama"],
    ),
    ("the portal's own code", &["portal"]),
];

/// The processes, by name.
#[derive(Debug)]
pub(super) struct Meter {
    processes: BTreeMap<&'static str, u32>,
    before: BTreeMap<&'static str, f64>,
    recording: Option<profile::Recording>,
}

/// What was used.
#[derive(Debug, Clone, Default)]
pub(super) struct Cost {
    /// CPU seconds by process.
    pub(super) cpu_s: BTreeMap<&'static str, f64>,
    /// Shares of the portal's CPU time by kind of work, in percent, the largest first.
    pub(super) shares: Vec<(&'static str, f64)>,
    /// The most resident memory that the portal had meanwhile, in bytes.
    pub(super) peak_bytes: f64,
}

impl Meter {
    /// Begins to measure; `folder` is for perf's file.
    pub(super) fn start(
        processes: BTreeMap<&'static str, u32>,
        folder: &std::path::Path,
    ) -> Result<Self> {
        let file: PathBuf = folder.join("portal.perf");
        let recording = match profile::is_possible() {
            true => processes
                .get("portal")
                .map(|pid| profile::start(&[*pid], &file))
                .transpose()?,
            false => None,
        };
        let before = used(&processes)?;
        if let Some(portal) = processes.get("portal") {
            forget_peak(*portal);
        }
        Ok(Self {
            processes,
            before,
            recording,
        })
    }

    /// Ends it.
    pub(super) fn stop(self) -> Result<Cost> {
        let mut cpu_s = used(&self.processes)?;
        for (name, cpu_s) in &mut cpu_s {
            *cpu_s -= self.before.get(name).unwrap_or(&0.0);
        }
        let shares = match self.recording {
            Some(recording) => recording.shares(KINDS)?,
            None => Vec::new(),
        };
        let portal = self.processes.get("portal");
        Ok(Cost {
            cpu_s,
            shares,
            peak_bytes: portal.map_or(Ok(0.0), |portal| peak_bytes(*portal))?,
        })
    }
}

fn used(processes: &BTreeMap<&'static str, u32>) -> Result<BTreeMap<&'static str, f64>> {
    processes
        .iter()
        .map(|(name, pid)| {
            Ok((
                *name,
                cpu_seconds(&[*pid])? + ended_children_cpu_seconds(*pid)?,
            ))
        })
        .collect()
}

impl Cost {
    /// One line: who used how much, for one of `count`.
    pub(super) fn each_ms(&self, count: usize) -> String {
        let parts: Vec<String> = self
            .cpu_s
            .iter()
            .map(|(name, cpu_s)| format!("{name} {:.0} ms", cpu_s / count as f64 * 1e3))
            .collect();
        parts.join(", ")
    }

    /// The portal's memory at its highest.
    pub(super) fn peak(&self) -> String {
        format!("{:.0} MB", self.peak_bytes / 1e6)
    }

    /// One line: the largest kinds of work in the portal.
    pub(super) fn work(&self) -> String {
        let parts: Vec<String> = self
            .shares
            .iter()
            .filter(|(_, share)| *share >= 1.0)
            .map(|(kind, share)| format!("{kind} {share:.0} %"))
            .collect();
        parts.join(", ")
    }
}
