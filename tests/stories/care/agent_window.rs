//! The agent's own window in each of its states, as a machine can judge it, by the same rules as
//! the portal's pages (`everywhere`); and registering, connecting and ending with no mouse.

use anyhow::{Context as _, Result, ensure};
use renkei_tests::browser::Browser;
use renkei_tests::job::{CORPUS_PASSWORD, FILED_ZIP, Letter, matching_code_in};
use renkei_tests::process::{signal, wait_for};
use renkei_tests::stage::ESTABLISHMENT_NUMBER;
use renkei_tests::{Agent, OfficePages, Stage, StageOptions};

use super::everywhere::Walk;
use super::keyboard::{ENTER, Keyboard};
use crate::updates::{Maker, of_version};

/// The agent's page; it exists only behind the agent's proxy.
const AGENT_PAGE: &str = "http://renkei-agent.invalid/";
/// How long an agent may take to look for an update, in seconds.
const PATIENCE_S: u64 = 120;

/// The window, looked at.
struct Window<'a> {
    browser: &'a Browser,
    walk: Walk<'a>,
}

impl Window<'_> {
    /// Inspects what is shown once it says `words`.
    async fn shows(&self, words: &str, place: &str) -> Result<()> {
        self.browser.wait_text(words).await?;
        self.walk.inspect(place).await
    }

    async fn looks(&self, path: &str, words: &str, place: &str) -> Result<()> {
        self.browser.go(&format!("{AGENT_PAGE}{path}")).await?;
        self.shows(words, place).await
    }

    fn keys(&self) -> Keyboard<'_> {
        Keyboard(self.browser)
    }
}

#[tokio::test]
async fn the_agents_window_can_be_used_by_everybody_in_each_of_its_states() -> Result<()> {
    let mut stage = Stage::start(StageOptions::default()).await?;
    let office = OfficePages::open(&stage)?;
    office.sign_in(&stage).await?;
    let letter = office.register().await?;
    let mut agent = stage.agent("pc1")?;
    let maker = Maker::new(&stage)?;
    let program = agent.install()?;
    agent.configure(&format!("update_key = {:?}", maker.public_key))?;
    agent.start(&["open", "--no-browser"])?;
    let launch = launched(&agent).await?;
    let folder = stage.folder().join("browsers");
    std::fs::create_dir_all(&folder)?;
    let browser = Browser::open(&folder, "window", Some(&agent.proxy()?), None).await?;
    let window = Window {
        browser: &browser,
        walk: Walk::new(&browser, AGENT_PAGE)?,
    };

    window
        .looks("", "この画面は、連携の窓から", "without the launch")
        .await?;
    browser.go(&launch).await?;
    unregistered(&window).await?;
    registering(&window, &office, &letter).await?;
    // Another maker's update is refused, in every window.
    Maker::new(&stage)?.offer(&stage, "0.2.0", &of_version(&program, "0.2.0")?)?;
    connecting(&window, &mut stage, &mut agent).await?;

    // The program is gone while its page is open.
    browser.go(AGENT_PAGE).await?;
    agent.kill();
    window
        .shows("プログラムから応答がありません", "program gone")
        .await?;
    let notes = window.walk.notes();
    browser.close().await?;
    ensure!(
        notes.is_empty(),
        "{} findings:\n{}",
        notes.len(),
        notes.join("\n")
    );
    Ok(())
}

/// What there is before the PC is registered: the form, zips, the diagnosis.
async fn unregistered(window: &Window<'_>) -> Result<()> {
    const SEND_EMPTY: &str = "const form = document.querySelector(\"form[action='/enrol']\");
        for (const el of form.elements) if (el.type !== 'hidden') el.value = '';
        HTMLFormElement.prototype.submit.call(form);";
    let browser = window.browser;
    window
        .looks("", "このパソコンを登録する", "unregistered")
        .await?;
    browser.client.execute(SEND_EMPTY, vec![]).await?;
    window
        .shows("入力内容をご確認ください", "a form sent empty")
        .await?;

    window
        .looks("documents", "zipファイルを選ぶ", "no zip")
        .await?;
    let zip = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/good");
    let zip = std::path::Path::new(zip).join(FILED_ZIP).canonicalize()?;
    let zip = zip.to_str().context("a path in UTF-8")?;
    browser.find("#file").await?.send_keys(zip).await?;
    window.shows("のパスワード", "a sealed zip").await?;
    let unlock = "form[action='/documents/unlock'] button";
    browser.type_into("password", "ちがうパスワード").await?;
    browser.press(unlock).await?;
    window
        .shows("パスワードが違います", "a wrong password")
        .await?;
    browser.type_into("password", CORPUS_PASSWORD).await?;
    browser.press(unlock).await?;
    window.shows("の中の書類", "an open zip").await?;

    window
        .looks("diagnosis", "約10秒", "no diagnosis yet")
        .await?;
    browser.press("form[action='/diagnosis'] button").await?;
    window.shows("の結果", "a diagnosis").await
}

