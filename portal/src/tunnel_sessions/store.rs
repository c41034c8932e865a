//! Tunnel sessions in the database.
//!
//! `changed_ms` moves with every change; the feed and the member listener read by it. A
//! session is *live* at `now` if it has not ended and its deadline is ahead.

use std::net::Ipv6Addr;

use protocol::agent_api::EndCode;
use protocol::control::{Grant, SessionEnded};
use protocol::{Bytes32, DeviceId, GatewayName, SessionId};
use sqlx::Row as _;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::{preshared_key, proxy_key};
use crate::clock::unix_ms;
use crate::db::{Db, StoreError, Tx};
use crate::ids::EstablishmentId;
use crate::keys::MasterKey;

/// Live sessions of one gateway at most; the feed's first line holds as many.
const LIVE_LIMIT: i64 = 10_000;

/// A session as gateways need to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Names it.
    pub id: SessionId,
    /// Whose it is.
    pub device: DeviceId,
    /// SHA-256 of the device's certificate.
    pub device_certificate_sha256: Bytes32,
    /// The agent's WireGuard key.
    pub wireguard_public_key: Bytes32,
    /// The agent's address inside the tunnel.
    pub inner_address: Ipv6Addr,
    /// When it ends, Unix milliseconds.
    pub deadline_ms: i64,
    /// Why it will end then.
    pub deadline_reason: EndCode,
    /// Why it ended before, if it did.
    pub ended: Option<EndCode>,
}

/// What the member listener needs to know of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    /// Names it.
    pub id: SessionId,
    /// The one address its connections come from.
    pub inner_address: Ipv6Addr,
    /// When it ends, Unix milliseconds.
    pub deadline_ms: i64,
    /// Whether it has ended before that.
    pub has_ended: bool,
}

impl Session {
    /// The gateway's permission, with the keys that belong to it.
    pub fn grant(&self, keys: &MasterKey) -> Grant {
        Grant {
            session: self.id,
            device: self.device,
            device_certificate_sha256: self.device_certificate_sha256,
            wireguard_public_key: self.wireguard_public_key,
            preshared_key: preshared_key(keys, self.id),
            inner_address: self.inner_address,
            deadline_ms: self.deadline_ms,
            deadline_reason: self.deadline_reason,
            proxy_key: proxy_key(keys, self.id),
        }
    }
}

impl Liveness {
    /// Whether the session is live at `now_ms`.
    pub fn is_live(&self, now_ms: i64) -> bool {
        !self.has_ended && now_ms < self.deadline_ms
    }
}

/// Says whether a WireGuard key was ever used.
pub(super) async fn is_key_known(tx: &mut Tx, key: &Bytes32) -> Result<bool, StoreError> {
    sqlx::query("SELECT 1 AS found FROM tunnel_sessions WHERE wireguard_public_key = $1")
        .bind(key.to_string())
        .fetch_optional(&mut **tx)
        .await
        .map(|row| row.is_some())
        .map_err(StoreError::doing("find WireGuard key"))
}

pub(super) async fn add(
    tx: &mut Tx,
    session: &Session,
    establishment: EstablishmentId,
    gateway: &GatewayName,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO tunnel_sessions (id, device_id, establishment_id, gateway,
                                      wireguard_public_key, inner_address, opened_ms,
                                      deadline_ms, deadline_reason, bytes_in, bytes_out,
                                      changed_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0, $10)",
    )
    .bind(session.id.to_string())
    .bind(session.device.to_string())
    .bind(establishment.to_string())
    .bind(gateway.as_str())
    .bind(session.wireguard_public_key.to_string())
    .bind(session.inner_address.to_string())
    .bind(unix_ms(now))
    .bind(session.deadline_ms)
    .bind(session.deadline_reason.as_str())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write session"))
}

/// Whose session it is; with a gateway, only if it is that gateway's.
pub(super) async fn device_of(
    tx: &mut Tx,
    session: SessionId,
    gateway: Option<&GatewayName>,
) -> Result<Option<DeviceId>, StoreError> {
    let row = sqlx::query("SELECT device_id, gateway FROM tunnel_sessions WHERE id = $1")
        .bind(session.to_string())
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::doing("find session"))?;
    let Some(row) = row else { return Ok(None) };
    let own = text(&row, "gateway")?;
    if gateway.is_some_and(|gateway| gateway.as_str() != own) {
        return Ok(None);
    }
    parsed(&row, "device_id").map(Some)
}

