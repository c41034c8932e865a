//! Filing over the real tunnel: any name, a cut upload, paper, and a receipt that proves itself.

use anyhow::{Context as _, Result, ensure};
use renkei_tests::job::{AtWork, FILED_PDF, corpus, upload_id};
use renkei_tests::process::output;
use renkei_tests::{Stage, StageOptions};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// S003-01, S003-09, S003-10, S003-44, S003-45: a scan of any name goes up in parts, one of
/// which is damaged on its way; the portal reads what it is and writes its name; a form with a
/// seal is sent to the post; the receipt is true to the page and to the command line, and an
/// edited copy is not.
#[tokio::test]
async fn a_scan_of_any_name_becomes_a_filing_with_a_receipt_that_proves_itself() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let site = &work.pages.site;
    let csrf = work.pages.csrf().await?;
    let pdf = corpus(&format!("good/{FILED_PDF}"))?;

    let known = site.send(site.request(Method::OPTIONS, "/uploads")).await?;
    ensure!(
        known.headers()["tus-extension"]
            .to_str()?
            .contains("checksum")
    );
    let location = work
        .pages
        .begin_upload("スキャン_0001.pdf", pdf.len())
        .await?;
    let part = |checksum: &'static str| {
        site.request(Method::PATCH, &location)
            .header("renkei-csrf", &csrf)
            .header("tus-resumable", "1.0.0")
            .header("content-type", "application/offset+octet-stream")
            .header("upload-offset", 0)
            .header("upload-checksum", checksum)
            .body(pdf[..100].to_vec())
    };
    let damaged = site.send(part("sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=")).await?;
    ensure!(damaged.status().as_u16() == 460, "{}", damaged.status());
    ensure!(
        work.pages.offset(&location).await? == 0,
        "a damaged part was kept"
    );
    work.pages.finish_upload(&location, &pdf, 0).await?;
    let page = site.get("/filings/new").await?;
    page.must_say("スキャン_0001.pdf")?;
    page.must_say("預金口座振替依頼書")?
        .must_say("郵送することができます")?;

    let name = site
        .send(site.request(Method::GET, &format!("{location}/name")))
        .await?;
    let name: Value = name.json().await?;
    ensure!(
        name["is_right"] == false && name["kind"] == "loss",
        "{name}"
    );
    let hand_in = async |names: Value| -> Result<(StatusCode, Value)> {
        let file = json!({ "upload": upload_id(&location), "names": names });
        let request = site
            .request(Method::POST, "/filings")
            .header("renkei-csrf", &csrf)
            .json(&json!({ "files": [file] }));
        let answer = site.send(request).await?;
        Ok((answer.status(), answer.json().await?))
    };
    let on_paper = json!([{ "entry": null, "date": name["date"], "kind": "bank-transfer" }]);
    let (status, answer) = hand_in(on_paper).await?;
    ensure!(status == StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    ensure!(answer.to_string().contains("郵送してください"), "{answer}");
    let chosen = json!([{ "entry": null, "date": name["date"], "kind": name["kind"] }]);
    let (status, answer) = hand_in(chosen).await?;
    ensure!(status == StatusCode::CREATED, "{answer}");

    let receipt = answer["receipt"].as_str().context("a receipt")?;
    let page = site.get(receipt).await?;
    page.must_say("資格喪失届")?
        .must_say("の掛金から反映する予定")?;
    let (_, paper) = site.download(&format!("{receipt}/receipt.pdf")).await?;
    let file = stage.folder().join("receipt.pdf");
    std::fs::write(&file, &paper)?;
    let key = output(&mut stage.portal_command(&["receipt", "key"]))?;
    let verify = |path: &std::path::Path| {
        let path = path.display().to_string();
        let arguments = ["receipt", "verify", &path, "--key", key.trim()];
        output(stage.program("portal").args(arguments).env_clear())
    };
    let said = verify(&file)?;
    ensure!(
        said.contains("VALID") && said.contains("establishment: 0123"),
        "{said}"
    );
    let edited = stage.folder().join("edited.pdf");
    let mut bytes = paper.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&edited, bytes)?;
    ensure!(
        verify(&edited).is_err(),
        "an edited receipt was taken for a true one"
    );
    Ok(())
}
