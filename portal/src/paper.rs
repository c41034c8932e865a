//! Filings on paper (FEATURES S003-09, S003-10): in one history with those that come through
//! the portal.
//!
//! An establishment that posts a filing prints a cover sheet (送付状) for it. Its code stands on it
//! as a QR code and in letters: staff scan or type it, and find establishment, kind and date
//! filled in. Without a cover sheet they type them. What is recorded is a filing like any
//! other, decided or returned on the same desk; its document is the record of what came.

pub mod office;
pub mod pages;
pub mod sheet;
pub mod store;
pub mod twins;

use std::fmt;
use std::str::FromStr;

use time::{Date, OffsetDateTime};
use unicode_normalization::UnicodeNormalization as _;

use crate::filings::FilingName;
use crate::ids::{EstablishmentId, FilingId};
use crate::keys::random_readable;

/// Characters of a code: 40 bits.
const CODE_CHARS: usize = 8;
/// Sheets of one filing, at most.
pub const SHEETS_LIMIT: u16 = 500;
/// How long ago a filing on paper may have arrived, in days.
pub const ARRIVED_LIMIT_DAYS: i64 = 366;
/// Cover sheets that an establishment makes a day, at most.
pub const COVERS_LIMIT: i64 = 100;

/// The code on a cover sheet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code(String);

/// Not the code of a cover sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the code of a cover sheet")]
pub struct NotACode;

impl Code {
    /// A new one.
    pub fn generate() -> Self {
        Self(random_readable(CODE_CHARS))
    }

    /// As the database and the QR code have it, without the hyphen.
    pub fn plain(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Code {
    /// `K7M2-9QXA`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.0.split_at(CODE_CHARS / 2);
        write!(f, "{first}-{last}")
    }
}

impl FromStr for Code {
    type Err = NotACode;

    /// Reads what a scanner or a person typed: hyphens, spaces and small or full-width letters
    /// do not matter.
    fn from_str(text: &str) -> Result<Self, NotACode> {
        let plain: String = text
            .nfkc()
            .filter(|c| !c.is_whitespace() && *c != '-' && *c != 'ー')
            .flat_map(char::to_uppercase)
            .take(CODE_CHARS + 1)
            .collect();
        let fits = plain.len() == CODE_CHARS && plain.bytes().all(|b| b.is_ascii_alphanumeric());
        if fits { Ok(Self(plain)) } else { Err(NotACode) }
    }
}

/// A cover sheet that an establishment made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cover {
    /// Its id.
    pub id: String,
    /// What stands in the QR code.
    pub code: Code,
    /// Whose it is.
    pub establishment: EstablishmentId,
    /// What the filing is called.
    pub name: FilingName,
    /// How many sheets it has.
    pub sheets: u16,
    /// When the cover sheet was made.
    pub made: OffsetDateTime,
    /// The filing, once it arrived.
    pub filing: Option<FilingId>,
}

/// What came on paper, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// What the filing is called.
    pub name: FilingName,
    /// How many sheets came.
    pub sheets: u16,
    /// When.
    pub arrived: Date,
    /// The cover sheet's code, or a new one.
    pub code: Code,
}

/// Reads a number of sheets.
pub fn sheets(text: &str) -> Option<u16> {
    let plain: String = text.trim().nfkc().collect();
    let sheets = plain.parse().ok()?;
    (1..=SHEETS_LIMIT).contains(&sheets).then_some(sheets)
}

#[cfg(test)]
mod tests;
