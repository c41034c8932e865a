//! A sharoushi's office at a PC of its own, and the end of what it may do.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use renkei_tests::job::{AtWork, FILED_PDF, large_pdf};
use renkei_tests::{Agent, MemberPages, Stage, StageOptions};
use reqwest::StatusCode;

use crate::under_way::{download_is_cut, upload_is_cut};

/// The invented office: number, name, its admin's user id, name and address.
const OFFICE: [&str; 5] = [
    "9001",
    "みらい社労士事務所",
    "mirai",
    "森 次郎",
    "mori@mirai.example",
];
/// How soon a revoked delegation has ended what is done by it.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);
/// A filing that takes a while to read.
const DOCUMENT_BYTES: usize = 45_000_000;

/// S003-18: the clerk entrusts a sharoushi's office, which works for her establishment from its
/// own PC. When she takes it back, the upload that is running is cut, and a download too; the
/// office is at its own desk again and its tunnel stands.
#[tokio::test]
async fn a_revoked_delegation_cuts_an_upload_and_a_download_over_the_tunnel() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let pdf = large_pdf(DOCUMENT_BYTES, 9_001)?;
    let receipt = work.pages.file(FILED_PDF, &pdf, None).await?;
    let receipt = work.pages.site.get(&receipt).await?;
    let filing = receipt
        .links("/filings/")
        .into_iter()
        .find(|path| !path.ends_with("/new"))
        .context("a filing")?;
    let document = format!("{filing}/document.pdf");
    let (pc, office) = office_at_work(&stage, &work).await?;

    entrust(&work, &office).await?;
    upload_is_cut(&office, REVOKED_WITHIN, take_back(&work)).await?;
    is_at_its_own_desk(&office, &document).await?;

    entrust(&work, &office).await?;
    download_is_cut(&office, &document, REVOKED_WITHIN, take_back(&work)).await?;
    is_at_its_own_desk(&office, &document).await?;
    ensure!(pc.status()?["state"] == "connected", "the tunnel ended too");
    Ok(())
}

/// The fund registers the office, and its admin signs in for the first time.
async fn office_at_work(stage: &Stage, work: &AtWork) -> Result<(Agent, MemberPages)> {
    let [number, name, user_id, admin, email] = OFFICE;
    let letter = work
        .office
        .register_as(number, name, user_id, admin, email)
        .await?;
    let page = work.office.site.get("/delegations").await?;
    let form = page.form("/delegations/offices")?.fill("number", number)?;
    work.office.site.submit(&form).await?.must_say(name)?;
    let mut pc = stage.agent("pc2")?;
    work.office
        .enrol_agent_of(&mut pc, number, &letter.registration_code)
        .await?;
    pc.connect().await?;
    let code = stage.mailbox().wait_code(email, 0).await?;
    let pages = MemberPages::through(stage, &pc)?;
    pages.first_sign_in_as(user_id, &letter, &code).await?;
    Ok((pc, pages))
}

/// The clerk asks the office, which accepts and acts for her establishment.
async fn entrust(work: &AtWork, office: &MemberPages) -> Result<()> {
    let [number, name, ..] = OFFICE;
    let clerk = &work.pages.site;
    let page = clerk.get("/delegations/new").await?;
    let form = page.form("/delegations/new")?.fill("partner", number)?;
    let page = clerk.submit(&form).await?;
    page.must_say("相手をお確かめください")?;
    let page = clerk.submit(&page.form("/delegations/new")?).await?;
    page.must_say(name)?;
    let page = office.site.get("/delegations").await?;
    let page = office.site.submit(&page.form("/accept")?).await?;
    ensure!(page.status == StatusCode::OK, "{}", page.text());
    let page = office.site.get("/desk").await?;
    let page = office.site.submit(&page.form("/desk/act")?).await?;
    // Her filings are the office's first page now.
    page.must_say(FILED_PDF.trim_end_matches(".pdf")).map(drop)
}

/// The clerk takes it back.
async fn take_back(work: &AtWork) -> Result<()> {
    let clerk = &work.pages.site;
    let page = clerk.get("/delegations").await?;
    let page = clerk.submit(&page.form("/end")?).await?;
    ensure!(page.status == StatusCode::OK, "{}", page.text());
    Ok(())
}

async fn is_at_its_own_desk(office: &MemberPages, document: &str) -> Result<()> {
    let page = office.site.get("/desk").await?;
    page.must_say("代理できる事業所はまだありません")?;
    let page = office.site.open(document).await?;
    ensure!(page.status == StatusCode::NOT_FOUND, "{}", page.status);
    Ok(())
}
