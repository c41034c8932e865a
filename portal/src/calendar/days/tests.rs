//! Entering and removing days as a supervisor does it: looked at first, saved as looked at.

use super::*;
use crate::audit;
use crate::testing::world::{Browser, World};
use crate::testing::worlds;

const WRONG: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

/// The fields behind the preview's button.
fn offered(page: &str) -> Vec<(String, String)> {
    let form = page.split("class=\"actions\"").nth(1).unwrap();
    let hidden = form.split("type=\"hidden\" name=\"").skip(1);
    hidden
        .filter_map(|input| {
            let (name, rest) = input.split_once("\" value=\"")?;
            let (value, _) = rest.split_once('"')?;
            (name != "csrf").then(|| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Looks at an edit and saves it; the preview, and where the answer leads.
async fn edit(keeper: &Browser, path: &str, form: &[(&str, &str)]) -> (String, String) {
    let preview = match path {
        "/calendar/remove" => "/calendar/remove/preview",
        _ => "/calendar/preview",
    };
    let (status, _, page) = keeper.post(preview, form).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    assert!(page.contains("まだ保存していません"));
    let fields = offered(&page);
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let (status, location, answer) = keeper.post(path, &fields).await;
    assert_eq!(status, StatusCode::SEE_OTHER, "{answer}");
    (page, location)
}

#[tokio::test]
async fn a_day_is_looked_at_first_and_shows_until_it_is_removed() {
    for world in worlds().await {
        // The tests' now is Friday, 13 March 2026; the 20th is a holiday.
        let page = world.tanaka.get("/calendar").await.1;
        assert!(page.contains("登録された日はありません") && page.contains("祝日（春分の日）"));
        let closing = [
            ("kind", "closing"),
            ("day", "2026-03-16"),
            ("reason", "創立記念日"),
        ];
        let preview = world.tanaka.post("/calendar/preview", &closing).await.2;
        assert!(preview.contains("2026年3月16日（月）を休業日にします。理由：創立記念日"));
        assert!(
            preview.contains("<strong>1日</strong>の利用時間"),
            "{preview}"
        );
        assert!(preview.contains("いまの接続に影響はありません"));
        let page = world.tanaka.get("/calendar").await.1;
        assert!(
            page.contains("登録された日はありません"),
            "nothing is saved"
        );

        let (_, location) = edit(&world.tanaka, "/calendar", &closing).await;
        assert_eq!(location, "/calendar?done=entered&sessions=0");
        let extra = [
            ("kind", "extra"),
            ("day", "2026-03-20"),
            ("opens", "9:00"),
            ("closes", "12:30"),
        ];
        edit(&world.admin, "/calendar", &extra).await;
        let page = world.sato.get("/calendar").await.1;
        assert!(page.contains("基金の休業日（創立記念日）"));
        assert!(page.contains("9:00〜12:30") && !page.contains("春分の日"));
        let day = [("day", "2026-03-16")];
        let (_, location) = edit(&world.tanaka, "/calendar/remove", &day).await;
        assert_eq!(location, "/calendar?done=removed&sessions=0");
        let page = world.tanaka.get("/calendar").await.1;
        assert!(!page.contains("創立記念日"));
        let again = world.tanaka.post("/calendar/remove/preview", &day).await.0;
        assert_eq!(again, StatusCode::CONFLICT);
        audit::verify(&world.app.db, &world.app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn the_preview_says_what_moves_and_a_filing_stays_in_the_month_of_its_receipt() {
    for world in worlds().await {
        world.alice.file("20260313_0123_資格取得届.pdf").await;
        let (_, queue) = world.sato.get("/filings").await;
        assert!(queue.contains("2026年4月15日（水）"), "{queue}");
        // The closing day of March is Friday, 3 April, and its decision day the 15th.
        let days = [
            ("kind", "closing"),
            ("day", "2026-04-15"),
            ("reason", "設備点検"),
        ];
        let (page, _) = edit(&world.tanaka, "/calendar", &days).await;
        assert!(page.contains("1件の届書</strong>の処理期限"), "{page}");
        let (_, queue) = world.sato.get("/filings").await;
        assert!(queue.contains("2026年4月14日（火）"), "{queue}");
        let days = [
            ("kind", "closing"),
            ("day", "2026-04-01"),
            ("until", "2026-04-05"),
            ("reason", "新年度準備"),
        ];
        let (page, _) = edit(&world.tanaka, "/calendar", &days).await;
        // Wednesday to Friday; Saturday and Sunday are closed anyway.
        for part in ["4月1日（水）を休", "4月2日（木）を休", "4月3日（金）を休"]
        {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("4月4日（土）を休"), "{page}");
        assert!(page.contains("2026年3月31日（火）（決定日"), "{page}");
        assert!(
            page.contains("件の締切</strong>について、お知らせメール"),
            "{page}"
        );
        // Its receipt says March, so it is decided with March.
        let (_, queue) = world.sato.get("/filings").await;
        assert!(queue.contains("2026年4月14日（火）"), "{queue}");
    }
}

#[tokio::test]
async fn closing_today_says_how_many_sessions_end_and_ends_them() {
    for world in worlds().await {
        let form = [
            ("kind", "closing"),
            ("day", "2026-03-13"),
            ("reason", "停電"),
        ];
        let (page, location) = edit(&world.tanaka, "/calendar", &form).await;
        assert!(page.contains("2件の接続"), "{page}");
        assert_eq!(location, "/calendar?done=entered&sessions=2");
        let page = world.tanaka.get(&location).await.1;
        assert!(page.contains("終了時刻が早まりました"));
    }
}

#[tokio::test]
async fn what_was_looked_at_before_somebody_else_saved_is_not_saved() {
    for world in worlds().await {
        let form = [("kind", "closing"), ("day", "2026-03-16")];
        let page = world.tanaka.post("/calendar/preview", &form).await.2;
        let fields = offered(&page);
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        edit(
            &world.admin,
            "/calendar",
            &[("kind", "closing"), ("day", "2026-03-17")],
        )
        .await;
        let (status, _, page) = world.tanaka.post("/calendar", &fields).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(page.contains("ほかの人が先に"), "{page}");
        // Nor without a look.
        assert_eq!(
            world.tanaka.post("/calendar", &form).await.0,
            StatusCode::CONFLICT
        );
        let page = world.tanaka.get("/calendar").await.1;
        assert!(!page.contains("value=\"2026-03-16\"") && page.contains("value=\"2026-03-17\""));
    }
}

#[tokio::test]
async fn reviewers_look_and_are_told_who_may_change() {
    let world = World::new().await;
    let (status, page) = world.sato.get("/calendar").await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        page.contains("責任者とシステム管理者です")
            && !page.contains("<form method=\"post\" action=\"/calendar")
    );
    let form = [("kind", "closing"), ("day", "2026-03-16")];
    for path in [
        "/calendar",
        "/calendar/preview",
        "/calendar/remove",
        "/calendar/remove/preview",
    ] {
        let status = world.sato.post(path, &form).await.0;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn what_makes_no_day_is_refused_with_its_field() {
    let world = World::new().await;
    let long = "あ".repeat(41);
    for (kind, day, until, hours, reason, field) in [
        ("closing", "2026-03-12", "", ("", ""), "", "day"),
        ("closing", "2026-02-30", "", ("", ""), "", "day"),
        ("closing", "2026-03-16", "2026-03-15", ("", ""), "", "until"),
        ("closing", "2026-03-16", "2026-04-16", ("", ""), "", "until"),
        ("closing", "2026-03-14", "2026-03-15", ("", ""), "", "until"),
        (
            "extra",
            "2026-03-21",
            "2026-03-22",
            ("9:00", "12:00"),
            "",
            "until",
        ),
        ("extra", "2026-03-21", "", ("12:00", "12:00"), "", "opens"),
        ("extra", "2026-03-21", "", ("25:00", "26:00"), "", "opens"),
        ("other", "2026-03-21", "", ("", ""), "", "kind"),
        (
            "closing",
            "2026-03-16",
            "",
            ("", ""),
            long.as_str(),
            "reason",
        ),
    ] {
        let form = [
            ("kind", kind),
            ("day", day),
            ("until", until),
            ("opens", hours.0),
            ("closes", hours.1),
            ("reason", reason),
        ];
        for path in ["/calendar/preview", "/calendar"] {
            let (status, _, page) = world.tanaka.post(path, &form).await;
            assert_eq!(status, WRONG, "{form:?}");
            assert!(
                page.contains(&format!("href=\"#{field}\"")),
                "{form:?}: {page}"
            );
        }
    }
    let page = world.tanaka.get("/calendar").await.1;
    assert!(page.contains("登録された日はありません"));
}
