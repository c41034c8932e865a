//! Windows 10 and 11.
//!
//! Keys are wrapped by the Data Protection API and lie in files that only the user may read;
//! the control channel is a named pipe under a name that only the user can learn. Every call
//! of Windows itself is in the crate `windows-calls`. See [`crate::os`] for the list of duties.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient, NamedPipeServer};
use tokio::signal::windows::{
    self as signal, CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown,
};
use tokio::sync::{Mutex, Notify};
use windows_calls::networks::Adapter;
use windows_calls::peers::Owner;
use windows_calls::registry::{self, Root};
use windows_calls::tray::{Event, Tray};
use zeroize::Zeroizing;

use super::{Notification, Notifier, PRODUCT_NAME, PeerCheck};
use crate::network::{Network, Seen};
use crate::secret::random_bytes;
use crate::update::take_over;

mod browsers;
mod chip;
mod surroundings;
pub use browsers::browsers;
pub use chip::key_chip;
pub use surroundings::{free_bytes, path_mtu, set_zip_opener, sign_on, system_proxy, zip_opener};

/// What DPAPI mixes into the wrapping: another program of this user that asks Windows to open
/// the file gets nothing without knowing it.
const KEY_PURPOSE: &[u8] = b"renkei vpn-agent: device key, 1";

/// What every control pipe's name begins with.
const PIPE_PREFIX: &str = r"\\.\pipe\renkei-";

/// Longest file with a pipe's name, in bytes.
const MAX_PIPE_NAME_BYTES: u64 = 200;

/// All ends of the pipe are taken for a moment (`ERROR_PIPE_BUSY`).
const PIPE_BUSY: i32 = 231;

/// How often, and after which pause, a busy pipe or a file in use is tried again.
const TRIES: u32 = 25;
const PAUSE: Duration = Duration::from_millis(20);

/// Builds from here on are Windows 11, whatever the product's name in the registry says.
const FIRST_BUILD_OF_11: u32 = 22_000;

/// Where Windows says what it is.
const VERSION_KEY: &str = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion";

/// Where the installer wrote the program into the list of programs, in the user's half.
const UNINSTALL_KEY: &str = r"Software\Microsoft\Windows\CurrentVersion\Uninstall\Renkei";

/// The hidden window's class, by which installers find the running agent.
const WINDOW_CLASS: &str = "RenkeiAgent";

/// Where the installers write what they were told.
const INSTALLED_KEY: &str = r"Software\Renkei\Agent";

/// Somebody asked for the end by other ways than the console.
static END_WANTED: Notify = Notify::const_new();

/// How long the PC has been up, sleep included.
pub fn time_since_boot() -> Duration {
    windows_calls::clock::since_boot()
}

/// Makes a folder that only this user can enter, and its parents.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent()
        && !parent.as_os_str().is_empty()
        && !parent.is_dir()
    {
        create_private_dir(parent)?;
    }
    windows_calls::files::create_private_dir(path)
}

/// Makes a file that only this user can read. It must not exist yet.
pub fn create_private_file(path: &Path) -> io::Result<File> {
    windows_calls::files::create_private_file(path)
}

/// Takes away what others may do with a secret file. True if there was something to take.
pub fn tighten(path: &Path) -> io::Result<bool> {
    windows_calls::files::tighten(path)
}

