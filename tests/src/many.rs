//! Many PCs at one gateway: how many sessions open in a second, what each costs while it
//! rests and while it works, and what a flood of handshakes does to the others.
//!
//! Portal, gateway and PostgreSQL are the real ones; the PCs are played in this process, each
//! with its own certificate, its own address under 127.0.0.0/8, its own socket and the tunnel
//! that the agent uses. Their rows are put into the database, for telephoning five thousand
//! clerks would take a while. Called by the program `renkei-many`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::sync::Semaphore;

use crate::postgres;
use crate::{Database, Stage, StageOptions};

mod agents;
mod flood;
mod fund;
mod measure;
mod sink;

use agents::{Agents, Link};
use flood::Flood;
use measure::Usage;
use sink::Sink;

pub use fund::SecondFactor;

/// PCs that share one address, as the PCs of an office do.
const PCS_PER_ADDRESS: usize = 20;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// Sessions that are opened and held.
    pub sessions: usize,
    /// Sessions that are being opened at a time.
    pub at_once: usize,
    /// How the PCs' users sign in: with codes by mail, each session queues one.
    pub second_factor: SecondFactor,
    /// How long the gateway is watched at rest.
    pub rest: Duration,
    /// How long the throughput is measured, with and without a flood each.
    pub work: Duration,
    /// Handshake messages that are sent in a second of flood.
    pub flood_per_s: u32,
    /// Where the programs keep their files; made anew.
    pub folder: PathBuf,
}

/// One line of the result.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// The number.
    pub measured: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it must reach, if anything.
    pub target: Option<Target>,
}

/// What a number must reach.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

impl Row {
    fn new(what: impl Into<String>, measured: f64, unit: &'static str) -> Self {
        Self {
            what: what.into(),
            measured,
            unit,
            target: None,
        }
    }

    fn at_least(mut self, number: f64) -> Self {
        self.target = Some(Target::AtLeast(number));
        self
    }

    fn at_most(mut self, number: f64) -> Self {
        self.target = Some(Target::AtMost(number));
        self
    }

    /// Whether the target is reached; true if there is none.
    pub fn is_reached(&self) -> bool {
        match self.target {
            None => true,
            Some(Target::AtLeast(number)) => self.measured >= number,
            Some(Target::AtMost(number)) => self.measured <= number,
        }
    }
}

/// The rows as the document of all benchmarks takes them up: a part with its date, its heading,
/// the promised numbers and the others.
pub fn part(rows: &[Row], options: &Options) -> serde_json::Value {
    let number = |row: &Row, number: f64| format!("{number:.1} {}", row.unit);
    let (promised, others): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|row| row.target.is_some());
    let targets: Vec<_> = promised
        .iter()
        .map(|row| {
            let target = match row.target {
                Some(Target::AtLeast(least)) => format!("≥ {}", number(row, least)),
                Some(Target::AtMost(most)) => format!("≤ {}", number(row, most)),
                None => String::new(),
            };
            serde_json::json!({
                "what": row.what,
                "target": target,
                "measured": number(row, row.measured),
                "met": row.is_reached(),
            })
        })
        .collect();
    let others: Vec<_> = others
        .iter()
        .map(|row| [row.what.clone(), number(row, row.measured)])
        .collect();
    serde_json::json!({
        "date": today(),
        "title": format!("Many sessions: {} at one gateway", options.sessions),
        "targets": targets,
        "tables": [{
            "title": "What they cost",
            "head": ["what", "measured"],
            "rows": others,
            "note": "PCs, gateway, portal and PostgreSQL share the machine; CPU is each program's own.",
        }],
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the machine's clock"
)]
fn today() -> String {
    let now = time::OffsetDateTime::now_utc();
    now.replace_nanosecond(0)
        .ok()
        .and_then(|now| {
            now.format(&time::format_description::well_known::Rfc3339)
                .ok()
        })
        .unwrap_or_default()
}

impl fmt::Display for Row {
    /// A row of a Markdown table: what, measured, target, reached.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.unit;
        write!(f, "| {} | {:.1} {unit} |", self.what, self.measured)?;
        match self.target {
            None => f.write_str(" | |"),
            Some(Target::AtLeast(number)) => write!(f, " ≥ {number} {unit} |"),
            Some(Target::AtMost(number)) => write!(f, " ≤ {number} {unit} |"),
        }?;
        match (self.target, self.is_reached()) {
            (None, _) => Ok(()),
            (Some(_), true) => f.write_str(" yes |"),
            (Some(_), false) => f.write_str(" **no** |"),
        }
    }
}

