//! Another mail address counts after its code came back.

use http::StatusCode;

use super::*;
use crate::establishments::Role;
use crate::people::tests::{at_work, colleague};
use crate::testing::people::{self, Browser, PASSWORD, USER_ID};
use crate::testing::{NOW, app, databases, sqlite};

const WRONG: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

/// The mails that wait: purpose, address, text.
async fn mails(app: &App) -> Vec<(String, String, String)> {
    let rows =
        sqlx::query("SELECT id, purpose, message_sealed FROM outbox ORDER BY created_ms, id")
            .fetch_all(app.db.pool())
            .await
            .unwrap();
    rows.iter()
        .map(|row| {
            let place = format!("outbox/{}", row.text("id").unwrap());
            let sealed = row.text("message_sealed").unwrap();
            let mail = app.keys.open(Purpose::Mail, &place, &sealed).unwrap();
            let mail: serde_json::Value = serde_json::from_slice(&mail).unwrap();
            let text = |name: &str| mail[name].as_str().unwrap().to_owned();
            (row.text("purpose").unwrap(), text("to"), text("body"))
        })
        .collect()
}

/// The code of the last mail to `address`.
async fn code(app: &App, address: &str) -> String {
    let mails = mails(app).await;
    let (_, _, body) = mails.iter().rev().find(|(_, to, _)| to == address).unwrap();
    let digits =
        |line: &&str| line.trim().len() == 6 && line.trim().bytes().all(|b| b.is_ascii_digit());
    body.lines().find(digits).unwrap().trim().to_owned()
}

async fn addresses(app: &App) -> Vec<String> {
    sqlx::query_scalar("SELECT email FROM users ORDER BY created_ms, id")
        .fetch_all(app.db.pool())
        .await
        .unwrap()
}

async fn ask_for(browser: &mut Browser, path: &str, email: &str) -> people::Answer {
    let form = [("email", email), ("password", PASSWORD)];
    browser.submit(path, &form).await
}

#[tokio::test]
async fn a_new_address_counts_after_its_code_and_the_old_one_hears_of_it() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let mut browser = people::signed_in_member(&app, &place).await;
        let path = "/settings/mail";
        let answer = ask_for(&mut browser, path, "not an address").await;
        assert!(answer.status == WRONG && answer.text.contains("not an address"));
        let answer = ask_for(&mut browser, path, "new@example.jp").await;
        assert_eq!(answer.location, path);
        assert_eq!(addresses(&app).await, ["suzuki@example.co.jp"]);
        let first = code(&app, "new@example.jp").await;
        let wrong = if first == "000000" {
            "000001"
        } else {
            "000000"
        };
        let confirm = "/settings/mail/confirm";
        let answer = browser.submit_to(path, confirm, &[("code", wrong)]).await;
        assert!(answer.status == WRONG && answer.text.contains("正しくありません"));
        let answer = browser.submit_to(path, confirm, &[("code", &first)]).await;
        assert_eq!(answer.location, "/settings?done=mail");
        assert_eq!(addresses(&app).await, ["new@example.jp"]);
        let told: Vec<String> = mails(&app)
            .await
            .into_iter()
            .filter(|(purpose, ..)| purpose == "people_changed")
            .map(|(_, to, _)| to)
            .collect();
        assert_eq!(told, ["suzuki@example.co.jp", "new@example.jp"]);
        // A code is good once.
        let answer = browser.submit_to(path, confirm, &[("code", &first)]).await;
        assert_eq!(answer.status, WRONG);
        audit::verify(&db, &app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn guesses_and_time_put_a_code_out_of_use() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let mut browser = people::signed_in_member(&app, &place).await;
    let (path, confirm) = ("/settings/mail", "/settings/mail/confirm");
    ask_for(&mut browser, path, "new@example.jp").await;
    let good = code(&app, "new@example.jp").await;
    let wrong = if good == "000000" { "000001" } else { "000000" };
    for _ in 0..TRIES_MAX {
        browser.submit_to(path, confirm, &[("code", wrong)]).await;
    }
    let answer = browser.submit_to(path, confirm, &[("code", &good)]).await;
    assert!(answer.status == WRONG && answer.text.contains("使えなくなりました"));
    ask_for(&mut browser, path, "new@example.jp").await;
    let good = code(&app, "new@example.jp").await;
    let actor = Actor::System;
    let change = Change {
        user: place.user,
        establishment: place.establishment,
        by: place.user,
        actor: &actor,
    };
    let mut tx = db.begin().await.unwrap();
    let late = confirm_late(&mut tx, &app, &change, &good).await;
    assert_eq!(late, Outcome::Nothing);
    drop(tx);
    for _ in 0..CHANGES_PER_DAY_MAX {
        ask_for(&mut browser, path, "new@example.jp").await;
    }
    let answer = ask_for(&mut browser, path, "new@example.jp").await;
    assert!(answer.status == WRONG && answer.text.contains("本日はこれ以上"));
    assert_eq!(addresses(&app).await, ["suzuki@example.co.jp"]);
}

async fn confirm_late(tx: &mut Tx, app: &App, change: &Change<'_>, code: &str) -> Outcome {
    confirm(tx, app, change, code, NOW + VALIDITY)
        .await
        .unwrap()
}

#[tokio::test]
async fn an_admin_changes_a_colleagues_address_with_the_code_that_she_reads_to_him() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let user = colleague(&app, &place, "tamura", Role::Added).await;
        let other = colleague(&app, &place, "other", Role::Admin).await;
        let mut admin = people::signed_in_member(&app, &place).await;
        let path = format!("/users/{user}/mail");
        let answer = ask_for(&mut admin, &path, "t@example.jp").await;
        assert_eq!(answer.location, path);
        let good = code(&app, "t@example.jp").await;
        let confirm = format!("{path}/confirm");
        let answer = admin.submit_to(&path, &confirm, &[("code", &good)]).await;
        assert_eq!(answer.location, "/users?done=mail");
        assert!(addresses(&app).await.contains(&"t@example.jp".to_owned()));
        // Not another admin's, and an added user nobody's.
        let path = format!("/users/{other}/mail");
        assert_eq!(admin.get(&path).await.status, StatusCode::CONFLICT);
        let (_, mut added) = at_work(&app, &place, user).await;
        let path = format!("/users/{}/mail", place.user);
        assert_eq!(added.get(&path).await.status, StatusCode::NOT_FOUND);
    }
}
