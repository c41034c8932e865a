//! What a month's contributions (掛金) come to, and the two documents that say so: the
//! statement (掛金計算書), which shows how the amount came about since the month before, and
//! the payment notice (納入告知書), which asks for it.
//!
//! Amounts are whole yen, exact. Whoever makes a document has checked the sums before
//! ([`Contribution::check`]); a document whose sums do not fit is never drawn.

use std::num::NonZeroU16;

use protocol::EstablishmentNumber;
use time::{Date, OffsetDateTime};

use crate::documents::{Align, Cell, DocumentError, Ink, Role, Sheet, Style, date_text, yen_text};

/// No amount of a fund is larger, in yen: a slip of the keyboard is.
pub const YEN_LIMIT: i64 = 1_000_000_000_000;
/// No fund has more members.
pub const HEADS_LIMIT: i64 = 10_000_000;

/// What is paid for (FACTS: 標準, 特別, リスク対応, 特例, 事務費).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// 標準掛金
    Standard,
    /// 特別掛金
    Special,
    /// リスク対応掛金
    Risk,
    /// 特例掛金
    Exceptional,
    /// 事務費掛金
    Office,
}

impl Category {
    /// All, in the order of the documents.
    pub const ALL: [Self; 5] = [
        Self::Standard,
        Self::Special,
        Self::Risk,
        Self::Exceptional,
        Self::Office,
    ];

    /// As it begins the columns of a CSV.
    pub fn word(self) -> &'static str {
        match self {
            Self::Standard => "標準",
            Self::Special => "特別",
            Self::Risk => "リスク対応",
            Self::Exceptional => "特例",
            Self::Office => "事務費",
        }
    }

    /// As the documents call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "標準掛金",
            Self::Special => "特別掛金",
            Self::Risk => "リスク対応掛金",
            Self::Exceptional => "特例掛金",
            Self::Office => "事務費掛金",
        }
    }
}

/// How heads and yen of one category moved from last month to this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Movement {
    /// Heads last month.
    pub before_heads: i64,
    /// Yen last month.
    pub before_yen: i64,
    /// Heads that came.
    pub more_heads: i64,
    /// Yen that came with them.
    pub more_yen: i64,
    /// Heads that went.
    pub less_heads: i64,
    /// Yen that went with them.
    pub less_yen: i64,
    /// Differences of earlier months that are settled now; may be negative.
    pub adjusted_yen: i64,
    /// Heads this month.
    pub heads: i64,
    /// Yen this month.
    pub yen: i64,
}

/// One establishment's contributions for one month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contribution {
    /// By category, in the order of [`Category::ALL`].
    pub movements: Vec<(Category, Movement)>,
    /// What is to be paid, in yen.
    pub total_yen: i64,
    /// By when.
    pub due_on: Date,
    /// Where (納付場所).
    pub pay_at: String,
}

/// Sums that do not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SumError {
    /// Heads before, come and gone do not make this month's.
    #[error("heads of {category:?}: {counted} counted, {written} written")]
    Heads {
        /// Of which category.
        category: Category,
        /// What the parts make.
        counted: i64,
        /// What is written.
        written: i64,
    },
    /// Yen before, come, gone and adjusted do not make this month's.
    #[error("yen of {category:?}: {counted} counted, {written} written")]
    Yen {
        /// Of which category.
        category: Category,
        /// What the parts make.
        counted: i64,
        /// What is written.
        written: i64,
    },
    /// The categories do not make the total.
    #[error("total: {counted} counted, {written} written")]
    Total {
        /// What the categories make.
        counted: i64,
        /// What is written.
        written: i64,
    },
    /// Nothing that could be asked for.
    #[error("the total is less than nothing: {0}")]
    Negative(i64),
}

impl SumError {
    /// What does not fit, for staff.
    pub fn page_text(&self) -> String {
        match self {
            Self::Heads {
                category,
                counted,
                written,
            } => format!(
                "{}の人数が合いません（前月＋増加－減少＝{counted}人、当月人数＝{written}人）。",
                category.name()
            ),
            Self::Yen {
                category,
                counted,
                written,
            } => format!(
                "{}の金額が合いません（前月＋増加－減少＋調整＝{}円、当月額＝{}円）。",
                category.name(),
                yen_text(*counted),
                yen_text(*written)
            ),
            Self::Total { counted, written } => format!(
                "合計額が合いません（各掛金の当月額の合計＝{}円、合計額＝{}円）。",
                yen_text(*counted),
                yen_text(*written)
            ),
            Self::Negative(yen) => format!(
                "合計額が0円未満（{}円）のため、納入告知書を作成できません。",
                yen_text(*yen)
            ),
        }
    }
}

