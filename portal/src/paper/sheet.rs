//! 送付状, and the record of what came on paper: one page each, with the code to find it by.

use std::num::NonZeroU16;

use qrcodegen::{QrCode, QrCodeEcc};
use time::{Date, OffsetDateTime};

use super::Code;
use crate::documents::{
    Align, Cell, DocumentError, Role, RowPlace, Sheet, Style, date_text, drawable,
};

const TEXT: Style = Style::new(11.0);
const LABEL_WIDTH: f32 = 130.0;
/// How large the QR code is printed, in points: 42 mm, which every scanner reads.
const CODE_SIZE: f32 = 120.0;

/// What stands on the page.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The fund's name.
    pub fund: &'a str,
    /// Whom to ask.
    pub contact: &'a str,
    /// The establishment's number and name.
    pub establishment: &'a str,
    /// The kind of the filing.
    pub kind: &'a str,
    /// The date of the filing.
    pub filed_on: Date,
    /// How many sheets it has.
    pub sheets: u16,
    /// What it is found by.
    pub code: &'a Code,
    /// When the page is made.
    pub now: OffsetDateTime,
}

/// Which page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The establishment lays it on the filing.
    Cover,
    /// The office keeps it: what came, and on which day.
    Record {
        /// The day.
        arrived: Date,
    },
}

/// Makes the page.
///
/// # Errors
/// [`DocumentError`], if a text is longer than a page.
pub fn to_pdf(facts: &Facts<'_>, page: Page) -> Result<Vec<u8>, DocumentError> {
    let title = match page {
        Page::Cover => "届書送付状",
        Page::Record { .. } => "紙の届書の記録",
    };
    let fund = drawable(facts.fund);
    let mut sheet = Sheet::new(title, &fund, facts.now);
    let centre = Style::new(18.0).align(Align::Centre);
    sheet.paragraph(Role::Heading(NonZeroU16::MIN), title, centre);
    sheet.skip(12.0);
    let addressee = match page {
        Page::Cover => format!("{fund}　御中"),
        Page::Record { .. } => fund.clone(),
    };
    sheet.paragraph(Role::Paragraph, &addressee, TEXT);
    sheet.skip(8.0);
    let text = match page {
        Page::Cover => {
            "　次の届書を送付します。この用紙を届書のいちばん上に重ねて、郵送してください。"
        }
        Page::Record { .. } => {
            "　次の届書を紙で受け付けました。届書の原本は、基金事務局で保管しています。"
        }
    };
    sheet.paragraph(Role::Paragraph, text, TEXT);
    sheet.skip(16.0);
    let code = facts.code.to_string();
    qr(&mut sheet, facts.code)?;
    sheet.skip(6.0);
    let letters = Style::new(16.0).align(Align::Centre);
    sheet.paragraph(Role::Paragraph, &format!("照会コード　{code}"), letters);
    sheet.skip(16.0);
    let filed_on = date_text(facts.filed_on);
    let sheets = format!("{}枚（送付状を除く）", facts.sheets);
    let establishment = drawable(facts.establishment);
    let kind = drawable(facts.kind);
    let mut rows = vec![
        ("事業所", establishment.as_str()),
        ("届書名称", kind.as_str()),
        ("届出年月日", filed_on.as_str()),
        ("届書の枚数", sheets.as_str()),
    ];
    let arrived = match page {
        Page::Cover => None,
        Page::Record { arrived } => Some(date_text(arrived)),
    };
    if let Some(arrived) = &arrived {
        rows.push(("届いた日", arrived));
    }
    table(&mut sheet, &rows);
    sheet.skip(16.0);
    let contact = format!("お問い合わせ：{}", drawable(facts.contact));
    sheet.paragraph(Role::Paragraph, &contact, TEXT);
    sheet.finish()
}

/// Draws the code; its letters stand below it as text.
fn qr(sheet: &mut Sheet, code: &Code) -> Result<(), DocumentError> {
    let made = QrCode::encode_text(code.plain(), QrCodeEcc::High)
        .map_err(|error| DocumentError::Invalid(error.to_string()))?;
    let modules = usize::try_from(made.size()).unwrap_or(0);
    sheet.squares_in_middle(modules, CODE_SIZE, |x, y| {
        made.get_module(x as i32, y as i32)
    });
    Ok(())
}

fn table(sheet: &mut Sheet, facts: &[(&str, &str)]) {
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
        if sheet.row(Some(body), &widths, &cells, TEXT) == RowPlace::NoRoom {
            sheet.need(f32::INFINITY);
            sheet.row(Some(body), &widths, &cells, TEXT);
        }
    }
}
