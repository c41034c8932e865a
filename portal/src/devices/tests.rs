//! Registration of PCs: codes, limits, approval, revocation, on both databases.

use super::*;
use crate::establishments::{
    self, DeviceLimit, LoginName, MailAddress, Name, NewEstablishment, NewUser,
};
use crate::gateways::Gateway;
use crate::ids::{EstablishmentId, UserId};
use crate::testing::{NOW, app, databases};

use protocol::agent_api::{RefusalCode, SessionRequest, move_message, session_message};
use protocol::control::{GatewayHello, SessionOpened};
use protocol::{Bytes32, Der};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

/// A fund with one establishment (0123), one user and one gateway that has registered.
pub(crate) struct Fund {
    pub(crate) app: App,
    pub(crate) establishment: EstablishmentId,
    pub(crate) user: UserId,
    pub(crate) staff: StaffId,
    pub(crate) gateway: Gateway,
    pub(crate) gateway_identity: crate::authority::Identity,
}

/// A PC that was approved, with its key.
pub(crate) struct Pc {
    pub(crate) id: DeviceId,
    pub(crate) key: KeyPair,
    pub(crate) certificate: Vec<u8>,
}

impl Fund {
    pub(crate) async fn new(db: &Db) -> Self {
        Self::on(app(db).await).await
    }

    pub(crate) async fn on(app: App) -> Self {
        let now = app.clock.now();
        let mut tx = app.db.begin().await.unwrap();
        let establishment = NewEstablishment {
            number: "0123".parse().unwrap(),
            name: Name::new("見本株式会社").unwrap(),
            device_limit: DeviceLimit::default(),
        };
        let admin = NewUser {
            login: LoginName::new("suzuki").unwrap(),
            name: Name::new("鈴木 花子").unwrap(),
            email: MailAddress::new("suzuki@example.jp").unwrap(),
            password_hash: "unused".to_owned(),
        };
        let actor = Actor::CommandLine;
        let (establishment, user) =
            establishments::register(&mut tx, &app.keys, &actor, &establishment, &admin, now)
                .await
                .unwrap();
        Db::commit(tx).await.unwrap();
        let name: protocol::GatewayName = "tokyo-1".parse().unwrap();
        let hosts = ["127.0.0.1".to_owned()];
        let url = "https://vpn.example.jp";
        let gateway_identity = crate::gateways::add(&app, &name, url, &hosts, now)
            .await
            .unwrap();
        let mut tx = app.db.begin().await.unwrap();
        let hello = GatewayHello {
            wireguard_public_key: Bytes32([9; 32]),
            endpoints: vec!["192.0.2.1:51820".parse().unwrap()],
            url: url.to_owned(),
            version: "0.1.0".to_owned(),
        };
        crate::gateways::store::register(&mut tx, &name, &hello, now)
            .await
            .unwrap();
        Db::commit(tx).await.unwrap();
        Self {
            app,
            establishment,
            user,
            staff: StaffId::new(),
            gateway: Gateway { name },
            gateway_identity,
        }
    }

    pub(crate) async fn code(&self) -> String {
        let mut tx = self.app.db.begin().await.unwrap();
        let issued = establishments::issue_code(
            &mut tx,
            &self.app.keys,
            &Actor::Staff(self.staff),
            self.establishment,
            self.user,
            self.app.clock.now(),
        )
        .await
        .unwrap()
        .unwrap();
        Db::commit(tx).await.unwrap();
        issued.code.to_string()
    }

    pub(crate) async fn enrol(
        &self,
        code: &str,
        key: &KeyPair,
        name: &str,
    ) -> Result<Opened, Refused> {
        let asked = asked(code, key, name);
        enrol(&self.app, &asked, self.app.clock.now()).await
    }

    /// A PC that was enrolled and approved.
    pub(crate) async fn device(&self, name: &str) -> Pc {
        let key = new_key();
        let opened = self.enrol(&self.code().await, &key, name).await.unwrap();
        self.approve(opened.enrolment, key).await
    }

    pub(crate) async fn approve(&self, enrolment: EnrolmentId, key: KeyPair) -> Pc {
        let now = self.app.clock.now();
        let mut tx = self.app.db.begin().await.unwrap();
        let id = approve(&mut tx, &self.app, self.staff, enrolment, now)
            .await
            .unwrap();
        Db::commit(tx).await.unwrap();
        let polled = store::poll(&self.app.db, enrolment).await.unwrap().unwrap();
        let store::Outcome::Approved(device) = polled.outcome else {
            panic!("approved");
        };
        assert_eq!(device.id, id);
        Pc {
            id,
            key,
            certificate: device.certificate,
        }
    }

