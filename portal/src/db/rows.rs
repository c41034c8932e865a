//! Reading columns of our kinds out of a row: ids, moments, words, numbers.
//!
//! Every store reads its rows through [`Columns`], so that a value which the program cannot
//! have written becomes a [`StoreError`] that names the column, and never a guess.

use std::str::FromStr;

use sqlx::Row as _;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::StoreError;
use crate::clock::from_unix_ms;

/// A row's columns by kind.
pub trait Columns {
    /// A text.
    fn text(&self, column: &'static str) -> Result<String, StoreError>;
    /// A text that may be missing.
    fn text_if(&self, column: &'static str) -> Result<Option<String>, StoreError>;
    /// A number.
    fn number(&self, column: &'static str) -> Result<i64, StoreError>;
    /// A number that may be missing.
    fn number_if(&self, column: &'static str) -> Result<Option<i64>, StoreError>;

    /// A text that has a type of its own: an id, a name.
    fn parsed<T: FromStr>(&self, column: &'static str) -> Result<T, StoreError> {
        let text = self.text(column)?;
        text.parse()
            .map_err(|_| StoreError::Unreadable { what: column })
    }

    /// Like [`Columns::parsed`], where it may be missing.
    fn parsed_if<T: FromStr>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        let text = self.text_if(column)?;
        text.map(|text| text.parse())
            .transpose()
            .map_err(|_| StoreError::Unreadable { what: column })
    }

    /// A number that counts something.
    fn count(&self, column: &'static str) -> Result<u64, StoreError> {
        u64::try_from(self.number(column)?).map_err(|_| StoreError::Unreadable { what: column })
    }

    /// An instant.
    fn moment(&self, column: &'static str) -> Result<OffsetDateTime, StoreError> {
        self.number(column).map(from_unix_ms)
    }

    /// An instant that may be missing.
    fn moment_if(&self, column: &'static str) -> Result<Option<OffsetDateTime>, StoreError> {
        Ok(self.number_if(column)?.map(from_unix_ms))
    }
}

impl Columns for AnyRow {
    fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.try_get(column).map_err(StoreError::doing(column))
    }

    fn text_if(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.try_get(column).map_err(StoreError::doing(column))
    }

    fn number(&self, column: &'static str) -> Result<i64, StoreError> {
        self.try_get(column).map_err(StoreError::doing(column))
    }

    fn number_if(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        self.try_get(column).map_err(StoreError::doing(column))
    }
}
