//! Linux, and what other Unixes have in common with it.
//!
//! Keys are protected by file modes (0600 in 0700), the control channel is a socket in a
//! folder that only the user can enter. See [`crate::os`] for the list of duties.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use super::Browser;
use crate::network::{Network, Tables};

/// Names under which browsers of the Chromium family are installed, best first.
const BROWSERS: [&str; 6] = [
    "microsoft-edge",
    "microsoft-edge-stable",
    "google-chrome",
    "google-chrome-stable",
    "chromium",
    "chromium-browser",
];

/// Owner may read and write, nobody else anything.
const PRIVATE_FILE_MODE: u32 = 0o600;

/// Owner may enter, nobody else anything.
const PRIVATE_DIR_MODE: u32 = 0o700;

/// How long the PC has been up, sleep included.
pub fn time_since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

/// Makes a folder that only this user can enter, and its parents.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_DIR_MODE)
        .create(path)?;
    fs::set_permissions(path, Permissions::from_mode(PRIVATE_DIR_MODE))
}

/// Makes a file that only this user can read. It must not exist yet.
pub fn create_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE_FILE_MODE)
        .open(path)
}

/// Takes away what others may do with a secret file. True if there was something to take.
pub fn tighten(path: &Path) -> io::Result<bool> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(false);
    }
    fs::set_permissions(path, Permissions::from_mode(PRIVATE_FILE_MODE))?;
    Ok(true)
}

/// Puts `from` in the place of `to`: at any moment there is the old file or the new.
pub fn replace_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// Makes renames inside a folder survive a power cut.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Wraps a secret for this user on this PC. Here the file's mode is the protection.
pub fn protect(secret: &[u8]) -> io::Result<Vec<u8>> {
    Ok(secret.to_vec())
}

/// Opens what [`protect`] wrapped.
pub fn unprotect(wrapped: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    Ok(Zeroizing::new(wrapped.to_vec()))
}

/// One connection of the control channel.
pub type ControlStream = UnixStream;

/// Where the running agent listens for its other runs.
#[derive(Debug)]
pub struct ControlListener {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlListener {
    /// Listens at `path`. The caller holds the instance lock, so that a file found there is
    /// left over from a run that was killed.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(PRIVATE_FILE_MODE))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// The next connection of this user; other users are turned away.
    pub async fn accept(&self) -> io::Result<ControlStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            if stream.peer_cred()?.uid() == rustix::process::getuid().as_raw() {
                return Ok(stream);
            }
        }
    }
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "control socket was gone already");
        }
    }
}

/// Connects to the running agent.
pub async fn connect_control(path: &Path) -> io::Result<ControlStream> {
    UnixStream::connect(path).await
}

/// Waits until somebody asks this process to end.
pub async fn shutdown_signal() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Asks a program that this one started to end, so that it can save what it has to.
pub fn ask_to_end(process_id: u32) -> io::Result<()> {
    let process = i32::try_from(process_id)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::kill_process(
        process,
        rustix::process::Signal::TERM,
    )?)
}

/// Brings the window of a program that this one started to the front. Window systems here
/// leave that to the user: false, always.
pub fn bring_forward(_process_id: u32) -> bool {
    false
}

/// Lets the running agent bring its window to the front; there is nothing to let here.
pub fn pass_on_the_front() {}

/// Makes what is printed visible; here it always is.
pub fn attach_console() {}

/// Tells the user why the program cannot go on.
pub fn tell_failure(sentence: &str) {
    eprintln!("vpn-agent: {sentence}");
}

/// Says whether the loopback connection from `peer` to `local` was made by this user.
/// Where the system cannot tell, the answer is no.
#[cfg(target_os = "linux")]
pub fn is_same_user(peer: SocketAddr, local: SocketAddr) -> bool {
    let own = rustix::process::getuid().as_raw();
    match fs::read_to_string("/proc/net/tcp") {
        Ok(table) => owner_of(&table, peer, local) == Some(own),
        Err(error) => {
            tracing::warn!(%error, "cannot see who owns a loopback connection");
            false
        }
    }
}

