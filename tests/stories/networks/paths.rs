//! Lines as they are in Japan, and what becomes of an upload when the line changes under it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use renkei_tests::job::{
    ADMIN_EMAIL, ADMIN_PASSWORD, ADMIN_USER_ID, FILED_PDF, large_pdf, upload_id,
};
use renkei_tests::link::Conditions;
use renkei_tests::process::{output, signal, wait_for};
use renkei_tests::{Agent, MemberPages};
use reqwest::StatusCode;

use super::office::{Home, Town};

/// What is filed, in bytes.
const FILED_BYTES: usize = 20_000_000;
/// MTUs of access lines: Ethernet, v6plus (MAP-E), フレッツ PPPoE, the old one of the west, and
/// one for what comes on top.
const MTUS: [usize; 5] = [1500, 1460, 1454, 1438, 1400];
/// A line on which the upload takes some seconds.
const HOME_LINE: &str = "rate=40M,delay=10ms,queue=128K";
/// How soon an upload goes on after the network under it changed.
const RECOVERED_WITHIN: Duration = Duration::from_secs(5);
/// An upload goes on when this much more has arrived, in bytes: more than handshakes and probes.
const GOES_ON_BYTES: u64 = 300_000;
/// Longer than an agent that is awake ever leaves its clocks unread; the browser waits as long.
const SHORT_SLEEP: Duration = Duration::from_secs(12);
/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How often the page's script sends a part again.
const MAX_TRIES: usize = 10;
/// How long anything here may take at all.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn twenty_megabytes_go_up_and_down_every_access_line_with_icmp_filtered() -> Result<()> {
    up_and_down("passes", "udp", &MTUS)
}

#[test]
fn twenty_megabytes_go_up_and_down_over_tls_with_icmp_filtered() -> Result<()> {
    up_and_down("dropped", "tls", &[1454, 1400])
}

#[expect(
    clippy::disallowed_methods,
    reason = "a story measures on the machine's clock"
)]
fn up_and_down(udp: &str, transport: &str, mtus: &[usize]) -> Result<()> {
    let town = Town::new()?;
    let line = |mtu: usize| -> Result<Conditions> {
        Ok(format!("rate=200M,delay=5ms,queue=512K,mtu={mtu},udp={udp}").parse()?)
    };
    let home = town.home(line(mtus[0])?)?;
    let mut agent = town.enrolled("pc-home", &home.pc)?;
    for (round, mtu) in mtus.iter().enumerate() {
        home.lines[0].set_both(line(*mtu)?);
        let pdf = large_pdf(FILED_BYTES, *mtu as u64)?;
        let start = Instant::now();
        let (up, down) = home
            .pc
            .run(async || {
                let pages = sign_in(&town, &mut agent, round).await?;
                ensure!(agent.status()?["transport"] == transport);
                let start = Instant::now();
                let upload = pages.upload(FILED_PDF, &pdf).await?;
                let up = start.elapsed();
                let document = hand_in(&pages, upload).await?;
                let start = Instant::now();
                let (_, came_back) = pages.site.download(&document).await?;
                ensure!(came_back == pdf, "another document came back");
                let down = start.elapsed();
                output(&mut agent.command(&["disconnect"]))?;
                agent.wait_state("ended").await?;
                Ok((up, down))
            })
            .with_context(|| format!("MTU {mtu} over {transport}"))?;
        println!(
            "MTU {mtu} over {transport}: 20 MB up in {up:?}, down in {down:?}, all in {:?}",
            start.elapsed()
        );
    }
    Ok(())
}

#[test]
fn an_upload_goes_on_when_the_pcs_address_changes() -> Result<()> {
    upload_survives("a new address", Browser::WaitsOnly, |home, _| {
        home.use_line(0, 9)
    })
    .map(drop)
}

#[test]
fn an_upload_goes_on_when_the_pc_changes_its_network() -> Result<()> {
    upload_survives("another network", Browser::WaitsOnly, |home, _| {
        home.use_line(1, 2)
    })
    .map(drop)
}

#[test]
fn an_upload_goes_on_over_tls_when_udp_is_lost() -> Result<()> {
    let status = upload_survives("UDP lost", Browser::WaitsOnly, |home, _| {
        home.lines[0].set_both(format!("{HOME_LINE},udp=dropped").parse()?);
        Ok(())
    })?;
    ensure!(status["transport"] == "tls", "{status}");
    Ok(())
}

#[test]
fn an_upload_goes_on_when_the_pc_wakes_up_in_another_network() -> Result<()> {
    sleeps_for(SHORT_SLEEP)
}

#[test]
#[ignore = "ten minutes of sleep take ten minutes"]
fn an_upload_goes_on_after_ten_minutes_of_sleep() -> Result<()> {
    sleeps_for(Duration::from_secs(600))
}

fn sleeps_for(time: Duration) -> Result<()> {
    // The story's browser does not sleep, nor does the portal: they may lose patience.
    let browser = Browser::MayTryAgain { for_long: time };
    upload_survives("sleep", browser, |home, agent| {
        signal(agent, "STOP")?;
        std::thread::sleep(time);
        home.use_line(1, 2)?;
        signal(agent, "CONT")
    })
    .map(drop)
}

