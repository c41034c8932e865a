//! The office edits the kinds, and the members' pages follow.

use http::StatusCode;

use crate::testing::world::World;
use crate::testing::worlds;

const NEW: [(&str, &str); 8] = [
    ("name", "加入者住所変更届"),
    ("aliases", "住所変更届\n住所届"),
    ("procedure", "record"),
    ("form", "online"),
    ("event", "住所が変わった日"),
    ("within_days", "10"),
    ("counting", "working"),
    ("position", "35"),
];

#[tokio::test]
async fn a_new_kind_is_offered_to_the_members_at_once() {
    for world in worlds().await {
        let (status, to, _) = world.tanaka.post("/filing-kinds", &NEW).await;
        assert_eq!(
            (status, &*to),
            (StatusCode::SEE_OTHER, "/filing-kinds?done=saved")
        );
        let (_, page) = world.alice.get("/filings/new").await;
        assert!(page.contains(">加入者住所変更届</option>"), "{page}");
        assert!(page.contains("住所が変わった日から10営業日以内"));
    }
}

#[tokio::test]
async fn an_edit_of_an_older_version_loses_nothing_that_was_typed_and_changes_nothing() {
    for world in worlds().await {
        let mut form = NEW.to_vec();
        form.push(("version", "1"));
        let path = "/filing-kinds/acquisition";
        let (status, ..) = world.admin.post(path, &form).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        form[0].1 = "べつの名前届";
        let (status, _, page) = world.tanaka.post(path, &form).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(page.contains("べつの名前届") && page.contains("先に変更しました"));
        let (_, page) = world.tanaka.get("/filing-kinds").await;
        assert!(page.contains("加入者住所変更届") && !page.contains("べつの名前届"));
    }
}

#[tokio::test]
async fn a_reviewer_sees_the_kinds_and_changes_none() {
    let world = World::new().await;
    let (status, page) = world.sato.get("/filing-kinds").await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("資格取得届") && !page.contains("/filing-kinds/acquisition"));
    for path in ["/filing-kinds/new", "/filing-kinds/acquisition"] {
        assert_eq!(world.sato.get(path).await.0, StatusCode::NOT_FOUND);
    }
    for path in ["/filing-kinds", "/filing-kinds/acquisition"] {
        let (status, ..) = world.sato.post(path, &NEW).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
    let (status, ..) = world.tanaka.post("/filing-kinds/none", &NEW).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn every_field_that_cannot_be_read_is_named_at_once() {
    let world = World::new().await;
    let wrong = [
        ("name", "新しい届"),
        ("within_days", "0"),
        ("month_day", "31"),
        ("starts", "明日"),
        ("position", "-1"),
    ];
    let (status, _, page) = world.tanaka.post("/filing-kinds", &wrong).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    for field in [
        "procedure",
        "form",
        "within_days",
        "month_day",
        "starts",
        "position",
    ] {
        assert!(page.contains(&format!("href=\"#{field}\"")), "{field}");
    }
    assert!(page.contains("value=\"新しい届\""));
}

#[tokio::test]
async fn a_filing_keeps_the_name_that_its_kind_had_then() {
    for world in worlds().await {
        let path = world.alice.file("20260313_0123_資格取得届.pdf").await;
        let mut form = NEW.to_vec();
        form.push(("version", "1"));
        let (status, ..) = world.tanaka.post("/filing-kinds/acquisition", &form).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        let (status, page) = world.alice.get(&path).await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("20260313_0123_資格取得届"));
    }
}
