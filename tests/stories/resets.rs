//! Somebody cannot sign in: guessing was stopped, a password is forgotten, a telephone lost. Staff
//! help, two where it matters, and mails tell.

use anyhow::{Context as _, Result, ensure};
use renkei_tests::browser::{Browser, key_shown_at};
use renkei_tests::job::{ADMIN_EMAIL, ADMIN_USER_ID, AtWork};
use renkei_tests::pages::{MemberPages, OfficePages};
use renkei_tests::{Stage, StageOptions};

use crate::browser::{Inspector, portal_key};

/// Failures at one PC before the pause.
const TRIES: usize = 3;

async fn further(stage: &Stage, user_id: &str, name: &str, role: &str) -> Result<OfficePages> {
    let pages = OfficePages::open(stage)?;
    let staff = stage.further_staff(user_id, name, role)?;
    pages.sign_in_as(&staff).await?;
    Ok(pages)
}

/// S003-33, S003-39: three wrong tries stop a user at this PC until the fund frees him; an admin's
/// password and a sign-in of staff are made anew when two agree, and not before.
#[tokio::test]
async fn who_cannot_sign_in_is_helped_by_two_and_told_by_mail() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let inspector = Inspector::new()?;
    let second = further(&stage, "niban", "二番 花子", "reviewer").await?;
    let supervisor = further(&stage, "sekinin", "責任 者子", "supervisor").await?;
    let admin = further(&stage, "kanri", "管理 次郎", "system_admin").await?;
    let folder = stage.folder().join("browsers");
    std::fs::create_dir_all(&folder)?;
    let key = key_shown_at(&stage.office_url(), &stage.ca_file()).await?;
    let office = Browser::open(&folder, "office", None, Some(&key)).await?;
    let at = |path: &str| format!("{}{path}", stage.office_url().trim_end_matches('/'));

    // Stopped, and the page and a mail say so.
    let visitor = MemberPages::through(&stage, &work.agent)?;
    for _ in 1..TRIES {
        visitor
            .sign_in(ADMIN_USER_ID, "not the password", "123456")
            .await?;
    }
    let key = portal_key(&stage.folder().join("pc1/data/enrolments"))?.context("a key")?;
    let proxy = work.agent.proxy()?;
    let clerk = Browser::open(&folder, "clerk", Some(&proxy), Some(&key)).await?;
    clerk.go(&format!("{}sign-in", stage.member_url())).await?;
    clerk.type_into("user_id", ADMIN_USER_ID).await?;
    clerk
        .type_into("password", "not the password either")
        .await?;
    clerk.type_into("code", "123456").await?;
    clerk.press("button[value='sign_in']").await?;
    clerk.wait_text("もう一度お試しいただけます").await?;
    inspector.look(&clerk, "member-sign-in-stopped").await?;
    clerk.close().await?;
    let told = |words: &'static str| {
        let mails = stage.mailbox();
        async move {
            mails
                .wait(ADMIN_EMAIL, 0, |mail| mail.body.contains(words))
                .await
        }
    };
    told("24時間止めました").await?;

    // Freed.
    let site = &work.office.site;
    let list = site.get("/establishments").await?;
    let place = list.links("/establishments/0").into_iter().next();
    let place = place.context("an establishment")?;
    office
        .take_cookies(&stage.office_url(), &site.cookie_header())
        .await?;
    office.go(&at(&place)).await?;
    office.wait_text("ログインの停止を解除する").await?;
    inspector
        .look(&office, "office-establishment-stopped")
        .await?;
    let freed = site.submit(&site.get(&place).await?.form("/free")?).await?;
    freed.must_say("ログインの停止を解除しました")?;
    told("停止を解除しました").await?;

    // The admin's password: proposed, approved by another, printed once.
    let reason = "電話でご本人を確認した";
    let form = site.get(&place).await?.form("/password")?;
    site.submit(&form.fill("reason", reason)?)
        .await?
        .must_say("承認")?;
    let approve = second.site.get("/approvals").await?.form("/approve")?;
    second
        .site
        .submit(&approve)
        .await?
        .must_say("承認しました")?;
    office.go(&at(&place)).await?;
    office
        .wait_text("承認された新しいパスワードの用紙を作る")
        .await?;
    inspector
        .look(&office, "office-establishment-reset-allowed")
        .await?;
    let letter = site
        .submit(&site.get(&place).await?.form("/password")?)
        .await?;
    ensure!(!letter.find("#initial-password")?.is_empty());
    told("基金事務局が、利用者1名のパスワードを作り直しました").await?;

    // A sign-in of staff.
    let form = admin.site.get("/staff").await?.form("/reset")?;
    let proposed = admin
        .site
        .submit(&form.fill("reason", "スマートフォンの紛失")?)
        .await?;
    proposed.must_say("承認")?;
    office
        .take_cookies(&stage.office_url(), &supervisor.site.cookie_header())
        .await?;
    office.go(&at("/approvals")).await?;
    office.wait_text("職員のログインの再発行").await?;
    inspector.look(&office, "office-approvals-reset").await?;
    let approve = supervisor.site.get("/approvals").await?.form("/approve")?;
    supervisor
        .site
        .submit(&approve)
        .await?
        .must_say("承認しました")?;
    office
        .take_cookies(&stage.office_url(), &admin.site.cookie_header())
        .await?;
    office.go(&at("/staff")).await?;
    office
        .wait_text("ログインの再発行が承認されています")
        .await?;
    inspector
        .look(&office, "office-staff-reset-allowed")
        .await?;
    let issued = admin
        .site
        .submit(&admin.site.get("/staff").await?.form("/issue")?)
        .await?;
    issued.must_say("初期パスワード")?;
    office.close().await?;
    inspector.must_have_found_nothing();
    Ok(())
}
