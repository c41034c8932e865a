//! Rows of receipts and of the key that signs them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sqlx::{Any, Executor};
use time::OffsetDateTime;

use super::month::{self, Counts, Month};
use super::{PublicKey, SigningKey, Statement, code_of};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::deadlines;
use crate::ids::SubmissionId;
use crate::keys::{MasterKey, Purpose};
use crate::web::principals::{Member, Staff};

/// The key in use.
const KEY_ID: &str = "receipts-1";

/// A receipt as it was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What was signed.
    pub content: String,
    /// The signature.
    pub signature: Vec<u8>,
    /// The code on paper.
    pub code: String,
    /// The day that it counts as received on.
    pub accepted_on: String,
    /// The month in which it counts.
    pub counts: Month,
}

/// A receipt that somebody asked for by its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// 受付番号.
    pub number: String,
    /// The code on paper.
    pub code: String,
    /// What was signed.
    pub content: String,
    /// Whether the signature fits it.
    pub is_true: bool,
}

/// The fund's key; made when it is asked for first. Of two that make one at once, both get
/// the one that was written.
pub async fn signing_key(
    tx: &mut Tx,
    keys: &MasterKey,
    now: OffsetDateTime,
) -> Result<SigningKey, StoreError> {
    if let Some(key) = find_key(&mut **tx, keys).await? {
        return Ok(key);
    }
    let made = SigningKey::generate();
    let unreadable = |_| StoreError::Unreadable {
        what: "a new key for receipts",
    };
    let public = SigningKey::read(&made).map_err(unreadable)?.public();
    sqlx::query(
        "INSERT INTO receipt_keys (id, public_key, key_sealed, made_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(KEY_ID)
    .bind(public.to_base64())
    .bind(keys.seal(Purpose::ReceiptKey, KEY_ID, &made))
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write the key for receipts"))?;
    find_key(&mut **tx, keys)
        .await?
        .ok_or(StoreError::Unreadable {
            what: "the key for receipts",
        })
}

async fn find_key<'e>(
    db: impl Executor<'e, Database = Any>,
    keys: &MasterKey,
) -> Result<Option<SigningKey>, StoreError> {
    let row = sqlx::query("SELECT key_sealed FROM receipt_keys WHERE id = $1")
        .bind(KEY_ID)
        .fetch_optional(db)
        .await
        .map_err(StoreError::doing("find the key for receipts"))?;
    let Some(row) = row else { return Ok(None) };
    let unreadable = StoreError::Unreadable {
        what: "the key for receipts",
    };
    let sealed = row.text("key_sealed")?;
    let opened = keys.open(Purpose::ReceiptKey, KEY_ID, &sealed);
    opened
        .ok()
        .and_then(|pkcs8| SigningKey::read(&pkcs8).ok())
        .map(Some)
        .ok_or(unreadable)
}

/// The public half of the fund's key.
pub async fn public_key(
    db: &Db,
    keys: &MasterKey,
    now: OffsetDateTime,
) -> Result<PublicKey, StoreError> {
    if let Some(key) = find_key(db.pool(), keys).await? {
        return Ok(key.public());
    }
    let mut tx = db.begin().await?;
    let key = signing_key(&mut tx, keys, now).await?;
    Db::commit(tx).await?;
    Ok(key.public())
}

/// When something counts that is received now, by the fund's calendar.
pub async fn counts_now(tx: &mut Tx, now: OffsetDateTime) -> Result<Counts, StoreError> {
    let (cycle, calendar) = deadlines::store::rules(&mut *tx).await?;
    Ok(month::counts(now, &calendar, &cycle))
}

/// Signs a statement and writes it down. The submission's row is there already.
pub async fn issue(
    tx: &mut Tx,
    keys: &MasterKey,
    submission: SubmissionId,
    statement: &Statement,
    counts: Counts,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let key = signing_key(tx, keys, now).await?;
    let content = statement.canonical();
    let signature = key.sign(content.as_bytes());
    sqlx::query(
        "INSERT INTO receipts (submission_id, key_id, content, signature, code, accepted_on,
                               counts_month)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(submission.to_string())
    .bind(KEY_ID)
    .bind(content)
    .bind(STANDARD.encode(&signature))
    .bind(code_of(&signature))
    .bind(counts.accepted_on.to_string())
    .bind(counts.month.to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write a receipt"))
}

/// The receipt of a submission that the caller has found through its store.
pub async fn of_submission(db: &Db, id: SubmissionId) -> Result<Option<Receipt>, StoreError> {
    let row = sqlx::query(
        "SELECT content, signature, code, accepted_on, counts_month FROM receipts
          WHERE submission_id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find a receipt"))?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Receipt {
        content: row.text("content")?,
        signature: STANDARD
            .decode(row.text("signature")?)
            .map_err(|_| StoreError::Unreadable { what: "signature" })?,
        code: row.text("code")?,
        accepted_on: row.text("accepted_on")?,
        counts: row.parsed("counts_month")?,
    }))
}

/// Whoever may ask for a receipt by its number.
#[derive(Debug, Clone, Copy)]
pub enum Asker<'a> {
    /// A member, for the own establishment's.
    Member(&'a Member),
    /// Staff, for any.
    Staff(&'a Staff),
}

/// The receipt with this number, if the asker may know of it.
pub async fn by_number(
    db: &Db,
    asker: Asker<'_>,
    number: &str,
    key: PublicKey,
) -> Result<Option<Found>, StoreError> {
    let establishment = match asker {
        Asker::Member(member) => member.establishment().to_string(),
        Asker::Staff(_) => String::new(),
    };
    let row = sqlx::query(
        "SELECT s.receipt_number, r.code, r.content, r.signature
           FROM submissions s JOIN receipts r ON r.submission_id = s.id
          WHERE s.receipt_number = $1 AND ($2 = '' OR s.establishment_id = $2)",
    )
    .bind(number.to_owned())
    .bind(establishment)
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find a receipt by its number"))?;
    let Some(row) = row else { return Ok(None) };
    let content = row.text("content")?;
    let signature = STANDARD.decode(row.text("signature")?).unwrap_or_default();
    Ok(Some(Found {
        number: row.text("receipt_number")?,
        code: row.text("code")?,
        is_true: key.has_signed(content.as_bytes(), &signature),
        content,
    }))
}
