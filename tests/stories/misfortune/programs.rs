//! How the programs end.

use std::time::Duration;

use anyhow::{Result, ensure};
use renkei_tests::job::AtWork;
use renkei_tests::{Stage, StageOptions};
use tokio::net::TcpListener;

/// How long after its start the portal may take to ask its virus scanner.
const QUESTION_LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn every_program_ends_cleanly_on_sigterm() -> Result<()> {
    let mut stage = Stage::start(StageOptions::default()).await?;
    let mut work = AtWork::on(&stage).await?;
    let ended = [
        ("vpn-agent", work.agent.stop()?),
        ("gateway", stage.gateway.terminate()?),
        ("portal", stage.portal.terminate()?),
    ];
    for (name, code) in ended {
        ensure!(code == Some(0), "{name} ended with {code:?}");
    }
    Ok(())
}

#[tokio::test]
async fn gateway_and_portal_end_cleanly_with_a_session_open() -> Result<()> {
    let mut stage = Stage::start(StageOptions::default()).await?;
    let _work = AtWork::on(&stage).await?;
    for (name, code) in [
        ("portal", stage.portal.terminate()?),
        ("gateway", stage.gateway.terminate()?),
    ] {
        ensure!(code == Some(0), "{name} ended with {code:?}");
    }
    Ok(())
}

/// The portal asks its scanner when it starts; a scanner that takes the question and never
/// answers keeps a thread for a minute.
#[tokio::test]
async fn a_portal_ends_though_its_virus_scanner_never_answers() -> Result<()> {
    let mut stage = Stage::start(StageOptions::default()).await?;
    let scanner = TcpListener::bind("127.0.0.1:0").await?;
    let config = std::fs::read_to_string(stage.portal_config())?;
    let clamd = scanner.local_addr()?;
    let scan = format!("{config}\n[virus_scan]\nclamd = \"{clamd}\"\n");
    std::fs::write(stage.portal_config(), scan)?;
    ensure!(stage.portal.terminate()? == Some(0));
    stage.restart_portal().await?;
    let _asking = tokio::time::timeout(QUESTION_LIMIT, scanner.accept()).await??;
    // It is not killed: it ends in time and with success.
    let code = stage.portal.terminate()?;
    ensure!(code == Some(0), "{code:?}");
    Ok(())
}

#[tokio::test]
async fn an_unknown_key_in_a_configuration_stops_the_program_with_its_name() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let agent = stage.agent("pc1")?;
    for (name, config, command) in [
        ("portal", stage.portal_config(), "migrate"),
        ("gateway", stage.gateway_config(), "serve"),
        ("vpn-agent", agent.config().to_owned(), "status"),
    ] {
        let wrong = stage.folder().join(format!("{name}-wrong.toml"));
        let text = std::fs::read_to_string(&config)?;
        std::fs::write(&wrong, format!("retain_dayz = 3\n{text}"))?;
        let run = stage
            .program(name)
            .arg("--config")
            .arg(&wrong)
            .arg(command)
            .output()?;
        let told = String::from_utf8_lossy(&run.stderr);
        ensure!(run.status.code() == Some(2), "{name}: {run:?}");
        ensure!(told.contains("retain_dayz"), "{name}: {told}");
    }
    Ok(())
}
