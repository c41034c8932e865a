//! The receipt (受付票) as a document: what was received, when, from whom, with fingerprints.
//!
//! It repeats what the store has written down and decides nothing. Whoever holds it can show
//! which file was handed in: the fingerprint (SHA-256) of another file is another.

use std::fmt::Write;
use std::num::NonZeroU16;

use protocol::EstablishmentNumber;
use time::{OffsetDateTime, UtcOffset};

use qrcodegen::{QrCode, QrCodeEcc};

use crate::receipts::month::Month;
use crate::receipts::seal;
use crate::web::dates;

use crate::documents::{
    Align, Cell, DocumentError, Ink, Role, RowPlace, Sheet, Style, date_text, drawable,
};

/// A receipt to be drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The fund's name.
    pub fund: String,
    /// The receipt's number (受付番号).
    pub number: String,
    /// When the filing was received.
    pub received_at: OffsetDateTime,
    /// The establishment's number.
    pub establishment: EstablishmentNumber,
    /// The establishment's name.
    pub establishment_name: String,
    /// Who handed it in.
    pub filed_by: String,
    /// The name of the PC that it came from.
    pub device: String,
    /// What was handed in.
    pub files: Vec<ReceivedFile>,
    /// In which month's contributions it counts.
    pub counts_month: Month,
    /// The same in words.
    pub counts: String,
    /// The code that stands for the signature.
    pub code: String,
    /// The fund's public key, in base64.
    pub public_key: String,
    /// Whom to ask; a line each.
    pub contact: Vec<String>,
}

/// One file on a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedFile {
    /// The name by the rule.
    pub name: String,
    /// The name at the sender's.
    pub original_name: String,
    /// How large it is.
    pub size_bytes: u64,
    /// How many pages it has.
    pub pages: usize,
    /// Its fingerprint.
    pub sha256: [u8; 32],
}

const TITLE: &str = "受付票";
const HEADING: Style = Style::new(10.5);
const TEXT: Style = Style::new(9.5);
const SMALL: Style = Style::new(8.5);
const LABEL_WIDTH: f32 = 92.0;
/// How wide the QR code is, in points.
const QR_SIDE: f32 = 72.0;
const JAPAN: UtcOffset = time::macros::offset!(+9);

/// Makes the receipt. Nobody goes without one because of an odd character in a file's name:
/// what cannot be drawn is shown as 〓; the fingerprint is what counts.
///
/// # Errors
/// [`DocumentError`], if the receipt is longer than any can be.
pub fn to_pdf(receipt: &Receipt) -> Result<Vec<u8>, DocumentError> {
    let receipt = &shown(receipt);
    let title = format!("{TITLE} {}", receipt.number);
    let footer = format!("{}　{TITLE}　{}", receipt.fund, receipt.number);
    let mut sheet = Sheet::new(&title, &footer, receipt.received_at);
    sheet.set_keywords(seal::keywords(&seal::Facts {
        number: receipt.number.clone(),
        establishment: receipt.establishment.to_string(),
        received: dates::machine(receipt.received_at),
        counts: receipt.counts_month.to_string(),
        code: receipt.code.clone(),
    }));
    let centre = Style::new(18.0).align(Align::Centre);
    sheet.paragraph(Role::Heading(NonZeroU16::MIN), TITLE, centre);
    sheet.skip(6.0);
    let sender = Style::new(10.5).align(Align::Right);
    sheet.paragraph(Role::Paragraph, &receipt.fund, sender);
    sheet.skip(10.0);
    let text = "　次の届書を受け付けました。この受付票は、届書を受け付けたことをお知らせするもので、内容の決定ではありません。";
    sheet.paragraph(Role::Paragraph, text, Style::new(10.5));
    sheet.skip(10.0);

    let received = received_text(receipt.received_at);
    let establishment = format!("{}　{}", receipt.establishment, receipt.establishment_name);
    let count = format!("{}件", receipt.files.len());
    let facts = [
        ("受付番号", receipt.number.as_str()),
        ("受付日時", &received),
        ("反映予定月", &receipt.counts),
        ("事業所", &establishment),
        ("届出をした方", &receipt.filed_by),
        ("使用したパソコン", &receipt.device),
        ("届書の数", &count),
        ("確認コード", &receipt.code),
    ];
    table(&mut sheet, &facts, TEXT);
    sheet.skip(12.0);
    proof(&mut sheet, receipt);
    sheet.skip(18.0);

    let heading = Role::Heading(NonZeroU16::MIN.saturating_add(1));
    for (index, file) in receipt.files.iter().enumerate() {
        sheet.need(120.0);
        let number = format!("{}　{}", index + 1, file.name);
        sheet.paragraph(heading, &number, HEADING);
        sheet.skip(3.0);
        let size = format!("{}バイト　{}ページ", file.size_bytes, file.pages);
        let sha256 = fingerprint(&file.sha256);
        let facts = [
            ("もとの名前", file.original_name.as_str()),
            ("大きさ", &size),
            ("SHA-256", &sha256),
        ];
        table(&mut sheet, &facts, SMALL);
        sheet.skip(14.0);
    }
    if !receipt.contact.is_empty() {
        sheet.need(30.0 + 16.0 * receipt.contact.len() as f32);
        sheet.paragraph(heading, "お問い合わせ先", HEADING);
        for line in &receipt.contact {
            sheet.paragraph(Role::Paragraph, line, TEXT.ink(Ink::Text));
        }
    }
    sheet.finish()
}

