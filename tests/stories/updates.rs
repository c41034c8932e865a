//! The agent updates itself: what is offered, what is refused, and that nobody is disturbed.
//!
//! A "newer version" is the same program with another version in its marked place; everything
//! else about it is real: the signing command, the portal, the tunnel, the change of programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::updates::{MANIFEST_FILE, Manifest, SignedManifest, signed_message};
use protocol::{Bytes32, Der};
use renkei_tests::process::{output, wait_for};
use renkei_tests::{Agent, MemberPages, OfficePages, Stage, StageOptions};
use ring::signature::Ed25519KeyPair;
use sha2::{Digest as _, Sha256};

/// What stands before the version in the program's file.
const MARK: &str = "renkei-agent-version=";
/// The version that is built.
pub(crate) const BUILT: &str = env!("CARGO_PKG_VERSION");
/// How long an agent may take to do what it does in quiet moments, in seconds.
const PATIENCE_S: u64 = 120;
/// Rounds of requests that keep the tunnel busy, each longer than the pages' own signs of life.
const TRANSFERS: usize = 40;
const REQUESTS: usize = 24;

/// Whoever makes the programs: a signing key, away from every server.
pub(crate) struct Maker {
    folder: tempfile::TempDir,
    /// What agents are told to believe.
    pub(crate) public_key: String,
}

impl Maker {
    pub(crate) fn new(stage: &Stage) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let made = stage
            .program("portal")
            .args(["agent-update", "new-key", "--out"])
            .arg(folder.path().join("key"))
            .output()?;
        ensure!(made.status.success(), "{made:?}");
        let public_key = String::from_utf8(made.stdout)?.trim().to_owned();
        Ok(Self { folder, public_key })
    }

    /// Offers `program` as `version`, with the command that a maker has.
    pub(crate) fn offer(&self, stage: &Stage, version: &str, program: &[u8]) -> Result<()> {
        let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
        self.offer_for(stage, &platform, version, program)
    }

    /// The same for PCs of another kind than this machine.
    pub(crate) fn offer_for(
        &self,
        stage: &Stage,
        platform: &str,
        version: &str,
        program: &[u8],
    ) -> Result<()> {
        let file = self.folder.path().join("program");
        std::fs::write(&file, program)?;
        withdraw(stage)?;
        output(
            stage
                .program("portal")
                .args(["agent-update", "sign", "--of", version, "--key"])
                .arg(self.folder.path().join("key"))
                .arg("--out")
                .arg(stage.agent_updates())
                .arg(format!("{platform}={}", file.display())),
        )
        .map(drop)
    }

    /// Signs again what is offered, changed.
    pub(crate) fn offer_changed(
        &self,
        stage: &Stage,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<()> {
        let path = stage.agent_updates().join(MANIFEST_FILE);
        let signed = SignedManifest::read(&std::fs::read(&path)?)?;
        let mut manifest = Manifest::read(&signed.manifest)?;
        change(&mut manifest);
        let manifest = serde_json::to_string(&manifest)?;
        let key = STANDARD.decode(
            std::fs::read_to_string(self.folder.path().join("key"))?
                .trim()
                .as_bytes(),
        )?;
        let key = Ed25519KeyPair::from_pkcs8(&key).ok().context("the key")?;
        let signature = key.sign(&signed_message(&manifest));
        let signature = Der(signature.as_ref().to_vec());
        let signed = SignedManifest {
            manifest,
            signature,
        };
        std::fs::write(&path, serde_json::to_vec(&signed)?)?;
        Ok(())
    }
}

/// Changes one byte of the offered program, in the middle of it.
pub(crate) fn tamper(stage: &Stage) -> Result<()> {
    let file = std::fs::read_dir(stage.agent_updates())?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| !path.ends_with(MANIFEST_FILE))
        .context("a program")?;
    let mut tampered = std::fs::read(&file)?;
    let middle = tampered.len() / 2;
    tampered[middle] ^= 1;
    std::fs::write(&file, &tampered)?;
    Ok(())
}

