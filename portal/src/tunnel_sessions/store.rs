//! Tunnel sessions in the database.
//!
//! `changed_ms` moves with every change; the feed and the member listener read by it. A
//! session is *live* at `now` if it has not ended and its deadline is ahead.

use std::net::Ipv6Addr;

use protocol::agent_api::EndCode;
use protocol::control::{Grant, SessionEnded};
use protocol::{Bytes32, DeviceId, GatewayName, Generation, SessionId};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};
use time::OffsetDateTime;

use super::{preshared_key, proxy_key};
use crate::clock::unix_ms;
use crate::db::{Db, StoreError, Tx};
use crate::ids::EstablishmentId;
use crate::keys::MasterKey;

/// Live sessions of one gateway at most; the feed's first line holds as many.
const LIVE_LIMIT: i64 = 10_000;

/// The columns that [`read`] reads.
const COLUMNS: &str = "id, gateway, generation, device_id, device_certificate_sha256,
    wireguard_public_key, inner_address, deadline_ms, deadline_reason, end_reason";

/// A session as gateways need to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Names it.
    pub id: SessionId,
    /// The gateway that it goes through now.
    pub gateway: GatewayName,
    /// Which of the device's grants is in force.
    pub generation: Generation,
    /// Whose it is.
    pub device: DeviceId,
    /// SHA-256 of the certificate that the device showed when it asked for the grant.
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

/// A grant that its session left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// The session.
    pub session: SessionId,
    /// The grant.
    pub generation: Generation,
}

/// What the member listener needs to know of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    /// Names it.
    pub id: SessionId,
    /// Which of the device's grants is in force.
    pub generation: Generation,
    /// The one address its connections come from.
    pub inner_address: Ipv6Addr,
    /// When it ends, Unix milliseconds.
    pub deadline_ms: i64,
    /// Whether it has ended before that, or its gateway was taken out of use.
    pub has_ended: bool,
    /// How often its connections to the pages were cut.
    pub cuts: i64,
}

impl Session {
    /// The gateway's permission, with the keys that belong to it.
    pub fn grant(&self, keys: &MasterKey) -> Grant {
        Grant {
            session: self.id,
            generation: self.generation,
            device: self.device,
            device_certificate_sha256: self.device_certificate_sha256,
            wireguard_public_key: self.wireguard_public_key,
            preshared_key: preshared_key(keys, self.id, self.inner_address),
            inner_address: self.inner_address,
            deadline_ms: self.deadline_ms,
            deadline_reason: self.deadline_reason,
            proxy_key: proxy_key(keys, self.id, self.inner_address),
        }
    }

    /// Why it is over at `now_ms`, if it is.
    pub(super) fn over(&self, now_ms: i64) -> Option<EndCode> {
        self.ended
            .or((self.deadline_ms <= now_ms).then_some(self.deadline_reason))
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
    sqlx::query(
        "SELECT 1 AS found FROM tunnel_sessions WHERE wireguard_public_key = $1
          UNION ALL
         SELECT 1 AS found FROM session_moves WHERE wireguard_public_key = $1",
    )
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
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO tunnel_sessions (id, device_id, establishment_id, gateway, generation,
                                      device_certificate_sha256, wireguard_public_key,
                                      inner_address, opened_ms, deadline_ms, deadline_reason,
                                      bytes_in, bytes_out, changed_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, 0, $9)",
    )
    .bind(session.id.to_string())
    .bind(session.device.to_string())
    .bind(establishment.to_string())
    .bind(session.gateway.as_str())
    .bind(i64::from(session.generation.as_u32()))
    .bind(session.device_certificate_sha256.to_string())
    .bind(session.wireguard_public_key.to_string())
    .bind(session.inner_address.to_string())
    .bind(unix_ms(now))
    .bind(session.deadline_ms)
    .bind(session.deadline_reason.as_str())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write session"))
}

/// Finds a session, over or not.
pub(super) async fn find(tx: &mut Tx, session: SessionId) -> Result<Option<Session>, StoreError> {
    sqlx::query(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM tunnel_sessions WHERE id = $1"
    )))
    .bind(session.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("find session"))?
    .as_ref()
    .map(read)
    .transpose()
}

