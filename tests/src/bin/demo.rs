//! The demonstration: plays the main job once with the real programs and tells about it.
//!
//! Called by `scripts/demo`. Everything it makes lies in `var/demo/`, which is made anew.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use renkei_tests::job::{
    ADMIN_EMAIL, ADMIN_PASSWORD, ADMIN_USER_ID, CORPUS_PASSWORD, FILED_PDF, FILED_ZIP, corpus,
};
use renkei_tests::stage::{ESTABLISHMENT_NAME, ESTABLISHMENT_NUMBER};
use renkei_tests::{Agent, MemberPages, OfficePages, Stage, StageOptions};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// What is filed: a password zip and a bare PDF of the corpus.
const FILED: [(&str, Option<&str>); 2] = [(FILED_ZIP, Some(CORPUS_PASSWORD)), (FILED_PDF, None)];
/// A file of the corpus with a wrong name.
const MISNAMED: &str = "R060524_0123_資格取得届.pdf";

#[tokio::main]
async fn main() -> Result<()> {
    let once = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--once") => true,
        Some(other) => {
            eprintln!("usage: scripts/demo [--once] (not {other})");
            std::process::exit(2);
        }
    };
    let folder = std::env::current_dir()?.join("var/demo");
    let started = now();
    let mut story = Story { step: 0, started };
    println!(
        "Renkei（連携）: the main job, played with the real programs. All names are invented.\n"
    );

    story.step("The fund starts its programs: portal (SQLite), gateway, and a mail catcher in place of the internet");
    let stage = Stage::start_in(&folder, StageOptions::default()).await?;
    story.told(&[
        ("portal", &format!("office pages {}", stage.office_url())),
        (
            "gateway",
            &format!(
                "{} (agent API), {} (WireGuard)",
                stage.gateway_url(),
                stage.gateway_udp()
            ),
        ),
        ("calendar", "always open, for rehearsal; every page says so"),
    ]);
    let (agent, pages) = tokio::select! {
        played = play(&stage, &mut story) => played?,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    };
    let mut agent = agent;
    write_facts(&folder, &stage, &mut agent, &pages).await?;
    println!(
        "\nDone in {:.1} s. How to go on: {}",
        seconds_since(started),
        folder.join("demo.json").display()
    );
    if !once {
        stay(&stage, &agent).await?;
    }
    Ok(())
}

/// Everything from the registration to the downloaded notice.
async fn play(stage: &Stage, story: &mut Story) -> Result<(Agent, MemberPages)> {
    story.step("Fund staff sign in with password and authenticator, and register an establishment with its admin");
    let office = OfficePages::open(stage)?;
    office.sign_in(stage).await?;
    let letter = office.register().await?;
    story.told(&[
        (
            "establishment",
            &format!("{ESTABLISHMENT_NUMBER} {ESTABLISHMENT_NAME}"),
        ),
        (
            "letter",
            &format!(
                "registration code {}, initial password",
                letter.registration_code
            ),
        ),
    ]);

    story.step("The HR clerk enrols the PC with the code from the letter");
    let mut agent = stage.agent("pc1")?;
    let matching_code = agent.ask_to_enrol(&letter)?;
    story.told(&[(
        "on the PC's screen",
        &format!("matching code {matching_code}, to be read out on the telephone"),
    )]);

    story.step(
        "Staff see the same code beside the request and approve; the PC gets its certificate",
    );
    office.approve(&matching_code).await?;
    agent.start(&["open", "--no-browser"])?;
    agent.wait_state("ready").await?;
    story.told(&[(
        "PC",
        "approved; from now on it speaks mutual TLS to the gateway",
    )]);

    story.step("接続: a WireGuard session for 90 minutes, and a one-time password by mail");
    let begun = now();
    renkei_tests::process::output(&mut agent.command(&["connect"]))?;
    let status = agent.wait_state("connected").await?;
    let took = begun.elapsed();
    let code = stage.mailbox().wait_code(ADMIN_EMAIL, 0).await?;
    story.told(&[
        (
            "tunnel",
            &format!(
                "up after {} ms, {} minutes left",
                took.as_millis(),
                status["remaining_s"].as_i64().unwrap_or(0) / 60
            ),
        ),
        (
            "mail",
            "the code arrived while connected: mail and internet go on as before",
        ),
    ]);

    story.step("The clerk signs in inside the tunnel: user ID, password, code; then chooses an own password");
    let pages = MemberPages::through(stage, &agent)?;
    pages.first_sign_in(&letter, &code).await?;
    story.told(&[("signed in", ADMIN_USER_ID)]);

    file(&pages, story).await?;
    review(&office, story).await?;
    fetch(stage, &pages, story).await?;
    Ok((agent, pages))
}

