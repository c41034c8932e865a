//! The office's list, on both databases: order, filters, pages, and the way it is found.

use super::*;
use crate::filings::kinds;
use crate::testing::world::World;
use crate::testing::{NOW, worlds};
use access::JST;
use sqlx::Row as _;
use time::Duration;

fn today() -> Date {
    NOW.to_offset(JST).date()
}

/// Copies the only filing `times` times, each due a day later than the one before it from
/// `due`, three to a day.
async fn many(world: &World, times: i64, due: Date) {
    let row = sqlx::query("SELECT id FROM filings")
        .fetch_one(world.app.db.pool())
        .await
        .unwrap();
    let id: String = row.try_get("id").unwrap();
    let mut tx = world.app.db.begin().await.unwrap();
    for number in 0..times {
        sqlx::query(
            "INSERT INTO filings (id, submission_id, establishment_id, document_id, name, original_name,
                    kind, filed_on, state, received_ms, changed_ms, due_on)
             SELECT $1, submission_id, establishment_id, document_id, name, original_name,
                    kind, filed_on, state, received_ms, changed_ms + $2, $3 FROM filings WHERE id = $4",
        )
        .bind(FilingId::new().to_string())
        .bind(number / 3)
        .bind(day_text(due + Duration::days(number / 3)))
        .bind(id.as_str())
        .execute(&mut *tx)
        .await
        .unwrap();
    }
    Db::commit(tx).await.unwrap();
}

fn ids(page: &Page) -> Vec<FilingId> {
    page.lines.iter().map(|line| line.line.filing.id).collect()
}

#[tokio::test]
async fn pages_go_forward_and_back_over_every_filing_once_in_the_order_of_deadlines() {
    for world in worlds().await {
        world.alice.file("20260313_0123_資格喪失届.pdf").await;
        many(&world, 69, today() - Duration::days(3)).await;
        let reviewer = world.sato.as_reviewer().await;
        for view in [View::Open, View::All] {
            let mut search = Search {
                view,
                ..Search::default()
            };
            let mut pages = Vec::new();
            loop {
                let page = list(&world.app.db, &reviewer, &search, today())
                    .await
                    .unwrap();
                pages.push(page.clone());
                let Some(next) = page.next else { break };
                // As it stands in the link.
                let next = Place::from_text(&next.to_text()).unwrap();
                search.from = Begin::After(next);
            }
            assert_eq!(pages.len(), 4);
            let mut all: Vec<_> = pages.iter().flat_map(ids).collect();
            assert_eq!(all.len(), 70);
            all.sort();
            all.dedup();
            assert_eq!(all.len(), 70);
            assert_eq!(pages[0].previous, None);
            let days: Vec<_> = pages
                .iter()
                .flat_map(|page| page.lines.iter().map(|line| line.due_on))
                .collect();
            assert_eq!(days.is_sorted(), view == View::Open);
            // And back again.
            for at in (0..3).rev() {
                search.from = Begin::Before(pages[at + 1].previous.clone().unwrap());
                let page = list(&world.app.db, &reviewer, &search, today())
                    .await
                    .unwrap();
                assert_eq!(ids(&page), ids(&pages[at]));
                assert!(page.next.is_some());
                assert_eq!(page.previous.is_some(), at > 0);
            }
        }
    }
}

