//! An upload through everything, portal and disk included, on loopback.
//!
//! Prints a table in Markdown.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode};

use super::nginx::Nginx;
use super::usage::cpu_seconds;
use super::{noise, now};
use crate::job::ADMIN_EMAIL;
use crate::pages::Site;
use crate::process::output;
use crate::{Agent, MemberPages, OfficePages, Stage, StageOptions};

/// What is uploaded, in bytes.
const UPLOAD_BYTES: usize = 100_000_000;
/// How often each contestant uploads.
const UPLOADS: usize = 5;
/// How often a connection is opened.
const CONNECTS: usize = 9;
/// Small requests, one after the other.
const REQUESTS: usize = 300;

/// Runs it.
pub(super) fn run() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}

async fn measure() -> Result<()> {
    let folder = std::env::current_dir()?.join("var/bench");
    let options = StageOptions {
        log: "warn".into(),
        ..StageOptions::default()
    };
    let stage = Stage::start_in(&folder, options).await?;
    let nginx = Nginx::start(&folder).await?;
    let straight = format!("https://localhost:{}/", nginx.straight_port());
    let straight = Site::new(&straight, nginx.certificate(), None)?;

    let office = OfficePages::open(&stage)?;
    office.sign_in(&stage).await?;
    let letter = office.register().await?;
    let mut agent = stage.agent("pc1")?;
    let matching_code = agent.ask_to_enrol(&letter)?;
    office.approve(&matching_code).await?;
    agent.start(&["open", "--no-browser"])?;
    agent.wait_state("ready").await?;

    let connects = connects(&stage, &mut agent).await?;
    let pages = MemberPages::through(&stage, &agent)?;
    let sent = stage.mailbox().codes_sent(ADMIN_EMAIL)?;
    let code = stage
        .mailbox()
        .wait_code(ADMIN_EMAIL, sent.max(CONNECTS) - 1)
        .await?;
    pages.first_sign_in(&letter, &code).await?;

    let body = noise(UPLOAD_BYTES);
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    let mut cpu = [0.0; 3];
    for round in 0..=UPLOADS {
        let plain = put(&straight, &body).await?;
        let before = cpu_of(&stage, &mut agent)?;
        let begun = now();
        let upload = pages.upload(&format!("bench-{round}.pdf"), &body).await?;
        let took = begun.elapsed();
        let after = cpu_of(&stage, &mut agent)?;
        pages.drop_upload(&upload).await?;
        if round > 0 {
            direct.push(plain);
            through.push(took);
            for (sum, (after, before)) in cpu.iter_mut().zip(after.iter().zip(before)) {
                *sum += (after - before) / UPLOADS as f64;
            }
        }
    }
    let small_direct = small(&straight, "/small").await?;
    let small_through = small(&pages.site, "/sign-in").await?;

    let (direct, through) = (median(&mut direct), median(&mut through));
    let gigabytes = UPLOAD_BYTES as f64 / 1e9;
    println!("\n| what | measured | against | ratio |\n|---|---|---|---|");
    println!(
        "| 100 MB upload, TLS to nginx, no tunnel | {:.2} s ({:.0} MB/s) | | |",
        direct.as_secs_f64(),
        UPLOAD_BYTES as f64 / 1e6 / direct.as_secs_f64()
    );
    println!(
        "| 100 MB upload through agent, tunnel and portal, each part sealed and synced to disk | {:.2} s ({:.0} MB/s) | nginx above | {:.1} × |",
        through.as_secs_f64(),
        UPLOAD_BYTES as f64 / 1e6 / through.as_secs_f64(),
        through.as_secs_f64() / direct.as_secs_f64()
    );
    for (name, seconds) in ["agent", "gateway", "portal"].iter().zip(cpu) {
        println!(
            "| CPU of the {name} for that upload | {:.1} s per GB | | |",
            seconds / gigabytes
        );
    }
    println!(
        "| 接続 to the first byte of the login page (agent open) | {:.0} ms (fastest {:.0}, slowest {:.0}) | | |",
        ms(connects[connects.len() / 2]),
        ms(connects[0]),
        ms(connects[connects.len() - 1])
    );
    println!(
        "| a small page, one after the other | {:.2} ms | nginx without tunnel {:.2} ms | {:.1} × |",
        ms(small_through),
        ms(small_direct),
        small_through.as_secs_f64() / small_direct.as_secs_f64()
    );
    println!(
        "\n{UPLOADS} uploads and {CONNECTS} connections, medians; loopback, both ends on this machine."
    );
    Ok(())
}

/// Opens the session again and again; returns the times, sorted. The last one stays open.
async fn connects(stage: &Stage, agent: &mut Agent) -> Result<Vec<Duration>> {
    let proxy = agent.status()?["proxy"]
        .as_str()
        .context("a proxy")?
        .to_owned();
    let mut times = Vec::new();
    for round in 0..CONNECTS {
        if round > 0 {
            output(&mut agent.command(&["disconnect"]))?;
            agent.wait_state("ended").await?;
        }
        let site = Site::new(&stage.member_url(), &stage.ca_file(), Some(&proxy))?;
        let begun = now();
        let mut asked = agent
            .command(&["connect"])
            .stdout(std::process::Stdio::null())
            .spawn()?;
        let first_byte = loop {
            match site.send(site.request(Method::GET, "/sign-in")).await {
                Ok(page) if page.status() == StatusCode::OK => break begun.elapsed(),
                _ => tokio::time::sleep(Duration::from_millis(2)).await,
            }
            ensure!(
                begun.elapsed() < Duration::from_secs(20),
                "no page within 20 s"
            );
        };
        times.push(first_byte);
        asked.wait()?;
        // One code for each session: the benchmark must not outrun the mail.
        stage.mailbox().wait_code(ADMIN_EMAIL, round).await?;
    }
    times.sort();
    Ok(times)
}

async fn small(site: &Site, path: &str) -> Result<Duration> {
    site.send(site.request(Method::GET, path)).await?;
    let begun = now();
    for _ in 0..REQUESTS {
        site.send(site.request(Method::GET, path))
            .await?
            .bytes()
            .await?;
    }
    Ok(begun.elapsed() / REQUESTS as u32)
}

async fn put(site: &Site, body: &[u8]) -> Result<Duration> {
    let request = site.request(Method::PUT, "/upload").body(body.to_vec());
    let begun = now();
    let answer = site.send(request).await?;
    let took = begun.elapsed();
    ensure!(answer.status().is_success(), "nginx: {}", answer.status());
    Ok(took)
}

/// CPU seconds that agent, gateway and portal have used.
fn cpu_of(stage: &Stage, agent: &mut Agent) -> Result<[f64; 3]> {
    Ok([
        cpu_seconds(&[agent.process()?.pid()])?,
        cpu_seconds(&[stage.gateway.pid()])?,
        cpu_seconds(&[stage.portal.pid()])?,
    ])
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
