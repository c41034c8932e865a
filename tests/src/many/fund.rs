//! A fund's establishments, users and PCs, put straight into the database.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portal::authority::{Authorities, DEVICE_VALIDITY, DeviceRequest};
use portal::clock::unix_ms;
use portal::db::Db;
use portal::ids::{EstablishmentId, UserId};
use portal::keys::MasterKey;
use protocol::{Bytes32, DeviceId};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::Stage;
use crate::stage::FUND_NAME;

/// PCs of one establishment.
const PCS_PER_ESTABLISHMENT: usize = 3;

/// How the users of the PCs sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondFactor {
    /// With a code by mail for each session.
    Mail,
    /// With an authenticator app.
    Authenticator,
}

/// One approved PC.
#[derive(Debug)]
pub(super) struct Pc {
    pub(super) id: DeviceId,
    pub(super) certificate: CertificateDer<'static>,
    /// All PCs have the same key: what it costs is the same, and making it takes time.
    pub(super) key: Arc<PrivateKeyDer<'static>>,
}

/// Registers `count` PCs.
pub(super) async fn register(
    stage: &Stage,
    database: &str,
    count: usize,
    factor: SecondFactor,
) -> Result<Vec<Pc>> {
    let keys = MasterKey::from_file(&stage.folder().join("portal/master.key"))?;
    let db = Db::open(database).await?;
    let now = now();
    let authorities = Authorities::load_or_make(&db, &keys, FUND_NAME, now).await?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let request = CertificateParams::default().serialize_request(&key)?;
    let request = DeviceRequest::read(request.der())?;
    let public_key = STANDARD.encode(request.public_key_info());
    let secret = Arc::new(PrivateKeyDer::from(PrivatePkcs8KeyDer::from(
        key.serialize_der(),
    )));

    let mut pcs = Vec::with_capacity(count);
    let mut tx = db.begin().await?;
    let mut establishment = EstablishmentId::new();
    for number in 0..count {
        if number % PCS_PER_ESTABLISHMENT == 0 {
            establishment = EstablishmentId::new();
            let public_number = i64::try_from(number / PCS_PER_ESTABLISHMENT)? + 1000;
            sqlx::query(
                "INSERT INTO establishments (id, number, name, key_wrapped, zip_password_sealed,
                                             device_limit, created_ms)
                 VALUES ($1, $2, 'invented', '', '', 3, $3)",
            )
            .bind(establishment.to_string())
            .bind(public_number)
            .bind(unix_ms(now))
            .execute(&mut *tx)
            .await?;
        }
        let user = UserId::new();
        sqlx::query(
            "INSERT INTO users (id, user_id, name, email, password_hash, second_factor, created_ms,
                                terms_version, introduced_ms)
             VALUES ($1, $2, 'invented', $3, '', $4, $5, 1, $5)",
        )
        .bind(user.to_string())
        .bind(format!("many{number}"))
        .bind(format!("many{number}@renkei.example"))
        .bind(match factor {
            SecondFactor::Mail => "email",
            SecondFactor::Authenticator => "totp",
        })
        .bind(unix_ms(now))
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO memberships (id, establishment_id, user_id, role, created_ms)
             VALUES ($1, $2, $3, 'added', $4)",
        )
        .bind(Uuid::now_v7().to_string())
        .bind(establishment.to_string())
        .bind(user.to_string())
        .bind(unix_ms(now))
        .execute(&mut *tx)
        .await?;
        let id = DeviceId::from_uuid(Uuid::now_v7());
        let certificate = authorities.issue_device(&request, id, now)?;
        let hash = Bytes32(Sha256::digest(&certificate).into());
        sqlx::query(
            "INSERT INTO devices (id, establishment_id, user_id, name, os, public_key,
                                  grants_given, approved_ms, approved_by)
             VALUES ($1, $2, $3, 'invented', 'invented', $4, 0, $5, 'invented')",
        )
        .bind(id.to_string())
        .bind(establishment.to_string())
        .bind(user.to_string())
        .bind(public_key.as_str())
        .bind(unix_ms(now))
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO device_certificates (sha256, device_id, certificate, issued_ms, expires_ms)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(hash.to_string())
        .bind(id.to_string())
        .bind(STANDARD.encode(&certificate))
        .bind(unix_ms(now))
        .bind(unix_ms(now + DEVICE_VALIDITY))
        .execute(&mut *tx)
        .await?;
        pcs.push(Pc {
            id,
            certificate,
            key: Arc::clone(&secret),
        });
    }
    tx.commit().await.context("register the PCs")?;
    Ok(pcs)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the machine's clock"
)]
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
