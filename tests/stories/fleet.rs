//! Several gateways: any PC through any of them, and on when one is gone.
#![expect(
    clippy::disallowed_methods,
    reason = "what people wait for is measured in real time"
)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use renkei_tests::job::{ADMIN_EMAIL, AtWork, FILED_PDF, large_pdf, upload_id};
use renkei_tests::process::{output, wait_for};
use renkei_tests::{Agent, MemberPages, OfficePages, Stage, StageOptions};
use reqwest::StatusCode;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// How soon a session goes on through another gateway.
const REPLACED_WITHIN: Duration = Duration::from_secs(5);
/// How soon a revoked PC's session has ended.
const REVOKED_WITHIN: Duration = Duration::from_secs(2);
/// How long things may take to be well again, in seconds.
const RECOVERY_S: u64 = 15;
/// Size of the upload that a gateway's death comes between, in bytes: the largest document.
const LARGE_BYTES: usize = 50 * 1024 * 1024;
/// Size of its parts, as the page's script has them.
const PART_BYTES: usize = 4 * 1024 * 1024;

#[tokio::test]
async fn a_gateway_killed_in_mid_upload_is_replaced_within_five_seconds() -> Result<()> {
    let mut stage = Stage::start(StageOptions::default()).await?;
    let _second = stage.add_gateway("second").await?;
    let work = AtWork::on(&stage).await?;
    let before = work.agent.status()?;
    let pdf = large_pdf(LARGE_BYTES, 1)?;
    let location = work.pages.begin_upload(FILED_PDF, pdf.len()).await?;
    let csrf = work.pages.csrf().await?;

    let progress = Progress::default();
    let uploading = upload_as_the_page_does(&work.pages, &location, &csrf, &pdf, &progress);
    let killing = async {
        wait_for("the first parts", 60, async || {
            Ok((progress.sent() >= 4 * PART_BYTES).then_some(()))
        })
        .await?;
        // In the middle of the next part.
        tokio::time::sleep(Duration::from_millis(20)).await;
        stage.gateway.kill();
        let killed = Instant::now();
        ensure!(progress.sent() < pdf.len(), "the upload was over already");
        anyhow::Ok(killed)
    };
    let (uploaded, killed) = tokio::join!(uploading, killing);
    let tries = uploaded.with_context(|| work.agent.log_text())?;
    let replaced = progress.resumed()?.duration_since(killed?);
    println!("an answer through another gateway after {replaced:?}, {tries} tries in vain");
    ensure!(
        replaced < REPLACED_WITHIN,
        "{replaced:?} until an answer came\n{}",
        work.agent.log_text()
    );

    is_the_same_session(&work.agent, &before)?;
    ensure!(
        stage.mailbox().codes_sent(ADMIN_EMAIL)? == 1,
        "a second password"
    );
    let (status, answer) = work.pages.hand_in(&[(upload_id(&location), None)]).await?;
    ensure!(status == StatusCode::CREATED, "{status} {answer:#}");
    let receipt = answer["receipt"].as_str().context("a receipt")?;
    let receipt = work.pages.site.get(receipt).await?;
    receipt.must_say(&hex(&Sha256::digest(&pdf)))?;
    output(&mut stage.portal_command(&["audit", "verify"]))?;
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_is_stopped_or_retired_hands_its_sessions_over() -> Result<()> {
    let mut stage = Stage::start(StageOptions::default()).await?;
    let second = stage.add_gateway("second").await?;
    let work = AtWork::on(&stage).await?;
    let before = work.agent.status()?;

    let code = stage.gateway.terminate()?;
    ensure!(code == Some(0), "the gateway ended with {code:?}");
    pages_come(&work.pages, REPLACED_WITHIN)
        .await
        .with_context(|| work.agent.log_text())?;
    is_the_same_session(&work.agent, &before)?;
    ensure!(stage.listed_gateway("second")?["live_sessions"] == 1);

    // And back: the second one is taken out of use, the first one is there again.
    stage.restart_gateway().await?;
    output(&mut stage.portal_command(&["gateway", "retire", "second"]))?;
    let moved = wait_for("the session to leave", 30, async || {
        let left = stage.listed_gateway("second")?["live_sessions"] == 0;
        Ok(left.then_some(()))
    });
    tokio::time::timeout(REPLACED_WITHIN, moved).await??;
    pages_come(&work.pages, REPLACED_WITHIN)
        .await
        .with_context(|| work.agent.log_text())?;
    is_the_same_session(&work.agent, &before)?;
    ensure!(stage.listed_gateway("demo")?["live_sessions"] == 1);
    drop(second);
    Ok(())
}

#[tokio::test]
async fn a_revocation_reaches_every_gateway_within_two_seconds() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let second = stage.add_gateway("second").await?;
    let work = AtWork::on(&stage).await?;
    let code = work.office.further_code().await?;
    let mut other = stage.agent_at("pc2", &second.url())?;
    work.office.enrol_agent(&mut other, &code).await?;
    other.connect().await?;
    for name in ["demo", "second"] {
        let listed = stage.listed_gateway(name)?;
        ensure!(listed["live_sessions"] == 1, "one session each: {listed}");
    }

    let list = work.office.site.get("/devices").await?;
    let mut devices = list.links("/devices/");
    devices.dedup();
    ensure!(devices.len() == 2, "{devices:?}");
    let mut forms = Vec::new();
    for device in &devices {
        let page = work.office.site.get(device).await?;
        forms.push(page.form("/revoke")?.fill("reason", "入替え")?);
    }
    let revoked = Instant::now();
    for form in &forms {
        work.office.site.submit(form).await?;
    }
    for agent in [&work.agent, &other] {
        let status = wait_for("the session's end", 30, async || {
            let status = agent.status()?;
            Ok((status["state"] == "ended").then_some(status))
        })
        .await?;
        let reason = status["reason"].as_str().context("a reason")?;
        ensure!(reason.contains("利用を停止した"), "{reason}");
    }
    let took = revoked.elapsed();
    println!("both sessions ended {took:?} after the first of two revocations");
    ensure!(took < REVOKED_WITHIN, "{took:?}");
    Ok(())
}

