//! Rows of inquiries. A member finds only what he or, for an admin, the establishment asked.

use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::{MESSAGES_LIMIT, State, Subject};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::establishments::Role;
use crate::filings::store::ActorSide;
use crate::ids::{InquiryId, RowId, UserId};
use crate::keys::{MasterKey, Purpose};
use crate::web::principals::{Member, Reviewer};

/// Threads that one list shows.
pub const LIST_LIMIT: i64 = 200;

const COLUMNS: &str = "i.id, i.subject, i.state, i.opened_ms, i.changed_ms, i.user_id,
    u.name AS asker, e.number AS establishment_number, e.name AS establishment_name";
const FROM: &str = "inquiries i JOIN users u ON u.id = i.user_id
    JOIN establishments e ON e.id = i.establishment_id";

/// A thread without its messages.
#[derive(Debug, Clone)]
pub struct Inquiry {
    /// Its id.
    pub id: InquiryId,
    /// What it is about.
    pub subject: Subject,
    /// Where it stands.
    pub state: State,
    /// When it began.
    pub opened: OffsetDateTime,
    /// When something was written last.
    pub changed: OffsetDateTime,
    /// Who began it.
    pub user: UserId,
    /// The same by name.
    pub asker: String,
    /// For which establishment: its number.
    pub establishment_number: protocol::EstablishmentNumber,
    /// Its name.
    pub establishment_name: String,
}

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    /// When.
    pub at: OffsetDateTime,
    /// On whose side.
    pub side: ActorSide,
    /// Who.
    pub person: String,
    /// What; `None` if it cannot be unsealed.
    pub text: Option<String>,
}

/// Begins a thread. The first message is written with [`write`].
pub async fn open(
    tx: &mut Tx,
    member: &Member,
    id: InquiryId,
    subject: Subject,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO inquiries (id, establishment_id, user_id, subject, state, opened_ms, changed_ms)
         VALUES ($1, $2, $3, $4, 'waiting', $5, $5)",
    )
    .bind(id.to_string())
    .bind(member.establishment().to_string())
    .bind(member.user().to_string())
    .bind(subject.code())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("open inquiry"))
}

/// How many threads of the member's establishment are not over.
pub async fn open_ones(tx: &mut Tx, member: &Member) -> Result<u64, StoreError> {
    sqlx::query(
        "SELECT COUNT(*) AS n FROM inquiries WHERE establishment_id = $1 AND state <> 'closed'",
    )
    .bind(member.establishment().to_string())
    .fetch_one(&mut **tx)
    .await
    .map_err(StoreError::doing("count open inquiries"))?
    .count("n")
}

/// Adds a message to a thread that is not over, and says whether there was room. The thread's
/// row is locked first: of two who write and close at once one comes after the other.
pub async fn write(
    tx: &mut Tx,
    keys: &MasterKey,
    id: InquiryId,
    side: ActorSide,
    person: &str,
    text: &str,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let state = match side {
        ActorSide::Member => State::Waiting,
        ActorSide::Staff => State::Answered,
    };
    let moved = sqlx::query(
        "UPDATE inquiries SET state = $1, changed_ms = $2 WHERE id = $3 AND state <> 'closed'",
    )
    .bind(state.code())
    .bind(unix_ms(now))
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("move inquiry"))?
    .rows_affected();
    let messages = sqlx::query("SELECT COUNT(*) AS n FROM inquiry_messages WHERE inquiry_id = $1")
        .bind(id.to_string())
        .fetch_one(&mut **tx)
        .await
        .map_err(StoreError::doing("count messages"))?
        .count("n")?;
    if moved != 1 || messages >= MESSAGES_LIMIT {
        return Ok(false);
    }
    let row = RowId::new();
    sqlx::query(
        "INSERT INTO inquiry_messages (id, inquiry_id, at_ms, side, person, text_sealed)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(row.to_string())
    .bind(id.to_string())
    .bind(unix_ms(now))
    .bind(side.code())
    .bind(person.to_owned())
    .bind(keys.seal(Purpose::Inquiry, &place(row), text.as_bytes()))
    .execute(&mut **tx)
    .await
    .map(|_| true)
    .map_err(StoreError::doing("write message"))
}

/// Ends a thread; says whether it was open.
pub async fn close(
    tx: &mut Tx,
    _: &Reviewer,
    id: InquiryId,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE inquiries SET state = 'closed', changed_ms = $1 WHERE id = $2 AND state <> 'closed'",
    )
    .bind(unix_ms(now))
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("close inquiry"))
}

