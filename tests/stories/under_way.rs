//! Transfers that are under way when somebody loses the right to them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::channel::Channel;
use renkei_tests::MemberPages;
use reqwest::{Method, StatusCode};

/// The upload, and its parts, in bytes.
const UPLOAD_BYTES: usize = 50_000_000;
const PART_BYTES: usize = 8 * 1024 * 1024;
/// How long a transfer must have gone on before it is cut.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// Sends the first part of a file and begins the second, slowly; then lets `end` happen, which
/// must cut it `within` that time.
pub async fn upload_is_cut(
    pages: &MemberPages,
    within: Duration,
    end: impl Future<Output = Result<()>>,
) -> Result<()> {
    let location = pages.begin_upload("届書.pdf", UPLOAD_BYTES).await?;
    let csrf = pages.csrf().await?;
    let first = pages
        .send_part(&location, &csrf, 0, vec![0; PART_BYTES])
        .await?;
    ensure!(
        first.status() == StatusCode::NO_CONTENT,
        "{}",
        first.status()
    );
    let (mut sender, body) = Channel::<Bytes>::new(1);
    let feeding = tokio::spawn(async move {
        let few = Bytes::from_static(&[0; 16 * 1024]);
        // Slow enough that the part would take half a minute.
        while sender.send_data(few.clone()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    });
    let mut part =
        Box::pin(pages.send_part(&location, &csrf, PART_BYTES, reqwest::Body::wrap(body)));
    let early = tokio::time::timeout(UNDER_WAY, &mut part).await;
    ensure!(early.is_err(), "the part ended by itself: {early:?}");
    end.await?;
    let cut = tokio::time::timeout(within, part)
        .await
        .with_context(|| format!("the upload went on for {within:?}"))?;
    ensure!(cut.is_err(), "a cut part was answered: {cut:?}");
    feeding.abort();
    Ok(())
}

/// Reads a document slowly; then lets `end` happen, after which it must break `within` that
/// time, however fast it is read.
pub async fn download_is_cut(
    pages: &MemberPages,
    path: &str,
    within: Duration,
    end: impl Future<Output = Result<()>>,
) -> Result<()> {
    let request = pages.site.request(Method::GET, path);
    let mut answer = pages.site.send(request).await?;
    ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
    let whole = answer.content_length().context("a length")?;
    let mut read = 0;
    let slowly = async {
        while let Some(few) = answer.chunk().await? {
            read += few.len() as u64;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::Ok(())
    };
    let early = tokio::time::timeout(UNDER_WAY, slowly).await;
    ensure!(early.is_err(), "the download ended by itself: {early:?}");
    ensure!(read > 0 && read < whole / 2, "{read} of {whole}");
    end.await?;
    tokio::time::sleep(within).await;
    // What was on its way already may still come; the whole must not.
    let rest = async {
        while let Ok(Some(few)) = answer.chunk().await {
            read += few.len() as u64;
        }
    };
    tokio::time::timeout(within, rest)
        .await
        .context("the download hangs")?;
    ensure!(read < whole, "all of it came");
    Ok(())
}