/// Offers nothing any more.
fn withdraw(stage: &Stage) -> Result<()> {
    match std::fs::remove_dir_all(stage.agent_updates()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The built program, calling itself `version`.
pub(crate) fn of_version(built: &Path, version: &str) -> Result<Vec<u8>> {
    ensure!(
        version.len() == BUILT.len(),
        "the mark has room for {BUILT}"
    );
    let (from, to) = (format!("{MARK}{BUILT}"), format!("{MARK}{version}"));
    let mut program = std::fs::read(built)?;
    let places: Vec<usize> = program
        .windows(from.len())
        .enumerate()
        .filter(|(_, window)| *window == from.as_bytes())
        .map(|(at, _)| at)
        .collect();
    ensure!(!places.is_empty(), "the program has no marked version");
    for at in places {
        program[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    Ok(program)
}

/// The names of the files in a program's folder.
pub(crate) fn programs_in(folder: &Path) -> Result<Vec<String>> {
    std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// A PC with a program of its own that believes `maker`. After an update another process is
/// the agent; whoever it is ends with this.
struct Pc {
    agent: Agent,
    program: PathBuf,
}

impl Drop for Pc {
    fn drop(&mut self) {
        // There may be none.
        let _ = self.agent.command(&["quit"]).output();
    }
}

impl Pc {
    /// Enrolled and connected. A session asks for updates only once in a while, so a story
    /// connects anew after each offer.
    async fn enrolled(stage: &Stage, maker: &Maker) -> Result<Self> {
        let office = OfficePages::open(stage)?;
        office.sign_in(stage).await?;
        let letter = office.register().await?;
        let mut agent = stage.agent("pc1")?;
        let program = agent.install()?;
        agent.configure(&format!("update_key = {:?}", maker.public_key))?;
        office
            .enrol_agent(&mut agent, &letter.registration_code)
            .await?;
        let mut pc = Self { agent, program };
        pc.agent.connect().await?;
        Ok(pc)
    }

    fn update(&self) -> Result<String> {
        let status = self.agent.status()?;
        Ok(status["update"].as_str().unwrap_or_default().to_owned())
    }

    async fn told(&self, what: &str) -> Result<()> {
        wait_for(&format!("to be told {what:?}"), PATIENCE_S, async || {
            Ok(self.update()?.contains(what).then_some(()))
        })
        .await
        .with_context(|| format!("{:?}\n{}", self.update(), self.agent.log_text()))
    }

    async fn runs(&self, version: &str) -> Result<()> {
        wait_for(&format!("version {version}"), PATIENCE_S, async || {
            let status = self.agent.status()?;
            // Whoever asks runs the program that lies there; the agent has a proxy.
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

    fn says_version(&self) -> Result<String> {
        output(Command::new(&self.program).arg("--version"))
    }

    fn left_beside(&self) -> Result<Vec<String>> {
        let folder = self.program.parent().context("a folder")?;
        let mut names = programs_in(folder)?;
        names.retain(|name| name != "vpn-agent");
        Ok(names)
    }
}

#[tokio::test]
async fn an_agent_updates_itself_between_two_sessions_and_disturbs_no_transfer() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let maker = Maker::new(&stage)?;
    let mut pc = Pc::enrolled(&stage, &maker).await?;
    let built = pc.program.with_file_name("built");
    std::fs::rename(&pc.program, &built)?;
    std::fs::copy(&built, &pc.program)?;
    let second = of_version(&built, "0.2.0")?;
    let third = of_version(&built, "0.3.0")?;
    std::fs::remove_file(&built)?;
    maker.offer(&stage, "0.2.0", &second)?;

    // While pages move, nothing is even looked for.
    pc.connect_again().await?;
    let pages = MemberPages::through(&stage, &pc.agent)?;
    for _ in 0..TRANSFERS {
        let moves = async {
            for _ in 0..REQUESTS {
                pages.site.open("/sign-in").await?;
            }
            anyhow::Ok(())
        };
        // A machine that is too busy to keep something moving shows nothing here.
        let Ok(moved) = tokio::time::timeout(Duration::from_secs(2), moves).await else {
            break;
        };
        moved?;
        let update = pc.update()?;
        ensure!(update.is_empty(), "during a transfer: {update}");
    }
    // Then it is fetched, and waits: the session goes on with the program that it began with.
    pc.told("0.2.0）の準備ができました").await?;
    ensure!(pc.agent.status()?["version"] == BUILT);
    ensure!(pc.agent.status()?["state"] == "connected");

    // The PC loses power. What waited takes over at the next start, before anything else.
    pc.agent.process()?.kill();
    ensure!(pc.says_version()?.contains(BUILT));
    pc.agent.start(&["open", "--no-browser"])?;
    pc.runs("0.2.0").await?;
    ensure!(pc.says_version()?.contains("0.2.0"));
    ensure!(std::fs::read(&pc.program)? == second);

    // The next one takes over while the agent runs, after the session.
    maker.offer(&stage, "0.3.0", &third)?;
    pc.agent.connect().await?;
    pc.told("0.3.0）の準備ができました").await?;
    ensure!(pc.agent.status()?["version"] == "0.2.0");
    pc.disconnect()?;
    pc.runs("0.3.0").await?;
    ensure!(std::fs::read(&pc.program)? == third);
    ensure!(
        pc.left_beside()?
            .iter()
            .all(|name| name == "vpn-agent.new.json" || name == "vpn-agent.old")
    );
    pc.agent.connect().await?;
    Ok(())
}

/// A program that passes every check and breaks down as soon as it has taken over.
fn breaking(version: &str) -> Vec<u8> {
    let says_its_version =
        format!("[ \"$1\" = --version ] && {{ echo vpn-agent {version}; exit; }}");
    let takes_over = "[ \"$1\" = --replaces ] && mv \"$0\" \"$2\"";
    format!("#!/bin/sh\n{says_its_version}\n{takes_over}\nexit 1\n").into_bytes()
}

#[tokio::test]
async fn a_version_that_breaks_down_after_it_took_over_gives_way_to_the_one_before() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let maker = Maker::new(&stage)?;
    let mut pc = Pc::enrolled(&stage, &maker).await?;
    let before = std::fs::read(&pc.program)?;
    maker.offer(&stage, "0.2.0", &breaking("0.2.0"))?;
    pc.connect_again().await?;
    pc.told("0.2.0）の準備ができました").await?;
    let first = pc.agent.process()?.pid();
    pc.disconnect()?;

    // It takes over and ends; the version of before runs again without anybody's doing.
    wait_for("the change", PATIENCE_S, async || {
        Ok((!Path::new(&format!("/proc/{first}/exe")).exists()).then_some(()))
    })
    .await?;
    pc.runs(BUILT).await?;
    ensure!(std::fs::read(&pc.program)? == before);
    // What was enrolled is still there, and the broken version is not tried again.
    pc.agent.connect().await?;
    pc.told("0.2.0）に切り替えられませんでした").await?;
    ensure!(std::fs::read(&pc.program)? == before);
    wait_for("the guard to be gone", PATIENCE_S, async || {
        Ok(pc.left_beside()?.is_empty().then_some(()))
    })
    .await
    .with_context(|| format!("{:?}", pc.left_beside()))
}

#[tokio::test]
async fn an_update_that_is_tampered_expired_older_or_broken_is_refused_and_said_so() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let maker = Maker::new(&stage)?;
    let mut pc = Pc::enrolled(&stage, &maker).await?;
    let newer = of_version(&pc.program, "0.2.0")?;
    let before = std::fs::read(&pc.program)?;

    // Another key.
    Maker::new(&stage)?.offer(&stage, "0.2.0", &newer)?;
    pc.connect_again().await?;
    pc.told("正しいものと確認できなかった").await?;

    // Another program than the one that was signed, of the same length.
    maker.offer(&stage, "0.2.0", &newer)?;
    tamper(&stage)?;
    pc.connect_again().await?;
    pc.told("0.2.0）は、正しいものと確認できなかった").await?;

    // Its time is over.
    maker.offer_changed(&stage, |manifest| manifest.expires_ms = 1_700_000_000_000)?;
    pc.connect_again().await?;
    pc.told("有効期限を過ぎている").await?;

    // Older than what was offered before.
    maker.offer(&stage, "0.1.5", &newer)?;
    pc.connect_again().await?;
    pc.told("（0.1.5）は、すでにある版（0.2.0）より古い")
        .await?;

    // Older than what runs.
    maker.offer(&stage, "0.0.9", &newer)?;
    pc.connect_again().await?;
    pc.told("（0.0.9）は").await?;

    // Signed, whole, and no program at all.
    maker.offer(&stage, "0.4.0", b"not a program")?;
    pc.connect_again().await?;
    pc.told("0.4.0）に切り替えられませんでした").await?;

    // Signed for the right platform with the hash of something else.
    maker.offer(&stage, "0.5.0", &newer)?;
    maker.offer_changed(&stage, |manifest| {
        manifest.programs[0].sha256 = Bytes32(Sha256::digest(b"else").into());
    })?;
    pc.connect_again().await?;
    pc.told("0.5.0）は、正しいものと確認できなかった").await?;

    // The page says it too, and the agent goes on as it was.
    let page = output(&mut pc.agent.command(&["status"]))?;
    ensure!(page.contains("いまの版のままお使いいただけます"), "{page}");
    ensure!(std::fs::read(&pc.program)? == before);
    ensure!(pc.left_beside()?.is_empty(), "{:?}", pc.left_beside()?);
    ensure!(pc.agent.status()?["version"] == BUILT);
    ensure!(pc.agent.status()?["state"] == "connected");
    Ok(())
}
