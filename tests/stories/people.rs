//! The people of an establishment over the real programs: first sign-in, a colleague on a
//! second PC, and his end.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use renkei_tests::job::{ADMIN_EMAIL, ADMIN_PASSWORD, AtWork};
use renkei_tests::process::wait_for;
use renkei_tests::{Agent, MemberPages, Stage, StageOptions};
use reqwest::StatusCode;

use crate::under_way::upload_is_cut;

/// The invented colleague.
const COLLEAGUE: (&str, &str) = ("ichiro", "ichiro@mihon-denki.example");
const COLLEAGUE_PASSWORD: &str = "himawari-no-oka-de-7";
/// How soon a removed person's session has ended.
const REMOVED_WITHIN: Duration = Duration::from_secs(2);
/// Bytes of an id in a path.
const ID_LENGTH: usize = 36;

/// S003-25, S003-34, S003-35, S003-36, S003-38, S003-39: the first sign-in leads through 事業所情報 and
/// 管理者情報 (played by `AtWork`); she adds a colleague with a PC of his own, the fund approves
/// it and says so by mail, he signs in and works. When he leaves she removes him: his session
/// ends at once, and his PC never connects again.
#[tokio::test]
async fn a_colleague_works_on_a_pc_of_his_own_until_the_admin_removes_him() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let site = &work.pages.site;
    let login = COLLEAGUE.0;
    let (pc, colleague) = colleague_at_work(&stage, &work).await?;
    let page = colleague.site.open("/users").await?;
    ensure!(page.status == StatusCode::NOT_FOUND, "{}", page.text());

    let person = person(&work.pages, login).await?;
    let page = site.get(&format!("{person}/remove")).await?;
    let form = page.form("/remove")?.fill("password", ADMIN_PASSWORD)?;
    site.submit(&form).await?.must_say("登録を解除しました")?;
    let ended = wait_for("the session's end", 30, async || {
        Ok((pc.status()?["state"] == "ended").then_some(()))
    });
    tokio::time::timeout(REMOVED_WITHIN, ended)
        .await
        .context("the session stood longer than two seconds")??;
    let gone = colleague.site.open("/").await;
    ensure!(gone.is_err(), "a page after the end: {gone:?}");
    let again = pc.command(&["connect"]).output()?;
    ensure!(again.status.code() == Some(1), "{again:?}");
    ensure!(site.get("/").await?.status == StatusCode::OK);
    Ok(())
}

/// S003-39: he is removed while he sends a large file through agent, gateway and portal: the
/// part that is under way is cut, and nothing of it is kept.
#[tokio::test]
async fn a_removed_colleagues_upload_is_cut_in_its_midst_and_nothing_of_the_part_is_kept()
-> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let (_pc, colleague) = colleague_at_work(&stage, &work).await?;
    let site = &work.pages.site;
    let person = person(&work.pages, COLLEAGUE.0).await?;
    let page = site.get(&format!("{person}/remove")).await?;
    let form = page.form("/remove")?.fill("password", ADMIN_PASSWORD)?;

    let end = async {
        let page = site.submit(&form).await?;
        page.must_say("登録を解除しました").map(drop)
    };
    upload_is_cut(&colleague, REMOVED_WITHIN, end).await?;
    let kept = documents(&stage.documents())?;
    ensure!(
        kept == 1,
        "{kept} objects for the one part that had arrived"
    );
    Ok(())
}

/// How many files lie in a folder and those below it.
fn documents(folder: &std::path::Path) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => count += documents(&path)?,
            false => count += usize::from(!path.ends_with("health/probe")),
        }
    }
    Ok(count)
}

/// The admin adds a colleague with a PC of his own; the fund approves it, he signs in.
async fn colleague_at_work(stage: &Stage, work: &AtWork) -> Result<(Agent, MemberPages)> {
    let (login, email) = COLLEAGUE;
    let page = work.pages.site.get("/users/new").await?;
    let form = page
        .form("/users/new")?
        .fill("user_name", "社労 一郎")?
        .fill("login", login)?
        .fill("email", email)?
        .with("code", "yes");
    let slip = work.pages.site.submit(&form).await?;
    ensure!(slip.status == StatusCode::OK, "{}", slip.text());
    let password = slip.find("#initial-password")?;
    let code = slip.find("#registration-code")?;
    let mailbox = stage.mailbox();
    let told = |mail: &renkei_tests::mailbox::Mail| mail.subject.contains("利用者情報の変更");
    let mail = mailbox.wait(ADMIN_EMAIL, 0, told).await?;
    ensure!(
        !mail.body.contains("一郎") && !mail.body.contains(login),
        "{}",
        mail.body
    );

    let mut pc = work.office.enrol(stage, "pc2", &code).await?;
    mailbox
        .wait(email, 0, |mail| {
            mail.subject.contains("パソコンの登録が完了")
        })
        .await?;
    pc.connect().await?;
    let code = mailbox.wait_code(email, 0).await?;
    let colleague = MemberPages::through(stage, &pc)?;
    let page = colleague.sign_in(login, &password, &code).await?;
    let form = page
        .form("password")?
        .fill("new_password", COLLEAGUE_PASSWORD)?
        .fill("new_password_again", COLLEAGUE_PASSWORD)?;
    let page = colleague.site.submit(&form).await?;
    let form = page.form("/terms")?.with("accept", "yes");
    let page = colleague.site.submit(&form).await?;
    let form = page.form("/welcome")?.with("next", "home");
    let page = colleague.site.submit(&form).await?;
    page.must_say("社労 一郎 さん")?;
    Ok((pc, colleague))
}

/// Where the admin's page of the person is.
async fn person(pages: &MemberPages, login: &str) -> Result<String> {
    let list = pages.site.get("/users").await?;
    for link in list.links("/users/") {
        let is_person = link.len() == "/users/".len() + ID_LENGTH;
        if is_person && pages.site.get(&link).await?.text().contains(login) {
            return Ok(link);
        }
    }
    anyhow::bail!("{login} is not on the list: {}", list.text())
}
