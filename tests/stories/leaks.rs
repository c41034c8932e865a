//! What a thief of the logs, the mails, the database or the documents folder would find.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use renkei_tests::job::{
    ADMIN_EMAIL, ADMIN_NAME, ADMIN_PASSWORD, AtWork, CORPUS_PASSWORD, FILED_PDF, FILED_ZIP, corpus,
};
use renkei_tests::process::{output, wait_for};
use renkei_tests::{Stage, StageOptions};
use reqwest::StatusCode;

/// Invented individual numbers with the right check digit: in two filings of the corpus, and in
/// the name of a file.
const INDIVIDUAL_NUMBERS: [&str; 3] = ["032892184010", "4341 9254 1220", "1234 5678 9018"];

#[tokio::test]
async fn no_log_mail_database_or_document_gives_a_secret_away() -> Result<()> {
    let mut stage = Stage::start(StageOptions {
        log: "info,portal=debug,gateway=debug,tunnel=debug,vpn_agent=debug".into(),
        ..StageOptions::default()
    })
    .await?;
    let mut work = AtWork::on(&stage).await?;
    work.pages
        .file(
            FILED_ZIP,
            &corpus(&format!("good/{FILED_ZIP}"))?,
            Some(CORPUS_PASSWORD),
        )
        .await?;
    work.pages
        .file(FILED_PDF, &corpus(&format!("good/{FILED_PDF}"))?, None)
        .await?;
    individual_numbers_are_refused(&work).await?;
    let filing = work.office.take_oldest().await?;
    work.office.decide(&filing).await?;
    stage
        .mailbox()
        .wait(ADMIN_EMAIL, 0, |mail| mail.subject.contains("通知書"))
        .await?;
    let notices = work.pages.site.get("/notices").await?;
    let notice = notices
        .links("/notices/")
        .into_iter()
        .next()
        .context("a notice")?;
    work.pages.site.download(&format!("{notice}.zip")).await?;
    let zip_password = work.pages.zip_password(ADMIN_PASSWORD).await?;
    let cookie = cookie_value(&work.pages.site.cookie_header())?;
    let staff_cookie = cookie_value(&work.office.site.cookie_header())?;
    the_agents_own_log_names_no_address(&mut stage, &work).await?;
    work.agent.stop()?;

    let code = &work.letter.registration_code;
    let bare_code = code.replace('-', "");
    let in_fours = INDIVIDUAL_NUMBERS[1];
    let secrets = [
        ("registration code", code.as_str()),
        ("registration code, bare", &bare_code),
        ("initial password", &work.letter.initial_password),
        ("the admin's password", ADMIN_PASSWORD),
        ("the reviewer's password", &stage.staff.password),
        ("the reviewer's authenticator", &stage.staff.totp_secret),
        ("password of the filed zip", CORPUS_PASSWORD),
        ("zip password", &zip_password),
        ("session cookie", &cookie),
        ("staff session cookie", &staff_cookie),
        ("an individual number", INDIVIDUAL_NUMBERS[0]),
        ("an individual number, in fours", INDIVIDUAL_NUMBERS[1]),
        ("an individual number, bare", &in_fours.replace(' ', "")),
        ("an individual number of a name", INDIVIDUAL_NUMBERS[2]),
    ];
    let names = [
        ("a member", "髙﨑"),
        ("the admin", ADMIN_NAME),
        ("a member's number", "0001234"),
        ("the mail address", ADMIN_EMAIL),
    ];

    let mut logs = 0;
    let agents_own = work.agent.config().with_file_name("data").join("agent.log");
    for file in files(&stage.logs())?.into_iter().chain([agents_own]) {
        let log = std::fs::read_to_string(&file)?;
        logs += usize::from(!log.is_empty());
        for (what, text) in secrets.iter().chain(&names) {
            ensure!(!log.contains(text), "{} holds {what}", file.display());
        }
        let without_times: String = log
            .lines()
            .map(|line| line.split_once(' ').map_or(line, |(_, said)| said))
            .collect::<Vec<_>>()
            .join("\n");
        ensure!(
            !stands_alone(&without_times, &work.code),
            "{} holds the one-time password",
            file.display()
        );
    }
    ensure!(logs >= 3, "the programs log");

    let mut codes = 0;
    for mail in stage.mailbox().mails()? {
        let told = format!("{}\n{}\n{}", mail.subject, mail.body, mail.raw);
        for (what, text) in secrets.iter().chain(&names[..3]) {
            ensure!(!told.contains(text), "a mail holds {what}: {told}");
        }
        codes += usize::from(mail.body.contains(&work.code));
    }
    ensure!(codes == 1, "the one-time password is in {codes} mails");

    let portal = stage.sqlite_file();
    let mut whole = std::fs::read(&portal)?;
    for beside in ["portal.db-wal", "portal.db-shm"] {
        whole.extend(std::fs::read(portal.with_file_name(beside)).unwrap_or_default());
    }
    ensure!(holds(&whole, "audit_log"), "that is the database");
    for (what, text) in &secrets {
        ensure!(!holds(&whole, text), "the database holds {what}");
    }
    // Longer than what ciphertext holds by chance.
    ensure!(!holds(&whole, "%PDF-1."), "the database holds a document");
    let dumped = output(
        Command::new("/usr/bin/python3")
            .args([
                "-c",
                "import sqlite3, sys\nfor line in sqlite3.connect(sys.argv[1]).iterdump(): print(line)",
            ])
            .arg(&portal),
    )?;
    ensure!(
        !stands_alone(&dumped, &work.code),
        "the database holds the one-time password"
    );

    let documents = files(&stage.documents())?;
    ensure!(documents.len() >= 3, "documents were kept: {documents:?}");
    for file in documents {
        let bytes = std::fs::read(&file)?;
        let inside = [
            "%PDF-1.",
            "endobj",
            "PK\u{3}\u{4}\u{14}\0",
            "PK\u{3}\u{4}\u{33}\0",
            "髙﨑",
            "資格",
        ];
        for text in inside.iter().chain(secrets.iter().map(|(_, text)| text)) {
            ensure!(!holds(&bytes, text), "{} holds {text}", file.display());
        }
    }
    Ok(())
}

