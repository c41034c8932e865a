//! Gateways: who they are, and how one gets its certificate.
//!
//! A gateway is known by the certificate that `portal gateway add` made for it: signed by
//! the service authority, its DNS name the gateway's, its SHA-256 the row's. All three must
//! fit. `portal gateway renew` makes the next one. A gateway decides nothing; what it may ask is in `control_api`.

use protocol::{Bytes32, GatewayName};
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, ServerName};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::authority::{Identity, IssueError};
use crate::db::{Db, StoreError};
use crate::tunnel_sessions;

pub mod store;

/// Longest base URL of a gateway, in bytes.
const URL_LIMIT_BYTES: usize = 300;
/// Addresses that a gateway may name at most.
pub const ENDPOINTS_LIMIT: usize = 16;

/// A gateway that showed its certificate.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Its name.
    pub name: GatewayName,
}

/// A gateway cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// There is one with this name.
    #[error("gateway {0} exists already")]
    NameTaken(GatewayName),
    /// Not the base URL of an HTTPS service.
    #[error("{0:?} is not an https:// URL of at most {URL_LIMIT_BYTES} bytes")]
    NotAUrl(String),
    /// The certificate cannot be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A gateway cannot be renewed or retired.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is none with this name, or it was retired before.
    #[error("no gateway {0} is in use")]
    NotInUse(GatewayName),
    /// The certificate cannot be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Adds a gateway and makes its identity. `hosts` stand in its certificate beside its name.
pub async fn add(
    app: &App,
    name: &GatewayName,
    url: &str,
    hosts: &[String],
    now: OffsetDateTime,
) -> Result<Identity, AddError> {
    if !is_base_url(url) {
        return Err(AddError::NotAUrl(url.to_owned()));
    }
    let identity = app.authorities.issue_gateway(name, hosts, now)?;
    let mut tx = app.db.begin().await?;
    store::add(
        &mut tx,
        name,
        &fingerprint(&identity.certificate),
        url,
        hosts,
        now,
    )
    .await
    .map_err(|error| {
        if error.is_unique_violation() {
            AddError::NameTaken(name.clone())
        } else {
            error.into()
        }
    })?;
    let act = Act::GatewayAdded(name.to_string());
    audit::record(&mut tx, &app.keys, &Actor::CommandLine, act, now).await?;
    Db::commit(tx).await?;
    Ok(identity)
}

/// Makes the next identity of a gateway in use. The one it has stays good until the new one is
/// first shown. Without `hosts` the certificate names the same as before.
pub async fn renew(
    app: &App,
    name: &GatewayName,
    hosts: &[String],
    now: OffsetDateTime,
) -> Result<Identity, ChangeError> {
    let mut tx = app.db.begin().await?;
    let known = store::lock_hosts(&mut tx, name)
        .await?
        .ok_or_else(|| ChangeError::NotInUse(name.clone()))?;
    let hosts = if hosts.is_empty() { &known } else { hosts };
    let identity = app.authorities.issue_gateway(name, hosts, now)?;
    let next = fingerprint(&identity.certificate);
    store::set_next_certificate(&mut tx, name, &next, hosts).await?;
    let act = Act::GatewayRenewed(name.to_string());
    audit::record(&mut tx, &app.keys, &Actor::CommandLine, act, now).await?;
    Db::commit(tx).await?;
    Ok(identity)
}

/// Takes a gateway out of use for good: it is answered nothing more, its feed ends, and the
/// members' pages take no connection from it. Its sessions go on through other gateways.
/// Returns how many there are.
pub async fn retire(
    app: &App,
    name: &GatewayName,
    now: OffsetDateTime,
) -> Result<u64, ChangeError> {
    let mut tx = app.db.begin().await?;
    if !store::retire(&mut tx, name, now).await? {
        return Err(ChangeError::NotInUse(name.clone()));
    }
    let sessions = tunnel_sessions::store::touch_of_gateway(&mut tx, name, now).await?;
    let act = Act::GatewayRetired(name.to_string());
    audit::record(&mut tx, &app.keys, &Actor::CommandLine, act, now).await?;
    Db::commit(tx).await?;
    app.signals.sessions_changed();
    Ok(sessions)
}

/// All gateways, those in use first.
pub async fn list(app: &App) -> Result<Vec<store::Listed>, StoreError> {
    store::list(&app.db, app.clock.now()).await
}

/// Finds the gateway that a certificate belongs to, if it may still ask. TLS has checked
/// already that the service authority signed it.
pub async fn find(
    db: &Db,
    certificate: &CertificateDer<'_>,
) -> Result<Option<Gateway>, StoreError> {
    let Some(name) = store::find_by_certificate(db, &fingerprint(certificate)).await? else {
        return Ok(None);
    };
    Ok(is_named(certificate, &name).then_some(Gateway { name }))
}

/// Says whether a certificate carries the gateway's name.
fn is_named(certificate: &CertificateDer<'_>, name: &GatewayName) -> bool {
    let Ok(expected) = ServerName::try_from(name.certificate_name()) else {
        return false;
    };
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|certificate| verify_server_name(&certificate, &expected).is_ok())
}

/// SHA-256 of a certificate, by which gateways and devices are found.
pub fn fingerprint(certificate: &[u8]) -> Bytes32 {
    Bytes32(Sha256::digest(certificate).into())
}

/// Says whether a text can be the base URL of a gateway's agent API.
pub fn is_base_url(url: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    url.len() <= URL_LIMIT_BYTES
        && url.chars().all(plain)
        && url
            .strip_prefix("https://")
            .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
