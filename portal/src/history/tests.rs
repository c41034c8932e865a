//! What stands in the history, who sees it, and how long a question may take.

use http::StatusCode;
use sqlx::Row as _;
use time::Duration;

use super::search::{Going, Question, STEPS_LIMIT};
use super::store::{self, Asker, PAGE_LENGTH, Search};
use super::*;
use crate::db::Db;
use crate::establishments::store::find_by_number;
use crate::testing::world::World;
use crate::testing::{NOW, worlds};

/// Everything that can happen happens to alpha's filings.
async fn a_busy_day(world: &World) {
    let (alice, sato) = (&world.alice, &world.sato);
    let returned = alice.file("20260313_0123_資格取得届.pdf").await;
    sato.post(&format!("{returned}/take"), &[]).await;
    let reason = [("code", "illegible"), ("text", "")];
    sato.post(&format!("{returned}/return"), &reason).await;
    let withdrawn = alice.file("20260312_0123_氏名変更届.pdf").await;
    alice.post(&format!("{withdrawn}/withdraw"), &[]).await;
    let decided = alice.file("20260311_0123_資格喪失届.pdf").await;
    sato.post(&format!("{decided}/take"), &[]).await;
    let form = [
        ("member_number", "1"),
        ("name", "山田 太郎"),
        ("event", "loss"),
        ("event_on", "2026-03-01"),
    ];
    let (status, ..) = sato.post(&format!("{decided}/determination"), &form).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let (_, page) = sato.get(&format!("{decided}/determination/draft")).await;
    let mark = "name=\"draft\" value=\"";
    let at = page.find(mark).expect("a draft") + mark.len();
    let draft = [("draft", &page[at..at + 36])];
    let (status, ..) = sato
        .post(&format!("{decided}/determination/issue"), &draft)
        .await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let (_, page) = alice.get("/notices").await;
    let at = page.find("/notices/0").expect("a notice");
    let notice = &page[at..at + "/notices/".len() + 36];
    assert_eq!(alice.download(&format!("{notice}.pdf")).await.0, 200);
    world.bob.file("20260313_0124_資格取得届.pdf").await;
}

async fn entries(world: &World, search: &Search) -> Vec<Entry> {
    let member = world.alice.as_member().await;
    let asker = Asker::Member(&member);
    let page = store::read(&world.app.db, asker, search, Going::FromTheNewest, 50).await;
    let mut entries: Vec<Entry> = page.unwrap().lines.iter().map(|line| line.entry).collect();
    entries.sort_by_key(|entry| entry.code());
    entries
}

#[tokio::test]
async fn everything_sent_and_received_stands_in_it_once_and_nothing_internal() {
    for world in worlds().await {
        a_busy_day(&world).await;
        let all = entries(&world, &Search::default()).await;
        use Entry::{Decided, Fetched, Filed, Issued, Returned, Withdrawn};
        assert_eq!(
            all,
            [
                Decided, Fetched, Filed, Filed, Filed, Issued, Returned, Withdrawn
            ]
        );
        let search = |text: &str| Search {
            text: text.to_owned(),
            ..Search::default()
        };
        let acquisition = entries(&world, &search("資格取得届")).await;
        assert_eq!(acquisition, [Filed, Returned]);
        // A colleague at the fund has no name here; an own person has.
        assert_eq!(entries(&world, &search("佐藤")).await, []);
        assert_eq!(
            entries(&world, &search("髙﨑 氏名変更")).await,
            [Filed, Withdrawn]
        );
        let returned = Search {
            entry: Some(Returned),
            person: "佐藤".to_owned(),
            ..Search::default()
        };
        assert_eq!(entries(&world, &returned).await, []);
    }
}

