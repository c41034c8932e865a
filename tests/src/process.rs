//! A program that runs beside the story and ends with it.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How long a program may take to end by itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);
/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(20);

/// A running program, its log in a file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its log in `folder/name.log`, appended.
    pub fn start(name: &str, folder: &Path, command: &mut Command) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stderr(Stdio::from(file.try_clone()?))
            .stdout(Stdio::from(file))
            .spawn()
            .with_context(|| format!("start {name}: {command:?}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything the program has logged.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Fails with the end of the log if the program is no longer running.
    pub fn check_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = self.log_text();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            bail!(
                "{} ended with {status}:\n{}",
                self.name,
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
        Ok(())
    }

    /// Ends the program at once, as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks the program to end (SIGTERM) and returns its exit code.
    pub fn terminate(&mut self) -> Result<Option<i32>> {
        signal(self.pid(), "TERM")?;
        #[expect(
            clippy::disallowed_methods,
            reason = "a story measures on the machine's clock"
        )]
        let start = Instant::now();
        while start.elapsed() < GRACE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            std::thread::sleep(POLL);
        }
        self.kill();
        bail!("{} did not end within {GRACE:?} of SIGTERM", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.terminate().is_err() {
            self.kill();
        }
    }
}

/// Sends a signal by name (`TERM`, `STOP`, `CONT`, `INT`).
pub fn signal(pid: u32, name: &str) -> Result<()> {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status()?;
    if !status.success() {
        bail!("kill -{name} {pid}: {status}");
    }
    Ok(())
}

/// Runs a program to its end, however that is. What it prints goes through files: a program that
/// it starts and that stays, such as Wine's desktop, would hold a pipe open for ever.
pub fn run(command: &mut Command) -> Result<Output> {
    let (out, err) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let status = command
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(err.try_clone()?)
        .status()
        .with_context(|| format!("run {command:?}"))?;
    let read = |mut file: File| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    Ok(Output {
        status,
        stdout: read(out)?,
        stderr: read(err)?,
    })
}

/// Runs a program to its end and returns what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Waits until `look` finds something, `seconds` at most on the machine's clock, looks that
/// take long included. `what` says what for.
pub async fn wait_for<T>(
    what: &str,
    seconds: u64,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let mut last = None;
    let looks = async {
        loop {
            match look().await {
                Ok(Some(found)) => return found,
                Ok(None) => {}
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(POLL).await;
        }
    };
    if let Ok(found) = tokio::time::timeout(Duration::from_secs(seconds), looks).await {
        return Ok(found);
    }
    match last {
        Some(error) => Err(error.context(format!("waited {seconds} s for {what}"))),
        None => bail!("waited {seconds} s for {what}"),
    }
}

/// Returns a port of 127.0.0.1 that is free now, for TCP and for UDP, and no other one that
/// this program was given. It lies below those that systems give to who names none: nobody
/// takes it by chance before it is bound, or while its program is being restarted.
pub fn free_port() -> Result<u16> {
    const PORTS: std::ops::Range<u16> = 10_000..32_000;
    /// Where two programs that run side by side begin apart from each other.
    const STRIDE: u32 = 521;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(STRIDE);
    for _ in PORTS {
        let next = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from(next % u32::from(PORTS.end - PORTS.start))?;
        let address = ("127.0.0.1", port);
        if std::net::TcpListener::bind(address).is_ok()
            && std::net::UdpSocket::bind(address).is_ok()
        {
            return Ok(port);
        }
    }
    bail!("no port of {PORTS:?} is free")
}
