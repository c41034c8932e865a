//! Records that 電子帳簿保存法 asks for (R10): found by date, amount and counterparty together,
//! and taken along as a pack whose every byte can be verified later.
//!
//! What the fund sends is an electronic transaction for the establishment and for the fund. A
//! notice never changes, a correction stands beside what it corrects, and neither is removed
//! before its time; so searching and packing is all that is left to do here.

pub mod pack;
pub mod pages;
pub mod store;
pub mod table;
pub mod verify;

use access::JST;
use time::format_description::well_known::Iso8601;
use time::{Date, OffsetDateTime, Time};

use crate::notices::contribution::YEN_LIMIT;
use crate::web::forms::FieldErrors;

/// How long the text about a counterparty may be, in characters.
const COUNTERPARTY_LIMIT_CHARS: usize = 100;

/// What is looked for; all conditions hold together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// From this day on.
    pub from: Option<Date>,
    /// Up to and with this day.
    pub until: Option<Date>,
    /// At least so many yen.
    pub least_yen: Option<i64>,
    /// At most so many yen.
    pub most_yen: Option<i64>,
    /// A part of the counterparty's name, or its number; empty: any.
    pub counterparty: String,
}

/// What was typed into the search.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct Typed {
    /// A day.
    pub from: String,
    /// A day.
    pub until: String,
    /// Yen.
    pub least: String,
    /// Yen.
    pub most: String,
    /// A text.
    pub counterparty: String,
}

impl Typed {
    /// Reads what was typed.
    ///
    /// # Errors
    /// A sentence for each field that cannot be read.
    pub fn read(&self) -> Result<Search, FieldErrors> {
        let mut errors = FieldErrors::default();
        let mut day = |field: &'static str, text: &str| {
            let text = text.trim();
            if text.is_empty() {
                return None;
            }
            let day = Date::parse(text, &Iso8601::DATE).ok();
            if day.is_none() {
                errors.add(field, "日付は「2026-11-30」のように入力してください。");
            }
            day
        };
        let (from, until) = (day("from", &self.from), day("until", &self.until));
        let mut yen = |field: &'static str, text: &str| {
            use unicode_normalization::UnicodeNormalization as _;
            let plain: String = text
                .nfkc()
                .filter(|c| !c.is_whitespace() && *c != ',')
                .collect();
            if plain.is_empty() {
                return None;
            }
            let yen = plain
                .parse()
                .ok()
                .filter(|yen| (0..=YEN_LIMIT).contains(yen));
            if yen.is_none() {
                errors.add(field, "金額は0以上の整数で入力してください。");
            }
            yen
        };
        let (least_yen, most_yen) = (yen("least", &self.least), yen("most", &self.most));
        if matches!((from, until), (Some(from), Some(until)) if from > until) {
            errors.add("until", "終わりの日付が、始めの日付より前です。");
        }
        if matches!((least_yen, most_yen), (Some(least), Some(most)) if least > most) {
            errors.add("most", "金額の上限が、下限より小さくなっています。");
        }
        let counterparty = self.counterparty.trim().to_owned();
        if counterparty.chars().count() > COUNTERPARTY_LIMIT_CHARS {
            errors.add("counterparty", "取引先は100文字以内で入力してください。");
        }
        if errors.is_empty() {
            Ok(Search {
                from,
                until,
                least_yen,
                most_yen,
                counterparty,
            })
        } else {
            Err(errors)
        }
    }

    /// The fields for links and for the index of a pack.
    pub fn fields(&self) -> [(&'static str, &str); 5] {
        [
            ("from", &self.from),
            ("until", &self.until),
            ("least", &self.least),
            ("most", &self.most),
            ("counterparty", &self.counterparty),
        ]
    }
}

impl Search {
    /// The first instant that is looked at.
    fn begins(&self) -> OffsetDateTime {
        let day = self.from.unwrap_or(time::macros::date!(1970 - 01 - 01));
        day.with_time(Time::MIDNIGHT).assume_offset(JST)
    }

    /// The first instant that is not.
    fn ends(&self) -> OffsetDateTime {
        let last = time::macros::date!(9999 - 01 - 01);
        let day = self.until.and_then(Date::next_day).unwrap_or(last);
        day.with_time(Time::MIDNIGHT).assume_offset(JST)
    }
}

#[cfg(test)]
mod tests;