/// Puts `from` in the place of `to`: at any moment there is the old file or the new. A virus
/// scanner holds new files open for a moment; that is waited for.
pub fn replace_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match windows_calls::files::replace(from, to) {
            Err(error) if tries < TRIES && windows_calls::files::is_in_use(&error) => {
                tries += 1;
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

/// Makes renames inside a folder survive a power cut. NTFS logs them, and [`replace_file`]
/// has written through; there is nothing left to do.
pub fn sync_dir(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Wraps a secret for this user on this PC.
pub fn protect(secret: &[u8]) -> io::Result<Vec<u8>> {
    windows_calls::secrets::protect(secret, KEY_PURPOSE)
}

/// Opens what [`protect`] wrapped. An error when it was wrapped by another user or on another
/// PC.
pub fn unprotect(wrapped: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    windows_calls::secrets::unprotect(wrapped, KEY_PURPOSE)
}

/// One connection of the control channel.
#[derive(Debug)]
pub enum ControlStream {
    /// In the running agent.
    Server(NamedPipeServer),
    /// In the run that asks it.
    Client(NamedPipeClient),
}

/// Where the running agent listens for its other runs.
#[derive(Debug)]
pub struct ControlListener {
    name: String,
    path: PathBuf,
    next: Mutex<NamedPipeServer>,
}

impl ControlListener {
    /// Listens on a pipe with a new name, which is written to `path`, where only this user can
    /// read it: nobody else can have made a pipe of that name before.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let random: [u8; 16] = random_bytes().map_err(io::Error::other)?;
        let name = format!("{PIPE_PREFIX}{:032x}", u128::from_le_bytes(random));
        let next = windows_calls::pipes::server(&name, true)?;
        let temporary = path.with_extension("new");
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        create_private_file(&temporary)?.write_all(name.as_bytes())?;
        replace_file(&temporary, path)?;
        Ok(Self {
            name,
            path: path.to_owned(),
            next: Mutex::new(next),
        })
    }

    /// The next connection of this user; the pipe lets nobody else in.
    pub async fn accept(&self) -> io::Result<ControlStream> {
        let mut next = self.next.lock().await;
        let connected = next.connect().await;
        let following = windows_calls::pipes::server(&self.name, false)?;
        let stream = std::mem::replace(&mut *next, following);
        connected.map(|()| ControlStream::Server(stream))
    }
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control pipe's name was gone already");
        }
    }
}

/// Connects to the running agent.
pub async fn connect_control(path: &Path) -> io::Result<ControlStream> {
    let mut name = String::new();
    File::open(path)?
        .take(MAX_PIPE_NAME_BYTES)
        .read_to_string(&mut name)?;
    if !name.starts_with(PIPE_PREFIX) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut tries = 0;
    loop {
        match ClientOptions::new().open(&name) {
            Err(error) if tries < TRIES && error.raw_os_error() == Some(PIPE_BUSY) => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            opened => return opened.map(ControlStream::Client),
        }
    }
}

impl AsyncRead for ControlStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = match self.get_mut() {
            Self::Server(pipe) => Pin::new(pipe).poll_read(context, buffer),
            Self::Client(pipe) => Pin::new(pipe).poll_read(context, buffer),
        };
        match read {
            // How Windows says that the other side has closed.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                Poll::Ready(Ok(()))
            }
            read => read,
        }
    }
}

impl AsyncWrite for ControlStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Server(pipe) => Pin::new(pipe).poll_write(context, bytes),
            Self::Client(pipe) => Pin::new(pipe).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Server(pipe) => Pin::new(pipe).poll_flush(context),
            Self::Client(pipe) => Pin::new(pipe).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Server(pipe) => Pin::new(pipe).poll_shutdown(context),
            Self::Client(pipe) => Pin::new(pipe).poll_shutdown(context),
        }
    }
}

/// Hears when somebody asks this process to end, from its making on: by the console, by the
/// end of the logon, or by [`want_end`]. What comes while nobody waits is heard by the next
/// who does.
#[derive(Debug)]
pub struct EndSignal {
    interrupt: CtrlC,
    stop: CtrlBreak,
    close: CtrlClose,
    logoff: CtrlLogoff,
    shutdown: CtrlShutdown,
}

impl EndSignal {
    /// From now on such a signal no longer ends the process by itself.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal::ctrl_c()?,
            stop: signal::ctrl_break()?,
            close: signal::ctrl_close()?,
            logoff: signal::ctrl_logoff()?,
            shutdown: signal::ctrl_shutdown()?,
        })
    }

    /// Waits for the next one.
    pub async fn heard(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.stop.recv() => {}
            _ = self.close.recv() => {}
            _ = self.logoff.recv() => {}
            _ = self.shutdown.recv() => {}
            () = END_WANTED.notified() => {}
        }
    }
}

