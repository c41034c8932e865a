//! The page on which staff approve and revoke PCs.

use super::*;
use crate::devices::tests::{Fund, new_key};
use crate::staff::StaffRole;
use crate::testing::databases;
use crate::testing::people;

#[tokio::test]
async fn staff_approve_a_pc_after_comparing_its_code_and_can_revoke_it() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let (_, mut browser) = people::signed_in_staff(&fund.app, StaffRole::Reviewer).await;
        let opened = fund
            .enrol(&fund.code().await, &new_key(), "SOMU-PC-01")
            .await
            .unwrap();
        let page = browser.get("/devices").await;
        let pending = store::pending(&db).await.unwrap();
        assert!(page.text.contains(&pending[0].matching_code));
        assert!(page.text.contains("SOMU-PC-01"));
        let token = page.csrf().unwrap();

        let approve = format!("/enrolments/{}/approve", opened.enrolment);
        let answer = browser.post(&approve, &[("csrf", &token)]).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        let form = [("csrf", token.as_str()), ("matched", "yes")];
        let answer = browser.post(&approve, &form).await;
        assert_eq!(answer.location, "/devices?done=approved");
        let mail: String = sqlx::query_scalar("SELECT purpose FROM outbox")
            .fetch_one(db.pool())
            .await
            .unwrap();
        assert_eq!(mail, "device_approved");
        let again = browser.post(&approve, &form).await;
        assert_eq!(again.status, StatusCode::CONFLICT);
        assert!(again.text.contains("すでに処理されています"));

        let now = fund.app.clock.now();
        let device = listing::registered(&db, now).await.unwrap().remove(0);
        let path = format!("/devices/{}", device.id);
        let revoke = format!("{path}/revoke");
        assert!(browser.get(&path).await.text.contains("登録を解除する"));
        let answer = browser
            .post(&revoke, &[("csrf", &token), ("reason", " ")])
            .await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        let form = [("csrf", token.as_str()), ("reason", "入替え")];
        let answer = browser.post(&revoke, &form).await;
        assert_eq!(answer.location, "/devices?done=revoked");
        let mails: Vec<String> = sqlx::query_scalar("SELECT purpose FROM outbox ORDER BY id")
            .fetch_all(db.pool())
            .await
            .unwrap();
        assert_eq!(mails, ["device_approved", "people_changed"]);
        assert_eq!(listing::registered(&db, now).await.unwrap(), []);
        assert!(browser.get(&path).await.text.contains("理由：入替え"));
    }
}

#[tokio::test]
async fn a_refused_request_leaves_the_list() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let (_, mut browser) = people::signed_in_staff(&fund.app, StaffRole::Supervisor).await;
        let opened = fund
            .enrol(&fund.code().await, &new_key(), "SOMU-PC-01")
            .await
            .unwrap();
        let token = browser.get("/devices").await.csrf().unwrap();
        let refuse = format!("/enrolments/{}/refuse", opened.enrolment);
        let answer = browser.post(&refuse, &[("csrf", &token)]).await;
        assert_eq!(answer.location, "/devices?done=refused");
        assert_eq!(store::pending(&db).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_connected_pc_is_listed_as_connected() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let (_, mut browser) = people::signed_in_staff(&fund.app, StaffRole::Reviewer).await;
        let pc = fund.device("SOMU-PC-01").await;
        assert!(
            browser
                .get("/devices")
                .await
                .text
                .contains("登録済み</span>")
        );
        fund.connect(&pc).await.unwrap();
        assert!(
            browser
                .get("/devices")
                .await
                .text
                .contains("接続中（11:30まで）")
        );
    }
}
