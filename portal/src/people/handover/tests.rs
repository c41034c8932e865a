//! Hand-overs: the successor takes over, and nobody else.

use http::StatusCode;

use super::*;
use crate::audit;
use crate::people::tests::{at_work, colleague};
use crate::testing::people::{self, PASSWORD, USER_ID};
use crate::testing::{NOW, app, databases, sqlite};

const WRONG: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

#[tokio::test]
async fn the_successor_accepts_and_the_leaver_is_gone_or_an_added_user() {
    for (becomes, after) in [
        ("added", StatusCode::NOT_FOUND),
        ("ended", StatusCode::UNAUTHORIZED),
    ] {
        for db in databases().await {
            let app = app(&db).await;
            let place = people::place(&app, "0123", USER_ID).await;
            let user = colleague(&app, &place, "tamura", Role::Added).await;
            let bystander = colleague(&app, &place, "yamada", Role::Added).await;
            let (_, mut successor) = at_work(&app, &place, user).await;
            let (_, mut other) = at_work(&app, &place, bystander).await;
            let mut admin = people::signed_in_member(&app, &place).await;
            // Nothing is open: for the added users there is no such page.
            assert_eq!(
                successor.get("/handover").await.status,
                StatusCode::NOT_FOUND
            );
            let successor_id = user.to_string();
            let form = [
                ("successor", successor_id.as_str()),
                ("becomes", becomes),
                ("password", PASSWORD),
            ];
            let answer = admin.submit("/handover", &form).await;
            assert_eq!(answer.location, "/handover", "{}", answer.text);
            assert!(
                admin
                    .get("/handover")
                    .await
                    .text
                    .contains("承諾を待っています")
            );
            assert!(successor.get("/").await.text.contains("管理者の引継ぎ"));
            assert_eq!(other.get("/handover").await.status, StatusCode::NOT_FOUND);
            let form = [("password", PASSWORD)];
            let answer = other.submit_to("/", "/handover/accept", &form).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
            let answer = successor
                .submit_to("/handover", "/handover/accept", &[("password", "wrong")])
                .await;
            assert_eq!(answer.status, WRONG);
            let answer = successor
                .submit_to("/handover", "/handover/accept", &form)
                .await;
            assert_eq!(answer.location, "/users?done=handover");
            assert_eq!(admin.get("/users").await.status, after);
            let mut tx = db.begin().await.unwrap();
            let admins = crate::people::store::admins(&mut tx, place.establishment)
                .await
                .unwrap();
            assert_eq!(admins.len(), 1);
            assert_eq!(admins[0].user, user);
            drop(tx);
            // Accepting a second time finds nothing.
            let answer = successor.submit_to("/", "/handover/accept", &form).await;
            assert_ne!(answer.status, StatusCode::SEE_OTHER);
            audit::verify(&db, &app.keys).await.unwrap();
        }
    }
}

#[tokio::test]
async fn accepting_and_withdrawing_at_once_do_not_both_win() {
    for db in databases().await {
        let app = app(&db).await;
        for round in 0..6 {
            let place = people::place(
                &app,
                &format!("{:04}", 200 + round),
                &format!("a{round}dmin"),
            )
            .await;
            let user = colleague(&app, &place, &format!("tamura{round}"), Role::Added).await;
            let (_, mut successor) = at_work(&app, &place, user).await;
            let mut admin = people::signed_in_member(&app, &place).await;
            let successor_id = user.to_string();
            let form = [
                ("successor", successor_id.as_str()),
                ("becomes", "added"),
                ("password", PASSWORD),
            ];
            admin.submit("/handover", &form).await;
            let accept_form = [("password", PASSWORD)];
            let (accepted, withdrawn) = tokio::join!(
                successor.submit_to("/handover", "/handover/accept", &accept_form),
                admin.submit_to("/handover", "/handover/close", &[]),
            );
            let won = [accepted.status, withdrawn.status]
                .iter()
                .filter(|status| **status == StatusCode::SEE_OTHER)
                .count();
            assert_eq!(won, 1);
            let outcomes: Vec<String> =
                sqlx::query_scalar("SELECT outcome FROM handovers WHERE establishment_id = $1")
                    .bind(place.establishment.to_string())
                    .fetch_all(db.pool())
                    .await
                    .unwrap();
            let expected = match accepted.status {
                StatusCode::SEE_OTHER => "accepted",
                _ => "withdrawn",
            };
            assert_eq!(outcomes, [expected]);
        }
    }
}

#[tokio::test]
async fn an_offer_ends_after_two_weeks_and_another_can_be_made() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let user = colleague(&app, &place, "tamura", Role::Added).await;
    let mut admin = people::signed_in_member(&app, &place).await;
    let successor_id = user.to_string();
    let form = [
        ("successor", successor_id.as_str()),
        ("becomes", "ended"),
        ("password", PASSWORD),
    ];
    assert_eq!(admin.submit("/handover", &form).await.location, "/handover");
    let twice = admin.submit_to("/users/new", "/handover", &form).await;
    assert!(twice.status == WRONG && twice.text.contains("すでに申し込まれています"));
    let later = NOW + VALIDITY;
    app.clock.set(later);
    let session = people::session(&app, place.establishment, place.device, later).await;
    let place = people::Place { session, ..place };
    let mut admin = people::signed_in_member(&app, &place).await;
    let page = admin.get("/handover").await;
    assert!(page.text.contains("引継ぎを申し込む"));
    assert_eq!(admin.submit("/handover", &form).await.location, "/handover");
    // What is missing is said, and what was chosen stays.
    admin.submit_to("/handover", "/handover/close", &[]).await;
    let form = [("becomes", "ended"), ("password", PASSWORD)];
    let answer = admin.submit("/handover", &form).await;
    assert!(answer.status == WRONG && answer.text.contains("後任の方を選んでください"));
    assert!(answer.text.contains("value=\"ended\" checked"));
}
