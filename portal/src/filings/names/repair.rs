//! What is wrong with a wrong name, and what the right one would be.
//!
//! Only called for names that are not right. It never accepts anything: it takes a name to
//! pieces as a clerk would read it, notes each deviation, and puts the pieces together again.

use protocol::EstablishmentNumber;
use time::Date;
use unicode_normalization::UnicodeNormalization;

use super::{
    FilingKind, FilingName, Kinds, NameError, NameFault, date, date_from_digits, is_ahead,
    not_taken_in, stem,
};

/// Explains an NFC name that [`super::parse`] did not take.
pub(super) fn explain(
    name: &str,
    own: EstablishmentNumber,
    today: Option<Date>,
    kinds: &Kinds,
) -> NameError {
    let mut faults = Vec::new();
    let mut rest: String = name.nfkc().collect();
    let mut extensions = 0;
    while let Some(shorter) = stem(rest.trim_end()).map(str::to_owned) {
        rest = shorter;
        extensions += 1;
    }
    if extensions != 1 {
        faults.push(NameFault::Extension);
    }
    if name.chars().any(is_full_width) {
        faults.push(NameFault::FullWidth);
    }
    let copy_mark = strip_copy_marks(&mut rest);
    let mut separators_right = rest.trim() == rest;
    let rest = rest.trim();

    let (found_date, rest) = match take_date(rest, today) {
        Some((found, rest)) => (Some(found), rest),
        None => (None, rest),
    };
    let date = match found_date {
        None => {
            faults.push(NameFault::MissingDate);
            None
        }
        Some(found) => {
            let written = found.written;
            match (found.date, found.form) {
                (None, _) => faults.push(NameFault::NoSuchDate { written }),
                (Some(date), _) if is_ahead(date, today) => {
                    faults.push(NameFault::DateAhead(date));
                }
                (Some(_), Form::Right) => {}
                (Some(_), Form::Western) => faults.push(NameFault::DateForm { written }),
                (Some(_), Form::Era) => faults.push(NameFault::EraDate { written }),
            }
            found.date.filter(|date| !is_ahead(*date, today))
        }
    };

    let (separator, rest) = split_separator(rest);
    separators_right &= found_date_separator_is_right(separator, date.is_some(), rest);
    let (digits, rest) = split_digits(rest);
    let mut own_or_none = true;
    match digits.parse::<EstablishmentNumber>() {
        _ if digits.is_empty() => faults.push(NameFault::MissingNumber),
        Ok(written) if written != own => {
            own_or_none = false;
            faults.push(NameFault::OtherEstablishment { written, own });
        }
        Ok(_) if digits.len() == 4 => {}
        Ok(_) => faults.push(NameFault::NumberForm {
            written: digits.to_owned(),
        }),
        Err(_) => {
            own_or_none = false;
            faults.push(NameFault::NumberForm {
                written: digits.to_owned(),
            });
        }
    }

    let (separator, written) = split_separator(rest);
    if !digits.is_empty() && !written.is_empty() {
        separators_right &= separator == "_";
    }
    let written = written.trim_end_matches(is_separator);
    let kind = if written.is_empty() {
        faults.push(NameFault::MissingKind);
        None
    } else {
        let kind = kinds.by_name(written);
        let alias = kinds.by_alias(written);
        let nearest = kinds.nearest(written);
        if kind.is_none() {
            let written = written.to_owned();
            faults.push(match alias {
                Some(FilingKind { kind, .. }) => NameFault::KindSpelling {
                    written,
                    kind: *kind,
                },
                None => NameFault::UnknownKind {
                    written,
                    nearest: nearest.map(|kind| kind.kind),
                },
            });
        }
        kind.or(alias).or(nearest)
    };
    let refused = kind.and_then(|kind| not_taken_in(kind, today));
    let is_taken_in = refused.is_none();
    faults.extend(refused);
    faults.extend(copy_mark.map(|written| NameFault::CopyMark { written }));
    if !separators_right || faults.is_empty() {
        faults.push(NameFault::Separators);
    }
    let suggestion = match (date, kind) {
        (Some(date), Some(kind)) if own_or_none && is_taken_in => {
            Some(FilingName::build(date, own, kind.kind))
        }
        _ => None,
    };
    NameError { faults, suggestion }
}

/// A missing number needs no second separator; where there is no date, there is nothing to
/// separate.
fn found_date_separator_is_right(separator: &str, has_date: bool, rest: &str) -> bool {
    separator == "_" || !has_date || rest.is_empty()
}

fn is_full_width(c: char) -> bool {
    matches!(c, '\u{FF01}'..='\u{FF5E}' | '\u{3000}')
}

fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '_' | '-' | '.' | ',' | '・' | '‐' | '‑' | '–' | '—' | '―' | '−' | 'ー' | '~'
        )
}

fn split_separator(text: &str) -> (&str, &str) {
    split_while(text, is_separator)
}

fn split_digits(text: &str) -> (&str, &str) {
    split_while(text, |c| c.is_ascii_digit())
}

