//! The sums of contributions, and the documents that show them.

use time::macros::{date, datetime};

use super::*;
use crate::text_layer;

/// The fund's published year: 279,231 member-months at 2,400 yen, 278,091 at 2,000.
fn year() -> Contribution {
    let flat = |heads: i64, rate: i64| Movement {
        before_heads: heads,
        before_yen: heads * rate,
        heads,
        yen: heads * rate,
        ..Movement::default()
    };
    Contribution {
        movements: vec![
            (Category::Standard, flat(279_231, 2_400)),
            (Category::Special, flat(278_091, 2_000)),
        ],
        total_yen: 670_154_400 + 556_182_000,
        due_on: date!(2026 - 11 - 30),
        pay_at: "見本銀行 本店".into(),
    }
}

fn frame() -> Frame {
    Frame {
        fund: "見本企業年金基金".into(),
        number: "掛金第2026-003-0123号".into(),
        issued_on: date!(2026 - 11 - 12),
        establishment: "0123".parse().unwrap(),
        establishment_name: "髙﨑製作所株式会社".into(),
        month: "令和8年10月分".into(),
        correction: false,
        contact: "基金事務局 業務課 03-0000-0000".into(),
        made_at: datetime!(2026-11-12 10:00 +9),
    }
}

#[test]
fn statement_and_payment_notice_can_be_kept_for_years() {
    for write in [statement, payment] {
        let pdf = write(&frame(), &year()).unwrap();
        crate::testing::archive::assert_archivable(&pdf);
    }
}

#[test]
fn the_published_year_adds_up_to_the_yen() {
    assert_eq!(year().check(), Ok(()));
}

#[test]
fn one_yen_or_one_head_off_is_found() {
    let mut sums = year();
    sums.total_yen += 1;
    assert!(matches!(sums.check(), Err(SumError::Total { .. })));
    let mut sums = year();
    sums.movements[1].1.yen -= 1;
    assert!(matches!(
        sums.check(),
        Err(SumError::Yen {
            category: Category::Special,
            counted: 556_182_000,
            written: 556_181_999
        })
    ));
    let mut sums = year();
    sums.movements[0].1.more_heads = 1;
    let error = sums.check().unwrap_err();
    assert_eq!(
        error.page_text(),
        "標準掛金の人数が合いません（前月＋増加－減少＝279232人、当月人数＝279231人）。"
    );
}

#[test]
fn a_credit_cannot_be_asked_for() {
    let mut sums = year();
    for (_, m) in &mut sums.movements {
        *m = Movement {
            adjusted_yen: -5,
            yen: -5,
            ..Movement::default()
        };
    }
    sums.total_yen = -10;
    assert_eq!(sums.check(), Err(SumError::Negative(-10)));
}

#[test]
fn both_documents_say_whom_what_and_by_when_in_text_that_can_be_searched() {
    let squeezed = |pdf: Vec<u8>| -> String {
        let pages = text_layer::read(pdf).unwrap();
        assert_eq!(pages.len(), 1);
        pages.concat().split_whitespace().collect()
    };
    let text = squeezed(statement(&frame(), &year()).unwrap());
    for word in [
        "掛金計算書（令和8年10月分）",
        "事業所番号0123",
        "髙﨑製作所株式会社御中",
        "標準掛金",
        "670,154,400",
        "1,226,336,400",
        "掛金第2026-003-0123号",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let corrected = Frame {
        correction: true,
        ..frame()
    };
    let text = squeezed(payment(&corrected, &year()).unwrap());
    for word in [
        "【訂正】納入告知書",
        "金1,226,336,400円",
        "令和8年11月30日（2026年）",
        "見本銀行本店",
        "特別掛金556,182,000",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
}