/// How to check the receipt, beside a QR code with number and code.
fn proof(sheet: &mut Sheet, receipt: &Receipt) {
    sheet.need(QR_SIDE + 8.0);
    let top = sheet.y();
    let text = format!("RENKEI:{}:{}", receipt.number, receipt.code);
    if let Ok(code) = QrCode::encode_text(&text, QrCodeEcc::Medium) {
        let at = |place: usize| i32::try_from(place).unwrap_or(i32::MAX);
        let modules = usize::try_from(code.size()).unwrap_or(0);
        sheet.squares_at_margin(modules, QR_SIDE, |x, y| code.get_module(at(x), at(y)));
    }
    let width = sheet.width() - QR_SIDE - 16.0;
    for line in [
        "この受付票のPDFには、基金の電子署名が付いています。内容を変更すると、電子署名と合わなくなります。"
            .to_owned(),
        "正しいものかどうかは、「受付票の確認」の画面で、PDFを選ぶか、受付番号と確認コードを入力すると確認できます。"
            .to_owned(),
        format!("基金の公開鍵（Ed25519）　{}", receipt.public_key),
    ] {
        sheet.block(Role::Paragraph, 0.0, width, &line, SMALL);
    }
    let bottom = sheet.y().max(top + QR_SIDE);
    sheet.set_y(bottom);
}

fn shown(receipt: &Receipt) -> Receipt {
    Receipt {
        fund: drawable(&receipt.fund),
        number: drawable(&receipt.number),
        counts: drawable(&receipt.counts),
        code: drawable(&receipt.code),
        public_key: drawable(&receipt.public_key),
        establishment_name: drawable(&receipt.establishment_name),
        filed_by: drawable(&receipt.filed_by),
        device: drawable(&receipt.device),
        files: receipt
            .files
            .iter()
            .map(|file| ReceivedFile {
                name: drawable(&file.name),
                original_name: drawable(&file.original_name),
                ..*file
            })
            .collect(),
        contact: receipt.contact.iter().map(|line| drawable(line)).collect(),
        ..*receipt
    }
}