#[tokio::test]
async fn each_filter_shows_its_own_and_the_counts_say_how_many() {
    for world in worlds().await {
        let mine = world.alice.file("20260313_0123_資格喪失届.pdf").await;
        let theirs = world.alice.file("20260313_0123_資格取得届.pdf").await;
        let free = world.bob.file("20260313_0124_氏名変更届.pdf").await;
        world.sato.post(&format!("{mine}/take"), &[]).await;
        world.suzuki.post(&format!("{theirs}/take"), &[]).await;
        sqlx::query("UPDATE filings SET due_on = '2026-03-12' WHERE kind = 'acquisition'")
            .execute(world.app.db.pool())
            .await
            .unwrap();
        let reviewer = world.sato.as_reviewer().await;
        let kinds = kinds::store::all(world.app.db.pool()).await.unwrap();
        let found = async |search: Search| {
            let page = list(&world.app.db, &reviewer, &search, today())
                .await
                .unwrap();
            let mut paths: Vec<_> = ids(&page)
                .iter()
                .map(|id| format!("/filings/{id}"))
                .collect();
            paths.sort();
            paths
        };
        let view = |view| Search {
            view,
            ..Search::default()
        };
        let all = {
            let mut all = vec![mine.clone(), theirs.clone(), free.clone()];
            all.sort();
            all
        };
        assert_eq!(found(view(View::Open)).await, all);
        assert_eq!(found(view(View::All)).await, all);
        assert_eq!(found(view(View::Mine)).await, std::slice::from_ref(&mine));
        assert_eq!(
            found(view(View::Unassigned)).await,
            std::slice::from_ref(&free)
        );
        assert_eq!(found(view(View::Late)).await, std::slice::from_ref(&theirs));
        assert!(found(view(View::Decided)).await.is_empty());
        let of = |number: &str| number.parse().ok();
        let beta = Search {
            establishment: of("0124"),
            ..Search::default()
        };
        assert_eq!(found(beta).await, std::slice::from_ref(&free));
        let kind = Search {
            kind: Some(kinds.find("loss").unwrap().kind),
            ..Search::default()
        };
        assert_eq!(found(kind).await, std::slice::from_ref(&mine));
        for text in ["資格取得", "20260313-0002", "２０２６０３１３－０００２"] {
            let search = Search {
                text: text.to_owned(),
                ..Search::default()
            };
            assert_eq!(found(search).await, std::slice::from_ref(&theirs), "{text}");
        }
        for text in [
            "0124_氏名",
            "20260313_0124_氏名変更届.pdf",
            "13_０１２４_",
            "3_0124",
            "24_氏名変更届.PDF",
        ] {
            let search = Search {
                text: text.to_owned(),
                ..Search::default()
            };
            assert_eq!(found(search).await, std::slice::from_ref(&free), "{text}");
        }
        for text in ["%", "_", "'", "!"] {
            let search = Search {
                text: text.to_owned(),
                ..Search::default()
            };
            let expected = if text == "_" { all.len() } else { 0 };
            assert_eq!(found(search).await.len(), expected, "{text}");
        }
        let expected = Counts {
            open: 3,
            mine: 1,
            unassigned: 1,
            late: 1,
        };
        let counted = counts(&world.app.db, &reviewer, today()).await.unwrap();
        assert_eq!(counted, expected);
    }
}

#[tokio::test]
async fn a_page_is_found_along_an_index_whatever_the_view() {
    let world = World::new().await;
    let reviewer = world.sato.as_reviewer().await;
    for view in View::ALL {
        let search = Search {
            view,
            from: Begin::After(Place {
                key: if view.order() == Order::Deadline {
                    "2026-03-13".into()
                } else {
                    "1".into()
                },
                id: FilingId::new(),
            }),
            ..Search::default()
        };
        let (sql, narrowed) = statement(&search, reviewer.id(), today());
        let plan = narrowed
            .bind(format!("EXPLAIN QUERY PLAN {sql}"))
            .fetch_all(world.app.db.pool())
            .await
            .unwrap();
        let plan: Vec<String> = plan
            .iter()
            .map(|row| row.try_get("detail").unwrap())
            .collect();
        let of_filings: Vec<_> = plan.iter().filter(|step| step.contains(" f ")).collect();
        assert!(
            of_filings
                .iter()
                .all(|step| !step.starts_with("SCAN f ") || step.contains("USING")),
            "{view:?}: {plan:#?}"
        );
    }
}

#[test]
fn only_a_place_of_ours_is_read_from_an_address() {
    for text in ["", "x", "2026-03-13", "2026-03-13~x", "x~y", "'; --~x"] {
        assert_eq!(Place::from_text(text), None, "{text}");
    }
}