#[tokio::test]
async fn a_gateway_cut_off_from_the_portal_admits_nobody_new_and_ends_what_it_has_in_time()
-> Result<()> {
    const LEFT_S: i64 = 40;
    let mut stage = Stage::start(StageOptions::default()).await?;
    let line = stage.control_line()?;
    let far = stage.add_gateway_behind("far", line.address()).await?;
    let work = AtWork::on(&stage).await?;
    let code = work.office.further_code().await?;
    let mut other = stage.agent_at("pc2", &far.url())?;
    work.office.enrol_agent(&mut other, &code).await?;
    // Only the far gateway is left, and the session with it.
    stage.gateway.kill();
    pages_come(&work.pages, REPLACED_WITHIN)
        .await
        .with_context(|| work.agent.log_text())?;
    shorten_sessions(&stage, LEFT_S)?;
    let ends = Instant::now() + Duration::from_secs(LEFT_S.unsigned_abs());
    wait_for("the nearer deadline", 10, async || {
        let left = work.agent.status()?["remaining_s"].as_i64();
        Ok(left.filter(|left| *left <= LEFT_S))
    })
    .await?;

    line.cut();
    let refused = wait_for("the gateway to notice", 10, async || {
        let tried = other.command(&["connect"]).output()?;
        Ok((tried.status.code() == Some(1)).then_some(tried))
    })
    .await?;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(told.contains("基金のシステムにつながりません"), "{told}");

    // Who is in stays in: pages come, although nobody can ask the portal for grants.
    work.pages.site.get("/").await?;
    ensure!(work.agent.status()?["state"] == "connected");
    ensure!(Instant::now() < ends, "too slow to tell");
    let status = wait_for("the session's end", 60, async || {
        let status = work.agent.status()?;
        Ok((status["state"] == "ended").then_some(status))
    })
    .await?;
    let late = Instant::now().saturating_duration_since(ends);
    ensure!(late < Duration::from_secs(2), "{late:?} after its deadline");
    ensure!(
        status["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("利用時間が終わった")),
        "{status}"
    );
    ensure!(
        work.pages.site.open("/").await.is_err(),
        "a page after the end"
    );

    line.mend();
    wait_for("the gateway to come back", RECOVERY_S, async || {
        other.connect().await.map(Some)
    })
    .await?;
    drop(far);
    Ok(())
}

#[tokio::test]
async fn a_renewed_gateway_certificate_goes_into_use_without_ending_a_session() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let mut second = stage.add_gateway("second").await?;
    let office = OfficePages::open(&stage)?;
    office.sign_in(&stage).await?;
    let letter = office.register().await?;
    let mut agent = stage.agent_at("pc1", &second.url())?;
    office
        .enrol_agent(&mut agent, &letter.registration_code)
        .await?;
    let before = agent.connect().await?;

    let folder = stage.folder().join("gateway-second");
    let next = folder.join("next");
    output(
        stage
            .portal_command(&["gateway", "renew", "second", "--out"])
            .arg(&next),
    )?;
    second.process.terminate()?;
    std::fs::rename(folder.join("identity"), folder.join("old"))?;
    std::fs::rename(&next, folder.join("identity"))?;
    second.restart(&stage).await?;
    wait_for("the session to go on", RECOVERY_S, async || {
        let status = agent.status()?;
        Ok((status["state"] == "connected").then_some(()))
    })
    .await?;
    is_the_same_session(&agent, &before)?;

    // The old certificate is good for nothing now.
    second.process.terminate()?;
    std::fs::rename(folder.join("identity"), folder.join("new"))?;
    std::fs::rename(folder.join("old"), folder.join("identity"))?;
    let registered = stage.listed_gateway("second")?["seen"].clone();
    second.restart(&stage).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(
        stage.listed_gateway("second")?["seen"] == registered,
        "it registered"
    );
    Ok(())
}

