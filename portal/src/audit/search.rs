//! Looking through the audit log: by time, actor, act and object, newest first.
//!
//! A row holds ids; whom and what they mean is looked up beside it and may be gone by now.

use sqlx::any::AnyRow;
use time::OffsetDateTime;

use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::ids::RowId;
use crate::web::principals::{Auditor, Staff};

/// Rows of one page.
pub const PAGE_LENGTH: usize = 100;
/// Ids that one word can stand for.
const MEANINGS_LIMIT: i64 = 50;
/// Checks that the page lists.
const CHECKS_LIMIT: i64 = 5;

/// What is looked for; the empty value looks for nothing in particular.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// From this moment on.
    pub from_ms: i64,
    /// Until before this one.
    pub before_ms: i64,
    /// Only rows before this place, by time and number.
    pub older_than: Option<(i64, i64)>,
    /// An actor's kind.
    pub actor_kind: String,
    /// An act's word.
    pub act: String,
    /// Ids of actors; `None`: anybody.
    pub actors: Option<Vec<String>>,
    /// Ids of objects; `None`: anything.
    pub objects: Option<Vec<String>>,
}

/// A row with what its ids mean.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its number.
    pub seq: i64,
    /// When.
    pub at: OffsetDateTime,
    /// What kind of actor.
    pub actor_kind: String,
    /// His name; empty if there is none.
    pub actor: String,
    /// From which PC.
    pub device: String,
    /// The word of the act.
    pub act: String,
    /// What kind of object.
    pub object_kind: String,
    /// Its id, and behind it what else distinguishes the act.
    pub object_id: String,
    /// Its name; empty if it has none.
    pub object: String,
    /// Why.
    pub reason: String,
    /// How, as JSON.
    pub details: String,
}

/// The time at which the log was checked, by whom, how many rows were in order, and the first
/// that was not.
#[derive(Debug, Clone)]
pub struct Check {
    /// When.
    pub at: OffsetDateTime,
    /// By whom.
    pub by: String,
    /// Rows in order.
    pub rows: u64,
    /// The first bad one.
    pub broken: Option<i64>,
}

/// Reads at most `length` rows, newest first.
pub async fn read(
    db: &Db,
    _: &Auditor,
    search: &Search,
    length: usize,
) -> Result<Vec<Line>, StoreError> {
    let (at_ms, seq) = search.older_than.unwrap_or((i64::MAX, i64::MAX));
    let rows = sqlx::query(sqlx::AssertSqlSafe(statement(search)))
        .bind(search.from_ms)
        .bind(search.before_ms)
        .bind(at_ms)
        .bind(seq)
        .bind(i64::try_from(length).unwrap_or(i64::MAX))
        .bind(search.actor_kind.as_str())
        .bind(search.act.as_str())
        .bind(joined(search.actors.as_deref()))
        .bind(joined(search.objects.as_deref()))
        .fetch_all(db.pool())
        .await
        .map_err(StoreError::doing("look through the audit log"))?;
    rows.iter().map(line).collect()
}

/// Ids between commas, to be looked for in one text: an id has no comma.
fn joined(ids: Option<&[String]>) -> String {
    format!(",{},", ids.unwrap_or_default().join(","))
}

/// An object's id is the first part of what stands in the row, or the second: a membership is
/// a user's and an establishment's.
fn statement(search: &Search) -> String {
    let narrowed = |given: bool, condition: &str| match given {
        true => format!(" AND {condition}"),
        false => String::new(),
    };
    let conditions = [
        narrowed(!search.actor_kind.is_empty(), "a.actor_kind = $6"),
        narrowed(!search.act.is_empty(), "a.act = $7"),
        narrowed(
            search.actors.is_some(),
            "a.actor_id <> '' AND $8 LIKE '%,' || a.actor_id || ',%'",
        ),
        narrowed(
            search.objects.is_some(),
            "a.object_id <> '' AND ($9 LIKE '%,' || SUBSTR(a.object_id, 1, 36) || ',%'
               OR (LENGTH(a.object_id) > 36
                   AND $9 LIKE '%,' || SUBSTR(a.object_id, 38, 36) || ',%'))",
        ),
    ]
    .concat();
    format!(
        "SELECT a.seq, a.at_ms, a.actor_kind, a.act, a.object_kind, a.object_id, a.reason, a.details,
                COALESCE(s.name, u.name, '') AS actor, COALESCE(d.name, '') AS device,
                COALESCE(os.name, ou.name, oe.name, f.name, n.title, od.name,
                         b.receipt_number, '') AS object
           FROM (SELECT * FROM audit_log a
                  WHERE a.at_ms >= $1 AND a.at_ms < $2
                    AND (a.at_ms < $3 OR (a.at_ms = $3 AND a.seq < $4)){conditions}
                    AND $6 = $6 AND $7 = $7 AND $8 = $8 AND $9 = $9
                  ORDER BY a.at_ms DESC, a.seq DESC LIMIT $5) a
           LEFT JOIN staff s ON a.actor_kind = 'staff' AND s.id = a.actor_id
           LEFT JOIN users u ON a.actor_kind IN ('member', 'delegate') AND u.id = a.actor_id
           LEFT JOIN devices d ON d.id = a.device_id
           LEFT JOIN staff os ON a.object_kind = 'staff' AND os.id = SUBSTR(a.object_id, 1, 36)
           LEFT JOIN users ou ON a.object_kind IN ('user', 'membership')
                AND ou.id = SUBSTR(a.object_id, 1, 36)
           LEFT JOIN establishments oe ON a.object_kind = 'establishment' AND oe.id = a.object_id
           LEFT JOIN filings f ON a.object_kind = 'filing' AND f.id = a.object_id
           LEFT JOIN notices n ON a.object_kind = 'notice' AND n.id = SUBSTR(a.object_id, 1, 36)
           LEFT JOIN devices od ON a.object_kind = 'device' AND od.id = a.object_id
           LEFT JOIN submissions b ON a.object_kind = 'submission' AND b.id = a.object_id
          ORDER BY a.at_ms DESC, a.seq DESC"
    )
}

