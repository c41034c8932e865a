//! The calendar page as staff use it, and what it does to open sessions.

use super::*;
use crate::staff::StaffRole;
use crate::testing::people::{self, USER_ID};
use crate::testing::{app, databases, sqlite};

const WRONG: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

#[tokio::test]
async fn an_entered_day_shows_in_the_list_and_in_the_preview_until_it_is_removed() {
    for db in databases().await {
        let app = app(&db).await;
        let (_, mut browser) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
        // The tests' now is Friday, 13 March 2026; the 20th is a holiday.
        let page = browser.get("/calendar").await.text;
        assert!(page.contains("登録された日はありません") && page.contains("祝日（春分の日）"));
        let closing = [
            ("kind", "closing"),
            ("day", "2026-03-16"),
            ("reason", "創立記念日"),
        ];
        let answer = browser.submit("/calendar", &closing).await;
        assert_eq!(answer.location, "/calendar?done=entered&sessions=0");
        let extra = [
            ("kind", "extra"),
            ("day", "2026-03-20"),
            ("opens", "9:00"),
            ("closes", "12:30"),
        ];
        browser.submit("/calendar", &extra).await;
        let page = browser.get("/calendar").await.text;
        assert!(page.contains("基金の休業日（創立記念日）"));
        assert!(page.contains("9:00〜12:30") && !page.contains("春分の日"));
        let answer = browser
            .submit_to("/calendar", "/calendar/remove", &[("day", "2026-03-16")])
            .await;
        assert_eq!(answer.location, "/calendar?done=removed&sessions=0");
        let page = browser.get("/calendar").await.text;
        assert!(!page.contains("創立記念日"));
        let answer = browser
            .submit_to("/calendar", "/calendar/remove", &[("day", "2026-03-16")])
            .await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
    }
}

#[tokio::test]
async fn closing_today_ends_open_sessions_and_says_so() {
    for db in databases().await {
        let app = app(&db).await;
        people::place(&app, "0123", USER_ID).await;
        let (_, mut browser) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
        let form = [
            ("kind", "closing"),
            ("day", "2026-03-13"),
            ("reason", "停電"),
        ];
        let answer = browser.submit("/calendar", &form).await;
        assert_eq!(answer.location, "/calendar?done=entered&sessions=1");
        let page = browser.get(&answer.location).await.text;
        assert!(page.contains("終了時刻が早まりました"));
    }
}

#[tokio::test]
async fn what_makes_no_day_is_refused_with_its_field() {
    let db = sqlite().await;
    let app = app(&db).await;
    let (_, mut browser) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
    for (kind, day, opens, closes, field) in [
        ("closing", "2026-03-12", "", "", "day"),
        ("closing", "2026-02-30", "", "", "day"),
        ("extra", "2026-03-21", "12:00", "12:00", "opens"),
        ("extra", "2026-03-21", "25:00", "26:00", "opens"),
        ("other", "2026-03-21", "", "", "kind"),
    ] {
        let form = [
            ("kind", kind),
            ("day", day),
            ("opens", opens),
            ("closes", closes),
        ];
        let answer = browser.submit("/calendar", &form).await;
        assert_eq!(answer.status, WRONG, "{day}");
        assert!(answer.text.contains(&format!("<a href=\"#{field}\">")));
    }
    let page = browser.get("/calendar").await.text;
    assert!(page.contains("登録された日はありません"));
}
