//! Asking ClamAV whether a file is known to be harmful.
//!
//! The scanner is another program's, clamd, reached over its socket: what it unpacks, it
//! unpacks in its own process. Without an answer nothing passes: a scanner that is away closes
//! the door and says so, and what was sent stays for another try. A fund that scans elsewhere
//! configures none.

pub mod size;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use clamav_client::TransportProtocol;
use serde::Deserialize;

use crate::filings::check::{Facts, Fault, Rule};

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long clamd may be silent: a large file takes it seconds.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// What is sent at a time, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;
/// Longest name of a signature that is believed, in bytes.
const NAME_LIMIT_BYTES: usize = 200;

/// Where clamd listens: `/run/clamav/clamd.ctl`, or an address and port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Clamd {
    /// A Unix socket.
    Socket(PathBuf),
    /// TCP. clamd has no encryption: only within a machine or a network of one's own.
    Address(SocketAddr),
}

/// Neither a path nor an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("clamd must be the absolute path of its socket, or an address with a port")]
pub struct NotAnAddress;

impl TryFrom<String> for Clamd {
    type Error = NotAnAddress;

    fn try_from(text: String) -> Result<Self, NotAnAddress> {
        if text.starts_with('/') {
            return Ok(Self::Socket(text.into()));
        }
        text.parse().map(Self::Address).map_err(|_| NotAnAddress)
    }
}

/// What clamd says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is known against it.
    Clean,
    /// It fits a signature.
    Infected(String),
}

/// There is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// clamd cannot be reached, or stopped talking.
    #[error("clamd cannot be asked")]
    Unreachable(#[from] io::Error),
    /// clamd gave an answer that is no verdict, such as that a file is too large for it.
    #[error("clamd answered: {0}")]
    NoVerdict(String),
}

/// Asks about a file. Blocks for as long as it takes.
///
/// # Errors
/// [`ScanError`]; then nothing is known of the file.
pub fn scan(clamd: &Clamd, bytes: &[u8]) -> Result<Verdict, ScanError> {
    let ask = || clamav_client::scan_buffer(bytes, clamd, Some(CHUNK_BYTES));
    let answer = ask().or_else(|error| {
        // A scanner that hangs up on a file and answers otherwise cannot judge the file; it
        // may also just have been started anew.
        clamav_client::ping(clamd).map_err(|_| error)?;
        ask()
    });
    match answer {
        Ok(answer) => understand(&answer),
        Err(error) if clamav_client::ping(clamd).is_ok() => {
            Err(ScanError::NoVerdict(error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

/// `stream: OK`, or `stream: NAME FOUND`; anything else is no verdict.
fn understand(answer: &[u8]) -> Result<Verdict, ScanError> {
    let text = String::from_utf8_lossy(answer);
    let text = text.trim_end_matches(['\0', '\n']);
    let said = text.strip_prefix("stream: ");
    if said == Some("OK") {
        return Ok(Verdict::Clean);
    }
    match said.and_then(|said| said.strip_suffix(" FOUND")) {
        Some(name) if name.len() <= NAME_LIMIT_BYTES => Ok(Verdict::Infected(name.to_owned())),
        _ => Err(ScanError::NoVerdict(text.chars().take(200).collect())),
    }
}

/// The rule that a file must be clean.
#[derive(Debug, Clone, Default)]
pub struct IsClean {
    /// Who is asked; none if the fund configured none.
    pub clamd: Option<Clamd>,
}

impl Rule for IsClean {
    fn check(&self, bytes: &[u8], _: &mut Facts) -> Result<(), Fault> {
        let Some(clamd) = &self.clamd else {
            return Ok(());
        };
        match scan(clamd, bytes) {
            Ok(Verdict::Clean) => Ok(()),
            Ok(Verdict::Infected(name)) => Err(Fault::Virus(name)),
            Err(error) => {
                tracing::error!(%error, "a filing could not be scanned and was refused");
                Err(match error {
                    ScanError::NoVerdict(_) => Fault::Unscannable,
                    ScanError::Unreachable(_) => Fault::Unscanned,
                })
            }
        }
    }
}

/// Both kinds of stream.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A connection that gives up when clamd is silent.
pub struct Connection(Box<dyn Stream>);

impl TransportProtocol for &Clamd {
    type Stream = Connection;

    fn connect(&self) -> io::Result<Connection> {
        match self {
            #[cfg(unix)]
            Clamd::Socket(path) => {
                let stream = std::os::unix::net::UnixStream::connect(path)?;
                stream.set_read_timeout(Some(SILENCE_LIMIT))?;
                stream.set_write_timeout(Some(SILENCE_LIMIT))?;
                Ok(Connection(Box::new(stream)))
            }
            #[cfg(not(unix))]
            Clamd::Socket(_) => Err(io::ErrorKind::Unsupported.into()),
            Clamd::Address(address) => {
                let stream = TcpStream::connect_timeout(address, CONNECT_LIMIT)?;
                stream.set_read_timeout(Some(SILENCE_LIMIT))?;
                stream.set_write_timeout(Some(SILENCE_LIMIT))?;
                stream.set_nodelay(true)?;
                Ok(Connection(Box::new(stream)))
            }
        }
    }
}

impl Read for Connection {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
pub(crate) mod tests;