/// What the browser may notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Browser {
    /// Nothing but a pause: its connections stay.
    WaitsOnly,
    /// A part that failed, which the page's script sends again. It does not sleep with its PC
    /// here, and has to be patient for so much longer.
    MayTryAgain { for_long: Duration },
}

/// Uploads, lets `happen` come between (it gets the home and the agent's process id) and
/// returns the agent's status at the end: the same session, the same bytes.
fn upload_survives(
    what: &str,
    browser: Browser,
    happen: impl FnOnce(&Home, u32) -> Result<()>,
) -> Result<serde_json::Value> {
    let town = Town::new()?;
    let home = town.home(HOME_LINE.parse()?)?;
    let pdf = large_pdf(FILED_BYTES, 1)?;
    let mut agent = town.enrolled("pc-home", &home.pc)?;
    let pages = home.pc.run(async || sign_in(&town, &mut agent, 0).await)?;
    let before = agent.status()?;
    ensure!(before["transport"] == "udp", "{before}");
    let pid = agent.process()?.pid();

    let (upload, paused) = std::thread::scope(|scope| {
        let uploading = scope.spawn(|| home.pc.run(async || upload(&pages, &pdf, browser).await));
        let paused = interrupt(&home, pid, happen);
        let upload = uploading.join().expect("the upload does not panic");
        Ok::<_, anyhow::Error>((upload?, paused?))
    })?;
    println!("{what}: the upload paused for {paused:?}");
    ensure!(paused <= RECOVERED_WITHIN, "{what}: {paused:?}");

    home.pc.run(async || {
        let document = hand_in(&pages, upload).await?;
        let (_, came_back) = pages.site.download(&document).await?;
        ensure!(came_back == pdf, "another document came back");
        Ok(())
    })?;
    let after = agent.status()?;
    ensure!(after["state"] == "connected", "{after}");
    ensure!(
        after["deadline"] == before["deadline"],
        "another session: {before} {after}"
    );
    let codes = town.stage.mailbox().codes_sent(ADMIN_EMAIL)?;
    ensure!(codes == 1, "{codes} one-time passwords");
    Ok(after)
}

/// Waits until a good part of the upload has arrived, lets `happen` happen and returns how
/// long it took until the upload went on.
#[expect(
    clippy::disallowed_methods,
    reason = "a story measures on the machine's clock"
)]
fn interrupt(
    home: &Home,
    agent: u32,
    happen: impl FnOnce(&Home, u32) -> Result<()>,
) -> Result<Duration> {
    let arrives = |bytes: u64| -> Result<Duration> {
        let start = Instant::now();
        while home.arrived_bytes() < bytes {
            ensure!(start.elapsed() < PATIENCE, "the upload stands still");
            std::thread::sleep(LOOK);
        }
        Ok(start.elapsed())
    };
    let first = home.arrived_bytes();
    arrives(first + FILED_BYTES as u64 / 4)?;
    happen(home, agent)?;
    arrives(home.arrived_bytes() + GOES_ON_BYTES)
}

/// Uploads in parts as the page's script does; returns the upload's id.
async fn upload(pages: &MemberPages, pdf: &[u8], browser: Browser) -> Result<String> {
    let location = pages.begin_upload(FILED_PDF, pdf.len()).await?;
    let mut sent = pages.finish_upload(&location, pdf, 0).await;
    for _ in 0..MAX_TRIES {
        let Err(error) = sent else {
            return Ok(upload_id(&location));
        };
        let Browser::MayTryAgain { for_long } = browser else {
            return Err(error.context("the browser noticed"));
        };
        println!("the page sends a part again: {error:#}");
        let patience = PATIENCE + for_long;
        let offset = wait_for("the offset", patience.as_secs(), async || {
            pages.offset(&location).await.map(Some)
        })
        .await?;
        sent = pages.finish_upload(&location, pdf, offset).await;
    }
    sent.map(|()| upload_id(&location))
}

/// Connects and signs in; `round` sign-ins came before.
async fn sign_in(town: &Town, agent: &mut Agent, round: usize) -> Result<MemberPages> {
    agent.connect().await?;
    if round == 0 {
        return town.first_sign_in(agent).await;
    }
    let code = town.stage.mailbox().wait_code(ADMIN_EMAIL, round).await?;
    let pages = MemberPages::through(&town.stage, agent)?;
    let page = pages.sign_in(ADMIN_USER_ID, ADMIN_PASSWORD, &code).await?;
    ensure!(page.status == StatusCode::OK, "{}", page.text());
    Ok(pages)
}

/// Hands an upload in; returns where its document is.
async fn hand_in(pages: &MemberPages, upload: String) -> Result<String> {
    let (status, answer) = pages.hand_in(&[(upload, None)]).await?;
    ensure!(status == StatusCode::CREATED, "{status} {answer:#}");
    let receipt = answer["receipt"].as_str().context("a receipt")?;
    let filing = pages
        .site
        .get(receipt)
        .await?
        .links("/filings/")
        .into_iter()
        .find(|path| !path.ends_with("/new"))
        .context("a filing")?;
    Ok(format!("{filing}/document.pdf"))
}
