//! The audit log: who did what, when, from which device, on what, why and how (S002-13).
//!
//! A row is written in the same transaction as what it records. Rows form a chain: each
//! carries an HMAC over itself and the chain value before it, under a key derived from the
//! master key. Who changes, removes, reorders or cuts rows without that key is found by
//! [`verify`], offline. Rows hold ids and codes, never names, contents or secrets.

use protocol::{DeviceId, SessionId};
use serde_json::{Value, json};
use sqlx::Row as _;
use time::OffsetDateTime;

use crate::clock::unix_ms;
use crate::db::{StoreError, Tx};
use crate::ids::{EstablishmentId, StaffId, UserId};
use crate::keys::MasterKey;
use crate::metrics::metrics;

mod acts;
pub mod chain;
pub mod pages;
mod search;
mod words;

pub use self::acts::Act;
pub use self::chain::{Broken, VerifyError, verify};
use self::chain::{ChainKey, ChainedRow};
/// Who acts, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An establishment's user, signed in through a tunnel session.
    Member {
        /// The user.
        user: UserId,
        /// The PC.
        device: DeviceId,
        /// The tunnel session.
        session: SessionId,
    },
    /// An establishment's user who acts for another establishment: both stand in the row.
    Delegate {
        /// The user.
        user: UserId,
        /// The PC.
        device: DeviceId,
        /// The tunnel session.
        session: SessionId,
        /// The user's own establishment, or sharoushi's office.
        office: EstablishmentId,
        /// Who is represented.
        client: EstablishmentId,
    },
    /// Fund staff on the office pages.
    Staff(StaffId),
    /// A PC, before anybody signed in.
    Device {
        /// The PC.
        device: DeviceId,
        /// Its session, if it has one.
        session: Option<SessionId>,
    },
    /// Somebody without an account: a registration code's holder, a failed sign-in.
    Stranger {
        /// The PC it came from, if one is known.
        device: Option<DeviceId>,
        /// Its session.
        session: Option<SessionId>,
    },
    /// The system administrator at the command line.
    CommandLine,
    /// The portal itself: a deadline, a retry, a clean-up.
    System,
}

/// Writes one row. Call it last in a transaction: it locks the end of the chain until the
/// transaction is over. `reason` is a code or a short text without personal data.
pub async fn record(
    tx: &mut Tx,
    key: &MasterKey,
    actor: &Actor,
    act: Act,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    record_with(tx, key, actor, act, "", &json!({}), now).await
}

/// Like [`record`], with a reason and details (no personal data in either).
pub async fn record_with(
    tx: &mut Tx,
    key: &MasterKey,
    actor: &Actor,
    act: Act,
    reason: &str,
    details: &Value,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let head = sqlx::query("UPDATE audit_head SET seq = seq + 1 WHERE id = 1 RETURNING seq, chain")
        .fetch_one(&mut **tx)
        .await
        .map_err(StoreError::doing("lock the end of the audit log"))?;
    let before: String = head
        .try_get("chain")
        .map_err(StoreError::doing("read audit head"))?;
    let (actor_kind, actor_id, device, session) = actor.columns();
    let (word, object_kind, object_id) = act.columns();
    let row = ChainedRow {
        seq: head
            .try_get("seq")
            .map_err(StoreError::doing("read audit head"))?,
        at_ms: unix_ms(now),
        texts: [
            actor_kind.to_owned(),
            actor_id,
            device,
            session,
            word.to_owned(),
            object_kind.to_owned(),
            object_id,
            reason.to_owned(),
            actor.completed(details).to_string(),
        ],
    };
    let chain = ChainKey::of(key).chain(&row, &before);
    let mut insert = sqlx::query(
        "INSERT INTO audit_log (seq, at_ms, actor_kind, actor_id, device_id, session_id, act,
                                object_kind, object_id, reason, details, chain)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(row.seq)
    .bind(row.at_ms);
    for text in &row.texts {
        insert = insert.bind(text.as_str());
    }
    insert
        .bind(chain.as_str())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("write audit row"))?;
    sqlx::query("UPDATE audit_head SET chain = $1 WHERE id = 1")
        .bind(chain.as_str())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("move the end of the audit log"))?;
    metrics().count_act(&act);
    Ok(())
}

impl Actor {
    /// How `…_by` columns of other tables name the actor: `staff/<id>`, `command_line`.
    pub fn name_for_rows(&self) -> String {
        match self.columns() {
            (kind, id, ..) if id.is_empty() => kind.to_owned(),
            (kind, id, ..) => format!("{kind}/{id}"),
        }
    }

    /// The details of a row, with whom a delegate acts for.
    fn completed(&self, details: &Value) -> Value {
        let mut details = details.clone();
        if let (Self::Delegate { office, client, .. }, Value::Object(fields)) = (self, &mut details)
        {
            fields.insert("office".to_owned(), json!(office.to_string()));
            fields.insert("acting_for".to_owned(), json!(client.to_string()));
        }
        details
    }

    /// Kind, id, device, session, as they stand in the row.
    fn columns(&self) -> (&'static str, String, String, String) {
        let text = |id: &Option<SessionId>| id.map(|id| id.to_string()).unwrap_or_default();
        match self {
            Self::Member {
                user,
                device,
                session,
            } => (
                "member",
                user.to_string(),
                device.to_string(),
                session.to_string(),
            ),
            Self::Delegate {
                user,
                device,
                session,
                ..
            } => (
                "delegate",
                user.to_string(),
                device.to_string(),
                session.to_string(),
            ),
            Self::Staff(staff) => ("staff", staff.to_string(), String::new(), String::new()),
            Self::Device { device, session } => (
                "device",
                device.to_string(),
                device.to_string(),
                text(session),
            ),
            Self::Stranger { device, session } => {
                let device = device.map(|id| id.to_string()).unwrap_or_default();
                ("stranger", String::new(), device, text(session))
            }
            Self::CommandLine => ("command_line", String::new(), String::new(), String::new()),
            Self::System => ("system", String::new(), String::new(), String::new()),
        }
    }
}

#[cfg(test)]
mod tests;
