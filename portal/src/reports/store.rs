//! What the reports count.

use time::{Duration, OffsetDateTime};

use super::{Period, Volume, YearMonth};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError};
use crate::establishments::store::number_from_row;
use crate::history::Entry;
use crate::web::principals::Staff;

/// Establishments in the list of unread notices.
const UNREAD_LIMIT: i64 = 50;
/// Decisions of one month: fifty times those of the reference fund.
const DECISIONS_LIMIT: i64 = 100_000;

/// A decision: on what kind, after how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The kind of filing.
    pub kind: String,
    /// From receipt to decision.
    pub took: Duration,
}

/// An establishment that has not fetched everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Its number and name.
    pub establishment: String,
    /// How many notices.
    pub count: u64,
    /// When the oldest of them was issued.
    pub oldest: OffsetDateTime,
}

/// What happened in a month, by entry and kind.
pub async fn volumes(db: &Db, _: &Staff, month: YearMonth) -> Result<Vec<Volume>, StoreError> {
    let rows = sqlx::query(
        "SELECT entry, kind, COUNT(*) AS n FROM history
          WHERE at_ms >= $1 AND at_ms < $2 GROUP BY entry, kind ORDER BY entry, kind",
    )
    .bind(unix_ms(month.begins()))
    .bind(unix_ms(month.next().begins()))
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("count a month"))?;
    rows.iter()
        .map(|row| {
            Ok(Volume {
                entry: Entry::from_code(&row.text("entry")?)
                    .ok_or(StoreError::Unreadable { what: "entry" })?,
                kind: row.text("kind")?,
                count: row.count("n")?,
            })
        })
        .collect()
}

/// The decisions of a month.
pub async fn decisions(db: &Db, _: &Staff, month: YearMonth) -> Result<Vec<Decision>, StoreError> {
    let rows = sqlx::query(
        "SELECT h.kind, h.at_ms, f.received_ms
           FROM history h JOIN filings f ON f.id = h.filing_id
          WHERE h.entry = 'decided' AND h.at_ms >= $1 AND h.at_ms < $2 LIMIT $3",
    )
    .bind(unix_ms(month.begins()))
    .bind(unix_ms(month.next().begins()))
    .bind(DECISIONS_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list decisions"))?;
    rows.iter()
        .map(|row| {
            let (decided, received) = (row.moment("at_ms")?, row.moment("received_ms")?);
            Ok(Decision {
                kind: row.text("kind")?,
                took: decided - received,
            })
        })
        .collect()
}

/// How often each code was the reason of a return in a month.
pub async fn returns(
    db: &Db,
    _: &Staff,
    month: YearMonth,
) -> Result<Vec<(String, u64)>, StoreError> {
    let rows = sqlx::query(
        "SELECT reason, COUNT(*) AS n FROM history
          WHERE entry = 'returned' AND at_ms >= $1 AND at_ms < $2
          GROUP BY reason ORDER BY reason",
    )
    .bind(unix_ms(month.begins()))
    .bind(unix_ms(month.next().begins()))
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("count returns"))?;
    rows.iter()
        .map(|row| Ok((row.text("reason")?, row.count("n")?)))
        .collect()
}

/// Who has not fetched what was issued in a period, the most first.
pub async fn unread(db: &Db, _: &Staff, period: &Period) -> Result<Vec<Unread>, StoreError> {
    let rows = sqlx::query(
        "SELECT e.number, e.name, x.n, x.oldest_ms FROM (
                SELECT establishment_id, COUNT(*) AS n, MIN(issued_ms) AS oldest_ms FROM notices
                 WHERE first_fetched_ms IS NULL AND recalled_ms IS NULL
                   AND issued_ms >= $1 AND issued_ms < $2
                 GROUP BY establishment_id) x
           JOIN establishments e ON e.id = x.establishment_id
          ORDER BY x.n DESC, x.oldest_ms, e.number LIMIT $3",
    )
    .bind(unix_ms(period.begins()))
    .bind(unix_ms(period.ends()))
    .bind(UNREAD_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("count unread notices"))?;
    rows.iter()
        .map(|row| {
            let number = number_from_row(row.number("number")?)?;
            Ok(Unread {
                establishment: format!("{number} {}", row.text("name")?),
                count: row.count("n")?,
                oldest: row.moment("oldest_ms")?,
            })
        })
        .collect()
}
