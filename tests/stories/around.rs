//! What stands around the exchange: the history, announcements, questions, mails that come back,
//! figures.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use renkei_tests::job::{ADMIN_EMAIL, ADMIN_NAME, AtWork, FILED_PDF, corpus};
use renkei_tests::{Stage, StageOptions};

/// S003-03, S003-12, S003-28, S003-49: what was sent stands in both histories and in their files;
/// the office tells the establishments something and answers a question; a mail that comes back
/// becomes a task; the figures count what happened.
#[tokio::test]
async fn what_was_sent_is_found_told_asked_and_counted() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let (clerk, office) = (&work.pages.site, &work.office.site);
    work.pages
        .file(FILED_PDF, &corpus(&format!("good/{FILED_PDF}"))?, None)
        .await?;

    let name = FILED_PDF.trim_end_matches(".pdf");
    for site in [clerk, office] {
        let found = site.get(&format!("/history?text={name}")).await?;
        found.must_say(name)?.must_say(ADMIN_NAME)?;
        let (_, csv) = site.download("/history.csv?entry=filed").await?;
        ensure!(
            csv.starts_with(b"\xEF\xBB\xBF"),
            "Excel knows it by its mark"
        );
        ensure!(String::from_utf8(csv)?.contains(name), "the file holds it");
        let (_, book) = site.download("/history.xlsx").await?;
        ensure!(book.starts_with(b"PK"), "a workbook");
    }

    let form = office.get("/announcements/new").await?;
    let form = form.form("/announcements/new")?;
    let form = form
        .fill("title", "システム停止のお知らせ")?
        .fill("body", "20日は休みます。\n\n[届書を提出する](/filings/new)")?;
    office.submit(&form).await?.must_say("掲載中")?;
    let home = clerk.get("/").await?;
    home.must_say("システム停止のお知らせ")?;
    let links = home.links("/announcements/");
    let read = clerk.get(links.first().context("its page")?).await?;
    ensure!(!read.links("/filings/new").is_empty(), "its link leads on");
    let home = clerk.get("/").await?;
    ensure!(!home.text().contains("システム停止"), "it is read now");

    let form = clerk.get("/contact").await?.form("/contact")?;
    let form = form
        .fill("subject", "several_establishments")?
        .fill("text", "二つの事業所で使えますか。")?;
    clerk.submit(&form).await?.must_say("回答待ち")?;
    let waiting = office.get("/inquiries").await?;
    let links = waiting.links("/inquiries/");
    let thread = office.get(links.first().context("the question")?).await?;
    thread.must_say("二つの事業所で使えますか。")?;
    let answer = thread.form(links.first().context("the thread")?)?;
    let answer = answer.fill("text", "使えます。お電話します。")?;
    office.submit(&answer).await?.must_say("回答済み")?;
    let mailbox = stage.mailbox();
    let told = mailbox.wait(ADMIN_EMAIL, 0, |mail| mail.subject.contains("回答"));
    let told = told.await?;
    ensure!(
        !told.body.contains("事業所で"),
        "the mail says nothing of it"
    );
    let threads = clerk.get("/contact").await?.links("/contact/");
    let thread = clerk.get(threads.first().context("the thread")?).await?;
    thread.must_say("使えます。お電話します。")?;

    let id = told
        .raw
        .lines()
        .find_map(|line| {
            line.to_lowercase()
                .strip_prefix("message-id:")
                .map(str::to_owned)
        })
        .context("a Message-ID")?;
    let report = format!(
        "Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\n\
         Reporting-MTA: dns; mx\n\nFinal-Recipient: rfc822; {ADMIN_EMAIL}\nAction: failed\n\
         Status: 5.1.1\n\n--b\nContent-Type: text/rfc822-headers\n\nMessage-ID: {id}\n\n--b--\n"
    );
    let mut portal = stage
        .portal_command(&["mail", "bounce"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = portal.stdin.take().context("its standard input")?;
    stdin.write_all(report.as_bytes())?;
    drop(stdin);
    let said = String::from_utf8(portal.wait_with_output()?.stdout)?;
    ensure!(
        said.starts_with("1 reports on mails of ours, 1 new tasks"),
        "{said}"
    );
    let tasks = office.get("/tasks").await?;
    tasks.must_say("メールアドレスがありません")?;
    let done = tasks.form("/done")?.with("outcome", "address_confirmed");
    office
        .submit(&done)
        .await?
        .must_say("対応が必要なタスクはありません")?;

    let (_, csv) = office.download("/reports.csv").await?;
    let csv = String::from_utf8(csv)?;
    ensure!(csv.contains("\"資格喪失届\",\"届書の提出\",\"1\""), "{csv}");
    ensure!(!csv.contains(ADMIN_NAME), "no person in it");
    for site in [clerk, office] {
        for topic in site.get("/help").await?.links("/help/") {
            site.get(&topic).await?;
        }
    }
    Ok(())
}
