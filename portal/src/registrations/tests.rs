//! The page on which staff drop registration forms.

use std::path::{Path, PathBuf};
use std::process::Command;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};

use crate::staff::StaffRole;
use crate::testing::people::{self, Answer, Browser};
use crate::testing::{app, databases};

const PASSWORD: &str = "Rene52hsqx3ca4q2";

fn corpus(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/registration");
    let files = std::fs::read_dir(folder.join(kind)).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    // The workbook before the zip around the same.
    files.sort_by_key(|file| file.extension().map(|ending| ending != "xlsx"));
    files
}

/// Drops files on the page, as a browser sends them.
async fn drop_files(
    browser: &mut Browser,
    files: &[PathBuf],
    password: &str,
    token: Option<&str>,
) -> Answer {
    let page = browser.get("/registrations/new").await;
    let own = page.csrf().unwrap();
    let mut body = Vec::new();
    for (name, value) in [("csrf", token.unwrap_or(&own)), ("zip_password", password)] {
        let head = format!("--limit\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        body.extend([head.as_bytes(), value.as_bytes(), b"\r\n"].concat());
    }
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let head = format!(
            "--limit\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body.extend([head.as_bytes(), &std::fs::read(file).unwrap(), b"\r\n"].concat());
    }
    body.extend(b"--limit--\r\n");
    let headers = [("content-type", "multipart/form-data; boundary=limit")];
    let path = "/registrations/new";
    let answer = browser.send(Method::POST, path, &headers, Body::from(body));
    answer.await
}

fn letters(page: &str) -> String {
    let (_, rest) = page.split_once("data:application/pdf;base64,").unwrap();
    let pdf = STANDARD.decode(rest.split('"').next().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    crate::testing::archive::assert_archivable(&pdf);
    let path = folder.path().join("letters.pdf");
    std::fs::write(&path, pdf).unwrap();
    let text = Command::new("pdftotext")
        .arg("-layout")
        .arg(&path)
        .arg("-")
        .output();
    String::from_utf8(text.expect("poppler-utils is installed").stdout).unwrap()
}

#[tokio::test]
async fn a_batch_gives_each_file_its_verdict_and_can_be_run_again() {
    for db in databases().await {
        let app = app(&db).await;
        let (_, mut browser) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
        let files = [corpus("good"), corpus("bad")].concat();
        let answer = drop_files(&mut browser, &files, PASSWORD, None).await;
        assert_eq!(answer.status, StatusCode::OK);
        let counts = "登録 1件、登録済み 1件、登録できないもの 6件";
        assert!(answer.text.contains(counts), "{}", answer.text);

        let letter = letters(&answer.text);
        for part in ["管理者情報登録完了", "髙﨑 美咲", "takasaki01", "0123"] {
            assert!(letter.contains(part), "{part} in {letter}");
        }
        let word_after = |label: &str| {
            let mut lines = letter.lines().map(str::trim);
            let rest = lines.find_map(|line| line.strip_prefix(label));
            rest.unwrap_or_default().trim().to_owned()
        };
        let (code, password) = (word_after("登録コード"), word_after("初期パスワード"));
        assert!(
            crate::establishments::RegistrationCode::read(&code).is_some(),
            "{code}"
        );
        let hash: String = sqlx::query_scalar("SELECT password_hash FROM users")
            .fetch_one(db.pool())
            .await
            .unwrap();
        let fits = crate::passwords::verify(&password, Some(&hash))
            .await
            .unwrap();
        assert!(fits, "{password}");
        let mails: Vec<String> = sqlx::query_scalar("SELECT purpose FROM outbox")
            .fetch_all(db.pool())
            .await
            .unwrap();
        assert_eq!(mails, ["invitation"]);

        let again = drop_files(&mut browser, &files, PASSWORD, None).await;
        let counts = "登録 0件、登録済み 2件、登録できないもの 6件";
        assert!(again.text.contains(counts), "{}", again.text);
        assert!(!again.text.contains("application/pdf"));
        let users: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM users")
            .fetch_one(db.pool())
            .await
            .unwrap();
        assert_eq!(users, 1);
    }
}

#[tokio::test]
async fn a_lost_letter_is_made_anew_and_what_the_old_one_held_is_worth_nothing() {
    for db in databases().await {
        let app = app(&db).await;
        let (_, mut browser) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
        drop_files(&mut browser, &corpus("good")[..1], PASSWORD, None).await;
        let row: (String, String, String) = sqlx::query_as(
            "SELECT m.establishment_id, u.id, u.name_kana FROM users u JOIN memberships m ON m.user_id = u.id",
        )
        .fetch_one(db.pool())
        .await
        .unwrap();
        assert!(!row.2.is_empty() && !row.2.contains(' '), "{}", row.2);
        let page = format!("/establishments/{}", row.0);
        let letter = format!("{page}/users/{}/letter", row.1);
        let hash = async || -> String {
            sqlx::query_scalar("SELECT password_hash FROM users")
                .fetch_one(db.pool())
                .await
                .unwrap()
        };
        let before = hash().await;
        let answer = browser.submit_to(&page, &letter, &[]).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers["content-type"], "application/pdf");
        assert_ne!(hash().await, before);
        let codes = "SELECT COUNT(*) FROM registration_codes WHERE revoked_ms IS NULL";
        let good: i64 = sqlx::query_scalar(codes)
            .fetch_one(db.pool())
            .await
            .unwrap();
        assert_eq!(good, 1, "the first letter's code is taken back");
        sqlx::query("UPDATE users SET password_is_initial_since_ms = NULL")
            .execute(db.pool())
            .await
            .unwrap();
        let own = hash().await;
        let answer = browser.submit_to(&page, &letter, &[]).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(hash().await, own, "an own password stays");
        let acts = "SELECT COUNT(*) FROM audit_log WHERE act = 'letter_reissued'";
        let acts: i64 = sqlx::query_scalar(acts).fetch_one(db.pool()).await.unwrap();
        assert_eq!(acts, 2);
        let other = format!("{page}/users/{}/letter", uuid::Uuid::now_v7());
        let answer = browser.submit_to(&page, &other, &[]).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_zip_without_its_password_registers_nobody_and_says_why() {
    for db in databases().await {
        let app = app(&db).await;
        let (_, mut browser) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
        let zip = &corpus("good")[1..];
        for (password, sentence) in [("wrong", "パスワードが違います"), ("", "パスワードを入力")]
        {
            let answer = drop_files(&mut browser, zip, password, None).await;
            assert!(answer.text.contains("登録できないもの 1件"));
            assert!(answer.text.contains(sentence), "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn nothing_chosen_is_asked_for_and_a_forged_form_is_not_read() {
    for db in databases().await {
        let app = app(&db).await;
        let (_, mut browser) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
        let answer = drop_files(&mut browser, &[], "", None).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(answer.text.contains("登録届のファイルを選んでください"));
        let forged = drop_files(&mut browser, &corpus("good"), PASSWORD, Some("x")).await;
        assert_eq!(forged.status, StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn who_may_not_decide_registers_nobody() {
    for db in databases().await {
        let app = app(&db).await;
        let (_, mut watcher) = people::signed_in_staff(&app, StaffRole::SystemAdmin).await;
        let refused = watcher.get("/registrations/new").await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND);
    }
}