/// Whose session it is.
pub(super) async fn device_of(
    tx: &mut Tx,
    session: SessionId,
) -> Result<Option<DeviceId>, StoreError> {
    let found = find(tx, session).await?;
    Ok(found.map(|found| found.device))
}

/// Puts `moved` in the place of `left`, which is kept as left behind. Returns the session as
/// it is then, with the deadline that it has; `None` if it is not live, or went on otherwise.
pub(super) async fn go_on(
    tx: &mut Tx,
    left: &Session,
    moved: Session,
    now: OffsetDateTime,
) -> Result<Option<Session>, StoreError> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "UPDATE tunnel_sessions
            SET gateway = $1, generation = $2, device_certificate_sha256 = $3,
                wireguard_public_key = $4, inner_address = $5, changed_ms = $6
          WHERE id = $7 AND generation = $8 AND ended_ms IS NULL AND deadline_ms > $6
         RETURNING {COLUMNS}"
    )))
    .bind(moved.gateway.as_str())
    .bind(i64::from(moved.generation.as_u32()))
    .bind(moved.device_certificate_sha256.to_string())
    .bind(moved.wireguard_public_key.to_string())
    .bind(moved.inner_address.to_string())
    .bind(unix_ms(now))
    .bind(moved.id.to_string())
    .bind(i64::from(left.generation.as_u32()))
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("move session"))?;
    let Some(row) = row else { return Ok(None) };
    sqlx::query(
        "INSERT INTO session_moves (wireguard_public_key, session_id, generation, gateway,
                                    moved_ms, bytes_in, bytes_out)
         VALUES ($1, $2, $3, $4, $5, 0, 0)",
    )
    .bind(left.wireguard_public_key.to_string())
    .bind(left.id.to_string())
    .bind(i64::from(left.generation.as_u32()))
    .bind(left.gateway.as_str())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write what the session left"))?;
    read(&row).map(Some)
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

/// Ends the live sessions of an establishment's PCs, all at once.
pub async fn end_of_establishment(
    tx: &mut Tx,
    establishment: EstablishmentId,
    reason: EndCode,
    now: OffsetDateTime,
) -> Result<Vec<(SessionId, EndCode)>, StoreError> {
    sqlx::query(
        "UPDATE tunnel_sessions
            SET ended_ms = CASE WHEN deadline_ms <= $1 THEN deadline_ms ELSE $1 END,
                end_reason = CASE WHEN deadline_ms <= $1 THEN deadline_reason ELSE $2 END,
                changed_ms = $1
          WHERE establishment_id = $3 AND ended_ms IS NULL
         RETURNING id, end_reason",
    )
    .bind(unix_ms(now))
    .bind(reason.as_str())
    .bind(establishment.to_string())
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing("end an establishment's sessions"))?
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

/// Has every open connection of a session cut. The tunnel stays.
pub async fn cut_pages(tx: &mut Tx, session: &str, now: OffsetDateTime) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE tunnel_sessions SET pages_cut = pages_cut + 1, changed_ms = $1
          WHERE id = $2 AND ended_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(session)
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("cut a session's pages"))
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

/// How often a session went on through another gateway.
pub(super) async fn count_moves(tx: &mut Tx, session: SessionId) -> Result<i64, StoreError> {
    sqlx::query("SELECT COUNT(*) AS n FROM session_moves WHERE session_id = $1")
        .bind(session.to_string())
        .fetch_one(&mut **tx)
        .await
        .and_then(|row| row.try_get("n"))
        .map_err(StoreError::doing("count moves"))
}

/// Adds the byte counts of a grant that its session left behind. Says whether there is one.
pub(super) async fn note_bytes_of_move(
    tx: &mut Tx,
    session: SessionId,
    gateway: &GatewayName,
    report: &SessionEnded,
) -> Result<bool, StoreError> {
    let count = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    sqlx::query(
        "UPDATE session_moves SET bytes_in = $1, bytes_out = $2
          WHERE session_id = $3 AND generation = $4 AND gateway = $5",
    )
    .bind(count(report.bytes_in))
    .bind(count(report.bytes_out))
    .bind(session.to_string())
    .bind(i64::from(report.generation.as_u32()))
    .bind(gateway.as_str())
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("note the bytes of a grant left behind"))
}

