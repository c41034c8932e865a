//! The review desk over the real programs: what both sides say and see of one case, and paper
//! beside it. The numbers are those of `docs/FEATURES.md`.

use anyhow::{Result, ensure};
use renkei_tests::browser::{Browser, key_shown_at};
use renkei_tests::job::{AtWork, corpus};
use renkei_tests::{Stage, StageOptions};

use crate::browser::Inspector;

/// S003-06, S003-09, S003-10: a filing is asked back, talked about and returned with a mark
/// on its page, which the clerk sees as a picture through her tunnel; a filing on paper gets
/// a cover sheet from the same pages, is found by its code at the office and stands in the
/// same history; the home page says the next closing day.
#[tokio::test]
async fn a_case_is_talked_about_and_returned_with_a_mark_and_paper_stands_beside_it() -> Result<()>
{
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let (clerk, office) = (&work.pages.site, &work.office.site);
    clerk.get("/").await?.must_say("次の締切")?;

    let pdf = corpus("good/20240229_0123_資格喪失届.pdf")?;
    work.pages
        .file("20240229_0123_資格喪失届.pdf", &pdf, None)
        .await?;
    let filing = work.office.take_oldest().await?;

    let page = clerk.get(&filing).await?;
    let form = page.form("/withdrawal")?.fill("reason", "日付の誤り")?;
    clerk
        .submit(&form)
        .await?
        .must_say("取下げを依頼しています")?;
    let page = office.get(&filing).await?;
    page.must_say("日付の誤り")?;
    ensure!(page.form("/return").is_err(), "an answer comes first");
    office.submit(&page.form("/withdrawal/decline")?).await?;

    for (audience, text) in [
        ("office", "去年も同じ誤り"),
        ("both", "日付だけ直してください"),
    ] {
        let page = office.get(&filing).await?;
        let form = page
            .form("/comments")?
            .fill("comment", text)?
            .with("audience", audience);
        office.submit(&form).await?.must_say(text)?;
    }
    let form = office.get(&filing).await?.form("/return")?;
    let form = form
        .fill("code", "incomplete")?
        .fill("text", "喪失年月日が空欄です。")?
        .fill("page", "1")?
        .fill("left", "10")?
        .fill("top", "20")?
        .fill("width", "30")?
        .fill("height", "5.5")?;
    office.submit(&form).await?.must_say("喪失年月日が空欄")?;

    let page = clerk.get(&filing).await?;
    page.must_say("喪失年月日が空欄")?
        .must_say("日付だけ直してください")?
        .must_say("1ページ目の上のほう")?;
    ensure!(!page.html.contains("去年も同じ誤り"), "{}", page.text());
    ensure!(page.attribute(".marked__area rect", "height")? == "5.5");
    let picture = page.attribute(".marked img", "src")?;
    let (_, png) = clerk.download(&picture).await?;
    ensure!(png.starts_with(b"\x89PNG"), "a picture of the marked page");

    let form = clerk.get("/paper").await?.form("/paper")?;
    let form = form
        .fill("kind", "bank-transfer")?
        .fill("filed_on", "2024-05-24")?
        .fill("sheets", "2")?;
    let page = clerk.submit(&form).await?;
    let (_, cover) = clerk.download(&page.links("/cover.pdf")[0]).await?;
    ensure!(cover.starts_with(b"%PDF-"), "a cover sheet to print");
    let code = page.attribute("[data-code]", "data-code")?;
    let page = office.get(&format!("/paper?code={code}")).await?;
    let value = |name: &str| page.attribute(&format!("form.card input[name={name}]"), "value");
    ensure!(value("establishment")? == "0123" && value("sheets")? == "2");
    let arrived = value("arrived")?;
    let token = value("csrf")?;
    let request = office.request(reqwest::Method::POST, "/paper").form(&[
        ("csrf", token.as_str()),
        ("code", &code),
        ("establishment", "0123"),
        ("kind", "bank-transfer"),
        ("filed_on", "2024-05-24"),
        ("arrived", &arrived),
        ("sheets", "2"),
    ]);
    let status = office.send(request).await?.status();
    ensure!(status.is_redirection() || status.is_success(), "{status}");
    clerk
        .get("/filings")
        .await?
        .must_say("20240524_0123_預金口座振替依頼書")?;
    Ok(())
}

/// R23: what was sent through the portal comes by post as well. Whoever records it is asked to
/// compare, and whoever decides one of the two sees the other.
#[tokio::test]
async fn a_filing_that_comes_by_post_as_well_is_pointed_out_to_the_reviewer() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let pdf = corpus("good/20240229_0123_資格喪失届.pdf")?;
    work.pages
        .file("20240229_0123_資格喪失届.pdf", &pdf, None)
        .await?;
    let inspector = Inspector::new()?;
    let folder = stage.folder().join("browsers");
    std::fs::create_dir_all(&folder)?;
    let url = stage.office_url();
    let key = key_shown_at(&url, &stage.ca_file()).await?;
    let reviewer = Browser::open(&folder, "office", None, Some(&key)).await?;
    let header = work.office.site.cookie_header();
    reviewer.take_cookies(&url, &header).await?;
    reviewer.go(&format!("{url}paper")).await?;
    reviewer.type_into("establishment", "0123").await?;
    reviewer.press("#kind option[value='loss']").await?;
    // A date field takes month, day, year.
    let date = reviewer.find("#filed_on").await?;
    date.send_keys("02292024").await?;
    reviewer.type_into("sheets", "1").await?;
    reviewer.click("記録する").await?;
    reviewer.wait_text("同じ届書かもしれません").await?;
    reviewer.wait_text("に電子で届きました").await?;
    inspector.look(&reviewer, "office-paper-twin").await?;
    reviewer.press("#another").await?;
    reviewer.click("記録する").await?;
    reviewer.wait_text("に届きました").await?;
    inspector.look(&reviewer, "office-filing-twin").await?;
    reviewer.press(".banner .chain a").await?;
    reviewer.wait_text("に紙で届きました").await?;
    inspector.must_have_found_nothing();
    Ok(())
}
