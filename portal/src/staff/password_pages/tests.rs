//! Staff change their own password.

use http::StatusCode;

use crate::passwords;
use crate::staff::StaffRole;
use crate::testing::people::{self, PASSWORD};
use crate::testing::{app, databases, sqlite};
use crate::web::principals::SESSION_COOKIE;
use crate::web::sessions;

const WRONG: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
const NEW: &str = "umi no mieru machi e";

#[tokio::test]
async fn staff_change_their_password_and_are_signed_out_elsewhere() {
    for db in databases().await {
        let app = app(&db).await;
        let (id, mut browser) = people::signed_in_staff(&app, StaffRole::SystemAdmin).await;
        let mut tx = db.begin().await.unwrap();
        let now = app.clock.now();
        let token = sessions::begin_staff(&mut tx, &app.keys, id, now)
            .await
            .unwrap();
        crate::db::Db::commit(tx).await.unwrap();
        let mut elsewhere = people::Browser::office(&app);
        elsewhere.set_cookie(SESSION_COOKIE, &token);
        for (password, new, again, words) in [
            ("not mine", NEW, NEW, "正しくありません"),
            (PASSWORD, "password1234", "password1234", "推測されやすい"),
            (PASSWORD, NEW, "something else", "一致していません"),
            (PASSWORD, PASSWORD, PASSWORD, "同じものは使えません"),
        ] {
            let form = [
                ("password", password),
                ("new_password", new),
                ("new_password_again", again),
            ];
            let answer = browser.submit("/password", &form).await;
            assert!(
                answer.status == WRONG && answer.text.contains(words),
                "{words}"
            );
        }
        assert_eq!(elsewhere.get("/password").await.status, StatusCode::OK);
        let form = [
            ("password", PASSWORD),
            ("new_password", NEW),
            ("new_password_again", NEW),
        ];
        let answer = browser.submit("/password", &form).await;
        assert_eq!(answer.location, "/password?done=yes");
        assert_eq!(browser.get("/password").await.status, StatusCode::OK);
        let there = elsewhere.get("/password").await;
        assert_eq!(there.status, StatusCode::UNAUTHORIZED);
        let hash: String = sqlx::query_scalar("SELECT password_hash FROM staff")
            .fetch_one(db.pool())
            .await
            .unwrap();
        assert!(passwords::verify(NEW, Some(&hash)).await.unwrap());
        crate::audit::verify(&db, &app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn guesses_of_a_staff_password_are_counted() {
    let db = sqlite().await;
    let app = app(&db).await;
    let (_, mut browser) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
    let form = |password| {
        [
            ("password", password),
            ("new_password", NEW),
            ("new_password_again", NEW),
        ]
    };
    for _ in 0..crate::sign_in::OFFICE_FAILURES_MAX {
        browser.submit("/password", &form("not mine")).await;
    }
    let answer = browser.submit("/password", &form(PASSWORD)).await;
    assert!(answer.status == WRONG && answer.text.contains("一時的に止めています"));
}
