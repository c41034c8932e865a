//! Lists of filings: an establishment's history, and the office's queue.

use access::JST;
use protocol::EstablishmentNumber;
use sqlx::any::AnyRow;
use time::Date;
use unicode_normalization::UnicodeNormalization as _;

use super::{FILING, FilingLine, filing_from_row};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError};
use crate::filings::State;
use crate::ids::{FilingId, StaffId};
use crate::web::principals::{Member, Reach, Reviewer};

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

/// What the office looks for.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    /// Which states.
    pub states: Vec<&'static str>,
    /// Only the cases of this reviewer.
    pub reviewer: Option<StaffId>,
    /// Only this establishment.
    pub establishment: Option<EstablishmentNumber>,
    /// Part of a name or of a receipt's number; empty: any.
    pub text: String,
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

/// What every list can be narrowed by; the empty value narrows nothing.
struct Filter {
    establishment_id: String,
    establishment_number: i64,
    states: String,
    reviewer: String,
    text: String,
    from_ms: i64,
    before_ms: i64,
    sender: String,
    kinds: String,
}

/// Written once for both lists: conditions that are empty let everything through.
const WHERE: &str = "($1 = '' OR f.establishment_id = $1)
    AND ($2 = 0 OR e.number = $2)
    AND ($3 = '' OR $3 LIKE '%,' || f.state || ',%')
    AND ($4 = '' OR f.reviewer_id = $4)
    AND ($5 = '' OR f.name LIKE $5 ESCAPE '!' OR s.receipt_number LIKE $5 ESCAPE '!')
    AND f.received_ms >= $6 AND f.received_ms < $7
    AND ($8 = '' OR s.user_id = $8)
    AND ($9 = '' OR $9 LIKE '%,' || f.kind || ',%')";

/// The condition that a filing `f` is within a member's [`Reach`], whose three texts are the
/// parameters from `first` on.
pub(super) fn within_reach(first: u8) -> String {
    let (establishment, sender, kinds) = (first, first + 1, first + 2);
    format!(
        "f.establishment_id = ${establishment}
         AND (${sender} = '' OR EXISTS (SELECT 1 FROM submissions own
                                         WHERE own.id = f.submission_id AND own.user_id = ${sender}))
         AND (${kinds} = '' OR ${kinds} LIKE '%,' || f.kind || ',%')"
    )
}

const FROM: &str = "filings f
    JOIN submissions s ON s.id = f.submission_id
    JOIN establishments e ON e.id = f.establishment_id
    JOIN users u ON u.id = s.user_id
    LEFT JOIN staff r ON r.id = f.reviewer_id";

const BESIDE: &str = "s.receipt_number, e.number AS establishment_number, e.name AS establishment_name,
    u.name AS sender, r.name AS reviewer,
    (SELECT MIN(n.id) FROM filings n WHERE n.replaces_id = f.id AND n.state <> 'withdrawn') AS replaced_by";

/// Returns one page of the establishment's history, newest first.
pub async fn history(db: &Db, member: &Member, search: &Search) -> Result<Listing, StoreError> {
    let reach = member.reach();
    let filter = Filter {
        establishment_id: reach.establishment,
        establishment_number: 0,
        states: search
            .state
            .map(|state| format!(",{state},"))
            .unwrap_or_default(),
        reviewer: String::new(),
        text: pattern(&search.text),
        from_ms: search.from.map_or(0, day_begins_ms),
        before_ms: search
            .to
            .and_then(Date::next_day)
            .map_or(i64::MAX, day_begins_ms),
        sender: reach.sender,
        kinds: reach.kinds,
    };
    list(db, &filter, search.page, "f.received_ms DESC, f.id DESC").await
}

/// Returns one page of the office's list. What is open comes oldest first, for it waits; what
/// is closed newest first.
pub async fn queue(db: &Db, _: &Reviewer, queue: &Queue) -> Result<Listing, StoreError> {
    let open = |state: &&str| ["received", "in_review"].contains(state);
    let order = if queue.states.iter().all(open) && !queue.states.is_empty() {
        "f.received_ms, f.id"
    } else {
        "f.changed_ms DESC, f.id DESC"
    };
    let filter = Filter {
        establishment_id: String::new(),
        establishment_number: queue
            .establishment
            .map_or(0, |number| i64::from(number.as_u16())),
        states: match queue.states.as_slice() {
            [] => String::new(),
            states => format!(",{},", states.join(",")),
        },
        reviewer: queue.reviewer.map(|id| id.to_string()).unwrap_or_default(),
        text: pattern(&queue.text),
        from_ms: 0,
        before_ms: i64::MAX,
        sender: String::new(),
        kinds: String::new(),
    };
    list(db, &filter, queue.page, order).await
}

async fn list(
    db: &Db,
    filter: &Filter,
    page: u32,
    order: &'static str,
) -> Result<Listing, StoreError> {
    let page = page.max(1);
    macro_rules! narrowed {
        ($sql:expr) => {
            sqlx::query(sqlx::AssertSqlSafe($sql))
                .bind(filter.establishment_id.as_str())
                .bind(filter.establishment_number)
                .bind(filter.states.as_str())
                .bind(filter.reviewer.as_str())
                .bind(filter.text.as_str())
                .bind(filter.from_ms)
                .bind(filter.before_ms)
                .bind(filter.sender.as_str())
                .bind(filter.kinds.as_str())
        };
    }
    let total = narrowed!(format!(
        "SELECT COUNT(*) AS total FROM {FROM} WHERE {WHERE}"
    ))
    .fetch_one(db.pool())
    .await
    .map_err(StoreError::doing("count filings"))?
    .count("total")?;
    let rows = narrowed!(format!(
        "SELECT {FILING}, {BESIDE} FROM {FROM} WHERE {WHERE} ORDER BY {order} LIMIT $10 OFFSET $11"
    ))
    .bind(PAGE_LENGTH)
    .bind((i64::from(page) - 1) * PAGE_LENGTH)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list filings"))?;
    Ok(Listing {
        lines: rows.iter().map(line_from_row).collect::<Result<_, _>>()?,
        total,
        page,
    })
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
            .bind(reach.kinds);
    }
    let row = question
        .fetch_optional(db.pool())
        .await
        .map_err(StoreError::doing("find filing with its surroundings"))?;
    row.as_ref().map(line_from_row).transpose()
}

fn line_from_row(row: &AnyRow) -> Result<FilingLine, StoreError> {
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

/// `%text%` for LIKE, with its own signs taken literally; full-width digits find plain ones.
fn pattern(text: &str) -> String {
    let text: String = text.trim().nfkc().take(TEXT_LIMIT_CHARS).collect();
    if text.is_empty() {
        return text;
    }
    let literal = text
        .replace('!', "!!")
        .replace('%', "!%")
        .replace('_', "!_");
    format!("%{literal}%")
}

fn day_begins_ms(day: Date) -> i64 {
    unix_ms(day.midnight().assume_offset(JST))
}

impl Queue {
    /// What waits for the office, everybody's.
    pub fn open() -> Self {
        Self {
            states: vec![State::CODES[0], State::CODES[1]],
            ..Self::default()
        }
    }
}

impl Listing {
    /// How many pages the list has; at least one.
    pub fn pages(&self) -> u32 {
        let pages = self.total.div_ceil(PAGE_LENGTH.unsigned_abs()).max(1);
        u32::try_from(pages).unwrap_or(u32::MAX)
    }
}