/// Every way in which a notice or a filing comes to be writes its entry: the rows are counted
/// against those of the things themselves.
pub(crate) async fn nothing_is_forgotten(db: &Db) {
    for (things, entries) in [
        ("filings", "entry IN ('filed', 'filed_on_paper')"),
        ("notices", "entry = 'issued'"),
        ("notice_fetches", "entry = 'fetched'"),
        (
            "notices WHERE recalled_ms IS NOT NULL",
            "entry = 'recalled'",
        ),
    ] {
        let sql = format!(
            "SELECT (SELECT COUNT(*) FROM {things}) AS things,
                    (SELECT COUNT(*) FROM history WHERE {entries}) AS entries"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .fetch_one(db.pool())
            .await
            .unwrap();
        let (there, written): (i64, i64) = (row.get("things"), row.get("entries"));
        assert_eq!(there, written, "{things}");
    }
}

#[tokio::test]
async fn each_thing_has_its_entry() {
    for world in worlds().await {
        a_busy_day(&world).await;
        nothing_is_forgotten(&world.app.db).await;
    }
}

#[tokio::test]
async fn each_side_finds_by_number_name_kind_person_and_day() {
    for world in worlds().await {
        a_busy_day(&world).await;
        let find = async |query: &str| {
            let (status, page) = world.sato.get(&format!("/history?{query}")).await;
            assert_eq!(status, 200);
            page.matches("<tr>").count().saturating_sub(1)
        };
        assert_eq!(find("").await, 9);
        assert_eq!(find("text=124").await, 1);
        assert_eq!(find("text=例示物流").await, 1);
        assert_eq!(find("establishment=0124").await, 1);
        assert_eq!(find("establishment=0999").await, 0);
        assert_eq!(find("text=佐藤").await, 3);
        assert_eq!(find("text=資格取得届+例示物流").await, 1);
        assert_eq!(find("person=山田").await, 1);
        assert_eq!(find("text=20260313_0123_資格取得届").await, 2);
        assert_eq!(find("text=0313_0123").await, 2);
        assert_eq!(find("text=20260313-0001").await, 2);
        assert_eq!(find("kind=資格喪失届&entry=decided").await, 1);
        assert_eq!(find("from=2026-03-13&to=2026-03-13").await, 9);
        assert_eq!(find("from=2026-03-14").await, 0);
        assert_eq!(find("to=2026-03-12").await, 0);
        assert_eq!(find("text=%25").await, 0);
        let (status, page) = world.sato.get("/history?from=13.3.26&text=x").await;
        assert_eq!(status, 200);
        assert!(page.contains("の形で入力してください") && page.contains("value=\"13.3.26\""));
    }
}

#[tokio::test]
async fn nobody_sees_another_establishments_history() {
    for world in worlds().await {
        a_busy_day(&world).await;
        for path in ["/history?establishment=0123", "/history?text=0123"] {
            let (_, page) = world.bob.get(path).await;
            assert!(
                !page.contains("見本製作所") && !page.contains("_0123_"),
                "{path}"
            );
        }
        let (status, _, csv) = world.bob.download("/history.csv?establishment=0123").await;
        assert_eq!(status, 200);
        let text = String::from_utf8(csv).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        let (status, _) = world.admin.get("/history").await;
        assert_eq!(status, 404, "a system administrator reads no documents");
    }
}

#[tokio::test]
async fn the_files_hold_what_the_page_shows_and_leave_a_trace() {
    for world in worlds().await {
        a_busy_day(&world).await;
        let (_, headers, csv) = world.alice.download("/history.csv?entry=returned").await;
        assert_eq!(headers["content-type"], "text/csv; charset=utf-8");
        let text = String::from_utf8(csv).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[1].contains("\"20260313_0123_資格取得届\""), "{text}");
        assert!(lines[1].contains("\"基金事務局\"") && lines[1].contains("\"判読不能\""));
        let (status, _, xlsx) = world.sato.download("/history.xlsx").await;
        assert_eq!((status, &xlsx[..2]), (StatusCode::OK, &b"PK"[..]));
        let rows = sqlx::query(
            "SELECT details FROM audit_log WHERE act = 'history_exported' ORDER BY seq",
        )
        .fetch_all(world.app.db.pool())
        .await
        .unwrap();
        let details: Vec<String> = rows.iter().map(|row| row.get("details")).collect();
        assert_eq!(details, ["{\"rows\":1}", "{\"rows\":9}"]);
    }
}

#[tokio::test]
async fn a_name_that_is_a_formula_arrives_as_text() {
    let world = World::new().await;
    sqlx::query("UPDATE users SET name = '=cmd|x'")
        .execute(world.app.db.pool())
        .await
        .unwrap();
    world.bob.file("20260313_0124_資格取得届.pdf").await;
    let (_, _, csv) = world.sato.download("/history.csv").await;
    let text = String::from_utf8(csv).unwrap();
    assert!(text.contains(",\"'=cmd|x\","), "{text}");
}

