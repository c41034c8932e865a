//! Review: the office's side of a filing, up to the notice that is issued for it.
//!
//! Here is the form of a determination: what staff type, parsed into what the letter needs.
//! A determination is looked at before it is issued: what the reviewer saw as a draft is, to
//! the byte, what the establishment gets, so the draft is a sealed document already, with the
//! number and the day of the decision in it. A draft of another day is made anew.

pub mod assignment;
pub mod chain;
pub mod desk;
pub mod marks;
pub mod member;
pub mod pages;
pub mod pictures;
pub mod store;
pub mod talk;
pub mod withdrawals;
pub mod words;

use serde::{Deserialize, Serialize};
use time::Date;
use time::macros::format_description;

use crate::filings::names::Kind;
use crate::notices::determination::{Event, Row};
use crate::web::forms::FieldErrors;

/// Persons on one form. Longer lists come as a PDF that staff upload.
pub const ROWS_LIMIT: usize = 100;
/// Longest text of a field, in characters.
const TEXT_LIMIT_CHARS: usize = 100;
/// Longest remarks, in characters.
const REMARKS_LIMIT_CHARS: usize = 1_000;
/// Highest salary that is no slip of the pen, in yen.
const SALARY_LIMIT_YEN: u64 = 99_999_999;

/// What staff typed, as they typed it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeterminationForm {
    /// The persons; empty rows are left out.
    pub rows: Vec<FormRow>,
    /// What else there is to say.
    pub remarks: String,
}

/// One row of the form.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FormRow {
    /// 加入者番号.
    pub member_number: String,
    /// 氏名.
    pub name: String,
    /// 決定事項, by code.
    pub event: String,
    /// 異動年月日.
    pub event_on: String,
    /// 決定した基準給与, in yen.
    pub salary: String,
}

/// What the letter needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The persons, at least one.
    pub rows: Vec<Row>,
    /// What else there is to say.
    pub remarks: Option<String>,
}

/// The events of the form, with their codes.
pub const EVENTS: [(&str, Event); 4] = [
    ("acquisition", Event::Acquisition),
    ("loss", Event::Loss),
    ("change", Event::Change),
    ("correction", Event::Correction),
];

/// The event that a filing of this kind is most probably about.
pub fn likely_event(kind: Kind) -> &'static str {
    let name = kind.name();
    if name.contains("訂正") {
        "correction"
    } else if name.contains("取得") {
        "acquisition"
    } else if name.contains("喪失") {
        "loss"
    } else {
        "change"
    }
}

impl DeterminationForm {
    /// Reads the fields in the order of the page: each `member_number` begins a row.
    pub fn from_fields(fields: &[(String, String)]) -> Self {
        let mut form = Self::default();
        for (name, value) in fields {
            let value = value.trim().to_owned();
            if name == "remarks" {
                form.remarks = value;
                continue;
            }
            if name == "member_number" {
                if form.rows.len() == ROWS_LIMIT {
                    break;
                }
                form.rows.push(FormRow::default());
            }
            let Some(row) = form.rows.last_mut() else {
                continue;
            };
            match name.as_str() {
                "member_number" => row.member_number = value,
                "name" => row.name = value,
                "event" => row.event = value,
                "event_on" => row.event_on = value,
                "salary" => row.salary = value,
                _ => {}
            }
        }
        form
    }

    /// Checks everything, and says of each row what is wrong with it.
    pub fn check(&self) -> Result<Decision, FieldErrors> {
        let mut errors = FieldErrors::default();
        let mut rows = Vec::new();
        for (number, row) in (1..).zip(&self.rows) {
            if row.is_empty() {
                continue;
            }
            match row.check() {
                Ok(row) => rows.push(row),
                Err(sentences) => {
                    for sentence in sentences {
                        errors.add("rows", format!("{number}人目：{sentence}"));
                    }
                }
            }
        }
        if rows.is_empty() && errors.is_empty() {
            errors.add("rows", "対象者を1人以上入力してください。");
        }
        if self.remarks.chars().count() > REMARKS_LIMIT_CHARS {
            errors.add(
                "remarks",
                format!("備考は{REMARKS_LIMIT_CHARS}文字以内で入力してください。"),
            );
        }
        if errors.is_empty() {
            let remarks = Some(self.remarks.clone()).filter(|text| !text.is_empty());
            Ok(Decision { rows, remarks })
        } else {
            Err(errors)
        }
    }
}

