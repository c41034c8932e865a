//! The CSV from which contribution documents are made: a head, and a line for each
//! establishment.
//!
//! UTF-8 or Shift_JIS (as Excel writes it), with or without a byte order mark, lines ended in
//! any way. Columns go by their names, in any order; one that is not known stops the file, for
//! a misspelt one would silently leave out money. Numbers are whole yen and whole heads: what
//! is not is refused with its line's number, and nothing is rounded.

use std::collections::BTreeMap;

use encoding_rs::{SHIFT_JIS, UTF_8};
use protocol::EstablishmentNumber;
use time::{Date, Month};
use unicode_normalization::UnicodeNormalization as _;

use super::ITEM_LIMIT;
use crate::documents::yen_text;
use crate::notices::contribution::{Category, Contribution, HEADS_LIMIT, Movement, YEN_LIMIT};

/// How large the file may be, in bytes.
pub const SIZE_LIMIT_BYTES: usize = 8 * 1024 * 1024;
/// How long a text in a cell may be, in characters.
const TEXT_LIMIT_CHARS: usize = 100;

const NUMBER: &str = "事業所番号";
const NAME: &str = "事業所名";
const TOTAL: &str = "合計額";
const DUE: &str = "納期限";
const PAY_AT: &str = "納付場所";
/// The columns of a category behind its word, in the order of [`Movement`].
const PARTS: [&str; 9] = [
    "前月人数",
    "前月額",
    "増加人数",
    "増加額",
    "減少人数",
    "減少額",
    "調整額",
    "当月人数",
    "当月額",
];
/// What must be there; the others may be left out as a whole.
const REQUIRED: [Category; 1] = [Category::Standard];

/// One good line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it stands in the file, from 1.
    pub line: u64,
    /// Whose it is.
    pub number: EstablishmentNumber,
    /// What the file calls it, if it does.
    pub name: Option<String>,
    /// The figures. Their sums fit.
    pub contribution: Contribution,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1; 0 for the file as a whole.
    pub line: u64,
    /// What, for staff.
    pub sentence: String,
}

impl Problem {
    fn of_file(sentence: impl Into<String>) -> Self {
        Self {
            line: 0,
            sentence: sentence.into(),
        }
    }
}

/// The columns of the example that staff can download, with one line that is an example.
pub fn template() -> String {
    let mut head = vec![NUMBER.to_owned(), NAME.to_owned()];
    let mut example = vec!["0123".to_owned(), "見本製作所株式会社".to_owned()];
    let figures = [
        (
            Category::Standard,
            [10, 24_000, 2, 4_800, 1, 2_400, -2_400, 11, 24_000],
        ),
        (
            Category::Special,
            [10, 20_000, 2, 4_000, 1, 2_000, 0, 11, 22_000],
        ),
        (
            Category::Office,
            [10, 7_000, 2, 1_400, 1, 700, 0, 11, 7_700],
        ),
    ];
    for (category, figures) in figures {
        for (part, figure) in PARTS.iter().zip(figures) {
            head.push(format!("{}{part}", category.word()));
            example.push(figure.to_string());
        }
    }
    head.extend([TOTAL, DUE, PAY_AT].map(str::to_owned));
    example.extend(["53700", "2099-11-30", "見本銀行 本店 普通 0000000"].map(str::to_owned));
    format!("\u{FEFF}{}\r\n{}\r\n", head.join(","), example.join(","))
}

/// Reads a file: every good line, and everything that is wrong with the others.
pub fn read(bytes: &[u8], today: Date) -> (Vec<Line>, Vec<Problem>) {
    let whole = |sentence: &str| (Vec::new(), vec![Problem::of_file(sentence)]);
    if bytes.len() > SIZE_LIMIT_BYTES {
        return whole("CSVファイルが大きすぎます（8MBまで）。");
    }
    let Some(text) = decoded(bytes) else {
        return whole(
            "文字コードを読み取れません。UTF-8またはシフトJIS（ExcelのCSV）で保存してください。",
        );
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut records = reader.records();
    let head = match records.next() {
        Some(Ok(head)) => head,
        Some(Err(_)) | None => return whole("CSVファイルに何も書かれていません。"),
    };
    let columns = match Columns::read(&head) {
        Ok(columns) => columns,
        Err(problems) => return (Vec::new(), problems),
    };
    let (mut lines, mut problems) = (Vec::new(), Vec::new());
    let mut seen = BTreeMap::new();
    for record in records {
        let Ok(record) = record else {
            problems.push(Problem::of_file("CSVファイルを最後まで読み取れません。"));
            break;
        };
        let at = record.position().map_or(0, csv::Position::line);
        if record.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        if lines.len() + problems.len() == ITEM_LIMIT / 2 {
            problems.push(Problem::of_file("行が多すぎます（1,000事業所まで）。"));
            break;
        }
        match columns.line(&record, at, today) {
            Ok(line) => match seen.insert(line.number, at) {
                None => lines.push(line),
                Some(first) => problems.push(Problem {
                    line: at,
                    sentence: format!(
                        "事業所番号{}が2回書かれています（{first}行目にもあります）。",
                        line.number
                    ),
                }),
            },
            Err(sentence) => problems.push(Problem { line: at, sentence }),
        }
    }
    if lines.is_empty() && problems.is_empty() {
        problems.push(Problem::of_file("見出しの下に、事業所の行がありません。"));
    }
    (lines, problems)
}

/// The text, without a mark at its beginning.
fn decoded(bytes: &[u8]) -> Option<String> {
    let text = UTF_8
        .decode_without_bom_handling_and_without_replacement(
            bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes),
        )
        .or_else(|| SHIFT_JIS.decode_without_bom_handling_and_without_replacement(bytes))?;
    // What has zero bytes is UTF-16 or no text. One way of ending lines, to count them by.
    (!text.contains('\0')).then(|| text.replace("\r\n", "\n").replace('\r', "\n"))
}