/// Writes `count` rows for alpha, one a minute, the first at [`NOW`].
async fn fill(db: &Db, world: &World, count: i64, kind: &str, person: &str) {
    let mut tx = db.begin().await.unwrap();
    for index in 0..count {
        sqlx::query(
            "INSERT INTO history (id, at_ms, establishment_id, entry, kind, title, number, side, person, reason)
             VALUES ($1, $2, $3, 'filed', $4, $5, $6, 'member', $7, '')",
        )
        .bind(RowId::new().to_string())
        .bind(unix_ms(NOW + Duration::minutes(index)))
        .bind(world.alpha.to_string())
        .bind(kind.to_owned())
        .bind(format!("{kind}{index}"))
        .bind(format!("n{index}"))
        .bind(person.to_owned())
        .execute(&mut *tx)
        .await
        .unwrap();
    }
    Db::commit(tx).await.unwrap();
}

#[tokio::test]
async fn paging_there_and_back_meets_every_line_once() {
    for world in worlds().await {
        fill(&world.app.db, &world, 120, "資格取得届", "髙﨑").await;
        let reviewer = world.sato.as_reviewer().await;
        let asker = Asker::Reviewer(&reviewer);
        let read = async |going| {
            let search = Search::default();
            store::read(&world.app.db, asker, &search, going, PAGE_LENGTH)
                .await
                .unwrap()
        };
        let (mut going, mut seen, mut pages) = (Going::FromTheNewest, Vec::new(), Vec::new());
        loop {
            let page = read(going).await;
            seen.extend(page.lines.iter().map(|line| line.number.clone()));
            let older = page.older;
            pages.push(page);
            match older {
                Some(position) => going = Going::OlderThan(position),
                None => break,
            }
        }
        let expected: Vec<String> = (0..120).rev().map(|index| format!("n{index}")).collect();
        assert_eq!(seen, expected);
        assert_eq!(pages.len(), 3);
        let back = read(Going::NewerThan(pages[2].newer.unwrap())).await;
        assert_eq!(back.lines, pages[1].lines);
        let back = read(Going::NewerThan(back.newer.unwrap())).await;
        assert_eq!(back.lines, pages[0].lines);
        assert_eq!(back.newer, None);
    }
}

#[tokio::test]
async fn a_search_that_had_to_stop_says_so_and_goes_on_to_what_is_old() {
    for world in worlds().await {
        let db = &world.app.db;
        fill(db, &world, STEPS_LIMIT + 5, "資格取得届", "髙﨑").await;
        let reviewer = world.sato.as_reviewer().await;
        let search = Search {
            // The oldest of all, by a part of its title that no index knows.
            text: "取得届0".to_owned(),
            ..Search::default()
        };
        let asker = Asker::Reviewer(&reviewer);
        let first = store::read(db, asker, &search, Going::FromTheNewest, 50).await;
        let first = first.unwrap();
        assert_eq!((first.lines.len(), first.stopped), (0, true));
        let going = Going::OlderThan(first.older.unwrap());
        let second = store::read(db, asker, &search, going, 50).await.unwrap();
        let titles: Vec<&str> = second
            .lines
            .iter()
            .map(|line| line.title.as_str())
            .collect();
        assert_eq!(titles, ["資格取得届0"]);
        assert!(!second.stopped && second.older.is_none());
    }
}

/// Each question that a page can ask walks an index in order: nothing is sorted, nothing is
/// read from end to end.
#[tokio::test]
async fn every_walk_goes_along_its_index() {
    use super::search::Alternative::{Entry as Happened, Establishment, Kind, Number, Person};
    let world = World::new().await;
    let db = &world.app.db;
    let number = "0123".parse().unwrap();
    let alpha = find_by_number(db, number).await.unwrap().unwrap().id;
    let position = Position {
        at: NOW,
        id: RowId::new(),
    };
    for (clauses, index) in [
        (vec![], "history_time"),
        (vec![vec![Establishment(alpha)]], "history_establishment"),
        (vec![vec![Kind("x".into())]], "history_kind"),
        (
            vec![
                vec![Kind("x".into())],
                vec![Happened(Entry::Filed)],
                vec![Person("y".into())],
            ],
            "history_person",
        ),
        (vec![vec![Number("1".into())]], "history_number"),
    ] {
        for going in [Going::FromTheNewest, Going::OlderThan(position)] {
            let question = Question {
                clauses: clauses.clone(),
                from_ms: 0,
                before_ms: i64::MAX,
                going,
                limit: 51,
            };
            let statement = question.statement();
            let rows = statement.query_with("EXPLAIN QUERY PLAN");
            let rows = rows.fetch_all(db.pool()).await.unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            let plan = plan.join("\n");
            assert!(
                plan.contains(&format!("SEARCH h USING INDEX {index} ")),
                "{plan}"
            );
            let scans = plan.lines().filter(|line| line.starts_with("SCAN h"));
            assert_eq!(scans.count(), 0, "{plan}");
        }
    }
}