/// The user who owns the socket that is bound to `peer` and connected to `local`, from the
/// text of `/proc/net/tcp`: columns 1 and 2 are the addresses in hex, column 7 the user.
#[cfg(target_os = "linux")]
fn owner_of(table: &str, peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    let (peer, local) = (proc_address(peer)?, proc_address(local)?);
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let addresses = (columns.nth(1)?, columns.next()?);
        (addresses == (peer.as_str(), local.as_str()))
            .then(|| columns.nth(4)?.parse().ok())
            .flatten()
    })
}

/// `127.0.0.1:8080` as `/proc/net/tcp` writes it: the address as a native 32-bit number.
#[cfg(target_os = "linux")]
fn proc_address(address: SocketAddr) -> Option<String> {
    match address.ip() {
        IpAddr::V4(ip) => Some(format!(
            "{:08X}:{:04X}",
            u32::from_ne_bytes(ip.octets()),
            address.port()
        )),
        IpAddr::V6(_) => None,
    }
}

/// Which network the PC is in, by the kernel's tables. None where there are none.
pub fn network() -> Option<Network> {
    let read = |name: &str| fs::read_to_string(Path::new("/proc/net").join(name));
    Network::of(&Tables {
        routes: read("route").unwrap_or_default(),
        neighbours: read("arp").unwrap_or_default(),
        routes_v6: read("ipv6_route").unwrap_or_default(),
    })
}

/// The browsers of the Chromium family in the search path, best first. Their policies are not
/// looked at: here the one who sets them is the one who uses them.
pub fn browsers() -> Vec<Browser> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = BROWSERS.iter().filter_map(|name| {
        std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|file| {
                fs::metadata(file)
                    .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
            })
    });
    found
        .map(|program| Browser {
            program,
            proxy_policy: None,
        })
        .collect()
}

/// What the PC is called; staff see it beside the matching code.
pub fn machine_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if name.is_empty() {
        "PC".to_owned()
    } else {
        name
    }
}

/// The operating system's name and version, for staff.
pub fn system_name() -> String {
    let pretty = fs::read_to_string("/etc/os-release").ok().and_then(|text| {
        text.lines().find_map(|line| {
            Some(
                line.strip_prefix("PRETTY_NAME=")?
                    .trim_matches('"')
                    .to_owned(),
            )
        })
    });
    pretty.unwrap_or_else(|| std::env::consts::OS.to_owned())
}

/// `~/.local/share/renkei`.
pub fn default_data_dir() -> Option<PathBuf> {
    home_or("XDG_DATA_HOME", ".local/share").map(|base| base.join("renkei"))
}

/// `~/.config/renkei/vpn-agent.toml`.
pub fn default_config_file() -> Option<PathBuf> {
    home_or("XDG_CONFIG_HOME", ".config").map(|base| base.join("renkei/vpn-agent.toml"))
}

fn home_or(variable: &str, under_home: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named.filter(|path| path.is_absolute()).or_else(|| {
        let home = PathBuf::from(std::env::var_os("HOME")?);
        home.is_absolute().then(|| home.join(under_home))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    #[cfg(target_os = "linux")]
    fn a_connection_of_this_user_is_known_as_such() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let client = TcpStream::connect(local).unwrap();
        assert!(is_same_user(client.local_addr().unwrap(), local));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_owner_is_the_one_of_the_peers_own_socket() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 1 1\n   \
            1: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 2 1\n";
        let (peer, local) = (
            "127.0.0.1:50000".parse().unwrap(),
            "127.0.0.1:8080".parse().unwrap(),
        );
        assert_eq!(owner_of(table, peer, local), Some(1001));
        assert_eq!(
            owner_of(table, "127.0.0.1:50001".parse().unwrap(), local),
            None
        );
    }

    #[test]
    fn secret_files_are_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("a/b");
        create_private_dir(&dir).unwrap();
        let file = dir.join("key");
        create_private_file(&file).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&file)), (0o700, 0o600));
        assert!(!tighten(&file).unwrap());
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert!(tighten(&file).unwrap());
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn the_boot_clock_runs() {
        let first = time_since_boot();
        assert!(first > Duration::ZERO);
        assert!(time_since_boot() >= first);
    }
}
