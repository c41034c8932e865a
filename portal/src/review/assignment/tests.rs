//! Who has which case, and that no case is left with nobody.

use http::StatusCode;

use super::*;
use crate::testing::world::World;
use crate::testing::{NOW, worlds};

async fn disable(world: &World, staff: StaffId) {
    sqlx::query("UPDATE staff SET disabled_ms = 1 WHERE id = $1")
        .bind(staff.to_string())
        .execute(world.app.db.pool())
        .await
        .unwrap();
}

async fn holder(world: &World, path: &str) -> Option<StaffId> {
    let id = path.trim_start_matches("/filings/").parse().unwrap();
    let mut tx = world.app.db.begin().await.unwrap();
    let filing = store::find_any(&mut tx, id).await.unwrap().unwrap();
    filing.state.reviewer()
}

#[tokio::test]
async fn a_supervisor_assigns_and_reassigns_and_nobody_else_can() {
    for world in worlds().await {
        let filing = world.alice.file("20260313_0123_資格取得届.pdf").await;
        let sato = world.sato.as_reviewer().await.id();
        let suzuki = world.suzuki.as_reviewer().await.id();
        let assign = format!("{filing}/assign");
        let to = |staff: StaffId| staff.to_string();
        let refused = world.sato.post(&assign, &[("staff", &to(sato))]).await.0;
        assert_eq!(refused, StatusCode::NOT_FOUND);
        let (_, page) = world.sato.get(&filing).await;
        assert!(!page.contains("担当を決める"));

        let (_, page) = world.tanaka.get(&filing).await;
        assert!(page.contains("担当を決める") && page.contains("佐藤（審査中 0件）"));
        let none = world.tanaka.post(&assign, &[("staff", "")]).await;
        assert_eq!(none.0, StatusCode::CONFLICT);
        assert!(none.2.contains("担当者を選んで"));
        let given = world.tanaka.post(&assign, &[("staff", &to(sato))]).await.0;
        assert_eq!(given, StatusCode::SEE_OTHER);
        assert_eq!(holder(&world, &filing).await, Some(sato));
        let given = world
            .tanaka
            .post(&assign, &[("staff", &to(suzuki))])
            .await
            .0;
        assert_eq!(given, StatusCode::SEE_OTHER);
        assert_eq!(holder(&world, &filing).await, Some(suzuki));
        // Who had it cannot decide it any more.
        let late = world
            .sato
            .post(&format!("{filing}/return"), &[("code", "illegible")])
            .await;
        assert_eq!(late.0, StatusCode::CONFLICT);
        // Staff read who gave it to whom; the establishment reads no name.
        let (_, ours) = world.tanaka.get(&filing).await;
        assert!(ours.contains("田中 → 鈴木"));
        let (_, theirs) = world.alice.get(&filing).await;
        assert!(theirs.contains("担当者を決めました") && !theirs.contains("鈴木"));
        // A system administrator and somebody who is gone have no cases.
        let gone = to(StaffId::new());
        for staff in [gone.as_str(), "x"] {
            let refused = world.tanaka.post(&assign, &[("staff", staff)]).await.0;
            assert_eq!(refused, StatusCode::CONFLICT);
        }
    }
}

