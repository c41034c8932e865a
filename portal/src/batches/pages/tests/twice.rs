//! Two batches for one month, made side by side: nobody gets a notice twice.

use tokio::join;

use super::*;

const BOTH: [&str; 2] = ["first", "correction"];

async fn drop_edition(
    staff: &Browser,
    edition: &str,
    source: &str,
    file: (&str, Vec<u8>),
) -> String {
    let fields = [
        ("source", source),
        ("month", "2026-02"),
        ("edition", edition),
    ];
    drop_with(staff, &fields, &[file]).await
}

/// Proposes a batch among others; the path on which it is approved.
async fn propose_too(world: &World, batch: &str) -> String {
    let reason = [("reason", "件数と合計を照合済み")];
    let (status, _, page) = world.sato.post(&format!("{batch}/propose"), &reason).await;
    assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
    let row = sqlx::query("SELECT id AS n FROM approvals WHERE subject = $1")
        .bind(batch.trim_start_matches("/batches/"))
        .fetch_one(world.app.db.pool())
        .await
        .unwrap();
    format!("/approvals/{}/approve", row.get::<String, _>("n"))
}

#[tokio::test]
async fn of_two_batches_for_one_month_that_are_released_at_once_one_goes_out() {
    for world in worlds().await {
        for (round, edition) in (1..).zip(BOTH) {
            let csv = || ("掛金.csv", csv().into_bytes());
            let one = drop_edition(&world.sato, edition, "csv", csv()).await;
            let two = drop_edition(&world.sato, edition, "csv", csv()).await;
            let (one, two) = (
                propose_too(&world, &one).await,
                propose_too(&world, &two).await,
            );
            let (first, second) = join!(world.tanaka.post(&one, &[]), world.tanaka.post(&two, &[]));
            let (out, refused) = match first.0 {
                StatusCode::SEE_OTHER => (first, second),
                _ => (second, first),
            };
            assert_eq!(
                (out.0, refused.0),
                (StatusCode::SEE_OTHER, StatusCode::CONFLICT),
                "{edition}"
            );
            for words in ["事業所番号0123ほか1事業所", "作り直してください"] {
                assert!(refused.2.contains(words), "{}", refused.2);
            }
            let released = "SELECT COUNT(*) AS n FROM notice_batches WHERE state = 'released'";
            assert_eq!(count(&world, released).await, round);
            let sent = "SELECT COUNT(*) AS n FROM notices";
            assert_eq!(count(&world, sent).await, 4 * round);
            let corrected = "SELECT COUNT(*) - COUNT(DISTINCT replaces_id) AS n FROM notices
                              WHERE replaces_id IS NOT NULL";
            assert_eq!(count(&world, corrected).await, 0);
        }
    }
}

#[tokio::test]
async fn a_letter_that_was_corrected_is_corrected_in_its_newest_edition() {
    for world in worlds().await {
        for edition in ["first", "correction", "correction"] {
            let text = letter(&["事業所番号 0123", "見本製作所株式会社 御中"]);
            let file = ("20260313_0123_年度更新のご案内.pdf", text);
            let batch = drop_edition(&world.sato, edition, "files", file).await;
            let approve = propose_too(&world, &batch).await;
            let (status, _, page) = world.tanaka.post(&approve, &[]).await;
            assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
        }
        let chain = "SELECT COUNT(DISTINCT replaces_id) AS n FROM notices";
        assert_eq!(count(&world, chain).await, 2);
    }
}
