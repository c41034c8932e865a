//! The main job, from the registration to the notice in hand, checked with other people's
//! tools: 7-Zip, Poppler, QPDF, SQLite's and PostgreSQL's own.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use renkei_tests::job::{
    ADMIN_EMAIL, ADMIN_NAME, ADMIN_PASSWORD, AtWork, CORPUS_PASSWORD, FILED_PDF, FILED_ZIP, corpus,
};
use renkei_tests::pages::Site;
use renkei_tests::process::{output, wait_for};
use renkei_tests::{Database, Stage, StageOptions, postgres};
use sha2::{Digest as _, Sha256};

/// S003-01, S003-02, S003-08, S003-20, S003-34, S003-35, S003-43, S003-44, S003-46: a filing goes up and a notice
/// comes down, each in a password zip or as it is, without paper, post or days of waiting.
#[tokio::test]
async fn the_main_job_is_done_on_sqlite() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    the_main_job(&stage).await?;
    let file = stage.sqlite_file();
    audit_finds_a_changed_row(&stage, |sql| {
        const SCRIPT: &str = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=10)
assert db.execute(sys.argv[2]).rowcount == 1
db.commit()";
        output(
            Command::new("/usr/bin/python3")
                .args(["-c", SCRIPT])
                .arg(&file)
                .arg(sql),
        )
    })
}

#[tokio::test]
async fn the_main_job_is_done_on_postgresql() -> Result<()> {
    let database = postgres::database()?;
    let options = StageOptions {
        database: Database::Postgres(database.clone()),
        ..StageOptions::default()
    };
    let stage = Stage::start(options).await?;
    the_main_job(&stage).await?;
    audit_finds_a_changed_row(&stage, |sql| {
        let done = postgres::query(&database, sql)?;
        ensure!(done.trim() == "UPDATE 1", "{done}");
        Ok(done)
    })
}

async fn the_main_job(stage: &Stage) -> Result<()> {
    let work = AtWork::on(stage).await?;

    // The clerk files a password zip and a bare PDF, and gets a receipt with fingerprints.
    let zip = corpus(&format!("good/{FILED_ZIP}"))?;
    let pdf = corpus(&format!("good/{FILED_PDF}"))?;
    let uploads = [
        (
            work.pages.upload(FILED_ZIP, &zip).await?,
            Some(CORPUS_PASSWORD),
        ),
        (work.pages.upload(FILED_PDF, &pdf).await?, None),
    ];
    let (status, answer) = work.pages.hand_in(&uploads).await?;
    let receipt = answer["receipt"]
        .as_str()
        .with_context(|| format!("{status} {answer:#}"))?;
    let receipt = work.pages.site.get(receipt).await?;
    let zip_file = kept(stage, "filed.zip", &zip)?;
    let entry = Command::new("7z")
        .arg(format!("-p{CORPUS_PASSWORD}"))
        .args(["x", "-so"])
        .arg(&zip_file)
        .output()?
        .stdout;
    ensure!(entry.starts_with(b"%PDF-"), "7z opens the corpus's zip");
    for bytes in [&zip, &pdf, &entry] {
        receipt.must_say(&sha256(bytes))?;
    }
    let receipt_path = receipt
        .links("receipt.pdf")
        .first()
        .context("a receipt as PDF")?
        .clone();
    let (_, receipt_pdf) = work.pages.site.download(&receipt_path).await?;
    sound_pdf(&kept(stage, "receipt.pdf", &receipt_pdf)?)?;

    // Staff take the oldest filing, decide, and issue the notice.
    let filing = work.office.take_oldest().await?;
    work.office.decide(&filing).await?;
    let office_side = work.office.site.get(&filing).await?.timeline();
    let member_side = work.pages.site.get(&filing).await?.timeline();
    ensure!(
        office_side.len() >= 3 && office_side == member_side,
        "the office reads {office_side:?}, the establishment {member_side:?}"
    );

    // The clerk is told by mail and fetches the notice.
    stage
        .mailbox()
        .wait(ADMIN_EMAIL, 0, |mail| mail.subject.contains("通知書"))
        .await?;
    for mail in stage.mailbox().mails()? {
        for word in [
            ADMIN_NAME, "見本", "太郎", "髙﨑", "一郎", "0001234", "320000",
        ] {
            let told = format!("{}\n{}", mail.subject, mail.body);
            let told = told.replace(renkei_tests::stage::FUND_NAME, "");
            ensure!(!told.contains(word), "a mail says {word}: {told}");
        }
        let attached = mail.raw.to_lowercase().contains("content-disposition");
        ensure!(!attached, "a mail carries a file: {}", mail.raw);
    }
    let list = work.pages.site.get("/notices").await?;
    let notice = list
        .links("/notices/")
        .into_iter()
        .next()
        .with_context(|| list.text())?;
    let (_, direct) = work.pages.site.download(&format!("{notice}.pdf")).await?;
    let (_, zipped) = work.pages.site.download(&format!("{notice}.zip")).await?;
    let direct_file = kept(stage, "notice.pdf", &direct)?;
    ensure!(
        sound_pdf(&direct_file)?.contains("髙﨑"),
        "the notice names 髙﨑"
    );
    work.pages
        .site
        .get(&notice)
        .await?
        .must_say(&sha256(&direct))?;

    // The zip opens with the establishment's password and no other.
    let zipped_file = kept(stage, "notice.zip", &zipped)?;
    let password = work.pages.zip_password(ADMIN_PASSWORD).await?;
    let unzipped = unzip(&zipped_file, &password)?;
    ensure!(unzipped.status.success(), "7z opens the notice's zip");
    ensure!(
        sha256(&unzipped.stdout) == sha256(&direct),
        "the zip holds the PDF"
    );
    for wrong in [CORPUS_PASSWORD, ADMIN_PASSWORD, "x"] {
        let tried = unzip(&zipped_file, wrong)?;
        ensure!(
            !tried.status.success() && !tried.stdout.starts_with(b"%PDF-"),
            "7z opens the notice's zip with {wrong}"
        );
    }
    let read = read_at_the_agents_page(stage, &zipped_file, &password).await?;
    ensure!(sha256(&read) == sha256(&direct), "the agent shows the PDF");
    let listed = output(Command::new("7z").args(["l", "-slt"]).arg(&zipped_file))?;
    ensure!(listed.contains("AES-256"), "the zip is AES-256: {listed}");
    Ok(())
}