/// The clerk files; one file has a wrong name.
async fn file(pages: &MemberPages, story: &mut Story) -> Result<()> {
    story.step("The clerk drops a file with a wrong name: the portal says what the right one is");
    let upload = pages
        .upload(MISNAMED, &corpus(&format!("bad/{MISNAMED}"))?)
        .await?;
    let (_, answer) = pages.hand_in(&[(upload, None)]).await?;
    let problem = &answer["files"][0]["problems"][0];
    story.told(&[
        ("dropped", MISNAMED),
        ("portal", problem["sentence"].as_str().unwrap_or_default()),
        (
            "right name",
            problem["suggestion"]["name"]
                .as_str()
                .context("a suggestion")?,
        ),
    ]);

    story.step("Two filings from the corpus go up: a password zip and a bare PDF");
    let mut uploads = Vec::new();
    for (name, password) in FILED {
        uploads.push((
            pages
                .upload(name, &corpus(&format!("good/{name}"))?)
                .await?,
            password,
        ));
        story.told(&[("uploaded", name)]);
    }
    let (status, answer) = pages.hand_in(&uploads).await?;
    let receipt = answer["receipt"]
        .as_str()
        .with_context(|| format!("{status} {answer}"))?;
    let receipt = pages.site.get(receipt).await?;
    story.told(&[(
        "receipt (受付票)",
        &format!("{}{}", pages.site.base(), receipt.path),
    )]);
    for line in receipt
        .text()
        .split_whitespace()
        .filter(|word| word.len() == 64)
    {
        story.told(&[("SHA-256", line)]);
    }
    Ok(())
}

/// Staff review and decide.
async fn review(office: &OfficePages, story: &mut Story) -> Result<()> {
    story.step("Staff take the oldest filing into review, look at its pages, decide, and issue the determination notice");
    let filing = office.take_oldest().await?;
    let (headers, picture) = office
        .site
        .download(&format!("{filing}/pages/1.png"))
        .await?;
    let kind = headers
        .get("content-type")
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    story.told(&[(
        "page 1",
        &format!(
            "{kind}, {} KB, rendered on the server",
            picture.len() / 1024
        ),
    )]);
    office.decide(&filing).await?;
    story.told(&[(
        "notice",
        "決定通知書 as PDF/A, sealed; the establishment is told by mail",
    )]);
    Ok(())
}

/// The clerk fetches the notice.
async fn fetch(stage: &Stage, pages: &MemberPages, story: &mut Story) -> Result<()> {
    story.step("The clerk gets a mail without personal data, and downloads the notice as PDF and as AES-256 zip");
    let mail = stage
        .mailbox()
        .wait(ADMIN_EMAIL, 0, |mail| mail.subject.contains("通知書"))
        .await?;
    story.told(&[("mail", &mail.subject)]);
    let list = pages.site.get("/notices").await?;
    let notice = list
        .links("/notices/")
        .into_iter()
        .next()
        .with_context(|| format!("a notice in: {}", list.text()))?;
    let notice = notice
        .trim_end_matches(".pdf")
        .trim_end_matches(".zip")
        .to_owned();
    for ending in ["pdf", "zip"] {
        let (_, bytes) = pages.site.download(&format!("{notice}.{ending}")).await?;
        let magic: &[u8] = if ending == "pdf" {
            b"%PDF-"
        } else {
            b"PK\x03\x04"
        };
        if !bytes.starts_with(magic) {
            bail!("the {ending} is none");
        }
        let file = stage.folder().join(format!("notice.{ending}"));
        std::fs::write(&file, &bytes)?;
        let hash: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        story.told(&[(
            ending,
            &format!(
                "{} ({} bytes, SHA-256 {}…)",
                file.display(),
                bytes.len(),
                &hash[..16]
            ),
        )]);
    }
    let verified = renkei_tests::process::output(&mut stage.portal_command(&["audit", "verify"]))?;
    story.told(&[("audit", verified.trim())]);
    Ok(())
}