/// Plays it all and returns the rows; `tell` hears how far it is.
pub async fn run(options: &Options, tell: impl Fn(&str)) -> Result<Vec<Row>> {
    let database = postgres::database()?;
    let stage_options = StageOptions {
        database: Database::Postgres(database.clone()),
        log: "warn".into(),
        ..StageOptions::default()
    };
    let mut stage = Stage::start_in(&options.folder, stage_options).await?;
    let sink = Sink::start().await?;
    lead_to_sink(&mut stage, &sink).await?;
    tell(&format!("registering {} PCs", options.sessions));
    let pcs = fund::register(&stage, &database, options.sessions, options.second_factor).await?;
    let agents = Agents::new(&stage, pcs)?;

    let mut rows = Vec::new();
    let links = open_all(options, &stage, &database, agents, &mut rows, &tell).await?;
    // Told as they are found: a later part may fail on a machine that is busy.
    rows.iter().for_each(|row| tell(&row.to_string()));
    let told = rows.len();
    at_rest(options, &stage, &links, &mut rows, &tell).await?;
    rows[told..].iter().for_each(|row| tell(&row.to_string()));
    let told = rows.len();
    under_flood(options, &stage, &links, &sink, &mut rows, &tell).await?;
    rows[told..].iter().for_each(|row| tell(&row.to_string()));
    at_work(&stage, &links, &sink, &mut rows, &tell).await?;
    stage.gateway.check_running()?;
    stage.portal.check_running()?;
    Ok(rows)
}

/// The gateway leads every stream to the sink in place of the members' pages.
async fn lead_to_sink(stage: &mut Stage, sink: &Sink) -> Result<()> {
    let path = stage.gateway_config();
    let config = std::fs::read_to_string(&path)?;
    let portal = format!("member_address = \"{}\"", stage.member_listener());
    ensure!(config.contains(&portal), "the gateway's configuration");
    let to_sink = format!("member_address = \"{}\"", sink.address());
    std::fs::write(&path, config.replace(&portal, &to_sink))?;
    stage.gateway.terminate()?;
    stage.restart_gateway().await
}

/// The address that a PC has, and its office with it.
fn address(pc: usize) -> IpAddr {
    let office = u32::try_from(pc / PCS_PER_ADDRESS).unwrap_or(u32::MAX);
    let [_, a, b, c] = (office + 1).to_be_bytes();
    Ipv4Addr::new(127, 100_u8.wrapping_add(a), b, c).into()
}

async fn open_all(
    options: &Options,
    stage: &Stage,
    database: &str,
    agents: Agents,
    rows: &mut Vec<Row>,
    tell: &impl Fn(&str),
) -> Result<Vec<Link>> {
    tell("opening the sessions");
    let agents = Arc::new(agents);
    // The first connection makes pools and threads; it belongs to neither number.
    let first = agents.open(0, address(0)).await?;
    let memory_before = measure::resident_bytes(stage.gateway.pid())?;
    let before = usages(stage)?;
    let begun = now();
    let room = Arc::new(Semaphore::new(options.at_once));
    let mut opening = tokio::task::JoinSet::new();
    for pc in 1..options.sessions {
        let place = Arc::clone(&room).acquire_owned().await?;
        let agents = Arc::clone(&agents);
        opening.spawn(async move {
            let link = agents.open(pc, address(pc)).await;
            drop(place);
            link
        });
    }
    let mut links = vec![first];
    while let Some(link) = opening.join_next().await {
        links.push(link??);
    }
    let took = begun.elapsed().as_secs_f64();
    let opened = (links.len() - 1) as f64;
    let after = usages(stage)?;
    let written = postgres::query(
        database,
        "SELECT COUNT(*) FROM tunnel_sessions WHERE ended_ms IS NULL",
    )?;
    ensure!(
        written.trim() == links.len().to_string(),
        "{} sessions are written down, {} are open",
        written.trim(),
        links.len()
    );
    rows.push(
        Row::new(
            format!(
                "sessions opened in a second, sustained over {:.0} s, each written down",
                took
            ),
            opened / took,
            "/s",
        )
        .at_least(200.0),
    );
    for (name, before, after) in usages_by_name(before, after) {
        let each = (after.cpu_s - before.cpu_s) / opened * 1e3;
        rows.push(Row::new(
            format!("CPU of the {name} for opening one"),
            each,
            "ms",
        ));
    }
    let grown = measure::resident_bytes(stage.gateway.pid())? - memory_before;
    rows.push(Row::new(
        "memory of the gateway for one session just opened",
        grown / opened / 1024.0,
        "KB",
    ));
    rows.push(Row::new(
        "memory of the gateway without sessions",
        memory_before / 1024.0,
        "KB",
    ));
    Ok(links)
}