#[tokio::test]
async fn the_cases_of_a_disabled_account_are_free_at_once() {
    for world in worlds().await {
        let first = world.alice.file("20260313_0123_資格取得届.pdf").await;
        let second = world.alice.file("20260313_0123_資格喪失届.pdf").await;
        let closed = world.alice.file("20260313_0123_氏名変更届.pdf").await;
        for filing in [&first, &second, &closed] {
            world.sato.post(&format!("{filing}/take"), &[]).await;
        }
        world
            .sato
            .post(&format!("{closed}/return"), &[("code", "illegible")])
            .await;
        let sato = world.sato.as_reviewer().await.id();
        let mut tx = world.app.db.begin().await.unwrap();
        let actor = Actor::CommandLine;
        let freed = free_cases_of(&mut tx, &world.app.keys, &actor, sato, NOW).await;
        assert_eq!(freed.unwrap(), 2);
        Db::commit(tx).await.unwrap();
        disable(&world, sato).await;
        assert_eq!(holder(&world, &first).await, None);
        assert_eq!(holder(&world, &second).await, None);
        assert_eq!(holder(&world, &closed).await, Some(sato));
        let taken = world.suzuki.post(&format!("{first}/take"), &[]).await.0;
        assert_eq!(taken, StatusCode::SEE_OTHER);
        audit::verify(&world.app.db, &world.app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn a_case_of_somebody_who_is_gone_is_shown_as_free_and_can_be_taken() {
    for world in worlds().await {
        let filing = world.alice.file("20260313_0123_資格取得届.pdf").await;
        world.sato.post(&format!("{filing}/take"), &[]).await;
        let sato = world.sato.as_reviewer().await.id();
        let locked = world.suzuki.post(&format!("{filing}/take"), &[]).await.0;
        assert_eq!(locked, StatusCode::CONFLICT);
        disable(&world, sato).await;
        let (_, list) = world.suzuki.get("/filings?view=unassigned").await;
        assert!(list.contains(&filing) && list.contains("利用停止"));
        let (_, page) = world.suzuki.get(&filing).await;
        assert!(page.contains("審査を始める"));
        let taken = world.suzuki.post(&format!("{filing}/take"), &[]).await.0;
        assert_eq!(taken, StatusCode::SEE_OTHER);
        let suzuki = world.suzuki.as_reviewer().await.id();
        assert_eq!(holder(&world, &filing).await, Some(suzuki));
    }
}

#[tokio::test]
async fn of_everybody_who_takes_or_closes_a_case_at_once_exactly_one_wins() {
    for world in worlds().await {
        let filing = world.alice.file("20260313_0123_資格取得届.pdf").await;
        let take = format!("{filing}/take");
        let tries = [&world.sato, &world.suzuki, &world.tanaka].map(|browser| {
            let (browser, take) = (browser.clone(), take.clone());
            tokio::spawn(async move { browser.post(&take, &[]).await.0 })
        });
        let mut won = 0;
        for one in tries {
            won += usize::from(one.await.unwrap() == StatusCode::SEE_OTHER);
        }
        assert_eq!(won, 1);

        // Whoever has it returns it twice at once while the supervisor gives it away.
        let suzuki = world.suzuki.as_reviewer().await.id();
        world
            .tanaka
            .post(
                &format!("{filing}/assign"),
                &[("staff", &suzuki.to_string())],
            )
            .await;
        let sato = world.sato.as_reviewer().await.id().to_string();
        let give = format!("{filing}/return");
        let mut tries = Vec::new();
        for browser in [&world.suzuki, &world.suzuki] {
            let (browser, give) = (browser.clone(), give.clone());
            tries.push(tokio::spawn(async move {
                browser.post(&give, &[("code", "illegible")]).await.0
            }));
        }
        let (tanaka, assign) = (world.tanaka.clone(), format!("{filing}/assign"));
        tries.push(tokio::spawn(async move {
            tanaka.post(&assign, &[("staff", &sato)]).await.0
        }));
        for one in tries {
            one.await.unwrap();
        }
        let mut tx = world.app.db.begin().await.unwrap();
        let id = filing.trim_start_matches("/filings/").parse().unwrap();
        let filing = store::find_any(&mut tx, id).await.unwrap().unwrap();
        drop(tx);
        let entries = store::timeline(&world.app.db, &filing).await.unwrap();
        let returned = entries
            .iter()
            .filter(|entry| entry.event == crate::filings::Event::Returned)
            .count();
        match filing.state {
            State::Returned { reviewer, .. } => assert_eq!((reviewer, returned), (suzuki, 1)),
            State::InReview { .. } => assert_eq!(returned, 0),
            state => panic!("{state:?}"),
        }
    }
}

#[tokio::test]
async fn who_is_disabled_or_becomes_a_system_administrator_leaves_no_case_behind() {
    for world in worlds().await {
        let sato = world.sato.as_reviewer().await.id();
        let suzuki = world.suzuki.as_reviewer().await.id();
        let first = world.alice.file("20260313_0123_資格取得届.pdf").await;
        let second = world.alice.file("20260313_0123_資格喪失届.pdf").await;
        world.sato.post(&format!("{first}/take"), &[]).await;
        world.suzuki.post(&format!("{second}/take"), &[]).await;
        let disabled = world
            .admin
            .post(&format!("/staff/{sato}/disable"), &[])
            .await;
        assert_eq!(disabled.0, StatusCode::SEE_OTHER, "{}", disabled.2);
        let path = format!("/staff/{suzuki}/role");
        let moved = world.admin.post(&path, &[("role", "system_admin")]).await;
        assert_eq!(moved.0, StatusCode::SEE_OTHER, "{}", moved.2);
        assert_eq!(holder(&world, &first).await, None);
        assert_eq!(holder(&world, &second).await, None);
        let taken = world.tanaka.post(&format!("{first}/take"), &[]).await.0;
        assert_eq!(taken, StatusCode::SEE_OTHER);
        audit::verify(&world.app.db, &world.app.keys).await.unwrap();
    }
}
