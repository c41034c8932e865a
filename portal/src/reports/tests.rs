//! Figures that are right, and nobody in them.

use sqlx::Row as _;
use time::macros::datetime;

use super::*;
use crate::testing::world::World;
use crate::testing::worlds;

#[test]
fn months_begin_and_end_in_japan() {
    let at = datetime!(2026-03-31 15:00 UTC);
    assert_eq!(YearMonth::of(at).code(), "2026-04");
    let december = YearMonth::parse("2026-12").unwrap();
    assert_eq!(december.next().code(), "2027-01");
    assert_eq!(december.next().previous(), december);
    assert_eq!(december.begins(), datetime!(2026-12-01 00:00 +9));
    for text in [
        "", "2026", "2026-13", "2026-00", "26-01", "2026-1", "+026-01",
    ] {
        assert_eq!(YearMonth::parse(text), Err(PeriodError::NoMonth), "{text}");
    }
}

#[test]
fn a_period_has_an_end_and_a_limit() {
    let month = |text| YearMonth::parse(text).unwrap();
    let between = |from, to| Period::between(month(from), month(to));
    assert_eq!(between("2026-01", "2026-01").unwrap().months().len(), 1);
    assert_eq!(between("2024-01", "2026-12").unwrap().months().len(), 36);
    assert_eq!(between("2023-12", "2026-12"), Err(PeriodError::TooLong));
    assert_eq!(between("2026-02", "2026-01"), Err(PeriodError::Backwards));
    let year = Period::last_twelve(datetime!(2026-03-13 10:00 +9));
    assert_eq!(year.begins(), datetime!(2025-04-01 00:00 +9));
    assert_eq!(year.ends(), datetime!(2026-04-01 00:00 +9));
}

#[test]
fn half_and_nine_in_ten_took_no_longer() {
    let took = |hours: &[i64]| LeadTime::of(hours.iter().map(|n| Duration::hours(*n)).collect());
    assert_eq!(took(&[]), None);
    let one = took(&[7]).unwrap();
    assert_eq!(
        (one.median, one.p90),
        (Duration::hours(7), Duration::hours(7))
    );
    let ten = took(&[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]).unwrap();
    assert_eq!(
        (ten.median, ten.p90),
        (Duration::hours(5), Duration::hours(9))
    );
    assert_eq!(days(Duration::hours(60)), "2.5");
}

async fn some_work(world: &World) {
    let (alice, sato) = (&world.alice, &world.sato);
    for kind in ["資格取得届", "資格喪失届"] {
        let filing = alice.file(&format!("20260313_0123_{kind}.pdf")).await;
        sato.post(&format!("{filing}/take"), &[]).await;
        let reason = [("code", "illegible"), ("text", "")];
        sato.post(&format!("{filing}/return"), &reason).await;
    }
    world.bob.file("20260313_0124_資格取得届.pdf").await;
}

#[tokio::test]
async fn the_totals_are_those_of_the_audit_log() {
    for world in worlds().await {
        some_work(&world).await;
        let acts = async |act: &str| -> i64 {
            let row = sqlx::query("SELECT COUNT(*) AS n FROM audit_log WHERE act = $1")
                .bind(act.to_owned())
                .fetch_one(world.app.db.pool())
                .await
                .unwrap();
            row.get("n")
        };
        let (_, headers, csv) = world.tanaka.download("/reports.csv").await;
        assert_eq!(headers["content-type"], "text/csv; charset=utf-8");
        let text = String::from_utf8(csv).unwrap();
        let value = |item: &str| -> i64 {
            let line = format!("\"月\",\"2026年3月\",\"{item}\",\"");
            let at = text.find(&line).expect(item) + line.len();
            text[at..].split('"').next().unwrap().parse().unwrap()
        };
        assert_eq!(value("届書の提出"), acts("submitted").await);
        assert_eq!(value("差戻し"), acts("filing_returned").await);
        assert_eq!(value("決定"), acts("filing_decided").await);
        assert_eq!(value("通知書の発行"), acts("notice_issued").await);
        assert_eq!((value("届書の提出"), value("差戻し")), (3, 2));
        assert!(
            text.contains("\"差戻しの理由\",\"判読不能\",\"件数\",\"2\""),
            "{text}"
        );
        assert!(
            text.contains("\"種類\",\"資格取得届\",\"届書の提出\",\"2\""),
            "{text}"
        );
    }
}

#[tokio::test]
async fn the_page_shows_pictures_with_tables_and_no_person() {
    for world in worlds().await {
        some_work(&world).await;
        for browser in [&world.sato, &world.tanaka, &world.admin] {
            let (status, page) = browser.get("/reports").await;
            assert_eq!(status, 200);
            assert_eq!(page.matches("<svg").count(), 2);
            assert!(page.contains("判読不能") && page.contains("100.0%"));
            let body = page.split("<main").nth(1).unwrap();
            for person in ["髙﨑", "山田 太郎", "佐藤", "鈴木"] {
                assert!(!body.contains(person), "{person}");
            }
        }
        let (_, page) = world.sato.get("/reports?from=2026-05&to=2026-04").await;
        assert!(page.contains("始まりの月以後") && page.contains("value=\"2026-05\""));
        let (_, _, csv) = world.sato.download("/reports.csv?encoding=cp932").await;
        assert!(String::from_utf8(csv).is_err(), "not UTF-8");
    }
}