/// Where which column stands.
struct Columns {
    number: usize,
    name: Option<usize>,
    total: usize,
    due: usize,
    pay_at: usize,
    categories: Vec<(Category, [usize; 9])>,
    count: usize,
}

impl Columns {
    fn read(head: &csv::StringRecord) -> Result<Self, Vec<Problem>> {
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let mut problems = Vec::new();
        let mut problem = |sentence: String| problems.push(Problem { line: 1, sentence });
        for (place, cell) in head.iter().enumerate() {
            let name: String = cell.nfkc().filter(|c| !c.is_whitespace()).collect();
            if name.is_empty() {
                continue;
            }
            if places.insert(name.clone(), place).is_some() {
                problem(format!("見出し「{name}」が2回あります。"));
            }
        }
        let mut categories = Vec::new();
        for category in Category::ALL {
            let columns = PARTS.map(|part| places.remove(&format!("{}{part}", category.word())));
            match all(columns) {
                Some(columns) => categories.push((category, columns)),
                None if columns.iter().all(Option::is_none) && !REQUIRED.contains(&category) => {}
                None => {
                    let missing = PARTS
                        .iter()
                        .zip(columns)
                        .filter(|(_, place)| place.is_none());
                    for (part, _) in missing {
                        problem(format!("見出し「{}{part}」がありません。", category.word()));
                    }
                }
            }
        }
        let name = places.remove(NAME);
        let mut required = |column: &str| {
            places.remove(column).unwrap_or_else(|| {
                problem(format!("見出し「{column}」がありません。"));
                0
            })
        };
        let columns = Self {
            number: required(NUMBER),
            total: required(TOTAL),
            due: required(DUE),
            pay_at: required(PAY_AT),
            name,
            categories,
            count: head.len(),
        };
        for unknown in places.keys() {
            problem(format!(
                "見出し「{}」は使えません。ひな形の見出しをお使いください。",
                shown(unknown)
            ));
        }
        if problems.is_empty() {
            Ok(columns)
        } else {
            Err(problems)
        }
    }

