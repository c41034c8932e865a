//! A fund on the internet, and offices and a home around it.
//!
//! ```text
//!  pc ── edge ── fund        an office behind a firewall with a squid, IPv4 or IPv6 alone
//!  pc ══ line0 ══ fund       a home with two simulated lines, of which one is used at a time
//!     ══ line1 ══
//! ```

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use renkei_tests::job::{ADMIN_EMAIL, Letter};
use renkei_tests::link::wire::Wire;
use renkei_tests::link::{Conditions, End};
use renkei_tests::network::squid::Squid;
use renkei_tests::network::{Hook, Network, Place, join_as};
use renkei_tests::process::{output, wait_for};
use renkei_tests::{Agent, Front, MemberPages, OfficePages, Stage, StageOptions};

/// The gateway's name; offices find it in their `hosts` files.
pub const GATEWAY_HOST: &str = "gw.renkei.test";
/// The gateway's address (RFC 5737).
const FUND_V4: &str = "203.0.113.1";
/// The gateway's address (RFC 3849).
const FUND_V6: &str = "2001:db8::1";
/// The gateway's own UDP port; the other is [`TLS_PORT`].
const UDP_PORT: u16 = 51820;
/// The gateway's TLS port.
const TLS_PORT: u16 = 443;
/// How long a line may take until it carries, in seconds.
const LINE_UP_S: u64 = 20;
/// A home's lines.
pub const LINES: [&str; 2] = ["line0", "line1"];
/// Every machine's own names.
const LOCAL: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// The addresses that an office has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    fn fund(self) -> &'static str {
        match self {
            Self::V4 => FUND_V4,
            Self::V6 => FUND_V6,
        }
    }
}

/// The fund's programs with what stands around them.
pub struct Town {
    pub stage: Stage,
    desk: OfficePages,
    letter: Letter,
    first_code: Mutex<Option<String>>,
    fund: Place,
    network: Mutex<Network>,
    _alone: MutexGuard<'static, ()>,
}

/// Towns stand one after the other: their stories measure seconds, on a machine with few cores.
static ONE_TOWN: Mutex<()> = Mutex::new(());

/// An office: a PC behind a firewall.
pub struct Office {
    pub family: Family,
    pub pc: Place,
    pub edge: Place,
    /// What every agent of the office was enrolled with.
    enrolled: Agent,
    /// How many agents were installed after it.
    agents: AtomicU32,
    _squid: Squid,
}

impl Town {
    /// Starts the fund.
    pub fn new() -> Result<Self> {
        let alone = ONE_TOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut network = Network::new()?;
        let fund = network.place("fund")?;
        let options = StageOptions {
            front: Some(front()?),
            ..StageOptions::default()
        };
        let (stage, desk, letter) = fund.run(async || {
            let stage = Stage::start(options).await?;
            let desk = OfficePages::open(&stage)?;
            desk.sign_in(&stage).await?;
            let letter = desk.register().await?;
            Ok((stage, desk, letter))
        })?;
        Ok(Self {
            stage,
            desk,
            first_code: Mutex::new(Some(letter.registration_code.clone())),
            letter,
            fund,
            network: Mutex::new(network),
            _alone: alone,
        })
    }

    /// Builds an office and enrols its PC. One for each family.
    pub fn office(&self, family: Family) -> Result<Office> {
        let name = format!("{family:?}").to_lowercase();
        let (pc, edge) = {
            let mut network = self.network.lock().expect("no office panics");
            (
                network.place(&format!("pc-{name}"))?,
                network.place(&format!("edge-{name}"))?,
            )
        };
        let wan = format!("wan-{name}");
        join_as(&edge, &wan, &self.fund, &wan)?;
        join_as(&pc, "lan", &edge, "lan")?;
        match family {
            Family::V4 => {
                self.fund.address(&wan, &format!("{FUND_V4}/24"))?;
                edge.address(&wan, "203.0.113.2/24")?;
                edge.address("lan", "192.168.4.1/24")?;
                pc.address("lan", "192.168.4.2/24")?;
                pc.default_route("192.168.4.1")?;
                self.fund.default_route("203.0.113.2")?;
            }
            Family::V6 => {
                self.fund.address(&wan, &format!("{FUND_V6}/64"))?;
                edge.address(&wan, "2001:db8::2/64")?;
                edge.address("lan", "fd06::1/64")?;
                pc.address("lan", "fd06::2/64")?;
                pc.default_route("fd06::1")?;
                self.fund.default_route("2001:db8::2")?;
            }
        }
        edge.forward_packets()?;
        edge.file("hosts", &hosts(family))?;
        pc.file("hosts", &hosts(family))?;
        let squid = Squid::start(&edge)?;

        let mut enrolled = self.enrolled(&format!("pc-{name}"), &pc)?;
        enrolled.stop()?;
        Ok(Office {
            family,
            pc,
            edge,
            enrolled,
            agents: AtomicU32::new(0),
            _squid: squid,
        })
    }

    /// Builds a home with two lines of the same kind and enrols its PC; the first line is used.
    pub fn home(&self, line: Conditions) -> Result<Home> {
        let pc = {
            let mut network = self.network.lock().expect("no office panics");
            network.place("home")?
        };
        self.fund.address("lo", &format!("{FUND_V4}/32"))?;
        let mut lines = Vec::new();
        for (number, device) in LINES.into_iter().enumerate() {
            let wire = Wire::between(&pc, &self.fund, device, (line, line), number as u64)?;
            // The gateway answers from the address that everybody knows.
            let network = format!("10.{number}.0.0/24");
            self.fund
                .ip(&["route", "add", &network, "dev", device, "src", FUND_V4])?;
            lines.push(wire);
        }
        pc.file("hosts", &hosts(Family::V4))?;
        let home = Home { lines, pc };
        home.use_line(0, 2)?;
        Ok(home)
    }