impl Contribution {
    /// Checks every sum. The numbers are within [`YEN_LIMIT`] and [`HEADS_LIMIT`], so that no
    /// sum overflows.
    ///
    /// # Errors
    /// The first sum that does not fit.
    pub fn check(&self) -> Result<(), SumError> {
        for (category, m) in &self.movements {
            let counted = m.before_heads + m.more_heads - m.less_heads;
            if counted != m.heads {
                return Err(SumError::Heads {
                    category: *category,
                    counted,
                    written: m.heads,
                });
            }
            let counted = m.before_yen + m.more_yen - m.less_yen + m.adjusted_yen;
            if counted != m.yen {
                return Err(SumError::Yen {
                    category: *category,
                    counted,
                    written: m.yen,
                });
            }
        }
        let counted = self.movements.iter().map(|(_, m)| m.yen).sum();
        if counted != self.total_yen {
            return Err(SumError::Total {
                counted,
                written: self.total_yen,
            });
        }
        if self.total_yen < 0 {
            return Err(SumError::Negative(self.total_yen));
        }
        Ok(())
    }
}

/// What stands around the figures of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The fund's name.
    pub fund: String,
    /// The document's number (文書番号).
    pub number: String,
    /// The day it bears.
    pub issued_on: Date,
    /// The establishment's number.
    pub establishment: EstablishmentNumber,
    /// The establishment's name.
    pub establishment_name: String,
    /// Which month, as people read it: `令和8年10月分`.
    pub month: String,
    /// Whether it takes the place of one that was issued before.
    pub correction: bool,
    /// Whom to ask.
    pub contact: String,
    /// When the document is made; kept inside the file.
    pub made_at: OffsetDateTime,
}

const BODY: Style = Style::new(10.5);
/// Category, then heads and yen of: before, more, less; adjusted; now. 471 points together.
const COLUMNS: [f32; 10] = [67.0, 30.0, 62.0, 26.0, 54.0, 26.0, 54.0, 52.0, 30.0, 70.0];
const HEADS: [&str; 10] = [
    "区分",
    "前月人数",
    "前月額",
    "増員",
    "増加額",
    "減員",
    "減少額",
    "調整額",
    "当月人数",
    "当月額",
];

/// Makes the statement (掛金計算書).
///
/// # Errors
/// [`DocumentError::MissingGlyph`] if a name has a character that cannot be drawn.
pub fn statement(frame: &Frame, sums: &Contribution) -> Result<Vec<u8>, DocumentError> {
    let mut sheet = begin("掛金計算書", frame);
    let text = format!(
        "　貴事業所の{}の掛金を、次のとおり計算しましたのでお知らせします。",
        frame.month
    );
    sheet.paragraph(Role::Paragraph, &text, BODY);
    sheet.skip(10.0);
    let unit = Style::new(9.0).align(Align::Right);
    sheet.paragraph(Role::Paragraph, "（単位：人、円）", unit);
    let table = sheet.open(None, Role::Table);
    let head = sheet.open(Some(table), Role::TableHead);
    let body = sheet.open(Some(table), Role::TableBody);
    let style = Style::new(8.0);
    row(
        &mut sheet,
        head,
        &COLUMNS,
        &HEADS.map(str::to_owned),
        Role::ColumnHeader,
        style,
    );
    for (category, m) in &sums.movements {
        let cells = [
            category.name().to_owned(),
            yen_text(m.before_heads),
            yen_text(m.before_yen),
            yen_text(m.more_heads),
            yen_text(m.more_yen),
            yen_text(m.less_heads),
            yen_text(m.less_yen),
            yen_text(m.adjusted_yen),
            yen_text(m.heads),
            yen_text(m.yen),
        ];
        row(&mut sheet, body, &COLUMNS, &cells, Role::Data, style);
    }
    let sum = |of: fn(&Movement) -> i64| -> String {
        yen_text(sums.movements.iter().map(|(_, m)| of(m)).sum())
    };
    let dash = || "－".to_owned();
    let cells = [
        "合計".to_owned(),
        dash(),
        sum(|m| m.before_yen),
        dash(),
        sum(|m| m.more_yen),
        dash(),
        sum(|m| m.less_yen),
        sum(|m| m.adjusted_yen),
        dash(),
        yen_text(sums.total_yen),
    ];
    row(&mut sheet, body, &COLUMNS, &cells, Role::Data, style);
    sheet.skip(14.0);
    let small = Style::new(9.5);
    for line in [
        "当月額＝前月額＋増加額－減少額＋調整額。調整額は、過去の月の届出により生じた差額です。",
        "納入いただく金額と期限は、納入告知書をご覧ください。",
    ] {
        sheet.paragraph(Role::Paragraph, line, small);
    }
    end(sheet, frame)
}

