//! Who must not get in, or not any more.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use renkei_tests::job::{ADMIN_EMAIL, ADMIN_PASSWORD, ADMIN_USER_ID, AtWork};
use renkei_tests::pages::Site;
use renkei_tests::process::wait_for;
use renkei_tests::stage::ESTABLISHMENT_NUMBER;
use renkei_tests::{Agent, MemberPages, OfficePages, Stage, StageOptions};
use reqwest::StatusCode;

/// How soon a revoked PC's session has ended.
const REVOKED_WITHIN: Duration = Duration::from_secs(2);
/// Datagrams that the stranger sends.
const DATAGRAMS: usize = 3_000;
/// The longest datagram that IPv4 carries.
const DATAGRAM_LIMIT: usize = 65_507;

#[tokio::test]
async fn revoking_a_pc_ends_its_session_within_two_seconds() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let mut work = AtWork::on(&stage).await?;
    work.pages.site.get("/").await?;
    let list = work.office.site.get("/devices").await?;
    let device = list.links("/devices/").into_iter().next();
    let page = work.office.site.get(&device.context("a PC")?).await?;
    let form = page.form("/revoke")?.fill("reason", "入替え")?;

    work.office.site.submit(&form).await?;
    let ended = wait_for("the session's end", 30, async || {
        let status = work.agent.status()?;
        Ok((status["state"] == "ended").then_some(status))
    });
    let status = tokio::time::timeout(REVOKED_WITHIN, ended)
        .await
        .context("the session stood longer than two seconds")??;
    let reason = status["reason"].as_str().context("a reason")?;
    ensure!(reason.contains("利用を停止した"), "{reason}");
    let gone = work.pages.site.open("/").await;
    ensure!(gone.is_err(), "a page after the end: {gone:?}");

    let again = work.agent.command(&["connect"]).output()?;
    ensure!(again.status.code() == Some(1), "{again:?}");
    ensure!(work.agent.status()?["state"] != "connected");
    work.agent.stop()?;
    Ok(())
}

/// S003-25, S003-36: an establishment works with a second PC.
#[tokio::test]
async fn a_stolen_cookie_is_useless_in_another_pcs_tunnel() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let further = work.office.further_code().await?;
    let mut other = work.office.enrol(&stage, "pc2", &further).await?;
    other.connect().await?;

    let thief = MemberPages::through(&stage, &other)?;
    thief.site.steal_cookies(&work.pages.site);
    for path in ["/", "/filings", "/notices", "/settings"] {
        let own = work.pages.site.open(path).await?;
        ensure!(own.status == StatusCode::OK, "{path}: {}", own.status);
        thief.site.steal_cookies(&work.pages.site);
        let page = thief.site.open(path).await?;
        ensure!(
            page.status == StatusCode::UNAUTHORIZED || page.path == "/sign-in",
            "{path} shows the thief {}: {}",
            page.status,
            page.text()
        );
        page.must_say("ログインしてください")?;
    }
    Ok(())
}

#[tokio::test]
async fn a_stranger_gets_a_bare_404_and_no_datagram_at_all() -> Result<()> {
    let mut stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;

    let stranger = Site::new(&stage.gateway_url(), &stage.ca_file(), None)?;
    for path in [
        "/",
        "/v1/status",
        "/v1/sessions",
        "/sign-in",
        "/control/v1/grants",
    ] {
        let page = stranger.open(path).await?;
        ensure!(
            page.status == StatusCode::NOT_FOUND,
            "{path}: {}",
            page.status
        );
        ensure!(page.html.is_empty(), "{path} says {}", page.html);
        let said: Vec<&str> = page.headers.keys().map(|name| name.as_str()).collect();
        ensure!(said == ["content-length"], "{path} says {said:?}");
    }

    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    socket.connect(stage.gateway_udp())?;
    socket.set_nonblocking(true)?;
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut datagram = vec![0_u8; DATAGRAM_LIMIT];
    let mut sent = 0;
    for number in 0..DATAGRAMS {
        let length = match number % 8 {
            0 => 0,
            1 => 148, // a WireGuard handshake's length
            2 => 32,
            3 => DATAGRAM_LIMIT,
            _ => noise.below(DATAGRAM_LIMIT + 1),
        };
        noise.fill(&mut datagram[..length]);
        if length >= 4 && number % 2 == 0 {
            let kind = 1 + u8::try_from(number / 8 % 4)?;
            datagram[..4].copy_from_slice(&[kind, 0, 0, 0]);
        }
        // A full queue refuses some; the gateway must bear what arrives.
        sent += usize::from(socket.send(&datagram[..length]).is_ok());
    }
    ensure!(sent > DATAGRAMS / 2, "only {sent} datagrams left");

    work.pages.site.get("/").await?;
    let mut answer = [0_u8; 2048];
    let nothing = socket.recv(&mut answer);
    let kind = nothing.as_ref().map_err(std::io::Error::kind);
    ensure!(
        matches!(kind, Err(std::io::ErrorKind::WouldBlock)),
        "the UDP port answered: {nothing:?}"
    );
    stage.gateway.check_running()
}

