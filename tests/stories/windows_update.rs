//! The agent for Windows, the real .exe, updates itself under Wine: what takes over, what gives
//! way again, what is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use renkei_tests::process::{output, wait_for};
use renkei_tests::wine::{self, Prefix};
use renkei_tests::{Agent, OfficePages, Stage, StageOptions};

use crate::updates::{BUILT, Maker, of_version, programs_in, tamper};

/// What programs for these PCs are called in a manifest.
const PLATFORM: &str = "windows-x86_64";
/// How long an agent may take under Wine for what it does in quiet moments, in seconds.
const PATIENCE_S: u64 = 180;
/// Where Windows' list of programs has the installed agent.
const PROGRAM_LIST: &str = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Uninstall\Renkei";
/// What lies beside the program without any update: the DLL that Wine lacks.
const BESIDE: [&str; 2] = ["vpn-agent.exe", "bcryptprimitives.dll"];

/// A PC that is enrolled and believes a maker of programs. Its programs end with the prefix.
struct Pc {
    agent: Agent,
    prefix: Arc<Prefix>,
    program: PathBuf,
}

impl Pc {
    async fn connected(stage: &Stage, maker: &Maker) -> Result<Self> {
        let prefix = Arc::new(Prefix::new(&stage.folder().join("wine"))?);
        let office = OfficePages::open(stage)?;
        office.sign_in(stage).await?;
        let letter = office.register().await?;
        let mut agent = stage.windows_agent("pc-windows", &prefix).await?;
        agent.configure(&format!("update_key = {:?}", maker.public_key))?;
        office
            .enrol_agent(&mut agent, &letter.registration_code)
            .await?;
        agent.connect().await?;
        let program = prefix.agent();
        Ok(Self {
            agent,
            prefix,
            program,
        })
    }

    async fn told(&self, what: &str) -> Result<()> {
        let mut last = String::new();
        let found = wait_for(&format!("to be told {what:?}"), PATIENCE_S, async || {
            let status = self.agent.status()?;
            status["update"]
                .as_str()
                .unwrap_or_default()
                .clone_into(&mut last);
            Ok(last.contains(what).then_some(()))
        })
        .await;
        found.with_context(|| format!("last told: {last:?}\n{}", self.agent.log_text()))
    }

    async fn runs(&self, version: &str) -> Result<()> {
        wait_for(&format!("version {version}"), PATIENCE_S, async || {
            // While programs change, there may be none to ask.
            let status = self.agent.status().unwrap_or_default();
            let there = status["proxy"].is_string() && status["version"] == version;
            Ok(there.then_some(()))
        })
        .await
        .with_context(|| format!("{:?}\n{}", self.agent.status(), self.agent.log_text()))
    }

    fn disconnect(&self) -> Result<()> {
        output(&mut self.agent.command(&["disconnect"])).map(drop)
    }

    async fn connect_again(&mut self) -> Result<()> {
        self.disconnect()?;
        self.agent.wait_state("ended").await?;
        self.agent.connect().await.map(drop)
    }

    fn left_beside(&self) -> Result<Vec<String>> {
        let folder = self.program.parent().context("a folder")?;
        let mut names = programs_in(folder)?;
        names.retain(|name| !BESIDE.contains(&name.as_str()));
        Ok(names)
    }

    /// The version in Windows' list of programs.
    fn listed_version(&self) -> Result<String> {
        let words = ["query", PROGRAM_LIST, "/v", "DisplayVersion"];
        output(self.prefix.wine().arg("reg").args(words))
    }

    /// Enters the program there, as the installer does.
    fn list_version(&self, version: &str) -> Result<()> {
        for (name, value) in [
            ("DisplayVersion", version),
            ("InstallLocation", r"C:\renkei"),
        ] {
            let words = ["add", PROGRAM_LIST, "/v", name, "/d", value, "/f"];
            output(self.prefix.wine().arg("reg").args(words))?;
        }
        Ok(())
    }
}

