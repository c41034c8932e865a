//! Gateways in the database.

use std::net::SocketAddr;

use protocol::control::GatewayHello;
use protocol::{Bytes32, GatewayName};
use serde::Serialize as _;
use sqlx::Row as _;
use time::OffsetDateTime;

use crate::clock::{from_unix_ms, unix_ms};
use crate::db::{Db, StoreError, Tx};
use crate::web::dates;

/// Gateways at most that a PC is told of.
const URLS_LIMIT: i64 = 32;

/// A gateway, as the command line shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Base URL of its agent API.
    pub url: String,
    /// Its WireGuard addresses, best first; empty until it has registered.
    pub endpoints: Vec<SocketAddr>,
    /// When it last introduced itself.
    #[serde(serialize_with = "rfc3339")]
    pub seen: Option<OffsetDateTime>,
    /// When it was taken out of use.
    #[serde(serialize_with = "rfc3339")]
    pub retired: Option<OffsetDateTime>,
    /// Sessions that go through it now.
    pub live_sessions: i64,
}

fn rfc3339<S: serde::Serializer>(
    at: &Option<OffsetDateTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    at.map(dates::machine).serialize(serializer)
}

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
    hosts: &[String],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO gateways (name, certificate_sha256, hosts, url, endpoints, added_ms)
         VALUES ($1, $2, $3, $4, '[]', $5)",
    )
    .bind(name.as_str())
    .bind(certificate.to_string())
    .bind(json(hosts)?)
    .bind(url)
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write gateway"))
}

/// The hosts in the certificates of a gateway in use; locks its row.
pub(super) async fn lock_hosts(
    tx: &mut Tx,
    name: &GatewayName,
) -> Result<Option<Vec<String>>, StoreError> {
    let row = sqlx::query(
        "UPDATE gateways SET hosts = hosts WHERE name = $1 AND retired_ms IS NULL
         RETURNING hosts",
    )
    .bind(name.as_str())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("find gateway"))?;
    row.map(|row| {
        let hosts: String = row
            .try_get("hosts")
            .map_err(StoreError::doing("read gateway row"))?;
        serde_json::from_str(&hosts).map_err(|_| StoreError::Unreadable { what: "hosts" })
    })
    .transpose()
}

/// Writes down the certificate that takes over when it is first shown.
pub(super) async fn set_next_certificate(
    tx: &mut Tx,
    name: &GatewayName,
    certificate: &Bytes32,
    hosts: &[String],
) -> Result<(), StoreError> {
    sqlx::query("UPDATE gateways SET next_certificate_sha256 = $1, hosts = $2 WHERE name = $3")
        .bind(certificate.to_string())
        .bind(json(hosts)?)
        .bind(name.as_str())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("write gateway"))
}

/// Takes a gateway out of use, if it is in use.
pub(super) async fn retire(
    tx: &mut Tx,
    name: &GatewayName,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query("UPDATE gateways SET retired_ms = $1 WHERE name = $2 AND retired_ms IS NULL")
        .bind(unix_ms(now))
        .bind(name.as_str())
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected() == 1)
        .map_err(StoreError::doing("retire gateway"))
}

/// All gateways, those in use first.
pub(super) async fn list(db: &Db, now: OffsetDateTime) -> Result<Vec<Listed>, StoreError> {
    let doing = "read gateway row";
    sqlx::query(
        "SELECT g.name, g.url, g.endpoints, g.seen_ms, g.retired_ms,
                (SELECT COUNT(*) FROM tunnel_sessions s
                  WHERE s.gateway = g.name AND s.ended_ms IS NULL AND s.deadline_ms > $1) AS live
           FROM gateways g
          ORDER BY CASE WHEN g.retired_ms IS NULL THEN 0 ELSE 1 END, g.name",
    )
    .bind(unix_ms(now))
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list gateways"))?
    .iter()
    .map(|row| {
        let text = |column| -> Result<String, StoreError> {
            row.try_get(column).map_err(StoreError::doing(doing))
        };
        let at = |column| -> Result<Option<i64>, StoreError> {
            row.try_get(column).map_err(StoreError::doing(doing))
        };
        Ok(Listed {
            name: text("name")?,
            url: text("url")?,
            endpoints: serde_json::from_str(&text("endpoints")?)
                .map_err(|_| StoreError::Unreadable { what: "endpoints" })?,
            seen: at("seen_ms")?.map(from_unix_ms),
            retired: at("retired_ms")?.map(from_unix_ms),
            live_sessions: row.try_get("live").map_err(StoreError::doing(doing))?,
        })
    })
    .collect()
}

fn json(hosts: &[String]) -> Result<String, StoreError> {
    serde_json::to_string(hosts).map_err(|_| StoreError::Unreadable { what: "hosts" })
}

/// Finds the gateway in use that a certificate belongs to. A renewed certificate takes over
/// when it is first shown: from then on the one before is good for nothing.
pub(super) async fn find_by_certificate(
    db: &Db,
    certificate: &Bytes32,
) -> Result<Option<GatewayName>, StoreError> {
    let row = sqlx::query(
        "SELECT name, CASE WHEN certificate_sha256 = $1 THEN 0 ELSE 1 END AS is_next
           FROM gateways
          WHERE (certificate_sha256 = $1 OR next_certificate_sha256 = $1)
            AND retired_ms IS NULL",
    )
    .bind(certificate.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find gateway"))?;
    let Some(row) = row else { return Ok(None) };
    let name: String = row
        .try_get("name")
        .map_err(StoreError::doing("read gateway row"))?;
    let is_next: i64 = row
        .try_get::<i32, _>("is_next")
        .map(i64::from)
        .or_else(|_| row.try_get("is_next"))
        .map_err(StoreError::doing("read gateway row"))?;
    if is_next == 1 {
        sqlx::query(
            "UPDATE gateways SET certificate_sha256 = $1, next_certificate_sha256 = NULL
              WHERE next_certificate_sha256 = $1",
        )
        .bind(certificate.to_string())
        .execute(db.pool())
        .await
        .map_err(StoreError::doing("take the renewed certificate over"))?;
    }
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
