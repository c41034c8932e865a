//! The determination notice (決定通知書): what the fund decided on a filing, as a letter.
//!
//! It says only what it is given: whoever issues it has decided before. Names are drawn as
//! they are, without normalisation (`﨑` is not `崎`), or not at all.

use protocol::EstablishmentNumber;
use time::{Date, OffsetDateTime};

use crate::documents::{
    Align, Cell, DocumentError, Ink, Role, RowPlace, Sheet, Style, date_text, short_date_text,
};

/// How many persons one notice may list.
pub const ROW_LIMIT: usize = 5_000;

/// A decision on a filing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Determination {
    /// The fund's name.
    pub fund: String,
    /// The notice's number (文書番号).
    pub number: String,
    /// The day of the decision.
    pub decided_on: Date,
    /// The establishment's number.
    pub establishment: EstablishmentNumber,
    /// The establishment's name.
    pub establishment_name: String,
    /// Whom the letter addresses, with the honorific (事業主 様); none: 御中 after the name.
    pub addressee: Option<String>,
    /// The number of the receipt for the filing.
    pub receipt_number: String,
    /// The filing's name.
    pub filing_name: String,
    /// The persons, in the order of the filing.
    pub rows: Vec<Row>,
    /// What else there is to say.
    pub remarks: Option<String>,
    /// Whom to ask: department, telephone, hours; a line each.
    pub contact: Vec<String>,
    /// When the letter is made; kept inside the file.
    pub made_at: OffsetDateTime,
}

/// What was decided about one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The member's number (加入者番号).
    pub member_number: String,
    /// The member's name, as it is to be written.
    pub name: String,
    /// The date of birth, if the notice shows it.
    pub born_on: Option<Date>,
    /// What happened.
    pub event: Event,
    /// When.
    pub event_on: Date,
    /// The decided standard salary (基準給与) in yen, where one was decided.
    pub salary_yen: Option<u64>,
}

/// What a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// 資格取得
    Acquisition,
    /// 資格喪失
    Loss,
    /// 変更
    Change,
    /// 訂正
    Correction,
}

impl Event {
    /// How the letter calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acquisition => "資格取得",
            Self::Loss => "資格喪失",
            Self::Change => "変更",
            Self::Correction => "訂正",
        }
    }
}

const TITLE: &str = "決定通知書";
const BODY: Style = Style::new(10.5);
const TABLE: Style = Style::new(9.0);
/// No., member number, name, date of birth, event, event date, salary: 471 points together.
const COLUMNS: [f32; 7] = [30.0, 58.0, 134.0, 62.0, 50.0, 62.0, 75.0];
const HEADS: [&str; 7] = [
    "番号",
    "加入者番号",
    "氏名",
    "生年月日",
    "決定事項",
    "該当年月日",
    "基準給与（円）",
];

const ALIGNS: [Align; 7] = [
    Align::Right,
    Align::Left,
    Align::Left,
    Align::Left,
    Align::Left,
    Align::Left,
    Align::Right,
];

/// Makes the letter.
///
/// # Errors
/// [`DocumentError::MissingGlyph`] if a name has a character that cannot be drawn;
/// [`DocumentError::TooLong`].
pub fn to_pdf(notice: &Determination) -> Result<Vec<u8>, DocumentError> {
    if notice.rows.len() > ROW_LIMIT {
        return Err(DocumentError::TooLong(ROW_LIMIT));
    }
    let title = format!("{TITLE} {} {}", notice.number, notice.establishment_name);
    let footer = format!("{}　{TITLE}　{}", notice.fund, notice.number);
    let mut sheet = Sheet::new(&title, &footer, notice.made_at);
    head(&mut sheet, notice);
    facts(&mut sheet, notice);
    persons(&mut sheet, notice);
    end(&mut sheet, notice);
    sheet.finish()
}

