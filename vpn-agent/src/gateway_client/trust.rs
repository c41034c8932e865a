//! Whose certificate the agent believes, and at what time.
//!
//! # Roots
//! The public authorities (Mozilla's list, compiled in), the settings' `gateway_ca_file`,
//! and, once enrolled, the fund's own service authority.
//!
//! # A wrong clock
//! A PC whose clock is a year off must still connect, but a certificate whose time is over
//! must not be believed just because somebody turned a clock. So:
//!
//! - Until the PC is enrolled, dates are checked strictly by the PC's clock. The
//!   registration code, and with the approval the fund's authority, go over this connection.
//!   A wrong clock gets its own sentence.
//! - An enrolled PC that meets dates which do not fit its clock makes **one lenient request**
//!   (`GET /v1/status`), on a connection of its own, to learn the portal's time. Name, chain
//!   and signature are checked as always; only the time is replaced. The request holds no
//!   secret and its answer decides nothing but the time.
//! - Then it connects anew and checks everything strictly **at the time it was told**. A
//!   server can so only vouch for a time at which its own certificate is valid.
//! - The time never runs back behind the **floor**: the latest server time this PC has ever
//!   seen (kept on disk), or the day the program was made. A certificate that ended before the
//!   floor is refused in both steps.
//!
//! What is left: who holds the stolen key of a certificate that ended after this PC's last
//! contact, and sits on the line, can pass as the gateway's API. He gains nothing by it: a
//! session request is signed by the device and usable once, the gateway proves itself again
//! inside the tunnel with the fund's own certificate, and the portal's TLS runs end to end.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::ApiError;
use crate::clock::{Clock, unix_time};

/// Dates in a chain that may be stepped over: leaf and two intermediates, both ends.
const MAX_DATES: usize = 6;

/// The authorities that may sign a gateway's TLS certificate.
#[derive(Debug, Clone)]
pub struct Roots(RootCertStore);

/// How strictly certificates' dates are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dates {
    /// By the clock.
    Strict,
    /// Any time that is not before the clock's floor: only for learning the time.
    NotBeforeFloor,
}

impl Roots {
    /// The public authorities, and those in the PEM text `extra`.
    pub fn public_and(extra: Option<&[u8]>) -> Result<Self, ApiError> {
        let mut store = RootCertStore::empty();
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(pem) = extra {
            let mut found = 0;
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate =
                    certificate.map_err(|error| ApiError::Trust(error.to_string()))?;
                store
                    .add(certificate)
                    .map_err(|error| ApiError::Trust(error.to_string()))?;
                found += 1;
            }
            if found == 0 {
                return Err(ApiError::Trust("no certificate in the PEM file".to_owned()));
            }
        }
        Ok(Self(store))
    }

    /// These and the fund's service authority.
    pub fn and_service_authority(mut self, authority: &[u8]) -> Result<Self, ApiError> {
        self.0
            .add(CertificateDer::from(authority))
            .map_err(|error| ApiError::Trust(error.to_string()))?;
        Ok(self)
    }
}

/// The settings of a TLS client: version 1.3 only, ring, time from `clock`.
pub fn tls_config(
    roots: &Roots,
    identity: Option<Arc<CertifiedKey>>,
    clock: Arc<Clock>,
    dates: Dates,
) -> Result<ClientConfig, ApiError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trust = |error: &dyn std::error::Error| ApiError::Trust(error.to_string());
    let rule = Arc::new(DatesRule {
        clock: clock.clone(),
        dates,
    });
    let verifier = Verifier::new(roots, provider.clone(), rule)?;
    let builder = ClientConfig::builder_with_details(provider, clock)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| trust(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(match identity {
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        None => builder.with_no_client_auth(),
    })
}

/// The standard verifier, with a rule that has a say about the time it is asked at. Names,
/// chains and signatures are checked as always.
#[derive(Debug)]
pub(crate) struct Verifier<R> {
    standard: Arc<WebPkiServerVerifier>,
    rule: Arc<R>,
}

/// What decides about a certificate.
pub(crate) trait Rule: std::fmt::Debug + Send + Sync {
    /// Judges the certificate `end_entity` that was shown at `now`. `verify` is the standard
    /// verifier's verdict on it as of a time.
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        now: UnixTime,
        verify: &dyn Fn(UnixTime) -> Verdict,
    ) -> Verdict;
}

/// What a verifier says.
pub(crate) type Verdict = Result<ServerCertVerified, Error>;

impl<R: Rule> Verifier<R> {
    /// Believes `roots` and asks `rule`.
    pub(crate) fn new(
        roots: &Roots,
        provider: Arc<CryptoProvider>,
        rule: Arc<R>,
    ) -> Result<Self, ApiError> {
        let standard =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots.0.clone()), provider)
                .build()
                .map_err(|error| ApiError::Trust(error.to_string()))?;
        Ok(Self { standard, rule })
    }
}

/// Dates as the rules above take them.
#[derive(Debug)]
struct DatesRule {
    clock: Arc<Clock>,
    dates: Dates,
}

impl Rule for DatesRule {
    fn judge(
        &self,
        _: &CertificateDer<'_>,
        now: UnixTime,
        verify: &dyn Fn(UnixTime) -> Verdict,
    ) -> Verdict {
        let floor = unix_time(self.clock.floor());
        match self.dates {
            Dates::Strict => verify(now),
            // One that is valid since before the floor is looked at as of the floor; one that
            // ended before it is refused there too.
            Dates::NotBeforeFloor => beyond_dates(verify(now), |time| verify(time.max(floor))),
        }
    }
}

/// The verdict once dates that do not fit are stepped over, one after the other.
pub(crate) fn beyond_dates(first: Verdict, verify: impl Fn(UnixTime) -> Verdict) -> Verdict {
    let mut verdict = first;
    for _ in 0..MAX_DATES {
        let Some(time) = verdict.as_ref().err().and_then(edge) else {
            break;
        };
        verdict = verify(time);
    }
    verdict
}

/// Where to look again after a date did not fit: at the edge of the certificate's time.
pub(crate) fn edge(error: &Error) -> Option<UnixTime> {
    match error {
        Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) => {
            Some(*not_before)
        }
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            Some(*not_after)
        }
        _ => None,
    }
}

impl<R: Rule> ServerCertVerifier for Verifier<R> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Verdict {
        self.rule.judge(end_entity, now, &|time| {
            self.standard.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                time,
            )
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.standard.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.standard.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.standard.supported_verify_schemes()
    }
}
