//! Reminders over time: which is due when, and that nobody gets one twice.

use super::*;
use crate::testing::world::World;
use crate::testing::worlds;
use http::StatusCode;
use time::macros::{date, datetime};

/// What is due of closing days alone.
fn step(now: OffsetDateTime) -> Option<Step> {
    step_in(&Calendar::default(), now)
}

fn step_in(calendar: &Calendar, now: OffsetDateTime) -> Option<Step> {
    let none = Kinds::new(Vec::new());
    let due = due(&Cycle::default(), &none, calendar, now);
    assert!(due.len() <= 1, "{due:?}");
    due.first().map(|due| due.step)
}

fn names(due: &[Due]) -> Vec<(Date, Step, Vec<&'static str>)> {
    due.iter()
        .map(|due| {
            let kinds = due.last.kinds.iter().map(|kind| kind.name()).collect();
            (due.last.day, due.step, kinds)
        })
        .collect()
}

#[test]
fn a_kind_due_on_a_day_of_the_month_is_reminded_of_and_one_due_after_its_event_is_not() {
    let kinds = Kinds::of_a_new_portal();
    let (cycle, calendar) = (Cycle::default(), Calendar::default());
    let at = |now| due(&cycle, &kinds, &calendar, now);
    // 5 May 2026 is a holiday like 3, 4 and 6 May: what is due on it is due on 1 May.
    let last = date!(2026 - 05 - 01);
    let salary = vec!["基準給与変更届", "月額変更届"];
    let found = at(datetime!(2026-04-23 8:00 +9));
    assert_eq!(names(&found), [(last, Step::FiveDays, salary.clone())]);
    assert_eq!(found[0].last.closes, Some("2026-04".parse().unwrap()));
    assert_eq!(found[0].last.events, "2026-04".parse().unwrap());
    let found = at(datetime!(2026-05-01 10:00 +9));
    assert_eq!(names(&found), [(last, Step::OneDay, salary)]);
    // The 14th, from five working days before; nothing that has 30 days alone.
    let last = date!(2026 - 05 - 14);
    let members = vec![
        "資格取得届",
        "資格喪失届",
        "氏名変更届",
        "中断者届",
        "復活者届",
    ];
    assert_eq!(names(&at(datetime!(2026-05-01 10:00 +9))).len(), 1);
    let found = at(datetime!(2026-05-08 10:00 +9));
    assert_eq!(names(&found), [(last, Step::FiveDays, members.clone())]);
    assert_eq!(found[0].last.closes, None);
    let found = at(datetime!(2026-05-13 10:00 +9));
    assert_eq!(names(&found), [(last, Step::OneDay, members)]);
    assert_eq!(at(datetime!(2026-05-15 10:00 +9)), []);
}

#[test]
fn the_days_of_reminders_are_those_on_which_they_become_due() {
    let (cycle, mut calendar) = (Cycle::default(), Calendar::default());
    let none = Kinds::new(Vec::new());
    let days = |calendar: &Calendar| {
        let last = last_days(&cycle, &none, calendar, date!(2026 - 04 - 20)).remove(0);
        Step::ALL.map(|step| last.reminded_on(step, calendar))
    };
    let april = |day| Date::from_calendar_date(2026, time::Month::April, day).ok();
    assert_eq!(days(&calendar), [april(23), april(30)]);
    calendar.close_on(date!(2026 - 04 - 30), "");
    assert_eq!(days(&calendar), [april(22), april(28)]);
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
    let at = |now| step_in(&calendar, now);
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
        // The kinds that are due on the 14th, with their names and nobody's.
        let eighth = datetime!(2026-05-08 10:00 +9);
        assert_eq!(remind(app, eighth).await.unwrap(), 2);
        assert_eq!(remind(app, eighth).await.unwrap(), 0);
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