/// Tells how to go on from here.
async fn write_facts(
    folder: &Path,
    stage: &Stage,
    agent: &mut Agent,
    pages: &MemberPages,
) -> Result<()> {
    let zip_password = pages.zip_password(ADMIN_PASSWORD).await?;
    let facts = json!({
        "member_url": stage.member_url(),
        "office_url": stage.office_url(),
        "gateway_url": stage.gateway_url(),
        "ca_file": stage.ca_file(),
        "mailbox": stage.mailbox().folder(),
        "agent": {"config": agent.config(), "proxy": agent.status()?["proxy"]},
        "portal_config": stage.portal_config(),
        "gateway_config": stage.gateway_config(),
        "establishment": {"number": ESTABLISHMENT_NUMBER, "name": ESTABLISHMENT_NAME, "zip_password": zip_password},
        "admin": {"user_id": ADMIN_USER_ID, "password": ADMIN_PASSWORD, "email": ADMIN_EMAIL},
        "staff": {
            "user_id": stage.staff.user_id,
            "password": stage.staff.password,
            "totp_secret": stage.staff.totp_secret,
        },
        "pids": {
            "demo": std::process::id(),
            "portal": stage.portal.pid(),
            "gateway": stage.gateway.pid(),
            "agent": agent.process()?.pid(),
            "mail_catcher": stage.catcher.pid(),
        },
    });
    let text = serde_json::to_string_pretty(&facts)?;
    let temporary = folder.join("demo.json.new");
    std::fs::write(&temporary, text)?;
    std::fs::rename(temporary, folder.join("demo.json"))?;
    Ok(())
}

/// Stays up until Ctrl-C or SIGTERM.
async fn stay(stage: &Stage, agent: &Agent) -> Result<()> {
    let proxy = agent.status()?;
    println!("\nEverything stays up until Ctrl-C. Try:");
    println!(
        "  office pages   {}  (user {}, see demo.json for password and authenticator)",
        stage.office_url(),
        stage.staff.user_id
    );
    println!(
        "  member pages   {}  through the proxy {}",
        stage.member_url(),
        proxy["proxy"].as_str().unwrap_or("-")
    );
    println!(
        "  audit          {:?}",
        stage.portal_command(&["audit", "verify"])
    );
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        stop = tokio::signal::ctrl_c() => stop?,
        _ = terminated.recv() => {}
    }
    println!("\nEnding.");
    Ok(())
}

/// Prints the story so that it can be followed.
struct Story {
    step: usize,
    started: Instant,
}

impl Story {
    fn step(&mut self, what: &str) {
        self.step += 1;
        println!(
            "\n\x1b[1m{}. {what}\x1b[0m   \x1b[2m+{:.1} s\x1b[0m",
            self.step,
            seconds_since(self.started)
        );
    }

    fn told(&self, facts: &[(&str, &str)]) {
        for (name, value) in facts {
            println!("     {name:<20} {value}");
        }
        let _ = std::io::stdout().flush();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the demonstration runs on the machine's clock"
)]
fn now() -> Instant {
    Instant::now()
}

fn seconds_since(then: Instant) -> f32 {
    Duration::as_secs_f32(&now().saturating_duration_since(then))
}