/// How far an upload got.
#[derive(Default)]
struct Progress {
    sent: AtomicUsize,
    /// When the first answer came after the connection broke.
    resumed: Mutex<Option<Instant>>,
}

impl Progress {
    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    fn resume(&self) {
        if let Ok(mut resumed) = self.resumed.lock() {
            resumed.get_or_insert_with(Instant::now);
        }
    }

    fn resumed(&self) -> Result<Instant> {
        let resumed = self.resumed.lock().ok().and_then(|resumed| *resumed);
        resumed.context("the connection never broke")
    }
}

/// Sends what is missing part by part; when the connection breaks, asks again how far it got,
/// as the page's script does. Returns how many tries were in vain.
async fn upload_as_the_page_does(
    pages: &MemberPages,
    location: &str,
    csrf: &str,
    bytes: &[u8],
    progress: &Progress,
) -> Result<u32> {
    const PATIENCE: Duration = Duration::from_secs(60);
    let (mut offset, mut failures, mut last_progress) = (0, 0, Instant::now());
    while offset < bytes.len() {
        let end = bytes.len().min(offset + PART_BYTES);
        let part = bytes[offset..end].to_vec();
        match pages.send_part(location, csrf, offset, part).await {
            Ok(taken) if taken.status() == StatusCode::NO_CONTENT => {
                offset = end;
                progress.sent.store(offset, Ordering::Relaxed);
                last_progress = Instant::now();
            }
            failed => {
                failures += 1;
                let waited = last_progress.elapsed();
                ensure!(waited < PATIENCE, "given up after {waited:?}: {failed:?}");
                tokio::time::sleep(Duration::from_millis(300)).await;
                if let Ok(known) = pages.offset(location).await {
                    offset = known;
                    progress.resume();
                }
            }
        }
    }
    Ok(failures)
}

/// Waits until the clerk's first page comes, with the sign-in that there was.
async fn pages_come(pages: &MemberPages, within: Duration) -> Result<()> {
    let coming = wait_for("the pages", 30, async || {
        let page = pages.site.get("/").await?;
        ensure!(page.path == "/", "signed out: {}", page.path);
        Ok(Some(()))
    });
    tokio::time::timeout(within, coming)
        .await
        .with_context(|| format!("no page within {within:?}"))?
}

/// Fails unless the agent is connected until the same deadline as before.
pub fn is_the_same_session(agent: &Agent, before: &Value) -> Result<()> {
    let after = agent.status()?;
    ensure!(after["state"] == "connected", "{after}");
    ensure!(
        before["deadline"].is_string() && after["deadline"] == before["deadline"],
        "the deadline moved: {before} {after}"
    );
    Ok(())
}

/// What an edit of the calendar does to open sessions, to the second: closing times have
/// minutes only.
pub fn shorten_sessions(stage: &Stage, left_s: i64) -> Result<()> {
    const SCRIPT: &str = "import sqlite3, sys, time
now = int(time.time() * 1000)
db = sqlite3.connect(sys.argv[1], timeout=10)
db.execute('''UPDATE tunnel_sessions SET deadline_ms = ?, deadline_reason = 'closing_time',
              changed_ms = ? WHERE ended_ms IS NULL''', (now + int(sys.argv[2]) * 1000, now))
db.commit()";
    output(
        std::process::Command::new("/usr/bin/python3")
            .args(["-c", SCRIPT])
            .arg(stage.sqlite_file())
            .arg(left_s.to_string()),
    )
    .map(drop)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