    fn line(&self, record: &csv::StringRecord, at: u64, today: Date) -> Result<Line, String> {
        if record.len() != self.count {
            return Err(format!(
                "列の数が見出しと合いません（見出し{}列、この行{}列）。",
                self.count,
                record.len()
            ));
        }
        let cell = |place: usize| record.get(place).unwrap_or_default().trim();
        let number = cell(self.number)
            .parse::<EstablishmentNumber>()
            .map_err(|_| {
                format!(
                    "事業所番号「{}」を読み取れません。",
                    shown(cell(self.number))
                )
            })?;
        let figure = |name: &str, place: usize, limit: i64| {
            whole_number(cell(place))
                .filter(|figure| figure.abs() <= limit)
                .ok_or_else(|| format!("{name}「{}」は整数ではありません。", shown(cell(place))))
        };
        let mut movements = Vec::with_capacity(self.categories.len());
        for (category, places) in &self.categories {
            let mut figures = [0; 9];
            for ((figure_at, part), place) in figures.iter_mut().zip(PARTS).zip(places) {
                let name = format!("{}{part}", category.word());
                let limit = if part.ends_with("人数") {
                    HEADS_LIMIT
                } else {
                    YEN_LIMIT
                };
                *figure_at = figure(&name, *place, limit)?;
                if *figure_at < 0 && part.ends_with("人数") {
                    return Err(format!("{name}が0人未満です。"));
                }
            }
            let [
                before_heads,
                before_yen,
                more_heads,
                more_yen,
                less_heads,
                less_yen,
                adjusted_yen,
                heads,
                yen,
            ] = figures;
            let movement = Movement {
                before_heads,
                before_yen,
                more_heads,
                more_yen,
                less_heads,
                less_yen,
                adjusted_yen,
                heads,
                yen,
            };
            movements.push((*category, movement));
        }
        let total_yen = figure(TOTAL, self.total, YEN_LIMIT)?;
        let due_on = day(cell(self.due)).ok_or_else(|| {
            format!(
                "納期限「{}」を読み取れません。「2026-11-30」のように書いてください。",
                shown(cell(self.due))
            )
        })?;
        if due_on < today {
            return Err("納期限が過ぎた日付です。".to_owned());
        }
        let text = |name: &str, place: usize| {
            let text: String = cell(place).nfc().collect();
            let good = text.chars().count() <= TEXT_LIMIT_CHARS && !text.contains(char::is_control);
            if good {
                Ok(text)
            } else {
                Err(format!("{name}は1行100文字以内で書いてください。"))
            }
        };
        let pay_at = text(PAY_AT, self.pay_at)?;
        if pay_at.is_empty() {
            return Err("納付場所が空です。".to_owned());
        }
        let name = self.name.map(|place| text(NAME, place)).transpose()?;
        let contribution = Contribution {
            movements,
            total_yen,
            due_on,
            pay_at,
        };
        contribution.check().map_err(|error| error.page_text())?;
        Ok(Line {
            line: at,
            number,
            name: name.filter(|name| !name.is_empty()),
            contribution,
        })
    }
}

/// All of them or none.
fn all(columns: [Option<usize>; 9]) -> Option<[usize; 9]> {
    let mut places = [0; 9];
    for (place, column) in places.iter_mut().zip(columns) {
        *place = column?;
    }
    Some(places)
}

/// What was written, short enough for a sentence.
fn shown(text: &str) -> String {
    const LIMIT: usize = 20;
    let mut shown: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(LIMIT)
        .collect();
    if text.chars().count() > LIMIT {
        shown.push('…');
    }
    shown
}

/// `1,234`, `△1,234`, `-1234`, `￥1,234`, `1234円`; an empty cell is nothing at all. Commas
/// stand where they group by three, or nowhere.
fn whole_number(text: &str) -> Option<i64> {
    let plain: String = text.nfkc().filter(|c| !c.is_whitespace()).collect();
    let plain = plain.strip_suffix(['円', '人']).unwrap_or(&plain);
    let (negative, plain) = match plain.strip_prefix(['-', '−', '△', '▲', '‐']) {
        Some(rest) => (true, rest),
        None => (false, plain),
    };
    let plain = plain.strip_prefix(['¥', '\\']).unwrap_or(plain);
    let digits: String = plain.chars().filter(|c| *c != ',').collect();
    // Nineteen digits do not fit; fifteen are more than any limit here.
    let good = (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if !good {
        return None;
    }
    let number: i64 = digits.parse().ok()?;
    if plain.contains(',') && plain.trim_start_matches('0') != yen_text(number) {
        return None;
    }
    Some(if negative { -number } else { number })
}

/// `2026-11-30`, `2026/11/30`, `2026年11月30日`, `20261130`, `R8.11.30`, `令和8年11月30日`.
fn day(text: &str) -> Option<Date> {
    const REIWA_BEFORE: i32 = 2018;
    let plain: String = text.nfkc().filter(|c| !c.is_whitespace()).collect();
    let (era, rest) = match plain
        .strip_prefix("令和")
        .or_else(|| plain.strip_prefix(['R', 'r', '令']))
    {
        Some(rest) => (true, rest.replacen('元', "1", 1)),
        None => (false, plain.clone()),
    };
    let parts: Vec<i32> = if !era && rest.len() == 8 && rest.bytes().all(|b| b.is_ascii_digit()) {
        vec![
            rest[..4].parse().ok()?,
            rest[4..6].parse().ok()?,
            rest[6..].parse().ok()?,
        ]
    } else {
        let rest = rest.strip_suffix('日').unwrap_or(&rest);
        let parts: Result<_, _> = rest
            .split(['-', '/', '.', '年', '月'])
            .map(str::parse)
            .collect();
        parts.ok()?
    };
    let [year, month, day] = parts[..] else {
        return None;
    };
    let year = if era {
        year.checked_add(REIWA_BEFORE)?
    } else {
        year
    };
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(year, month, u8::try_from(day).ok()?).ok()?;
    (2019..=2100).contains(&year).then_some(date)
}

#[cfg(test)]
mod tests;
