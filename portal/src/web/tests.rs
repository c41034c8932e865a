//! What holds for every page: principals, tokens, headers, errors.

use axum::body::Body;
use http::Method;

use super::*;
use crate::staff::StaffRole;
use crate::testing::people::{self, Browser, USER_ID, Way};
use crate::testing::{NOW, app, databases, sqlite};
use time::Duration;

mod authorisation;
mod fresh;
mod wording;

/// A path with its parameters filled in: an id that nobody has.
fn filled(path: &str) -> String {
    path.split('/')
        .map(|part| {
            if part.starts_with('{') {
                "01890000-0000-7000-8000-000000000000"
            } else {
                part
            }
        })
        .collect::<Vec<_>>()
        .join("/")
}

async fn status(browser: &mut Browser, route: &Route, headers: &[(&str, &str)]) -> StatusCode {
    let path = filled(route.path);
    browser
        .send(route.method.clone(), &path, headers, Body::empty())
        .await
        .status
}

#[tokio::test]
async fn every_member_route_turns_a_stranger_away() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let (router, table) = finish(
        member_routes(Routes::new(app.clone())),
        app.clone(),
        Side::Member,
    );
    for route in &table {
        let mut nowhere = Browser::new(router.clone(), Way::Nowhere);
        let refused = status(&mut nowhere, route, &[]).await == StatusCode::UNAUTHORIZED;
        // Exactly 401: a 404 or 400 would mean that the guard let the stranger through.
        assert_eq!(refused, route.allowed != "anyone", "{route:?}");

        let mut visitor = Browser::new(router.clone(), Way::Tunnel(place.session));
        let refused = status(&mut visitor, route, &[]).await == StatusCode::UNAUTHORIZED;
        let open = ["anyone", "visitor"].contains(&route.allowed);
        assert_eq!(refused, !open, "{route:?}");
    }
}

#[tokio::test]
async fn every_office_route_turns_a_stranger_away() {
    let db = sqlite().await;
    let app = app(&db).await;
    let (router, table) = finish(
        office_routes(Routes::new(app.clone())),
        app.clone(),
        Side::Office,
    );
    for route in &table {
        let mut stranger = Browser::new(router.clone(), Way::Office);
        let refused = status(&mut stranger, route, &[]).await == StatusCode::UNAUTHORIZED;
        let open = ["anyone", "anyone at the office"].contains(&route.allowed);
        assert_eq!(refused, !open, "{route:?}");
    }
}

#[tokio::test]
async fn every_route_that_changes_something_wants_its_sessions_token() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let other = people::place(&app, "0124", "tanaka").await;
    let mut member = people::signed_in_member(&app, &place).await;
    let mut stranger = people::signed_in_member(&app, &other).await;
    let foreign = stranger.get("/").await.csrf().unwrap();
    let (_, mut staff) = people::signed_in_staff(&app, StaffRole::Supervisor).await;
    let member_table = member_routes(Routes::new(app.clone())).finish().1;
    let office_table = office_routes(Routes::new(app.clone())).finish().1;
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS];
    for (table, side) in [(member_table, Side::Member), (office_table, Side::Office)] {
        for route in table.iter().filter(|route| !reads.contains(&route.method)) {
            set_password_initial(&app, route.allowed == "newcomer").await;
            let initial = (route.allowed == "staff newcomer").then_some(1_i64);
            let role = match route.allowed.contains("system administrator") {
                true => StaffRole::SystemAdmin,
                false => StaffRole::Supervisor,
            };
            sqlx::query("UPDATE staff SET password_is_initial_since_ms = $1, role = $2")
                .bind(initial)
                .bind(role.as_str())
                .execute(app.db.pool())
                .await
                .unwrap();
            let browser = match side {
                Side::Office => &mut staff,
                Side::Member => &mut member,
            };
            for headers in [
                &[][..],
                &[("renkei-csrf", foreign.as_str())],
                &[("renkei-csrf", "")],
                &[("sec-fetch-site", "cross-site")],
            ] {
                assert_eq!(
                    status(browser, route, headers).await,
                    StatusCode::FORBIDDEN,
                    "{route:?} {headers:?}"
                );
            }
        }
    }
}

