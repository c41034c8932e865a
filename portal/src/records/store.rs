//! Looking records up. A member finds his establishment's and no other; what was recalled he
//! never had.

use protocol::EstablishmentNumber;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::Search;
use super::pack::RECORD_LIMIT;
use crate::clock::unix_ms;
use crate::custody::Document;
use crate::db::conditions::{Where, containing};
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
    /// Their documents together, without those that are destroyed; of more than
    /// [`RECORD_LIMIT`] nobody adds it up.
    pub bytes: Option<u64>,
}

/// What of the notices `n` is looked for.
fn narrowed(asker: Asker<'_>, search: &Search) -> Where {
    let mut narrowed = Where::default();
    if search.from.is_some() {
        let begins = narrowed.value(unix_ms(search.begins()));
        narrowed.and(format!("n.issued_ms >= {begins}"));
    }
    if search.until.is_some() {
        let ends = narrowed.value(unix_ms(search.ends()));
        narrowed.and(format!("n.issued_ms < {ends}"));
    }
    if search.least_yen.is_some() || search.most_yen.is_some() {
        let least = narrowed.value(search.least_yen.unwrap_or(0));
        let most = narrowed.value(search.most_yen.unwrap_or(i64::MAX));
        narrowed.and(format!(
            "n.amount_yen >= {least} AND n.amount_yen <= {most}"
        ));
    }
    match asker {
        // A member's only counterparty is the fund: the caller compares its name.
        Asker::Member(member) => {
            let own = narrowed.value(member.establishment().to_string());
            narrowed.and(format!(
                "n.establishment_id = {own} AND n.recalled_ms IS NULL"
            ));
        }
        Asker::Office(_) if search.counterparty.is_empty() => {}
        Asker::Office(_) => {
            let name = narrowed.value(containing(&search.counterparty));
            let number = search.counterparty.parse::<EstablishmentNumber>();
            let number = number.map_or(-1, |number| i64::from(number.as_u16()));
            let number = narrowed.value(number);
            narrowed.and(format!(
                "n.establishment_id IN (SELECT e.id FROM establishments e
                    WHERE e.name LIKE {name} ESCAPE '!' OR e.number = {number})"
            ));
        }
    }
    narrowed
}

/// Returns how much there is. How large it is together is added up for what can become a pack.
pub async fn sums(db: &Db, asker: Asker<'_>, search: &Search) -> Result<Sums, StoreError> {
    let narrowed = narrowed(asker, search);
    let condition = narrowed.sql();
    let records = narrowed
        .bind(format!(
            "SELECT COUNT(*) AS records FROM notices n WHERE {condition}"
        ))
        .fetch_one(db.pool())
        .await
        .map_err(StoreError::doing("count records"))?
        .count("records")?;
    if records > RECORD_LIMIT {
        return Ok(Sums {
            records,
            bytes: None,
        });
    }
    let bytes = narrowed
        .bind(format!(
            "SELECT CAST(COALESCE(SUM(d.size_bytes), 0) AS BIGINT) AS bytes
               FROM notices n JOIN documents d ON d.id = n.document_id
              WHERE d.destroyed_ms IS NULL AND {condition}"
        ))
        .fetch_one(db.pool())
        .await
        .map_err(StoreError::doing("add records up"))?
        .count("bytes")?;
    Ok(Sums {
        records,
        bytes: Some(bytes),
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
    let mut narrowed = narrowed(asker, search);
    let (length, offset) = (narrowed.value(length), narrowed.value(offset));
    let sql = format!(
        "SELECT n.id, n.number, n.establishment_id, n.filing_id, n.document_id, n.title,
                n.issued_ms, n.first_fetched_ms, n.amount_yen, n.recalled_ms, n.kind,
                e.number AS establishment_number, e.name AS establishment_name,
                d.file_name, d.sha256, d.size_bytes, d.pages, d.destroyed_ms,
                c.number AS corrects
           FROM (SELECT n.id FROM notices n WHERE {}
                  ORDER BY n.issued_ms DESC, n.id DESC LIMIT {length} OFFSET {offset}) p
           JOIN notices n ON n.id = p.id
           JOIN establishments e ON e.id = n.establishment_id
           JOIN documents d ON d.id = n.document_id
           LEFT JOIN notices c ON c.id = n.replaces_id
          ORDER BY n.issued_ms DESC, n.id DESC",
        narrowed.sql()
    );
    let rows = narrowed
        .bind(sql)
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