impl FormRow {
    /// Whether nothing was typed; the event is chosen from the start.
    fn is_empty(&self) -> bool {
        [
            &self.member_number,
            &self.name,
            &self.event_on,
            &self.salary,
        ]
        .iter()
        .all(|text| text.is_empty())
    }

    fn check(&self) -> Result<Row, Vec<&'static str>> {
        let mut wrong = Vec::new();
        let fits = |text: &str| {
            !text.is_empty()
                && text.chars().count() <= TEXT_LIMIT_CHARS
                && !text.contains(char::is_control)
        };
        if !fits(&self.member_number) {
            wrong.push("加入者番号を入力してください。");
        }
        if !fits(&self.name) {
            wrong.push("氏名を入力してください。");
        }
        let event = EVENTS.iter().find(|(code, _)| *code == self.event);
        if event.is_none() {
            wrong.push("決定事項を選んでください。");
        }
        let form = format_description!("[year]-[month]-[day]");
        let event_on = Date::parse(&self.event_on, form);
        if event_on.is_err() {
            wrong.push("異動年月日を選んでください。");
        }
        let salary_yen = self.salary_yen();
        if salary_yen.is_err() {
            wrong.push("基準給与を円単位の数字で入力してください（ないときは空欄）。");
        }
        match (event, event_on, salary_yen) {
            (Some((_, event)), Ok(event_on), Ok(salary_yen)) if wrong.is_empty() => Ok(Row {
                member_number: self.member_number.clone(),
                name: self.name.clone(),
                born_on: None,
                event: *event,
                event_on,
                salary_yen,
            }),
            _ => Err(wrong),
        }
    }

    /// Reads `300,000`, `300000円` and full-width digits alike.
    fn salary_yen(&self) -> Result<Option<u64>, ()> {
        use unicode_normalization::UnicodeNormalization as _;
        let digits: String = self
            .salary
            .nfkc()
            .filter(|c| !matches!(c, ',' | '円' | '¥') && !c.is_whitespace())
            .collect();
        if digits.is_empty() {
            return Ok(None);
        }
        match digits.parse() {
            Ok(yen) if yen <= SALARY_LIMIT_YEN && digits.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Some(yen))
            }
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn rows_are_read_in_order_and_empty_ones_left_out() {
        let form = DeterminationForm::from_fields(&fields(&[
            ("member_number", "1001"),
            ("name", "髙﨑 花子"),
            ("event", "acquisition"),
            ("event_on", "2026-04-01"),
            ("salary", "３００，０００円"),
            ("member_number", ""),
            ("name", ""),
            ("event", "acquisition"),
            ("event_on", ""),
            ("salary", ""),
            ("member_number", "1002"),
            ("name", "山田 太郎"),
            ("event", "loss"),
            ("event_on", "2026-03-31"),
            ("salary", ""),
            ("remarks", " "),
        ]));
        assert_eq!(form.rows.len(), 3);
        let decision = form.check().unwrap();
        assert_eq!(decision.remarks, None);
        let rows = &decision.rows;
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (rows[0].salary_yen, rows[1].salary_yen),
            (Some(300_000), None)
        );
        assert_eq!(rows[1].event_on, date!(2026 - 03 - 31));
    }

    #[test]
    fn every_slip_is_told_with_its_row() {
        let form = DeterminationForm::from_fields(&fields(&[
            ("member_number", "1001"),
            ("event", "party"),
            ("event_on", "2026-02-30"),
            ("salary", "-1"),
        ]));
        let errors = form.check().unwrap_err();
        let sentences: Vec<_> = errors.iter().map(|error| &error.sentence).collect();
        assert_eq!(sentences.len(), 4, "{sentences:?}");
        assert!(sentences.iter().all(|text| text.starts_with("1人目：")));
    }

    #[test]
    fn a_form_without_persons_decides_nothing() {
        assert!(DeterminationForm::default().check().is_err());
    }
}
