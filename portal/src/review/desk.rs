//! What the office looks for among its filings: the queue by deadline, and what is closed.
//!
//! Lists go on from the last line of the page before (no OFFSET), along an index, so that a
//! page costs the same among two hundred filings and among two hundred thousand. How many
//! there are is counted for what is open only. Nothing here decides about a filing.

use protocol::EstablishmentNumber;
use sqlx::AssertSqlSafe;
use time::Date;

use crate::clock::unix_ms;
use crate::db::conditions::{Value, Where};
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError};
use crate::deadlines::store::{day_from_text, day_text};
use crate::filings::kinds::Kind;
use crate::filings::names::establishment_in;
use crate::filings::store::{BESIDE, FILING, FROM, FilingLine, line_from_row, pattern, plain};
use crate::ids::{FilingId, StaffId};
use crate::web::principals::Reviewer;

/// Lines of one page.
pub const PAGE_LENGTH: usize = 20;
/// What "open" is in SQL: the very words of the partial indexes.
const OPEN: &str = "f.state IN ('received', 'in_review')";

/// Which filings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum View {
    /// 未処理: what waits for the office, everybody's.
    #[default]
    Open,
    /// 自分の担当.
    Mine,
    /// 担当なし: nobody has it, or somebody who is gone.
    Unassigned,
    /// 期限切れ: open after the day of decision.
    Late,
    /// 差戻し.
    Returned,
    /// 決定.
    Decided,
    /// 取下げ.
    Withdrawn,
    /// すべて.
    All,
}

/// Where a page of the list begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Begin {
    /// At the top.
    #[default]
    Top,
    /// After this line.
    After(Place),
    /// Before this line.
    Before(Place),
}

/// A line's place in the order: the day of decision or the moment of the last move, and the
/// filing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    key: String,
    id: FilingId,
}

/// What the office looks for.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// Which filings.
    pub view: View,
    /// Only this establishment's.
    pub establishment: Option<EstablishmentNumber>,
    /// Only this kind.
    pub kind: Option<Kind>,
    /// Part of a name, or a receipt's number; empty: any.
    pub text: String,
    /// Where to begin.
    pub from: Begin,
}

/// One line of the list.
#[derive(Debug, Clone)]
pub struct DeskLine {
    /// The filing with what stands beside it.
    pub line: FilingLine,
    /// The office decides it by this day.
    pub due_on: Date,
    /// How it came.
    pub channel: Channel,
    /// Whether its reviewer's account is disabled.
    pub holder_is_gone: bool,
    /// Whether the establishment wants it back.
    pub withdrawal_asked: bool,
}

/// How a filing came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Through the portal.
    Online,
    /// By post.
    Paper,
}

/// One page of the list.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its lines.
    pub lines: Vec<DeskLine>,
    /// Where the page before ends, if there is one.
    pub previous: Option<Place>,
    /// Where the page after begins, if there is one.
    pub next: Option<Place>,
}

/// How many filings each open view has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// 未処理.
    pub open: u64,
    /// 自分の担当.
    pub mine: u64,
    /// 担当なし.
    pub unassigned: u64,
    /// 期限切れ.
    pub late: u64,
}

impl View {
    /// Every view, in the order of the page.
    pub const ALL: [Self; 8] = [
        Self::Open,
        Self::Mine,
        Self::Unassigned,
        Self::Late,
        Self::Returned,
        Self::Decided,
        Self::Withdrawn,
        Self::All,
    ];

    /// The word in addresses.
    pub fn code(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Mine => "mine",
            Self::Unassigned => "unassigned",
            Self::Late => "late",
            Self::Returned => "returned",
            Self::Decided => "decided",
            Self::Withdrawn => "withdrawn",
            Self::All => "all",
        }
    }

    /// The word on the page.
    pub fn label(self) -> &'static str {
        match self {
            Self::Open => "未処理",
            Self::Mine => "自分の担当",
            Self::Unassigned => "担当なし",
            Self::Late => "期限切れ",
            Self::Returned => "差戻し",
            Self::Decided => "決定",
            Self::Withdrawn => "取下げ",
            Self::All => "すべて",
        }
    }

    /// Reads the word of an address; another one is the first view.
    pub fn from_code(code: &str) -> Self {
        let known = Self::ALL.into_iter().find(|view| view.code() == code);
        known.unwrap_or_default()
    }

    /// What is open comes by its deadline, what is closed latest first.
    fn order(self) -> Order {
        match self {
            Self::Open | Self::Mine | Self::Unassigned | Self::Late => Order::Deadline,
            Self::Returned | Self::Decided | Self::Withdrawn | Self::All => Order::LatestFirst,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Deadline,
    LatestFirst,
}

impl Order {
    fn column(self) -> &'static str {
        match self {
            Self::Deadline => "due_on",
            Self::LatestFirst => "changed_ms",
        }
    }

    /// The place of a line.
    fn place(self, line: &DeskLine) -> Place {
        let filing = &line.line.filing;
        Place {
            key: match self {
                Self::Deadline => day_text(line.due_on),
                Self::LatestFirst => unix_ms(filing.changed).to_string(),
            },
            id: filing.id,
        }
    }

    /// The place's key as its column has it.
    fn value(self, place: &Place) -> Value {
        match self {
            Self::Deadline => Value::Text(place.key.clone()),
            Self::LatestFirst => Value::Number(place.key.parse().unwrap_or(i64::MAX)),
        }
    }
}