async fn set_password_initial(app: &App, initial: bool) {
    sqlx::query("UPDATE users SET password_is_initial_since_ms = $1")
        .bind(initial.then_some(1_i64))
        .execute(app.db.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_cookie_is_useless_outside_the_tunnel_session_it_was_made_in() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let mut browser = people::signed_in_member(&app, &place).await;
        assert_eq!(browser.get("/").await.status, StatusCode::OK);

        // Another PC of the same establishment, and the same PC in its next session.
        let second_pc = people::device(&app, place.establishment, place.user).await;
        let there = people::session(&app, place.establishment, second_pc, NOW).await;
        let mut stolen = browser.moved(Way::Tunnel(there));
        assert_eq!(stolen.get("/").await.status, StatusCode::UNAUTHORIZED);
        let next = people::session(&app, place.establishment, place.device, NOW).await;
        let mut later = browser.moved(Way::Tunnel(next));
        assert_eq!(later.get("/").await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(browser.get("/").await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn at_the_deadline_the_pages_are_closed_and_say_so() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let mut browser = people::signed_in_member(&app, &place).await;
    app.clock
        .set(NOW + Duration::minutes(90) - Duration::MILLISECOND);
    assert_eq!(browser.get("/").await.status, StatusCode::OK);
    app.clock.set(NOW + Duration::minutes(90));
    let page = browser.get("/").await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
    let page = browser.get("/sign-in").await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
    assert!(page.text.contains("接続は終了しました") && page.text.contains("もう一度「接続」"));
}

#[tokio::test]
async fn a_revoked_device_or_a_suspended_establishment_closes_the_pages() {
    for change in [
        "UPDATE devices SET revoked_ms = 1",
        "UPDATE establishments SET suspended_ms = 1",
        "UPDATE users SET disabled_ms = 1",
        "UPDATE tunnel_sessions SET ended_ms = 1",
    ] {
        for db in databases().await {
            let app = app(&db).await;
            let place = people::place(&app, "0123", USER_ID).await;
            let mut browser = people::signed_in_member(&app, &place).await;
            assert_eq!(browser.get("/").await.status, StatusCode::OK);
            sqlx::query(change).execute(db.pool()).await.unwrap();
            let answer = browser.get("/").await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{change}");
        }
    }
}

#[tokio::test]
async fn a_user_with_an_initial_password_is_sent_to_change_it_from_every_page() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let mut browser = people::signed_in_member(&app, &place).await;
    set_password_initial(&app, true).await;
    let table = member_routes(Routes::new(app.clone())).finish().1;
    for route in table.iter().filter(|route| {
        let others = ["anyone", "visitor", "newcomer", "member or newcomer"];
        !others.contains(&route.allowed)
    }) {
        let path = filled(route.path);
        let answer = browser
            .send(route.method.clone(), &path, &[], Body::empty())
            .await;
        assert_eq!(answer.location, "/first-password", "{route:?}");
    }
}

#[tokio::test]
async fn every_answer_carries_the_protective_headers() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let mut browser = Browser::member(&app, place.session);
    for path in ["/sign-in", "/", "/nothing", "/assets/renkei.css"] {
        let answer = browser.get(path).await;
        let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'self';"));
        assert!(!policy.contains("unsafe"));
        assert_eq!(header("x-content-type-options"), "nosniff");
        let kept = header("cache-control").contains("immutable");
        assert_eq!(kept, path.starts_with("/assets/"), "{path}");
    }
}

#[tokio::test]
async fn no_page_has_inline_script_or_style() {
    let templates = concat!(env!("CARGO_MANIFEST_DIR"), "/templates");
    let mut pages = 0;
    for entry in std::fs::read_dir(templates).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for (place, _) in text.match_indices("<script") {
            assert!(text[place..].starts_with("<script src="), "{path:?}");
        }
        assert!(
            !text.contains("<style") && !text.contains(" style="),
            "{path:?}"
        );
        assert!(
            !text.contains(" onclick=") && !text.contains("javascript:"),
            "{path:?}"
        );
        pages += 1;
    }
    assert!(pages > 5);
}

