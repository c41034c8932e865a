//! Filing without scripts: switched off in the browser, or kept from it on the way.

use anyhow::{Context as _, Result, ensure};
use renkei_tests::browser::Browser;
use renkei_tests::job::{AtWork, CORPUS_PASSWORD};
use renkei_tests::{Stage, StageOptions};
use serde_json::json;

use super::newcomers::Person;
use crate::browser::{Inspector, corpus, portal_key};

const PDF: &str = "20240229_0123_資格喪失届.pdf";
const ZIP: &str = "20240524_0123_資格取得届.zip";

/// S003-44, S003-45: a clerk in whose browser scripts are off finds the plain page and hands in
/// a PDF that the form names, and a password zip; another's security program keeps the page's
/// script away, and the page still says where to go.
#[tokio::test]
async fn a_filing_is_handed_in_with_scripts_off_and_with_the_script_kept_away() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let folder = stage.folder().join("browsers");
    std::fs::create_dir_all(&folder)?;
    let key = portal_key(&stage.folder().join("pc1/data/enrolments"))?.context("a key")?;
    let proxy = work.agent.proxy()?;
    let clerk = Browser::open(&folder, "clerk", Some(&proxy), Some(&key)).await?;
    let inspector = Inspector::new()?;
    let base = stage.member_url();
    clerk
        .take_cookies(&base, &work.pages.site.cookie_header())
        .await?;
    clerk.go(&format!("{base}filings/plain")).await?;
    inspector.look(&clerk, "member-plain").await?;

    let off = json!({"value": true});
    clerk
        .devtools("Emulation.setScriptExecutionDisabled", off)
        .await?;
    let person = Person(&clerk);
    clerk.go(&base).await?;
    person.click("届書を提出する").await?;
    person.reads("この画面ではJavaScriptを使います").await?;
    person.click("簡易の画面から1つずつ提出する").await?;
    person.reads("いつもの画面が使えないとき").await?;
    // Sent too early, the page says what is missing, and keeps the rest.
    person
        .field("届書のファイル")
        .await?
        .send_keys(&corpus(&format!("good/{ZIP}")))
        .await?;
    person.press("提出する").await?;
    person.reads("パスワード").await?;
    person.reads("いまのファイル").await?;
    person
        .fill("zipファイルのパスワード", CORPUS_PASSWORD)
        .await?;
    person.press("提出する").await?;
    person.reads("届書を受け付けました").await?;
    person.reads("20240524_0123_資格取得届").await?;

    let scan = stage.folder().join("scan0001.pdf");
    std::fs::copy(corpus(&format!("good/{PDF}")), &scan)?;
    person.click("届書を提出する").await?;
    person.click("簡易の画面から1つずつ提出する").await?;
    let scan = scan.to_str().context("a path")?;
    person
        .field("届書のファイル")
        .await?
        .send_keys(scan)
        .await?;
    person
        .field("届書名称")
        .await?
        .select_by_label("資格喪失届")
        .await?;
    person.press("提出する").await?;
    person.reads("届書を受け付けました").await?;
    person.reads("資格喪失届").await?;
    work.office
        .site
        .get("/filings")
        .await?
        .must_say("資格喪失届")?;

    let on = json!({"value": false});
    clerk
        .devtools("Emulation.setScriptExecutionDisabled", on)
        .await?;
    clerk.devtools("Network.enable", json!({})).await?;
    let kept = json!({"urls": ["*upload*.js*"]});
    clerk.devtools("Network.setBlockedURLs", kept).await?;
    clerk.go(&format!("{base}filings/new")).await?;
    let shown = "return document.getElementById('upload').hidden";
    let hidden = clerk.client.execute(shown, vec![]).await?;
    ensure!(hidden == true, "the script did not run");
    person.click("簡易の画面から1つずつ提出する").await?;
    person.reads("いつもの画面が使えないとき").await?;
    inspector.must_have_found_nothing();
    clerk.close().await
}
