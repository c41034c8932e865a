//! When notices are destroyed, once, and what remains of them.

use http::StatusCode;
use sqlx::Row as _;
use time::Duration;
use time::macros::datetime;

use super::*;
use crate::audit;
use crate::testing::world::World;
use crate::testing::{NOW, worlds};

#[test]
fn years_are_counted_by_the_calendar_and_never_too_early() {
    let rule = |years| Rule {
        years,
        ..Rule::default_of(Kind::Payment)
    };
    let limit = |years, now| rule(years).limit(now);
    assert_eq!(
        limit(7, datetime!(2033-11-12 10:00 +9)),
        datetime!(2026-11-12 0:00 +9)
    );
    assert_eq!(
        limit(1, datetime!(2028-02-29 0:30 +9)),
        datetime!(2027-02-28 0:00 +9)
    );
}

#[test]
fn the_longer_of_two_rules_holds_on_for_a_while() {
    let changed = datetime!(2026-11-12 10:00 +9);
    let rule = Rule {
        years: 7,
        years_before: 10,
        changed: Some(changed),
        ..Rule::default_of(Kind::Payment)
    };
    assert_eq!(rule.years_at(changed + GRACE - Duration::SECOND), 10);
    assert_eq!(rule.years_at(changed + GRACE), 7);
    let longer = Rule {
        years: 10,
        years_before: 7,
        ..rule
    };
    assert_eq!(longer.years_at(changed), 10);
}

async fn issued(world: &World) -> String {
    let filing = world.alice.file("20260313_0123_資格喪失届.pdf").await;
    world.sato.post(&format!("{filing}/take"), &[]).await;
    let path = format!("{filing}/determination");
    let person = [
        ("member_number", "1"),
        ("name", "山田 太郎"),
        ("event", "loss"),
        ("event_on", "2026-03-01"),
    ];
    world.sato.post(&path, &person).await;
    let (_, page) = world.sato.get(&format!("{path}/draft")).await;
    let at = page.find("name=\"draft\" value=\"").unwrap() + 20;
    let draft = page[at..at + 36].to_owned();
    let (status, _, page) = world
        .sato
        .post(&format!("{path}/issue"), &[("draft", &draft)])
        .await;
    assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
    let (_, page) = world.alice.get("/notices").await;
    let at = page.find("/notices/0").unwrap();
    page[at..at + 45].to_owned()
}

#[tokio::test]
async fn what_is_over_is_destroyed_once_and_a_record_remains() {
    for world in worlds().await {
        let notice = issued(&world).await;
        let (app, far) = (&world.app, datetime!(2100-01-01 0:00 UTC));
        let objects = async || app.vault.put_before(far).await.unwrap().len();
        let before = objects().await;
        let (_, _, pdf) = world.alice.download(&format!("{notice}.pdf")).await;
        // Ten years and no day less.
        let day = |text| {
            let day = Date::parse(text, &time::format_description::well_known::Iso8601::DATE);
            day.unwrap().midnight().assume_offset(JST)
        };
        assert_eq!(destroy_due(app, day("2036-03-13")).await.unwrap(), 0);
        assert_eq!(objects().await, before);
        let now = day("2036-03-14");
        let (one, two) = tokio::join!(destroy_due(app, now), destroy_due(app, now));
        assert_eq!(one.unwrap() + two.unwrap(), 1);
        assert_eq!(objects().await, before - 1);
        assert_eq!(destroy_due(app, now).await.unwrap(), 0);

        let (status, page) = world.alice.get(&notice).await;
        assert_eq!(status, 200);
        assert!(page.contains("この書類は廃棄しました"), "{page}");
        assert_eq!(world.alice.get(&format!("{notice}.pdf")).await.0, 404);
        assert_eq!(world.sato.get(&notice).await.0, 200);
        let (_, page) = world.sato.get("/destructions").await;
        let hash = crate::custody::sha256_hex(&pdf);
        assert!(
            page.contains(&hash) && page.contains("保存期間10年の満了"),
            "{page}"
        );
        let (status, _, list) = world.sato.download("/destructions.csv").await;
        assert_eq!(status, 200);
        let list = String::from_utf8(list).unwrap();
        assert!(list.starts_with('\u{FEFF}') && list.contains(&hash));
        assert!(!list.contains("山田"));
        let rows = sqlx::query("SELECT COUNT(*) AS n FROM notices")
            .fetch_one(app.db.pool())
            .await
            .unwrap();
        assert_eq!(rows.try_get::<i64, _>("n").unwrap(), 1);
        audit::verify(&app.db, &app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn a_crash_after_the_object_went_is_finished_by_the_next_run() {
    let world = World::new().await;
    issued(&world).await;
    let (app, now) = (&world.app, datetime!(2040-01-01 0:00 +9));
    let rule = store::rule(&app.db, Kind::Determination).await.unwrap();
    let due = store::due(&app.db, Kind::Determination, rule.limit(now), 10)
        .await
        .unwrap();
    app.vault.delete(due[0].document).await.unwrap();
    assert_eq!(destroy_due(app, now).await.unwrap(), 1);
}

#[tokio::test]
async fn only_a_supervisor_changes_a_rule_and_nonsense_stays_in_the_form() {
    for world in worlds().await {
        let form = |years| [("kind", "payment"), ("years", years)];
        assert_eq!(world.sato.get("/retention").await.0, 200);
        assert_eq!(world.admin.get("/retention").await.0, 404);
        assert_eq!(world.sato.post("/retention", &form("7")).await.0, 404);
        for wrong in ["0", "51", "ten", "", "7.5"] {
            let (status, _, page) = world.tanaka.post("/retention", &form(wrong)).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
            assert!(page.contains(&format!("value=\"{wrong}\"")), "{wrong}");
        }
        let (status, to, _) = world.tanaka.post("/retention", &form("7")).await;
        assert_eq!(
            (status, to.as_str()),
            (StatusCode::SEE_OTHER, "/retention?done=1")
        );
        let rule = store::rule(&world.app.db, Kind::Payment).await.unwrap();
        assert_eq!((rule.years, rule.years_before), (7, 10));
        // A second change within the time of grace does not shorten what still holds.
        world.tanaka.post("/retention", &form("5")).await;
        let rule = store::rule(&world.app.db, Kind::Payment).await.unwrap();
        assert_eq!((rule.years, rule.years_at(NOW)), (5, 10));
    }
}
