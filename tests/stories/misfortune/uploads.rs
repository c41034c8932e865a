//! Uploads and hand-ins that something comes between.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::channel::Channel;
use renkei_tests::disk::{SmallDisk, in_a_namespace_of_its_own, may_mount};
use renkei_tests::job::{AtWork, FILED_PDF, corpus, upload_id};
use renkei_tests::process::wait_for;
use renkei_tests::{MemberPages, Stage, StageOptions};
use reqwest::StatusCode;

/// How long things may take to be well again, in seconds.
const RECOVERY_S: u64 = 15;

#[tokio::test]
async fn what_was_accepted_survives_kill_9_of_the_portal() -> Result<()> {
    let mut stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let pdf = corpus(&format!("good/{FILED_PDF}"))?;
    let receipt = work.pages.file(FILED_PDF, &pdf, None).await?;
    stage.portal.kill();

    stage.restart_portal().await?;
    wait_for("the pages", RECOVERY_S, async || {
        work.pages.site.get("/").await.map(Some)
    })
    .await?;
    ensure!(
        document_behind(&work.pages, &receipt).await? == pdf,
        "another document than the one that was accepted"
    );
    Ok(())
}

#[tokio::test]
async fn an_upload_that_kill_9_cut_goes_on_in_the_same_session() -> Result<()> {
    let mut stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let pdf = corpus(&format!("good/{FILED_PDF}"))?;
    let third = pdf.len() / 3;
    let location = begin(&work.pages, &pdf, third).await?;
    let csrf = work.pages.csrf().await?;

    let (mut sender, body) = Channel::<Bytes>::new(1);
    let part = work
        .pages
        .send_part(&location, &csrf, third, reqwest::Body::wrap(body));
    let cut = async {
        for few in pdf[third..2 * third].chunks(512) {
            // Returns when the one before is on its way.
            sender
                .send_data(Bytes::copy_from_slice(few))
                .await
                .context("send")?;
        }
        stage.portal.kill();
        // The rest would come now, but there is nobody to take it.
        anyhow::Ok(sender)
    };
    let (answer, kept_open) = tokio::join!(part, cut);
    drop(kept_open);
    ensure!(answer.is_err(), "a killed portal answered: {answer:?}");

    stage.restart_portal().await?;
    let offset = wait_for("the offset", RECOVERY_S, async || {
        work.pages.offset(&location).await.map(Some)
    })
    .await?;
    ensure!(offset == third, "{offset} of {third}");
    finish(&work.pages, &location, &pdf, offset).await
}

#[tokio::test]
async fn a_part_whose_connection_is_cut_counts_for_nothing() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let pdf = corpus(&format!("good/{FILED_PDF}"))?;
    let third = pdf.len() / 3;
    let location = begin(&work.pages, &pdf, third).await?;
    let csrf = work.pages.csrf().await?;

    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
    let part = work
        .pages
        .send_part(&location, &csrf, third, reqwest::Body::wrap(body));
    let cut = async {
        for few in pdf[third..2 * third].chunks(512) {
            // Returns when the one before is on its way.
            sender
                .send_data(Bytes::copy_from_slice(few))
                .await
                .context("send")?;
        }
        sender.abort(std::io::Error::other("the line broke"));
        anyhow::Ok(())
    };
    let (answer, cut) = tokio::join!(part, cut);
    cut?;
    ensure!(answer.is_err(), "a cut part was answered: {answer:?}");

    let offset = work.pages.offset(&location).await?;
    ensure!(offset == third, "{offset} of {third}");
    let elsewhere = work
        .pages
        .send_part(&location, &csrf, 2 * third, pdf[2 * third..].to_vec())
        .await?;
    ensure!(
        elsewhere.status() == StatusCode::CONFLICT,
        "a gap was taken: {}",
        elsewhere.status()
    );
    finish(&work.pages, &location, &pdf, offset).await
}

#[tokio::test]
async fn a_full_disk_refuses_an_upload_and_keeps_nothing_of_it() -> Result<()> {
    if !may_mount() {
        return in_a_namespace_of_its_own(
            "misfortune::uploads::a_full_disk_refuses_an_upload_and_keeps_nothing_of_it",
        );
    }
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let disk = SmallDisk::at(&stage.documents())?;
    let pdf = corpus(&format!("good/{FILED_PDF}"))?;
    let location = work.pages.begin_upload(FILED_PDF, pdf.len()).await?;
    let csrf = work.pages.csrf().await?;
    disk.fill()?;

    let refused = work
        .pages
        .send_part(&location, &csrf, 0, pdf.clone())
        .await?;
    let status = refused.status();
    let told = refused.text().await?;
    ensure!(status.is_server_error(), "a full disk answers {status}");
    ensure!(told.contains("書類の保管場所に空きがない"), "{told}");
    ensure!(work.pages.offset(&location).await? == 0, "something counts");
    let left = disk.files()?;
    ensure!(left.is_empty(), "half stored: {left:?}");

    disk.free()?;
    finish(&work.pages, &location, &pdf, 0).await
}

/// Begins an upload of `pdf` and sends its first `length` bytes.
async fn begin(pages: &MemberPages, pdf: &[u8], length: usize) -> Result<String> {
    let location = pages.begin_upload(FILED_PDF, pdf.len()).await?;
    let csrf = pages.csrf().await?;
    let taken = pages
        .send_part(&location, &csrf, 0, pdf[..length].to_vec())
        .await?;
    ensure!(
        taken.status() == StatusCode::NO_CONTENT,
        "{}",
        taken.status()
    );
    Ok(location)
}

/// Sends the rest, hands in, and compares what the fund then has.
async fn finish(pages: &MemberPages, location: &str, pdf: &[u8], offset: usize) -> Result<()> {
    pages.finish_upload(location, pdf, offset).await?;
    let (status, answer) = pages.hand_in(&[(upload_id(location), None)]).await?;
    ensure!(status == StatusCode::CREATED, "{status} {answer:#}");
    let receipt = answer["receipt"].as_str().context("a receipt")?;
    ensure!(
        document_behind(pages, receipt).await? == pdf,
        "another document than the one that was sent"
    );
    Ok(())
}

/// The document of the only filing on a receipt.
pub async fn document_behind(pages: &MemberPages, receipt: &str) -> Result<Vec<u8>> {
    let receipt = pages.site.get(receipt).await?;
    let filing = receipt
        .links("/filings/")
        .into_iter()
        .find(|path| !path.ends_with("/new"))
        .context("a filing")?;
    let (_, document) = pages
        .site
        .download(&format!("{filing}/document.pdf"))
        .await?;
    Ok(document)
}
