//! The fund's two certificate authorities, and the certificates they sign.
//!
//! The *device authority* signs registered PCs and nothing else. The *service authority*
//! signs gateways and the portal's own listeners. They are separate roots, so that no device
//! certificate can ever be taken for a gateway's. Both are made once, at the first start;
//! their private keys are sealed under the master key and never leave this file in the clear.
//! So is the key of the members' pages, which PCs know by its hash: its certificates are made
//! anew at each start, the key never.
//!
//! All keys are ECDSA P-256. Called by the command line (gateways), by `devices` (approval)
//! and by `listeners` (the portal's own certificates).

use std::net::IpAddr;

use protocol::{Bytes32, DeviceId, GatewayName};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::audit::{self, Act, Actor};
use crate::db::{Db, StoreError};
use crate::keys::{MasterKey, Purpose, random_bytes};

mod store;

/// The name in the certificate of the portal's control listener.
pub const CONTROL_NAME: &str = "control.portal.renkei.internal";
/// The ending of all names that only the fund's own certificates carry.
const INTERNAL_DOMAIN: &str = ".renkei.internal";

/// How long the authorities themselves are valid.
const AUTHORITY_VALIDITY: Duration = Duration::days(20 * 365);
/// How long a PC's certificate is valid.
pub const DEVICE_VALIDITY: Duration = Duration::days(3 * 365);
/// How long a gateway's certificate is valid. A new one is made by `portal gateway renew`.
const GATEWAY_VALIDITY: Duration = Duration::days(3 * 365);
/// How long a listener's certificate is valid. It is made anew at each start and each day.
const LISTENER_VALIDITY: Duration = Duration::days(90);
/// How far certificates reach back, for machines whose clocks are behind.
const BACKDATED: Duration = Duration::days(1);
/// Longest certificate request, in bytes.
const REQUEST_LIMIT_BYTES: usize = 4 * 1024;
/// The row of the key of the members' pages, and where it stands sealed.
const MEMBER_KEY: &str = "member";
const MEMBER_KEY_PLACE: &str = "listener_keys/member";
/// An uncompressed point on P-256, in bytes.
const POINT_BYTES: usize = 65;

/// Both authorities, ready to sign.
#[derive(Debug)]
pub struct Authorities {
    device: Authority,
    service: Authority,
    member_key: KeyPair,
}

/// One of the two authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Device,
    Service,
}

#[derive(Debug)]
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its private key.
#[derive(Debug)]
pub struct Identity {
    /// The certificate alone.
    pub certificate: CertificateDer<'static>,
    /// Its private key (PKCS #8).
    pub key: PrivateKeyDer<'static>,
}

/// A PC's certificate request whose signature was checked. Only its public key is ever used.
#[derive(Debug)]
pub struct DeviceRequest {
    key: rcgen::PublicKey,
}