fn head(sheet: &mut Sheet, notice: &Determination) {
    let width = sheet.width();
    let right = BODY.align(Align::Right);
    sheet.paragraph(Role::Paragraph, &notice.number, right);
    sheet.paragraph(Role::Paragraph, &date_text(notice.decided_on), right);
    sheet.skip(14.0);

    let name = match &notice.addressee {
        Some(_) => notice.establishment_name.clone(),
        None => format!("{}　御中", notice.establishment_name),
    };
    let number = format!("事業所番号　{}", notice.establishment);
    let left = width * 0.62;
    sheet.block(
        Role::Paragraph,
        0.0,
        left,
        &number,
        Style::new(9.5).ink(Ink::Quiet),
    );
    sheet.block(Role::Paragraph, 0.0, left, &name, Style::new(12.5));
    if let Some(addressee) = &notice.addressee {
        sheet.block(Role::Paragraph, 0.0, left, addressee, Style::new(12.5));
    }
    sheet.skip(10.0);
    let sender = Style::new(11.5).align(Align::Right);
    sheet.block(
        Role::Paragraph,
        width * 0.4,
        width * 0.6,
        &notice.fund,
        sender,
    );
    sheet.skip(26.0);

    let heading = Style::new(18.0).align(Align::Centre);
    sheet.paragraph(Role::Heading(std::num::NonZeroU16::MIN), TITLE, heading);
    sheet.skip(14.0);
    let text =
        "　貴事業所から届出のありました下記の届書について、次のとおり決定しましたので通知します。";
    sheet.paragraph(Role::Paragraph, text, BODY);
    sheet.skip(10.0);
}

fn facts(sheet: &mut Sheet, notice: &Determination) {
    sheet.need(120.0);
    let count = format!("{}名", notice.rows.len());
    let decided = date_text(notice.decided_on);
    let widths = [92.0, sheet.width() - 92.0];
    let table = sheet.open(None, Role::Table);
    let body = sheet.open(Some(table), Role::TableBody);
    sheet.rule();
    for (head, text) in [
        ("届書", notice.filing_name.as_str()),
        ("受付番号", &notice.receipt_number),
        ("決定年月日", &decided),
        ("対象者数", &count),
    ] {
        let cell = |text, role| Cell {
            text,
            align: Align::Left,
            role,
        };
        let cells = [cell(head, Role::RowHeader), cell(text, Role::Data)];
        sheet.row(Some(body), &widths, &cells, Style::new(9.5));
    }
    sheet.skip(20.0);
}

fn persons(sheet: &mut Sheet, notice: &Determination) {
    let table = sheet.open(None, Role::Table);
    let head = sheet.open(Some(table), Role::TableHead);
    let body = sheet.open(Some(table), Role::TableBody);
    let head_cells: Vec<Cell<'_>> = HEADS
        .into_iter()
        .zip(ALIGNS)
        .map(|(text, align)| Cell {
            text,
            align,
            role: Role::ColumnHeader,
        })
        .collect();
    sheet.need(80.0);
    sheet.row(Some(head), &COLUMNS, &head_cells, TABLE);
    for (index, row) in notice.rows.iter().enumerate() {
        let texts = [
            (index + 1).to_string(),
            row.member_number.clone(),
            row.name.clone(),
            row.born_on.map(short_date_text).unwrap_or_default(),
            row.event.name().to_owned(),
            short_date_text(row.event_on),
            row.salary_yen.map(grouped).unwrap_or_default(),
        ];
        let cells: Vec<Cell<'_>> = texts
            .iter()
            .zip(ALIGNS)
            .map(|(text, align)| Cell {
                text: if text.is_empty() { "－" } else { text },
                align,
                role: Role::Data,
            })
            .collect();
        if sheet.row(Some(body), &COLUMNS, &cells, TABLE) == RowPlace::NoRoom {
            sheet.need(f32::INFINITY);
            // Seen again on each page, heard only once.
            sheet.row(None, &COLUMNS, &head_cells, TABLE);
            sheet.row(Some(body), &COLUMNS, &cells, TABLE);
        }
    }
    sheet.skip(18.0);
}

fn end(sheet: &mut Sheet, notice: &Determination) {
    let heading = Role::Heading(std::num::NonZeroU16::MIN.saturating_add(1));
    if let Some(remarks) = notice
        .remarks
        .as_deref()
        .filter(|text| !text.trim().is_empty())
    {
        sheet.need(50.0);
        sheet.paragraph(heading, "備考", Style::new(10.5));
        sheet.paragraph(Role::Paragraph, remarks, Style::new(9.5));
        sheet.skip(12.0);
    }
    if !notice.contact.is_empty() {
        sheet.need(30.0 + 16.0 * notice.contact.len() as f32);
        sheet.paragraph(heading, "お問い合わせ先", Style::new(10.5));
        for line in &notice.contact {
            sheet.paragraph(Role::Paragraph, line, Style::new(9.5));
        }
    }
}

/// `1234567` as `1,234,567`.
fn grouped(yen: u64) -> String {
    let digits = yen.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
