//! Gateways in the database.

use std::net::SocketAddr;

use protocol::control::GatewayHello;
use protocol::{Bytes32, GatewayName};
use sqlx::Row as _;
use time::OffsetDateTime;

use crate::clock::unix_ms;
use crate::db::{Db, StoreError, Tx};

/// Gateways at most that a PC is told of.
const URLS_LIMIT: i64 = 32;

/// Where agents reach a gateway, as it said when it registered.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Its WireGuard public key.
    pub wireguard_public_key: Bytes32,
    /// Its WireGuard addresses, best first.
    pub endpoints: Vec<SocketAddr>,
}

pub(super) async fn add(
    tx: &mut Tx,
    name: &GatewayName,
    certificate: &Bytes32,
    url: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO gateways (name, certificate_sha256, url, endpoints, added_ms)
         VALUES ($1, $2, $3, '[]', $4)",
    )
    .bind(name.as_str())
    .bind(certificate.to_string())
    .bind(url)
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write gateway"))
}

pub(super) async fn find_by_certificate(
    db: &Db,
    certificate: &Bytes32,
) -> Result<Option<GatewayName>, StoreError> {
    let row = sqlx::query(
        "SELECT name FROM gateways WHERE certificate_sha256 = $1 AND retired_ms IS NULL",
    )
    .bind(certificate.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find gateway"))?;
    let Some(row) = row else { return Ok(None) };
    let name: String = row
        .try_get("name")
        .map_err(StoreError::doing("read gateway row"))?;
    name.parse().map(Some).map_err(|_| StoreError::Unreadable {
        what: "gateway name",
    })
}

/// Says whether a gateway is still in use.
pub async fn is_in_use(db: &Db, name: &GatewayName) -> Result<bool, StoreError> {
    sqlx::query("SELECT 1 AS found FROM gateways WHERE name = $1 AND retired_ms IS NULL")
        .bind(name.as_str())
        .fetch_optional(db.pool())
        .await
        .map(|row| row.is_some())
        .map_err(StoreError::doing("find gateway"))
}

/// Takes down how a gateway introduces itself.
pub async fn register(
    tx: &mut Tx,
    name: &GatewayName,
    hello: &GatewayHello,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let endpoints = serde_json::to_string(&hello.endpoints)
        .map_err(|_| StoreError::Unreadable { what: "endpoints" })?;
    sqlx::query(
        "UPDATE gateways SET wireguard_public_key = $1, endpoints = $2, url = $3, seen_ms = $4
          WHERE name = $5",
    )
    .bind(hello.wireguard_public_key.to_string())
    .bind(endpoints)
    .bind(hello.url.as_str())
    .bind(unix_ms(now))
    .bind(name.as_str())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("register gateway"))
}

/// Where agents reach a gateway; `None` until it has registered.
pub async fn reach(tx: &mut Tx, name: &GatewayName) -> Result<Option<Reach>, StoreError> {
    let row = sqlx::query("SELECT wireguard_public_key, endpoints FROM gateways WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::doing("find gateway"))?;
    let Some(row) = row else { return Ok(None) };
    let doing = "read gateway row";
    let key: Option<String> = row
        .try_get("wireguard_public_key")
        .map_err(StoreError::doing(doing))?;
    let endpoints: String = row.try_get("endpoints").map_err(StoreError::doing(doing))?;
    let Some(key) = key else { return Ok(None) };
    Ok(Some(Reach {
        wireguard_public_key: Bytes32::try_from(key).map_err(|_| StoreError::Unreadable {
            what: "gateway key",
        })?,
        endpoints: serde_json::from_str(&endpoints)
            .map_err(|_| StoreError::Unreadable { what: "endpoints" })?,
    }))
}

/// The base URLs of all gateways in use: those that have ever come up are named first.
pub async fn urls(db: &Db) -> Result<Vec<String>, StoreError> {
    sqlx::query(
        "SELECT url FROM gateways WHERE retired_ms IS NULL
          ORDER BY CASE WHEN seen_ms IS NULL THEN 1 ELSE 0 END, name LIMIT $1",
    )
    .bind(URLS_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list gateways"))?
    .iter()
    .map(|row| {
        row.try_get("url")
            .map_err(StoreError::doing("read gateway row"))
    })
    .collect()
}