/// The file that support bundles take the end of: at most `info`, whatever is wanted on
/// standard error, and nothing of it says where the fund is, not even when it is lost.
async fn the_agents_own_log_names_no_address(stage: &mut Stage, work: &AtWork) -> Result<()> {
    let file = work.agent.config().with_file_name("data").join("agent.log");
    stage.gateway.kill();
    let log = wait_for("the loss of the gateway", 60, async || {
        let log = std::fs::read_to_string(&file)?;
        let told = ["gateway lost", "gateway did not help"];
        Ok(told.iter().all(|words| log.contains(words)).then_some(log))
    })
    .await
    .with_context(|| work.agent.log_text())?;
    ensure!(
        log.contains(" INFO vpn_agent") && log.contains("connected"),
        "{log}"
    );
    ensure!(!log.contains("DEBUG") && !log.contains("TRACE"), "{log}");
    let gateway = stage.gateway_url();
    let port = format!(":{}", gateway.rsplit(':').next().context("a port")?);
    for address in ["127.0.0.1", "localhost", "[::", "https://", &port] {
        ensure!(
            !log.contains(address),
            "{address} is in the agent's log:\n{log}"
        );
    }
    // On standard error the same holds above `debug`.
    for line in work
        .agent
        .log_text()
        .lines()
        .filter(|line| line.contains(" INFO "))
    {
        ensure!(!line.contains(&port), "{line}");
    }
    Ok(())
}

fn cookie_value(header: &str) -> Result<String> {
    let value = header
        .split("; ")
        .filter_map(|pair| pair.split_once('='))
        .map(|(_, value)| value)
        .max_by_key(|value| value.len())
        .context("a cookie")?;
    ensure!(value.len() >= 20, "a session cookie: {header}");
    Ok(value.to_owned())
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// Says whether `word` is in the text and not a part of a longer number or id.
fn stands_alone(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .any(|found| found == word)
}

/// Every file under `folder`.
fn files(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// The clerk files what she must not: by a zip's content, and by a file's name.
async fn individual_numbers_are_refused(work: &AtWork) -> Result<()> {
    for name in ["my_number", "my_number_spaced"] {
        let zip = corpus(&format!("bad/{name}.zip"))?;
        let upload = work.pages.upload(FILED_ZIP, &zip).await?;
        let uploads = [(upload.clone(), Some(CORPUS_PASSWORD))];
        let (status, answer) = work.pages.hand_in(&uploads).await?;
        ensure!(status == StatusCode::UNPROCESSABLE_ENTITY, "{answer:#}");
        ensure!(answer.to_string().contains("個人番号"), "{answer:#}");
    }
    let named = format!("{}.pdf", INDIVIDUAL_NUMBERS[2]);
    let begun = work.pages.begin_upload(&named, 10).await;
    ensure!(begun.is_err(), "an upload of that name began: {begun:?}");
    Ok(())
}