    pub(crate) async fn revoke(&self, device: DeviceId) -> Result<Option<SessionId>, DecideError> {
        let mut tx = self.app.db.begin().await.unwrap();
        let ended = revoke(
            &mut tx,
            &self.app.keys,
            &Actor::Staff(self.staff),
            device,
            "紛失",
            self.app.clock.now(),
        )
        .await?;
        Db::commit(tx).await.unwrap();
        self.app.signals.sessions_changed();
        Ok(ended)
    }

    /// One more gateway that has registered.
    pub(crate) async fn further_gateway(&self, name: &str) -> Gateway {
        let name: protocol::GatewayName = name.parse().unwrap();
        let (app, now) = (&self.app, self.app.clock.now());
        let url = format!("https://{name}.example.jp");
        let hosts = ["127.0.0.1".to_owned()];
        crate::gateways::add(app, &name, &url, &hosts, now)
            .await
            .unwrap();
        let hello = GatewayHello {
            wireguard_public_key: Bytes32([10; 32]),
            endpoints: vec!["192.0.2.2:51820".parse().unwrap()],
            url,
            version: "0.1.0".to_owned(),
        };
        let mut tx = app.db.begin().await.unwrap();
        crate::gateways::store::register(&mut tx, &name, &hello, now)
            .await
            .unwrap();
        Db::commit(tx).await.unwrap();
        Gateway { name }
    }

    /// Takes a session to a gateway with a new WireGuard key.
    pub(crate) async fn move_to(
        &self,
        gateway: &Gateway,
        pc: &Pc,
        session: SessionId,
    ) -> Result<SessionOpened, Refused> {
        let request = pc.move_request(session, Bytes32(crate::keys::random_bytes()));
        self.move_with(gateway, pc, session, &request).await
    }

    pub(crate) async fn move_with(
        &self,
        gateway: &Gateway,
        pc: &Pc,
        session: SessionId,
        request: &SessionRequest,
    ) -> Result<SessionOpened, Refused> {
        let certificate = fingerprint(&pc.certificate);
        let (app, now) = (&self.app, self.app.clock.now());
        tunnel_sessions::moves::move_here(app, gateway, &certificate, session, request, now).await
    }

    /// Opens a session with a new WireGuard key.
    pub(crate) async fn connect(&self, pc: &Pc) -> Result<SessionOpened, Refused> {
        self.connect_with(pc, &pc.request(Bytes32(crate::keys::random_bytes())))
            .await
    }

    pub(crate) async fn connect_with(
        &self,
        pc: &Pc,
        request: &SessionRequest,
    ) -> Result<SessionOpened, Refused> {
        let certificate = fingerprint(&pc.certificate);
        let now = self.app.clock.now();
        tunnel_sessions::open(&self.app, &self.gateway, &certificate, request, now).await
    }
}

impl Pc {
    pub(crate) fn request(&self, wireguard_public_key: Bytes32) -> SessionRequest {
        let message = session_message(&self.id, &wireguard_public_key);
        self.signed(wireguard_public_key, &message)
    }

    pub(crate) fn move_request(
        &self,
        session: SessionId,
        wireguard_public_key: Bytes32,
    ) -> SessionRequest {
        let message = move_message(&self.id, &session, &wireguard_public_key);
        self.signed(wireguard_public_key, &message)
    }

    fn signed(&self, wireguard_public_key: Bytes32, message: &[u8]) -> SessionRequest {
        let rng = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            self.key.serialized_der(),
            &rng,
        )
        .unwrap();
        SessionRequest {
            wireguard_public_key,
            signature: Der(key.sign(&rng, message).unwrap().as_ref().to_vec()),
        }
    }
}

pub(crate) fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

pub(crate) fn asked(code: &str, key: &KeyPair, name: &str) -> EnrolmentRequest {
    let request = CertificateParams::default().serialize_request(key).unwrap();
    EnrolmentRequest {
        establishment: "0123".parse().unwrap(),
        code: code.to_owned(),
        certificate_request: Der(request.der().to_vec()),
        device_name: name.to_owned(),
        agent_version: "0.1.0".to_owned(),
        os: "Linux".to_owned(),
    }
}

fn code_of<T: std::fmt::Debug>(refused: Result<T, Refused>) -> RefusalCode {
    refused.unwrap_err().code()
}

