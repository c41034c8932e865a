//! What members with some of the permissions see, and what they do not.

use http::StatusCode;

use super::*;
use crate::testing::world::{Browser, World, worlds};

async fn give(world: &World, colleague: &Browser, words: &str) {
    let user = colleague.as_member().await.user();
    sqlx::query("UPDATE memberships SET permissions = $1 WHERE user_id = $2")
        .bind(words.to_owned())
        .bind(user.to_string())
        .execute(world.app.db.pool())
        .await
        .unwrap();
}

async fn status(browser: &Browser, path: &str) -> u16 {
    browser.get(path).await.0.as_u16()
}

#[tokio::test]
async fn an_added_user_may_do_what_was_given_and_the_rest_does_not_exist() {
    for world in worlds().await {
        let colleague = world.colleague().await;
        let pages = [
            "/filings/new",
            "/filings",
            "/notices",
            "/settings/zip-password",
        ];
        for (words, expected) in [
            ("file fetch history", [200, 200, 200, 200]),
            ("file", [200, 200, 404, 404]),
            ("fetch", [404, 404, 200, 200]),
            ("history", [404, 200, 404, 404]),
            ("", [404, 404, 404, 404]),
        ] {
            give(&world, &colleague, words).await;
            for (page, expected) in pages.iter().zip(expected) {
                assert_eq!(status(&colleague, page).await, expected, "{words}: {page}");
            }
            let (_, home) = colleague.get("/").await;
            for (page, expected) in pages[..3].iter().zip(expected) {
                let linked = home.contains(&format!("href=\"{page}\""));
                assert_eq!(linked, expected == 200, "{words}: {page}");
            }
        }
    }
}

#[tokio::test]
async fn who_may_not_see_the_history_follows_what_he_handed_in_himself_and_nothing_else() {
    for world in worlds().await {
        let colleague = world.colleague().await;
        let hers = world.alice.file("20240524_0123_資格取得届.pdf").await;
        let his = colleague.file("20240525_0123_資格喪失届.pdf").await;
        give(&world, &colleague, "file").await;
        assert_eq!(status(&colleague, &his).await, 200);
        assert_eq!(status(&colleague, &hers).await, 404);
        assert_eq!(
            status(&colleague, &format!("{hers}/document.pdf")).await,
            404
        );
        let (status_, ..) = colleague.post(&format!("{hers}/withdraw"), &[]).await;
        assert_eq!(status_, StatusCode::NOT_FOUND);
        let (_, list) = colleague.get("/filings").await;
        assert!(list.contains(&his) && !list.contains(&hers));
        let (_, page) = world.alice.get(&hers).await;
        let at = page.find("/submissions/").unwrap();
        let receipt = page[at..].split('"').next().unwrap();
        assert_eq!(status(&colleague, receipt).await, 404);
        assert_eq!(status(&world.alice, receipt).await, 200);
        give(&world, &colleague, "file history").await;
        assert_eq!(status(&colleague, &hers).await, 200);
    }
}

#[test]
fn every_set_of_permissions_reads_back_from_its_words() {
    for bits in 0..8 {
        let set = Permissions(bits);
        assert_eq!(Permissions::from_words(&set.to_string()), Some(set));
    }
    assert_eq!(Permissions::from_words("file everything"), None);
    assert_eq!(
        Permissions::from_words("file fetch history"),
        Some(Permissions::all())
    );
}

#[test]
fn what_one_side_did_not_give_is_not_among_what_both_gave() {
    let own = Permissions::from_words("file history").unwrap();
    let given = Permissions::from_words("file fetch").unwrap();
    assert_eq!(own.and(given).to_string(), "file");
    assert!(own.and(Permissions::NONE).is_none());
    assert_eq!(own.page_text(), "届書の提出、送受信履歴の閲覧");
}