/// The threads that the member may see, the latest first.
pub async fn own(db: &Db, member: &Member) -> Result<Vec<Inquiry>, StoreError> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM {FROM}
          WHERE i.establishment_id = $1 AND (i.user_id = $2 OR $3 = 1)
          ORDER BY i.changed_ms DESC LIMIT {LIST_LIMIT}"
    )))
    .bind(member.establishment().to_string())
    .bind(member.user().to_string())
    .bind(sees_all(member))
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list own inquiries"))?
    .iter()
    .map(read)
    .collect()
}

/// One thread, if the member may see it.
pub async fn find_own(
    db: &Db,
    member: &Member,
    id: InquiryId,
) -> Result<Option<Inquiry>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM {FROM}
          WHERE i.establishment_id = $1 AND (i.user_id = $2 OR $3 = 1) AND i.id = $4"
    )))
    .bind(member.establishment().to_string())
    .bind(member.user().to_string())
    .bind(sees_all(member))
    .bind(id.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find own inquiry"))?;
    row.as_ref().map(read).transpose()
}

/// The office's list: what waits first, the longest waiting on top; then the latest.
pub async fn list(db: &Db, _: &Reviewer, only_open: bool) -> Result<Vec<Inquiry>, StoreError> {
    let (state, order) = match only_open {
        true => ("i.state = 'waiting'", "i.changed_ms"),
        false => ("i.state <> 'x'", "i.changed_ms DESC"),
    };
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM {FROM} WHERE {state} ORDER BY {order} LIMIT {LIST_LIMIT}"
    )))
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list inquiries"))?
    .iter()
    .map(read)
    .collect()
}

/// How many threads wait for the office.
pub async fn waiting(db: &Db) -> Result<u64, StoreError> {
    sqlx::query("SELECT COUNT(*) AS n FROM inquiries WHERE state = 'waiting'")
        .fetch_one(db.pool())
        .await
        .map_err(StoreError::doing("count waiting inquiries"))?
        .count("n")
}

/// One thread for the office.
pub async fn find(db: &Db, _: &Reviewer, id: InquiryId) -> Result<Option<Inquiry>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM {FROM} WHERE i.id = $1"
    )))
    .bind(id.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find inquiry"))?;
    row.as_ref().map(read).transpose()
}

/// Where the answer to a thread is announced, if its asker is a member still.
pub async fn asker_address(tx: &mut Tx, inquiry: &Inquiry) -> Result<Option<String>, StoreError> {
    let row = sqlx::query(
        "SELECT u.email FROM inquiries i
           JOIN users u ON u.id = i.user_id
           JOIN memberships m ON m.user_id = u.id AND m.establishment_id = i.establishment_id
          WHERE i.id = $1 AND m.ended_ms IS NULL AND u.disabled_ms IS NULL",
    )
    .bind(inquiry.id.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("find whom to tell of an answer"))?;
    row.map(|row| row.text("email")).transpose()
}

/// The messages of a thread that the caller has found, oldest first.
pub async fn messages(
    db: &Db,
    keys: &MasterKey,
    inquiry: &Inquiry,
) -> Result<Vec<Message>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, at_ms, side, person, text_sealed FROM inquiry_messages
          WHERE inquiry_id = $1 ORDER BY at_ms, id",
    )
    .bind(inquiry.id.to_string())
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("read messages"))?;
    rows.iter()
        .map(|row| {
            let id: RowId = row.parsed("id")?;
            let opened = keys.open(Purpose::Inquiry, &place(id), &row.text("text_sealed")?);
            let text = opened.ok();
            Ok(Message {
                at: row.moment("at_ms")?,
                side: ActorSide::from_code(&row.text("side")?)
                    .ok_or(StoreError::Unreadable { what: "side" })?,
                person: row.text("person")?,
                text: text.and_then(|text| String::from_utf8(text.to_vec()).ok()),
            })
        })
        .collect()
}

fn sees_all(member: &Member) -> i64 {
    match member.role() {
        Role::Admin => 1,
        Role::Added => 0,
    }
}

fn place(id: RowId) -> String {
    format!("inquiry_messages/{id}")
}

fn read(row: &AnyRow) -> Result<Inquiry, StoreError> {
    Ok(Inquiry {
        id: row.parsed("id")?,
        subject: Subject::from_code(&row.text("subject")?)
            .ok_or(StoreError::Unreadable { what: "subject" })?,
        state: State::from_code(&row.text("state")?)
            .ok_or(StoreError::Unreadable { what: "state" })?,
        opened: row.moment("opened_ms")?,
        changed: row.moment("changed_ms")?,
        user: row.parsed("user_id")?,
        asker: row.text("asker")?,
        establishment_number: crate::establishments::store::number_from_row(
            row.number("establishment_number")?,
        )?,
        establishment_name: row.text("establishment_name")?,
    })
}
