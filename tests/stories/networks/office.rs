//! A fund on the internet and offices around it, each behind a firewall with a squid.
//!
//! ```text
//!  pc ── edge ── fund        one office for IPv4, one for IPv6 alone
//! ```

use std::sync::Mutex;

use anyhow::{Context as _, Result};
use renkei_tests::network::squid::Squid;
use renkei_tests::network::{Network, Place, join_as};
use renkei_tests::{Agent, Front, OfficePages, Stage, StageOptions};

/// The gateway's name; offices find it in their `hosts` files.
pub const GATEWAY_HOST: &str = "gw.renkei.test";
/// The gateway's address (RFC 5737).
const FUND_V4: &str = "203.0.113.1";
/// The gateway's address (RFC 3849).
const FUND_V6: &str = "2001:db8::1";
/// The gateway's own UDP port.
const UDP_PORT: u16 = 51820;
/// The gateway's TLS port.
const TLS_PORT: u16 = 443;
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
    letter_code: Mutex<Option<String>>,
    /// Dropped last.
    fund: Place,
    network: Mutex<Network>,
}

/// An office: a PC behind a firewall.
pub struct Office {
    pub family: Family,
    pub pc: Place,
    pub edge: Place,
    /// What every agent of the office was enrolled with.
    enrolled: Agent,
    _squid: Squid,
}

impl Town {
    /// Starts the fund.
    pub fn new() -> Result<Self> {
        let mut network = Network::new()?;
        let fund = network.place("fund")?;
        let options = StageOptions {
            front: Some(front()?),
            ..StageOptions::default()
        };
        let (stage, desk, code) = fund.run(async || {
            let stage = Stage::start(options).await?;
            let desk = OfficePages::open(&stage)?;
            desk.sign_in(&stage).await?;
            let letter = desk.register().await?;
            Ok((stage, desk, letter.registration_code))
        })?;
        Ok(Self {
            stage,
            desk,
            letter_code: Mutex::new(Some(code)),
            fund,
            network: Mutex::new(network),
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

        let mut enrolled = self.stage.agent(&format!("pc-{name}"))?;
        enrolled.move_to(&pc);
        // Codes are used once, and one after the other.
        let mut codes = self.letter_code.lock().expect("no office panics");
        let first = codes.take();
        self.fund.run(async || {
            let code = match first {
                Some(code) => code,
                None => self.desk.further_code().await?,
            };
            self.desk.enrol_agent(&mut enrolled, &code).await
        })?;
        drop(codes);
        enrolled.stop()?;
        Ok(Office {
            family,
            pc,
            edge,
            enrolled,
            _squid: squid,
        })
    }
}

impl Office {
    /// Lets the edge treat what it passes on by `rules`.
    pub fn firewall(&self, rules: &str) -> Result<()> {
        self.edge.firewall(&format!(
            "table inet office {{ chain pass {{ type filter hook forward priority 0; {rules} }} }}"
        ))
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

    /// The edge as a URL writes it.
    pub fn edge_host(&self) -> &'static str {
        match self.family {
            Family::V4 => "192.168.4.1",
            Family::V6 => "[fd06::1]",
        }
    }

    /// The office's PC with an agent that remembers nothing but its enrolment.
    pub fn agent(&self, stage: &Stage, name: &str, proxy: &str) -> Result<Agent> {
        let mut agent = stage.agent(&format!("{:?}-{name}", self.family))?;
        agent.move_to(&self.pc);
        agent.configure(&format!("proxy = {proxy:?}"))?;
        agent.take_over(&self.enrolled)?;
        Ok(agent)
    }
}

fn front() -> Result<Front> {
    let endpoint = |address: &str, port| -> Result<_> {
        Ok((
            address.parse::<std::net::IpAddr>().context("an address")?,
            port,
        )
            .into())
    };
    Ok(Front {
        hosts: vec![GATEWAY_HOST.into(), FUND_V4.into(), FUND_V6.into()],
        tls_port: TLS_PORT,
        endpoints: vec![endpoint(FUND_V4, UDP_PORT)?, endpoint(FUND_V6, UDP_PORT)?],
    })
}

fn hosts(family: Family) -> String {
    format!("{LOCAL}{} {GATEWAY_HOST}\n", family.fund())
}