/// All live sessions of a gateway.
pub async fn live_of_gateway(
    db: &Db,
    gateway: &GatewayName,
    now: OffsetDateTime,
) -> Result<Vec<Session>, StoreError> {
    sqlx::query(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM tunnel_sessions
          WHERE gateway = $1 AND ended_ms IS NULL AND deadline_ms > $2 LIMIT $3"
    )))
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
    sqlx::query(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM tunnel_sessions
          WHERE gateway = $1 AND changed_ms >= $2 ORDER BY changed_ms LIMIT $3"
    )))
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

/// The grants of a gateway that were left behind at `since` or later, the oldest first.
pub async fn left_of_gateway(
    db: &Db,
    gateway: &GatewayName,
    since: OffsetDateTime,
) -> Result<Vec<Left>, StoreError> {
    sqlx::query(
        "SELECT session_id, generation FROM session_moves
          WHERE gateway = $1 AND moved_ms >= $2 ORDER BY moved_ms LIMIT $3",
    )
    .bind(gateway.as_str())
    .bind(unix_ms(since))
    .bind(2 * LIVE_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("read what sessions left"))?
    .iter()
    .map(|row| {
        Ok(Left {
            session: parsed(row, "session_id")?,
            generation: generation(row)?,
        })
    })
    .collect()
}

/// Makes every reader look at the live sessions of a gateway again. Returns how many.
pub async fn touch_of_gateway(
    tx: &mut Tx,
    gateway: &GatewayName,
    now: OffsetDateTime,
) -> Result<u64, StoreError> {
    sqlx::query(
        "UPDATE tunnel_sessions SET changed_ms = $1
          WHERE gateway = $2 AND ended_ms IS NULL AND deadline_ms > $1",
    )
    .bind(unix_ms(now))
    .bind(gateway.as_str())
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected())
    .map_err(StoreError::doing("mark a gateway's sessions"))
}

/// The columns that [`read_liveness`] reads: a gateway out of use has no live session.
const LIVENESS: &str = "SELECT s.id, s.generation, s.inner_address, s.deadline_ms, s.end_reason,
        s.pages_cut, g.retired_ms
   FROM tunnel_sessions s JOIN gateways g ON g.name = s.gateway";

/// What the member listener asks about one session.
pub async fn liveness(db: &Db, session: SessionId) -> Result<Option<Liveness>, StoreError> {
    let row = sqlx::query(AssertSqlSafe(format!("{LIVENESS} WHERE s.id = $1")))
        .bind(session.to_string())
        .fetch_optional(db.pool())
        .await
        .map_err(StoreError::doing("find session"))?;
    row.as_ref().map(read_liveness).transpose()
}

/// Every session that changed at `since` or later, on any gateway.
pub async fn changed(db: &Db, since: OffsetDateTime) -> Result<Vec<Liveness>, StoreError> {
    sqlx::query(AssertSqlSafe(format!(
        "{LIVENESS} WHERE s.changed_ms >= $1 ORDER BY s.changed_ms LIMIT $2"
    )))
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
        gateway: parsed(row, "gateway")?,
        generation: generation(row)?,
        device: parsed(row, "device_id")?,
        device_certificate_sha256: bytes(row, "device_certificate_sha256")?,
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
    let retired: Option<i64> = row
        .try_get("retired_ms")
        .map_err(StoreError::doing("read session row"))?;
    Ok(Liveness {
        id: parsed(row, "id")?,
        generation: generation(row)?,
        inner_address: parsed(row, "inner_address")?,
        deadline_ms: row
            .try_get("deadline_ms")
            .map_err(StoreError::doing("read session row"))?,
        has_ended: ended(row)?.is_some() || retired.is_some(),
        cuts: row
            .try_get("pages_cut")
            .map_err(StoreError::doing("read how often pages were cut"))?,
    })
}

fn generation(row: &AnyRow) -> Result<Generation, StoreError> {
    let count: i64 = row
        .try_get("generation")
        .map_err(StoreError::doing("read session row"))?;
    u32::try_from(count)
        .map(Generation::new)
        .map_err(|_| StoreError::Unreadable { what: "generation" })
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