fn line(row: &AnyRow) -> Result<Line, StoreError> {
    Ok(Line {
        seq: row.number("seq")?,
        at: row.moment("at_ms")?,
        actor_kind: row.text("actor_kind")?,
        actor: row.text("actor")?,
        device: row.text("device")?,
        act: row.text("act")?,
        object_kind: row.text("object_kind")?,
        object_id: row.text("object_id")?,
        object: row.text("object")?,
        reason: row.text("reason")?,
        details: row.text("details")?,
    })
}

/// The ids of those who have this user ID, or this in their names.
pub async fn actors(db: &Db, _: &Auditor, text: &str) -> Result<Vec<String>, StoreError> {
    ids(
        db,
        "SELECT id FROM staff WHERE user_id = $1 OR name LIKE $2 ESCAPE '!'
         UNION SELECT id FROM users WHERE user_id = $1 OR name LIKE $2 ESCAPE '!' LIMIT $3",
        text,
    )
    .await
}

/// The ids of what has this number, user ID or name: an establishment, a receipt with its
/// filings, a filing, a notice, a user, a PC, somebody of the staff.
pub async fn objects(db: &Db, _: &Auditor, text: &str) -> Result<Vec<String>, StoreError> {
    let mut found = ids(
        db,
        "SELECT id FROM staff WHERE user_id = $1 OR name LIKE $2 ESCAPE '!'
         UNION SELECT id FROM users WHERE user_id = $1 OR name LIKE $2 ESCAPE '!'
         UNION SELECT id FROM submissions WHERE receipt_number = $1
         UNION SELECT f.id FROM filings f JOIN submissions s ON s.id = f.submission_id
                WHERE s.receipt_number = $1
         UNION SELECT id FROM filings WHERE name = $1
         UNION SELECT id FROM notices WHERE number = $1
         UNION SELECT id FROM devices WHERE name = $1
         UNION SELECT id FROM establishments WHERE name LIKE $2 ESCAPE '!' LIMIT $3",
        text,
    )
    .await?;
    if let Ok(number) = text.parse::<protocol::EstablishmentNumber>() {
        let rows = sqlx::query("SELECT id FROM establishments WHERE number = $1")
            .bind(i64::from(number.as_u16()))
            .fetch_all(db.pool())
            .await
            .map_err(StoreError::doing("find an establishment of the audit log"))?;
        for row in &rows {
            found.push(row.text("id")?);
        }
    }
    // What has no name is found by the id that a row shows.
    found.push(text.chars().filter(|c| *c != ',').collect());
    Ok(found)
}

async fn ids(db: &Db, question: &'static str, text: &str) -> Result<Vec<String>, StoreError> {
    sqlx::query(question)
        .bind(text.to_owned())
        .bind(crate::filings::store::pattern(text))
        .bind(MEANINGS_LIMIT)
        .fetch_all(db.pool())
        .await
        .map_err(StoreError::doing("find what a word of the audit log means"))?
        .iter()
        .map(|row| row.text("id"))
        .collect()
}

/// Remembers that the log was checked.
pub async fn remember_check(
    tx: &mut Tx,
    staff: &Staff,
    rows: i64,
    broken: Option<i64>,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO audit_checks (id, at_ms, checked_by, row_count, broken_seq)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(RowId::new().to_string())
    .bind(unix_ms(now))
    .bind(staff.id().to_string())
    .bind(rows)
    .bind(broken)
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("remember a check of the audit log"))
}

/// The latest checks, the last one first.
pub async fn checks(db: &Db, _: &Auditor) -> Result<Vec<Check>, StoreError> {
    let rows = sqlx::query(
        "SELECT c.at_ms, c.row_count, c.broken_seq, s.name FROM audit_checks c
           JOIN staff s ON s.id = c.checked_by ORDER BY c.at_ms DESC, c.id DESC LIMIT $1",
    )
    .bind(CHECKS_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list checks of the audit log"))?;
    rows.iter()
        .map(|row| {
            Ok(Check {
                at: row.moment("at_ms")?,
                by: row.text("name")?,
                rows: row.count("row_count")?,
                broken: row.number_if("broken_seq")?,
            })
        })
        .collect()
}
