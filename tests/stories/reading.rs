//! What the agent's page does besides connecting, in a real browser: it opens a password zip and
//! tells what stands between the PC and the fund.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use renkei_tests::browser::Browser;
use renkei_tests::job::{CORPUS_PASSWORD, FILED_ZIP, corpus};
use renkei_tests::process::wait_for;
use renkei_tests::{Agent, Stage, StageOptions};
use serde_json::Value;

use super::browser::Inspector;

/// The agent's page; it exists only behind the agent's proxy.
const AGENT_PAGE: &str = "http://renkei-agent.invalid/";

async fn launched(agent: &Agent) -> Result<String> {
    wait_for("the window's address", 30, async || {
        Ok(agent
            .log_text()
            .lines()
            .find(|line| line.starts_with(AGENT_PAGE))
            .map(str::to_owned))
    })
    .await
}

fn zip_path() -> Result<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/good");
    let path = std::path::Path::new(folder)
        .join(FILED_ZIP)
        .canonicalize()?;
    Ok(path.display().to_string())
}

#[tokio::test]
async fn a_clerk_reads_a_password_zip_and_asks_for_a_diagnosis() -> Result<()> {
    let inspector = Inspector::new()?;
    let stage = Stage::start(StageOptions::default()).await?;
    let mut agent = stage.agent("pc1")?;
    agent.start(&["open", "--no-browser"])?;
    let launch = launched(&agent).await?;
    let status = agent.status()?;
    let proxy = status["proxy"].as_str().context("the agent has a proxy")?;
    let folder = stage.folder().join("browsers");
    std::fs::create_dir_all(&folder)?;
    let clerk = Browser::open(&folder, "clerk", Some(proxy), None).await?;
    clerk.go(&launch).await?;

    // A zip is chosen; its password is asked for, and a wrong one may be typed again.
    clerk.click("zipファイルを開く").await?;
    clerk.wait_text("zipファイルを選ぶ").await?;
    inspector.look(&clerk, "agent-documents-empty").await?;
    clerk.find("#file").await?.send_keys(&zip_path()?).await?;
    clerk.wait_text("のパスワード").await?;
    inspector.look(&clerk, "agent-documents-sealed").await?;
    clerk.type_into("password", "ちがうパスワード").await?;
    clerk
        .press("form[action='/documents/unlock'] button")
        .await?;
    clerk.wait_text("パスワードが違います").await?;
    inspector.look(&clerk, "agent-documents-wrong").await?;
    clerk.type_into("password", CORPUS_PASSWORD).await?;
    clerk
        .press("form[action='/documents/unlock'] button")
        .await?;
    clerk.wait_text("の中の書類").await?;
    inspector.look(&clerk, "agent-documents-open").await?;

    // What the link leads to is the PDF that 7-Zip takes out of the zip.
    let shown = fetched(&clerk, "a.document").await?;
    ensure!(shown.kind == "application/pdf", "{}", shown.kind);
    let other = Command::new("7z")
        .arg(format!("-p{CORPUS_PASSWORD}"))
        .args(["x", "-so", &zip_path()?])
        .output()?
        .stdout;
    ensure!(other.starts_with(&shown.bytes[..]), "7z finds the same PDF");
    ensure!(shown.bytes.starts_with(b"%PDF-"), "it is a PDF");

    // A second zip, from the command line this time: nothing is asked any more.
    let address = agent
        .command(&["open", "--no-browser", &zip_path()?])
        .output()?;
    let address = String::from_utf8(address.stdout)?;
    clerk.go(address.trim()).await?;
    clerk.wait_text("の中の書類").await?;
    clerk.click("片付ける").await?;
    clerk.wait_text("zipファイルを選ぶ").await?;

    // The diagnosis, before anything is registered.
    clerk.click("診断").await?;
    clerk.wait_text("約10秒").await?;
    clerk.press("form[action='/diagnosis'] button").await?;
    clerk.wait_text("の結果").await?;
    clerk.wait_text("検査されていません").await?;
    inspector.look(&clerk, "agent-diagnosis").await?;
    let bundle = fetched(&clerk, "a[href='/diagnosis/bundle.zip']").await?;
    ensure!(bundle.kind == "application/zip", "{}", bundle.kind);
    let file = stage.folder().join("from-the-page.zip");
    std::fs::write(&file, &bundle.bytes)?;
    let text = Command::new("7z")
        .args(["x", "-so"])
        .arg(&file)
        .arg("diagnosis.txt")
        .output()?;
    let text = String::from_utf8(text.stdout)?;
    ensure!(text.contains("通信の検査"), "{text}");
    let home = stage.folder().display().to_string();
    ensure!(!text.contains(&home), "a path of this PC: {text}");

    // A zip from the desktop is dropped on this page, which is none for zips.
    drop_zip(&clerk).await?;
    clerk.wait_text("のパスワード").await?;
    clerk.type_into("password", CORPUS_PASSWORD).await?;
    clerk
        .press("form[action='/documents/unlock'] button")
        .await?;
    clerk.wait_text("の中の書類").await?;
    let dropped = fetched(&clerk, "a.document").await?;
    ensure!(dropped.kind == "application/pdf", "{}", dropped.kind);
    ensure!(dropped.bytes == shown.bytes, "the same PDF");
    clerk.close().await?;
    agent.stop()?;
    inspector.must_have_found_nothing();
    Ok(())
}

/// Does to the page what the browser does when a file is let go over it.
async fn drop_zip(browser: &Browser) -> Result<()> {
    const SCRIPT: &str = "const [name, bytes] = arguments;
        const carried = new DataTransfer();
        carried.items.add(new File([new Uint8Array(bytes)], name));
        const options = {dataTransfer: carried, bubbles: true, cancelable: true};
        const over = new DragEvent('dragover', options);
        document.body.dispatchEvent(over);
        const marked = document.body.classList.contains('dragging');
        document.body.dispatchEvent(new DragEvent('drop', options));
        // Whom a page does not tell that it takes files gets them opened in its place.
        return over.defaultPrevented && marked;";
    let zip = corpus(&format!("good/{FILED_ZIP}"))?;
    let arguments = vec![Value::from(FILED_ZIP), Value::from(zip)];
    let taken = browser.client.execute(SCRIPT, arguments).await?;
    ensure!(taken == true, "the page takes no files: {taken}");
    Ok(())
}

struct Fetched {
    kind: String,
    bytes: Vec<u8>,
}

/// Fetches what a link of the page leads to, as the browser would.
async fn fetched(browser: &Browser, css: &str) -> Result<Fetched> {
    const SCRIPT: &str = "const [css, done] = arguments;
        fetch(document.querySelector(css).href)
            .then(async (answer) => done({
                kind: answer.headers.get('content-type'),
                bytes: Array.from(new Uint8Array(await answer.arrayBuffer())),
            }))
            .catch((error) => done(String(error)));";
    let answer = browser
        .client
        .execute_async(SCRIPT, vec![Value::from(css)])
        .await?;
    let bytes = answer["bytes"]
        .as_array()
        .with_context(|| format!("{css}: {answer}"))?;
    Ok(Fetched {
        kind: answer["kind"].as_str().unwrap_or_default().to_owned(),
        bytes: bytes
            .iter()
            .filter_map(|byte| u8::try_from(byte.as_u64()?).ok())
            .collect(),
    })
}
