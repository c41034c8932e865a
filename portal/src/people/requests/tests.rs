//! Requests to the fund: asked by admins, decided once.

use http::StatusCode;

use crate::staff::StaffRole;
use crate::testing::people::{self, USER_ID};
use crate::testing::{app, databases};

const WRONG: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

#[tokio::test]
async fn more_pcs_are_asked_for_and_staff_decide_once() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let mut admin = people::signed_in_member(&app, &place).await;
        let (_, mut staff) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
        for (wanted, reason, words) in [
            ("3", "支店のため", "より多い台数"),
            ("たくさん", "支店のため", "台数は1台以上"),
            ("5", "", "理由を"),
        ] {
            let form = [("wanted", wanted), ("reason", reason)];
            let answer = admin.submit("/users/more-pcs", &form).await;
            assert!(
                answer.status == WRONG && answer.text.contains(words),
                "{wanted}"
            );
            assert!(answer.text.contains(reason));
        }
        let form = [("wanted", "５"), ("reason", "支店のため")];
        let answer = admin.submit("/users/more-pcs", &form).await;
        assert_eq!(answer.location, "/users/more-pcs?done=asked");
        // A second one replaces the first.
        let form = [("wanted", "6"), ("reason", "支店が二つ")];
        admin.submit("/users/more-pcs", &form).await;
        let list = staff.get("/requests").await;
        assert!(list.text.contains("6台まで") && !list.text.contains("5台まで"));
        let id = list
            .text
            .split_once("/requests/")
            .and_then(|(_, rest)| rest.split_once("/approve"))
            .map(|(id, _)| id.to_owned())
            .unwrap();
        let refuse = format!("/requests/{id}/refuse");
        let answer = staff
            .submit_to("/requests", &refuse, &[("answer", "")])
            .await;
        assert!(answer.status == WRONG && answer.text.contains("説明を入力"));
        let approve = format!("/requests/{id}/approve");
        let mut again = staff.clone();
        let reason = [("answer", "足りているため")];
        let (approved, refused) = tokio::join!(
            staff.submit_to("/requests", &approve, &[]),
            again.submit_to("/requests", &refuse, &reason),
        );
        let statuses = [approved.status, refused.status];
        assert!(
            statuses.contains(&StatusCode::SEE_OTHER) && statuses.contains(&StatusCode::CONFLICT)
        );
        let limit: i64 = sqlx::query_scalar("SELECT device_limit FROM establishments")
            .fetch_one(db.pool())
            .await
            .unwrap();
        let expected = if approved.status == StatusCode::SEE_OTHER {
            6
        } else {
            3
        };
        assert_eq!(limit, expected);
        let page = admin.get("/users/more-pcs").await;
        assert!(page.text.contains("承認（") || page.text.contains("足りているため"));
        crate::audit::verify(&db, &app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn a_system_administrator_sees_requests_and_decides_none() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let mut admin = people::signed_in_member(&app, &place).await;
        let form = [("wanted", "5"), ("reason", "支店のため")];
        admin.submit("/users/more-pcs", &form).await;
        let (_, mut staff) = people::signed_in_staff(&app, StaffRole::SystemAdmin).await;
        let list = staff.get("/requests").await;
        assert!(list.text.contains("5台まで") && !list.text.contains("/approve"));
    }
}
