//! What the clerk sees is true, and never older than two seconds, whatever the network does.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use renkei_tests::link::Conditions;
use renkei_tests::process::{signal, wait_for};
use renkei_tests::{Agent, MemberPages};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::office::{Home, LINES, Town};

/// How old what the page shows may be.
const TRUE_WITHIN: Duration = Duration::from_secs(2);
/// How soon a session goes on when the network is there again, at the latest. How soon it
/// usually does is what the stories of uploads measure.
const RECOVERED_WITHIN: Duration = Duration::from_secs(5);
/// How soon an end that happened in sleep is found out.
const FOUND_WITHIN: Duration = Duration::from_secs(20);
/// Longer than an agent that is awake ever leaves its clocks unread.
const SLEEP: Duration = Duration::from_secs(8);
/// How long the cable is out, and then in again, before the PC moves: within the agent's look
/// once a second, and long enough for it to have given the gateway up.
const PULLED_AND_BACK: [[Duration; 2]; 6] = [
    [Duration::from_millis(300), Duration::ZERO],
    [Duration::from_millis(1700), Duration::from_millis(100)],
    [Duration::from_millis(2300), Duration::from_millis(300)],
    [Duration::from_millis(3100), Duration::from_millis(900)],
    [Duration::from_millis(3700), Duration::from_millis(600)],
    [Duration::from_millis(5300), Duration::from_millis(1500)],
];
const LINE: &str = "rate=200M,delay=5ms,queue=512K";
/// The agent's page; it exists only behind the agent's proxy.
const AGENT_PAGE: &str = "http://renkei-agent.invalid/";

/// The agent's page as its script sees it.
struct Page {
    proxy: String,
    token: String,
}

impl Page {
    fn of(agent: &Agent) -> Result<Self> {
        let status = agent.status()?;
        let log = agent.log_text();
        let launch = log.lines().find(|line| line.starts_with(AGENT_PAGE));
        let (_, token) = launch
            .and_then(|line| line.split_once("token="))
            .context("the window's address")?;
        Ok(Self {
            proxy: status["proxy"].as_str().context("a proxy")?.to_owned(),
            token: token.trim().to_owned(),
        })
    }

    /// What the script reads.
    async fn look(&self, seen: &str) -> Result<Value> {
        let mut stream = tokio::net::TcpStream::connect(&self.proxy).await?;
        let head = format!(
            "GET {AGENT_PAGE}status.json?seen={seen} HTTP/1.1\r\nHost: renkei-agent.invalid\r\nCookie: renkei_launch={}\r\nConnection: close\r\n\r\n",
            self.token
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (_, body) = answer.split_once("\r\n\r\n").context("a body")?;
        serde_json::from_str(body).with_context(|| answer.clone())
    }

    /// Looks on as the script does until it shows what is true, and returns how long that took.
    #[expect(
        clippy::disallowed_methods,
        reason = "a story measures on the machine's clock"
    )]
    async fn shows(
        &self,
        what: &str,
        within: Duration,
        truth: impl Fn(&Value) -> bool,
    ) -> Result<Duration> {
        let start = Instant::now();
        let mut seen = String::new();
        loop {
            let status = self.look(&seen).await?;
            if truth(&status) {
                println!("{what}: shown after {:?}", start.elapsed());
                return Ok(start.elapsed());
            }
            if start.elapsed() > within {
                bail!("{what}: still shows {status}");
            }
            seen = status["picture"].as_str().context("a picture")?.to_owned();
        }
    }

    async fn doubts(&self, what: &str, words: &[&str]) -> Result<Duration> {
        self.shows(what, TRUE_WITHIN, |status| {
            let reason = status["reason"].as_str().unwrap_or_default();
            status["state"] == "connecting" && words.iter().any(|word| reason.contains(word))
        })
        .await
    }

    async fn is_connected(&self, what: &str) -> Result<Duration> {
        self.shows(what, RECOVERED_WITHIN, |status| {
            status["state"] == "connected"
        })
        .await
    }
}

/// What is called connected answers; a connection of before may have to be made anew. Returns
/// how long that took.
#[expect(
    clippy::disallowed_methods,
    reason = "a story measures on the machine's clock"
)]
async fn answers(town: &Town, agent: &Agent) -> Result<Duration> {
    let start = Instant::now();
    let pages = MemberPages::through(&town.stage, agent)?;
    wait_for("an answer", RECOVERED_WITHIN.as_secs(), async || {
        pages.site.open("/sign-in").await.map(Some)
    })
    .await?;
    Ok(start.elapsed())
}