fn split_while(text: &str, wanted: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !wanted(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// Takes off what Windows, macOS and browsers add to the name of a copy.
fn strip_copy_marks(stem: &mut String) -> Option<String> {
    let whole = stem.clone();
    for mark in ["コピー ~ ", "コピー ～ ", "コピー - ", "Copy of "] {
        if let Some(rest) = stem.strip_prefix(mark) {
            *stem = rest.to_owned();
        }
    }
    let front = whole[..whole.len() - stem.len()].to_owned();
    let before_end = stem.clone();
    loop {
        let trimmed = stem.trim_end();
        let without_number = trimmed
            .strip_suffix(')')
            .and_then(|text| {
                text.trim_end_matches(|c: char| c.is_ascii_digit())
                    .strip_suffix('(')
            })
            .filter(|text| !trimmed[text.len()..].contains("()"));
        let without_word = || {
            let words = trimmed.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ');
            ["コピー", "copy", "Copy"]
                .iter()
                .find_map(|word| words.strip_suffix(word))
                .map(|text| text.trim_end_matches([' ', '-', '_']))
                .map(|text| text.strip_suffix('の').unwrap_or(text))
        };
        let Some(shorter) = without_number.or_else(without_word) else {
            break;
        };
        let shorter = shorter.trim_end().len();
        stem.truncate(shorter);
    }
    let back = &before_end[stem.len()..];
    match (front.is_empty(), before_end.len() == stem.len()) {
        (true, true) => None,
        (false, _) => Some(front),
        (true, false) => Some(back.to_owned()),
    }
}

enum Form {
    Right,
    Western,
    Era,
}

struct FoundDate {
    written: String,
    date: Option<Date>,
    form: Form,
}

/// The first year of each era that a filing can carry, less one, with the ways to write it.
const ERAS: [(&[&str], i32); 3] = [
    (&["令和", "R", "r"], 2018),
    (&["平成", "H", "h"], 1988),
    (&["昭和", "S", "s"], 1925),
];

/// Takes a date off the front of a name, in any of the ways in which people write one.
fn take_date(text: &str, today: Option<Date>) -> Option<(FoundDate, &str)> {
    let found = |rest: &str, date, form| FoundDate {
        written: text[..text.len() - rest.len()].to_owned(),
        date,
        form,
    };
    for (spellings, before) in ERAS {
        for spelling in spellings {
            let Some(after) = text.strip_prefix(spelling) else {
                continue;
            };
            let (year, month, day, rest) = take_parts(after.trim_start(), 2)?;
            let date = (year >= 1)
                .then(|| date(before + year, month, day))
                .flatten();
            return Some((found(rest, date, Form::Era), rest));
        }
    }
    let (digits, rest) = split_digits(text);
    if digits.len() >= 8 {
        let rest = &text[8..];
        return Some((
            found(rest, date_from_digits(&digits[..8]), Form::Right),
            rest,
        ));
    }
    if digits.len() == 6 && rest.contains(|c: char| c.is_ascii_digit()) {
        let (year, month, day, rest) = take_parts(text, 2)?;
        let date = short_year(year, month, day, today);
        return Some((found(rest, date, Form::Western), rest));
    }
    if digits.len() == 4 {
        let (year, month, day, rest) = take_parts(text, 4)?;
        return Some((found(rest, date(year, month, day), Form::Western), rest));
    }
    None
}

/// A date with 年, 月 and 日 at the front of a text.
pub(super) fn japanese_date(text: &str, today: Date) -> Option<Date> {
    let (found, _) = take_date(text, Some(today))?;
    let is_written_out = ['年', '月', '日']
        .iter()
        .all(|sign| found.written.contains(*sign));
    found.date.filter(|_| is_written_out)
}

/// A year of two digits is one of this century, or one of Reiwa: whichever is nearer today.
fn short_year(year: i32, month: u32, day: u32, today: Option<Date>) -> Option<Date> {
    let western = date(2000 + year, month, day)?;
    let Some(today) = today else {
        return Some(western);
    };
    let reiwa = date(2018 + year, month, day);
    [Some(western), reiwa]
        .into_iter()
        .flatten()
        .min_by_key(|date| (*date - today).abs())
}

/// `yymmdd`, `y.m.d`, `y-m-d`, `y/m/d` or `y年m月d日`, with 元 for a first year.
fn take_parts(text: &str, year_digits: usize) -> Option<(i32, u32, u32, &str)> {
    let (digits, rest) = match text.strip_prefix('元') {
        Some(rest) => ("1", rest),
        None => split_digits(text),
    };
    if digits.len() == year_digits + 4 {
        let (year, month_day) = digits.split_at(year_digits);
        let (month, day) = month_day.split_at(2);
        return Some((
            year.parse().ok()?,
            month.parse().ok()?,
            day.parse().ok()?,
            rest,
        ));
    }
    if digits.is_empty() || digits.len() > year_digits {
        return None;
    }
    let short = |digits: &str| (1..=2).contains(&digits.len());
    let rest = rest.strip_prefix(['年', '.', '-', '/'])?;
    let (month, rest) = split_digits(rest);
    let rest = rest.strip_prefix(['月', '.', '-', '/'])?;
    let (day, rest) = split_digits(rest);
    if !short(month) || !short(day) {
        return None;
    }
    let rest = rest.strip_prefix('日').unwrap_or(rest);
    Some((
        digits.parse().ok()?,
        month.parse().ok()?,
        day.parse().ok()?,
        rest,
    ))
}
