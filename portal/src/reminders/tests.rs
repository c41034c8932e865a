//! Reminders over time: which is due when, and that nobody gets one twice.

use super::*;
use crate::testing::world::World;
use crate::testing::worlds;
use http::StatusCode;
use time::macros::{date, datetime};

fn step(now: OffsetDateTime) -> Option<Step> {
    due(&Cycle::default(), &Calendar::default(), now).map(|due| due.step)
}

#[test]
fn reminders_are_due_five_and_one_working_days_before_golden_week_and_on_no_closed_day() {
    // April 2026 closes on Friday, 1 May; 29 April is a holiday.
    assert_eq!(step(datetime!(2026-04-22 10:00 +9)), None);
    assert_eq!(step(datetime!(2026-04-23 7:59 +9)), None);
    assert_eq!(step(datetime!(2026-04-23 8:00 +9)), Some(Step::FiveDays));
    assert_eq!(step(datetime!(2026-04-25 10:00 +9)), None);
    assert_eq!(step(datetime!(2026-04-28 10:00 +9)), Some(Step::FiveDays));
    assert_eq!(step(datetime!(2026-04-29 10:00 +9)), None);
    assert_eq!(step(datetime!(2026-04-30 10:00 +9)), Some(Step::OneDay));
    assert_eq!(step(datetime!(2026-05-01 19:59 +9)), Some(Step::OneDay));
    assert_eq!(step(datetime!(2026-05-01 20:00 +9)), None);
    assert_eq!(step(datetime!(2026-05-07 10:00 +9)), None);
    // The fund is closed on the day before: the last reminder goes out on the closing day.
    let mut calendar = Calendar::default();
    calendar.close_on(date!(2026 - 04 - 30), "");
    let cycle = Cycle::default();
    let at = |now| due(&cycle, &calendar, now).map(|due| due.step);
    assert_eq!(at(datetime!(2026-04-30 10:00 +9)), None);
    assert_eq!(at(datetime!(2026-04-28 10:00 +9)), Some(Step::OneDay));
}

async fn mails(world: &World) -> i64 {
    use sqlx::Row as _;
    let row = sqlx::query("SELECT COUNT(*) AS n FROM outbox WHERE purpose = 'reminder'")
        .fetch_one(world.app.db.pool())
        .await
        .unwrap();
    row.try_get("n").unwrap()
}

#[tokio::test]
async fn each_user_gets_each_reminder_once_also_from_two_portals_and_after_a_day_down() {
    for world in worlds().await {
        let app = &world.app;
        let monday = datetime!(2026-04-27 10:00 +9);
        // Down since the 23rd: on the 27th the first reminder is made up for, once.
        let two = [app.clone(), app.clone()]
            .map(|app| tokio::spawn(async move { remind(&app, monday).await.unwrap() }));
        let mut queued = 0;
        for one in two {
            queued += one.await.unwrap();
        }
        assert_eq!((queued, mails(&world).await), (2, 2));
        let later = datetime!(2026-04-28 10:00 +9);
        assert_eq!(remind(app, later).await.unwrap(), 0);
        // Down over the 30th: the last one goes out on the closing day itself.
        let closing = datetime!(2026-05-01 8:05 +9);
        assert_eq!(remind(app, closing).await.unwrap(), 2);
        assert_eq!(remind(app, closing + Duration::HOUR).await.unwrap(), 0);
        assert_eq!(mails(&world).await, 4);
        let holiday = datetime!(2026-05-04 10:00 +9);
        assert_eq!(remind(app, holiday).await.unwrap(), 0);
        audit::verify(&app.db, &app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn who_switches_reminders_off_gets_none_and_who_switches_them_on_again_does() {
    for world in worlds().await {
        let path = "/settings/reminders";
        let (status, page) = world.alice.get(path).await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("お知らせを受け取らない"));
        let off = world.alice.post(path, &[("wish", "off")]).await.0;
        assert_eq!(off, StatusCode::SEE_OTHER);
        assert!(world.alice.get(path).await.1.contains("お知らせを受け取る"));
        let monday = datetime!(2026-04-27 10:00 +9);
        assert_eq!(remind(&world.app, monday).await.unwrap(), 1);
        world.alice.post(path, &[("wish", "on")]).await;
        assert_eq!(remind(&world.app, monday).await.unwrap(), 1);
        let unknown = world.alice.post(path, &[("wish", "maybe")]).await.0;
        assert_eq!(unknown, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn the_home_page_says_the_next_closing_day() {
    let world = World::new().await;
    // The tests' now is Friday, 13 March 2026: March closes on Friday, 3 April.
    let (_, home) = world.alice.get("/").await;
    assert!(home.contains("2026年3月") && home.contains("2026年4月3日（金）"));
    assert!(home.contains("あと14営業日です"), "{home}");
}
