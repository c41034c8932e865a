//! What the 90 minutes cut off: an upload goes on in the next session, in the page itself.

use anyhow::{Context as _, Result, ensure};
use renkei_tests::browser::Browser;
use renkei_tests::job::{ADMIN_EMAIL, ADMIN_PASSWORD, ADMIN_USER_ID, AtWork, FILED_PDF, large_pdf};
use renkei_tests::pages::MemberPages;
use renkei_tests::process::wait_for;
use renkei_tests::{Stage, StageOptions};
use serde_json::json;

use super::uploads::document_behind;
use crate::browser::portal_key;
use crate::fleet::shorten_sessions;

/// Large enough, on a line of [`BYTES_PER_S`], for a session to end in the middle.
const LENGTH: usize = 40_000_000;
const BYTES_PER_S: u64 = 4_000_000;
/// What is there, at least, when the session ends: two parts.
const BEFORE_BYTES: usize = 8 * 1024 * 1024;

/// Keeps on `window.offsets` where each part of a file begins.
const WATCH: &str = "window.offsets = [];
    const real = window.fetch;
    window.fetch = (path, options) => {
        if (options && options.method === 'PATCH')
            window.offsets.push(Number(options.headers['upload-offset']));
        return real(path, options);
    };";

/// The clerk's window on the page where files are sent.
struct Filing<'a> {
    clerk: &'a Browser,
    stage: &'a Stage,
}

impl Filing<'_> {
    /// Opens the page in the session that `pages` is signed in to, on a line of so many bytes a
    /// second, or as fast as it goes.
    async fn open(&self, pages: &MemberPages, bytes_per_s: Option<u64>) -> Result<()> {
        let url = self.stage.member_url();
        let header = pages.site.cookie_header();
        self.clerk.take_cookies(&url, &header).await?;
        let line = json!({"offline": false, "latency": 0, "downloadThroughput": -1,
            "uploadThroughput": bytes_per_s.map_or(json!(-1), |rate| json!(rate))});
        self.clerk
            .devtools("Network.emulateNetworkConditions", line)
            .await?;
        self.clerk.go(&format!("{url}filings/new")).await?;
        self.clerk.client.execute(WATCH, vec![]).await?;
        Ok(())
    }

    async fn choose(&self, file: &std::path::Path) -> Result<()> {
        let field = self.clerk.find("#file-input").await?;
        Ok(field.send_keys(&file.to_string_lossy()).await?)
    }

    /// Where the parts began that this page has sent or is sending.
    async fn offsets(&self) -> Result<Vec<usize>> {
        let found = self
            .clerk
            .client
            .execute("return window.offsets", vec![])
            .await?;
        Ok(serde_json::from_value(found)?)
    }

    async fn says_one_of(&self, words: &[&str]) -> Result<()> {
        wait_for(&words.join(" or "), 90, async || {
            let text = self.clerk.text().await?;
            Ok(words.iter().any(|one| text.contains(one)).then_some(()))
        })
        .await
    }

    async fn first_offset(&self) -> Result<usize> {
        wait_for("the first part", 60, async || {
            Ok(self.offsets().await?.first().copied())
        })
        .await
    }

    async fn two_parts_are_there(&self) -> Result<()> {
        wait_for("two parts", 60, async || {
            let offsets = self.offsets().await?;
            Ok(offsets.iter().any(|at| *at >= BEFORE_BYTES).then_some(()))
        })
        .await
    }
}

/// R24, S003-24: the session ends in the middle of a file. In the next one the clerk chooses the
/// same file again, and what is missing is sent; another file of that name and length is sent
/// from its beginning.
#[tokio::test]
async fn a_file_cut_off_by_the_sessions_end_goes_on_in_the_next_session() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let mut work = AtWork::on(&stage).await?;
    let folder = stage.folder().join("browsers");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(FILED_PDF);
    let pdf = large_pdf(LENGTH, 90)?;
    std::fs::write(&file, &pdf)?;
    let key = portal_key(&stage.folder().join("pc1/data/enrolments"))?.context("a key")?;
    let proxy = work.agent.proxy()?;
    let clerk = Browser::open(&folder, "clerk", Some(&proxy), Some(&key)).await?;
    let filing = Filing {
        clerk: &clerk,
        stage: &stage,
    };
    filing.open(&work.pages, Some(BYTES_PER_S)).await?;
    filing.choose(&file).await?;
    filing.two_parts_are_there().await?;
    shorten_sessions(&stage, 0)?;
    work.agent.wait_state("ended").await?;
    // The tunnel's end or the portal's answer: whichever the page hears first, it says so.
    let reasons = ["通信が途切れました", "ログインの状態が終了しました"];
    filing.says_one_of(&reasons).await?;

    let pages = next_session(&stage, &mut work).await?;
    filing.open(&pages, None).await?;
    filing.choose(&file).await?;
    let first = filing.first_offset().await?;
    ensure!(first >= BEFORE_BYTES, "it went on at {first}");
    filing.says_one_of(&["送信が終わりました"]).await?;
    clerk.press("#upload-submit").await?;
    filing.says_one_of(&["届書を受け付けました"]).await?;
    let receipt = clerk.client.current_url().await?;
    ensure!(
        document_behind(&pages, receipt.path()).await? == pdf,
        "another document than the one that was sent"
    );

    // Another file of this name and length.
    filing.open(&pages, Some(BYTES_PER_S)).await?;
    filing.choose(&file).await?;
    filing.two_parts_are_there().await?;
    std::fs::write(&file, large_pdf(LENGTH, 91)?)?;
    filing.open(&pages, Some(BYTES_PER_S)).await?;
    filing.choose(&file).await?;
    let first = filing.first_offset().await?;
    ensure!(first == 0, "another file was sent from {first} on");
    Ok(())
}

/// 接続, and the sign-in that every session wants.
async fn next_session(stage: &Stage, work: &mut AtWork) -> Result<MemberPages> {
    let codes = stage.mailbox().codes_sent(ADMIN_EMAIL)?;
    work.agent.connect().await?;
    let code = stage.mailbox().wait_code(ADMIN_EMAIL, codes).await?;
    let pages = MemberPages::through(stage, &work.agent)?;
    let page = pages.sign_in(ADMIN_USER_ID, ADMIN_PASSWORD, &code).await?;
    ensure!(page.path == "/", "{}: {}", page.path, page.text());
    Ok(pages)
}