#[tokio::test]
async fn wrong_used_and_foreign_registration_codes_are_refused_alike() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let office = OfficePages::open(&stage)?;
    office.sign_in(&stage).await?;
    let own = office.register().await?;
    let foreign = office
        .register_as(
            "4567",
            "架空工業株式会社",
            "kaku-jiro",
            "架空 次郎",
            "jiro@kaku.example",
        )
        .await?;
    let used = office
        .enrol(&stage, "pc1", &own.registration_code)
        .await
        .map(|_| own.registration_code)?;
    let wrong = format!("{}{}", &used[..used.len() - 1], other_than(&used));

    let mut sentences = Vec::new();
    for (name, code) in [
        ("pc-wrong", wrong.as_str()),
        ("pc-used", &used),
        ("pc-foreign", &foreign.registration_code),
    ] {
        let agent = stage.agent(name)?;
        sentences.push(refused_to_enrol(&agent, &stage, code)?);
    }
    ensure!(sentences[0].contains("登録コード"), "{sentences:?}");
    ensure!(
        sentences.iter().all(|sentence| *sentence == sentences[0]),
        "{sentences:?}"
    );
    Ok(())
}

/// S003-29, S003-30: one click asks for the one-time password, which comes by mail.
#[tokio::test]
async fn a_one_time_password_works_once_and_in_its_session_only() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let mut work = AtWork::on(&stage).await?;

    let again = MemberPages::through(&stage, &work.agent)?;
    let page = again
        .sign_in(ADMIN_USER_ID, ADMIN_PASSWORD, &work.code)
        .await?;
    ensure!(
        page.status == StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        page.status
    );
    page.must_say("このワンタイムパスワードは使えなくなりました")?;
    ensure!(
        again.site.open("/").await?.status == StatusCode::UNAUTHORIZED,
        "a used code signed somebody in"
    );

    // Another session: the old cookie and the old code are nothing there, a new code works.
    renkei_tests::process::output(&mut work.agent.command(&["disconnect"]))?;
    work.agent.connect().await?;
    let next = MemberPages::through(&stage, &work.agent)?;
    next.site.steal_cookies(&work.pages.site);
    ensure!(
        next.site.open("/").await?.status == StatusCode::UNAUTHORIZED,
        "a web session outlived its tunnel session"
    );
    let code = stage.mailbox().wait_code(ADMIN_EMAIL, 1).await?;
    if code != work.code {
        let page = next
            .sign_in(ADMIN_USER_ID, ADMIN_PASSWORD, &work.code)
            .await?;
        page.must_say("ワンタイムパスワードが正しくありません")?;
    }
    let page = next.sign_in(ADMIN_USER_ID, ADMIN_PASSWORD, &code).await?;
    ensure!(
        page.status == StatusCode::OK && page.path == "/",
        "{} {}",
        page.path,
        page.text()
    );
    Ok(())
}

#[tokio::test]
async fn a_pc_whose_clock_is_a_year_ahead_connects() -> Result<()> {
    with_a_wrong_clock("+1y", 1).await
}

#[tokio::test]
async fn a_pc_whose_clock_is_a_year_behind_connects() -> Result<()> {
    with_a_wrong_clock("-1y", -1).await
}

async fn with_a_wrong_clock(offset: &str, sign: i64) -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let mut work = AtWork::on(&stage).await?;
    work.agent.stop()?;

    work.agent.set_clock(offset);
    work.agent.start(&["open", "--no-browser"])?;
    work.agent.wait_state("ready").await?;
    let status = work.agent.connect().await?;
    let skew_s = status["clock_skew_s"].as_i64().context("a wrong clock")?;
    ensure!(skew_s * sign > 360 * 86_400, "{status}");
    let left_s = status["remaining_s"].as_i64().context("a rest")?;
    ensure!((80 * 60..=90 * 60).contains(&left_s), "{status}");
    let code = stage.mailbox().wait_code(ADMIN_EMAIL, 1).await?;
    let pages = MemberPages::through(&stage, &work.agent)?;
    let page = pages.sign_in(ADMIN_USER_ID, ADMIN_PASSWORD, &code).await?;
    ensure!(page.status == StatusCode::OK, "{}", page.text());
    Ok(())
}

/// What the agent says when the fund takes no registration with `code`.
fn refused_to_enrol(agent: &Agent, stage: &Stage, code: &str) -> Result<String> {
    let tried = agent
        .command(&[
            "enrol",
            "--gateway",
            &stage.gateway_url(),
            "--establishment",
            ESTABLISHMENT_NUMBER,
            "--code",
            code,
            "--no-wait",
        ])
        .output()?;
    ensure!(
        tried.status.code() == Some(1),
        "{code} was taken: {tried:?}"
    );
    let told = String::from_utf8(tried.stderr)?;
    let sentence = told
        .lines()
        .find_map(|line| line.strip_prefix("vpn-agent: "))
        .with_context(|| told.clone())?;
    Ok(sentence.to_owned())
}

/// A last letter that `code` does not have.
fn other_than(code: &str) -> char {
    if code.ends_with('7') { '8' } else { '7' }
}

/// Bytes without a pattern, the same in every run (xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 1).unwrap_or(0) % limit
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let random = self.next().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}