/// Opens a zip with `vpn-agent open FILE` and returns what its page then shows.
async fn read_at_the_agents_page(stage: &Stage, zip: &Path, password: &str) -> Result<Vec<u8>> {
    const PAGE: &str = "http://renkei-agent.invalid";
    let mut agent = stage.agent("reader")?;
    agent.start(&["open", "--no-browser", &zip.display().to_string()])?;
    let launch = wait_for("the window's address", 30, async || {
        let log = agent.log_text();
        let address = log.lines().find_map(|line| line.strip_prefix(PAGE));
        Ok(address.map(str::to_owned))
    })
    .await?;
    let status = agent.status()?;
    let proxy = status["proxy"].as_str().context("the agent has a proxy")?;
    let site = Site::new(PAGE, &stage.ca_file(), Some(proxy))?;
    let asked = site.get(&launch).await?;
    let form = asked.form("/documents/unlock")?;
    let refused = site
        .submit(&form.clone().fill("password", "wrong")?)
        .await?;
    refused.must_say("パスワードが違います")?;
    let list = site.submit(&form.fill("password", password)?).await?;
    let documents = list.links("/documents/");
    let document = documents.first().with_context(|| list.text())?;
    let (_, bytes) = site.download(document).await?;
    agent.stop()?;
    Ok(bytes)
}

fn audit_finds_a_changed_row(stage: &Stage, change: impl Fn(&str) -> Result<String>) -> Result<()> {
    let verified = output(&mut stage.portal_command(&["audit", "verify"]))?;
    ensure!(verified.contains("unbroken"), "{verified}");
    change("UPDATE audit_log SET reason='x' WHERE seq=5")?;
    let verified = stage.portal_command(&["audit", "verify"]).output()?;
    let told = String::from_utf8_lossy(&verified.stderr);
    ensure!(verified.status.code() == Some(1), "{verified:?}");
    ensure!(
        told.split(|c: char| !c.is_ascii_digit())
            .any(|word| word == "5"),
        "the changed row is named: {told}"
    );
    Ok(())
}

fn kept(stage: &Stage, name: &str, bytes: &[u8]) -> Result<std::path::PathBuf> {
    let file = stage.folder().join(name);
    std::fs::write(&file, bytes)?;
    Ok(file)
}

/// Checks a PDF with QPDF and returns what Poppler reads in it.
fn sound_pdf(file: &Path) -> Result<String> {
    output(Command::new("qpdf").arg("--check").arg(file))?;
    output(
        Command::new("pdftotext")
            .args(["-enc", "UTF-8"])
            .arg(file)
            .arg("-"),
    )
}

fn unzip(file: &Path, password: &str) -> Result<std::process::Output> {
    Ok(Command::new("7z")
        .arg(format!("-p{password}"))
        .args(["x", "-so"])
        .arg(file)
        .output()?)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