/// Ends a session that has not ended. A session past its deadline ended then, and for the
/// deadline's reason, whatever is said later. Returns the reason if this call ended it.
pub async fn end(
    tx: &mut Tx,
    session: SessionId,
    reason: EndCode,
    now: OffsetDateTime,
) -> Result<Option<EndCode>, StoreError> {
    let row = sqlx::query(
        "UPDATE tunnel_sessions
            SET ended_ms = CASE WHEN deadline_ms <= $1 THEN deadline_ms ELSE $1 END,
                end_reason = CASE WHEN deadline_ms <= $1 THEN deadline_reason ELSE $2 END,
                changed_ms = $1
          WHERE id = $3 AND ended_ms IS NULL
         RETURNING id, end_reason",
    )
    .bind(unix_ms(now))
    .bind(reason.as_str())
    .bind(session.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("end session"))?;
    row.map(|row| end_code(&row, "end_reason")).transpose()
}

/// Like [`end`], for whatever session the device has.
pub async fn end_of_device(
    tx: &mut Tx,
    device: DeviceId,
    reason: EndCode,
    now: OffsetDateTime,
) -> Result<Vec<(SessionId, EndCode)>, StoreError> {
    sqlx::query(
        "UPDATE tunnel_sessions
            SET ended_ms = CASE WHEN deadline_ms <= $1 THEN deadline_ms ELSE $1 END,
                end_reason = CASE WHEN deadline_ms <= $1 THEN deadline_reason ELSE $2 END,
                changed_ms = $1
          WHERE device_id = $3 AND ended_ms IS NULL
         RETURNING id, end_reason",
    )
    .bind(unix_ms(now))
    .bind(reason.as_str())
    .bind(device.to_string())
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing("end the device's session"))?
    .iter()
    .map(|row| Ok((parsed(row, "id")?, end_code(row, "end_reason")?)))
    .collect()
}

/// Ends every live session.
pub async fn end_all(
    tx: &mut Tx,
    reason: EndCode,
    now: OffsetDateTime,
) -> Result<Vec<SessionId>, StoreError> {
    sqlx::query(
        "UPDATE tunnel_sessions SET ended_ms = $1, end_reason = $2, changed_ms = $1
          WHERE ended_ms IS NULL AND deadline_ms > $1
         RETURNING id",
    )
    .bind(unix_ms(now))
    .bind(reason.as_str())
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing("end all sessions"))?
    .iter()
    .map(|row| parsed(row, "id"))
    .collect()
}

/// Brings the deadline of every session that would outlive `closes` forward to it.
pub async fn shorten_all(
    tx: &mut Tx,
    closes: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<Vec<SessionId>, StoreError> {
    sqlx::query(
        "UPDATE tunnel_sessions SET deadline_ms = $1, deadline_reason = $2, changed_ms = $3
          WHERE ended_ms IS NULL AND deadline_ms > $1
         RETURNING id",
    )
    .bind(unix_ms(closes))
    .bind(EndCode::ClosingTime.as_str())
    .bind(unix_ms(now))
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing("shorten sessions"))?
    .iter()
    .map(|row| parsed(row, "id"))
    .collect()
}

/// Ends sessions whose deadline was before `before`.
pub(super) async fn end_overdue(
    tx: &mut Tx,
    before: OffsetDateTime,
    limit: i64,
    now: OffsetDateTime,
) -> Result<Vec<(SessionId, EndCode)>, StoreError> {
    sqlx::query(
        "UPDATE tunnel_sessions
            SET ended_ms = deadline_ms, end_reason = deadline_reason, changed_ms = $1
          WHERE ended_ms IS NULL
            AND id IN (SELECT id FROM tunnel_sessions
                        WHERE ended_ms IS NULL AND deadline_ms < $2 LIMIT $3)
         RETURNING id, end_reason",
    )
    .bind(unix_ms(now))
    .bind(unix_ms(before))
    .bind(limit)
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing("end overdue sessions"))?
    .iter()
    .map(|row| Ok((parsed(row, "id")?, end_code(row, "end_reason")?)))
    .collect()
}

/// Adds a gateway's byte counts; a repeated report does not count twice.
pub(super) async fn note_bytes(
    tx: &mut Tx,
    session: SessionId,
    report: &SessionEnded,
) -> Result<(), StoreError> {
    let count = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    sqlx::query(
        "UPDATE tunnel_sessions SET bytes_in = $1, bytes_out = $2
          WHERE id = $3 AND bytes_in = 0 AND bytes_out = 0",
    )
    .bind(count(report.bytes_in))
    .bind(count(report.bytes_out))
    .bind(session.to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("note the session's bytes"))
}

