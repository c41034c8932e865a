//! Windows that are opened twice, break down, or do not open. The browser is a script: what
//! the agent makes of its end does not depend on what it shows.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use renkei_tests::job::{AtWork, matching_code_in};
use renkei_tests::process::{output, signal, wait_for};
use renkei_tests::{Agent, Stage, StageOptions};

/// A browser that writes down how it was started and stays, or does as `instead` says.
struct Script {
    folder: PathBuf,
}

impl Script {
    fn new(stage: &Stage, agent: &Agent, instead: &str) -> Result<Self> {
        let folder = stage.folder().join("browser-script");
        std::fs::create_dir_all(&folder)?;
        let program = folder.join("browser");
        let text = format!(
            "#!/bin/bash\nprintf '%s\\n' \"$@\" > {0}/start-$$.new\nmv {0}/start-$$.new {0}/start-$$\n{instead}\nexec sleep 600\n",
            folder.display()
        );
        std::fs::write(&program, text)?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
        // Before the arguments that the stage gives to a real browser.
        agent.configure(&format!("browser = {program:?}"))?;
        Ok(Self { folder })
    }

    /// Process ids and arguments of all starts.
    fn starts(&self) -> Result<Vec<(u32, Vec<String>)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let pid = name.and_then(|name| name.strip_prefix("start-")?.parse().ok());
            if let Some(pid) = pid {
                let text = std::fs::read_to_string(&path)?;
                found.push((pid, text.lines().map(str::to_owned).collect()));
            }
        }
        Ok(found)
    }

    async fn wait_starts(&self, count: usize) -> Result<Vec<(u32, Vec<String>)>> {
        wait_for(&format!("{count} browsers"), 30, async || {
            Ok(Some(self.starts()?).filter(|starts| starts.len() >= count))
        })
        .await
    }
}

fn argument<'a>(arguments: &'a [String], name: &str) -> Result<&'a str> {
    let found = arguments.iter().find_map(|text| text.strip_prefix(name));
    found.with_context(|| format!("{name} in {arguments:?}"))
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc")
        .join(pid.to_string())
        .join("exe")
        .exists()
}

#[tokio::test]
async fn a_browser_that_breaks_down_is_opened_again_and_the_session_goes_on() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let mut work = AtWork::on(&stage).await?;
    work.agent.stop()?;
    let script = Script::new(&stage, &work.agent, "")?;
    work.agent.start(&["open"])?;
    let first = script.wait_starts(1).await?.remove(0);
    work.agent.wait_state("ready").await?;
    output(&mut work.agent.command(&["connect"]))?;
    let before = work.agent.wait_state("connected").await?;

    signal(first.0, "SEGV")?;
    let starts = script.wait_starts(2).await?;
    let second = starts.iter().find(|start| start.0 != first.0);
    let second = second.context("another browser")?;
    ensure!(
        argument(&second.1, "--user-data-dir=")? == argument(&first.1, "--user-data-dir=")?
            && argument(&second.1, "--app=")? == argument(&first.1, "--app=")?,
        "{starts:?}"
    );
    let after = work.agent.status()?;
    ensure!(after["state"] == "connected", "{after}");
    ensure!(after["deadline"] == before["deadline"], "{before} {after}");

    // Closed by the user, it ends the session and the agent.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    output(&mut work.agent.command(&["disconnect"]))?;
    ensure!(work.agent.stop()? == Some(0));
    ensure!(!is_alive(second.0), "the window outlived the agent");
    Ok(())
}

#[tokio::test]
async fn a_browser_that_keeps_breaking_down_is_given_up_with_a_sentence() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let mut work = AtWork::on(&stage).await?;
    work.agent.stop()?;
    let script = Script::new(&stage, &work.agent, "kill -SEGV $$")?;
    let run = work.agent.command(&["open"]).output()?;
    let told = String::from_utf8_lossy(&run.stderr);
    ensure!(run.status.code() == Some(1), "{run:?}");
    ensure!(told.contains("続けて異常終了"), "{told}");
    ensure!(script.starts()?.len() == 4, "{:?}", script.starts()?);
    Ok(())
}

#[tokio::test]
async fn a_second_start_brings_the_window_up_in_the_one_agent() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let mut work = AtWork::on(&stage).await?;
    work.agent.stop()?;
    let script = Script::new(&stage, &work.agent, "")?;
    work.agent.start(&["open"])?;
    let first = script.wait_starts(1).await?.remove(0);
    output(&mut work.agent.command(&["open"]))?;
    let starts = script.wait_starts(2).await?;
    for name in ["--user-data-dir=", "--proxy-server=", "--app="] {
        let same =
            |start: &(u32, Vec<String>)| Ok(argument(&start.1, name)? == argument(&first.1, name)?);
        let all: Result<Vec<bool>> = starts.iter().map(same).collect();
        ensure!(all?.iter().all(|same| *same), "{name} {starts:?}");
    }
    ensure!(work.agent.status()?["running"] == true);
    ensure!(work.agent.stop()? == Some(0));
    Ok(())
}

#[tokio::test]
async fn each_profile_has_a_window_of_its_own_and_the_first_start_shows_the_list() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let mut work = AtWork::on(&stage).await?;
    let letter = work
        .office
        .register_as(
            "0456",
            "株式会社次例",
            "jirei-jiro",
            "次例 次郎",
            "jiro@jirei.example",
        )
        .await?;
    let printed = work.agent.enrol("0456", &letter.registration_code)?;
    work.office
        .approve(&matching_code_in(&printed).context("a matching code")?)
        .await?;
    work.agent.stop()?;
    let script = Script::new(&stage, &work.agent, "")?;
    work.agent.start(&["open"])?;
    let first = script.wait_starts(1).await?.remove(0);
    ensure!(
        argument(&first.1, "--app=")?.ends_with("&list=1"),
        "{first:?}"
    );
    output(&mut work.agent.command(&["--profile", "2", "open"]))?;
    let starts = script.wait_starts(2).await?;
    let second = starts.iter().find(|start| start.0 != first.0);
    let second = second.context("another browser")?;
    for name in ["--user-data-dir=", "--proxy-server=", "--app="] {
        ensure!(
            argument(&second.1, name)? != argument(&first.1, name)?,
            "{name}"
        );
    }
    ensure!(work.agent.stop()? == Some(0));
    ensure!(!is_alive(first.0) && !is_alive(second.0));
    Ok(())
}
