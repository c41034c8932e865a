//! A thread from question to answer, and who may see it.

use super::*;
use crate::db::Db;
use crate::filings::store::ActorSide;
use crate::testing::world::World;
use crate::testing::{NOW, worlds};

async fn ask(world: &World, text: &str) -> String {
    let form = [("subject", "how_to"), ("text", text)];
    let (status, path, _) = world.alice.post("/contact", &form).await;
    assert_eq!(status, 303);
    path
}

#[tokio::test]
async fn a_question_gets_its_answer_and_the_mail_says_nothing_of_either() {
    for world in worlds().await {
        let path = ask(&world, "髙﨑です。<b>標準報酬</b>の届は？\n二行目").await;
        let id = path.trim_start_matches("/contact/").to_owned();
        let (_, list) = world.sato.get("/inquiries").await;
        assert!(list.contains("操作の方法") && list.contains("見本製作所"));
        let office = format!("/inquiries/{id}");
        let (_, page) = world.sato.get(&office).await;
        assert!(
            page.contains("&lt;b&gt;") || page.contains("&#60;b&#62;"),
            "{page}"
        );
        let (status, ..) = world
            .sato
            .post(&office, &[("text", "月末までです。")])
            .await;
        assert_eq!(status, 303);
        let (_, page) = world.alice.get(&path).await;
        assert!(page.contains("月末までです。") && page.contains("回答済み"));
        assert!(!page.contains("佐藤"), "the office has one voice");
        let rows = sqlx::query("SELECT purpose FROM outbox WHERE purpose = 'inquiry_answered'")
            .fetch_all(world.app.db.pool())
            .await
            .unwrap();
        assert_eq!(rows.len(), 1);
        let (status, ..) = world.sato.post(&format!("{office}/close"), &[]).await;
        assert_eq!(status, 303);
        let (status, _, page) = world.alice.post(&path, &[("text", "もう一つ")]).await;
        assert_eq!(status, 422);
        assert!(page.contains("終了しています") && page.contains("もう一つ"));
    }
}

#[tokio::test]
async fn what_is_written_lies_sealed() {
    use sqlx::Row as _;
    for world in worlds().await {
        ask(&world, "かなりや").await;
        let rows = sqlx::query("SELECT text_sealed FROM inquiry_messages")
            .fetch_all(world.app.db.pool())
            .await
            .unwrap();
        let sealed: String = rows[0].get("text_sealed");
        assert!(!sealed.contains("かなりや") && !sealed.is_empty());
    }
}

#[tokio::test]
async fn a_thread_is_seen_by_its_asker_and_the_admin_and_nobody_else() {
    for world in worlds().await {
        let path = ask(&world, "質問").await;
        assert_eq!(world.bob.get(&path).await.0, 404);
        assert_eq!(world.bob.post(&path, &[("text", "x")]).await.0, 404);
        let colleague = world.colleague().await;
        assert_eq!(colleague.get(&path).await.0, 404);
        assert!(!colleague.get("/contact").await.1.contains(&path));
        let form = [("subject", "other"), ("text", "同僚の質問")];
        let (_, theirs, _) = colleague.post("/contact", &form).await;
        assert_eq!(world.alice.get(&theirs).await.0, 200, "the admin sees it");
        let office = path.replace("/contact/", "/inquiries/");
        assert_eq!(world.admin.get(&office).await.0, 404);
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_said_and_what_was_typed_stays() {
    let world = World::new().await;
    let long = "あ".repeat(TEXT_LIMIT_CHARS + 1);
    for (subject, text, sentence) in [
        ("how_to", "", "内容を入力してください"),
        ("", "質問", "種類を選んでください"),
        (
            "how_to",
            "番号は１２３４ ５６７８ ９０１８です",
            "個人番号は送れません",
        ),
        ("how_to", long.as_str(), "文字以内"),
    ] {
        let form = [("subject", subject), ("text", text)];
        let (status, _, page) = world.alice.post("/contact", &form).await;
        assert_eq!(status, 422, "{sentence}");
        assert!(page.contains(sentence) && page.contains(text), "{sentence}");
    }
    for _ in 0..OPEN_LIMIT {
        ask(&world, "質問").await;
    }
    let form = [("subject", "how_to"), ("text", "もう一つ")];
    let (status, _, page) = world.alice.post("/contact", &form).await;
    assert_eq!(status, 422);
    assert!(page.contains("もう一つ") && page.contains("すでにあるお問い合わせ"));
}

#[tokio::test]
async fn of_an_answer_and_an_end_at_once_the_thread_keeps_one_order() {
    for world in worlds().await {
        let path = ask(&world, "質問").await;
        let id = path.trim_start_matches("/contact/").parse().unwrap();
        let reviewer = world.sato.as_reviewer().await;
        let writing = async {
            let mut tx = world.app.db.begin().await.unwrap();
            let (keys, side) = (&world.app.keys, ActorSide::Staff);
            let written = store::write(&mut tx, keys, id, side, "佐藤", "答", NOW).await;
            Db::commit(tx).await.unwrap();
            written.unwrap()
        };
        let closing = async {
            let mut tx = world.app.db.begin().await.unwrap();
            let closed = store::close(&mut tx, &reviewer, id, NOW).await.unwrap();
            Db::commit(tx).await.unwrap();
            closed
        };
        let (written, closed) = tokio::join!(writing, closing);
        assert!(closed);
        let inquiry = store::find(&world.app.db, &reviewer, id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(inquiry.state, State::Closed);
        let messages = store::messages(&world.app.db, &world.app.keys, &inquiry).await;
        assert_eq!(messages.unwrap().len(), 1 + usize::from(written));
    }
}
