//! The first sign-in, step by step, and what everybody meets again.

use http::StatusCode;

use super::*;
use crate::app::App;
use crate::audit;
use crate::staff::StaffRole;
use crate::testing::people::{self, Browser, Place, USER_ID};
use crate::testing::{NOW, app, databases, sqlite};

const WRONG: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
const NEW: &str = "umi no mieru machi e";

const ESTABLISHMENT: [(&str, &str); 5] = [
    ("name", "見本株式会社"),
    ("postal_code", "１０１－００５１"),
    ("address", "東京都千代田区神田神保町1-1"),
    ("telephone", "03-1234-5678"),
    ("department", "総務部"),
];
const PROFILE: [(&str, &str); 4] = [
    ("user_name", "鈴木 花子"),
    ("kana", "ｽｽﾞｷ ﾊﾅｺ"),
    ("telephone", "03-1234-5678"),
    ("department", ""),
];

/// An admin with the letter's password.
async fn newcomer(app: &App) -> (Place, Browser) {
    let place = people::place(app, "0123", USER_ID).await;
    for sql in [
        "UPDATE users SET password_is_initial_since_ms = 1, terms_version = 0, contacts_ms = NULL,
                          introduced_ms = NULL",
        "UPDATE memberships SET confirmed_ms = NULL",
    ] {
        sqlx::query(sql).execute(app.db.pool()).await.unwrap();
    }
    let browser = people::signed_in_member(app, &place).await;
    (place, browser)
}

