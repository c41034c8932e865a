//! The agent's log: standard error for whoever started it there, and a small file that a
//! support bundle can take the end of.
//!
//! The file holds what this crate says at `info` and above, whatever `RUST_LOG` wants on
//! standard error: at these levels nothing names an address, a person or a secret. It is the
//! user's alone, bounded, and never the reason why something fails: what cannot be written is
//! lost. Only the process that is the agent writes ([`keep_in`]); `status` and its like do not.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::clock;
use crate::os;

/// The file, in the data folder; the one before it has `.1` behind the name.
pub const FILE_NAME: &str = "agent.log";

/// When a file is put aside for a new one, in bytes. There are two at most.
pub const FILE_LIMIT_BYTES: u64 = 256 * 1024;

/// Whose words are kept.
const OURS: &str = "vpn_agent";

/// Where this process keeps its log, once that is known.
static KEPT: OnceLock<LogFile> = OnceLock::new();

/// Begins to log. Called once, by the program.
pub fn begin() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let seen = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_filter(filter);
    tracing_subscriber::registry()
        .with(seen)
        .with(kept(&KEPT))
        .init();
}

/// Keeps the log in `folder` from now on. The caller is the one agent of this folder.
pub fn keep_in(folder: &Path) {
    // A second call is a test's.
    let _ = KEPT.set(LogFile::in_folder(folder));
}

/// What is written into the file that stands in `file`, once one does.
fn kept<S>(file: &'static OnceLock<LogFile>) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fmt::layer()
        .with_ansi(false)
        .with_timer(WallTime)
        .with_writer(move || Line(file.get()))
        .with_filter(Targets::new().with_target(OURS, LevelFilter::INFO))
}

/// The last `limit_bytes` of the log in `folder`, from the beginning of a line. Empty if there
/// is none.
pub fn tail(folder: &Path, limit_bytes: u64) -> String {
    let path = folder.join(FILE_NAME);
    let newest = end_of(&path, limit_bytes).unwrap_or_default();
    let left = limit_bytes.saturating_sub(newest.len() as u64);
    let older = end_of(&put_aside(&path), left).unwrap_or_default();
    older + &newest
}

fn end_of(path: &Path, limit_bytes: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let skipped = length.saturating_sub(limit_bytes);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(limit_bytes).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if skipped == 0 {
        return Ok(text);
    }
    let whole = text.split_once('\n').map_or("", |(_, rest)| rest);
    Ok(whole.to_owned())
}

fn put_aside(path: &Path) -> PathBuf {
    path.with_file_name(format!("{FILE_NAME}.1"))
}

/// A log file that is put aside when it is full.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    file: File,
    length: u64,
}

impl LogFile {
    /// The log of `folder`; nothing is written yet.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            path: folder.join(FILE_NAME),
            open: Mutex::new(None),
        }
    }

    /// Adds a line. One that cannot be written is lost, and the next tries again.
    pub(crate) fn add(&self, line: &[u8]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let added = self.add_to(&mut open, line);
        if added.is_err() {
            *open = None;
        }
    }

    fn add_to(&self, open: &mut Option<Open>, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if open
            .as_ref()
            .is_none_or(|open| open.length + length > FILE_LIMIT_BYTES)
        {
            // Windows renames no open file.
            *open = None;
            let mut begun = Open::at(&self.path)?;
            if begun.length + length > FILE_LIMIT_BYTES {
                drop(begun);
                os::replace_file(&self.path, &put_aside(&self.path))?;
                begun = Open::at(&self.path)?;
            }
            *open = Some(begun);
        }
        if let Some(open) = open {
            open.file.write_all(line)?;
            open.length += length;
        }
        Ok(())
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let file = match OpenOptions::new().append(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => os::create_private_file(path)?,
            opened => opened?,
        };
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }
}

/// One event on its way into the file, if there is one.
struct Line(Option<&'static LogFile>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(file) = self.0 {
            file.add(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The PC's wall clock in Japan's time, to the second: what a clerk tells by telephone.
struct WallTime;

impl FormatTime for WallTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        let now = clock::wall().to_offset(access::JST);
        let date = now.date();
        write!(
            writer,
            "{}-{:02}-{:02} {:02}:{:02}:{:02}",
            date.year(),
            u8::from(date.month()),
            date.day(),
            now.hour(),
            now.minute(),
            now.second()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize) -> String {
        format!("line {number} {}\n", "x".repeat(200))
    }

    #[test]
    fn the_log_is_bounded_and_its_end_is_found_across_both_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = LogFile::in_folder(folder.path());
        for number in 0..5000 {
            file.add(line(number).as_bytes());
        }
        let mut sizes: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        sizes.sort_unstable();
        assert_eq!(sizes.len(), 2);
        assert!(
            sizes.iter().all(|size| *size <= FILE_LIMIT_BYTES),
            "{sizes:?}"
        );
        let newest = std::fs::metadata(folder.path().join(FILE_NAME))
            .unwrap()
            .len();
        let end = tail(folder.path(), newest + 1000);
        assert!(
            end.starts_with("line ") && end.ends_with(&line(4999)),
            "{end}"
        );
        let numbers: Vec<usize> = end
            .lines()
            .map(|line| line.split(' ').nth(1).unwrap().parse().unwrap())
            .collect();
        assert!(numbers.is_sorted() && numbers.len() as u64 > newest / 220);
        assert!(end.len() as u64 <= newest + 1000);
    }

    #[test]
    fn a_log_goes_on_after_a_restart_and_after_the_disk_was_full() {
        let folder = tempfile::tempdir().unwrap();
        LogFile::in_folder(folder.path()).add(b"first\n");
        let again = LogFile::in_folder(folder.path());
        again.add(b"second\n");
        assert_eq!(tail(folder.path(), 100), "first\nsecond\n");
        // A folder in the file's place: nothing can be written.
        let gone = folder.path().join("gone");
        std::fs::create_dir_all(gone.join(FILE_NAME)).unwrap();
        let file = LogFile::in_folder(&gone);
        file.add(b"lost\n");
        std::fs::remove_dir(gone.join(FILE_NAME)).unwrap();
        file.add(b"kept\n");
        assert_eq!(tail(&gone, 100), "kept\n");
        assert_eq!(tail(&folder.path().join("nowhere"), 100), "");
    }

    #[cfg(unix)]
    #[test]
    fn only_the_user_can_read_the_log() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        LogFile::in_folder(folder.path()).add(b"x\n");
        let mode = std::fs::metadata(folder.path().join(FILE_NAME)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }
}
