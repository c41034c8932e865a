//! Letters made while others write, and their numbers.

use std::time::Duration;

use futures_util::future::join_all;
use sqlx::Row as _;

use super::*;
use crate::testing::world::World;
use crate::testing::worlds;
use crate::text_layer::worker::Searcher;

/// A person's row, as the form sends it.
const PERSON: [(&str, &str); 4] = [
    ("member_number", "1"),
    ("name", "山田 太郎"),
    ("event", "loss"),
    ("event_on", "2026-03-01"),
];

/// A filing in Sato's hands; the path of its determination.
async fn in_hand(world: &World) -> String {
    let filing = world.alice.file("20260313_0123_資格喪失届.pdf").await;
    let (status, ..) = world.sato.post(&format!("{filing}/take"), &[]).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    format!("{filing}/determination")
}

async fn objects(world: &World) -> usize {
    let far = time::macros::datetime!(2100-01-01 0:00 UTC);
    world.app.vault.put_before(far).await.unwrap().len()
}

#[tokio::test]
async fn a_letter_is_made_and_sealed_while_somebody_else_writes() {
    for world in worlds().await {
        let path = in_hand(&world).await;
        let before = objects(&world).await;
        let mut other = world.app.db.begin().await.unwrap();
        next_number(&mut other, "somebody else's").await.unwrap();
        let sato = world.sato.clone();
        let made = tokio::spawn(async move { sato.post(&path, &PERSON).await });
        let mut looks = 0;
        while objects(&world).await == before {
            assert!(looks < 200, "the letter waits for the other's transaction");
            looks += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Db::commit(other).await.unwrap();
        let (status, _, page) = made.await.unwrap();
        assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
    }
}

#[tokio::test]
async fn letters_made_at_once_bear_numbers_of_their_own_and_waste_none() {
    for world in worlds().await {
        let mut paths = Vec::new();
        for _ in 0..4 {
            paths.push(in_hand(&world).await);
        }
        let before = objects(&world).await;
        let made = join_all(paths.iter().map(|path| world.sato.post(path, &PERSON))).await;
        for (status, _, page) in made {
            assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
        }
        // What was made with a number that a colleague took is not kept.
        assert_eq!(objects(&world).await, before + paths.len());
        let drafts = "SELECT number, document_id FROM notice_drafts ORDER BY number";
        let drafts = sqlx::query(drafts).fetch_all(world.app.db.pool()).await;
        let drafts = drafts.unwrap();
        assert_eq!(drafts.len(), paths.len());
        for (index, draft) in drafts.iter().enumerate() {
            let (number, document): (String, String) = (draft.get(0), draft.get(1));
            assert_eq!(number, format!("2025-{:05}", index + 1));
            let document = custody::store::find(&world.app.db, document.parse().unwrap()).await;
            let document = document.unwrap().unwrap();
            assert!(document.file_name.contains(&number));
            let bytes = custody::read(&world.app, &document).await.unwrap();
            let head = Searcher::default().examine(&bytes).head;
            assert!(head.contains(&number), "{number}: {head}");
        }
    }
}