#[tokio::test]
async fn a_failure_of_ours_shows_a_reference_and_nothing_else_of_it() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let mut browser = people::signed_in_member(&app, &place).await;
    sqlx::query("ALTER TABLE memberships RENAME TO gone")
        .execute(db.pool())
        .await
        .unwrap();
    let answer = browser.get("/").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.text.contains("お問い合わせ番号"));
    assert!(!answer.text.contains("memberships") && !answer.text.contains("SELECT"));
}

#[tokio::test]
async fn a_handler_that_panics_answers_with_the_page_for_our_failures() {
    async fn panics() -> StatusCode {
        panic!("on purpose")
    }
    let db = sqlite().await;
    let app = app(&db).await;
    let routes =
        Routes::new(app.clone()).allow::<principals::Anyone, _, _>(Method::GET, "/panics", panics);
    let (router, _) = finish(routes, app, Side::Office);
    let answer = Browser::new(router, Way::Office).get("/panics").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.text.contains("お問い合わせ番号"));
}

#[tokio::test]
async fn an_unknown_page_is_answered_with_404_and_a_way_back() {
    let db = sqlite().await;
    let app = app(&db).await;
    let answer = Browser::office(&app).get("/nothing").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.text.contains("ページが見つかりません") && answer.text.contains("href=\"/\""));
}

#[tokio::test]
async fn a_pages_script_is_answered_in_json() {
    let db = sqlite().await;
    let app = app(&db).await;
    let mut browser = Browser::office(&app);
    let headers = [("accept", "application/json")];
    let answer = browser
        .send(Method::GET, "/", &headers, Body::empty())
        .await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let body: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(body["sign_in"], true);
}

#[tokio::test]
async fn a_form_that_is_too_large_is_refused() {
    let db = sqlite().await;
    let app = app(&db).await;
    let mut browser = Browser::office(&app);
    let long = "x".repeat(forms::FORM_LIMIT_BYTES);
    let answer = browser.post("/sign-in", &[("user_id", &long)]).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_rehearsal_says_so_on_every_page() {
    let db = sqlite().await;
    let app = crate::testing::rehearsal(&db).await;
    for path in ["/sign-in", "/nothing"] {
        let answer = Browser::office(&app).get(path).await;
        assert!(answer.text.contains("これは練習用の環境です"), "{path}");
    }
}

#[tokio::test]
async fn a_link_on_another_site_is_opened_once_more_from_here_and_not_a_third_time() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let mut browser = Browser::member(&app, place.session);
    let link = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
    ];
    let mut follow = async |path: &str| {
        let answer = browser.send(Method::GET, path, &link, Body::empty());
        answer.await.text
    };
    let first = follow("/filings").await;
    assert!(first.contains("0;url=/filings?again=1"), "{first}");
    let second = follow("/filings?again=1").await;
    assert!(second.contains("ユーザーID"), "{second}");
    let elsewhere = follow("//evil.example").await;
    assert!(!elsewhere.contains("url="), "{elsewhere}");
}

#[tokio::test]
async fn after_hours_the_page_of_a_session_that_is_over_says_when_it_opens_next() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let mut browser = Browser::member(&app, place.session);
    // A Friday evening.
    app.clock.set(NOW + Duration::hours(10));
    let page = browser.get("/sign-in").await;
    assert_eq!(page.status, 401);
    let next = "次回は3月16日（月）8:00からご利用いただけます";
    assert!(page.text.contains("接続は終了しました") && page.text.contains(next));
    assert!(!page.text.contains("もう一度「接続」"), "{}", page.text);
    app.clock.set(NOW + Duration::hours(3));
    let page = browser.get("/sign-in").await;
    assert!(page.text.contains("もう一度「接続」"), "{}", page.text);
}
