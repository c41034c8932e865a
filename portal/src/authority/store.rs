//! The rows of the authorities and of listeners' keys: written once, never changed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use sqlx::Row as _;
use time::OffsetDateTime;

use super::Kind;
use crate::clock::unix_ms;
use crate::db::{Db, StoreError, Tx};

/// An authority as it is kept.
pub(super) struct Row {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key_sealed: String,
}

pub(super) async fn find(db: &Db, kind: Kind) -> Result<Option<Row>, StoreError> {
    let row = sqlx::query("SELECT certificate, key_sealed FROM authorities WHERE kind = $1")
        .bind(kind.as_str())
        .fetch_optional(db.pool())
        .await
        .map_err(StoreError::doing("find authority"))?;
    let Some(row) = row else { return Ok(None) };
    let doing = "read authority row";
    let certificate: String = row
        .try_get("certificate")
        .map_err(StoreError::doing(doing))?;
    let certificate = STANDARD
        .decode(certificate)
        .map_err(|_| StoreError::Unreadable {
            what: "authority certificate",
        })?;
    Ok(Some(Row {
        certificate: certificate.into(),
        key_sealed: row
            .try_get("key_sealed")
            .map_err(StoreError::doing(doing))?,
    }))
}

/// Writes the authority unless there is one. Says whether it was written.
pub(super) async fn add(
    tx: &mut Tx,
    kind: Kind,
    certificate: &CertificateDer<'_>,
    key_sealed: &str,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query(
        "INSERT INTO authorities (kind, certificate, key_sealed, created_ms)
         VALUES ($1, $2, $3, $4) ON CONFLICT (kind) DO NOTHING",
    )
    .bind(kind.as_str())
    .bind(STANDARD.encode(certificate))
    .bind(key_sealed)
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("write authority"))
}

/// The sealed key of a listener.
pub(super) async fn find_listener_key(db: &Db, name: &str) -> Result<Option<String>, StoreError> {
    sqlx::query("SELECT key_sealed FROM listener_keys WHERE name = $1")
        .bind(name)
        .fetch_optional(db.pool())
        .await
        .and_then(|row| row.map(|row| row.try_get("key_sealed")).transpose())
        .map_err(StoreError::doing("find listener key"))
}

/// Writes a listener's key unless there is one. Says whether it was written.
pub(super) async fn add_listener_key(
    tx: &mut Tx,
    name: &str,
    key_sealed: &str,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query(
        "INSERT INTO listener_keys (name, key_sealed, created_ms) VALUES ($1, $2, $3)
         ON CONFLICT (name) DO NOTHING",
    )
    .bind(name)
    .bind(key_sealed)
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("write listener key"))
}
