//! The real forms in `tests/corpus/registration`, and what else may come by mail.

use std::fs;
use std::path::PathBuf;

use super::*;

fn corpus(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/registration");
    fs::read(folder.join(name)).unwrap()
}

const GOOD: &str = "電子連携管理者登録届(000123).xlsx";

/// The good form with other texts in its sheet.
fn changed(change: impl Fn(String) -> String) -> Vec<u8> {
    let bytes = corpus(&format!("good/{GOOD}"));
    let mut form = ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut changed = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..form.len() {
        let mut part = form.by_index(index).unwrap();
        let mut text = String::new();
        part.read_to_string(&mut text).unwrap();
        let is_sheet = part.name().unwrap() == "xl/worksheets/sheet1.xml";
        let text = if is_sheet { change(text) } else { text };
        let options = SimpleFileOptions::default();
        let name = part.name().unwrap().into_owned();
        changed.start_file(name, options).unwrap();
        changed.write_all(text.as_bytes()).unwrap();
    }
    changed.finish().unwrap().into_inner()
}

/// Puts a text in place of what a cell holds.
fn with_cell(sheet: &str, cell: &str, text: &str) -> String {
    let (before, rest) = sheet.split_once(&format!("<c r=\"{cell}\"")).unwrap();
    let (_, after) = rest.split_once("</c>").unwrap();
    format!("{before}<c r=\"{cell}\" t=\"inlineStr\"><is><t>{text}</t></is></c>{after}")
}

fn read_with(cell: &str, text: &str) -> Result<Registration, Vec<FormError>> {
    read(GOOD, &changed(|sheet| with_cell(&sheet, cell, text)))
}

fn wrong(error: &FormError) -> Option<Column> {
    match error {
        FormError::Wrong { column, .. } => Some(*column),
        _ => None,
    }
}

#[test]
fn row_two_is_read_and_the_example_below_it_is_not() {
    let form = read(GOOD, &corpus(&format!("good/{GOOD}"))).unwrap();
    assert_eq!(form.number.as_u16(), 123);
    assert_eq!(form.admin.as_str(), "髙﨑 美咲");
    assert_eq!(form.email.as_str(), "misaki@example.co.jp");
    assert_eq!(form.login.as_str(), "takasaki01");
    assert_eq!(form.establishment.as_str(), "株式会社サンプル電子");
    assert_eq!(form.devices.as_u16(), 3);
}

#[test]
fn every_bad_form_of_the_corpus_is_refused_for_its_own_reason() {
    let reason = |prefix: &str| {
        let name = format!("{prefix}_{GOOD}");
        read(&name, &corpus(&format!("bad/{name}"))).unwrap_err()
    };
    assert_eq!(reason("no_mail"), [FormError::Missing(Column::Email)]);
    assert_eq!(
        reason("formula"),
        [FormError::Formula(Column::Establishment)]
    );
    assert_eq!(
        reason("number_differs"),
        [FormError::NumberDiffers {
            in_name: "123".parse().unwrap(),
            in_form: "124".parse().unwrap(),
        }]
    );
    for (prefix, column) in [
        ("bad_mail", Column::Email),
        ("kana", Column::Kana),
        ("devices", Column::Devices),
    ] {
        let errors = reason(prefix);
        let columns: Vec<_> = errors.iter().map(wrong).collect();
        assert_eq!(columns, [Some(column)], "{prefix}");
        assert!(errors[0].page_text().starts_with(&format!("「{column}」")));
    }
}

#[test]
fn what_a_japanese_keyboard_makes_is_understood() {
    assert_eq!(
        read_with("B2", "０００１２３").unwrap().number.as_u16(),
        123
    );
    assert_eq!(read_with("H2", "２").unwrap().devices.as_u16(), 2);
    assert_eq!(
        read_with("F2", "ｔａｋａｓａｋｉ").unwrap().login.as_str(),
        "takasaki"
    );
    assert!(read_with("D2", "ﾀｶｻｷ ﾐｻｷ").is_ok());
    let name = "電子連携管理者登録届（０００１２３）.xlsx";
    assert!(read(name, &corpus(&format!("good/{GOOD}"))).is_ok());
}

#[test]
fn every_fault_of_a_row_is_named_at_once() {
    let form = changed(|sheet| {
        let sheet = with_cell(&sheet, "B2", "百二十三");
        with_cell(&with_cell(&sheet, "F2", "高崎"), "H2", "0")
    });
    let columns: Vec<_> = read(GOOD, &form).unwrap_err().iter().map(wrong).collect();
    let wanted = [Column::Number, Column::Login, Column::Devices];
    assert_eq!(columns, wanted.map(Some));
}

#[test]
fn a_form_whose_row_two_is_empty_has_no_data_whatever_the_example_says() {
    let form = changed(|sheet| {
        let (before, rest) = sheet.split_once("<row r=\"2\">").unwrap();
        let (_, after) = rest.split_once("</row>").unwrap();
        format!("{before}{after}")
    });
    assert_eq!(read(GOOD, &form).unwrap_err(), [FormError::Empty]);
}

#[test]
fn another_workbook_is_not_taken_for_the_form() {
    let form = changed(|sheet| with_cell(&sheet, "F1", "電話番号"));
    let errors = read(GOOD, &form).unwrap_err();
    assert_eq!(errors, [FormError::NotTheForm(Column::Login)]);
}

#[test]
fn what_is_no_workbook_is_said_to_be_none() {
    let good = corpus(&format!("good/{GOOD}"));
    let cut = &good[..good.len() / 2];
    for bytes in [b"".as_slice(), b"a,b\n1,2\n", b"PK\x03\x04", cut] {
        assert_eq!(read(GOOD, bytes).unwrap_err(), [FormError::NotAWorkbook]);
    }
    let large = vec![0; FORM_LIMIT_BYTES + 1];
    assert_eq!(read(GOOD, &large).unwrap_err(), [FormError::TooLarge]);
}

#[test]
fn a_workbook_that_unpacks_to_more_than_any_form_is_not_unpacked() {
    let bomb = changed(|sheet| sheet + &" ".repeat(16 * 1024 * 1024));
    assert!(bomb.len() < FORM_LIMIT_BYTES);
    assert_eq!(read(GOOD, &bomb).unwrap_err(), [FormError::TooLarge]);
}
