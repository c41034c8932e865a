//! The settings pages: password, authenticator, zip password.

use http::StatusCode;
use time::Duration;

use crate::app::App;
use crate::audit;
use crate::authenticator::Authenticator;
use crate::passwords;
use crate::testing::people::{self, Browser, PASSWORD, Place, USER_ID};
use crate::testing::{NOW, app, databases, sqlite};

const WRONG: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
const NEW: &str = "umi no mieru machi e";

async fn user_column(app: &App, column: &'static str) -> Option<String> {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT {column} FROM users")))
        .fetch_one(app.db.pool())
        .await
        .unwrap()
}

async fn acts(app: &App) -> Vec<String> {
    sqlx::query_scalar("SELECT act FROM audit_log WHERE actor_kind = 'member' ORDER BY seq")
        .fetch_all(app.db.pool())
        .await
        .unwrap()
}

async fn member(app: &App) -> (Place, Browser) {
    let place = people::place(app, "0123", USER_ID).await;
    let browser = people::signed_in_member(app, &place).await;
    (place, browser)
}

#[tokio::test]
async fn an_initial_password_must_be_changed_before_anything_else() {
    for db in databases().await {
        let app = app(&db).await;
        let (_, mut browser) = member(&app).await;
        sqlx::query("UPDATE users SET password_is_initial_since_ms = 1")
            .execute(db.pool())
            .await
            .unwrap();
        assert_eq!(browser.get("/settings").await.location, "/first-password");
        for (new, again, words) in [
            (PASSWORD, PASSWORD, "同じものは使えません"),
            ("short", "short", "12文字以上"),
            ("password1234", "password1234", "推測されやすい"),
            (NEW, "something else", "一致していません"),
        ] {
            let form = [("new_password", new), ("new_password_again", again)];
            let answer = browser.submit("/first-password", &form).await;
            assert_eq!(answer.status, WRONG);
            assert!(answer.text.contains(words), "{}", answer.text);
        }
        let form = [("new_password", NEW), ("new_password_again", NEW)];
        assert_eq!(browser.submit("/first-password", &form).await.location, "/");
        assert_eq!(browser.get("/").await.status, StatusCode::OK);
        let hash = user_column(&app, "password_hash").await;
        assert!(passwords::verify(NEW, hash.as_deref()).await.unwrap());
        // Once is enough.
        let answer = browser.get("/first-password").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(acts(&app).await, ["password_changed"]);
    }
}

