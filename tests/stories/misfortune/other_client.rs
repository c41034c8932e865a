//! The upload protocol is the public one: a client that others wrote files over a tunnel that is
//! killed again and again.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use renkei_tests::browser::Browser;
use renkei_tests::job::{ADMIN_EMAIL, AtWork, FILED_PDF, large_pdf, upload_id};
use renkei_tests::process::wait_for;
use renkei_tests::{Stage, StageOptions};
use reqwest::StatusCode;
use serde_json::json;

use super::uploads::document_behind;
use crate::browser::portal_key;
use crate::fleet::is_the_same_session;

/// Large enough that every kill falls into it.
const LENGTH: usize = 40_000_000;
/// How often the tunnel's gateway is killed.
const KILLS: u32 = 12;

/// Sends the file that the page's field has, and keeps on `window.sent` how that goes.
const SEND: &str = "const [token, name] = arguments;
    const file = document.querySelector('#other-client').files[0];
    window.sent = {bytes: 0, retries: 0, end: null};
    const upload = new tus.Upload(file, {
        endpoint: '/uploads',
        headers: {'renkei-csrf': token},
        metadata: {filename: name},
        chunkSize: 4 * 1024 * 1024,
        retryDelays: Array(30).fill(300),
        onShouldRetry: () => { window.sent.retries += 1; return true; },
        onProgress: bytes => { window.sent.bytes = bytes; },
        onError: error => { window.sent.end = 'failed: ' + error; },
        onSuccess: () => { window.sent.end = upload.url; },
    });
    upload.start();";

/// R24: tus-js-client in a real browser sends 40 MB while the gateway is killed twelve times at
/// moments that nobody chose; what is filed in the end is the very file.
#[tokio::test]
async fn a_tus_client_of_others_files_over_a_tunnel_that_is_killed_twelve_times() -> Result<()> {
    let client = std::env::var_os("RENKEI_TEST_TUS")
        .context("RENKEI_TEST_TUS names no tus client: run scripts/test, which fetches it")?;
    let client = std::fs::read_to_string(client)?;
    let mut stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let before = work.agent.status()?;
    let pdf = large_pdf(LENGTH, 24)?;
    let folder = stage.folder().join("browsers");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(FILED_PDF);
    std::fs::write(&file, &pdf)?;

    let key = portal_key(&stage.folder().join("pc1/data/enrolments"))?.context("a key")?;
    let proxy = work.agent.proxy()?;
    let clerk = Browser::open(&folder, "clerk", Some(&proxy), Some(&key)).await?;
    let url = stage.member_url();
    clerk
        .take_cookies(&url, &work.pages.site.cookie_header())
        .await?;
    clerk.go(&url).await?;
    clerk.client.execute(&client, vec![]).await?;
    let field = "const field = document.createElement('input'); field.type = 'file';
        field.id = 'other-client'; document.body.append(field);";
    clerk.client.execute(field, vec![]).await?;
    let field = clerk.find("#other-client").await?;
    field.send_keys(&file.to_string_lossy()).await?;
    let token = work.pages.csrf().await?;
    clerk
        .client
        .execute(SEND, vec![json!(token), json!(FILED_PDF)])
        .await?;

    let sent = async || clerk.client.execute("return window.sent", vec![]).await;
    // Numbers without a pattern, the same in every run.
    let mut dice = 24_u64;
    for kill in 1..=KILLS {
        // So many of the file's parts have to be sent before the next kill.
        let share = LENGTH as u64 * u64::from(kill) / u64::from(KILLS + 2);
        wait_for("more of the file", 60, async || {
            let sent = sent().await?;
            ensure!(sent["end"].is_null(), "kill {kill}: {sent}");
            Ok((sent["bytes"].as_u64() >= Some(share)).then_some(()))
        })
        .await?;
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis((dice >> 33) % 40)).await;
        stage.gateway.kill();
        stage.restart_gateway().await?;
    }
    let end = wait_for("the end of the upload", 90, async || {
        let sent = sent().await?;
        Ok((!sent["end"].is_null()).then_some(sent))
    })
    .await?;
    let location = end["end"].as_str().context("where it is")?;
    ensure!(location.contains("/uploads/"), "{end}");
    // Some of the kills Chromium gets over by itself: it sends a request once more whose
    // connection broke before an answer began.
    println!(
        "{KILLS} kills; the client itself tried again {} times",
        end["retries"]
    );

    is_the_same_session(&work.agent, &before)?;
    ensure!(
        stage.mailbox().codes_sent(ADMIN_EMAIL)? == 1,
        "a second one-time password"
    );
    let (status, answer) = work.pages.hand_in(&[(upload_id(location), None)]).await?;
    ensure!(status == StatusCode::CREATED, "{status} {answer:#}");
    let receipt = answer["receipt"].as_str().context("a receipt")?;
    ensure!(
        document_behind(&work.pages, receipt).await? == pdf,
        "another document than the one that was sent"
    );
    Ok(())
}
