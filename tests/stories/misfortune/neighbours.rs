//! Another user of the same PC, who finds the loopback port.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use renkei_tests::job::AtWork;
use renkei_tests::process::output;
use renkei_tests::{Stage, StageOptions};

/// Nobody in particular: Debian's `nobody`.
const ANOTHER_USER: &str = "65534";
/// The agent's page; it exists only behind the agent's proxy.
const AGENT_PAGE: &str = "http://renkei-agent.invalid/";

/// curl as this user, or as another one.
fn curl(as_another_user: bool, arguments: &[&str]) -> Command {
    let mut command = Command::new(if as_another_user { "setpriv" } else { "curl" });
    if as_another_user {
        let user = format!("--reuid={ANOTHER_USER}");
        command.args([&user, "--clear-groups", "curl"]);
    }
    command
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--write-out",
            "\n%{http_code}",
        ])
        .args(arguments);
    command
}

#[tokio::test]
async fn another_user_of_the_pc_is_refused_in_words_at_every_door() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let status = work.agent.status()?;
    let proxy = status["proxy"].as_str().context("a proxy")?.to_owned();
    let portal = stage.member_url();
    let launch = work.agent.log_text();
    let launch = launch
        .lines()
        .find(|line| line.starts_with(AGENT_PAGE))
        .context("the window's address")?;

    // Even with the launch token, the page is for its own user.
    for address in [AGENT_PAGE, launch, &format!("http://{proxy}/")] {
        let told = output(&mut curl(true, &["--proxy", &proxy, address]))?;
        ensure!(told.ends_with("\n403"), "{address}: {told}");
        ensure!(told.contains("ほかのユーザー"), "{address}: {told}");
        ensure!(!told.contains("残り時間"), "{address}: {told}");
    }
    let ca_file = stage.ca_file();
    let ca_file = ca_file.to_str().context("a path in UTF-8")?;
    let through = [
        "--proxytunnel",
        "--proxy",
        &proxy,
        "--cacert",
        ca_file,
        &portal,
    ];
    let theirs = curl(true, &through).output()?;
    ensure!(!theirs.status.success(), "{theirs:?}");
    let told = String::from_utf8_lossy(&theirs.stderr);
    ensure!(told.contains("403"), "{told}");

    // The tunnel stands all the while, and is its own user's.
    let ours = output(&mut curl(false, &["--proxy", &proxy, launch]))?;
    ensure!(ours.ends_with("\n303"), "{ours}");
    let ours = output(&mut curl(false, &through))?;
    ensure!(!ours.ends_with("\n403"), "{ours}");
    work.pages.site.get("/").await?.must_say("ホーム")?;
    Ok(())
}

#[tokio::test]
async fn another_users_connections_take_no_place_of_ones_own() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let status = work.agent.status()?;
    let proxy = status["proxy"].as_str().context("a proxy")?.to_owned();
    let (host, port) = proxy.split_once(':').context("an address")?;
    // Many connections at once that say nothing and stay.
    let hold = format!(
        "for i in $(seq 300); do exec {{held}}<>/dev/tcp/{host}/{port} || exit 3; done; echo held; sleep 30"
    );
    let mut crowd = Command::new("setpriv");
    crowd.args([
        &format!("--reuid={ANOTHER_USER}"),
        "--clear-groups",
        "bash",
        "-c",
        &hold,
    ]);
    let mut crowd = renkei_tests::process::Process::start("crowd", stage.folder(), &mut crowd)?;
    renkei_tests::process::wait_for("the crowd", 20, async || {
        crowd.check_running()?;
        Ok(crowd.log_text().contains("held").then_some(()))
    })
    .await?;
    work.pages.site.get("/").await?.must_say("ホーム")?;
    crowd.kill();
    Ok(())
}