/// A program that passes every check and breaks down as soon as it has taken over.
fn breaking(folder: &Path, version: &str) -> Result<Vec<u8>> {
    let program = folder.join("breaking.exe");
    let version = format!("-DVERSION={version:?}");
    wine::compile(&["-o"], &program, "breaking.c", &["-municode", &version])?;
    Ok(std::fs::read(&program)?)
}

#[tokio::test]
async fn the_exe_gives_way_to_the_next_version_and_comes_back_if_that_breaks_down() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let maker = Maker::new(&stage)?;
    let mut pc = Pc::connected(&stage, &maker).await?;
    let built = std::fs::read(&pc.program)?;
    pc.list_version(BUILT)?;

    // The next version takes over after the session, breaks down, and is replaced again by the
    // one before without anybody's doing.
    let broken = breaking(stage.folder(), "0.2.0")?;
    maker.offer_for(&stage, PLATFORM, "0.2.0", &broken)?;
    pc.connect_again().await?;
    pc.told("0.2.0）の準備ができました").await?;
    ensure!(pc.agent.status()?["state"] == "connected");
    pc.disconnect()?;
    wait_for("the first program's end", PATIENCE_S, async || {
        let ended = pc.agent.process()?.check_running().is_err();
        Ok(ended.then_some(()))
    })
    .await?;
    pc.runs(BUILT).await?;
    ensure!(std::fs::read(&pc.program)? == built);
    ensure!(pc.listed_version()?.contains(BUILT));
    pc.agent.connect().await?;
    pc.told("0.2.0）に切り替えられませんでした").await?;

    // One that works stays: the same enrolment, the new version in Windows' list of programs.
    let next = of_version(&pc.program, "0.3.0")?;
    maker.offer_for(&stage, PLATFORM, "0.3.0", &next)?;
    pc.connect_again().await?;
    pc.told("0.3.0）の準備ができました").await?;
    ensure!(pc.agent.status()?["version"] == BUILT);
    pc.disconnect()?;
    pc.runs("0.3.0").await?;
    ensure!(std::fs::read(&pc.program)? == next);
    wait_for("the listed version", PATIENCE_S, async || {
        Ok(pc.listed_version()?.contains("0.3.0").then_some(()))
    })
    .await?;
    pc.agent.connect().await?;
    wait_for("nothing beside the program", PATIENCE_S, async || {
        Ok(pc.left_beside()?.is_empty().then_some(()))
    })
    .await
    .with_context(|| format!("{:?}", pc.left_beside()))
}

#[tokio::test]
async fn the_exe_refuses_what_is_tampered_expired_or_older_and_says_so() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let maker = Maker::new(&stage)?;
    let mut pc = Pc::connected(&stage, &maker).await?;
    let built = std::fs::read(&pc.program)?;
    let newer = of_version(&pc.program, "0.2.0")?;

    // Another program than the one that was signed, of the same length.
    maker.offer_for(&stage, PLATFORM, "0.2.0", &newer)?;
    tamper(&stage)?;
    pc.connect_again().await?;
    pc.told("0.2.0）は、正しいものと確認できなかった").await?;

    maker.offer_changed(&stage, |manifest| manifest.expires_ms = 1_700_000_000_000)?;
    pc.connect_again().await?;
    pc.told("有効期限を過ぎている").await?;

    maker.offer_for(&stage, PLATFORM, "0.1.5", &newer)?;
    pc.connect_again().await?;
    pc.told("（0.1.5）は、すでにある版（0.2.0）より古い")
        .await?;

    ensure!(std::fs::read(&pc.program)? == built);
    ensure!(pc.left_beside()?.is_empty(), "{:?}", pc.left_beside()?);
    ensure!(pc.agent.status()?["version"] == BUILT);
    ensure!(pc.agent.status()?["state"] == "connected");
    Ok(())
}