fn table(sheet: &mut Sheet, facts: &[(&str, &str)], style: Style) {
    let widths = [LABEL_WIDTH, sheet.width() - LABEL_WIDTH];
    let table = sheet.open(None, Role::Table);
    let body = sheet.open(Some(table), Role::TableBody);
    sheet.rule();
    for (label, text) in facts {
        let cell = |text, role| Cell {
            text,
            align: Align::Left,
            role,
        };
        let cells = [cell(label, Role::RowHeader), cell(text, Role::Data)];
        if sheet.row(Some(body), &widths, &cells, style) == RowPlace::NoRoom {
            sheet.need(f32::INFINITY);
            sheet.row(Some(body), &widths, &cells, style);
        }
    }
}

fn received_text(at: OffsetDateTime) -> String {
    let at = at.to_offset(JAPAN);
    let (hour, minute, second) = at.to_hms();
    format!(
        "{}　{hour}時{minute:02}分{second:02}秒",
        date_text(at.date())
    )
}

/// In groups of eight, to be compared by eye.
fn fingerprint(sha256: &[u8; 32]) -> String {
    let mut text = String::with_capacity(72);
    for (index, byte) in sha256.iter().enumerate() {
        if index > 0 && index.is_multiple_of(4) {
            text.push(' ');
        }
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use time::macros::datetime;

    fn receipt(files: usize) -> Receipt {
        Receipt {
            fund: "全国電子情報技術産業企業年金基金".into(),
            number: "20261118-0123-0007".into(),
            received_at: datetime!(2026-11-17 23:05:09 UTC),
            establishment: "0123".parse().unwrap(),
            establishment_name: "株式会社みなと精機製作所".into(),
            filed_by: "髙橋 花子（管理者）".into(),
            device: "総務部ノートPC-1".into(),
            files: (0..files)
                .map(|index| ReceivedFile {
                    name: format!("202611{:02}_0123_資格取得届", index % 28 + 1),
                    original_name: "スキャン 0001.pdf".into(),
                    size_bytes: 20_522,
                    pages: 2,
                    sha256: [index as u8; 32],
                })
                .collect(),
            counts_month: "2026-10".parse().unwrap(),
            counts: "2026年10月分の掛金".into(),
            code: "ABCD-EFGH-JKLM".into(),
            public_key: "AAAA".into(),
            contact: vec!["業務課　電話 03-1234-5678".into()],
        }
    }

    fn text(pdf: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipt.pdf");
        std::fs::write(&path, pdf).unwrap();
        let output = Command::new("pdftotext")
            .args(["-enc", "UTF-8"])
            .arg(&path)
            .arg("-")
            .output()
            .expect("poppler-utils is installed");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_receipt_names_the_time_in_japan_and_every_fingerprint() {
        let text = text(&to_pdf(&receipt(12)).unwrap());
        for part in [
            "20261118-0123-0007",
            "令和8年11月18日（2026年）",
            "8時05分09秒",
            "髙橋 花子",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        for byte in 0..12_u8 {
            let group = format!("{byte:02x}").repeat(4);
            assert!(text.matches(&group).count() >= 8, "{group}");
        }
    }

    #[test]
    fn a_receipt_can_be_kept_for_years() {
        for files in [1, 40] {
            crate::testing::archive::assert_archivable(&to_pdf(&receipt(files)).unwrap());
        }
    }

    #[test]
    fn an_odd_character_in_a_files_name_keeps_nobody_from_a_receipt() {
        let mut receipt = receipt(1);
        receipt.files[0].original_name = "届\u{1F600}\u{7}書.pdf".into();
        assert!(text(&to_pdf(&receipt).unwrap()).contains("届〓〓書.pdf"));
    }

    /// `RENKEI_PICTURES=folder cargo test -p portal pictures_for_the_eye -- --ignored`
    #[test]
    #[ignore = "writes files for a person to look at"]
    fn pictures_for_the_eye() {
        let folder = std::env::var("RENKEI_PICTURES").expect("RENKEI_PICTURES names a folder");
        let path = std::path::Path::new(&folder).join("receipt.pdf");
        std::fs::write(path, to_pdf(&receipt(7)).unwrap()).unwrap();
    }
}