#[test]
fn what_happens_to_the_network_is_on_the_page_within_two_seconds() -> Result<()> {
    let town = Town::new()?;
    let home = town.home(LINE.parse()?)?;
    let mut agent = town.enrolled("pc-home", &home.pc)?;
    home.pc.run(async || {
        agent.connect().await?;
        let page = Page::of(&agent)?;
        let before = agent.status()?;

        // The router lost its line: nobody tells this PC.
        home.lines[0].set_both(Conditions::cut());
        // A moment later it says that it tries anew.
        page.doubts("a silent line", &["応答を待っています", "通信が途切れた"])
            .await?;
        home.lines[0].set_both(LINE.parse()?);
        page.is_connected("the line is back").await?;

        // The cable is pulled: the system tells.
        home.pc.ip(&["link", "set", "line0", "down"])?;
        page.doubts("no network", &["ネットワークにつながっていません"])
            .await?;
        home.pc.ip(&["link", "set", "line0", "up"])?;
        home.use_line(0, 2)?;
        page.is_connected("the cable is back").await?;
        answers(&town, &agent).await?;

        // Another network.
        home.use_line(1, 2)?;
        tokio::time::sleep(TRUE_WITHIN).await;
        let connected = page.is_connected("in another network").await;
        connected.with_context(|| agent.log_text())?;
        answers(&town, &agent).await?;

        let after = agent.status()?;
        ensure!(after["deadline"] == before["deadline"], "{before} {after}");
        Ok(())
    })
}

/// Nobody looks at the page, so that only the change itself can tell the agent to hurry.
#[test]
fn an_idle_session_goes_on_at_once_when_the_pc_moves_right_after_a_pulled_cable() -> Result<()> {
    let town = Town::new()?;
    let home = town.home(LINE.parse()?)?;
    let mut agent = town.enrolled("pc-home", &home.pc)?;
    home.pc.run(async || {
        agent.connect().await?;
        answers(&town, &agent).await?;
        for (turn, [pulled, back]) in PULLED_AND_BACK.into_iter().enumerate() {
            let (here, there) = (turn % 2, (turn + 1) % 2);
            home.pc.ip(&["link", "set", LINES[here], "down"])?;
            tokio::time::sleep(pulled).await;
            home.pc.ip(&["link", "set", LINES[here], "up"])?;
            home.use_line(here, 2)?;
            tokio::time::sleep(back).await;
            home.use_line(there, 2)?;
            let took = answers(&town, &agent).await;
            let took = took.with_context(|| agent.log_text())?;
            println!("pulled for {pulled:?}, back for {back:?}: goes on after {took:?}");
        }
        Ok(())
    })
}

#[test]
fn a_pc_that_slept_shows_what_is_true_within_two_seconds_of_waking() -> Result<()> {
    let town = Town::new()?;
    let home = town.home(LINE.parse()?)?;
    let mut agent = town.enrolled("pc-home", &home.pc)?;
    let pid = home.pc.run(async || {
        agent.connect().await?;
        agent.process().map(|process| process.pid())
    })?;

    // Nothing happened meanwhile: the session goes on.
    sleep(pid, || Ok(()))?;
    home.pc.run(async || {
        let page = Page::of(&agent)?;
        tokio::time::sleep(TRUE_WITHIN).await;
        page.is_connected("awake again").await?;
        answers(&town, &agent).await.map(drop)
    })?;

    // Revoked meanwhile, and the farewell was lost.
    sleep(pid, || {
        home.lines[0].set_both(Conditions::cut());
        town.revoke()?;
        std::thread::sleep(Duration::from_millis(500));
        home.lines[0].set_both(LINE.parse()?);
        Ok(())
    })?;
    after_the_end(&home, &agent)
}

fn after_the_end(home: &Home, agent: &Agent) -> Result<()> {
    home.pc.run(async || {
        let page = Page::of(agent)?;
        page.shows("awake after the end", TRUE_WITHIN, |status| {
            status["state"] != "connected"
        })
        .await?;
        page.shows("the reason of the end", FOUND_WITHIN, |status| {
            let reason = status["reason"].as_str().unwrap_or_default();
            status["state"] == "ended" && reason.contains("利用を停止した")
        })
        .await
        .map(drop)
    })
}

/// Lets the agent sleep while `happen` happens.
fn sleep(agent: u32, happen: impl FnOnce() -> Result<()>) -> Result<()> {
    signal(agent, "STOP")?;
    let happened = happen();
    std::thread::sleep(SLEEP);
    signal(agent, "CONT")?;
    happened
}
