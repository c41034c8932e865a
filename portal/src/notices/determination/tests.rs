//! The letter, read back by tools of others: poppler's `pdftotext` and `qpdf`.

use std::path::Path;
use std::process::Command;

use time::macros::{date, datetime};

use super::*;

fn notice(persons: usize) -> Determination {
    let names = [
        "髙橋 一郎",
        "山﨑 花子",
        "佐藤 ㈱①太郎左衛門尉信長公之助",
        "マリア・フェルナンダ・デ・ロス・サントス・ロドリゲス",
        "渡邉 二郎",
    ];
    let events = [
        Event::Acquisition,
        Event::Loss,
        Event::Change,
        Event::Correction,
    ];
    Determination {
        fund: "全国電子情報技術産業企業年金基金".into(),
        number: "基金業発第1128号".into(),
        decided_on: date!(2026 - 11 - 20),
        establishment: "0123".parse().unwrap(),
        establishment_name: "株式会社みなと精機製作所".into(),
        addressee: None,
        receipt_number: "20261118-0123-0007".into(),
        filing_name: "20261118_0123_資格取得届".into(),
        rows: (0..persons)
            .map(|index| Row {
                member_number: format!("{:08}", 12_345_678 + index),
                name: names[index % names.len()].into(),
                born_on: (index % 7 != 3).then_some(date!(1988 - 04 - 05)),
                event: events[index % events.len()],
                event_on: date!(2026 - 11 - 01),
                salary_yen: (index % 4 != 1).then_some(320_000 + index as u64 * 1_000),
            })
            .collect(),
        remarks: Some(
            "基準給与は、令和8年11月分の掛金から適用します。\n内容に誤りがある場合は、この通知を受け取った日から30日以内に訂正届をご提出ください。"
                .into(),
        ),
        contact: vec![
            "全国電子情報技術産業企業年金基金　業務課".into(),
            "電話　03-1234-5678（平日9:00〜17:00）".into(),
        ],
        made_at: datetime!(2026-11-20 03:00 UTC),
    }
}

fn write(folder: &Path, notice: &Determination) -> std::path::PathBuf {
    let path = folder.join("notice.pdf");
    std::fs::write(&path, to_pdf(notice).unwrap()).unwrap();
    path
}

fn text(path: &Path) -> String {
    let output = Command::new("pdftotext")
        .args(["-enc", "UTF-8"])
        .arg(path)
        .arg("-")
        .output()
        .expect("poppler-utils is installed");
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn names_come_out_of_the_letter_exactly_as_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &notice(5));
    let text = text(&path);
    for part in [
        "決定通知書",
        "髙橋 一郎",
        "山﨑 花子",
        "佐藤 ㈱①太郎左衛門尉",
        "渡邉 二郎",
        "令和8年11月20日（2026年）",
        "株式会社みなと精機製作所",
        "御中",
        "20261118_0123_資格取得届",
        "320,000",
        "昭和63.4.5",
        "1 / 1",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_long_list_takes_several_pages_and_repeats_the_head_of_its_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &notice(120));
    let text = text(&path);
    let pages: Vec<&str> = text
        .split('\x0C')
        .filter(|page| !page.trim().is_empty())
        .collect();
    assert!(pages.len() >= 3, "{}", pages.len());
    for (index, page) in pages.iter().enumerate() {
        assert!(page.contains(&format!("{} / {}", index + 1, pages.len())));
        assert!(
            page.contains("加入者番号") || !page.contains("資格取得 "),
            "{page}"
        );
    }
    for member in 12_345_678..12_345_678 + 120 {
        assert_eq!(text.matches(&format!("{member}")).count(), 1, "{member}");
    }
}

#[test]
fn the_file_is_sound_and_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &notice(3));
    let info = Command::new("pdfinfo")
        .arg(&path)
        .output()
        .expect("poppler-utils is installed");
    let info = String::from_utf8(info.stdout).unwrap();
    assert!(info.contains("Tagged:") && info.contains("yes"), "{info}");
    let file = std::fs::read(&path).unwrap();
    crate::testing::archive::assert_archivable(&file);
    assert!(
        crate::filings::pdf::check(&file).is_ok(),
        "our own check takes it"
    );
}

#[test]
fn a_character_that_cannot_be_drawn_is_named() {
    let mut notice = notice(1);
    notice.rows[0].name = "山田 \u{20BB7}野".into();
    let error = to_pdf(&notice).unwrap_err();
    if let DocumentError::MissingGlyph { character } = error {
        assert!(error.page_text().contains(character));
    }
    notice.rows[0].name = "\u{1F600}".into();
    assert_eq!(
        to_pdf(&notice),
        Err(DocumentError::MissingGlyph {
            character: '\u{1F600}'
        })
    );
}

#[test]
fn an_empty_and_an_overlong_notice_are_still_letters() {
    let mut empty = notice(0);
    empty.remarks = None;
    empty.contact.clear();
    assert!(to_pdf(&empty).is_ok());
    let mut long = notice(1);
    long.establishment_name = "長い名前の".repeat(60);
    long.rows[0].name = "寿限無".repeat(80);
    long.remarks = Some("備考です。".repeat(1_000));
    assert!(to_pdf(&long).is_ok());
    let many = Determination {
        rows: vec![long.rows[0].clone(); ROW_LIMIT + 1],
        ..long
    };
    assert_eq!(to_pdf(&many), Err(DocumentError::TooLong(ROW_LIMIT)));
}

#[test]
fn yen_are_written_in_groups_of_three() {
    assert_eq!(
        [0, 999, 1_000, 1_234_567].map(grouped),
        ["0", "999", "1,000", "1,234,567"]
    );
}

/// `RENKEI_PICTURES=folder cargo test -p portal pictures_for_the_eye -- --ignored`
#[test]
#[ignore = "writes files for a person to look at"]
fn pictures_for_the_eye() {
    let folder = std::env::var("RENKEI_PICTURES").expect("RENKEI_PICTURES names a folder");
    for persons in [3, 60] {
        let path = Path::new(&folder).join(format!("determination-{persons}.pdf"));
        std::fs::write(path, to_pdf(&notice(persons)).unwrap()).unwrap();
    }
}
