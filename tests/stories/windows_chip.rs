//! A Windows PC with a security chip (TPM): the agent's key is made in it, never leaves it, and
//! is missed where it is not.
//!
//! The chip is a DLL of these tests in the place of Windows' own; what the agent asks of it is
//! what it asks Windows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use renkei_tests::job::ADMIN_EMAIL;
use renkei_tests::process::{output, run};
use renkei_tests::stage::ESTABLISHMENT_NUMBER;
use renkei_tests::wine::Prefix;
use renkei_tests::{Agent, MemberPages, OfficePages, Stage, StageOptions};
use serde_json::Value;

use crate::windows::{files_called, status_in};

const GONE: &str = "このパソコンの鍵が見つかりません";
const SILENT: &str = "応答しません";

#[tokio::test]
async fn a_key_in_the_security_chip_works_there_and_nowhere_else() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let prefix = Arc::new(Prefix::new(&stage.folder().join("wine"))?);
    let office = OfficePages::open(&stage)?;
    office.sign_in(&stage).await?;
    let letter = office.register().await?;
    let mut agent = stage.windows_agent("pc-windows", &prefix).await?;
    prefix.install_chip()?;

    // Enrolled, connected, signed in: request, handshakes and session are signed by the chip.
    office
        .enrol_agent(&mut agent, &letter.registration_code)
        .await?;
    let key = the_key(&prefix)?;
    the_file_names_the_key(&prefix, &key)?;
    agent.connect().await?;
    let code = stage.mailbox().wait_code(ADMIN_EMAIL, 0).await?;
    let pages = MemberPages::through(&stage, &agent)?;
    pages.first_sign_in(&letter, &code).await?;
    output(&mut agent.command(&["disconnect"]))?;
    agent.wait_state("ended").await?;

    // The files alone, on another PC that has a chip too.
    copied_files_are_useless(&stage, &prefix, &agent)?;

    // Somebody clears the chip while the agent runs: the next connection says what happened.
    std::fs::remove_file(&key)?;
    let refused = run(&mut agent.command(&["connect"]))?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    ensure!(said.contains(GONE), "{said}");
    agent.kill();
    let status = agent.status()?;
    ensure!(status["state"] == "unenrolled", "{status:#}");
    must_say(&status, GONE)?;

    // The way on: registered again, the PC has a new key and connects.
    let code = office.further_code().await?;
    office.enrol_agent(&mut agent, &code).await?;
    let fresh = the_key(&prefix)?;
    ensure!(fresh != key);
    agent.connect().await?;
    agent.kill();

    // A chip that is switched off has lost nothing.
    let off = chip_folder(&prefix).join("off");
    std::fs::write(&off, "")?;
    let diagnosed = run(&mut agent.command(&["diagnose"]))?;
    let said = String::from_utf8_lossy(&diagnosed.stdout).into_owned();
    ensure!(said.contains(SILENT), "{said}");
    std::fs::remove_file(&off)?;
    let status = agent.status()?;
    ensure!(status["state"] == "ready", "{status:#}");

    // Who removes the registration removes the key from the chip.
    output(&mut agent.command(&["--profile", ESTABLISHMENT_NUMBER, "remove", "--yes"]))?;
    ensure!(keys(&prefix)?.is_empty(), "{:?}", keys(&prefix)?);
    Ok(())
}

#[tokio::test]
async fn a_key_from_before_the_chip_stays_in_use_and_the_uninstaller_leaves_none() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let prefix = Arc::new(Prefix::new(&stage.folder().join("wine"))?);
    let office = OfficePages::open(&stage)?;
    office.sign_in(&stage).await?;
    let letter = office.register().await?;
    let agent = stage.windows_agent("pc-windows", &prefix).await?;
    let before = agent.ask_to_enrol(&letter)?;
    prefix.install_chip()?;
    let status = agent.status()?;
    ensure!(status["state"] == "pending", "{status:#}");
    ensure!(status["matching_code"] == before.as_str(), "{status:#}");
    ensure!(keys(&prefix)?.is_empty());

    // What the uninstaller asks for.
    output(&mut agent.command(&["forget"]))?;
    ensure!(agent.status()?["state"] == "unenrolled");
    let code = office.further_code().await?;
    agent.enrol(ESTABLISHMENT_NUMBER, &code)?;
    ensure!(keys(&prefix)?.len() == 1, "{:?}", keys(&prefix)?);
    output(&mut agent.command(&["forget"]))?;
    ensure!(keys(&prefix)?.is_empty(), "{:?}", keys(&prefix)?);
    let data = prefix.local_app_data()?.join("Renkei");
    ensure!(files_called(&data, "device-key")?.is_empty());
    Ok(())
}

fn chip_folder(prefix: &Prefix) -> PathBuf {
    prefix.drive_c().join("tpm")
}

/// What is in the chip.
fn keys(prefix: &Prefix) -> Result<Vec<PathBuf>> {
    let folder = chip_folder(prefix);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect()
}

fn the_key(prefix: &Prefix) -> Result<PathBuf> {
    let mut keys = keys(prefix)?;
    ensure!(keys.len() == 1, "{keys:?}");
    keys.pop().context("one key")
}

/// Nothing of the private half lies in the agent's folder.
fn the_file_names_the_key(prefix: &Prefix, key: &Path) -> Result<()> {
    let data = prefix.local_app_data()?.join("Renkei");
    let files = files_called(&data, "device-key")?;
    ensure!(files.len() == 1, "{files:?}");
    let file = std::fs::read(&files[0])?;
    let note: Value = serde_json::from_slice(&file).context("a note, no key")?;
    let name = key.file_name().and_then(|name| name.to_str());
    ensure!(note["chip_key"].as_str() == name, "{note:#}");
    let private = std::fs::read(key)?;
    let secret = &private[private.len() - 32..];
    ensure!(!file.windows(secret.len()).any(|part| part == secret));
    Ok(())
}

fn copied_files_are_useless(stage: &Stage, prefix: &Prefix, agent: &Agent) -> Result<()> {
    let other = Prefix::new(&stage.folder().join("wine-other"))?;
    other.install_agent()?;
    other.install_chip()?;
    let (from, to) = (prefix.local_app_data()?, other.local_app_data()?);
    output(
        std::process::Command::new("cp")
            .arg("-a")
            .arg(from.join("Renkei"))
            .arg(to.join("Renkei")),
    )?;
    let status = status_in(&other, agent.config())?;
    ensure!(status["state"] == "unenrolled", "{status:#}");
    must_say(&status, GONE)
}

fn must_say(status: &Value, words: &str) -> Result<()> {
    let reason = status["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains(words), "{status:#}");
    ensure!(reason.contains("もう一度"), "no way on: {status:#}");
    Ok(())
}
