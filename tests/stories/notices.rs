//! Notices issued in a batch, and what an establishment does with them.

use anyhow::{Context as _, Result, ensure};
use renkei_tests::batches::supervisor;
use renkei_tests::job::{ADMIN_EMAIL, ADMIN_PASSWORD, AtWork};
use renkei_tests::stage::ESTABLISHMENT_NAME;
use renkei_tests::{Stage, StageOptions};
use reqwest::StatusCode;

/// S003-01 掛金計算書 and 納入告知書 come down; S003-08 PDF or a zip with the password;
/// S003-46 the establishment downloads them. R9: another's page stops a batch, a second person
/// releases, a fetched notice cannot be recalled. R10: the pack of records verifies offline.
#[tokio::test]
async fn a_months_contributions_go_from_one_csv_to_the_establishments_records() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let (office, clerk) = (&work.office, &work.pages);
    let boss = supervisor(&stage).await?;

    // A line that does not add up stops everything, and is named.
    let (_, template) = office.site.download("/batches/template.csv").await?;
    let csv = String::from_utf8(template)?.replace("見本製作所株式会社", ESTABLISHMENT_NAME);
    let wrong = csv.replace("53700", "53701");
    let files = vec![("掛金.csv".to_owned(), wrong.into_bytes())];
    let stopped = office.drop_batch("csv", "2026-10", files).await?;
    stopped.must_say("2行目")?.must_say("合計額が合いません")?;
    // So does a PDF that speaks of another establishment: read by the portal's own worker.
    let files = vec![(
        "20261112_0123_お知らせ.pdf".to_owned(),
        renkei_tests::job::corpus("good/20240229_0123_資格喪失届.pdf")?,
    )];
    let checked = office.drop_batch("files", "2026-09", files).await?;
    checked.must_say("1件（1事業所）")?;

    // The right one is looked at, proposed, and released by somebody else.
    let files = vec![("掛金.csv".to_owned(), csv.into_bytes())];
    let batch = office.drop_batch("csv", "2026-10", files).await?;
    batch.must_say("2件（1事業所）")?.must_say("53,700円")?;
    office.propose_batch(&batch).await?;
    clerk
        .site
        .get("/notices")
        .await?
        .must_say("まだ通知書は届いていません")?;
    boss.approve_proposal().await?;
    let subject = "新しい通知書のお知らせ";
    let mail = stage
        .mailbox()
        .wait(ADMIN_EMAIL, 0, |mail| mail.subject.contains(subject))
        .await?;
    ensure!(!mail.body.contains("53") && !mail.body.contains(ESTABLISHMENT_NAME));

    // The clerk takes everything unread at once; the zip opens with the shown password.
    let zip = clerk.take_file("/notices", "/notices/unread").await?;
    let password = clerk.zip_password(ADMIN_PASSWORD).await?;
    let folder = stage.folder().join("clerk");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("unread.zip"), zip)?;
    let unpacked = std::process::Command::new("7z")
        .args(["x", "-y", &format!("-p{}", password.replace(' ', ""))])
        .arg(format!("-o{}", folder.join("unread").display()))
        .arg(folder.join("unread.zip"))
        .output()
        .context("7z is installed")?;
    ensure!(unpacked.status.success(), "7z: {unpacked:?}");
    ensure!(std::fs::read_dir(folder.join("unread"))?.count() == 2);
    let list = clerk.site.get("/notices").await?;
    let notice = list
        .links("/notices/0")
        .into_iter()
        .next()
        .context("a notice")?;
    let (_, pdf) = clerk.site.download(&format!("{notice}.pdf")).await?;
    ensure!(pdf.starts_with(b"%PDF-"));

    // The office sees it, and can no longer take it back.
    office
        .site
        .get(&batch.path)
        .await?
        .must_say("受取済 2件、未受領 0件")?;
    let page = office.site.get(&notice).await?;
    ensure!(
        page.form("/recall").is_err(),
        "a fetched notice shows a recall"
    );

    // The records of the year, verified by somebody with nothing but the public key.
    let records = clerk
        .site
        .get("/records?from=2020-01-01&least=53700&most=53700")
        .await?;
    records.must_say("検索の結果（2件）")?;
    let pack = clerk.take_file("/records", "/records/pack").await?;
    let path = folder.join("records.zip");
    std::fs::write(&path, &pack)?;
    let key = stage.portal_command(&["records", "key"]).output()?;
    let key = String::from_utf8(key.stdout)?.trim().to_owned();
    ensure!(records.text().contains(&key), "the page shows the key");
    let place = path.to_str().context("a path")?;
    let verify = |arguments: &[&str]| stage.portal_command(arguments).output();
    let good = verify(&["records", "verify", place, "--key", &key])?;
    ensure!(good.status.success(), "{good:?}");
    ensure!(verify(&["records", "verify", place])?.status.success());
    let mut spoilt = pack;
    let middle = spoilt.len() / 2;
    spoilt[middle] ^= 1;
    std::fs::write(&path, spoilt)?;
    let bad = verify(&["records", "verify", place, "--key", &key])?;
    ensure!(bad.status.code() == Some(1), "{bad:?}");

    // A stranger to the role does not find the pages.
    let hidden = clerk.site.open("/batches").await?;
    ensure!(hidden.status == StatusCode::NOT_FOUND);
    Ok(())
}
