//! Whom a batch has something for, and who hears of it.

use super::*;

#[tokio::test]
async fn an_employer_for_whom_a_batch_has_nothing_is_named_before_its_release() {
    for world in worlds().await {
        // An office that acts for others gets no documents, so it misses none.
        let _office = world.sharoushi().await;
        let batch = drop_csv(&world.sato, &csv()).await;
        let (_, page) = world.sato.get(&batch).await;
        assert!(!page.contains("書類のない事業所"), "{page}");
        world.sato.post(&format!("{batch}/discard"), &[]).await;

        let batch = drop_csv(&world.sato, &table::template()).await;
        let (_, page) = world.sato.get(&batch).await;
        assert!(page.contains("書類のない事業所（1件）"), "{page}");
        assert!(page.contains("<li>0124 例示物流株式会社</li>"), "{page}");
        assert!(!page.contains("<li>0123"), "{page}");
        // Who has left misses nothing either.
        sqlx::query("UPDATE establishments SET suspended_ms = 1 WHERE number = 124")
            .execute(world.app.db.pool())
            .await
            .unwrap();
        let (_, page) = world.sato.get(&batch).await;
        assert!(!page.contains("書類のない事業所"), "{page}");
    }
}

#[tokio::test]
async fn only_those_who_may_fetch_hear_of_a_batch_and_are_reminded() {
    let people = "SELECT COUNT(DISTINCT user_id) AS n FROM notice_mails";
    let mails = "SELECT COUNT(*) AS n FROM outbox";
    for (change, told) in [
        (
            "UPDATE memberships SET permissions = 'file fetch' WHERE role = 'added'",
            3,
        ),
        (
            "UPDATE memberships SET permissions = 'file history' WHERE role = 'added'",
            2,
        ),
        (
            "UPDATE memberships SET permissions = '' WHERE role = 'added'",
            2,
        ),
        (
            "UPDATE memberships SET ended_ms = 1 WHERE role = 'added'",
            2,
        ),
        (
            "UPDATE users SET disabled_ms = 1
              WHERE id IN (SELECT user_id FROM memberships WHERE role = 'added')",
            2,
        ),
        // An admin may fetch, whatever stands in the row.
        (
            "UPDATE memberships SET permissions = '' WHERE role = 'admin'",
            3,
        ),
    ] {
        for world in worlds().await {
            let _colleague = world.colleague().await;
            sqlx::query(change)
                .execute(world.app.db.pool())
                .await
                .unwrap();
            let batch = released(&world, &csv()).await;
            assert_eq!(count(&world, people).await, told, "{change}");
            assert_eq!(count(&world, mails).await, told, "{change}");
            world.sato.post(&format!("{batch}/remind"), &[]).await;
            assert_eq!(count(&world, mails).await, 2 * told, "{change}");
        }
    }
}