#[test]
fn a_position_reads_back_and_nonsense_is_none() {
    let position = Position {
        at: NOW,
        id: RowId::new(),
    };
    assert_eq!(position.to_string().parse(), Ok(position));
    for text in ["", ".", "1", "x.y", "99999999999999999.1"] {
        assert_eq!(text.parse::<Position>(), Err(NotAPosition), "{text}");
    }
}

/// Entries of ten years of the reference fund: 200,000 filings with what became of them.
const TEN_YEARS: i64 = 600_000;

/// Writes [`TEN_YEARS`] rows over 185 establishments and 555 people, in the database itself.
async fn ten_years(db: &Db) {
    const ESTABLISHMENT: &str =
        "'00000000-0000-7000-8000-' || substr(CAST(1000000000000 + n.i % 185 AS TEXT), 2)";
    let statements = [
        format!(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 184)
             INSERT INTO establishments (id, number, name, key_wrapped, zip_password_sealed, device_limit, created_ms)
             SELECT {ESTABLISHMENT}, 1000 + n.i, '事業所' || n.i, '', '', 3, 0 FROM n"
        ),
        format!(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {TEN_YEARS} - 1)
             INSERT INTO history (id, at_ms, establishment_id, entry, kind, title, number, side, person, reason)
             SELECT '00000000-0000-7000-9000-' || substr(CAST(1000000000000 + n.i AS TEXT), 2),
                    1458000000000 + n.i * CAST(525000 AS BIGINT), {ESTABLISHMENT},
                    CASE n.i % 3 WHEN 0 THEN 'filed' WHEN 1 THEN 'decided' ELSE 'returned' END,
                    CASE WHEN n.i % 1000 = 0 THEN '訂正届' WHEN n.i % 3 = 0 THEN '資格取得届' ELSE '資格喪失届' END,
                    '届' || n.i, '番号' || n.i, 'member', '利用者' || (n.i % 555), ''
               FROM n"
        ),
        "ANALYZE".to_owned(),
    ];
    for statement in statements {
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(db.pool())
            .await
            .unwrap();
    }
}

#[tokio::test]
#[ignore = "writes a million rows and measures; run it alone, on a quiet machine, with --nocapture"]
#[expect(
    clippy::disallowed_methods,
    reason = "a measurement reads the machine's clock"
)]
async fn a_page_of_ten_years_takes_less_than_fifty_milliseconds() {
    const ROUNDS: usize = 20;
    for world in worlds().await {
        let db = &world.app.db;
        ten_years(db).await;
        for query in [
            "",
            "entry=returned",
            "kind=訂正届",
            "kind=資格取得届&entry=filed&establishment=1100",
            "establishment=1100",
            "person=利用者77",
            "text=事業所77+資格喪失届",
            "text=番号123456",
            "text=nothing-like-it",
            "from=2018-04-01&to=2018-04-30",
            "older=1600000000000.00000000-0000-7000-9000-000000300000",
        ] {
            let mut took = Vec::new();
            for _ in 0..ROUNDS {
                let begun = std::time::Instant::now();
                let (status, _) = world.sato.get(&format!("/history?{query}")).await;
                assert_eq!(status, 200);
                took.push(begun.elapsed());
            }
            took.sort_unstable();
            let p95 = took[ROUNDS * 95 / 100 - 1];
            println!("{query:60} {p95:?}");
            assert!(p95.as_millis() < 50, "{query}: {p95:?}");
        }
    }
}
