//! The same filing sent twice, through the portal and on paper (FEATURES R23): what came on
//! paper has no content to compare, so establishment, kind and date are held against each other
//! and a person decides.

use time::{Date, OffsetDateTime};

use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError};
use crate::deadlines::store::{day_from_text, day_text};
use crate::filings::FilingName;
use crate::filings::words::{Chip, chip};
use crate::ids::{EstablishmentId, FilingId};
use crate::web::dates;
use crate::web::principals::Reviewer;

/// Twins that a page shows.
const LIST_LENGTH: i64 = 5;

/// A filing of the same establishment, kind and date as another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twin {
    /// Its id.
    pub id: FilingId,
    /// Of its submission.
    pub receipt_number: String,
    /// When it was received, or recorded.
    pub received: OffsetDateTime,
    /// The word of its state in the database.
    pub state: String,
    /// The day on which it arrived, if it came on paper.
    pub arrived: Option<Date>,
}

/// Which filings are twins of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// All of that kind and date: of paper that is to be recorded.
    All,
    /// Those that came the other way. Several of one kind on one day through the portal are
    /// several people's, and their content is compared when they are sent.
    OtherWay(FilingId),
}

/// The filings that may be the same as one called `name`, newest first. Returned and withdrawn
/// ones do not count: another takes their place.
pub async fn of(
    db: &Db,
    _: &Reviewer,
    establishment: EstablishmentId,
    name: &FilingName,
    among: Among,
) -> Result<Vec<Twin>, StoreError> {
    let of = match among {
        Among::All => String::new(),
        Among::OtherWay(filing) => filing.to_string(),
    };
    let rows = sqlx::query(
        "SELECT f.id, f.state, f.received_ms, s.receipt_number, p.arrived_on
           FROM filings f
           JOIN submissions s ON s.id = f.submission_id
           LEFT JOIN paper_filings p ON p.filing_id = f.id
          WHERE f.establishment_id = $1 AND f.kind = $2 AND f.filed_on = $3
            AND f.state NOT IN ('returned', 'withdrawn')
            AND ($4 = '' OR (p.filing_id IS NULL) <>
                 NOT EXISTS (SELECT 1 FROM paper_filings q WHERE q.filing_id = $4))
          ORDER BY f.received_ms DESC, f.id DESC LIMIT $5",
    )
    .bind(establishment.to_string())
    .bind(name.kind().code())
    .bind(day_text(name.date()))
    .bind(of)
    .bind(LIST_LENGTH)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing(
        "look for the same filing sent another way",
    ))?;
    rows.iter()
        .map(|row| {
            let arrived = row.text_if("arrived_on")?;
            Ok(Twin {
                id: row.parsed("id")?,
                receipt_number: row.text("receipt_number")?,
                received: row.moment("received_ms")?,
                state: row.text("state")?,
                arrived: arrived.and_then(|day| day_from_text(&day)),
            })
        })
        .collect()
}

/// A twin in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwinLine {
    /// Its page.
    pub path: String,
    /// Its receipt's number.
    pub receipt_number: String,
    /// How and when it came.
    pub came: String,
    /// Its state.
    pub chip: Chip,
}

impl From<Twin> for TwinLine {
    fn from(twin: Twin) -> Self {
        Self {
            path: format!("/filings/{}", twin.id),
            came: match twin.arrived {
                Some(day) => format!("{}に紙で届きました", dates::date(day)),
                None => format!("{}に電子で届きました", dates::moment(twin.received)),
            },
            receipt_number: twin.receipt_number,
            chip: chip(&twin.state),
        }
    }
}
