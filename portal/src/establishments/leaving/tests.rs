//! An establishment that has left, and what becomes of its key.

use http::StatusCode;

use super::*;
use crate::testing::NOW;
use crate::testing::world::worlds;

#[tokio::test]
async fn who_leaves_is_out_at_once_and_back_if_it_was_a_mistake() {
    for world in worlds().await {
        let path = format!("/establishments/{}/leaving", world.alpha);
        let (status, ..) = world.sato.post(&format!("{path}/end"), &[]).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "a reviewer ends nothing");
        let (status, ..) = world.tanaka.post(&format!("{path}/end"), &[]).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        assert_eq!(world.alice.get("/").await.0, StatusCode::UNAUTHORIZED);
        assert_eq!(world.bob.get("/").await.0, StatusCode::OK);
        let ended: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM tunnel_sessions WHERE ended_ms IS NOT NULL")
                .fetch_one(world.app.db.pool())
                .await
                .unwrap();
        assert_eq!(ended, 1, "alpha's tunnel, and not beta's");

        let (status, ..) = world.tanaka.post(&format!("{path}/take-back"), &[]).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        let found = store::find(&world.app.db, world.alpha).await.unwrap();
        let found = found.unwrap();
        assert_eq!((found.ended, found.suspended), (None, None));
    }
}

#[tokio::test]
async fn a_key_is_destroyed_by_two_after_the_grace_and_nothing_of_it_opens_any_more() {
    for world in worlds().await {
        let filing = world.alice.file("20240524_0123_資格取得届.pdf").await;
        sqlx::query("UPDATE filings SET state = 'withdrawn'")
            .execute(world.app.db.pool())
            .await
            .unwrap();
        let document = format!("{filing}/document.pdf");
        assert_eq!(world.sato.download(&document).await.0, StatusCode::OK);
        let path = format!("/establishments/{}/leaving", world.alpha);
        let destroy = format!("{path}/destroy");
        let reason = [("reason", "脱退から十年を過ぎたため")];
        let (_, _, page) = world.tanaka.post(&destroy, &reason).await;
        assert!(page.contains("先に利用を終了"), "{page}");
        world.tanaka.post(&format!("{path}/end"), &[]).await;
        let (_, _, page) = world.tanaka.post(&destroy, &reason).await;
        assert!(page.contains("30日間は破棄できません"), "{page}");

        world.app.clock.set(NOW + GRACE);
        let first = world.staff("一", StaffRole::Supervisor).await;
        let second = world.staff("二", StaffRole::SystemAdmin).await;
        let (status, _, page) = first.post(&destroy, &[("reason", "  ")]).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{page}");
        let (_, location, _) = first.post(&destroy, &reason).await;
        assert_eq!(location, "/approvals?done=proposed");
        let (_, page) = second.get("/approvals").await;
        let at = page.find("/approvals/0").unwrap();
        let approve = page[at..].split('"').next().unwrap().to_owned();
        let approve = approve.replace("/refuse", "/approve");
        assert_eq!(second.post(&approve, &[]).await.0, StatusCode::SEE_OTHER);

        let reviewer = world.sato_again().await;
        assert_eq!(reviewer.download(&document).await.0, StatusCode::NOT_FOUND);
        let key = crate::custody::establishment_key(&world.app, world.alpha).await;
        assert!(key.is_err());
        let (_, page) = reviewer.get(&path).await;
        assert!(page.contains("廃棄記録") && page.contains("1件"), "{page}");
        // Nothing lies in the vault any more.
        let future = time::macros::datetime!(2100-01-01 0:00 UTC);
        let objects = world.app.vault.put_before(future).await.unwrap();
        let kept: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM documents WHERE destroyed_ms IS NULL")
                .fetch_one(world.app.db.pool())
                .await
                .unwrap();
        assert_eq!(kept, 0);
        let parts: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM upload_parts")
            .fetch_one(world.app.db.pool())
            .await
            .unwrap();
        assert_eq!(i64::try_from(objects.len()).unwrap(), parts, "{objects:?}");
        let (_, _, page) = first.post(&format!("{path}/take-back"), &[]).await;
        assert!(page.contains("取り消せません"), "{page}");
    }
}

#[tokio::test]
async fn a_key_is_not_destroyed_under_an_open_filing() {
    for world in worlds().await {
        world.alice.file("20240524_0123_資格取得届.pdf").await;
        let path = format!("/establishments/{}/leaving", world.alpha);
        world.tanaka.post(&format!("{path}/end"), &[]).await;
        world.app.clock.set(NOW + GRACE);
        let first = world.staff("一", StaffRole::Supervisor).await;
        let form = [("reason", "脱退のため")];
        let (_, _, page) = first.post(&format!("{path}/destroy"), &form).await;
        assert!(page.contains("届書が1件あります"), "{page}");
    }
}
