//! Rows of tasks and of refused addresses.

use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::{MAIL_UNDELIVERED, Outcome};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::ids::{EstablishmentId, TaskId, UserId};
use crate::keys::MasterKey;
use crate::mail::bounces::address_hash;
use crate::web::principals::Reviewer;

/// Tasks that one list shows.
const LIST_LIMIT: i64 = 200;
/// Users of one address whom one refusal is about.
const USERS_LIMIT: i64 = 20;

/// A task with whom it is about.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// The server's status.
    pub status: String,
    /// When it was raised.
    pub raised: OffsetDateTime,
    /// The user.
    pub user: UserId,
    /// The user's name.
    pub name: String,
    /// The user's address now.
    pub address: String,
    /// One of the user's establishments: its id, number and name.
    pub establishment: Option<(EstablishmentId, String)>,
    /// When it was done, by whom, how.
    pub done: Option<(OffsetDateTime, String, Option<Outcome>)>,
}

/// Remembers that an address is refused; the first time counts.
pub(super) async fn refuse_address(
    tx: &mut Tx,
    hash: &str,
    status: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO refused_addresses (address_hash, status, since_ms) VALUES ($1, $2, $3)
         ON CONFLICT (address_hash) DO UPDATE SET status = $2",
    )
    .bind(hash.to_owned())
    .bind(status.to_owned())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("remember a refused address"))
}

pub(super) async fn accept_address(tx: &mut Tx, hash: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM refused_addresses WHERE address_hash = $1")
        .bind(hash.to_owned())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("forget a refused address"))
}

pub(super) async fn is_refused(tx: &mut Tx, hash: &str) -> Result<bool, StoreError> {
    sqlx::query("SELECT 1 AS found FROM refused_addresses WHERE address_hash = $1")
        .bind(hash.to_owned())
        .fetch_optional(&mut **tx)
        .await
        .map(|row| row.is_some())
        .map_err(StoreError::doing("ask whether an address is refused"))
}

/// The status with which mail servers refuse this address, if they do.
pub async fn refusal(
    db: &Db,
    keys: &MasterKey,
    address: &str,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT status FROM refused_addresses WHERE address_hash = $1")
        .bind(address_hash(keys, address))
        .fetch_optional(db.pool())
        .await
        .map_err(StoreError::doing("ask whether mails arrive"))?;
    row.map(|row| row.text("status")).transpose()
}

pub(super) async fn users_with(tx: &mut Tx, address: &str) -> Result<Vec<UserId>, StoreError> {
    sqlx::query(
        "SELECT id FROM users WHERE LOWER(email) = $1 AND disabled_ms IS NULL ORDER BY id LIMIT $2",
    )
    .bind(address.trim().to_lowercase())
    .bind(USERS_LIMIT)
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing("find users of an address"))?
    .iter()
    .map(|row| row.parsed("id"))
    .collect()
}

/// Writes a task, unless the same is open.
pub(super) async fn raise(
    tx: &mut Tx,
    user: UserId,
    status: &str,
    now: OffsetDateTime,
) -> Result<Option<TaskId>, StoreError> {
    let id = TaskId::new();
    sqlx::query(
        "INSERT INTO tasks (id, kind, subject, detail, raised_ms) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    )
    .bind(id.to_string())
    .bind(MAIL_UNDELIVERED)
    .bind(user.to_string())
    .bind(status.to_owned())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(|done| (done.rows_affected() == 1).then_some(id))
    .map_err(StoreError::doing("raise task"))
}

/// Marks a task done; says whether it was open. Of two who do it at once one finds it done.
pub(super) async fn done(
    tx: &mut Tx,
    reviewer: &Reviewer,
    id: TaskId,
    outcome: Outcome,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE tasks SET done_ms = $1, done_by = $2, outcome = $3 WHERE id = $4 AND done_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(reviewer.id().to_string())
    .bind(outcome.code())
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("mark task done"))
}

const TASK: &str = "SELECT t.id, t.detail, t.raised_ms, t.done_ms, t.outcome, u.id AS user_id,
        u.name, u.email, s.name AS done_name, e.id AS establishment_id,
        e.number AS establishment_number, e.name AS establishment_name
   FROM tasks t JOIN users u ON u.id = t.subject
   LEFT JOIN staff s ON s.id = t.done_by
   LEFT JOIN establishments e ON e.id = (
        SELECT MIN(m.establishment_id) FROM memberships m
         WHERE m.user_id = u.id AND m.ended_ms IS NULL)";

/// What is open, the oldest first.
pub async fn open(db: &Db, _: &Reviewer) -> Result<Vec<Task>, StoreError> {
    list(db, "t.done_ms IS NULL ORDER BY t.raised_ms, t.id").await
}

/// What is done, the latest first.
pub async fn done_ones(db: &Db, _: &Reviewer) -> Result<Vec<Task>, StoreError> {
    list(db, "t.done_ms IS NOT NULL ORDER BY t.done_ms DESC, t.id").await
}

async fn list(db: &Db, condition: &'static str) -> Result<Vec<Task>, StoreError> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "{TASK} WHERE {condition} LIMIT {LIST_LIMIT}"
    )))
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list tasks"))?
    .iter()
    .map(read)
    .collect()
}

/// One task, in a transaction.
pub(super) async fn find(
    tx: &mut Tx,
    _: &Reviewer,
    id: TaskId,
) -> Result<Option<Task>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("{TASK} WHERE t.id = $1")))
        .bind(id.to_string())
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::doing("find task"))?;
    row.as_ref().map(read).transpose()
}

fn read(row: &AnyRow) -> Result<Task, StoreError> {
    let establishment: Option<EstablishmentId> = row.parsed_if("establishment_id")?;
    let establishment = match establishment {
        None => None,
        Some(id) => {
            let number = row.number("establishment_number")?;
            let number = crate::establishments::store::number_from_row(number)?;
            Some((id, format!("{number} {}", row.text("establishment_name")?)))
        }
    };
    let done = match row.moment_if("done_ms")? {
        None => None,
        Some(at) => Some((
            at,
            row.text_if("done_name")?.unwrap_or_default(),
            row.text_if("outcome")?
                .and_then(|code| Outcome::from_code(&code)),
        )),
    };
    Ok(Task {
        id: row.parsed("id")?,
        status: row.text("detail")?,
        raised: row.moment("raised_ms")?,
        user: row.parsed("user_id")?,
        name: row.text("name")?,
        address: row.text("email")?,
        establishment,
        done,
    })
}