/// Asks by keyboard, is refused, asks again, is approved.
async fn registering(window: &Window<'_>, office: &OfficePages, letter: &Letter) -> Result<()> {
    let browser = window.browser;
    let keys = window.keys();
    browser.go(AGENT_PAGE).await?;
    keys.reads("このパソコンを登録する").await?;
    keys.fill("事業所番号", ESTABLISHMENT_NUMBER).await?;
    keys.fill("登録コード", &letter.registration_code).await?;
    keys.press(ENTER).await?;
    window.shows("基金の承認を待っています", "pending").await?;
    let page = office.site.get("/devices").await?;
    office.site.submit(&page.form("/refuse")?).await?;
    window.shows("登録されませんでした", "not approved").await?;

    let code = office.further_code().await?;
    browser.go(AGENT_PAGE).await?;
    keys.fill("事業所番号", ESTABLISHMENT_NUMBER).await?;
    keys.fill("登録コード", &code).await?;
    keys.press(ENTER).await?;
    keys.reads("基金の承認を待っています").await?;
    let shown = browser.text().await?;
    let code = matching_code_in(&shown).context("a matching code")?;
    office.approve(&code).await?;
    window.shows("接続できます", "ready").await?;
    window.looks("profiles", "登録先の一覧", "the list").await?;
    window
        .looks("profiles/remove?profile=1", "削除しますか", "a removal")
        .await
}

/// The states of a connection; what makes each is done to the fund's real programs.
async fn connecting(window: &Window<'_>, stage: &mut Stage, agent: &mut Agent) -> Result<()> {
    let keys = window.keys();
    window.browser.go(AGENT_PAGE).await?;
    keys.reads("接続できます").await?;
    signal(stage.portal.pid(), "STOP")?;
    // The menu has one too, before it.
    keys.to("接続").await?;
    keys.follow("接続").await?;
    let shown = window.shows("取りやめる", "connecting").await;
    signal(stage.portal.pid(), "CONT")?;
    shown?;
    wait_for("the end of the first try", PATIENCE_S, async || {
        Ok((agent.status()?["state"] != "connecting").then_some(()))
    })
    .await?;
    if agent.status()?["state"] != "connected" {
        agent.connect().await?;
    }
    wait_for("the update to be refused", PATIENCE_S, async || {
        let status = agent.status()?;
        let told = status["update"].as_str().unwrap_or_default().to_owned();
        Ok(told.contains("確認できなかった").then_some(()))
    })
    .await?;
    window
        .looks(
            "",
            "業務画面をご利用になれます",
            "connected, update refused",
        )
        .await?;
    window
        .looks("profiles", "残り時間", "the list, connected")
        .await?;

    signal(stage.gateway.pid(), "STOP")?;
    let shown = window.looks("", "切断する", "connection lost").await;
    signal(stage.gateway.pid(), "CONT")?;
    shown?;
    agent.wait_state("connected").await?;

    window.browser.go(AGENT_PAGE).await?;
    keys.reads("業務画面をご利用になれます").await?;
    keys.to("切断する").await?;
    keys.press(ENTER).await?;
    window.shows("接続は終了しました", "ended").await?;
    stage.portal.kill();
    let refused = agent.command(&["connect"]).output()?;
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    window.looks("", "ただいま接続できません", "refused").await
}

async fn launched(agent: &Agent) -> Result<String> {
    wait_for("the window's address", 30, async || {
        let log = agent.log_text();
        let line = log.lines().find(|line| line.starts_with(AGENT_PAGE));
        Ok(line.map(str::to_owned))
    })
    .await
}