/// The authorities cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The private key does not open: another master key than the one it was made under.
    #[error("the {0} key does not open: is this the master key of this database?")]
    WrongMasterKey(&'static str),
    /// The certificate library refused.
    #[error("certificate authority unusable")]
    Unusable(#[from] rcgen::Error),
}

/// A certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A name that only the fund's own certificates carry was asked for.
    #[error("host {0} is reserved")]
    ReservedHost(String),
    /// The certificate library refused, for example a host name that is none.
    #[error("cannot make the certificate")]
    Unusable(#[from] rcgen::Error),
}

/// A certificate request that is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Longer than any honest request.
    #[error("certificate request of {0} bytes")]
    TooLong(usize),
    /// Not a request, or its signature does not fit its key.
    #[error("certificate request unreadable")]
    Unreadable(#[source] rcgen::Error),
    /// Another kind of key than ECDSA P-256.
    #[error("certificate request for another key than ECDSA P-256")]
    OtherKey,
}

impl Authorities {
    /// Loads the authorities and the key of the members' pages; makes them, with an audit row
    /// each, where there are none.
    /// Two portals that start at once end up with the same ones.
    pub async fn load_or_make(
        db: &Db,
        keys: &MasterKey,
        fund_name: &str,
        now: OffsetDateTime,
    ) -> Result<Self, AuthorityError> {
        Ok(Self {
            device: load_or_make(db, keys, Kind::Device, fund_name, now).await?,
            service: load_or_make(db, keys, Kind::Service, fund_name, now).await?,
            member_key: load_or_make_member_key(db, keys, now).await?,
        })
    }

    /// The root that signs PCs.
    pub fn device_certificate(&self) -> &CertificateDer<'static> {
        &self.device.certificate
    }

    /// The root that signs gateways and the portal's own listeners.
    pub fn service_certificate(&self) -> &CertificateDer<'static> {
        &self.service.certificate
    }

    /// Signs a PC's certificate: its name is the device's id, whatever the request says.
    pub fn issue_device(
        &self,
        request: &DeviceRequest,
        device: DeviceId,
        now: OffsetDateTime,
    ) -> Result<CertificateDer<'static>, IssueError> {
        let mut params = leaf(&device.to_string(), now, DEVICE_VALIDITY);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&request.key, &self.device.issuer)?;
        Ok(certificate.der().clone())
    }

    /// Makes a gateway's certificate and key. `hosts` are the names and addresses under
    /// which agents reach it from outside.
    pub fn issue_gateway(
        &self,
        name: &GatewayName,
        hosts: &[String],
        now: OffsetDateTime,
    ) -> Result<Identity, IssueError> {
        let mut params = leaf(&name.certificate_name(), now, GATEWAY_VALIDITY);
        params.subject_alt_names = vec![dns(&name.certificate_name())?];
        for host in hosts {
            params.subject_alt_names.push(public_host(host)?);
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        self.service.issue_with_new_key(&params)
    }

    /// Makes the certificate of the members' pages, always for the same key.
    pub fn issue_member_pages(
        &self,
        host: &str,
        now: OffsetDateTime,
    ) -> Result<Identity, IssueError> {
        let certificate = pages(host, now)?.signed_by(&self.member_key, &self.service.issuer)?;
        Ok(Identity {
            certificate: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(self.member_key.serialize_der()).into(),
        })
    }

    /// SHA-256 of the key (SubjectPublicKeyInfo) of the members' pages.
    pub fn member_key_sha256(&self) -> Bytes32 {
        Bytes32(Sha256::digest(self.member_key.subject_public_key_info()).into())
    }

    /// Makes the certificate of the office's pages.
    pub fn issue_office_pages(
        &self,
        host: &str,
        now: OffsetDateTime,
    ) -> Result<Identity, IssueError> {
        self.service.issue_with_new_key(&pages(host, now)?)
    }

    /// Makes the certificate of the control listener.
    pub fn issue_control(&self, now: OffsetDateTime) -> Result<Identity, IssueError> {
        let mut params = leaf(CONTROL_NAME, now, LISTENER_VALIDITY);
        params.subject_alt_names = vec![dns(CONTROL_NAME)?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.service.issue_with_new_key(&params)
    }
}

impl DeviceRequest {
    /// Reads a PKCS #10 request and checks that its sender holds the key.
    pub fn read(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > REQUEST_LIMIT_BYTES {
            return Err(RequestError::TooLong(der.len()));
        }
        let request = CertificateSigningRequestParams::from_der(&der.into())
            .map_err(RequestError::Unreadable)?;
        let key = request.public_key;
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != POINT_BYTES {
            return Err(RequestError::OtherKey);
        }
        Ok(Self { key })
    }

    /// The public key (SubjectPublicKeyInfo, DER), from which the matching code is made.
    pub fn public_key_info(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }
}

impl Authority {
    fn issue_with_new_key(&self, params: &CertificateParams) -> Result<Identity, IssueError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            certificate: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }
}

impl Kind {
    /// The word in the database and in the audit log.
    fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Service => "service",
        }
    }

    /// Where the sealed key stands.
    fn place(self) -> String {
        format!("authorities/{}", self.as_str())
    }
}

async fn load_or_make(
    db: &Db,
    keys: &MasterKey,
    kind: Kind,
    fund_name: &str,
    now: OffsetDateTime,
) -> Result<Authority, AuthorityError> {
    if let Some(row) = store::find(db, kind).await? {
        return open(keys, kind, row);
    }
    let (certificate, key) = make(kind, fund_name, now)?;
    let sealed = keys.seal(Purpose::AuthorityKey, &kind.place(), &key);
    let mut tx = db.begin().await?;
    if store::add(&mut tx, kind, &certificate, &sealed, now).await? {
        let act = Act::AuthorityMade(kind.as_str());
        audit::record(&mut tx, keys, &Actor::System, act, now).await?;
    }
    Db::commit(tx).await?;
    // Read back: if another portal was faster, its authority is the one.
    let row = store::find(db, kind).await?.ok_or(StoreError::Unreadable {
        what: "authority that was just written",
    })?;
    open(keys, kind, row)
}

fn open(keys: &MasterKey, kind: Kind, row: store::Row) -> Result<Authority, AuthorityError> {
    let key = keys
        .open(Purpose::AuthorityKey, &kind.place(), &row.key_sealed)
        .map_err(|_| AuthorityError::WrongMasterKey(kind.as_str()))?;
    let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(key.as_slice()))?;
    let issuer = Issuer::from_ca_cert_der(&row.certificate, key)?;
    Ok(Authority {
        certificate: row.certificate,
        issuer,
    })
}

