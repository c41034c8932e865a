//! Looking records up. A member finds his establishment's and no other; what was recalled he
//! never had.

use protocol::EstablishmentNumber;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::Search;
use crate::clock::unix_ms;
use crate::custody::Document;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError};
use crate::establishments::store::number_from_row;
use crate::ids::NoticeId;
use crate::notices::{Kind, Notice};
use crate::web::principals::{Member, Reviewer};

/// Lines of one page.
pub const PAGE_LENGTH: i64 = 20;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub enum Asker<'a> {
    /// An establishment's user.
    Member(&'a Member),
    /// Fund staff.
    Office(&'a Reviewer),
}

/// A record.
#[derive(Debug, Clone)]
pub struct Record {
    /// The notice.
    pub notice: Notice,
    /// What kind.
    pub kind: Kind,
    /// Whose.
    pub establishment_number: EstablishmentNumber,
    /// Whose.
    pub establishment_name: String,
    /// Its document. The row stays when the document is destroyed.
    pub document: Document,
    /// When the document was destroyed.
    pub destroyed: Option<OffsetDateTime>,
    /// The number of the notice that this one corrects.
    pub corrects: Option<String>,
}

/// Sums over everything that was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Records.
    pub records: u64,
    /// Their documents together, without those that are destroyed.
    pub bytes: u64,
}

const FROM: &str = "notices n
      JOIN establishments e ON e.id = n.establishment_id
      JOIN documents d ON d.id = n.document_id
      LEFT JOIN notices c ON c.id = n.replaces_id
     WHERE n.issued_ms >= $1 AND n.issued_ms < $2
       AND ($3 = 0 OR (n.amount_yen >= $4 AND n.amount_yen <= $5))
       AND ($6 = '' OR (n.establishment_id = $6 AND n.recalled_ms IS NULL))
       AND ($7 = '' OR e.name LIKE $7 ESCAPE '!' OR e.number = $8)";

/// Binds the conditions of [`FROM`].
macro_rules! bound {
    ($sql:expr, $asker:expr, $search:expr) => {{
        let search: &Search = $search;
        let amounts = search.least_yen.is_some() || search.most_yen.is_some();
        let (own, pattern) = match $asker {
            // A member's only counterparty is the fund: the caller compares its name.
            Asker::Member(member) => (member.establishment().to_string(), String::new()),
            Asker::Office(_) => (String::new(), pattern(&search.counterparty)),
        };
        let number = search.counterparty.parse::<EstablishmentNumber>();
        sqlx::query(sqlx::AssertSqlSafe($sql))
            .bind(unix_ms(search.begins()))
            .bind(unix_ms(search.ends()))
            .bind(i64::from(amounts))
            .bind(search.least_yen.unwrap_or(0))
            .bind(search.most_yen.unwrap_or(i64::MAX))
            .bind(own)
            .bind(pattern)
            .bind(number.map_or(-1, |number| i64::from(number.as_u16())))
    }};
}

/// `%text%` in which the text stands for itself.
fn pattern(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// Returns how much there is.
pub async fn sums(db: &Db, asker: Asker<'_>, search: &Search) -> Result<Sums, StoreError> {
    let sql = format!(
        "SELECT COUNT(*) AS records,
                CAST(COALESCE(SUM(CASE WHEN d.destroyed_ms IS NULL THEN d.size_bytes END), 0)
                     AS BIGINT) AS bytes
           FROM {FROM}"
    );
    let row = bound!(sql, asker, search)
        .fetch_one(db.pool())
        .await
        .map_err(StoreError::doing("count records"))?;
    Ok(Sums {
        records: row.count("records")?,
        bytes: row.count("bytes")?,
    })
}

/// Returns some of the records, newest first.
pub async fn list(
    db: &Db,
    asker: Asker<'_>,
    search: &Search,
    length: i64,
    offset: i64,
) -> Result<Vec<Record>, StoreError> {
    let sql = format!(
        "SELECT n.id, n.number, n.establishment_id, n.filing_id, n.document_id, n.title,
                n.issued_ms, n.first_fetched_ms, n.amount_yen, n.recalled_ms, n.kind,
                e.number AS establishment_number, e.name AS establishment_name,
                d.file_name, d.sha256, d.size_bytes, d.pages, d.destroyed_ms,
                c.number AS corrects
           FROM {FROM} ORDER BY n.issued_ms DESC, n.id DESC LIMIT $9 OFFSET $10"
    );
    let rows = bound!(sql, asker, search)
        .bind(length)
        .bind(offset)
        .fetch_all(db.pool())
        .await
        .map_err(StoreError::doing("list records"))?;
    rows.iter().map(record_from_row).collect()
}

fn record_from_row(row: &AnyRow) -> Result<Record, StoreError> {
    let establishment = row.parsed("establishment_id")?;
    Ok(Record {
        notice: Notice {
            id: row.parsed::<NoticeId>("id")?,
            number: row.text("number")?,
            establishment,
            filing: row.parsed_if("filing_id")?,
            document: row.parsed("document_id")?,
            title: row.text("title")?,
            issued: row.moment("issued_ms")?,
            first_fetched: row.moment_if("first_fetched_ms")?,
            amount_yen: row.number_if("amount_yen")?,
            recalled: row.moment_if("recalled_ms")?,
        },
        kind: Kind::from_code(&row.text("kind")?).ok_or(StoreError::Unreadable { what: "kind" })?,
        establishment_number: number_from_row(row.number("establishment_number")?)?,
        establishment_name: row.text("establishment_name")?,
        document: Document {
            id: row.parsed("document_id")?,
            establishment,
            file_name: row.text("file_name")?,
            sha256: row.text("sha256")?,
            size_bytes: row.count("size_bytes")?,
            pages: row.count("pages")?,
        },
        destroyed: row.moment_if("destroyed_ms")?,
        corrects: row.text_if("corrects")?,
    })
}
