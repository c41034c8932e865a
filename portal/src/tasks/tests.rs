//! A refused address, from the server's answer to the task that is done.

use sqlx::Row as _;

use super::*;
use crate::db::Db;
use crate::mail::outbox::{self, send_next};
use crate::mail::{Mail, MailPurpose, Outgoing, SendError, Transport};
use crate::testing::world::World;
use crate::testing::{NOW, worlds};

/// A mail server that knows nobody.
struct NobodyHere;

impl Transport for NobodyHere {
    async fn send(&self, _: &Outgoing) -> Result<(), SendError> {
        Err(SendError::Refused("550".to_owned()))
    }
}

async fn refused_mail(world: &World) {
    sqlx::query("UPDATE users SET email = 'hanako@example.jp' WHERE name LIKE '%花子'")
        .execute(world.app.db.pool())
        .await
        .unwrap();
    let mail = Mail {
        purpose: MailPurpose::NoticeIssued,
        to: "Hanako@example.jp".to_owned(),
        subject: "x".to_owned(),
        body: "x".to_owned(),
    };
    let mut tx = world.app.db.begin().await.unwrap();
    let later = NOW + time::Duration::days(1);
    outbox::queue(&mut tx, &world.app.keys, mail, NOW, later)
        .await
        .unwrap();
    Db::commit(tx).await.unwrap();
    while send_next(&world.app, &NobodyHere, NOW).await.unwrap() {}
}

async fn open_task(world: &World) -> String {
    let (status, page) = world.sato.get("/tasks").await;
    assert_eq!(status, 200);
    let at = page.find("/tasks/0").expect("an open task");
    page[at..at + "/tasks/".len() + 36].to_owned()
}

#[tokio::test]
async fn a_refusal_at_sending_raises_one_task_that_a_change_of_address_ends() {
    for world in worlds().await {
        refused_mail(&world).await;
        refused_mail(&world).await;
        let (_, page) = world.sato.get("/tasks").await;
        assert_eq!(page.matches("メールが届きません").count(), 1, "{page}");
        assert!(page.contains("見本製作所") && page.contains("メールアドレスがありません"));
        // Both sides see it where the person stands.
        let place = format!("/establishments/{}", world.alpha);
        for (browser, path) in [(&world.sato, place.as_str()), (&world.alice, "/users")] {
            let (_, page) = browser.get(path).await;
            assert!(page.contains("メールが届いていません"), "{path}: {page}");
        }
        let done = format!("{}/done", open_task(&world).await);
        let changed = [("outcome", "address_changed")];
        let (status, _, page) = world.sato.post(&done, &changed).await;
        assert_eq!(status, 422);
        assert!(page.contains("まだ変わっていません"));
        let (status, _, page) = world.sato.post(&done, &[]).await;
        assert_eq!(status, 422);
        assert!(page.contains("選んでください"));
        sqlx::query("UPDATE users SET email = 'new@example.jp' WHERE email = 'hanako@example.jp'")
            .execute(world.app.db.pool())
            .await
            .unwrap();
        let (status, ..) = world.sato.post(&done, &changed).await;
        assert_eq!(status, 303);
        let (_, page) = world.sato.get(&place).await;
        assert!(!page.contains("メールが届いていません"), "{page}");
        let (_, page) = world.suzuki.get("/tasks").await;
        assert!(page.contains("対応が必要なタスクはありません") && page.contains("佐藤"));
        let (status, _, page) = world.suzuki.post(&done, &changed).await;
        assert_eq!(status, 422);
        assert!(page.contains("すでに対応済み"));
    }
}

#[tokio::test]
async fn an_address_that_works_after_all_counts_again() {
    for world in worlds().await {
        refused_mail(&world).await;
        let done = format!("{}/done", open_task(&world).await);
        let (status, ..) = world
            .sato
            .post(&done, &[("outcome", "address_confirmed")])
            .await;
        assert_eq!(status, 303);
        let rows = sqlx::query("SELECT 1 AS one FROM refused_addresses")
            .fetch_all(world.app.db.pool())
            .await
            .unwrap();
        assert_eq!(rows.len(), 0);
        refused_mail(&world).await;
        open_task(&world).await;
    }
}

#[tokio::test]
async fn of_two_who_do_a_task_at_once_one_finds_it_done() {
    for world in worlds().await {
        refused_mail(&world).await;
        let done = format!("{}/done", open_task(&world).await);
        let form = [("outcome", "address_confirmed")];
        let (one, other) = tokio::join!(
            world.sato.post(&done, &form),
            world.suzuki.post(&done, &form)
        );
        let mut answers = [one.0.as_u16(), other.0.as_u16()];
        answers.sort_unstable();
        assert_eq!(answers, [303, 422]);
        let rows = sqlx::query("SELECT act FROM audit_log WHERE act = 'task_done'")
            .fetch_all(world.app.db.pool())
            .await
            .unwrap();
        assert_eq!(rows.len(), 1);
    }
}

#[tokio::test]
async fn tasks_and_the_log_of_acts_hold_no_address() {
    for world in worlds().await {
        refused_mail(&world).await;
        for (table, columns) in [
            ("tasks", "subject || detail"),
            ("refused_addresses", "address_hash || status"),
            ("audit_log", "object_id || reason || details"),
        ] {
            let sql = format!("SELECT {columns} AS text FROM {table}");
            let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
                .fetch_all(world.app.db.pool())
                .await
                .unwrap();
            assert!(!rows.is_empty());
            for row in rows {
                let text: String = row.get("text");
                assert!(!text.to_lowercase().contains("hanako"), "{table}: {text}");
            }
        }
    }
}

#[test]
fn every_status_has_a_sentence() {
    for status in ["5.1.1", "550", "5.2.2", "5.9.9", "", "unreadable"] {
        assert!(status_text(status).ends_with('。'));
    }
}
