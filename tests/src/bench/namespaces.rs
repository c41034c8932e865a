//! Two network namespaces, the fund's and a PC's, joined by a pair of virtual Ethernet devices.
//!
//! Made with `ip` from iproute2. They are named after the process, so that two runs do not
//! meet; what a killed run left behind is cleaned up by the next.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::process::output;

/// Where `ip netns` keeps its namespaces.
const NAMESPACES: &str = "/run/netns";

/// All our namespaces' names begin so; the process id follows.
const PREFIX: &str = "rkbench-";

/// Set in the process that runs inside the fund's namespace: the process that made it.
const OWNER_VARIABLE: &str = "RENKEI_BENCH_OWNER";

/// The fund's address.
pub(super) const FUND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 90, 0, 1));

/// The PC's address.
const PC: &str = "10.90.0.2";

/// The pair. Removed when dropped by the process that made it.
#[derive(Debug)]
pub(super) struct Namespaces {
    owner: String,
    made_here: bool,
}

impl Namespaces {
    /// The namespaces that this process was put into, if it was.
    pub(super) fn inside() -> Option<Self> {
        std::env::var(OWNER_VARIABLE).ok().map(|owner| Self {
            owner,
            made_here: false,
        })
    }

    /// Makes both and joins them.
    ///
    /// # Errors
    /// If this is not root, or `ip` cannot do it.
    pub(super) fn make() -> Result<Self> {
        sweep();
        let pair = Self {
            owner: std::process::id().to_string(),
            made_here: true,
        };
        let (fund, pc) = (pair.name("fund"), pair.name("pc"));
        for name in [&fund, &pc] {
            ip(&["netns", "add", name]).context("network namespaces need root")?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        ip(&[
            "link",
            "add",
            "veth-fund",
            "netns",
            &fund,
            "type",
            "veth",
            "peer",
            "name",
            "veth-pc",
            "netns",
            &pc,
        ])?;
        for (name, device, address) in [
            (&fund, "veth-fund", FUND.to_string()),
            (&pc, "veth-pc", PC.to_owned()),
        ] {
            let address = format!("{address}/24");
            ip(&["-n", name, "addr", "add", &address, "dev", device])?;
            ip(&["-n", name, "link", "set", device, "up"])?;
        }
        Ok(pair)
    }

    /// Runs this program again with the same arguments inside the fund's namespace.
    ///
    /// # Errors
    /// If it fails there.
    pub(super) fn run_inside(&self) -> Result<()> {
        let this = std::env::current_exe()?;
        let status = self
            .fund(&this)
            .args(std::env::args_os().skip(1))
            .env(OWNER_VARIABLE, &self.owner)
            .status()?;
        ensure!(status.success(), "the benchmark ended with {status}");
        Ok(())
    }

    /// A program that runs on the PC.
    pub(super) fn pc(&self, program: impl AsRef<Path>) -> Command {
        inside(&self.pc_file(), program.as_ref())
    }

    /// The PC's namespace as a file.
    pub(super) fn pc_file(&self) -> PathBuf {
        Path::new(NAMESPACES).join(self.name("pc"))
    }

    fn fund(&self, program: &Path) -> Command {
        inside(&Path::new(NAMESPACES).join(self.name("fund")), program)
    }

    /// `ip` on the PC.
    pub(super) fn ip_pc(&self, arguments: &[&str]) -> Result<()> {
        let pc = self.name("pc");
        ip(&[&["-n", &pc], arguments].concat())
    }

    /// `ip` at the fund.
    pub(super) fn ip_fund(&self, arguments: &[&str]) -> Result<()> {
        let fund = self.name("fund");
        ip(&[&["-n", &fund], arguments].concat())
    }

    /// A short name that no other run uses, for devices: at most 15 characters with `kind`.
    pub(super) fn device(&self, kind: &str) -> String {
        format!("{kind}{}", self.owner)
    }

    fn name(&self, who: &str) -> String {
        format!("{PREFIX}{}-{who}", self.owner)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        if self.made_here {
            for who in ["fund", "pc"] {
                let _ = ip(&["netns", "del", &self.name(who)]);
            }
        }
    }
}

fn inside(namespace: &Path, program: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", namespace.display()))
        .arg(program);
    command
}

fn ip(arguments: &[&str]) -> Result<()> {
    output(Command::new("ip").args(arguments)).map(|_| ())
}

/// Removes what runs have left whose process is no more.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(NAMESPACES) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            let _ = ip(&["netns", "del", &name]);
        }
    }
}
