//! What the agent for Windows, the real .exe, says beside its window: notices at an icon in the
//! notification area, which need a screen.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use renkei_tests::process::{output, wait_for};
use renkei_tests::wine::{Display, Prefix};
use renkei_tests::{OfficePages, Stage, StageOptions};

use super::fleet::shorten_sessions;

/// How long a notice may take to stand there, in seconds.
const PATIENCE_S: u64 = 60;

// Several threads: while a program under Wine is waited for, connections to the portal end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_warnings_before_the_end_stand_at_an_icon_in_the_notification_area() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let display = Display::start(&stage.logs()).await?;
    let prefix = Prefix::new(&stage.folder().join("wine"))?.with(display.variables());
    let prefix = Arc::new(prefix);
    let office = OfficePages::open(&stage)?;
    office.sign_in(&stage).await?;
    let letter = office.register().await?;
    let mut agent = stage.windows_agent("pc-windows", &prefix).await?;
    office
        .enrol_agent(&mut agent, &letter.registration_code)
        .await?;
    agent.connect().await?;

    let reader = prefix.install(r"tests\balloon.exe", "balloon.c", &[])?;
    for (left_s, words) in [
        (9 * 60, "残り10分を切りました"),
        (100, "残り2分を切りました"),
    ] {
        shorten_sessions(&stage, left_s)?;
        let mut shown = String::new();
        wait_for(words, PATIENCE_S, async || {
            shown = output(prefix.wine().arg(&reader))?;
            Ok(shown.contains(words).then_some(()))
        })
        .await
        .with_context(|| format!("the last notices: {shown:?}"))?;
    }
    Ok(())
}