/// All live sessions of a gateway.
pub async fn live_of_gateway(
    db: &Db,
    gateway: &GatewayName,
    now: OffsetDateTime,
) -> Result<Vec<Session>, StoreError> {
    sqlx::query(
        "SELECT s.id, s.device_id, d.certificate_sha256, s.wireguard_public_key, s.inner_address,
                s.deadline_ms, s.deadline_reason, s.end_reason
           FROM tunnel_sessions s JOIN devices d ON d.id = s.device_id
          WHERE s.gateway = $1 AND s.ended_ms IS NULL AND s.deadline_ms > $2 LIMIT $3",
    )
    .bind(gateway.as_str())
    .bind(unix_ms(now))
    .bind(LIVE_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("read live sessions"))?
    .iter()
    .map(read)
    .collect()
}

/// A gateway's sessions that changed at `since` or later, oldest change first.
pub async fn changed_of_gateway(
    db: &Db,
    gateway: &GatewayName,
    since: OffsetDateTime,
) -> Result<Vec<Session>, StoreError> {
    sqlx::query(
        "SELECT s.id, s.device_id, d.certificate_sha256, s.wireguard_public_key, s.inner_address,
                s.deadline_ms, s.deadline_reason, s.end_reason
           FROM tunnel_sessions s JOIN devices d ON d.id = s.device_id
          WHERE s.gateway = $1 AND s.changed_ms >= $2 ORDER BY s.changed_ms LIMIT $3",
    )
    .bind(gateway.as_str())
    .bind(unix_ms(since))
    .bind(2 * LIVE_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("read changed sessions"))?
    .iter()
    .map(read)
    .collect()
}

/// What the member listener asks about one session.
pub async fn liveness(db: &Db, session: SessionId) -> Result<Option<Liveness>, StoreError> {
    let row = sqlx::query(
        "SELECT id, inner_address, deadline_ms, end_reason FROM tunnel_sessions WHERE id = $1",
    )
    .bind(session.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find session"))?;
    row.as_ref().map(read_liveness).transpose()
}

/// Every session that changed at `since` or later, on any gateway.
pub async fn changed(db: &Db, since: OffsetDateTime) -> Result<Vec<Liveness>, StoreError> {
    sqlx::query(
        "SELECT id, inner_address, deadline_ms, end_reason FROM tunnel_sessions
          WHERE changed_ms >= $1 ORDER BY changed_ms LIMIT $2",
    )
    .bind(unix_ms(since))
    .bind(2 * LIVE_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("read changed sessions"))?
    .iter()
    .map(read_liveness)
    .collect()
}

fn read(row: &AnyRow) -> Result<Session, StoreError> {
    Ok(Session {
        id: parsed(row, "id")?,
        device: parsed(row, "device_id")?,
        device_certificate_sha256: bytes(row, "certificate_sha256")?,
        wireguard_public_key: bytes(row, "wireguard_public_key")?,
        inner_address: parsed(row, "inner_address")?,
        deadline_ms: row
            .try_get("deadline_ms")
            .map_err(StoreError::doing("read session row"))?,
        deadline_reason: end_code(row, "deadline_reason")?,
        ended: match ended(row)? {
            Some(word) => Some(word_to_code(&word)?),
            None => None,
        },
    })
}

fn read_liveness(row: &AnyRow) -> Result<Liveness, StoreError> {
    Ok(Liveness {
        id: parsed(row, "id")?,
        inner_address: parsed(row, "inner_address")?,
        deadline_ms: row
            .try_get("deadline_ms")
            .map_err(StoreError::doing("read session row"))?,
        has_ended: ended(row)?.is_some(),
    })
}

fn ended(row: &AnyRow) -> Result<Option<String>, StoreError> {
    row.try_get("end_reason")
        .map_err(StoreError::doing("read session row"))
}

fn text(row: &AnyRow, column: &'static str) -> Result<String, StoreError> {
    row.try_get(column)
        .map_err(StoreError::doing("read session row"))
}

fn parsed<T: std::str::FromStr>(row: &AnyRow, column: &'static str) -> Result<T, StoreError> {
    text(row, column)?
        .parse()
        .map_err(|_| StoreError::Unreadable { what: column })
}

fn bytes(row: &AnyRow, column: &'static str) -> Result<Bytes32, StoreError> {
    Bytes32::try_from(text(row, column)?).map_err(|_| StoreError::Unreadable { what: column })
}

fn end_code(row: &AnyRow, column: &'static str) -> Result<EndCode, StoreError> {
    word_to_code(&text(row, column)?)
}

fn word_to_code(word: &str) -> Result<EndCode, StoreError> {
    EndCode::ALL
        .into_iter()
        .find(|code| code.as_str() == word)
        .ok_or(StoreError::Unreadable { what: "end reason" })
}
