//! How a PC becomes known to the fund: request, matching code, approval.
//!
//! What is sent was written down before; what comes back is checked before it is. The
//! matching code is computed here from the PC's own key, never taken from an answer.

use std::path::Path;
use std::sync::Arc;

use protocol::EstablishmentNumber;
use protocol::agent_api::{Enrolled, EnrolmentRequest};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

use crate::clock::Clock;
use crate::device_key::KeyError;
use crate::dial::Dialer;
use crate::gateway_client::trust::Roots;
use crate::gateway_client::{ApiError, GatewayClient};
use crate::os;
use crate::store::{Enrolment, Progress, Store, StoreError};
use crate::urls::{GatewayUrl, PortalUrl};

/// Longest name of a PC, in characters.
const DEVICE_NAME_CHARS: usize = 64;

/// Longest registration code that is sent, in bytes.
const CODE_LIMIT_BYTES: usize = 200;

/// What the clerk typed.
#[derive(Debug, Clone)]
pub struct Application {
    /// Where to send the request.
    pub gateway: GatewayUrl,
    /// For which establishment.
    pub establishment: EstablishmentNumber,
    /// The registration code.
    pub code: String,
}

/// Why an enrolment did not come about.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The request got no good answer.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The code is empty or far too long.
    #[error("not a registration code")]
    NoCode,
    /// The approval does not fit this PC or does not make sense.
    #[error("the approval cannot be used: {0}")]
    UnusableApproval(String),
    /// The settings' root certificate cannot be read.
    #[error("cannot read gateway_ca_file: {0}")]
    NoCaFile(std::io::Error),
}

impl EnrolError {
    /// What the user is told.
    pub fn page_text(&self) -> String {
        match self {
            Self::Api(error) => error.page_text(),
            Self::Store(error) => error.page_text(),
            Self::Key(error @ (KeyError::Gone | KeyError::ChipSilent(_))) => {
                error.page_text().to_owned()
            }
            Self::Key(_) => "このパソコンの鍵を作成または利用できませんでした。もう一度お試しください。".to_owned(),
            Self::NoCode => "登録コードを入力してください。".to_owned(),
            Self::UnusableApproval(_) => {
                "基金から届いた登録結果が、このパソコンのものではありませんでした。基金事務局へお問い合わせください。".to_owned()
            }
            Self::NoCaFile(_) => {
                "設定された証明書ファイルを読み取れませんでした。設定をご確認ください。".to_owned()
            }
        }
    }
}

/// The roots for the gateway's TLS before there is an enrolment.
pub fn roots(gateway_ca_file: Option<&Path>) -> Result<Roots, EnrolError> {
    let extra = gateway_ca_file
        .map(std::fs::read)
        .transpose()
        .map_err(EnrolError::NoCaFile)?;
    Ok(Roots::public_and(extra.as_deref())?)
}

/// Asks the fund to register this PC. The key is on disk before the request leaves.
pub async fn apply(
    store: &Store,
    application: Application,
    roots: Roots,
    clock: Arc<Clock>,
    dialer: Dialer,
) -> Result<Enrolment, EnrolError> {
    let code = application.code.trim();
    if code.is_empty() || code.len() > CODE_LIMIT_BYTES {
        return Err(EnrolError::NoCode);
    }
    let device_name: String = os::machine_name().chars().take(DEVICE_NAME_CHARS).collect();
    let client = GatewayClient::anonymous(application.gateway.clone(), roots, clock, dialer)?;
    let mut enrolment = store.prepare(
        &application.gateway,
        application.establishment,
        &device_name,
    )?;
    let request = EnrolmentRequest {
        establishment: application.establishment,
        code: code.to_owned(),
        certificate_request: enrolment.key.certificate_request()?,
        device_name,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        os: os::system_name(),
    };
    let opened = client.open_enrolment(&request).await?;
    enrolment.save(Progress::Pending {
        enrolment: opened.enrolment,
        poll_token: opened.poll_token,
    })?;
    Ok(enrolment)
}

/// Checks an approval and writes it down: the certificate must be for this PC's own key.
pub fn accept(enrolment: &mut Enrolment, enrolled: Box<Enrolled>) -> Result<(), EnrolError> {
    Approval::check(enrolment, &enrolled)?;
    enrolment.save(Progress::Approved(enrolled))?;
    Ok(())
}

/// What an approval means, once checked.
#[derive(Debug, Clone)]
pub struct Approval {
    /// Key and certificate, fitting each other.
    pub identity: Arc<CertifiedKey>,
    /// Gateways, best first; the one that was enrolled at is always among them.
    pub gateways: Vec<GatewayUrl>,
    /// The portal.
    pub portal: PortalUrl,
    /// The authority that signs gateways.
    pub service_authority: rustls::RootCertStore,
}

impl Approval {
    /// Checks that everything in an approval can be used by this PC.
    pub fn check(enrolment: &Enrolment, enrolled: &Enrolled) -> Result<Self, EnrolError> {
        let unusable = EnrolError::UnusableApproval;
        let identity = enrolment
            .key
            .certified(&enrolled.certificate)
            .map_err(|error| unusable(error.to_string()))?;
        let portal = enrolled
            .portal_url
            .parse()
            .map_err(|error| unusable(format!("portal_url: {error}")))?;
        let mut gateways = enrolled
            .gateways
            .iter()
            .map(|url| url.parse())
            .collect::<Result<Vec<GatewayUrl>, _>>()
            .map_err(|error| unusable(format!("gateways: {error}")))?;
        if !gateways.contains(&enrolment.record.gateway) {
            gateways.push(enrolment.record.gateway.clone());
        }
        let mut service_authority = rustls::RootCertStore::empty();
        service_authority
            .add(CertificateDer::from(enrolled.service_authority.0.clone()))
            .map_err(|error| unusable(format!("service_authority: {error}")))?;
        Ok(Self {
            identity,
            gateways,
            portal,
            service_authority,
        })
    }
}
