//! A real clamd with a signature file of its own, which knows one file: EICAR's test file.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::process::{Process, wait_for};

/// EICAR's test file in parts, so that no scanner takes this program for it.
const EICAR: [&str; 3] = [
    "X5O!P%@AP[4\\PZX54(P^)",
    "7CC)7}$EICAR-STANDARD",
    "-ANTIVIRUS-TEST-FILE!$H+H*",
];
/// How long reading the signatures may take, in seconds.
const START_PATIENCE_S: u64 = 60;

/// A running clamd.
#[derive(Debug)]
pub struct Scanner {
    process: Process,
    socket: PathBuf,
}

impl Scanner {
    /// Starts one in `folder`, with its log in `logs`.
    ///
    /// # Errors
    /// If it does not listen.
    pub async fn start(folder: &Path, logs: &Path) -> Result<Self> {
        let signatures = folder.join("signatures");
        std::fs::create_dir_all(&signatures)?;
        let bytes: String = virus().iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(
            signatures.join("renkei.ndb"),
            format!("Renkei.Test:0:*:{bytes}\n"),
        )?;
        let (config, socket) = (folder.join("clamd.conf"), folder.join("clamd.socket"));
        std::fs::write(
            &config,
            format!(
                "DatabaseDirectory {}\nLocalSocket {}\nForeground yes\nTemporaryDirectory {}\n\
                 StreamMaxLength 400M\n",
                signatures.display(),
                socket.display(),
                folder.display()
            ),
        )?;
        let mut command = Command::new("/usr/sbin/clamd");
        command.arg("--config-file").arg(&config);
        let mut process = Process::start("clamd", logs, &mut command)?;
        wait_for("clamd", START_PATIENCE_S, async || {
            process.check_running()?;
            let connected = std::os::unix::net::UnixStream::connect(&socket);
            Ok(connected.is_ok().then_some(()))
        })
        .await?;
        Ok(Self { process, socket })
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// What the scanner finds.
pub fn virus() -> Vec<u8> {
    EICAR.concat().into_bytes()
}
