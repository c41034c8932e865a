//! The calendar in the database: entered days, hours, and the sessions they shorten.

use super::*;
use crate::clock::unix_ms;
use crate::db::Db;
use crate::devices::tests::Fund;
use crate::testing::{NOW, databases};
use crate::tunnel_sessions::store as sessions;
use time::macros::{date, datetime, time};

const TODAY: Date = date!(2026 - 03 - 13);

fn closing(day: Date) -> Edit {
    Edit::Enter(CalendarDay {
        day,
        kind: DayKind::Closing,
        reason: "設備点検".to_owned(),
    })
}

fn extra(day: Date, opens: Time, closes: Time) -> Edit {
    Edit::Enter(CalendarDay {
        day,
        kind: DayKind::Extra(OpeningHours::new(opens, closes).unwrap()),
        reason: String::new(),
    })
}

async fn make(db: &Db, made: &Edit) -> Result<Effect, EditError> {
    let mut tx = db.begin().await.unwrap();
    let keys = MasterKey::generate();
    let effect = edit(
        &mut tx,
        &keys,
        &Actor::System,
        std::slice::from_ref(made),
        false,
        NOW,
    )
    .await?;
    Db::commit(tx).await.unwrap();
    Ok(effect)
}

async fn calendar(db: &Db) -> Calendar {
    let mut connection = db.pool().acquire().await.unwrap();
    let entries = store::entries(&mut connection).await.unwrap();
    entries.calendar(false)
}

#[tokio::test]
async fn what_staff_enter_is_what_the_calendar_says() {
    for db in databases().await {
        assert_eq!(calendar(&db).await, Calendar::default());
        make(&db, &closing(date!(2026 - 03 - 16))).await.unwrap();
        let saturday = date!(2026 - 03 - 14);
        make(&db, &extra(saturday, time!(9:00), time!(12:00)))
            .await
            .unwrap();
        let hours = OpeningHours::new(time!(9:30), time!(18:00)).unwrap();
        make(&db, &Edit::Week(WeekHours::weekdays(hours)))
            .await
            .unwrap();
        let open = |calendar: &Calendar, at| matches!(calendar.opening(at), Opening::Open { .. });
        let now = calendar(&db).await;
        assert!(open(&now, datetime!(2026-03-14 11:59 +9)));
        assert!(!open(&now, datetime!(2026-03-16 10:00 +9)));
        assert!(!open(&now, datetime!(2026-03-17 9:29 +9)));
        assert!(open(&now, datetime!(2026-03-17 9:30 +9)));
        make(&db, &Edit::Remove(date!(2026 - 03 - 16)))
            .await
            .unwrap();
        assert!(open(&calendar(&db).await, datetime!(2026-03-16 10:00 +9)));
        assert!(matches!(
            make(&db, &Edit::Remove(date!(2026 - 03 - 16))).await,
            Err(EditError::NotEntered(_))
        ));
    }
}

#[tokio::test]
async fn closing_the_day_ends_the_sessions_that_are_open() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let device = fund.device("PC-1").await;
        let session = fund.connect(&device).await.unwrap().grant.session;
        let effect = make(&db, &closing(TODAY)).await.unwrap();
        assert_eq!((effect.ended, effect.shortened), (vec![session], vec![]));
        let live = sessions::liveness(&db, session).await.unwrap().unwrap();
        assert!(live.has_ended);
    }
}

#[tokio::test]
async fn earlier_hours_shorten_a_session_and_later_hours_lengthen_none() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let device = fund.device("PC-1").await;
        let opened = fund.connect(&device).await.unwrap();
        let session = opened.grant.session;
        let deadline = || async { sessions::liveness(&db, session).await.unwrap().unwrap() };

        let effect = make(&db, &extra(TODAY, time!(8:00), time!(23:00)))
            .await
            .unwrap();
        assert_eq!(effect, Effect::default());
        assert_eq!(deadline().await.deadline_ms, opened.grant.deadline_ms);

        let effect = make(&db, &extra(TODAY, time!(8:00), time!(10:30)))
            .await
            .unwrap();
        assert_eq!(effect.shortened, [session]);
        let shortened = unix_ms(datetime!(2026-03-13 10:30 +9));
        assert_eq!(deadline().await.deadline_ms, shortened);

        make(&db, &Edit::Remove(TODAY)).await.unwrap();
        assert_eq!(deadline().await.deadline_ms, shortened);
    }
}

#[tokio::test]
async fn a_reason_of_two_lines_is_refused() {
    for db in databases().await {
        let two_lines = Edit::Enter(CalendarDay {
            day: TODAY,
            kind: DayKind::Closing,
            reason: "一行目\n二行目".to_owned(),
        });
        assert!(matches!(
            make(&db, &two_lines).await,
            Err(EditError::Reason)
        ));
        assert_eq!(calendar(&db).await, Calendar::default());
    }
}

#[test]
fn a_rehearsal_is_always_open() {
    let mut entries = Entries::default();
    entries.apply(&closing(TODAY)).unwrap();
    assert!(entries.calendar(true).is_always_open());
    assert!(!entries.calendar(false).is_always_open());
}

#[test]
fn a_time_of_day_is_read_and_written_alike() {
    assert_eq!(clock_from_text("08:00"), Some(time!(8:00)));
    assert_eq!(
        clock_from_text("8:05").map(clock_text).as_deref(),
        Some("08:05")
    );
    for text in ["", "24:00", "8:5", "8", "aa:00", "008:00", "08:00:00"] {
        assert_eq!(clock_from_text(text), None, "{text}");
    }
}

#[test]
fn staff_are_told_ninety_days_before_the_bundled_holidays_end() {
    let last = HOLIDAYS_KNOWN_UNTIL - time::Duration::days(91);
    assert_eq!(holiday_warning(last), None);
    for days in [90, 0, -400] {
        let today = HOLIDAYS_KNOWN_UNTIL - time::Duration::days(days);
        let warning = holiday_warning(today).unwrap();
        assert!(
            warning.contains("祝日") && warning.ends_with('。'),
            "{warning}"
        );
    }
}
