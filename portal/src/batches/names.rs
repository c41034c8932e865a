//! Whose document a file is, and what it is, by its name: `20261112_0123_掛金計算書.pdf`.
//!
//! The name must hold exactly one establishment number, of four or six digits, as a part of
//! its own; a date of eight digits and a month of six may stand beside it. Anything else is
//! what the document is called. Nothing is guessed: a name that could mean two establishments
//! means none.

use protocol::EstablishmentNumber;
use unicode_normalization::UnicodeNormalization as _;

use crate::notices::Kind;

/// How long a title may be, in characters.
const TITLE_LIMIT_CHARS: usize = 60;

/// What a name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Whose it is.
    pub number: EstablishmentNumber,
    /// What kind of document.
    pub kind: Kind,
    /// What it is called.
    pub title: String,
}

/// Why a name says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a PDF's name.
    #[error("the name does not end with .pdf")]
    NotPdf,
    /// No number.
    #[error("no establishment number in the name")]
    NoNumber,
    /// Two numbers.
    #[error("more than one establishment number in the name")]
    TwoNumbers,
    /// Nothing says what it is.
    #[error("no title in the name")]
    NoTitle,
    /// A title that no list can show.
    #[error("the title is too long")]
    TitleTooLong,
}

impl NameError {
    /// What is wrong and what to do, for staff.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::NotPdf => "PDFファイルではありません。",
            Self::NoNumber => {
                "ファイル名に事業所番号（4桁または6桁）がありません。「20261112_0123_掛金計算書.pdf」のように付けてください。"
            }
            Self::TwoNumbers => {
                "ファイル名に事業所番号と読める数字が2つ以上あります。1つにしてください。"
            }
            Self::NoTitle => "ファイル名に書類の名称がありません。",
            Self::TitleTooLong => "ファイル名の書類の名称が長すぎます（60文字まで）。",
        }
    }
}

/// Reads a name.
///
/// # Errors
/// [`NameError`].
pub fn read(file_name: &str) -> Result<Named, NameError> {
    let name: String = file_name.nfc().collect();
    let stem = name
        .char_indices()
        .rev()
        .find(|(_, c)| *c == '.')
        .filter(|(at, _)| name[at + 1..].eq_ignore_ascii_case("pdf"))
        .map(|(at, _)| &name[..at])
        .ok_or(NameError::NotPdf)?;
    let apart = |c: char| {
        c.is_whitespace() || c.is_control() || "_＿()（）[]［］-－・/\\:*?\"<>|".contains(c)
    };
    let mut number = None;
    let mut title: Vec<&str> = Vec::new();
    for part in stem.split(apart).filter(|part| !part.is_empty()) {
        let plain: String = part.nfkc().collect();
        if !plain.bytes().all(|byte| byte.is_ascii_digit()) {
            title.push(part);
            continue;
        }
        let read = match plain.len() {
            4 | 6 => plain.parse::<EstablishmentNumber>().ok(),
            _ => None,
        };
        // Eight digits are a day, six that are no number a month; a single one marks a copy.
        if let Some(read) = read
            && number.replace(read).is_some()
        {
            return Err(NameError::TwoNumbers);
        }
    }
    let number = number.ok_or(NameError::NoNumber)?;
    let title = title.join(" ");
    if title.is_empty() {
        return Err(NameError::NoTitle);
    }
    if title.chars().count() > TITLE_LIMIT_CHARS {
        return Err(NameError::TitleTooLong);
    }
    let kind = [Kind::Contribution, Kind::Payment, Kind::Determination]
        .into_iter()
        .find(|kind| title.contains(kind.name()))
        .unwrap_or(Kind::Other);
    Ok(Named {
        number,
        kind,
        title,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_and_what_in_the_ways_that_people_write_them() {
        for (name, number, kind, title) in [
            (
                "20261112_0123_掛金計算書.pdf",
                123,
                Kind::Contribution,
                "掛金計算書",
            ),
            ("納入告知書(000123).PDF", 123, Kind::Payment, "納入告知書"),
            (
                "０１２３＿決定通知書.pdf",
                123,
                Kind::Determination,
                "決定通知書",
            ),
            (
                "0123_お知らせ 年末調整.pdf",
                123,
                Kind::Other,
                "お知らせ 年末調整",
            ),
            (
                "202610_1240_掛金計算書 (1).pdf",
                1240,
                Kind::Contribution,
                "掛金計算書",
            ),
            // NFD, as a Mac writes it.
            ("0123_通知カ\u{3099}.pdf", 123, Kind::Other, "通知ガ"),
        ] {
            let named = read(name).unwrap();
            assert_eq!(
                (named.number.as_u16(), named.kind),
                (number, kind),
                "{name}"
            );
            assert_eq!(named.title, title, "{name}");
        }
    }

    #[test]
    fn a_name_that_could_mean_two_or_none_means_none() {
        for (name, error) in [
            ("掛金計算書.pdf", NameError::NoNumber),
            ("0000_掛金計算書.pdf", NameError::NoNumber),
            ("0123_0124_掛金計算書.pdf", NameError::TwoNumbers),
            ("2026_0123_掛金計算書.pdf", NameError::TwoNumbers),
            ("0123.pdf", NameError::NoTitle),
            ("0123_掛金計算書.xlsx", NameError::NotPdf),
            ("", NameError::NotPdf),
        ] {
            assert_eq!(read(name), Err(error), "{name}");
        }
        let long = format!("0123_{}.pdf", "長".repeat(61));
        assert_eq!(read(&long), Err(NameError::TitleTooLong));
    }
}
