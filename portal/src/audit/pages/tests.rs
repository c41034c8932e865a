//! The audit log as supervisors and system administrators see it.

use http::StatusCode;

use super::*;
use crate::testing::world::World;
use crate::testing::worlds;

#[tokio::test]
async fn the_log_is_found_by_actor_act_and_object_and_names_what_the_ids_mean() {
    for world in worlds().await {
        let filing = world.alice.file("20260313_0123_資格取得届.pdf").await;
        world.bob.file("20260313_0124_資格喪失届.pdf").await;
        world.sato.post(&format!("{filing}/take"), &[]).await;
        let find = async |query: &str| {
            let (status, page) = world.tanaka.get(&format!("/audit?{query}")).await;
            assert_eq!(status, StatusCode::OK, "{page}");
            page.split("<tbody>").nth(1).unwrap_or_default().to_owned()
        };
        let all = find("").await;
        assert!(
            all.contains("届書を提出") && all.contains("審査を開始"),
            "{all}"
        );
        // By act.
        let taken = find("act=filing_taken").await;
        assert!(taken.contains("佐藤") && taken.contains("20260313_0123_資格取得届"));
        assert!(!taken.contains("届書を提出"), "{taken}");
        // By name and by user ID.
        let name = serde_urlencoded::to_string([("actor", "髙﨑")]).unwrap();
        let hers = find(&name).await;
        assert!(
            hers.contains("髙﨑 花子") && hers.contains("届書を提出"),
            "{hers}"
        );
        assert!(
            !hers.contains("山田 太郎") && !hers.contains("佐藤"),
            "{hers}"
        );
        // By what it is about: a filing's name.
        let object = [("object", "20260313_0123_資格取得届")];
        let about = find(&serde_urlencoded::to_string(object).unwrap()).await;
        assert!(about.contains("審査を開始") && !about.contains("20260313_0124"));
        assert_eq!(find("actor=nobody").await, "");
        assert_eq!(find("actor_kind=command_line").await, "");
        // The day before has nothing; a day that is none is said so.
        assert_eq!(find("from=2026-03-01&to=2026-03-12").await, "");
        let (_, page) = world.tanaka.get("/audit?from=2026-02-30").await;
        assert!(page.contains("href=\"#from\""), "{page}");
        let (_, page) = world
            .tanaka
            .get("/audit?from=2026-03-13&to=2026-03-12")
            .await;
        assert!(page.contains("href=\"#to\""), "{page}");
    }
}

#[tokio::test]
async fn a_long_log_goes_on_where_the_page_ended() {
    for world in worlds().await {
        let mut tx = world.app.db.begin().await.unwrap();
        let now = world.app.clock.now();
        for _ in 0..PAGE_LENGTH + 20 {
            let act = Act::FactorShown;
            let actor = crate::audit::Actor::System;
            crate::audit::record(&mut tx, &world.app.keys, &actor, act, now)
                .await
                .unwrap();
        }
        Db::commit(tx).await.unwrap();
        let numbers = |page: &str| -> Vec<i64> {
            page.split("data-label=\"番号\">")
                .skip(1)
                .map(|cell| cell.split('<').next().unwrap().parse().unwrap())
                .collect()
        };
        let (_, page) = world.admin.get("/audit?act=factor_shown").await;
        let first = numbers(&page);
        let link = page
            .split("href=\"/audit?")
            .find(|link| link.contains("older="));
        let link = link
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .replace("&#38;", "&");
        let (_, page) = world.admin.get(&format!("/audit?{link}")).await;
        let second = numbers(&page);
        assert_eq!((first.len(), second.len()), (PAGE_LENGTH, 20));
        let all: Vec<i64> = first.into_iter().chain(second).collect();
        assert!(all.is_sorted_by(|a, b| a > b), "{all:?}");
    }
}

#[tokio::test]
async fn what_is_taken_away_and_checked_stands_in_the_log_itself() {
    for world in worlds().await {
        let (_, page) = world.admin.get("/audit").await;
        assert!(page.contains("まだ確かめていません"), "{page}");
        let (status, headers, csv) = world.admin.download("/audit.csv?").await;
        assert_eq!(status, StatusCode::OK);
        assert!(
            headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/csv")
        );
        let csv = String::from_utf8(csv).unwrap();
        assert!(csv.starts_with('\u{FEFF}') && !csv.contains("操作の記録を書出し"));
        let (status, _, book) = world.tanaka.download("/audit.xlsx?").await;
        assert_eq!((status, &book[..2]), (StatusCode::OK, b"PK".as_slice()));
        let (_, location, _) = world.tanaka.post("/audit/check", &[]).await;
        assert_eq!(location, "/audit#checks");
        let (_, page) = world.tanaka.get("/audit").await;
        assert!(page.contains("異常なし") && page.contains("書き換えや抜けはありません"));
        assert!(page.contains("操作の記録を書出し") && page.contains("操作の記録を検証"));

        sqlx::query("UPDATE audit_log SET reason = 'x' WHERE seq = 1")
            .execute(world.app.db.pool())
            .await
            .unwrap();
        world.tanaka.post("/audit/check", &[]).await;
        let (_, page) = world.tanaka.get("/audit").await;
        assert!(
            page.contains("異常あり") && page.contains("番号1の記録"),
            "{page}"
        );
    }
}

#[tokio::test]
async fn reviewers_do_not_find_the_log() {
    let world = World::new().await;
    for path in ["/audit", "/audit.csv", "/audit.xlsx"] {
        assert_eq!(world.sato.get(path).await.0, StatusCode::NOT_FOUND);
    }
    assert_eq!(
        world.sato.post("/audit/check", &[]).await.0,
        StatusCode::NOT_FOUND
    );
    let (_, page) = world.sato.get("/filings").await;
    assert!(!page.contains("操作の記録"));
}