#[tokio::test]
async fn changing_the_password_asks_for_the_current_one_and_ends_other_web_sessions() {
    for db in databases().await {
        let app = app(&db).await;
        let (place, mut browser) = member(&app).await;
        let second_pc = people::device(&app, place.establishment, place.user).await;
        let session = people::session(&app, place.establishment, second_pc, NOW).await;
        let there = Place {
            device: second_pc,
            session,
            ..place
        };
        let mut other = people::signed_in_member(&app, &there).await;
        let form = |password| {
            [
                ("password", password),
                ("new_password", NEW),
                ("new_password_again", NEW),
            ]
        };
        let answer = browser
            .submit("/settings/password", &form("not hers"))
            .await;
        assert_eq!(answer.status, WRONG);
        assert_eq!(other.get("/").await.status, StatusCode::OK);
        let answer = browser.submit("/settings/password", &form(PASSWORD)).await;
        assert_eq!(answer.location, "/settings?done=password");
        assert_eq!(browser.get("/").await.status, StatusCode::OK);
        assert_eq!(other.get("/").await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(acts(&app).await, ["sign_in_failed", "password_changed"]);
        audit::verify(&db, &app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn an_authenticator_counts_only_after_a_code_of_it_has_confirmed_it() {
    for db in databases().await {
        let app = app(&db).await;
        let (place, mut browser) = member(&app).await;
        let start = "/settings/authenticator";
        let confirm = "/settings/authenticator/confirm";
        assert_eq!(browser.get(confirm).await.location, start);
        let answer = browser.submit(start, &[("password", PASSWORD)]).await;
        assert_eq!(answer.location, confirm);
        assert_eq!(user_column(&app, "second_factor").await.unwrap(), "email");
        let picture = browser.get("/settings/authenticator/picture.png").await;
        assert_eq!(picture.headers["content-type"], "image/png");

        let pending = user_column(&app, "totp_pending_sealed").await.unwrap();
        let account = place.user.to_string();
        let authenticator = Authenticator::open(&app.keys, &account, &pending).unwrap();
        let page = browser.get(confirm).await;
        assert!(page.text.contains(&authenticator.to_base32()));
        let old = authenticator.code_at(NOW - Duration::minutes(5)).unwrap();
        let answer = browser.submit(confirm, &[("code", &old)]).await;
        assert_eq!(answer.status, WRONG);
        let code = authenticator.code_at(NOW).unwrap();
        let answer = browser.submit(confirm, &[("code", &code)]).await;
        assert_eq!(answer.location, "/settings?done=authenticator");
        assert_eq!(user_column(&app, "second_factor").await.unwrap(), "totp");
        assert_eq!(acts(&app).await, ["authenticator_added"]);

        // The confirming step cannot sign in.
        let mut again = Browser::member(&app, place.session);
        let form = [
            ("user_id", USER_ID),
            ("password", PASSWORD),
            ("code", &code),
            ("action", "sign_in"),
        ];
        assert_eq!(again.submit("/sign-in", &form).await.status, WRONG);
    }
}

#[tokio::test]
async fn the_zip_password_is_shown_after_the_password_and_the_showing_is_recorded() {
    for db in databases().await {
        let app = app(&db).await;
        let (place, mut browser) = member(&app).await;
        let mut tx = db.begin().await.unwrap();
        let zip = crate::establishments::open_zip_password(&mut tx, &app.keys, place.establishment)
            .await
            .unwrap();
        drop(tx);
        let path = "/settings/zip-password";
        assert!(!browser.get(path).await.text.contains(&**zip));
        let answer = browser.submit(path, &[("password", "not hers")]).await;
        assert!(answer.status == WRONG && !answer.text.contains(&**zip));
        let answer = browser.submit(path, &[("password", PASSWORD)]).await;
        assert!(answer.text.contains(&**zip));
        let token = answer.csrf().unwrap();
        let form = [("password", PASSWORD), ("csrf", &token)];
        let answer = browser.post("/settings/zip-password/change", &form).await;
        assert!(answer.text.contains("新しいパスワードに変更しました"));
        assert!(!answer.text.contains(&**zip));
        assert_eq!(
            acts(&app).await,
            [
                "sign_in_failed",
                "zip_password_shown",
                "zip_password_changed"
            ]
        );
    }
}

#[tokio::test]
async fn the_zip_password_is_not_shown_without_a_second_factor_just_now() {
    for db in databases().await {
        let app = app(&db).await;
        let (_, mut browser) = member(&app).await;
        let path = "/settings/zip-password";
        let token = browser.get(path).await.csrf().unwrap();
        sqlx::query("UPDATE web_sessions SET factor_ms = factor_ms - 300001")
            .execute(db.pool())
            .await
            .unwrap();
        for post in [path, "/settings/zip-password/change"] {
            let form = [("password", PASSWORD), ("csrf", token.as_str())];
            let answer = browser.post(post, &form).await;
            assert_eq!(answer.status, StatusCode::SEE_OTHER, "{post}");
        }
        assert_ne!(browser.get(path).await.status, StatusCode::OK);
        assert!(acts(&app).await.is_empty());
    }
}

#[tokio::test]
async fn an_added_user_cannot_change_the_zip_password() {
    let db = sqlite().await;
    let app = app(&db).await;
    let (_, mut browser) = member(&app).await;
    sqlx::query("UPDATE memberships SET role = 'added'")
        .execute(db.pool())
        .await
        .unwrap();
    let page = browser.get("/settings/zip-password").await;
    assert!(!page.text.contains("/settings/zip-password/change"));
    let form = [("password", PASSWORD), ("csrf", &page.csrf().unwrap())];
    let answer = browser.post("/settings/zip-password/change", &form).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn guesses_of_the_password_in_the_settings_are_counted_too() {
    let db = sqlite().await;
    let app = app(&db).await;
    let (_, mut browser) = member(&app).await;
    let path = "/settings/zip-password";
    for _ in 0..crate::sign_in::FAILURES_MAX {
        browser.submit(path, &[("password", "not hers")]).await;
    }
    let answer = browser.submit(path, &[("password", PASSWORD)]).await;
    assert_eq!(answer.status, WRONG);
    assert!(answer.text.contains("一時的に止めています"));
}
