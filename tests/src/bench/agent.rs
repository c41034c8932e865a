//! The agent as a program on a PC: how long until the sign-in page comes, and what it costs
//! while nobody does anything. On Linux, and the real .exe under Wine where both are there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode};

use super::report::{Part, RESULTS, Table, Target, publish};
use super::usage::{cpu_seconds, resident_bytes};
use super::{median, now, seconds};
use crate::job::ADMIN_EMAIL;
use crate::pages::Site;
use crate::process::{Process, free_port, output, wait_for};
use crate::wine::{Prefix, agent_program};
use crate::{Agent, OfficePages, Stage, StageOptions};

/// How often the program is started cold.
const STARTS: usize = 5;
/// How long it is left alone, once the session stands.
const REST: Duration = Duration::from_secs(20);
/// How long after the start the rest begins: what starting costs is not rest.
const SETTLE: Duration = Duration::from_secs(5);
/// How long a page may take.
const PAGE_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two tries for the page.
const PAUSE: Duration = Duration::from_millis(5);

/// What is promised on each system.
struct Promise {
    system: &'static str,
    first_byte_s: f64,
}

const LINUX: Promise = Promise {
    system: "Linux",
    first_byte_s: 0.5,
};
const WINE: Promise = Promise {
    system: "Wine",
    first_byte_s: 1.5,
};
/// Of one core, in percent.
const IDLE_PERCENT: f64 = 1.0;
/// In MB.
const RESIDENT_MB: f64 = 40.0;

/// What one system gave.
struct Found {
    first_bytes_s: Vec<f64>,
    idle_percent: f64,
    resident_mb: f64,
}

/// Runs it, keeps `agent.json` and makes the document anew.
pub(super) fn run() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}

async fn measure() -> Result<()> {
    let folder = std::env::current_dir()?.join("var/bench");
    let mut part = Part::new("The agent on a PC")?;
    let mut table = Table {
        title: "Start of the program to the first byte of the sign-in page, seconds".into(),
        head: ["system", "median", "all"].map(str::to_owned).into(),
        ..Table::default()
    };
    let linux = on_linux(&folder.join("agent-linux")).await?;
    note(&mut part, &mut table, &LINUX, &linux)?;
    match agent_program() {
        Ok(_) => {
            let wine = under_wine(&folder.join("agent-wine")).await?;
            note(&mut part, &mut table, &WINE, &wine)?;
        }
        Err(error) => eprintln!("without Windows: {error}"),
    }
    table.note = "Cold: the program is started, asks for a session, and the page is asked for \
        through its proxy until it comes. Under Wine a relay lies between, and each call of a \
        socket passes Wine's server."
        .into();
    part.tables.push(table);
    let results = Path::new(RESULTS);
    part.keep(results, "agent")?;
    publish(results)
}

fn note(part: &mut Part, table: &mut Table, promise: &Promise, found: &Found) -> Result<()> {
    let middle = median(&found.first_bytes_s).context("at least one start")?;
    let mut add = |what: &str, unit: &str, limit: f64, measured: f64| {
        part.targets.push(Target {
            what: format!("{what} ({})", promise.system),
            target: format!("at most {limit} {unit}"),
            measured: format!("{measured:.2} {unit}"),
            met: measured <= limit,
        });
    };
    add(
        "start to first byte of the sign-in page",
        "s",
        promise.first_byte_s,
        middle,
    );
    add(
        "idle agent, connected",
        "% of a core",
        IDLE_PERCENT,
        found.idle_percent,
    );
    add(
        "resident memory of the agent",
        "MB",
        RESIDENT_MB,
        found.resident_mb,
    );
    table.rows.push(vec![
        promise.system.to_owned(),
        format!("{middle:.2}"),
        found
            .first_bytes_s
            .iter()
            .map(|value| format!("{value:.2}"))
            .collect::<Vec<_>>()
            .join(" "),
    ]);
    Ok(())
}

async fn stage_in(folder: &Path) -> Result<Stage> {
    let options = StageOptions {
        log: "warn".into(),
        ..StageOptions::default()
    };
    Stage::start_in(folder, options).await
}

async fn on_linux(folder: &Path) -> Result<Found> {
    let stage = stage_in(folder).await?;
    let agent = stage.agent("pc1")?;
    let port = free_port()?;
    agent.configure(&format!("proxy_port = {port}"))?;
    cost(&stage, agent, format!("127.0.0.1:{port}")).await
}

async fn under_wine(folder: &Path) -> Result<Found> {
    let stage = stage_in(folder).await?;
    let prefix = Arc::new(Prefix::new(&stage.folder().join("wine"))?);
    let agent = stage.windows_agent("pc1", &prefix).await?;
    let relay = agent.relay().context("it has a relay")?;
    cost(&stage, agent, relay).await
}

async fn cost(stage: &Stage, mut agent: Agent, proxy: String) -> Result<Found> {
    let office = OfficePages::open(stage)?;
    office.sign_in(stage).await?;
    let letter = office.register().await?;
    let matching_code = agent.ask_to_enrol(&letter)?;
    office.approve(&matching_code).await?;
    wait_for("the approval", 30, async || {
        Ok((agent.status()?["state"] == "ready").then_some(()))
    })
    .await?;

    let mut first_bytes_s = Vec::new();
    for round in 0..STARTS {
        let site = Site::new(&stage.member_url(), &stage.ca_file(), Some(&proxy))?;
        let begun = now();
        let running = Process::start("agent", &stage.logs(), &mut agent.command(&["connect"]))?;
        loop {
            match site.send(site.request(Method::GET, "/sign-in")).await {
                Ok(page) if page.status() == StatusCode::OK => break,
                _ => tokio::time::sleep(PAUSE).await,
            }
            ensure!(
                begun.elapsed() < PAGE_LIMIT,
                "no page: {}",
                running.log_text()
            );
        }
        first_bytes_s.push(seconds(begun.elapsed()));
        // One code for each session: the benchmark must not outrun the mail.
        stage.mailbox().wait_code(ADMIN_EMAIL, round).await?;
        output(&mut agent.command(&["disconnect"]))?;
        drop(running);
    }

    agent.start(&["open", "--no-browser"])?;
    agent.wait_state("ready").await?;
    agent.connect().await?;
    tokio::time::sleep(SETTLE).await;
    let processes = [agent.process()?.pid()];
    let before = cpu_seconds(&processes)?;
    tokio::time::sleep(REST).await;
    let used = cpu_seconds(&processes)? - before;
    Ok(Found {
        first_bytes_s,
        idle_percent: 100.0 * used / seconds(REST),
        resident_mb: resident_bytes(&processes)? / 1e6,
    })
}
