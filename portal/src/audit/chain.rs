//! The chain of the log's rows, and the search for its first bad one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::db::{Db, StoreError};
use crate::keys::{MasterKey, Purpose};

/// Rows that [`verify`] reads at a time.
const VERIFY_BATCH: i64 = 1_000;

/// The first row that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A row was changed, or does not follow the one before it.
    #[error("audit row {seq} was changed, or rows before it were removed or reordered")]
    Row {
        /// Its number.
        seq: i64,
    },
    /// Rows at the end are missing, or the recorded end was changed.
    #[error("audit rows after {last} are missing: the log should end with {expected}")]
    Cut {
        /// The last row there is.
        last: i64,
        /// The last row there should be.
        expected: i64,
    },
}

/// Why verification could not answer, or what it found.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log is not as it was written.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A row without its chain value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainedRow {
    /// Its number, from 1.
    pub seq: i64,
    /// When it was written.
    pub at_ms: i64,
    /// Actor kind and id, device, session, act, object kind and id, reason, details.
    pub texts: [String; 9],
}

/// Makes chain values. Who does not have it can neither add nor change a row unnoticed.
#[derive(Debug)]
pub struct ChainKey(Hmac<Sha256>);

impl ChainKey {
    /// The key of a portal with this master key.
    pub fn of(key: &MasterKey) -> Self {
        let key = key.derive(Purpose::AuditChain, b"hash");
        let mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&*key);
        Self(mac.expect("HMAC takes a key of any length"))
    }

    /// HMAC over the chain value before and every column, each with its length: no two rows
    /// write the same bytes.
    pub fn chain(&self, row: &ChainedRow, before: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(&row.seq.to_be_bytes());
        mac.update(&row.at_ms.to_be_bytes());
        for text in std::iter::once(before).chain(row.texts.iter().map(String::as_str)) {
            mac.update(&(text.len() as u64).to_be_bytes());
            mac.update(text.as_bytes());
        }
        STANDARD.encode(mac.finalize().into_bytes())
    }
}

/// Reads the whole log and returns how many rows it has, or the first bad one.
pub async fn verify(db: &Db, key: &MasterKey) -> Result<i64, VerifyError> {
    let key = ChainKey::of(key);
    let mut before = String::new();
    let mut last = 0;
    loop {
        let rows = sqlx::query(
            "SELECT seq, at_ms, actor_kind, actor_id, device_id, session_id, act, object_kind, object_id,
                    reason, details, chain
               FROM audit_log WHERE seq > $1 ORDER BY seq LIMIT $2",
        )
        .bind(last)
        .bind(VERIFY_BATCH)
        .fetch_all(db.pool())
        .await
        .map_err(StoreError::doing("read audit rows"))?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let (row, chain) =
                ChainedRow::read(row).map_err(StoreError::doing("read audit row"))?;
            if row.seq != last + 1 || key.chain(&row, &before) != chain {
                return Err(Broken::Row { seq: row.seq }.into());
            }
            (before, last) = (chain, row.seq);
        }
    }
    let head = sqlx::query("SELECT seq, chain FROM audit_head WHERE id = 1")
        .fetch_one(db.pool())
        .await
        .map_err(StoreError::doing("read audit head"))?;
    let expected: i64 = head
        .try_get("seq")
        .map_err(StoreError::doing("read audit head"))?;
    let chain: String = head
        .try_get("chain")
        .map_err(StoreError::doing("read audit head"))?;
    if expected != last || chain != before {
        return Err(Broken::Cut { last, expected }.into());
    }
    Ok(last)
}

impl ChainedRow {
    fn read(row: &AnyRow) -> Result<(Self, String), sqlx::Error> {
        const TEXTS: [&str; 9] = [
            "actor_kind",
            "actor_id",
            "device_id",
            "session_id",
            "act",
            "object_kind",
            "object_id",
            "reason",
            "details",
        ];
        let mut texts = <[String; 9]>::default();
        for (text, column) in texts.iter_mut().zip(TEXTS) {
            *text = row.try_get(column)?;
        }
        let read = Self {
            seq: row.try_get("seq")?,
            at_ms: row.try_get("at_ms")?,
            texts,
        };
        Ok((read, row.try_get("chain")?))
    }
}