async fn at_rest(
    options: &Options,
    stage: &Stage,
    links: &[Link],
    rows: &mut Vec<Row>,
    tell: &impl Fn(&str),
) -> Result<()> {
    tell("watching the gateway at rest");
    // What the handshakes still have to do: MTU discovery, acknowledgements.
    tokio::time::sleep(options.rest / 4).await;
    let before = usages(stage)?;
    let begun = now();
    tokio::time::sleep(options.rest).await;
    let took = begun.elapsed().as_secs_f64();
    let after = usages(stage)?;
    for (name, before, after) in usages_by_name(before, after).take(2) {
        let share = (after.cpu_s - before.cpu_s) / took * 100.0;
        let row = Row::new(
            format!("CPU of the {name} with {} sessions at rest", links.len()),
            share,
            "% of a core",
        );
        rows.push(if name == "gateway" {
            row.at_most(5.0)
        } else {
            row
        });
    }
    let without = rows
        .iter()
        .find(|row| row.what == "memory of the gateway without sessions")
        .context("measured before")?
        .measured;
    let resident = measure::resident_bytes(stage.gateway.pid())? / 1024.0;
    rows.push(
        Row::new(
            "memory of the gateway for one session at rest",
            (resident - without) / links.len() as f64,
            "KB",
        )
        .at_most(100.0),
    );
    let alive = links.iter().filter(|link| link.is_connected()).count();
    ensure!(
        alive == links.len(),
        "{alive} of {} still connected",
        links.len()
    );
    Ok(())
}

/// The same flood goes first to a port where nobody cares, then to the gateway: what it takes
/// to send it is not the gateway's cost.
async fn under_flood(
    options: &Options,
    stage: &Stage,
    links: &[Link],
    sink: &Sink,
    rows: &mut Vec<Row>,
    tell: &impl Fn(&str),
) -> Result<()> {
    const ROUNDS: usize = 3;
    tell("flooding the gateway with handshakes");
    let nobody = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
    let recorded = links[0].recorded_handshake();
    let worker = &links[0];
    worker.work(true);
    let (mut calm, mut flooded) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (target, rates) in [
            (nobody.local_addr()?, &mut calm),
            (stage.gateway_udp(), &mut flooded),
        ] {
            let flood = Flood::start(target, worker.gateway_key(), &recorded, options.flood_per_s)?;
            tokio::time::sleep(Duration::from_millis(500)).await;
            let (bytes, begun) = (sink.received(), now());
            tokio::time::sleep(options.work).await;
            let took = begun.elapsed().as_secs_f64();
            rates.push((sink.received() - bytes) as f64 / 1e6 / took);
            let sent = flood.stop()?;
            let wanted = f64::from(options.flood_per_s);
            ensure!(
                sent > 0.9 * wanted,
                "only {sent:.0} of {wanted} a second sent"
            );
        }
    }
    worker.work(false);
    let (calm, flooded) = (median(&mut calm), median(&mut flooded));
    rows.push(Row::new(
        "throughput of a session without a flood",
        calm,
        "MB/s",
    ));
    rows.push(
        Row::new(
            format!(
                "throughput lost under {} handshakes a second of garbage and replays",
                options.flood_per_s
            ),
            (1.0 - flooded / calm) * 100.0,
            "%",
        )
        .at_most(10.0),
    );
    Ok(())
}

async fn at_work(
    stage: &Stage,
    links: &[Link],
    sink: &Sink,
    rows: &mut Vec<Row>,
    tell: &impl Fn(&str),
) -> Result<()> {
    const BUSY: usize = 50;
    const LOOKS: usize = 240;
    const ENOUGH_BYTES: f64 = 3e6;
    tell("letting fifty sessions work at once");
    let busy = &links[..BUSY.min(links.len())];
    let before = measure::resident_bytes(stage.gateway.pid())?;
    let received = sink.received();
    for link in busy {
        link.work(true);
    }
    let mut most = before;
    for _ in 0..LOOKS {
        tokio::time::sleep(Duration::from_millis(250)).await;
        most = most.max(measure::resident_bytes(stage.gateway.pid())?);
        if (sink.received() - received) as f64 > ENOUGH_BYTES * busy.len() as f64 {
            break;
        }
    }
    for link in busy {
        link.work(false);
    }
    let each = (sink.received() - received) as f64 / busy.len() as f64;
    ensure!(each > ENOUGH_BYTES, "each moved only {each:.0} bytes");
    rows.push(Row::new(
        format!(
            "memory of the gateway for one of {} sessions that upload at once",
            busy.len()
        ),
        (most - before) / busy.len() as f64 / 1024.0,
        "KB",
    ));
    Ok(())
}

/// Gateway, portal.
fn usages(stage: &Stage) -> Result<[Usage; 2]> {
    Ok([
        measure::usage(stage.gateway.pid())?,
        measure::usage(stage.portal.pid())?,
    ])
}

fn usages_by_name(
    before: [Usage; 2],
    after: [Usage; 2],
) -> impl Iterator<Item = (&'static str, Usage, Usage)> {
    let pairs = before.into_iter().zip(after);
    ["gateway", "portal"]
        .into_iter()
        .zip(pairs)
        .map(|(name, (before, after))| (name, before, after))
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the machine's clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
