//! An establishment's list of filings. The office's is `review::desk`.

use access::JST;
use protocol::EstablishmentNumber;
use sqlx::any::AnyRow;
use time::Date;
use unicode_normalization::UnicodeNormalization as _;

use super::{FILING, FilingLine, filing_from_row};
use crate::clock::unix_ms;
use crate::db::conditions::{Where, containing};
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError};
use crate::ids::FilingId;
use crate::web::principals::{Member, Reach};

/// Lines of one page of a list.
pub const PAGE_LENGTH: i64 = 20;
/// Longer search words are cut.
const TEXT_LIMIT_CHARS: usize = 100;

/// What a member looks for in the establishment's history.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// Part of a name or of a receipt's number; empty: any.
    pub text: String,
    /// The word of a state; `None`: any.
    pub state: Option<&'static str>,
    /// First day of receipt, in Japan.
    pub from: Option<Date>,
    /// Last day of receipt, in Japan.
    pub to: Option<Date>,
    /// From 1.
    pub page: u32,
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Its lines.
    pub lines: Vec<FilingLine>,
    /// How many lines all pages have.
    pub total: u64,
    /// Which page this is, from 1.
    pub page: u32,
}

/// The condition that a filing `f` is within a member's [`Reach`], whose three texts are the
/// parameters from `first` on.
pub(super) fn within_reach(first: u8) -> String {
    let (establishment, sender, procedures) = (first, first + 1, first + 2);
    format!(
        "f.establishment_id = ${establishment}
         AND (${sender} = '' OR EXISTS (SELECT 1 FROM submissions own
                                         WHERE own.id = f.submission_id AND own.user_id = ${sender}))
         AND (${procedures} = '' OR EXISTS (SELECT 1 FROM filing_kinds k WHERE k.code = f.kind
                     AND ${procedures} LIKE '%,' || k.procedure_group || ',%'))"
    )
}

pub(crate) const FROM: &str = "filings f
    JOIN submissions s ON s.id = f.submission_id
    JOIN establishments e ON e.id = f.establishment_id
    LEFT JOIN users u ON u.id = s.user_id
    LEFT JOIN staff r ON r.id = f.reviewer_id";

pub(crate) const BESIDE: &str = "s.receipt_number, e.number AS establishment_number, e.name AS establishment_name,
    CASE WHEN s.delegation_id IS NULL THEN COALESCE(u.name, '（郵送）') ELSE u.name || '（' ||
      (SELECT o.name FROM delegations g JOIN establishments o ON o.id = g.delegate_id
        WHERE g.id = s.delegation_id) || '・代理）' END AS sender, r.name AS reviewer,
    (SELECT MIN(n.id) FROM filings n WHERE n.replaces_id = f.id AND n.state <> 'withdrawn') AS replaced_by";

/// Returns one page of the establishment's history, newest first.
pub async fn history(db: &Db, member: &Member, search: &Search) -> Result<Listing, StoreError> {
    let page = search.page.max(1);
    let narrowed = narrowed(member, search);
    let total = narrowed
        .bind(format!(
            "SELECT COUNT(*) AS total FROM filings f WHERE {}",
            narrowed.sql()
        ))
        .fetch_one(db.pool())
        .await
        .map_err(StoreError::doing("count filings"))?
        .count("total")?;
    let offset = (i64::from(page) - 1) * PAGE_LENGTH;
    Ok(Listing {
        lines: newest(db, narrowed, PAGE_LENGTH, offset).await?,
        total,
        page,
    })
}

/// Returns the establishment's newest filings, of one state or any.
pub async fn latest(
    db: &Db,
    member: &Member,
    state: Option<&'static str>,
    length: i64,
) -> Result<Vec<FilingLine>, StoreError> {
    let search = Search {
        state,
        ..Search::default()
    };
    newest(db, narrowed(member, &search), length, 0).await
}

