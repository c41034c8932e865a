//! A double click on a password zip under Windows: the real .exe offers itself for zips, is
//! started as Windows starts it, shows what lies in the zip, and takes the offer back.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use renkei_tests::browser::Browser;
use renkei_tests::job::{CORPUS_PASSWORD, FILED_ZIP, corpus};
use renkei_tests::process::{output, run, wait_for};
use renkei_tests::wine::Prefix;
use renkei_tests::{Stage, StageOptions};

/// The agent's page; it exists only behind the agent's proxy.
const AGENT_PAGE: &str = "http://renkei-agent.invalid/";
/// The name under which the agent offers itself.
const CLASS: &str = "Renkei.Zip";
/// Where this user's programs say what they open.
const CLASSES: &str = r"HKCU\Software\Classes";
/// A folder as clerks name them.
const FOLDER: &str = "届出 書類（令和6年度）";
/// Stands in for Edge.
const BROWSER: &str = r"tests\browser.exe";
/// How long something under Wine may take, in seconds.
const PATIENCE_S: u64 = 60;

/// What Windows starts for a file of the class; none if nobody offers himself.
fn command_in_registry(prefix: &Prefix) -> Result<Option<String>> {
    let key = format!(r"{CLASSES}\{CLASS}\shell\open\command");
    let found = run(prefix.wine().args(["reg", "query", &key, "/ve"]))?;
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    let command = text.lines().find_map(|line| line.split_once("REG_SZ"));
    Ok(command.map(|(_, command)| command.trim().to_owned()))
}

// Several threads: while a program under Wine is waited for, the browser is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_double_click_on_a_password_zip_shows_what_is_in_it_and_leaves_no_trace() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let prefix = Arc::new(Prefix::new(&stage.folder().join("wine"))?);
    let mut agent = stage.windows_agent("pc-windows", &prefix).await?;
    let browser = prefix.install(BROWSER, "browser.c", &[])?;
    agent.configure(&format!(r"browser = 'C:\{BROWSER}'"))?;
    agent.start(&["open", "--no-browser"])?;
    let launch = wait_for("the window's address", PATIENCE_S, async || {
        let log = agent.log_text();
        let mut lines = log.lines().map(str::trim);
        let found = lines.find(|line| line.starts_with(AGENT_PAGE));
        Ok(found.map(str::to_owned))
    })
    .await?;
    let clerk = Browser::open(stage.folder(), "clerk", Some(&agent.proxy()?), None).await?;
    clerk.go(&launch).await?;
    clerk.click("zipファイルを開く").await?;
    ensure!(
        command_in_registry(&prefix)?.is_none(),
        "nobody asked for it"
    );
    clerk.press("details summary").await?;
    clerk.click("一覧に加える").await?;
    clerk
        .wait_text("zipファイルのダブルクリックについて")
        .await?;
    let command = command_in_registry(&prefix)?.context("the agent offers itself")?;
    ensure!(
        command == r#""C:\renkei\vpn-agent.exe" open "%1""#,
        "{command}"
    );
    let offered = format!(r"{CLASSES}\.zip\OpenWithProgids");
    output(prefix.wine().args(["reg", "query", &offered, "/v", CLASS]))?;

    // The double click, while the agent runs: its window comes up with the zip in it.
    let folder = prefix.drive_c().join(FOLDER);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(
        folder.join(FILED_ZIP),
        corpus(&format!("good/{FILED_ZIP}"))?,
    )?;
    let opener = prefix.install(
        r"tests\open_as.exe",
        "open_as.c",
        &["-municode", "-lshell32"],
    )?;
    let zip = format!(r"C:\{FOLDER}\{FILED_ZIP}");
    let opened = run(prefix.wine().arg(&opener).args([CLASS, &zip]))?;
    ensure!(opened.status.success(), "{opened:?}");
    let arguments = wait_for("the window", PATIENCE_S, async || {
        Ok(std::fs::read_to_string(browser.with_extension("exe.txt")).ok())
    })
    .await?;
    let shown = arguments
        .lines()
        .find_map(|argument| argument.strip_prefix("--app="))
        .with_context(|| arguments.clone())?;
    clerk.go(shown).await?;
    clerk
        .wait_text(&format!("「{FILED_ZIP}」のパスワード"))
        .await?;
    clerk.type_into("password", CORPUS_PASSWORD).await?;
    clerk
        .press("form[action='/documents/unlock'] button")
        .await?;
    clerk
        .wait_text(&format!("「{FILED_ZIP}」の中の書類（1件）"))
        .await?;

    // Taken back, there is nothing left of it.
    clerk.press("details summary").await?;
    clerk.click("一覧から外す").await?;
    clerk
        .wait_text("zipファイルのダブルクリックで開けるようにする")
        .await?;
    clerk.close().await?;
    agent.kill();
    prefix.stop();
    prefix.settle()?;
    let registry = std::fs::read(prefix.drive_c().join("../user.reg"))?;
    let registry = String::from_utf8_lossy(&registry);
    let left = registry.lines().find(|line| line.contains(CLASS));
    ensure!(left.is_none(), "left behind: {left:?}");
    Ok(())
}
