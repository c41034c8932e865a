//! What one member of staff proposes, another decides, once, and never the same one.

use http::StatusCode;

use super::*;
use crate::db::Db;
use crate::testing::NOW;
use crate::testing::world::{Browser, World, worlds};

/// A proposal by the world's supervisor to destroy alpha's key, straight into the database;
/// alpha left long ago.
async fn proposed(world: &World) -> ApprovalId {
    sqlx::query("UPDATE establishments SET ended_ms = 1, suspended_ms = 1 WHERE id = $1")
        .bind(world.alpha.to_string())
        .execute(world.app.db.pool())
        .await
        .unwrap();
    let staff = world.tanaka.as_staff().await;
    let reason = Reason::new("脱退から10年を過ぎたため").unwrap();
    let mut tx = world.app.db.begin().await.unwrap();
    let id = propose(
        &mut tx,
        &world.app,
        Kind::KeyDestruction,
        &world.alpha.to_string(),
        &reason,
        &staff,
        world.app.clock.now(),
    )
    .await
    .unwrap();
    Db::commit(tx).await.unwrap();
    id
}

async fn approve_by(browser: &Browser, id: ApprovalId) -> (StatusCode, String) {
    let (status, location, text) = browser.post(&format!("/approvals/{id}/approve"), &[]).await;
    (status, format!("{location}{text}"))
}

async fn destructions(world: &World) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM key_destructions")
        .fetch_one(world.app.db.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn nobody_approves_his_own_proposal() {
    for world in worlds().await {
        let id = proposed(&world).await;
        let (status, text) = approve_by(&world.tanaka, id).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(text.contains("ご自分の申請"), "{text}");
        // The rule stands in the statement too, whatever the code before it says.
        let staff = world.tanaka.as_staff().await;
        let mut tx = world.app.db.begin().await.unwrap();
        let decided = store::decide(&mut tx, id, Decision::Approved, staff.id(), NOW).await;
        assert!(!decided.unwrap());
        assert_eq!(destructions(&world).await, 0);
    }
}

#[tokio::test]
async fn of_many_who_decide_at_once_one_is_in_time() {
    for world in worlds().await {
        let id = proposed(&world).await;
        let mut deciders = vec![world.admin.clone()];
        for name in ["一", "二", "三"] {
            deciders.push(world.staff(name, StaffRole::Supervisor).await);
        }
        let tasks: Vec<_> = deciders
            .into_iter()
            .map(|browser| tokio::spawn(async move { approve_by(&browser, id).await }))
            .collect();
        let mut in_time = 0;
        for task in tasks {
            let (status, text) = task.await.unwrap();
            match status {
                StatusCode::SEE_OTHER => in_time += 1,
                _ => assert!(text.contains("すでに処理された"), "{status} {text}"),
            }
        }
        assert_eq!((in_time, destructions(&world).await), (1, 1));
    }
}

#[tokio::test]
async fn who_has_not_the_role_sees_the_proposal_and_cannot_decide_it() {
    for world in worlds().await {
        let id = proposed(&world).await;
        let (_, page) = world.sato.get("/approvals").await;
        assert!(page.contains("見本製作所株式会社") && !page.contains("承認して実行する"));
        assert_eq!(approve_by(&world.sato, id).await.0, StatusCode::NOT_FOUND);
        assert_eq!(destructions(&world).await, 0);
    }
}

#[tokio::test]
async fn a_proposal_is_not_made_twice_and_can_be_made_again_when_it_is_too_old() {
    for world in worlds().await {
        let id = proposed(&world).await;
        let staff = world.tanaka.as_staff().await;
        let reason = Reason::new("再度").unwrap();
        let subject = world.alpha.to_string();
        let again = async |now| {
            let mut tx = world.app.db.begin().await.unwrap();
            let kind = Kind::KeyDestruction;
            let made = propose(&mut tx, &world.app, kind, &subject, &reason, &staff, now).await;
            if made.is_ok() {
                Db::commit(tx).await.unwrap();
            }
            made
        };
        let early = NOW + VALIDITY - Duration::MILLISECOND;
        assert!(matches!(
            again(early).await,
            Err(ApprovalError::ProposedAlready)
        ));
        let second = again(NOW + VALIDITY).await.unwrap();

        let other = world
            .staff("二", StaffRole::Supervisor)
            .await
            .as_staff()
            .await;
        let mut tx = world.app.db.begin().await.unwrap();
        let late = NOW + VALIDITY;
        for (id, in_time) in [(id, false), (second, true)] {
            let decided = store::decide(&mut tx, id, Decision::Approved, other.id(), late).await;
            assert_eq!(decided.unwrap(), in_time);
        }
    }
}

#[tokio::test]
async fn a_proposal_taken_back_or_refused_is_over_and_both_stand_in_the_log() {
    for world in worlds().await {
        let id = proposed(&world).await;
        let (status, ..) = world
            .admin
            .post(&format!("/approvals/{id}/withdraw"), &[])
            .await;
        assert_eq!(status, StatusCode::CONFLICT, "not his to take back");
        let path = format!("/approvals/{id}/withdraw");
        assert_eq!(world.tanaka.post(&path, &[]).await.0, StatusCode::SEE_OTHER);
        assert_eq!(approve_by(&world.admin, id).await.0, StatusCode::CONFLICT);

        let id = proposed(&world).await;
        let path = format!("/approvals/{id}/refuse");
        assert_eq!(world.admin.post(&path, &[]).await.0, StatusCode::SEE_OTHER);
        assert_eq!(approve_by(&world.admin, id).await.0, StatusCode::CONFLICT);
        let (_, page) = world.tanaka.get("/approvals").await;
        assert!(page.contains("却下") && page.contains("取消し"));
        assert_eq!(destructions(&world).await, 0);
    }
}

#[tokio::test]
async fn the_audit_row_of_an_approval_names_both() {
    for world in worlds().await {
        let id = proposed(&world).await;
        assert_eq!(approve_by(&world.admin, id).await.0, StatusCode::SEE_OTHER);
        let (details, actor): (String, String) =
            sqlx::query_as("SELECT details, actor_id FROM audit_log WHERE act = 'approval_given'")
                .fetch_one(world.app.db.pool())
                .await
                .unwrap();
        let proposer = world.tanaka.as_staff().await.id().to_string();
        let approver = world.admin.as_staff().await.id().to_string();
        assert!(details.contains(&proposer) && details.contains(&approver));
        assert_eq!(actor, approver);
    }
}

#[test]
fn a_reason_is_neither_empty_nor_endless() {
    assert!(Reason::new(" \n ").is_none());
    assert!(Reason::new(&"あ".repeat(REASON_LIMIT + 1)).is_none());
    assert_eq!(Reason::new(" 終了 ").unwrap().as_str(), "終了");
}