async fn load_or_make_member_key(
    db: &Db,
    keys: &MasterKey,
    now: OffsetDateTime,
) -> Result<KeyPair, AuthorityError> {
    let sealed = match store::find_listener_key(db, MEMBER_KEY).await? {
        Some(sealed) => sealed,
        None => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let key = Zeroizing::new(key.serialize_der());
            let sealed = keys.seal(Purpose::AuthorityKey, MEMBER_KEY_PLACE, &key);
            let mut tx = db.begin().await?;
            if store::add_listener_key(&mut tx, MEMBER_KEY, &sealed, now).await? {
                let act = Act::AuthorityMade("member_pages_key");
                audit::record(&mut tx, keys, &Actor::System, act, now).await?;
            }
            Db::commit(tx).await?;
            // Read back: if another portal was faster, its key is the one.
            let found = store::find_listener_key(db, MEMBER_KEY).await?;
            found.ok_or(StoreError::Unreadable {
                what: "listener key that was just written",
            })?
        }
    };
    let key = keys
        .open(Purpose::AuthorityKey, MEMBER_KEY_PLACE, &sealed)
        .map_err(|_| AuthorityError::WrongMasterKey(MEMBER_KEY))?;
    Ok(KeyPair::try_from(&PrivatePkcs8KeyDer::from(
        key.as_slice(),
    ))?)
}