/// Asks this process to end.
pub fn want_end() {
    END_WANTED.notify_one();
}

/// Asks a program that this one started to end, as a click on its window's × does.
pub fn ask_to_end(process_id: u32) -> io::Result<()> {
    if windows_calls::windows::ask_to_close(process_id) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::NotFound, "it has no window"))
    }
}

/// Brings the window of a program that this one started to the front. False if it has none.
pub fn bring_forward(process_id: u32) -> bool {
    windows_calls::windows::bring_forward(process_id)
}

/// Lets the running agent bring its window to the front, which Windows allows only to the
/// program that the user has just started: this one.
pub fn pass_on_the_front() {
    windows_calls::windows::let_others_come_forward();
}

/// Shows notifications from an icon in the notification area. The same icon's hidden window
/// hears when the user logs off, or an installer wants the program to end.
pub fn notifier() -> Arc<dyn Notifier> {
    let tray = Tray::open(WINDOW_CLASS, PRODUCT_NAME, |event| match event {
        Event::Clicked => start_again(),
        Event::EndWanted => want_end(),
    });
    Arc::new(TrayNotifier {
        tray: tray
            .inspect_err(|error| tracing::debug!(%error, "no icon in the notification area"))
            .ok(),
    })
}

#[derive(Debug)]
struct TrayNotifier {
    tray: Option<Tray>,
}

impl Notifier for TrayNotifier {
    fn notify(&self, notification: &Notification) {
        match &self.tray {
            Some(tray) => tray.notify(&notification.title, &notification.body),
            None => tracing::debug!("no icon to show a notification at"),
        }
    }
}

/// Does what one more double click does: it finds this process and brings its window up.
fn start_again() {
    let started = std::process::Command::new(take_over::program())
        .args(take_over::arguments())
        .spawn();
    if let Err(error) = started {
        tracing::warn!(%error, "cannot bring the window up");
    }
}

/// Makes what is printed visible, if the program was started from a console.
pub fn attach_console() {
    windows_calls::console::attach();
}

/// Tells the user why the program cannot go on: on the console, or in a box where the program
/// was started by a double click.
pub fn tell_failure(sentence: &str) {
    if windows_calls::console::is_heard() {
        eprintln!("vpn-agent: {sentence}");
    } else {
        windows_calls::console::show(PRODUCT_NAME, sentence);
    }
}

/// Says whose process made the loopback connection from `peer` to `local`.
pub fn peer_is_same_user(local: SocketAddr, peer: SocketAddr) -> PeerCheck {
    match windows_calls::peers::owner(local, peer) {
        Ok(Owner::SameUser) => PeerCheck::SameUser,
        Ok(Owner::OtherUser(_)) => PeerCheck::OtherUser,
        Ok(Owner::Nobody) => PeerCheck::Unknown,
        Err(error) => {
            tracing::warn!(%error, "cannot see who owns a loopback connection");
            PeerCheck::Unknown
        }
    }
}

/// Which network the PC is in, by its best adapters with a way out.
pub fn network() -> Seen {
    let adapters = match windows_calls::networks::adapters() {
        Ok(adapters) => adapters,
        Err(error) => {
            tracing::debug!(%error, "cannot see the network adapters");
            return Seen {
                network: None,
                is_cut: false,
            };
        }
    };
    let v4 = best(&adapters, IpAddr::is_ipv4, |adapter| adapter.metric);
    let v6 = best(&adapters, IpAddr::is_ipv6, |adapter| adapter.metric_v6);
    let router = v4.and_then(|(adapter, gateway)| match gateway {
        IpAddr::V4(gateway) => windows_calls::networks::hardware_address(gateway, adapter.index),
        IpAddr::V6(_) => None,
    });
    let router: Option<String> =
        router.map(|address| address.iter().map(|byte| format!("{byte:02x}")).collect());
    let place = |(adapter, gateway)| place(adapter, gateway);
    Seen {
        network: Network::of_places(
            v4.map(place).as_deref(),
            v6.map(place).as_deref(),
            router.as_deref(),
        ),
        is_cut: adapters.iter().all(|adapter| {
            let mut addresses = adapter.addresses.iter();
            addresses.all(|(address, _)| address.is_loopback())
        }),
    }
}

