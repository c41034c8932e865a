//! A second factor shown just now: asked for, counted, and gone after five minutes.

use http::StatusCode;
use time::Duration;

use super::*;
use crate::staff::StaffRole;
use crate::testing::people::{self, Browser, USER_ID};
use crate::testing::{NOW, app, databases};
use crate::web::layout::Side;
use crate::web::router::Routes;

async fn weighty_page(_: Fresh<Supervisor>) -> &'static str {
    "the page"
}

#[derive(serde::Deserialize)]
struct Form {
    note: String,
}

async fn weighty_form(
    _: Fresh<Supervisor>,
    crate::web::forms::Verified(form): crate::web::forms::Verified<Form>,
) -> String {
    format!("done: {}", form.note)
}

/// The office with one route more.
fn office_with_weighty(app: &App) -> axum::Router {
    let routes = Routes::new(app.clone())
        .with(office_routes)
        .allow::<Fresh<Supervisor>, _, _>(Method::GET, "/weighty", weighty_page)
        .allow::<Fresh<Supervisor>, _, _>(Method::POST, "/weighty", weighty_form);
    crate::web::finish(routes, app.clone(), Side::Office).0
}

/// A supervisor, signed in at the office with that route.
async fn supervisor(app: &App) -> (Authenticator, Browser) {
    let (id, authenticator) = people::staff(app, StaffRole::Supervisor).await;
    let mut tx = app.db.begin().await.unwrap();
    let token = sessions::begin_staff(&mut tx, &app.keys, id, app.clock.now())
        .await
        .unwrap();
    Db::commit(tx).await.unwrap();
    let mut browser = Browser::new(office_with_weighty(app), people::Way::Office);
    browser.set_cookie(crate::web::principals::SESSION_COOKIE, &token);
    (authenticator, browser)
}

#[tokio::test]
async fn a_factor_is_fresh_for_five_minutes_and_then_the_page_asks_and_leads_back() {
    for db in databases().await {
        let app = app(&db).await;
        let (authenticator, mut browser) = supervisor(&app).await;
        app.clock.set(NOW + FRESH_FOR);
        assert_eq!(browser.get("/weighty").await.text, "the page");

        let late = NOW + FRESH_FOR + Duration::MILLISECOND;
        app.clock.set(late);
        let asked = browser.get("/weighty?a=1").await;
        assert_eq!(asked.location, "/step-up?next=%2Fweighty%3Fa%3D1");
        let code = authenticator.code_at(late).unwrap();
        let form = [
            ("step_up_code", code.as_str()),
            ("step_up_action", "check"),
            ("next", "/weighty?a=1"),
        ];
        let led = browser.submit_to(&asked.location, "/step-up", &form).await;
        assert_eq!(led.location, "/weighty?a=1");
        assert_eq!(browser.get(&led.location).await.text, "the page");
    }
}

#[tokio::test]
async fn a_form_that_comes_too_late_is_kept_until_the_code_is_right() {
    for db in databases().await {
        let app = app(&db).await;
        let (authenticator, mut browser) = supervisor(&app).await;
        let later = NOW + Duration::minutes(20);
        app.clock.set(later);
        let token = browser.get("/step-up").await.csrf().unwrap();
        let form = [("csrf", token.as_str()), ("note", "a & b <c>")];
        let asked = browser.post("/weighty", &form).await;
        assert!(asked.text.contains("action=\"/weighty\""), "{}", asked.text);
        assert!(
            asked.text.contains("a &#38; b &#60;c&#62;"),
            "{}",
            asked.text
        );

        let wrong = [
            &form[..],
            &[("step_up_code", "000000"), ("step_up_action", "check")],
        ];
        let again = browser.post("/weighty", &wrong.concat()).await;
        assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(again.text.contains("a &#38; b"), "{}", again.text);

        let code = authenticator.code_at(later).unwrap();
        let right = [
            &form[..],
            &[("step_up_code", &code), ("step_up_action", "check")],
        ];
        let done = browser.post("/weighty", &right.concat()).await;
        assert_eq!(done.text, "done: a & b <c>");
        // It is fresh now, and the code is used up.
        assert_eq!(
            browser.post("/weighty", &form).await.text,
            "done: a & b <c>"
        );
        app.clock.set(later + FRESH_FOR + Duration::SECOND);
        let twice = browser.post("/weighty", &right.concat()).await;
        assert_eq!(twice.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[tokio::test]
async fn what_another_site_sends_is_not_kept_and_no_code_of_its_own_counts() {
    let db = crate::testing::sqlite().await;
    let app = app(&db).await;
    let (authenticator, mut browser) = supervisor(&app).await;
    let later = NOW + Duration::minutes(20);
    app.clock.set(later);
    let code = authenticator.code_at(later).unwrap();
    for form in [
        &[("note", "evil"), ("csrf", "x")][..],
        &[("note", "evil")],
        &[("step_up_code", &code), ("step_up_action", "check")],
    ] {
        let answer = browser.post("/weighty", form).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(!answer.text.contains("evil"));
    }
}

#[tokio::test]
async fn guessing_is_stopped_like_guessing_at_sign_in() {
    for db in databases().await {
        let app = app(&db).await;
        let (authenticator, mut browser) = supervisor(&app).await;
        let later = NOW + Duration::minutes(20);
        app.clock.set(later);
        for _ in 0..sign_in::OFFICE_FAILURES_MAX {
            let form = [("step_up_code", "000000"), ("step_up_action", "check")];
            browser.submit("/step-up", &form).await;
        }
        let code = authenticator.code_at(later).unwrap();
        let form = [("step_up_code", code.as_str()), ("step_up_action", "check")];
        let answer = browser.submit("/step-up", &form).await;
        assert!(
            answer.text.contains("一時的に止めています"),
            "{}",
            answer.text
        );
    }
}

#[tokio::test]
async fn it_leads_nowhere_but_to_our_own_pages() {
    let db = crate::testing::sqlite().await;
    let app = app(&db).await;
    let (_, mut browser) = supervisor(&app).await;
    for next in [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil",
        "/step-up",
        "",
    ] {
        let query = serde_urlencoded::to_string([("next", next)]).unwrap();
        let answer = browser.get(&format!("/step-up?{query}")).await;
        assert_eq!(answer.location, "/", "{next}");
    }
}

#[tokio::test]
async fn a_member_on_codes_by_mail_asks_for_one_and_types_it() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let mut browser = people::signed_in_member(&app, &place).await;
        let later = NOW + Duration::minutes(20);
        app.clock.set(later);
        let form = [("step_up_action", "send"), ("next", "/settings")];
        let sent = browser.submit("/step-up", &form).await;
        assert!(
            sent.text.contains("ワンタイムパスワードを送りました"),
            "{}",
            sent.text
        );
        let code = one_time_codes::tests::newest_code(&app).await;
        let form = [
            ("step_up_action", "check"),
            ("step_up_code", code.as_str()),
            ("next", "/settings"),
        ];
        let led = browser.submit("/step-up", &form).await;
        assert_eq!(led.location, "/settings");
        let member = browser.get("/step-up?next=/settings").await;
        assert_eq!(member.location, "/settings");
    }
}
