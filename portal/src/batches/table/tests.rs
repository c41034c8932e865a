//! The CSV of contributions: every way to write it, and every slip.

use time::macros::date;

use super::*;

const TODAY: Date = date!(2026 - 11 - 12);

fn lines(text: &str) -> Vec<Line> {
    let (lines, problems) = read(text.as_bytes(), TODAY);
    assert_eq!(problems, []);
    lines
}

fn sentences(text: &str) -> Vec<(u64, String)> {
    let (_, problems) = read(text.as_bytes(), TODAY);
    problems.into_iter().map(|p| (p.line, p.sentence)).collect()
}

fn one(text: &str, line: u64, word: &str) {
    let told = sentences(text);
    assert!(
        told.len() == 1 && told[0].0 == line && told[0].1.contains(word),
        "{told:?} has no {word}"
    );
}

#[test]
fn the_template_is_a_file_that_is_taken() {
    let lines = lines(&template());
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert_eq!((line.line, line.number.as_u16()), (2, 123));
    assert_eq!(line.contribution.total_yen, 53_700);
    assert_eq!(line.contribution.movements[0].1.adjusted_yen, -2_400);
    assert_eq!(line.contribution.movements.len(), 3);
}

#[test]
fn every_way_in_which_excel_saves_is_read_alike() {
    let plain = template().trim_start_matches('\u{FEFF}').to_owned();
    let expected = lines(&plain);
    let (sjis, _, bad) = SHIFT_JIS.encode(&plain);
    assert!(!bad);
    for bytes in [
        template().into_bytes(),
        sjis.into_owned(),
        plain.replace("\r\n", "\n").into_bytes(),
        plain.replace("\r\n", "\r").into_bytes(),
        format!("{plain}\r\n,,,,\r\n").into_bytes(),
        plain.replace("53700", "\"53,700\"").into_bytes(),
        plain.replace("53700", "５３７００円").into_bytes(),
        plain.replace("-2400", "△2400").into_bytes(),
        plain.replace("2099-11-30", "R81.11.30").into_bytes(),
        plain.replace("2099-11-30", "2099年11月30日").into_bytes(),
        plain.replace("0123,", "000123,").into_bytes(),
    ] {
        let (lines, problems) = read(&bytes, TODAY);
        assert_eq!((lines, problems), (expected.clone(), vec![]));
    }
    let utf16: Vec<u8> = plain.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (lines, problems) = read(&utf16, TODAY);
    assert!(lines.is_empty() && problems[0].sentence.contains("文字コード"));
}

#[test]
fn a_line_that_does_not_add_up_is_refused_with_its_number_and_the_others_are_read() {
    let good = template();
    let example = good.lines().nth(1).unwrap();
    let bad = example.replace("0123,", "0124,").replace("53700", "53701");
    let text = format!("{good}{bad}\r\n{}\r\n", example.replace("0123,", "0125,"));
    one(
        &text,
        3,
        "合計額が合いません（各掛金の当月額の合計＝53,700円、合計額＝53,701円）",
    );
    assert_eq!(read(text.as_bytes(), TODAY).0.len(), 2);
}

#[test]
fn amounts_are_whole_and_never_guessed() {
    for bad in [
        "53700.0",
        "5万",
        "",
        "53,70",
        "5,3700",
        "1e5",
        "0x10",
        "99999999999999999999",
        "2000000000000",
    ] {
        let cell = if bad.contains(',') {
            format!("\"{bad}\"")
        } else {
            bad.to_owned()
        };
        one(&template().replace("53700", &cell), 2, "整数ではありません");
    }
    one(
        &template().replace(",11,24000,", ",-11,24000,"),
        2,
        "0人未満",
    );
}

#[test]
fn a_column_that_is_missing_unknown_or_double_is_named() {
    let told = sentences(&template().replace(",合計額", ",合計"));
    let told: Vec<&str> = told.iter().map(|(_, sentence)| sentence.as_str()).collect();
    assert_eq!(
        told,
        [
            "見出し「合計額」がありません。",
            "見出し「合計」は使えません。ひな形の見出しをお使いください。"
        ]
    );
    one(
        &template().replace("事業所名", "事業所番号"),
        1,
        "2回あります",
    );
    let told = sentences(&template().replace("特別調整額", "特別調整"));
    assert!(
        told[0].1.contains("見出し「特別調整額」がありません"),
        "{told:?}"
    );
}

#[test]
fn what_cannot_be_is_refused_in_its_line() {
    one(
        &template().replace("0123,", "12345,"),
        2,
        "事業所番号「12345」",
    );
    one(
        &template().replace("2099-11-30", "2026-11-11"),
        2,
        "過ぎた日付",
    );
    one(
        &template().replace("2099-11-30", "2099-02-30"),
        2,
        "納期限「2099-02-30」",
    );
    one(
        &template().replace(",見本銀行 本店 普通 0000000", ","),
        2,
        "納付場所が空",
    );
    one(&template().replace(",53700", ",53700,1"), 2, "列の数");
    let twice = template() + template().lines().nth(1).unwrap();
    one(&twice, 3, "2行目にもあります");
    one("", 0, "何も書かれていません");
    one(
        template().lines().next().unwrap(),
        0,
        "事業所の行がありません",
    );
}