    /// A PC in `place` that is enrolled and ready.
    pub fn enrolled(&self, name: &str, place: &Place) -> Result<Agent> {
        let mut agent = self.stage.agent(name)?;
        agent.move_to(place);
        // Registration codes are used once, and one after the other.
        let mut codes = self.first_code.lock().expect("no office panics");
        let first = codes.take();
        self.fund.run(async || {
            let code = match first {
                Some(code) => code,
                None => self.desk.further_code().await?,
            };
            // A pair of devices that was joined just now may lose its first packets.
            wait_for("the way to the gateway", LINE_UP_S, async || {
                let mut knock = place.command("timeout");
                knock.args(["1", "bash", "-c"]);
                knock.arg(format!("exec 3<>/dev/tcp/{GATEWAY_HOST}/{TLS_PORT}"));
                output(&mut knock).map(Some)
            })
            .await?;
            self.desk.enrol_agent(&mut agent, &code).await
        })?;
        drop(codes);
        Ok(agent)
    }

    /// Staff revoke the only PC.
    pub fn revoke(&self) -> Result<()> {
        self.fund.run(async || {
            let list = self.desk.site.get("/devices").await?;
            let device = list.links("/devices/").into_iter().next();
            let page = self.desk.site.get(&device.context("a PC")?).await?;
            let form = page.form("/revoke")?.fill("reason", "入替え")?;
            self.desk.site.submit(&form).await.map(drop)
        })
    }

    /// The clerk signs in for the first time through the connected `agent`.
    pub async fn first_sign_in(&self, agent: &Agent) -> Result<MemberPages> {
        let code = self.stage.mailbox().wait_code(ADMIN_EMAIL, 0).await?;
        let pages = MemberPages::through(&self.stage, agent)?;
        pages.first_sign_in(&self.letter, &code).await?;
        Ok(pages)
    }
}

/// A PC at home.
pub struct Home {
    /// Its lines; [`Home::use_line`] chooses one.
    pub lines: Vec<Wire>,
    pub pc: Place,
}

impl Home {
    /// Sends everything over line `number`, from the address that ends with `host`; the
    /// other line and all other addresses are gone.
    pub fn use_line(&self, number: usize, host: u8) -> Result<()> {
        let device = LINES[number];
        let address = format!("10.{number}.0.{host}");
        for old in LINES {
            self.pc.ip(&["address", "flush", "dev", old])?;
        }
        self.pc.address(device, &format!("{address}/24"))?;
        self.pc
            .ip(&["route", "replace", FUND_V4, "dev", device, "src", &address])
            .map(drop)
    }

    /// Bytes of the PC that have come to the fund.
    pub fn arrived_bytes(&self) -> u64 {
        let arrived = |line: &Wire| line.counters(End::Near).arrived_bytes;
        self.lines.iter().map(arrived).sum()
    }
}

impl Office {
    /// Lets the edge treat what it passes on by `rules`.
    pub fn firewall(&self, rules: &str) -> Result<()> {
        self.edge.firewall(&[(Hook::Pass, rules)])
    }

    /// Whether the PC finds the gateway's address by its name.
    pub fn know_the_gateway(&self, known: bool) -> Result<()> {
        let hosts = if known {
            hosts(self.family)
        } else {
            LOCAL.to_owned()
        };
        self.pc.file("hosts", &hosts).map(drop)
    }

    /// The folder in which the office's agent keeps what it was enrolled with.
    pub fn enrolled_data(&self) -> PathBuf {
        self.enrolled.config().with_file_name("data")
    }

    /// The edge as a URL writes it.
    pub fn edge_host(&self) -> &'static str {
        match self.family {
            Family::V4 => "192.168.4.1",
            Family::V6 => "[fd06::1]",
        }
    }

    /// The office's PC with an agent that remembers nothing but its enrolment.
    pub fn agent(&self, stage: &Stage, name: &str, proxy: &str) -> Result<Agent> {
        let number = self.agents.fetch_add(1, Ordering::Relaxed);
        let mut agent = stage.agent(&format!("{:?}-{number}-{name}", self.family))?;
        agent.move_to(&self.pc);
        agent.configure(&format!("proxy = {proxy:?}"))?;
        agent.take_over(&self.enrolled)?;
        Ok(agent)
    }
}

/// Where the gateway's agent API is.
pub fn gateway_address(family: Family) -> Result<SocketAddr> {
    Ok((family.fund().parse::<IpAddr>()?, TLS_PORT).into())
}

fn front() -> Result<Front> {
    let endpoint = |address: &str, port| -> Result<SocketAddr> {
        Ok((address.parse::<IpAddr>()?, port).into())
    };
    Ok(Front {
        hosts: vec![GATEWAY_HOST.into(), FUND_V4.into(), FUND_V6.into()],
        tls_port: TLS_PORT,
        endpoints: vec![
            endpoint(FUND_V4, UDP_PORT)?,
            endpoint(FUND_V6, UDP_PORT)?,
            endpoint(FUND_V4, TLS_PORT)?,
            endpoint(FUND_V6, TLS_PORT)?,
        ],
    })
}

fn hosts(family: Family) -> String {
    format!("{LOCAL}{} {GATEWAY_HOST}\n", family.fund())
}
