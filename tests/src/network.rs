//! Network namespaces that a story makes for itself: a PC here, the fund there, a line between.
//!
//! A [`Network`] owns its namespaces and removes them when dropped; those of a run that was
//! killed are removed by the next one, with what still runs in them. A [`Place`] is one
//! namespace: code given to [`Place::run`] sees only its interfaces, and so do the programs it
//! starts. Needs root and iproute2; nothing outside the namespaces is touched.

pub mod squid;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::Runtime;

use crate::process::{output, signal};

/// Where iproute2 keeps named namespaces.
const NAMED: &str = "/run/netns";
/// Where iproute2 looks for files that a namespace has of its own, such as `hosts`.
const FILES: &str = "/etc/netns";
/// What the names of ours begin with; the owner's process id follows.
const PREFIX: &str = "renkei-";

/// Counts the networks of this process, so that parallel stories have names of their own.
static NETWORKS: AtomicU32 = AtomicU32::new(0);
/// One at a time removes what earlier runs left.
static SWEEPING: Mutex<()> = Mutex::new(());

/// Some namespaces that belong together.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    names: BTreeSet<String>,
}

impl Network {
    /// A network without places.
    ///
    /// # Errors
    /// If this is not root, or iproute2 is missing.
    pub fn new() -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "network namespaces need root: run the tests as root, or in a container where root is allowed them"
        );
        output(Command::new("ip").arg("-V")).context("iproute2 (Debian's package iproute2)")?;
        sweep()?;
        Ok(Self {
            prefix: format!(
                "{PREFIX}{}-{}-",
                std::process::id(),
                NETWORKS.fetch_add(1, Ordering::Relaxed)
            ),
            names: BTreeSet::new(),
        })
    }

    /// Makes a namespace with nothing but its loopback.
    pub fn place(&mut self, name: &str) -> Result<Place> {
        let name = format!("{}{name}", self.prefix);
        output(Command::new("ip").args(["netns", "add", &name]))?;
        self.names.insert(name.clone());
        let place = Place::of(name)?;
        place.ip(&["link", "set", "lo", "up"])?;
        Ok(place)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            if let Err(error) = remove(name) {
                eprintln!("namespace {name} stays behind: {error:#}");
            }
        }
    }
}

/// One network namespace, with a runtime whose threads live in it.
#[derive(Debug)]
pub struct Place {
    name: String,
    namespace: File,
    /// None only while it is dropped.
    runtime: Option<Runtime>,
}

impl Place {
    fn of(name: String) -> Result<Self> {
        let path = Path::new(NAMED).join(&name);
        let namespace = File::open(&path).with_context(|| path.display().to_string())?;
        let mut place = Self {
            name,
            namespace,
            runtime: None,
        };
        // Threads inherit the namespace of the one that starts them.
        place.runtime = Some(place.inside(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
        })??);
        Ok(place)
    }

    /// The namespace's name, for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `job` on a thread of its own inside the namespace.
    pub fn inside<T: Send>(&self, job: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| -> Result<T> {
                move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .with_context(|| format!("enter namespace {}", self.name))?;
                Ok(job())
            });
            match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs `job` inside the namespace to its end: its sockets and the programs it starts
    /// belong there.
    pub fn run<T: Send>(&self, job: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
        let runtime = self.runtime.as_ref().context("the place is closed")?;
        self.inside(|| runtime.block_on(job()))?
    }

    /// `ip ARGUMENTS` inside the namespace.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        output(
            Command::new("ip")
                .args(["-netns", &self.name])
                .args(arguments),
        )
    }

    /// Gives a device an address such as `10.0.0.1/24`, usable at once, and brings it up.
    pub fn address(&self, device: &str, address: &str) -> Result<()> {
        let mut arguments = vec!["address", "add", address, "dev", device];
        if address.contains(':') {
            // Nobody else is there: no need to wait for duplicate address detection.
            arguments.push("nodad");
        }
        self.ip(&arguments)?;
        self.ip(&["link", "set", "dev", device, "up"]).map(drop)
    }

    /// Sends what is not local to `gateway`.
    pub fn default_route(&self, gateway: &str) -> Result<()> {
        let family = if gateway.contains(':') { "-6" } else { "-4" };
        self.ip(&[family, "route", "replace", "default", "via", gateway])
            .map(drop)
    }

    /// Passes packets on between its devices, IPv4 and IPv6.
    pub fn forward_packets(&self) -> Result<()> {
        for (file, value) in [
            ("/proc/sys/net/ipv4/ip_forward", "1"),
            ("/proc/sys/net/ipv6/conf/all/forwarding", "1"),
        ] {
            self.inside(|| std::fs::write(file, value))?
                .with_context(|| format!("write {file}"))?;
        }
        Ok(())
    }

    /// Puts a set of nftables rules in place of all earlier ones; empty: everything passes.
    pub fn firewall(&self, rules: &str) -> Result<()> {
        let mut nft = self.command("nft");
        let mut child = nft
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("nft (Debian's package nftables)")?;
        {
            let mut stdin = child.stdin.take().context("stdin")?;
            write!(stdin, "flush ruleset\n{rules}\n")?;
        }
        let done = child.wait_with_output()?;
        ensure!(
            done.status.success(),
            "nft: {}\n{rules}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(())
    }

    /// `PROGRAM` inside the namespace, with the namespace's own [files](Self::file). Its
    /// process is the program's own, so that signals reach it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        command_in(&self.name, program)
    }

    /// Gives the programs of [`Self::command`] a file of their own in place of `/etc/NAME`,
    /// which must exist.
    pub fn file(&self, name: &str, content: &str) -> Result<PathBuf> {
        let folder = Path::new(FILES).join(&self.name);
        std::fs::create_dir_all(&folder)?;
        let file = folder.join(name);
        std::fs::write(&file, content)?;
        Ok(file)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A story may be async itself, where blocking is not allowed.
            runtime.shutdown_background();
        }
    }
}

/// What [`Place::command`] does, where only the place's name is at hand.
pub fn command_in(place: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", place]).arg(program);
    command
}

/// Joins two places by a pair of devices, both called `device` and without addresses.
pub fn join(a: &Place, b: &Place, device: &str) -> Result<()> {
    join_as(a, device, b, device)
}

/// Joins two places by a pair of devices with names of their own.
pub fn join_as(a: &Place, a_device: &str, b: &Place, b_device: &str) -> Result<()> {
    a.ip(&[
        "link", "add", a_device, "type", "veth", "peer", "name", b_device, "netns", &b.name,
    ])?;
    Ok(())
}

/// Removes the namespaces of runs that are over.
fn sweep() -> Result<()> {
    let _one = SWEEPING.lock();
    let Ok(entries) = std::fs::read_dir(NAMED) else {
        return Ok(());
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            remove(&name).with_context(|| format!("remove {name}, left by an earlier run"))?;
        }
    }
    Ok(())
}

/// Ends what still runs in one of our namespaces and removes it.
fn remove(name: &str) -> Result<()> {
    if !name.starts_with(PREFIX) {
        bail!("{name} is not ours");
    }
    for pid in output(Command::new("ip").args(["netns", "pids", name]))?.split_whitespace() {
        let pid: u32 = pid.parse()?;
        // A thread of our own that has not left yet ends by itself.
        if pid != std::process::id() {
            let _ = signal(pid, "KILL");
        }
    }
    output(Command::new("ip").args(["netns", "delete", name]))?;
    match std::fs::remove_dir_all(Path::new(FILES).join(name)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
