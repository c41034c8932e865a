//! Changing the rules as a supervisor does it: looked at first, saved once, noticed if moved.

use super::*;
use crate::testing::world::World;
use crate::testing::worlds;

async fn mark(world: &World) -> String {
    Rules::now(&world.app).await.unwrap().mark()
}

/// The form with ordinary hours, changed by `changes`.
async fn form(world: &World, changes: &[(&str, &str)]) -> Vec<(String, String)> {
    let rules = Rules::now(&world.app).await.unwrap();
    let mut fields = Typed::of(&rules).to_fields();
    for (name, value) in changes {
        let field = fields.iter_mut().find(|field| field.0 == *name).unwrap();
        field.1 = (*value).to_owned();
    }
    fields
}

fn as_form(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

#[tokio::test]
async fn a_change_is_looked_at_first_and_saved_as_it_was_looked_at() {
    for world in worlds().await {
        world.alice.file("20260313_0123_資格取得届.pdf").await;
        // The tests' now is Friday, 13 March 2026, 10:00.
        let changes = [
            ("fri_closes", "10:30"),
            ("wed_opens", ""),
            ("wed_closes", ""),
            ("closing", "3"),
            ("decision", "10"),
        ];
        let fields = form(&world, &changes).await;
        let fields = as_form(&fields);
        let before = mark(&world).await;
        let (status, _, page) = world.tanaka.post("/calendar/rules/preview", &fields).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        assert!(page.contains("定休日") && page.contains("8:00〜10:30"));
        // Two sessions are open until 11:30; the filing's day of decision moves to 10 April.
        assert!(page.contains("2件の接続"), "{page}");
        assert!(page.contains("1件の届書"), "{page}");
        assert_eq!(mark(&world).await, before);

        let (status, location, _) = world.tanaka.post("/calendar/rules", &fields).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        assert_eq!(location, "/calendar/rules?saved=2");
        let rules = Rules::now(&world.app).await.unwrap();
        assert_eq!(rules.cycle.days, Days::new(3, 10).unwrap());
        assert_eq!(rules.entries.week.on(time::Weekday::Wednesday), None);
        let (_, page) = world.tanaka.get("/filings").await;
        assert!(page.contains("2026年4月10日（金）"), "{page}");
        // What was looked at before somebody else changed it is not saved.
        let (status, _, page) = world.tanaka.post("/calendar/rules", &fields).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(page.contains("ほかの人が先に"));
        audit::verify(&world.app.db, &world.app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn a_month_gets_a_closing_day_of_its_own_and_loses_it_again() {
    for world in worlds().await {
        let fields = form(
            &world,
            &[("month", "2026-03"), ("month_closing", "2026-04-08")],
        )
        .await;
        let (status, ..) = world
            .tanaka
            .post("/calendar/rules", &as_form(&fields))
            .await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        let (_, home) = world.alice.get("/").await;
        assert!(home.contains("2026年4月8日（水）"), "{home}");
        let fields = form(&world, &[("month", "2026-03")]).await;
        world
            .tanaka
            .post("/calendar/rules", &as_form(&fields))
            .await;
        let (_, home) = world.alice.get("/").await;
        assert!(home.contains("2026年4月3日（金）"), "{home}");
    }
}

#[tokio::test]
async fn two_who_save_at_once_do_not_both_win() {
    for world in worlds().await {
        // Both look before either saves.
        let third = form(&world, &[("closing", "3")]).await;
        let fourth = form(&world, &[("closing", "4")]).await;
        let mut tries = Vec::new();
        for fields in [third, fourth] {
            let tanaka = world.tanaka.clone();
            tries.push(tokio::spawn(async move {
                tanaka.post("/calendar/rules", &as_form(&fields)).await.0
            }));
        }
        let mut saved = 0;
        for one in tries {
            saved += usize::from(one.await.unwrap() == StatusCode::SEE_OTHER);
        }
        assert_eq!(saved, 1);
    }
}

#[tokio::test]
async fn what_makes_no_rule_is_refused_and_stays_in_the_form() {
    let world = World::new().await;
    for (name, value, field) in [
        ("mon_opens", "25:00", "week"),
        ("mon_opens", "21:00", "week"),
        ("mon_opens", "", "week"),
        ("closing", "31", "closing"),
        ("closing", "20", "closing"),
        ("closing", "x", "closing"),
        ("month_closing", "2026-04-08", "month"),
        ("month", "2026-13", "month"),
    ] {
        let fields = form(&world, &[(name, value)]).await;
        for path in ["/calendar/rules/preview", "/calendar/rules"] {
            let (status, _, page) = world.tanaka.post(path, &as_form(&fields)).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{name}={value}");
            assert!(page.contains(&format!("href=\"#{field}\"")), "{page}");
            assert!(page.contains(&format!("value=\"{value}\"")));
        }
    }
    // A Saturday, a day that is over, a day long after the month.
    for day in ["2026-04-04", "2026-03-12", "2026-08-03"] {
        let fields = form(&world, &[("month", "2026-03"), ("month_closing", day)]).await;
        let (status, ..) = world
            .tanaka
            .post("/calendar/rules", &as_form(&fields))
            .await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{day}");
    }
    let all = ["mon", "tue", "wed", "thu", "fri"];
    let names: Vec<_> = all
        .iter()
        .flat_map(|day| [format!("{day}_opens"), format!("{day}_closes")])
        .collect();
    let never: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    let fields = form(&world, &never).await;
    let (status, _, page) = world
        .tanaka
        .post("/calendar/rules", &as_form(&fields))
        .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(page.contains("少なくとも1つの曜日"));
}

#[tokio::test]
async fn supervisors_and_system_administrators_change_the_rules_and_nobody_else_sees_them() {
    let world = World::new().await;
    assert_eq!(
        world.sato.get("/calendar/rules").await.0,
        StatusCode::NOT_FOUND
    );
    let fields = form(&world, &[("closing", "3")]).await;
    let refused = world
        .sato
        .post("/calendar/rules", &as_form(&fields))
        .await
        .0;
    assert_eq!(refused, StatusCode::NOT_FOUND);
    for keeper in [&world.tanaka, &world.admin] {
        let (status, page) = keeper.get("/calendar/rules").await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("春分の日") && page.contains("内閣府"));
    }
    let saved = world
        .admin
        .post("/calendar/rules", &as_form(&fields))
        .await
        .0;
    assert_eq!(saved, StatusCode::SEE_OTHER);
}