/// What of the establishment's filings `f` is looked for.
fn narrowed(member: &Member, search: &Search) -> Where {
    let reach = member.reach();
    let mut narrowed = Where::default();
    let own = narrowed.value(reach.establishment);
    narrowed.and(format!("f.establishment_id = {own}"));
    if let Some(state) = search.state {
        let state = narrowed.value(state);
        narrowed.and(format!("f.state = {state}"));
    }
    let text = pattern(&search.text);
    if !text.is_empty() {
        let text = narrowed.value(text);
        narrowed.and(format!(
            "(f.name LIKE {text} ESCAPE '!' OR f.submission_id IN
               (SELECT x.id FROM submissions x
                 WHERE x.establishment_id = {own} AND x.receipt_number LIKE {text} ESCAPE '!'))"
        ));
    }
    if let Some(from) = search.from {
        let from = narrowed.value(day_begins_ms(from));
        narrowed.and(format!("f.received_ms >= {from}"));
    }
    if let Some(end) = search.to.and_then(Date::next_day) {
        let end = narrowed.value(day_begins_ms(end));
        narrowed.and(format!("f.received_ms < {end}"));
    }
    if !reach.sender.is_empty() {
        let sender = narrowed.value(reach.sender);
        narrowed.and(format!(
            "f.submission_id IN (SELECT x.id FROM submissions x
                WHERE x.establishment_id = {own} AND x.user_id = {sender})"
        ));
    }
    if !reach.procedures.is_empty() {
        let procedures = narrowed.value(reach.procedures);
        narrowed.and(format!(
            "f.kind IN (SELECT k.code FROM filing_kinds k
                WHERE {procedures} LIKE '%,' || k.procedure_group || ',%')"
        ));
    }
    narrowed
}

/// Some of what is looked for, newest first. What stands beside a filing is looked up for these
/// lines alone.
async fn newest(
    db: &Db,
    mut narrowed: Where,
    length: i64,
    offset: i64,
) -> Result<Vec<FilingLine>, StoreError> {
    let (length, offset) = (narrowed.value(length), narrowed.value(offset));
    let from = FROM.replacen(
        "filings f",
        &format!(
            "(SELECT f.* FROM filings f WHERE {} ORDER BY f.received_ms DESC, f.id DESC
               LIMIT {length} OFFSET {offset}) f",
            narrowed.sql()
        ),
        1,
    );
    narrowed
        .bind(format!(
            "SELECT {FILING}, {BESIDE} FROM {from} ORDER BY f.received_ms DESC, f.id DESC"
        ))
        .fetch_all(db.pool())
        .await
        .map_err(StoreError::doing("list filings"))?
        .iter()
        .map(line_from_row)
        .collect()
}

/// Returns one filing with what its page says beside it, within a member's reach or any.
pub(super) async fn find_line(
    db: &Db,
    id: FilingId,
    reach: Option<Reach>,
) -> Result<Option<FilingLine>, StoreError> {
    let within = match &reach {
        Some(_) => format!(" AND {}", within_reach(2)),
        None => String::new(),
    };
    let mut question = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {FILING}, {BESIDE} FROM {FROM} WHERE f.id = $1{within}"
    )))
    .bind(id.to_string());
    if let Some(reach) = reach {
        question = question
            .bind(reach.establishment)
            .bind(reach.sender)
            .bind(reach.procedures);
    }
    let row = question
        .fetch_optional(db.pool())
        .await
        .map_err(StoreError::doing("find filing with its surroundings"))?;
    row.as_ref().map(line_from_row).transpose()
}

pub(crate) fn line_from_row(row: &AnyRow) -> Result<FilingLine, StoreError> {
    let number = u16::try_from(row.number("establishment_number")?)
        .ok()
        .and_then(|number| EstablishmentNumber::new(number).ok());
    Ok(FilingLine {
        filing: filing_from_row(row)?,
        receipt_number: row.text("receipt_number")?,
        establishment_number: number.ok_or(StoreError::Unreadable {
            what: "establishment_number",
        })?,
        establishment_name: row.text("establishment_name")?,
        sender: row.text("sender")?,
        reviewer: row.text_if("reviewer")?,
        replaced_by: row.parsed_if("replaced_by")?,
    })
}

/// What is looked for in names, as a pattern for LIKE; full-width digits find plain ones, and a
/// file's name the filing.
pub(crate) fn pattern(text: &str) -> String {
    containing(&plain(text))
}

/// What somebody typed, as names are written.
pub(crate) fn plain(text: &str) -> String {
    let mut text: String = text.trim().nfkc().take(TEXT_LIMIT_CHARS).collect();
    let name_bytes = text.len().saturating_sub(".pdf".len());
    let ending = text.get(name_bytes..).unwrap_or_default();
    if ending.eq_ignore_ascii_case(".pdf") {
        text.truncate(name_bytes);
    }
    text
}

fn day_begins_ms(day: Date) -> i64 {
    unix_ms(day.midnight().assume_offset(JST))
}

impl Listing {
    /// How many pages the list has; at least one.
    pub fn pages(&self) -> u32 {
        let pages = self.total.div_ceil(PAGE_LENGTH.unsigned_abs()).max(1);
        u32::try_from(pages).unwrap_or(u32::MAX)
    }
}