#[tokio::test]
async fn a_pc_is_enrolled_approved_and_listed() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let key = new_key();
        let opened = fund
            .enrol(&fund.code().await, &key, "総務部-PC1")
            .await
            .unwrap();
        let waiting = store::pending(&db).await.unwrap();
        assert_eq!(waiting.len(), 1);
        let expected = matching_code(&key.subject_public_key_info());
        assert_eq!(waiting[0].matching_code, expected);
        assert_eq!(waiting[0].device_name, "総務部-PC1");
        assert_eq!(waiting[0].user_name, "鈴木 花子");

        let pc = fund.approve(opened.enrolment, key).await;
        assert_eq!(store::pending(&db).await.unwrap(), []);
        let devices = store::of_establishment(&db, fund.establishment)
            .await
            .unwrap();
        assert_eq!((devices.len(), devices[0].id), (1, pc.id));
        assert_eq!(devices[0].revoked, None);

        let mut tx = db.begin().await.unwrap();
        let again = approve(&mut tx, &fund.app, fund.staff, opened.enrolment, NOW).await;
        assert!(matches!(again, Err(DecideError::NotOpen(_))));
    }
}

#[tokio::test]
async fn a_code_used_by_twenty_at_once_gives_one_enrolment() {
    for db in databases().await {
        let fund = std::sync::Arc::new(Fund::new(&db).await);
        let code = fund.code().await;
        let tries: Vec<_> = (0..20)
            .map(|n| {
                let (fund, code) = (fund.clone(), code.clone());
                tokio::spawn(async move { fund.enrol(&code, &new_key(), &format!("PC-{n}")).await })
            })
            .collect();
        let mut opened = 0;
        for result in tries {
            match result.await.unwrap() {
                Ok(_) => opened += 1,
                Err(refused) => assert_eq!(refused.code(), RefusalCode::WrongCode),
            }
        }
        assert_eq!(opened, 1);
        assert_eq!(store::pending(&db).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn wrong_used_expired_and_foreign_codes_are_answered_alike() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let used = fund.code().await;
        fund.enrol(&used, &new_key(), "PC-1").await.unwrap();
        let mut sentences = Vec::new();
        let mut refuse = |refused: Refused| {
            assert_eq!(refused.code(), RefusalCode::WrongCode);
            sentences.push(refused.page_text());
        };
        refuse(fund.enrol(&used, &new_key(), "PC-2").await.unwrap_err());
        refuse(
            fund.enrol("ABCD-EFGH-JKLM", &new_key(), "PC-2")
                .await
                .unwrap_err(),
        );
        refuse(fund.enrol("short", &new_key(), "PC-2").await.unwrap_err());
        let good = fund.code().await;
        let mut elsewhere = asked(&good, &new_key(), "PC-2");
        elsewhere.establishment = "0999".parse().unwrap();
        refuse(enrol(&fund.app, &elsewhere, NOW).await.unwrap_err());
        let late = NOW + establishments::CODE_VALIDITY;
        let request = asked(&good, &new_key(), "PC-2");
        refuse(enrol(&fund.app, &request, late).await.unwrap_err());
        sentences.dedup();
        assert_eq!(sentences.len(), 1);
        // None of that used the good code up.
        fund.enrol(&good.to_lowercase(), &new_key(), "PC-2")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_lost_answer_can_be_asked_for_again_with_the_same_key_alone() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let (code, key) = (fund.code().await, new_key());
        let first = fund.enrol(&code, &key, "PC-1").await.unwrap();
        let second = fund.enrol(&code, &key, "PC-1").await.unwrap();
        assert_eq!(first.enrolment, second.enrolment);
        assert_ne!(first.poll_token, second.poll_token);
        let polled = store::poll(&db, first.enrolment).await.unwrap().unwrap();
        let fits = |token: &str| {
            let keys = &fund.app.keys;
            keys.hash_fits(Purpose::Token, token.as_bytes(), &polled.poll_token_hash)
        };
        assert!(fits(&second.poll_token) && !fits(&first.poll_token));
        fund.approve(first.enrolment, key).await;
    }
}

#[tokio::test]
async fn waiting_requests_count_towards_the_limit_and_the_code_stays_good() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let first = fund.device("PC-1").await;
        for name in ["PC-2", "PC-3"] {
            fund.enrol(&fund.code().await, &new_key(), name)
                .await
                .unwrap();
        }
        let code = fund.code().await;
        let refused = fund.enrol(&code, &new_key(), "PC-4").await;
        assert_eq!(code_of(refused), RefusalCode::TooManyDevices);
        fund.revoke(first.id).await.unwrap();
        fund.enrol(&code, &new_key(), "PC-4").await.unwrap();
    }
}

