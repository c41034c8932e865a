//! The benchmark: what the tunnel and the portal cost, as ratios against something measured in
//! the same run on the same machine.
//!
//! Called by `scripts/bench`. Prints a table in Markdown. The machine may be noisy: contestants
//! take turns, and medians are shown.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use renkei_tests::job::ADMIN_EMAIL;
use renkei_tests::pages::Site;
use renkei_tests::process::{free_port, wait_for};
use renkei_tests::{Agent, MemberPages, OfficePages, Process, Stage, StageOptions};
use reqwest::{Method, StatusCode};

/// What is uploaded, in bytes.
const UPLOAD_BYTES: usize = 100_000_000;
/// How often each contestant uploads.
const UPLOADS: usize = 5;
/// How often a connection is opened.
const CONNECTS: usize = 9;
/// Small requests, one after the other.
const REQUESTS: usize = 300;
/// Ticks of /proc/PID/stat in a second (USER_HZ).
const TICKS_PER_S: f64 = 100.0;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::current_dir()?.join("var/bench");
    let options = StageOptions {
        log: "warn".into(),
        ..StageOptions::default()
    };
    let stage = Stage::start_in(&folder, options).await?;
    let nginx = Nginx::start(&stage, &folder).await?;

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
        let plain = nginx.put(&body).await?;
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
    let small_direct = small(&nginx.site, "/").await?;
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
            renkei_tests::process::output(&mut agent.command(&["disconnect"]))?;
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

/// nginx with TLS, taking PUT, in place of the portal.
struct Nginx {
    site: Site,
    _process: Process,
}

impl Nginx {
    async fn start(stage: &Stage, folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let files = folder.join("nginx");
        std::fs::create_dir_all(files.join("put"))?;
        let (certificate, key) = (
            folder.join("mail-server.pem"),
            folder.join("mail-server.key"),
        );
        let config = files.join("nginx.conf");
        std::fs::write(
            &config,
            format!(
                "daemon off; worker_processes 1; pid {0}/nginx.pid; error_log {0}/error.log;
                 user root;
                 events {{ worker_connections 64; }}
                 http {{ access_log off; client_max_body_size 0; client_body_temp_path {0}/body;
                   proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;
                   server {{ listen 127.0.0.1:{port} ssl; server_name localhost;
                     ssl_certificate {1}; ssl_certificate_key {2}; ssl_protocols TLSv1.3;
                     root {0}/put; location / {{ dav_methods PUT DELETE; }} }} }}",
                files.display(),
                certificate.display(),
                key.display()
            ),
        )?;
        std::fs::write(files.join("put/index.html"), "hello")?;
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-c").arg(&config).arg("-p").arg(&files);
        let mut process = Process::start("nginx", &stage.folder().join("logs"), &mut command)?;
        let site = Site::new(&format!("https://localhost:{port}/"), &certificate, None)?;
        wait_for("nginx", 10, async || {
            process.check_running()?;
            Ok(site
                .send(site.request(Method::GET, "/"))
                .await
                .is_ok()
                .then_some(()))
        })
        .await?;
        Ok(Self {
            site,
            _process: process,
        })
    }

    async fn put(&self, body: &[u8]) -> Result<Duration> {
        let request = self
            .site
            .request(Method::PUT, "/upload.bin")
            .body(body.to_vec());
        let begun = now();
        let answer = self.site.send(request).await?;
        let took = begun.elapsed();
        ensure!(answer.status().is_success(), "nginx: {}", answer.status());
        Ok(took)
    }
}

/// CPU seconds that agent, gateway and portal have used.
fn cpu_of(stage: &Stage, agent: &mut Agent) -> Result<[f64; 3]> {
    let seconds = |pid: u32| -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = fields
            .get(11)
            .zip(fields.get(12))
            .context("utime and stime")?;
        Ok((ticks.0.parse::<f64>()? + ticks.1.parse::<f64>()?) / TICKS_PER_S)
    };
    Ok([
        seconds(agent.process()?.pid())?,
        seconds(stage.gateway.pid())?,
        seconds(stage.portal.pid())?,
    ])
}

/// Bytes that no layer can shrink.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the machine's clock"
)]
fn now() -> Instant {
    Instant::now()
}