/// Makes a root: its certificate and its private key (PKCS #8).
fn make(
    kind: Kind,
    fund_name: &str,
    now: OffsetDateTime,
) -> Result<(CertificateDer<'static>, Zeroizing<Vec<u8>>), rcgen::Error> {
    let mut params = dated(now, AUTHORITY_VALIDITY);
    let name = &mut params.distinguished_name;
    name.push(DnType::OrganizationName, fund_name);
    name.push(
        DnType::CommonName,
        match kind {
            Kind::Device => "Renkei device authority",
            Kind::Service => "Renkei service authority",
        },
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    Ok((
        certificate.der().clone(),
        Zeroizing::new(key.serialize_der()),
    ))
}

/// What every certificate has that is not an authority's.
fn leaf(common_name: &str, now: OffsetDateTime, validity: Duration) -> CertificateParams {
    let mut params = dated(now, validity);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

/// What the certificates of listeners for people have.
fn pages(host: &str, now: OffsetDateTime) -> Result<CertificateParams, IssueError> {
    let mut params = leaf(host, now, LISTENER_VALIDITY);
    params.subject_alt_names = vec![public_host(host)?];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn dated(now: OffsetDateTime, validity: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = now - BACKDATED;
    params.not_after = now + validity;
    let mut serial: [u8; 16] = random_bytes();
    serial[0] = serial[0] & 0x7f | 0x40; // positive, and always of full length
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

fn public_host(host: &str) -> Result<SanType, IssueError> {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    if name.ends_with(INTERNAL_DOMAIN) {
        return Err(IssueError::ReservedHost(host.to_owned()));
    }
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => dns(host),
    }
}

fn dns(name: &str) -> Result<SanType, IssueError> {
    Ok(SanType::DnsName(name.try_into()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::testing::databases;
    use std::sync::Arc;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::server::WebPkiClientVerifier;
    use rustls_pki_types::{ServerName, UnixTime};

    async fn authorities(db: &Db, keys: &MasterKey) -> Authorities {
        Authorities::load_or_make(db, keys, "見本企業年金基金", Clock::System.now())
            .await
            .unwrap()
    }

    fn roots(root: &CertificateDer<'static>) -> Arc<rustls::RootCertStore> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        Arc::new(roots)
    }

    fn client_fits(leaf: &CertificateDer<'_>, root: &CertificateDer<'static>) -> bool {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        WebPkiClientVerifier::builder_with_provider(roots(root), provider)
            .build()
            .unwrap()
            .verify_client_cert(leaf, &[], UnixTime::now())
            .is_ok()
    }

    fn server_fits(leaf: &CertificateDer<'_>, root: &CertificateDer<'static>, name: &str) -> bool {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let name = ServerName::try_from(name.to_owned()).unwrap();
        WebPkiServerVerifier::builder_with_provider(roots(root), provider)
            .build()
            .unwrap()
            .verify_server_cert(leaf, &[], &name, &[], UnixTime::now())
            .is_ok()
    }

    fn request() -> Vec<u8> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(vec!["bank.example.jp".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serialize_request(&key).unwrap().der().to_vec()
    }

    #[tokio::test]
    async fn portals_that_start_at_once_make_one_authority() {
        for db in databases().await {
            let keys = MasterKey::generate();
            let starts: Vec<_> = (0..6)
                .map(|_| {
                    let (db, keys) = (db.clone(), keys.clone());
                    tokio::spawn(async move { authorities(&db, &keys).await })
                })
                .collect();
            let mut made = Vec::new();
            for start in starts {
                let authorities = start.await.unwrap();
                made.push((
                    authorities.device_certificate().clone(),
                    authorities.service_certificate().clone(),
                    authorities.member_key_sha256(),
                ));
            }
            made.dedup();
            assert_eq!(made.len(), 1);
            assert_eq!(audit::verify(&db, &keys).await.unwrap(), 3);
        }
    }

    #[tokio::test]
    async fn another_master_key_opens_no_authority() {
        for db in databases().await {
            authorities(&db, &MasterKey::generate()).await;
            let other = MasterKey::generate();
            let error = Authorities::load_or_make(&db, &other, "", Clock::System.now()).await;
            assert!(matches!(error, Err(AuthorityError::WrongMasterKey(_))));
        }
    }

    #[tokio::test]
    async fn a_device_is_a_client_of_the_device_authority_and_nothing_else() {
        let db = crate::testing::sqlite().await;
        let keys = MasterKey::generate();
        let authorities = authorities(&db, &keys).await;
        let request = DeviceRequest::read(&request()).unwrap();
        let device = DeviceId::from_uuid(uuid::Uuid::now_v7());
        let certificate = authorities
            .issue_device(&request, device, Clock::System.now())
            .unwrap();
        let device_root = authorities.device_certificate();
        assert!(client_fits(&certificate, device_root));
        assert!(!client_fits(
            &certificate,
            authorities.service_certificate()
        ));
        assert!(!server_fits(&certificate, device_root, "bank.example.jp"));
        let text = String::from_utf8_lossy(&certificate).into_owned();
        assert!(text.contains(&device.to_string()));
        assert!(!text.contains("bank.example.jp"), "only the key is taken");
    }

    #[tokio::test]
    async fn a_gateway_is_client_and_server_under_its_own_name() {
        let db = crate::testing::sqlite().await;
        let authorities = authorities(&db, &MasterKey::generate()).await;
        let name: GatewayName = "tokyo-1".parse().unwrap();
        let hosts = ["vpn.example.jp".to_owned(), "192.0.2.1".to_owned()];
        let now = Clock::System.now();
        let identity = authorities.issue_gateway(&name, &hosts, now).unwrap();
        let root = authorities.service_certificate();
        assert!(client_fits(&identity.certificate, root));
        for host in [
            "tokyo-1.gateway.renkei.internal",
            "vpn.example.jp",
            "192.0.2.1",
        ] {
            assert!(server_fits(&identity.certificate, root, host), "{host}");
        }
        assert!(!server_fits(&identity.certificate, root, CONTROL_NAME));
        let stolen = [CONTROL_NAME.to_owned()];
        assert!(matches!(
            authorities.issue_gateway(&name, &stolen, now),
            Err(IssueError::ReservedHost(_))
        ));
    }

    #[tokio::test]
    async fn the_members_pages_keep_their_key_through_every_restart() {
        for db in databases().await {
            let keys = MasterKey::generate();
            let first = authorities(&db, &keys).await;
            let again = authorities(&db, &keys).await;
            assert_eq!(first.member_key_sha256(), again.member_key_sha256());
            let host = "renkei.example.jp";
            let pages = again.issue_member_pages(host, Clock::System.now()).unwrap();
            let root = first.service_certificate();
            assert!(server_fits(&pages.certificate, root, host));
            let end = rustls::server::ParsedCertificate::try_from(&pages.certificate).unwrap();
            let shown = Sha256::digest(end.subject_public_key_info());
            assert_eq!(Bytes32(shown.into()), first.member_key_sha256());
        }
    }

    #[tokio::test]
    async fn a_listener_is_no_client() {
        let db = crate::testing::sqlite().await;
        let authorities = authorities(&db, &MasterKey::generate()).await;
        let root = authorities.service_certificate();
        let control = authorities.issue_control(Clock::System.now()).unwrap();
        assert!(server_fits(&control.certificate, root, CONTROL_NAME));
        assert!(!client_fits(&control.certificate, root));
    }

    #[test]
    fn a_request_that_was_changed_or_is_none_is_refused() {
        let mut changed = request();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        assert!(DeviceRequest::read(&changed).is_err());
        assert!(DeviceRequest::read(&[]).is_err());
        assert!(matches!(
            DeviceRequest::read(&[0; 5000]),
            Err(RequestError::TooLong(5000))
        ));
        let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let request = CertificateParams::default()
            .serialize_request(&other)
            .unwrap();
        assert!(matches!(
            DeviceRequest::read(request.der()),
            Err(RequestError::OtherKey)
        ));
    }
}