#[tokio::test]
async fn the_limit_holds_under_parallel_requests() {
    for db in databases().await {
        let fund = std::sync::Arc::new(Fund::new(&db).await);
        let mut tries = Vec::new();
        for n in 0..8 {
            let (fund, code) = (fund.clone(), fund.code().await);
            tries.push(tokio::spawn(async move {
                fund.enrol(&code, &new_key(), &format!("PC-{n}"))
                    .await
                    .is_ok()
            }));
        }
        let mut opened = 0;
        for result in tries {
            opened += usize::from(result.await.unwrap());
        }
        assert_eq!(opened, usize::from(establishments::DEVICE_LIMIT));
    }
}

#[tokio::test]
async fn a_malformed_request_uses_no_code_up() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let code = fund.code().await;
        let mut no_request = asked(&code, &new_key(), "PC-1");
        no_request.certificate_request = Der(vec![0x30, 0]);
        let mut no_name = asked(&code, &new_key(), " ");
        no_name.os = "x".to_owned();
        let long_name = asked(&code, &new_key(), &"あ".repeat(65));
        for request in [no_request, no_name, long_name] {
            let refused = enrol(&fund.app, &request, NOW).await;
            assert_eq!(code_of(refused), RefusalCode::BadRequest);
        }
        fund.enrol(&code, &new_key(), "PC-1").await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_was_refused_cannot_come_back() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let key = new_key();
        let opened = fund.enrol(&fund.code().await, &key, "PC-1").await.unwrap();
        let mut tx = db.begin().await.unwrap();
        refuse(&mut tx, &fund.app.keys, fund.staff, opened.enrolment, NOW)
            .await
            .unwrap();
        Db::commit(tx).await.unwrap();
        let polled = store::poll(&db, opened.enrolment).await.unwrap().unwrap();
        assert!(matches!(polled.outcome, store::Outcome::Refused));
        let again = fund.enrol(&fund.code().await, &key, "PC-1").await;
        assert_eq!(code_of(again), RefusalCode::BadRequest);
    }
}

#[tokio::test]
async fn a_revoked_device_loses_its_session_and_gets_no_other() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let pc = fund.device("PC-1").await;
        let session = fund.connect(&pc).await.unwrap().grant.session;
        assert_eq!(fund.revoke(pc.id).await.unwrap(), Some(session));
        assert_eq!(code_of(fund.connect(&pc).await), RefusalCode::Revoked);
        assert!(matches!(
            fund.revoke(pc.id).await,
            Err(DecideError::NotRegistered(_))
        ));
        audit::verify(&db, &fund.app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn a_certificate_is_renewed_for_the_same_key_and_only_when_it_ends_soon() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let pc = fund.device("PC-1").await;
        let request = CertificateParams::default()
            .serialize_request(&pc.key)
            .unwrap();
        let own = fingerprint(&pc.certificate);
        let early = renew_certificate(&fund.app, &own, request.der(), NOW).await;
        let early = early.unwrap();
        assert_eq!(early.certificate.0, pc.certificate, "long enough as it is");
        assert_eq!(early.expires_ms, unix_ms(NOW + DEVICE_VALIDITY));

        let soon = NOW + DEVICE_VALIDITY - time::Duration::days(60);
        fund.app.clock.set(soon);
        let renewed = renew_certificate(&fund.app, &own, request.der(), soon).await;
        let renewed = renewed.unwrap();
        assert_ne!(renewed.certificate.0, pc.certificate);
        assert_eq!(renewed.expires_ms, unix_ms(soon + DEVICE_VALIDITY));
        let again = renew_certificate(&fund.app, &own, request.der(), soon).await;
        assert_eq!(again.unwrap().certificate.0, renewed.certificate.0);

        // Both open sessions; the old one until it expires.
        fund.connect(&pc).await.unwrap();
        let key = KeyPair::try_from(pc.key.serialized_der()).unwrap();
        let later = Pc {
            id: pc.id,
            key,
            certificate: renewed.certificate.0,
        };
        let opened = fund.connect(&later).await.unwrap();
        let shown = fingerprint(&later.certificate);
        assert_eq!(opened.grant.device_certificate_sha256, shown);

        let other = CertificateParams::default()
            .serialize_request(&new_key())
            .unwrap();
        let refused = renew_certificate(&fund.app, &own, other.der(), soon).await;
        assert_eq!(refused.unwrap_err().code(), RefusalCode::BadRequest);
        fund.revoke(pc.id).await.unwrap();
        for certificate in [own, shown] {
            let refused = renew_certificate(&fund.app, &certificate, request.der(), soon).await;
            assert_eq!(refused.unwrap_err().code(), RefusalCode::Revoked);
        }
    }
}