/// Makes the payment notice (納入告知書).
///
/// # Errors
/// As [`statement`].
pub fn payment(frame: &Frame, sums: &Contribution) -> Result<Vec<u8>, DocumentError> {
    let mut sheet = begin("納入告知書", frame);
    let text = format!(
        "　貴事業所の{}の掛金を、下記のとおり納付してください。",
        frame.month
    );
    sheet.paragraph(Role::Paragraph, &text, BODY);
    sheet.skip(12.0);
    let widths = [120.0, sheet.width() - 120.0];
    let table = sheet.open(None, Role::Table);
    let body = sheet.open(Some(table), Role::TableBody);
    sheet.rule();
    let due = date_text(sums.due_on);
    let total = format!("金 {}円", yen_text(sums.total_yen));
    for (head, text, style) in [
        ("納入金額", total.as_str(), Style::new(14.0)),
        ("納期限", &due, BODY),
        ("納付場所", &sums.pay_at, BODY),
    ] {
        let cell = |text, role| Cell {
            text,
            align: Align::Left,
            role,
        };
        let cells = [cell(head, Role::RowHeader), cell(text, Role::Data)];
        sheet.row(Some(body), &widths, &cells, style);
    }
    sheet.skip(22.0);
    let heading = Role::Heading(NonZeroU16::MIN.saturating_add(1));
    sheet.paragraph(heading, "内訳", Style::new(10.5));
    let table = sheet.open(None, Role::Table);
    let head = sheet.open(Some(table), Role::TableHead);
    let body = sheet.open(Some(table), Role::TableBody);
    let widths = [sheet.width() - 160.0, 160.0];
    let heads = ["区分".to_owned(), "金額（円）".to_owned()];
    row(&mut sheet, head, &widths, &heads, Role::ColumnHeader, BODY);
    for (category, m) in &sums.movements {
        let cells = [category.name().to_owned(), yen_text(m.yen)];
        row(&mut sheet, body, &widths, &cells, Role::Data, BODY);
    }
    let cells = ["合計".to_owned(), yen_text(sums.total_yen)];
    row(&mut sheet, body, &widths, &cells, Role::Data, BODY);
    end(sheet, frame)
}

/// A row whose first cell stands left and the others right.
fn row<const N: usize>(
    sheet: &mut Sheet,
    parent: crate::documents::NodeId,
    widths: &[f32; N],
    texts: &[String; N],
    role: Role,
    style: Style,
) {
    let mut cells = Vec::with_capacity(N);
    for (index, text) in texts.iter().enumerate() {
        let (align, role) = match (index, role) {
            (0, Role::Data) => (Align::Left, Role::RowHeader),
            (0, role) => (Align::Left, role),
            (_, role) => (Align::Right, role),
        };
        cells.push(Cell { text, align, role });
    }
    sheet.row(Some(parent), widths, &cells, style);
}

fn begin(title: &str, frame: &Frame) -> Sheet {
    let window = format!("{title} {} {}", frame.number, frame.establishment_name);
    let footer = format!("{}　{title}　{}", frame.fund, frame.number);
    let mut sheet = Sheet::new(&window, &footer, frame.made_at);
    let (width, right) = (sheet.width(), BODY.align(Align::Right));
    sheet.paragraph(Role::Paragraph, &frame.number, right);
    sheet.paragraph(Role::Paragraph, &date_text(frame.issued_on), right);
    sheet.skip(14.0);
    let left = width * 0.62;
    let number = format!("事業所番号　{}", frame.establishment);
    let quiet = Style::new(9.5).ink(Ink::Quiet);
    sheet.block(Role::Paragraph, 0.0, left, &number, quiet);
    let name = format!("{}　御中", frame.establishment_name);
    sheet.block(Role::Paragraph, 0.0, left, &name, Style::new(12.5));
    sheet.skip(10.0);
    let sender = Style::new(11.5).align(Align::Right);
    sheet.block(
        Role::Paragraph,
        width * 0.4,
        width * 0.6,
        &frame.fund,
        sender,
    );
    sheet.skip(26.0);
    let edition = if frame.correction { "【訂正】" } else { "" };
    let heading = format!("{edition}{title}（{}）", frame.month);
    let style = Style::new(18.0).align(Align::Centre);
    sheet.paragraph(Role::Heading(NonZeroU16::MIN), &heading, style);
    sheet.skip(14.0);
    if frame.correction {
        let text = "　先にお送りした同じ月の書類に代えて、この書類をお送りします。";
        sheet.paragraph(Role::Paragraph, text, BODY);
    }
    sheet
}

fn end(mut sheet: Sheet, frame: &Frame) -> Result<Vec<u8>, DocumentError> {
    sheet.skip(18.0);
    let heading = Role::Heading(NonZeroU16::MIN.saturating_add(1));
    sheet.paragraph(heading, "お問い合わせ先", Style::new(10.5));
    sheet.paragraph(Role::Paragraph, &frame.contact, Style::new(9.5));
    sheet.finish()
}

#[cfg(test)]
mod tests;
