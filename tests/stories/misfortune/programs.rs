//! How the programs end.

use anyhow::{Result, ensure};
use renkei_tests::job::AtWork;
use renkei_tests::{Stage, StageOptions};

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
