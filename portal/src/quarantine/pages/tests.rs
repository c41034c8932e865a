//! A real clamd, a file that it knows, and two people.

use http::StatusCode;
use serde_json::json;

use crate::staff::StaffRole;
use crate::testing::world::{Browser, World, corpus};
use crate::testing::{postgres, sqlite};
use crate::virus_scan::tests::Scanner;

const PASSWORD: &str = "Rene52hsqx3ca4q2";

async fn count(world: &World, sql: &'static str) -> i64 {
    let row = sqlx::query_scalar(sql).fetch_one(world.app.db.pool()).await;
    row.unwrap()
}

async fn objects(world: &World) -> usize {
    let far = time::macros::datetime!(2100-01-01 0:00 UTC);
    world.app.vault.put_before(far).await.unwrap().len()
}

async fn hand_in(browser: &Browser) -> (StatusCode, serde_json::Value) {
    let file = corpus("bad/eicar_attached.zip");
    let upload = browser.upload("eicar_attached.zip", file).await;
    let body = json!({ "files": [{ "upload": upload, "password": PASSWORD }] });
    browser.post_json("/filings", &body).await
}

fn action(page: &str, end: &str) -> String {
    page.split('"')
        .find(|part| part.starts_with('/') && part.ends_with(end))
        .unwrap_or_else(|| panic!("no {end} in {page}"))
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_infected_file_is_held_and_let_go_by_two_alone() {
    let scanner = Scanner::start();
    let clamd = format!("[virus_scan]\nclamd = \"{}\"", scanner.socket().display());
    for db in [sqlite().await, postgres().await] {
        let world = World::configured(db, &clamd).await;
        for _ in 0..2 {
            let (status, answer) = hand_in(&world.alice).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
            let text = answer.to_string();
            assert!(
                text.contains("隔離") && text.contains("Renkei.Test"),
                "{text}"
            );
        }
        // Held once, sealed, and nothing else is left of it.
        assert_eq!(count(&world, "SELECT COUNT(*) FROM quarantine").await, 1);
        assert_eq!(count(&world, "SELECT COUNT(*) FROM filings").await, 0);
        assert_eq!(count(&world, "SELECT COUNT(*) FROM uploads").await, 0);
        assert_eq!(objects(&world).await, 1);
        for other in [&world.sato, &world.admin, &world.alice] {
            assert_eq!(other.get("/quarantine").await.0, StatusCode::NOT_FOUND);
        }
        let (_, queue) = world.sato.get("/filings").await;
        assert!(!queue.contains("eicar"));

        let (_, page) = world.tanaka.get("/quarantine").await;
        assert!(
            page.contains("eicar_attached.zip") && page.contains("0123 見本製作所"),
            "{page}"
        );
        let release = action(&page, "/release");
        let (status, ..) = world.sato.post(&release, &[("reason", "x")]).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let reason = [("reason", "検査会社に誤検出と確認したため")];
        let (status, to, page) = world.tanaka.post(&release, &reason).await;
        assert_eq!(
            (status, &*to),
            (StatusCode::SEE_OTHER, "/approvals?done=proposed"),
            "{page}"
        );
        // Proposed is not released, and nobody agrees with himself.
        assert_eq!(
            hand_in(&world.alice).await.0,
            StatusCode::UNPROCESSABLE_ENTITY
        );
        let second = world.staff("二", StaffRole::Supervisor).await;
        let (_, page) = second.get("/approvals").await;
        let approve = action(&page, "/approve");
        world.tanaka.post(&approve, &[]).await;
        assert_eq!(
            hand_in(&world.alice).await.0,
            StatusCode::UNPROCESSABLE_ENTITY
        );
        assert_eq!(second.post(&approve, &[]).await.0, StatusCode::SEE_OTHER);

        let (_, page) = world.alice.get("/filings/new").await;
        assert!(page.contains("確認が終わったファイル"), "{page}");
        let (status, answer) = hand_in(&world.alice).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let (_, page) = world.alice.get("/filings/new").await;
        assert!(!page.contains("確認が終わったファイル"));
        crate::audit::verify(&world.app.db, &world.app.keys)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_destroyed_is_gone_and_stays_refused() {
    let scanner = Scanner::start();
    let clamd = format!("[virus_scan]\nclamd = \"{}\"", scanner.socket().display());
    let world = World::configured(sqlite().await, &clamd).await;
    hand_in(&world.alice).await;
    let (_, page) = world.tanaka.get("/quarantine").await;
    let destroy = action(&page, "/destroy");
    let (status, to, _) = world.tanaka.post(&destroy, &[]).await;
    assert_eq!(
        (status, &*to),
        (StatusCode::SEE_OTHER, "/quarantine?done=destroyed")
    );
    assert_eq!(objects(&world).await, 0);
    assert_eq!(
        world.tanaka.post(&destroy, &[]).await.0,
        StatusCode::NOT_FOUND
    );
    let release = destroy.replace("/destroy", "/release");
    let (status, ..) = world.tanaka.post(&release, &[("reason", "x")]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(
        hand_in(&world.alice).await.0,
        StatusCode::UNPROCESSABLE_ENTITY
    );
}
