//! A part of the fund is away for a while.

use std::time::Duration;

use anyhow::{Result, ensure};
use renkei_tests::job::{ADMIN_EMAIL, ADMIN_PASSWORD, ADMIN_USER_ID, AtWork};
use renkei_tests::process::{output, wait_for};
use renkei_tests::{MemberPages, Stage, StageOptions};
use reqwest::StatusCode;

/// How long things may take to be well again, in seconds.
const RECOVERY_S: u64 = 15;

/// How long after the gateway the pages may come back, in seconds: the agent has to notice
/// that the gateway has forgotten it.
const GATEWAY_RECOVERY_S: u64 = 8;

#[tokio::test]
async fn while_the_portal_is_away_connecting_is_refused_with_a_sentence() -> Result<()> {
    let mut stage = Stage::start(StageOptions::default()).await?;
    let mut work = AtWork::on(&stage).await?;
    output(&mut work.agent.command(&["disconnect"]))?;
    stage.portal.kill();

    let refused = work.agent.command(&["connect"]).output()?;
    let told = String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    ensure!(
        told.contains("ただいま基金のシステムにつながりません"),
        "{told}"
    );

    stage.restart_portal().await?;
    wait_for("the portal through the gateway", RECOVERY_S, async || {
        work.agent.connect().await.map(Some)
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn an_open_session_survives_a_restart_of_the_portal() -> Result<()> {
    let mut stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let before = work.agent.status()?;
    let code = stage.portal.terminate()?;
    ensure!(code == Some(0), "the portal ended with {code:?}");
    ensure!(work.agent.status()?["state"] == "connected");

    stage.restart_portal().await?;
    let page = wait_for("the pages", RECOVERY_S, async || {
        work.pages.site.get("/").await.map(Some)
    })
    .await?;
    ensure!(page.path == "/", "still signed in: {}", page.path);
    let after = work.agent.status()?;
    ensure!(after["state"] == "connected", "{after}");
    ensure!(
        after["deadline"] == before["deadline"],
        "the deadline moved: {before} {after}"
    );
    Ok(())
}

#[tokio::test]
async fn while_the_mail_server_is_away_the_sign_in_page_says_so_and_the_code_comes_later()
-> Result<()> {
    let mut stage = Stage::start(StageOptions::default()).await?;
    let mut work = AtWork::on(&stage).await?;
    output(&mut work.agent.command(&["disconnect"]))?;
    stage.catcher.kill();

    work.agent.connect().await?;
    let pages = MemberPages::through(&stage, &work.agent)?;
    let page = wait_for("the page to say so", RECOVERY_S, async || {
        let page = pages.site.open("/sign-in").await?;
        page.must_say("メールサーバーにつながらないため")?;
        Ok(Some(page))
    })
    .await?;
    page.must_say("自動でやり直しています")?;

    stage.restart_catcher()?;
    let code = stage.mailbox().wait_code(ADMIN_EMAIL, 1).await?;
    let page = pages.sign_in(ADMIN_USER_ID, ADMIN_PASSWORD, &code).await?;
    ensure!(
        page.status == StatusCode::OK && page.path == "/",
        "{}",
        page.text()
    );
    Ok(())
}

/// Three times, for once it may just have been quick enough; with requests on their way, as
/// in a browser that loads pages.
#[tokio::test]
async fn a_gateway_that_is_killed_under_load_and_comes_back_carries_the_same_session_on()
-> Result<()> {
    let mut stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let before = work.agent.status()?;
    for round in 0..3 {
        let load = async {
            // The requests that are cut fail; that is what they are for.
            for _ in 0..20 {
                let _ = tokio::join!(work.pages.site.get("/"), work.pages.site.get("/"));
            }
        };
        let kill = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            stage.gateway.kill();
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), async {
            tokio::join!(load, kill);
        })
        .await;
        stage.restart_gateway().await?;
        let again = format!("the pages, round {round}");
        let page = wait_for(&again, GATEWAY_RECOVERY_S, async || {
            work.pages.site.get("/").await.map(Some)
        })
        .await?;
        ensure!(page.path == "/", "still signed in: {}", page.path);
        let after = work.agent.status()?;
        ensure!(after["state"] == "connected", "{after}");
        ensure!(after["deadline"] == before["deadline"], "{before} {after}");
    }
    Ok(())
}