impl Place {
    /// Reads a place of an address; anything else is no place.
    pub fn from_text(text: &str) -> Option<Self> {
        let (key, id) = text.split_once('~')?;
        let is_known = day_from_text(key).is_some() || key.parse::<i64>().is_ok();
        is_known.then_some(())?;
        Some(Self {
            key: key.to_owned(),
            id: id.parse().ok()?,
        })
    }

    /// For addresses.
    pub fn to_text(&self) -> String {
        format!("{}~{}", self.key, self.id)
    }
}

impl Where {
    fn of(search: &Search, reviewer: StaffId, today: Date) -> Self {
        let mut narrowed = Self::default();
        match search.view {
            View::Open => narrowed.and(OPEN),
            View::Mine => {
                let me = narrowed.value(Value::Text(reviewer.to_string()));
                narrowed.and(format!("{OPEN} AND f.reviewer_id = {me}"));
            }
            View::Unassigned => narrowed.and(format!("{OPEN} AND {UNASSIGNED}")),
            View::Late => {
                let today = narrowed.value(Value::Text(day_text(today)));
                narrowed.and(format!("{OPEN} AND f.due_on < {today}"));
            }
            View::Returned => narrowed.and("f.state = 'returned'"),
            View::Decided => narrowed.and("f.state = 'decided'"),
            View::Withdrawn => narrowed.and("f.state = 'withdrawn'"),
            View::All => {}
        }
        if let Some(number) = search.establishment {
            narrowed.of_establishment(number);
        }
        if let Some(kind) = search.kind {
            let kind = narrowed.value(Value::Text(kind.code().to_owned()));
            narrowed.and(format!("f.kind = {kind}"));
        }
        let text = pattern(&search.text);
        if let Some(number) = establishment_in(&plain(&search.text)) {
            // Along the index of one establishment: the name need not be looked for in all.
            narrowed.of_establishment(number);
        }
        if !text.is_empty() {
            let like = narrowed.value(Value::Text(text.clone()));
            let whole = text.trim_matches('%');
            let could_be_a_receipt = whole.bytes().all(|b| b.is_ascii_digit() || b == b'-');
            let by_name = format!("f.name LIKE {like} ESCAPE '!'");
            let condition = match could_be_a_receipt {
                true => {
                    let receipt = narrowed.value(Value::Text(whole.to_owned()));
                    format!(
                        "({by_name} OR f.submission_id IN
                          (SELECT x.id FROM submissions x WHERE x.receipt_number = {receipt}))"
                    )
                }
                false => by_name,
            };
            narrowed.and(condition);
        }
        narrowed
    }
}

impl Where {
    fn of_establishment(&mut self, number: EstablishmentNumber) {
        let number = self.value(Value::Number(number.as_u16().into()));
        self.and(format!(
            "f.establishment_id = (SELECT x.id FROM establishments x WHERE x.number = {number})"
        ));
    }
}

/// Nobody has it, or somebody whose account is disabled: both can be taken.
const UNASSIGNED: &str = "(f.state = 'received' OR f.reviewer_id IN
    (SELECT x.id FROM staff x WHERE x.disabled_ms IS NOT NULL))";