/// The adapter of one family whose routes cost least, with its gateway.
fn best(
    adapters: &[Adapter],
    family: impl Fn(&IpAddr) -> bool,
    metric: impl Fn(&Adapter) -> u32,
) -> Option<(&Adapter, IpAddr)> {
    let with_gateway = adapters.iter().filter_map(|adapter| {
        let gateway = adapter.gateways.iter().copied().find(&family)?;
        Some((adapter, gateway))
    });
    with_gateway.min_by_key(|(adapter, _)| metric(adapter))
}

/// Adapter, gateway and own prefixes of that family, link-local ones aside.
fn place(adapter: &Adapter, gateway: IpAddr) -> String {
    let mut prefixes: Vec<String> = adapter
        .addresses
        .iter()
        .filter(|(address, _)| address.is_ipv4() == gateway.is_ipv4())
        .filter_map(|(address, length)| prefix(*address, *length))
        .collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    format!("{} {gateway} {}", adapter.name, prefixes.join(" "))
}

/// The network part of an address. Longer IPv6 prefixes than 64 bits change by themselves.
fn prefix(address: IpAddr, length: u8) -> Option<String> {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(length.min(32)))
                .unwrap_or(0);
            Some(format!("{:08x}/{length}", u32::from(address) & mask))
        }
        IpAddr::V6(address) if address.is_unicast_link_local() => None,
        IpAddr::V6(address) => Some(format!("{:016x}", u128::from(address) >> 64)),
    }
}

/// What the PC is called; staff see it beside the matching code.
pub fn machine_name() -> String {
    std::env::var("COMPUTERNAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "PC".to_owned())
}

/// The operating system's name and version, for staff.
pub fn system_name() -> String {
    let text = |name| registry::text(Root::LocalMachine64, VERSION_KEY, name);
    let build = text("CurrentBuildNumber").or_else(|| text("CurrentBuild"));
    let name = text("ProductName").unwrap_or_else(|| "Windows".to_owned());
    let is_11 = build
        .as_deref()
        .and_then(|build| build.parse().ok())
        .is_some_and(|build: u32| build >= FIRST_BUILD_OF_11);
    let name = if is_11 {
        name.replace("Windows 10", "Windows 11")
    } else {
        name
    };
    [Some(name), text("DisplayVersion"), build]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
}

/// `%LOCALAPPDATA%\Renkei`.
pub fn default_data_dir() -> Option<PathBuf> {
    let local = PathBuf::from(std::env::var_os("LOCALAPPDATA")?);
    local.is_absolute().then(|| local.join("Renkei"))
}

/// The gateway that an installer was told: for this user, or by group policy for the whole PC.
pub fn installed_gateway() -> Option<String> {
    [Root::CurrentUser, Root::LocalMachine64]
        .into_iter()
        .filter_map(|root| registry::text(root, INSTALLED_KEY, "GatewayUrl"))
        .find(|url| !url.is_empty())
}

/// Lets the list of programs show the version of the program at `program`, if the installer
/// put it there for this user: after an update it would show the one that was installed.
pub fn note_version(program: &Path, version: &str) {
    let text = |name| registry::text(Root::CurrentUser, UNINSTALL_KEY, name);
    let installed = text("InstallLocation").map(PathBuf::from);
    let is_here = installed.is_some() && installed.as_deref() == program.parent();
    if !is_here || text("DisplayVersion").as_deref() == Some(version) {
        return;
    }
    if let Err(error) = registry::set_own_text(UNINSTALL_KEY, "DisplayVersion", version) {
        tracing::warn!(%error, "the list of programs shows an older version");
    }
}

/// `%LOCALAPPDATA%\Renkei\vpn-agent.toml`.
pub fn default_config_file() -> Option<PathBuf> {
    default_data_dir().map(|folder| folder.join("vpn-agent.toml"))
}
