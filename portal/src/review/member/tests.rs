//! What both sides say about a case, through the routes of both sides and on both databases.

use http::StatusCode;

use crate::audit;
use crate::testing::worlds;

#[tokio::test]
async fn what_staff_write_for_themselves_never_reaches_the_member_side() {
    for world in worlds().await {
        let filing = world.alice.file("20260313_0123_資格取得届.pdf").await;
        let path = format!("{filing}/comments");
        for (audience, text) in [("office", "内輪の話"), ("both", "お知らせの話")] {
            let form = [("audience", audience), ("comment", text)];
            let (status, ..) = world.sato.post(&path, &form).await;
            assert_eq!(status, StatusCode::SEE_OTHER);
        }
        let (status, ..) = world.alice.post(&path, &[("comment", "返事の話")]).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        let (_, ours) = world.suzuki.get(&filing).await;
        for text in ["内輪の話", "お知らせの話", "返事の話", "基金内メモ"] {
            assert!(ours.contains(text), "{text}");
        }
        let (_, theirs) = world.alice.get(&filing).await;
        assert!(theirs.contains("お知らせの話") && theirs.contains("返事の話"));
        for page in ["/", "/filings", filing.as_str()] {
            let (_, page) = world.alice.get(page).await;
            assert!(!page.contains("内輪の話") && !page.contains("佐藤"));
        }
        // Nobody else's members write or read here, and one mail tells of the one message.
        let refused = world.bob.post(&path, &[("comment", "x")]).await.0;
        assert_eq!(refused, StatusCode::NOT_FOUND);
        let purposes = texts(&world, "SELECT purpose AS text FROM outbox").await;
        assert_eq!(purposes, ["filing_commented"]);
        // What was written lies sealed.
        for sealed in texts(&world, "SELECT text_sealed AS text FROM filing_comments").await {
            assert!(!sealed.contains('話'));
        }
        audit::verify(&world.app.db, &world.app.keys).await.unwrap();
    }
}

async fn texts(world: &crate::testing::world::World, sql: &'static str) -> Vec<String> {
    use sqlx::Row as _;
    let rows = sqlx::query(sql).fetch_all(world.app.db.pool()).await;
    let rows = rows.unwrap();
    rows.iter()
        .map(|row| row.try_get("text").unwrap())
        .collect()
}

#[tokio::test]
async fn what_is_no_comment_is_refused_and_stays_in_the_form() {
    for world in worlds().await {
        let filing = world.alice.file("20260313_0123_資格取得届.pdf").await;
        let path = format!("{filing}/comments");
        let number = "番号 1234 5678 9018 です";
        for (form, field, stays) in [
            (
                vec![("comment", number), ("audience", "office")],
                "comment",
                number,
            ),
            (
                vec![("comment", "だれに"), ("audience", "")],
                "audience",
                "だれに",
            ),
            (vec![("comment", " "), ("audience", "both")], "comment", ""),
        ] {
            let (status, _, page) = world.sato.post(&path, &form).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
            assert!(page.contains(&format!("href=\"#{field}\"")) && page.contains(stays));
        }
        let (status, _, page) = world.alice.post(&path, &[("comment", number)]).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(page.contains("個人番号") && page.contains(number));
        assert!(
            texts(&world, "SELECT id AS text FROM filing_comments")
                .await
                .is_empty()
        );
    }
}

