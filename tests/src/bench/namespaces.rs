//! Two network namespaces, the fund's and a PC's, and the cable between them.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::Result;

use crate::link::wire::Wire;
use crate::link::{Conditions, End};
use crate::network::{Network, Place, join};
use crate::process::output;

/// The fund's address.
pub(super) const FUND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 90, 0, 1));

/// The PC's address.
const PC: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 90, 0, 2));

/// The device at both ends.
const DEVICE: &str = "cable";

/// What TCP of the kernel goes by on a simulated line.
pub(super) const CONGESTION_CONTROL: &str = "cubic";

/// Losses are the same in each run.
const SEED: u64 = 20;

/// Lets the kernel's TCP of a place be what nearly all PCs and most servers have, whatever this
/// machine is set to. It may be chosen in a namespace only if the machine allows it to anybody.
fn use_cubic(place: &Place) -> Result<()> {
    const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
    let allowed = std::fs::read_to_string(ALLOWED)?;
    if !allowed
        .split_whitespace()
        .any(|name| name == CONGESTION_CONTROL)
    {
        std::fs::write(ALLOWED, format!("{} {CONGESTION_CONTROL}", allowed.trim()))?;
    }
    let setting = format!("net.ipv4.tcp_congestion_control={CONGESTION_CONTROL}");
    output(place.command("sysctl").args(["-q", "-w", &setting])).map(drop)
}

/// What joins the two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cable {
    /// A pair of virtual Ethernet devices: as fast as the kernel.
    Ethernet,
    /// A simulated access line, the same in both directions.
    Line(Conditions),
}

/// The two places. The order of the fields is the order in which they are given up.
#[derive(Debug)]
pub(super) struct Namespaces {
    fund: Place,
    pc: Place,
    wire: Option<Wire>,
    _network: Network,
}

impl Namespaces {
    /// Makes both and joins them.
    ///
    /// # Errors
    /// If this is not root, or iproute2 is missing.
    pub(super) fn join(cable: Cable) -> Result<Self> {
        let mut network = Network::new()?;
        let (fund, pc) = (network.place("fund")?, network.place("pc")?);
        let wire = match cable {
            Cable::Ethernet => {
                join(&fund, &pc, DEVICE)?;
                None
            }
            Cable::Line(conditions) => {
                let both = (conditions, conditions);
                Some(Wire::between(&pc, &fund, DEVICE, both, SEED)?)
            }
        };
        fund.address(DEVICE, &format!("{FUND}/24"))?;
        pc.address(DEVICE, &format!("{PC}/24"))?;
        if wire.is_some() {
            for place in [&fund, &pc] {
                use_cubic(place)?;
            }
        }
        Ok(Self {
            fund,
            pc,
            wire,
            _network: network,
        })
    }

    /// Changes what the line is like. Without effect on [`Cable::Ethernet`].
    pub(super) fn set(&self, conditions: Conditions) {
        if let Some(wire) = &self.wire {
            for end in End::BOTH {
                wire.set(end, conditions);
            }
        }
    }

    /// The fund's side.
    pub(super) fn fund(&self) -> &Place {
        &self.fund
    }

    /// The PC's side.
    pub(super) fn pc(&self) -> &Place {
        &self.pc
    }

    /// A program that runs on the PC.
    pub(super) fn on_pc(&self, program: impl AsRef<OsStr>) -> Command {
        self.pc.command(program)
    }

    /// A name that no other run uses, for devices whose names count beyond their namespace.
    pub(super) fn device(kind: &str) -> String {
        format!("{kind}{}", std::process::id())
    }
}
