//! Linux, and what other Unixes have in common with it.
//!
//! Keys are protected by file modes (0600 in 0700), the control channel is a socket in a
//! folder that only the user can enter. See [`crate::os`] for the list of duties.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeroize::Zeroizing;

mod surroundings;
pub use surroundings::{free_bytes, path_mtu, set_zip_opener, sign_on, system_proxy, zip_opener};

use super::{Browser, Notification, Notifier, PeerCheck, Urgency};
use crate::device_key::chip::Chip;
use crate::network::{self, Network, Seen, Tables};

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

/// A chip that keeps device keys: none is used here.
pub fn key_chip() -> Option<Arc<dyn Chip>> {
    None
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

/// Hears when somebody asks this process to end (SIGTERM, SIGINT), from its making on: what
/// comes while nobody waits is heard by the next who does.
#[derive(Debug)]
pub struct EndSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignal {
    /// From now on such a signal no longer ends the process by itself.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub async fn heard(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
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
/// leave that to the user: false, always, and the caller opens one more window.
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

/// Says whose process made the loopback connection from `peer` to `local`. A dual-stack
/// socket stands in the table of IPv6 even when it speaks IPv4.
#[cfg(target_os = "linux")]
pub fn peer_is_same_user(local: SocketAddr, peer: SocketAddr) -> PeerCheck {
    let own = rustix::process::getuid().as_raw();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // A system without IPv6 has no second table.
        let owner = fs::read_to_string(table)
            .ok()
            .and_then(|table| owner_of(&table, peer, local));
        match owner {
            Some(owner) if owner == own => return PeerCheck::SameUser,
            Some(_) => return PeerCheck::OtherUser,
            None => {}
        }
    }
    PeerCheck::Unknown
}

/// Other Unixes have no such table: nobody is let in.
#[cfg(not(target_os = "linux"))]
pub fn peer_is_same_user(_local: SocketAddr, _peer: SocketAddr) -> PeerCheck {
    PeerCheck::Unknown
}

/// The user who owns the connected socket that is bound to `peer` and speaks to `local`, from
/// the text of `/proc/net/tcp` or `tcp6`: columns 1 and 2 are the addresses in hex, column 3
/// the state, column 7 the user.
#[cfg(target_os = "linux")]
fn owner_of(table: &str, peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    /// What is over (`TIME_WAIT`) stands there as root's.
    const OVER: &str = "06";
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let (bound, speaks_to, state) = (columns.nth(1)?, columns.next()?, columns.next()?);
        let fits = state != OVER
            && proc_address(bound)? == canonical(peer)
            && proc_address(speaks_to)? == canonical(local);
        fits.then(|| columns.nth(3)?.parse().ok()).flatten()
    })
}

#[cfg(target_os = "linux")]
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Reads an address as `/proc/net/tcp` writes it: native 32-bit numbers in hex, then the port.
#[cfg(target_os = "linux")]
fn proc_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = ip.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)
        }
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, port)))
}

/// Which network the PC is in, by the kernel's tables.
pub fn network() -> Seen {
    let read = |name: &str| fs::read_to_string(Path::new("/proc/net").join(name));
    let tables = Tables {
        routes: read("route").unwrap_or_default(),
        neighbours: read("arp").unwrap_or_default(),
        routes_v6: read("ipv6_route").unwrap_or_default(),
    };
    Seen {
        network: Network::of(&tables),
        is_cut: network::is_cut(&tables, has_carrier),
    }
}

/// Whether a cable, or what takes its place, is in an interface. None if that is not known.
fn has_carrier(interface: &str) -> Option<bool> {
    if interface.contains('/') || interface.starts_with('.') {
        return None;
    }
    let file = Path::new("/sys/class/net").join(interface).join("carrier");
    match fs::read_to_string(file).ok()?.trim() {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    }
}