#[tokio::test]
async fn a_mark_on_a_page_is_shown_to_the_establishment() {
    for world in worlds().await {
        let filing = world.alice.file("20260313_0123_資格取得届.pdf").await;
        world.sato.post(&format!("{filing}/take"), &[]).await;
        let path = format!("{filing}/return");
        let form = |page, left| {
            [
                ("code", "illegible"),
                ("page", page),
                ("left", left),
                ("top", "80"),
                ("width", "20.5"),
                ("height", "10"),
            ]
        };
        for (page, left) in [("99", "10"), ("1", "90"), ("", "10")] {
            let (status, _, page) = world.sato.post(&path, &form(page, left)).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
            assert!(page.contains("href=\"#page\"") && page.contains(&format!("value=\"{left}\"")));
            assert!(page.contains("value=\"illegible\" selected"));
        }
        let (status, ..) = world.sato.post(&path, &form("1", "10")).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        for browser in [&world.alice, &world.suzuki] {
            let (_, page) = browser.get(&filing).await;
            assert!(page.contains("1ページ目の下のほう、左"), "{page}");
            assert!(page.contains("x=\"10.0\" y=\"80.0\" width=\"20.5\" height=\"10.0\""));
        }
        let picture = format!("{filing}/pages/1.png");
        let (status, _, png) = world.alice.download(&picture).await;
        assert_eq!((status, &png[1..4]), (StatusCode::OK, &b"PNG"[..]));
        assert_eq!(world.bob.get(&picture).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_request_to_withdraw_is_answered_before_anything_else_is_decided() {
    for world in worlds().await {
        let granted = world.alice.file("20260313_0123_資格取得届.pdf").await;
        let declined = world.alice.file("20260313_0123_資格喪失届.pdf").await;
        let returned = world.alice.file("20260313_0123_氏名変更届.pdf").await;
        let ask = async |filing: &str, reason| {
            let form = [("reason", reason)];
            world
                .alice
                .post(&format!("{filing}/withdrawal"), &form)
                .await
                .0
        };
        // Before the review the establishment withdraws by itself.
        assert_eq!(ask(&granted, "誤り").await, StatusCode::CONFLICT);
        for filing in [&granted, &declined, &returned] {
            world.sato.post(&format!("{filing}/take"), &[]).await;
        }
        let direct = world.alice.post(&format!("{granted}/withdraw"), &[]).await;
        assert_eq!(direct.0, StatusCode::CONFLICT);
        assert_eq!(ask(&granted, " ").await, StatusCode::UNPROCESSABLE_ENTITY);
        for filing in [&granted, &declined] {
            assert_eq!(ask(filing, "二重に出しました").await, StatusCode::SEE_OTHER);
            assert_eq!(ask(filing, "もう一度").await, StatusCode::CONFLICT);
        }
        let (_, list) = world.sato.get("/filings").await;
        assert_eq!(list.matches("取下げ依頼").count(), 2);
        let (_, page) = world.sato.get(&granted).await;
        assert!(page.contains("二重に出しました") && !page.contains("決定通知書を作る"));
        let give = format!("{granted}/return");
        let refused = world.sato.post(&give, &[("code", "illegible")]).await;
        assert_eq!(refused.0, StatusCode::CONFLICT);
        assert!(refused.2.contains("取下げの依頼"));
        // Only who has the case answers.
        let foreign = world
            .suzuki
            .post(&format!("{granted}/withdrawal/grant"), &[])
            .await;
        assert_eq!(foreign.0, StatusCode::CONFLICT);

        let done = world
            .sato
            .post(&format!("{granted}/withdrawal/grant"), &[])
            .await
            .0;
        assert_eq!(done, StatusCode::SEE_OTHER);
        assert!(world.alice.get(&granted).await.1.contains("取り下げました"));
        let done = world
            .sato
            .post(&format!("{declined}/withdrawal/decline"), &[])
            .await
            .0;
        assert_eq!(done, StatusCode::SEE_OTHER);
        let (_, page) = world.alice.get(&declined).await;
        assert!(page.contains("取下げの依頼をお断りしました") && page.contains("取下げを依頼する"));
        let again = world
            .sato
            .post(&format!("{declined}/withdrawal/decline"), &[])
            .await
            .0;
        assert_eq!(again, StatusCode::CONFLICT);
        audit::verify(&world.app.db, &world.app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn a_request_to_withdraw_and_a_return_at_once_do_not_both_happen() {
    for world in worlds().await {
        for name in [
            "20260313_0123_資格取得届.pdf",
            "20260313_0123_資格喪失届.pdf",
        ] {
            let filing = world.alice.file(name).await;
            world.sato.post(&format!("{filing}/take"), &[]).await;
            let (alice, sato) = (world.alice.clone(), world.sato.clone());
            let (ask, give) = (format!("{filing}/withdrawal"), format!("{filing}/return"));
            let asked =
                tokio::spawn(async move { alice.post(&ask, &[("reason", "誤り")]).await.0 });
            let given =
                tokio::spawn(async move { sato.post(&give, &[("code", "illegible")]).await.0 });
            let both = (asked.await.unwrap(), given.await.unwrap());
            let one_won = both == (StatusCode::SEE_OTHER, StatusCode::CONFLICT)
                || both == (StatusCode::CONFLICT, StatusCode::SEE_OTHER);
            assert!(one_won, "{both:?}");
        }
    }
}