async fn texts(app: &App, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql)
        .fetch_all(app.db.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn an_admin_is_led_through_every_step_and_goes_on_where_she_was_cut_off() {
    for db in databases().await {
        let app = app(&db).await;
        let (place, mut browser) = newcomer(&app).await;
        assert_eq!(browser.get("/").await.location, "/first-password");
        assert_eq!(browser.get("/terms").await.location, "/first-password");
        let page = browser.get("/first-password").await;
        assert!(page.text.contains("aria-current=\"step\">パスワード"));
        let form = [("new_password", NEW), ("new_password_again", NEW)];
        browser.submit("/first-password", &form).await;

        assert_eq!(browser.get("/filings/new").await.location, "/terms");
        let page = browser.get("/terms").await;
        assert!(page.text.contains("第1条") && page.text.contains("パスワード<span"));
        let refused = browser.submit("/terms", &[("version", "1")]).await;
        assert!(refused.status == WRONG && refused.text.contains("同意が必要"));
        let form = [("version", "1"), ("accept", "yes")];
        assert_eq!(browser.submit("/terms", &form).await.location, "/");
        let accepted = texts(
            &app,
            "SELECT device_id FROM terms_acceptances WHERE version = 1",
        )
        .await;
        assert_eq!(accepted, [place.device.to_string()]);

        // Cut off here: the next session begins at the next step, with what is on file.
        let session = people::session(&app, place.establishment, place.device, NOW).await;
        let mut browser = people::signed_in_member(&app, &Place { session, ..place }).await;
        assert_eq!(browser.get("/").await.location, "/establishment");
        let page = browser.get("/establishment").await;
        assert!(page.text.contains("value=\"見本株式会社\""));
        let mut form = ESTABLISHMENT;
        form[1].1 = "12";
        let wrong = browser.submit("/establishment", &form).await;
        assert!(wrong.status == WRONG && wrong.text.contains("7桁の数字"));
        assert!(wrong.text.contains("東京都千代田区神田神保町1-1"));
        let answer = browser.submit("/establishment", &ESTABLISHMENT).await;
        assert_eq!(answer.location, "/");

        assert_eq!(browser.get("/").await.location, "/profile");
        let answer = browser.submit("/profile", &PROFILE).await;
        assert_eq!(answer.location, "/");
        assert_eq!(
            texts(&app, "SELECT kana FROM user_contacts").await,
            ["スズキ ハナコ"]
        );

        assert_eq!(browser.get("/").await.location, "/welcome");
        let page = browser.get("/welcome").await;
        assert!(page.text.contains("認証アプリを登録する"));
        let answer = browser
            .submit("/welcome", &[("next", "authenticator")])
            .await;
        assert_eq!(answer.location, "/settings/authenticator");
        assert_eq!(browser.get("/").await.status, StatusCode::OK);
        assert_eq!(browser.get("/welcome").await.location, "/");
        assert_eq!(
            texts(
                &app,
                "SELECT act FROM audit_log WHERE actor_kind = 'member' ORDER BY seq"
            )
            .await,
            [
                "password_changed",
                "terms_accepted",
                "contacts_changed",
                "own_contacts_changed"
            ]
        );
        // The name was left as it is: nothing to ask the fund for.
        assert!(
            texts(&app, "SELECT id FROM admin_requests")
                .await
                .is_empty()
        );
        audit::verify(&db, &app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn an_added_user_reads_the_terms_and_is_asked_nothing_about_the_establishment() {
    let db = sqlite().await;
    let app = app(&db).await;
    let (_, mut browser) = newcomer(&app).await;
    sqlx::query("UPDATE memberships SET role = 'added'")
        .execute(db.pool())
        .await
        .unwrap();
    let form = [("new_password", NEW), ("new_password_again", NEW)];
    browser.submit("/first-password", &form).await;
    browser
        .submit("/terms", &[("version", "1"), ("accept", "yes")])
        .await;
    assert_eq!(browser.get("/").await.location, "/welcome");
    for path in ["/establishment", "/profile"] {
        assert_eq!(browser.get(path).await.status, StatusCode::NOT_FOUND);
    }
    browser.submit("/welcome", &[("next", "home")]).await;
    assert_eq!(browser.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn another_name_goes_to_the_fund_and_stands_after_it_was_confirmed() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let mut admin = people::signed_in_member(&app, &place).await;
        let mut form = ESTABLISHMENT;
        form[0].1 = "新見本株式会社";
        let answer = admin.submit("/establishment", &form).await;
        assert_eq!(answer.location, "/users?done=establishment-name");
        assert_eq!(
            texts(&app, "SELECT name FROM establishments").await,
            ["見本株式会社"]
        );
        let (_, mut staff) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
        let list = staff.get("/requests").await.text;
        let id = list
            .split_once("/requests/")
            .and_then(|(_, rest)| rest.split_once("/approve"))
            .map(|(id, _)| id.to_owned())
            .unwrap();
        let approve = format!("/requests/{id}/approve");
        let answer = staff.submit_to("/requests", &approve, &[]).await;
        assert_eq!(answer.location, "/requests?done=approved");
        assert!(admin.get("/").await.text.contains("新見本株式会社"));
    }
}

#[tokio::test]
async fn new_terms_are_asked_of_everybody_and_of_nobody_twice() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let mut admin = people::signed_in_member(&app, &place).await;
        assert_eq!(admin.get("/").await.status, StatusCode::OK);
        let (_, mut staff) = people::signed_in_staff(&app, StaffRole::Supervisor).await;
        let text = "第1条（変更）\n新しい規約です。";
        let first = terms::Terms::first();
        for (version, text, words) in [
            ("1", "", "1文字以上"),
            ("1", first.text.as_str(), "同じ内容"),
            ("7", text, "ほかの職員が先に"),
        ] {
            let form = [("version", version), ("text", text)];
            let answer = staff.submit("/terms", &form).await;
            assert!(
                answer.status == WRONG && answer.text.contains(words),
                "{words}"
            );
        }
        let form = [("version", "1"), ("text", text)];
        assert_eq!(
            staff.submit("/terms", &form).await.location,
            "/terms?done=published"
        );
        assert_eq!(admin.get("/filings").await.location, "/terms");
        let page = admin.get("/terms").await;
        assert!(page.text.contains("新しくなりました") && page.text.contains("新しい規約です"));
        // What was on the screen before is not what is asked now.
        let old = [("version", "1"), ("accept", "yes")];
        let answer = admin.submit("/terms", &old).await;
        assert!(answer.status == WRONG && answer.text.contains("もう一度内容を"));
        let new = [("version", "2"), ("accept", "yes")];
        admin.submit("/terms", &new).await;
        assert_eq!(admin.get("/").await.status, StatusCode::OK);
        admin.submit("/terms", &new).await;
        assert_eq!(
            texts(&app, "SELECT id FROM terms_acceptances").await.len(),
            1
        );
        assert!(staff.get("/terms").await.text.contains("1名中 1名"));
        assert!(admin.get("/terms").await.text.contains("に同意しました"));
    }
}
