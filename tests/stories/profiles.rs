//! A sharoushi's PC: two establishments in one agent, each with its key, window and session.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use renkei_tests::job::{AtWork, matching_code_in};
use renkei_tests::pages::Site;
use renkei_tests::process::{output, wait_for};
use renkei_tests::{Agent, MemberPages, Stage, StageOptions};
use serde_json::Value;

const SECOND_NUMBER: &str = "0456";
const SECOND_NAME: &str = "株式会社次例";
const SECOND_EMAIL: &str = "jiro@jirei.example";

fn status_of(agent: &Agent, profile: &str) -> Result<Value> {
    let text = output(&mut agent.command(&["--profile", profile, "status", "--json"]))?;
    Ok(serde_json::from_str(&text)?)
}

async fn wait_state(agent: &Agent, profile: &str, state: &str) -> Result<Value> {
    wait_for(
        &format!("profile {profile} to be {state}"),
        30,
        async || {
            let status = status_of(agent, profile)?;
            Ok((status["state"] == state).then_some(status))
        },
    )
    .await
}

/// The device keys that lie anywhere in `folder`.
fn keys(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(keys(&path)?);
        } else if path.ends_with("device-key") {
            found.push(path);
        }
    }
    Ok(found)
}

/// S003-19, S003-37: a sharoushi needs one PC for several establishments, and no extra work.
#[tokio::test]
async fn a_sharoushi_works_for_two_establishments_from_one_pc_at_once() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let agent = &work.agent;
    let letter = work
        .office
        .register_as(
            SECOND_NUMBER,
            SECOND_NAME,
            "jirei-jiro",
            "次例 次郎",
            SECOND_EMAIL,
        )
        .await?;

    // The same enrolment, while the first session goes on.
    let printed = agent.enrol(SECOND_NUMBER, &letter.registration_code)?;
    let matching = matching_code_in(&printed).context("a matching code")?;
    work.office.approve(&matching).await?;
    let ready = wait_state(agent, SECOND_NUMBER, "ready").await?;
    ensure!(ready["profile"] == 2, "{ready}");
    ensure!(status_of(agent, "1")?["state"] == "connected");
    work.pages.site.get("/").await?;

    // Which one is meant must be said now; the list says what there is.
    let vague = agent.command(&["status", "--json"]).output()?;
    let told = String::from_utf8_lossy(&vague.stderr);
    ensure!(vague.status.code() == Some(1), "{vague:?}");
    ensure!(
        told.contains("--profile") && told.contains(SECOND_NAME),
        "{told}"
    );
    let list: Value = serde_json::from_str(&output(&mut agent.command(&["profiles", "--json"]))?)?;
    let names: Vec<_> = list.as_array().context("a list")?.iter().collect();
    ensure!(
        names.len() == 2 && names[1]["establishment_name"] == SECOND_NAME,
        "{list}"
    );
    let text = output(&mut agent.command(&["status"]))?;
    ensure!(
        text.contains(SECOND_NAME) && text.contains("登録先 1"),
        "{text}"
    );

    // Both at once, each through its own proxy, each with its own session.
    output(&mut agent.command(&["--profile", "2", "connect"]))?;
    let first = status_of(agent, "1")?;
    let second = wait_state(agent, "2", "connected").await?;
    ensure!(first["state"] == "connected", "{first}");
    ensure!(first["proxy"] != second["proxy"], "{first} {second}");
    let proxy = second["proxy"].as_str().context("a proxy")?;
    let theirs = MemberPages {
        site: Site::new(&stage.member_url(), &stage.ca_file(), Some(proxy))?,
    };
    theirs.site.open("/sign-in").await?.must_say("ログイン")?;
    // What was signed in through one tunnel is nothing in the other.
    theirs.site.steal_cookies(&work.pages.site);
    theirs
        .site
        .open("/")
        .await?
        .must_say("ログインしてください")?;
    work.pages.site.get("/").await?.must_say("ホーム")?;

    // Never removed while it is connected; gone with its key afterwards.
    let data = agent.config().with_file_name("data");
    ensure!(keys(&data)?.len() == 2);
    let refused = agent
        .command(&["--profile", "2", "remove", "--yes"])
        .output()?;
    let told = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        refused.status.code() == Some(1) && told.contains("接続中"),
        "{refused:?}"
    );
    output(&mut agent.command(&["--profile", "2", "disconnect"]))?;
    ensure!(status_of(agent, "1")?["state"] == "connected");
    let asked = agent.command(&["--profile", "2", "remove"]).output()?;
    ensure!(
        asked.status.code() == Some(1) && keys(&data)?.len() == 2,
        "{asked:?}"
    );
    output(&mut agent.command(&["--profile", "2", "remove", "--yes"]))?;
    ensure!(keys(&data)?.len() == 1);
    // The only one left need not be named any more.
    ensure!(agent.status()?["state"] == "connected");
    work.pages.site.get("/").await?.must_say("ホーム")?;
    Ok(())
}

/// What a single-profile agent left on disk works on, and later enrolments that it hid behind
/// one another come to light.
#[tokio::test]
async fn an_agent_of_before_is_taken_over_with_all_its_establishments() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let mut work = AtWork::on(&stage).await?;
    let letter = work
        .office
        .register_as(
            SECOND_NUMBER,
            SECOND_NAME,
            "jirei-jiro",
            "次例 次郎",
            SECOND_EMAIL,
        )
        .await?;
    let printed = work.agent.enrol(SECOND_NUMBER, &letter.registration_code)?;
    let matching = matching_code_in(&printed).context("a matching code")?;
    work.office.approve(&matching).await?;
    wait_state(&work.agent, "2", "ready").await?;
    work.agent.stop()?;

    // As it was: all enrolments in one folder, the latest of them in use.
    let data = work.agent.config().with_file_name("data");
    let second = data.join("profiles/2/enrolments");
    for entry in std::fs::read_dir(&second)? {
        let folder = entry?.path();
        let record = folder.join("enrolment.json");
        let mut json: Value = serde_json::from_slice(&std::fs::read(&record)?)?;
        json["sequence"] = 2.into();
        std::fs::write(&record, serde_json::to_vec(&json)?)?;
        let name = folder.file_name().context("a name")?;
        std::fs::rename(&folder, data.join("enrolments").join(name))?;
    }
    std::fs::remove_dir_all(data.join("profiles"))?;

    let list: Value =
        serde_json::from_str(&output(&mut work.agent.command(&["profiles", "--json"]))?)?;
    let list = list.as_array().context("a list")?;
    ensure!(list.len() == 2, "{list:?}");
    ensure!(
        list[0]["establishment"] == SECOND_NUMBER,
        "the latest is the first: {list:?}"
    );
    for report in list {
        ensure!(report["state"] == "ready", "{report}");
        let number = report["establishment"].as_str().context("a number")?;
        work.agent.start(&["--profile", number, "connect"])?;
        wait_state(&work.agent, number, "connected").await?;
        work.agent.stop()?;
    }
    Ok(())
}