/// The statement of a page, with its values.
fn statement(search: &Search, reviewer: StaffId, today: Date) -> (String, Where) {
    let order = search.view.order();
    let column = order.column();
    let mut narrowed = Where::of(search, reviewer, today);
    let backwards = matches!(search.from, Begin::Before(_));
    let rising = (order == Order::Deadline) != backwards;
    let direction = if rising { "ASC" } else { "DESC" };
    if let Begin::After(place) | Begin::Before(place) = &search.from {
        let sign = if rising { ">" } else { "<" };
        let key = narrowed.value(order.value(place));
        let id = narrowed.value(Value::Text(place.id.to_string()));
        narrowed.and(format!("(f.{column}, f.id) {sign} ({key}, {id})"));
    }
    let conditions = narrowed.sql();
    // One line more than the page shows says whether there is another page. The lines are found
    // first: a name is looked for in an index, and not in two hundred thousand rows.
    let limit = PAGE_LENGTH + 1;
    let from = FROM.replacen(
        "filings f",
        &format!(
            "(SELECT f.* FROM filings f WHERE f.id IN
               (SELECT f.id FROM filings f WHERE {conditions}
                 ORDER BY f.{column} {direction}, f.id {direction} LIMIT {limit})) f"
        ),
        1,
    );
    let sql = format!(
        "SELECT {FILING}, {BESIDE}, f.due_on, p.code AS paper_code, r.disabled_ms AS holder_gone_ms,
                w.asked_ms AS withdrawal_asked_ms
           FROM {from}
           LEFT JOIN paper_filings p ON p.filing_id = f.id
           LEFT JOIN withdrawal_requests w ON w.filing_id = f.id AND w.answered_ms IS NULL
          ORDER BY f.{column} {direction}, f.id {direction}"
    );
    (sql, narrowed)
}

/// One page of the list.
pub async fn list(
    db: &Db,
    reviewer: &Reviewer,
    search: &Search,
    today: Date,
) -> Result<Page, StoreError> {
    let (sql, narrowed) = statement(search, reviewer.id(), today);
    let rows = narrowed
        .bind(sql)
        .fetch_all(db.pool())
        .await
        .map_err(StoreError::doing("list filings for the office"))?;
    let mut lines = rows
        .iter()
        .map(desk_line_from_row)
        .collect::<Result<Vec<_>, _>>()?;
    let goes_on = lines.len() > PAGE_LENGTH;
    lines.truncate(PAGE_LENGTH);
    let backwards = matches!(search.from, Begin::Before(_));
    if backwards {
        lines.reverse();
    }
    let order = search.view.order();
    let (before, after) = match &search.from {
        Begin::Top => (false, goes_on),
        Begin::After(_) => (true, goes_on),
        Begin::Before(_) => (goes_on, true),
    };
    let place = |line: Option<&DeskLine>| line.map(|line| order.place(line));
    Ok(Page {
        previous: place(lines.first()).filter(|_| before),
        next: place(lines.last()).filter(|_| after),
        lines,
    })
}

fn desk_line_from_row(row: &sqlx::any::AnyRow) -> Result<DeskLine, StoreError> {
    let due_on = day_from_text(&row.text("due_on")?);
    Ok(DeskLine {
        line: line_from_row(row)?,
        due_on: due_on.ok_or(StoreError::Unreadable { what: "due_on" })?,
        channel: match row.text_if("paper_code")? {
            Some(_) => Channel::Paper,
            None => Channel::Online,
        },
        holder_is_gone: row.number_if("holder_gone_ms")?.is_some(),
        withdrawal_asked: row.number_if("withdrawal_asked_ms")?.is_some(),
    })
}

/// How many filings the open views have.
pub async fn counts(db: &Db, reviewer: &Reviewer, today: Date) -> Result<Counts, StoreError> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "SELECT COUNT(*) AS total,
                COALESCE(SUM(CASE WHEN f.reviewer_id = $1 THEN 1 ELSE 0 END), 0) AS mine,
                COALESCE(SUM(CASE WHEN {UNASSIGNED} THEN 1 ELSE 0 END), 0) AS unassigned,
                COALESCE(SUM(CASE WHEN f.due_on < $2 THEN 1 ELSE 0 END), 0) AS late
           FROM filings f WHERE {OPEN}"
    )))
    .bind(reviewer.id().to_string())
    .bind(day_text(today))
    .fetch_one(db.pool())
    .await
    .map_err(StoreError::doing("count open filings"))?;
    Ok(Counts {
        open: row.count("total")?,
        mine: row.count("mine")?,
        unassigned: row.count("unassigned")?,
        late: row.count("late")?,
    })
}

/// The day until which one filing is decided.
pub async fn due_on(db: &Db, _: &Reviewer, filing: FilingId) -> Result<Option<Date>, StoreError> {
    let row = sqlx::query("SELECT due_on FROM filings WHERE id = $1")
        .bind(filing.to_string())
        .fetch_optional(db.pool())
        .await
        .map_err(StoreError::doing("read a day of decision"))?;
    Ok(row
        .map(|row| row.text("due_on"))
        .transpose()?
        .and_then(|day| day_from_text(&day)))
}

#[cfg(test)]
mod tests;
