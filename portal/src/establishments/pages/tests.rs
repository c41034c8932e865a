//! The pages on which staff register establishments and users.

use super::*;
use crate::audit;
use crate::staff::StaffRole;
use crate::testing::people::{self, Answer, Browser, USER_ID};
use crate::testing::{NOW, app, databases, sqlite};

const WRONG: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

/// The text inside the element with this id.
pub(crate) fn text_of(page: &str, id: &str) -> Option<String> {
    let (_, rest) = page.split_once(&format!("id=\"{id}\">"))?;
    rest.split('<').next().map(str::to_owned)
}

async fn register(browser: &mut Browser, number: &str, login: &str) -> Answer {
    let form = [
        ("number", number),
        ("name", "見本株式会社"),
        ("device_limit", "3"),
        ("user_name", "鈴木 花子"),
        ("login", login),
        ("email", "suzuki@example.co.jp"),
    ];
    browser.submit("/establishments/new", &form).await
}

async fn count(app: &App, table: &'static str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}")))
        .fetch_one(app.db.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_registered_establishments_letter_shows_what_its_admin_needs_once() {
    for db in databases().await {
        let app = app(&db).await;
        let (_, mut browser) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
        let letter = register(&mut browser, "０１２３", "Suzuki").await;
        assert_eq!(letter.status, StatusCode::OK);
        let code = text_of(&letter.text, "registration-code").unwrap();
        let password = text_of(&letter.text, "initial-password").unwrap();
        assert_eq!((code.len(), password.len()), (14, 19));
        assert_eq!(text_of(&letter.text, "login").unwrap(), "suzuki");

        let list = browser.get("/establishments").await.text;
        let (_, rest) = list.split_once("href=\"/establishments/0").unwrap();
        let id = format!("0{}", rest.split('"').next().unwrap());
        let page = browser.get(&format!("/establishments/{id}")).await.text;
        assert!(page.contains("鈴木 花子") && page.contains("未使用"));
        assert!(!page.contains(&code) && !page.contains(&password));

        let hash: String = sqlx::query_scalar("SELECT password_hash FROM users")
            .fetch_one(db.pool())
            .await
            .unwrap();
        assert!(passwords::verify(&password, Some(&hash)).await.unwrap());
    }
}

#[tokio::test]
async fn a_taken_number_or_user_id_registers_nothing_and_keeps_what_was_typed() {
    for db in databases().await {
        let app = app(&db).await;
        people::place(&app, "0123", USER_ID).await;
        let (_, mut browser) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
        for (number, login, field) in [("0123", "tanaka", "number"), ("0124", USER_ID, "login")] {
            let answer = register(&mut browser, number, login).await;
            assert_eq!(answer.status, WRONG);
            assert!(answer.text.contains(&format!("<a href=\"#{field}\">")));
            assert!(answer.text.contains("value=\"鈴木 花子\""));
        }
        assert_eq!(count(&app, "establishments").await, 1);
        assert_eq!(count(&app, "users").await, 1);
    }
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    let db = sqlite().await;
    let app = app(&db).await;
    let (_, mut browser) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
    let form = [
        ("number", "12345"),
        ("name", " "),
        ("device_limit", "many"),
        ("user_name", ""),
        ("login", "鈴木"),
        ("email", "suzuki"),
    ];
    let answer = browser.submit("/establishments/new", &form).await;
    assert_eq!(answer.status, WRONG);
    for (field, _) in form {
        assert!(
            answer.text.contains(&format!("<a href=\"#{field}\">")),
            "{field}"
        );
    }
}

#[tokio::test]
async fn staff_add_users_issue_codes_and_replace_lost_passwords_and_telephones() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let mut member = people::signed_in_member(&app, &place).await;
        let (_, mut browser) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
        let page = format!("/establishments/{}", place.establishment);
        let form = [
            ("user_name", "田中 一郎"),
            ("login", "tanaka"),
            ("email", "tanaka@example.co.jp"),
        ];
        let letter = browser.submit(&format!("{page}/users/new"), &form).await;
        assert!(text_of(&letter.text, "registration-code").is_some());
        assert_eq!(count(&app, "memberships").await, 2);

        let token = browser.get(&page).await.csrf().unwrap();
        let csrf = [("csrf", token.as_str())];
        let user = format!("{page}/users/{}", place.user);
        let letter = browser.post(&format!("{user}/code"), &csrf).await;
        assert!(text_of(&letter.text, "registration-code").is_some());
        assert!(text_of(&letter.text, "initial-password").is_none());

        // An admin's is made anew by two: see `people::tests`.
        let answer = browser.post(&format!("{user}/password"), &csrf).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        assert_eq!(member.get("/").await.status, StatusCode::OK);

        sqlx::query("UPDATE users SET second_factor = 'totp', totp_sealed = 'x'")
            .execute(db.pool())
            .await
            .unwrap();
        // An admin's is taken off by two: see `people::tests`.
        let answer = browser.post(&format!("{user}/authenticator"), &csrf).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        sqlx::query("UPDATE memberships SET role = 'added'")
            .execute(db.pool())
            .await
            .unwrap();
        let letter = browser.post(&format!("{user}/password"), &csrf).await;
        assert!(text_of(&letter.text, "initial-password").is_some());
        assert_eq!(member.get("/").await.status, StatusCode::UNAUTHORIZED);
        let answer = browser.post(&format!("{user}/authenticator"), &csrf).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        let on_mail = crate::sign_in::store::uses_mail(&db, place.user).await;
        assert!(on_mail.unwrap());
        audit::verify(&db, &app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn a_user_of_another_establishment_does_not_exist_here() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let other = people::place(&app, "0124", "tanaka").await;
    let (_, mut browser) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
    let page = format!("/establishments/{}", place.establishment);
    let token = browser.get(&page).await.csrf().unwrap();
    for what in ["code", "password", "authenticator"] {
        let path = format!("{page}/users/{}/{what}", other.user);
        let answer = browser.post(&path, &[("csrf", &token)]).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{what}");
    }
}

#[tokio::test]
async fn the_system_administrator_sees_establishments_but_changes_nothing() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let (_, mut browser) = people::signed_in_staff(&app, StaffRole::SystemAdmin).await;
    let path = format!("/establishments/{}", place.establishment);
    let page = browser.get(&path).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(!page.text.contains("登録コードを発行する"));
    let answer = browser.get("/establishments/new").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let path = format!("{path}/users/{}/code", place.user);
    let token = page.csrf().unwrap();
    let answer = browser.post(&path, &[("csrf", &token)]).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let codes = store::codes(&db, place.establishment).await.unwrap();
    assert_eq!((codes.len(), app.clock.now()), (0, NOW));
}