/// The browsers of the Chromium family in the search path, best first. Their policies are not
/// looked at: here the one who sets them is the one who uses them.
pub fn browsers() -> Vec<Browser> {
    let found = BROWSERS.iter().filter_map(|name| find_program(name));
    found
        .map(|program| Browser {
            program,
            proxy_policy: None,
        })
        .collect()
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| {
            fs::metadata(file)
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
}

/// Lets the system's list of programs show the version of the program at `program`, where it
/// was installed for this user. Here packages are the system's.
pub fn note_version(_program: &Path, _version: &str) {}

/// Shows notifications with the desktop's own `notify-send`, where that is installed.
pub fn notifier() -> Arc<dyn Notifier> {
    Arc::new(NotifySend {
        program: find_program("notify-send"),
    })
}

#[derive(Debug)]
struct NotifySend {
    program: Option<PathBuf>,
}

impl Notifier for NotifySend {
    fn notify(&self, notification: &Notification) {
        let Some(program) = &self.program else {
            tracing::debug!("no notify-send here");
            return;
        };
        let urgency = match notification.urgency {
            Urgency::Normal => "--urgency=normal",
            Urgency::High => "--urgency=critical",
        };
        let started = std::process::Command::new(program)
            .args(["--app-name=連携", urgency, "--"])
            .args([&notification.title, &notification.body])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match started {
            // Without somebody who waits for it, it would stay as a zombie.
            Ok(mut child) => drop(std::thread::spawn(move || child.wait())),
            Err(error) => tracing::warn!(%error, "cannot show a notification"),
        }
    }
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

/// What an installer was told: here it writes a settings file.
pub fn installed_gateway() -> Option<String> {
    None
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

    #[tokio::test]
    async fn a_signal_to_end_is_heard_though_nobody_waited_for_it() {
        let mut signal = EndSignal::listen().unwrap();
        {
            // Somebody waits, is interrupted by something else, and is at work when it comes.
            let waiting = signal.heard();
            let other = tokio::time::timeout(Duration::ZERO, waiting).await;
            assert!(other.is_err());
        }
        ask_to_end(std::process::id()).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        signal.heard().await;
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_connection_of_this_user_is_known_as_such() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let client = TcpStream::connect(local).unwrap();
        let peer = client.local_addr().unwrap();
        assert_eq!(peer_is_same_user(local, peer), PeerCheck::SameUser);
        // The same through a socket that stands in the table of IPv6.
        let mapped = SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), local.port());
        if let Ok(client) = TcpStream::connect(mapped) {
            let peer = client.local_addr().unwrap();
            assert_eq!(peer_is_same_user(local, peer), PeerCheck::SameUser);
        }
        // Nobody speaks from there.
        assert_eq!(
            peer_is_same_user(local, ([127, 0, 0, 1], 1).into()),
            PeerCheck::Unknown
        );
    }

    #[test]
    #[cfg(all(target_os = "linux", target_endian = "little"))]
    fn the_owner_is_the_one_of_the_peers_own_connected_socket() {
        const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let row = |from: &str, to: &str, state: &str, owner: u32| {
            format!(
                "   0: {from} {to} {state} 00000000:00000000 00:00000000 00000000  {owner}        0 2 1\n"
            )
        };
        let (peer, local) = (
            "127.0.0.1:50000".parse().unwrap(),
            "127.0.0.1:8080".parse().unwrap(),
        );
        let theirs = row("0100007F:C350", "0100007F:1F90", "01", 1001);
        let ours = row("0100007F:1F90", "0100007F:C350", "01", 0);
        let table = format!("{HEAD}{ours}{theirs}");
        assert_eq!(owner_of(&table, peer, local), Some(1001));
        let other = "127.0.0.1:50001".parse().unwrap();
        assert_eq!(owner_of(&table, other, local), None);
        let mapped = row(
            "0000000000000000FFFF00000100007F:C350",
            "0000000000000000FFFF00000100007F:1F90",
            "01",
            1002,
        );
        assert_eq!(
            owner_of(&format!("{HEAD}{mapped}"), peer, local),
            Some(1002)
        );
        // What is over stands there as root's and says nothing.
        let over = row("0100007F:C350", "0100007F:1F90", "06", 0);
        assert_eq!(owner_of(&format!("{HEAD}{over}"), peer, local), None);
        for rubbish in ["", "x", "a b c d e f g h", "0: zz:1 0:0 01 0 0 0 5 5"] {
            assert_eq!(owner_of(&format!("{HEAD}{rubbish}\n"), peer, local), None);
        }
    }

    #[test]
    fn a_cable_is_asked_about_by_an_interfaces_name_alone() {
        for name in ["../../../etc/passwd", "..", "", "no-such-interface"] {
            assert_eq!(has_carrier(name), None, "{name}");
        }
    }

    #[test]
    fn a_notification_reaches_the_desktops_program() {
        let folder = tempfile::tempdir().unwrap();
        let (program, heard) = (folder.path().join("say"), folder.path().join("heard"));
        let script = format!(
            "#!/bin/sh\nprintf '%s|' \"$@\" > {0}.new && mv {0}.new {0}\n",
            heard.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let notifier = NotifySend {
            program: Some(program),
        };
        notifier.notify(&Notification {
            title: "残り10分".into(),
            body: "--help $(id)".into(),
            urgency: Urgency::High,
        });
        let mut said = String::new();
        for _ in 0..500 {
            said = fs::read_to_string(&heard).unwrap_or_default();
            if !said.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(
            said,
            "--app-name=連携|--urgency=critical|--|残り10分|--help $(id)|"
        );
        NotifySend { program: None }.notify(&Notification {
            title: String::new(),
            body: String::new(),
            urgency: Urgency::Normal,
        });
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
