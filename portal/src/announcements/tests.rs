//! Who is shown what, and what a text can hold.

use super::*;
use crate::testing::world::World;
use crate::testing::{NOW, worlds};

fn form<'a>(
    title: &'a str,
    body: &'a str,
    audience: &'a str,
    numbers: &'a str,
) -> Vec<(&'a str, &'a str)> {
    vec![
        ("title", title),
        ("body", body),
        ("audience", audience),
        ("numbers", numbers),
        ("from", "2026-03-13"),
        ("until", "2026-03-20"),
    ]
}

async fn write(world: &World, form: &[(&str, &str)]) {
    let (status, ..) = world.sato.post("/announcements/new", form).await;
    assert_eq!(status, 303);
}

#[tokio::test]
async fn an_announcement_reaches_those_it_is_for_until_they_read_it() {
    for world in worlds().await {
        write(&world, &form("全体のお知らせ", "本文です。", "all", "")).await;
        write(
            &world,
            &form("個別のお知らせ", "本文です。", "chosen", "0123"),
        )
        .await;
        let (_, home) = world.alice.get("/").await;
        assert!(home.contains("全体のお知らせ") && home.contains("個別のお知らせ"));
        let (_, home) = world.bob.get("/").await;
        assert!(home.contains("全体のお知らせ") && !home.contains("個別のお知らせ"));
        let (_, list) = world.alice.get("/announcements").await;
        let at = list.find("/announcements/0").expect("a link");
        let path = &list[at..at + "/announcements/".len() + 36];
        assert_eq!(
            world.bob.get(path).await.0,
            404,
            "not for this establishment"
        );
        let (status, page) = world.alice.get(path).await;
        assert_eq!(status, 200);
        assert!(page.contains("個別のお知らせ"));
        let (_, home) = world.alice.get("/").await;
        assert!(!home.contains("個別のお知らせ") && home.contains("全体のお知らせ"));
        let (_, list) = world.alice.get("/announcements").await;
        assert!(list.contains("個別のお知らせ") && list.contains("既読"));
    }
}

#[tokio::test]
async fn it_is_shown_in_its_days_only_and_not_after_it_was_taken_back() {
    for world in worlds().await {
        let mut tomorrow = form("明日のお知らせ", "本文", "all", "");
        tomorrow[4].1 = "2026-03-14";
        write(&world, &tomorrow).await;
        assert!(!world.alice.get("/").await.1.contains("明日のお知らせ"));
        world
            .app
            .clock
            .set(NOW + Duration::hours(14) + Duration::minutes(1));
        let all = store::for_everybody(&world.app.db, world.app.clock.now());
        assert_eq!(all.await.unwrap().len(), 1);
        let reviewer = world.sato_again().await;
        let (_, list) = reviewer.get("/announcements").await;
        let at = list.find("/announcements/0").expect("a link");
        let path = list[at..at + "/announcements/".len() + 36].to_owned();
        let (status, ..) = reviewer.post(&format!("{path}/withdraw"), &[]).await;
        assert_eq!(status, 303);
        let all = store::for_everybody(&world.app.db, world.app.clock.now());
        assert_eq!(all.await.unwrap(), []);
        // Changing it puts it up again.
        let (status, ..) = reviewer.post(&path, &tomorrow).await;
        assert_eq!(status, 303);
        let all = store::for_everybody(&world.app.db, world.app.clock.now());
        assert_eq!(all.await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn what_cannot_be_put_up_is_said_and_what_was_typed_stays() {
    let world = World::new().await;
    for (typed, sentence) in [
        (form("", "本文", "all", ""), "件名を入力してください"),
        (form("題", "", "all", ""), "本文を入力してください"),
        (
            form("題", "本文", "chosen", "9999"),
            "登録のない事業所番号があります：9999",
        ),
        (
            form("題", "本文", "chosen", ""),
            "事業所番号を入力してください",
        ),
        (
            form("題", "[外](https://example.com)", "all", ""),
            "利用者の画面",
        ),
        (
            form("題", "番号は 1234 5678 9018 です", "all", ""),
            "個人番号",
        ),
    ] {
        let (status, _, page) = world.sato.post("/announcements/new", &typed).await;
        assert_eq!(status, 422, "{sentence}");
        assert!(page.contains(sentence), "{sentence}: {page}");
        assert!(typed[1].1.is_empty() || page.contains("</textarea>"));
    }
    let mut late = form("題", "本文", "all", "");
    late[5].1 = "2026-03-12";
    let (_, _, page) = world.sato.post("/announcements/new", &late).await;
    assert!(page.contains("終わりの日"), "{page}");
}

#[test]
fn markup_stays_text_and_links_lead_to_own_pages_only() {
    let text = "<b>太字</b>\n[提出](/filings/new)はこちら\n\n[外](https://example.com) [変](/x)";
    let read = paragraphs(text);
    assert_eq!(read.len(), 2);
    assert_eq!(read[0][0], [plain("<b>太字</b>")]);
    assert_eq!(
        read[0][1],
        [
            Piece {
                words: "提出".into(),
                link: "/filings/new"
            },
            plain("はこちら")
        ]
    );
    assert_eq!(read[1][0], [plain("[外](https://example.com) [変](/x)")]);
}
