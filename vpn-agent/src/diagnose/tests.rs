//! The diagnosis of PCs that lack something, against a fund on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256,
};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::dial::settings::ProxySettings;
use crate::fake_fund::FakeFund;
use crate::fake_proxy::{FakeProxy, Manner};

const YEAR: time::Duration = time::Duration::days(365);

fn config(data_dir: &Path) -> Config {
    Config {
        update_key: None,
        data_dir: data_dir.to_owned(),
        gateway_url: None,
        gateway_ca_file: None,
        browser: Some("/nonexistent/browser".into()),
        browser_args: Vec::new(),
        proxy_port: 0,
        proxy: ProxySettings::None,
    }
}

/// A PC that knows where the fund is and whom to believe, and is not enrolled.
struct NewPc {
    folder: tempfile::TempDir,
    config: Config,
}

impl NewPc {
    fn new(gateway: &str, fund: &FakeFund) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, fund.ca_pem()).unwrap();
        let config = Config {
            gateway_url: Some(gateway.parse().unwrap()),
            gateway_ca_file: Some(ca_file),
            ..config(&folder.path().join("data"))
        };
        Self { folder, config }
    }

    async fn findings(&self, wall_error: time::Duration) -> Vec<Finding> {
        let store = Store::open(&self.config.data_dir).unwrap();
        let clock = Arc::new(Clock::with_wall_error(None, wall_error));
        let dialer = Dialer::new(self.config.proxy.clone());
        run_with(&self.config, &store, None, clock, dialer).await
    }
}

fn of<'a>(findings: &'a [Finding], subject: &str) -> &'a Finding {
    findings
        .iter()
        .find(|finding| finding.subject == subject)
        .unwrap_or_else(|| panic!("no {subject} in {findings:?}"))
}

#[tokio::test]
async fn an_empty_pc_is_told_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let findings = run(&config(folder.path()), &store, None).await;
    let outcomes: Vec<_> = findings.iter().map(|f| (f.subject, f.outcome)).collect();
    assert_eq!(
        outcomes,
        [
            ("保存場所", Outcome::Good),
            ("ブラウザー", Outcome::Bad),
            ("パソコンの登録", Outcome::Bad),
            ("通信", Outcome::Open),
        ]
    );
    assert!(std::fs::read_dir(folder.path()).unwrap().all(|entry| {
        !entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with(".diagnose")
    }));
}

#[tokio::test]
async fn a_new_pc_in_a_good_network_can_be_told_so_before_it_is_enrolled() {
    let fund = FakeFund::start().await;
    let pc = NewPc::new(&fund.url, &fund);
    let findings = pc.findings(time::Duration::ZERO).await;
    for (subject, outcome) in [
        ("接続先の名前", Outcome::Good),
        ("プロキシの設定", Outcome::Good),
        ("通信の検査", Outcome::Good),
        ("接続先との暗号通信", Outcome::Good),
        ("パケットの大きさ（MTU）", Outcome::Good),
        ("HTTPS（直接）", Outcome::Good),
        ("HTTPS（プロキシ経由）", Outcome::Open),
        ("UDPの通信", Outcome::Open),
        ("業務画面", Outcome::Open),
        ("パソコンの登録", Outcome::Bad),
    ] {
        let finding = of(&findings, subject);
        assert_eq!(finding.outcome, outcome, "{finding}");
    }
}

#[tokio::test]
async fn a_clock_a_year_off_is_named_before_anybody_told_the_time() {
    let fund = FakeFund::start().await;
    let pc = NewPc::new(&fund.url, &fund);
    for (error, words) in [(YEAR * 30, "有効期間"), (-YEAR * 2, "正しくありません")] {
        let findings = pc.findings(error).await;
        let clock = of(&findings, "時計");
        assert!(clock.is_bad() && clock.sentence.contains(words), "{clock}");
        // Nobody is suspected of reading along because of a date.
        let inspected = of(&findings, "通信の検査");
        assert_eq!(inspected.outcome, Outcome::Good, "{inspected}");
    }
}

#[tokio::test]
async fn without_name_resolution_the_name_is_told() {
    let fund = FakeFund::start().await;
    // A name that no resolver may answer (RFC 6761).
    let pc = NewPc::new("https://gw.kikin.invalid", &fund);
    let findings = pc.findings(time::Duration::ZERO).await;
    let names = of(&findings, "接続先の名前");
    assert!(names.is_bad(), "{names}");
    assert!(names.sentence.contains("gw.kikin.invalid") && names.sentence.contains("DNS"));
    assert!(of(&findings, "HTTPS（直接）").is_bad());
    assert_eq!(of(&findings, "通信の検査").outcome, Outcome::Open);
}

/// A device that opens TLS with an authority of its own, on the gateway's address.
async fn inspector() -> SocketAddr {
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Example Inspection CA");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Example Security Appliances");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, key()).unwrap();
    let own = key();
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let leaf = CertificateParams::new(names)
        .unwrap()
        .signed_by(&own, &authority)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let private = PrivateKeyDer::try_from(own.serialize_der()).unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut opened) = acceptor.accept(stream).await {
                    let mut byte = [0];
                    let said = opened.read(&mut byte).await.unwrap_or(0);
                    assert_eq!(said, 0, "something was said to the inspector");
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn an_inspected_connection_names_the_certificate_and_whom_to_ask() {
    let fund = FakeFund::start().await;
    let address = inspector().await;
    let pc = NewPc::new(&format!("https://127.0.0.1:{}", address.port()), &fund);
    let findings = pc.findings(time::Duration::ZERO).await;
    let found = of(&findings, "通信の検査");
    assert!(found.is_bad(), "{found}");
    for words in [
        "Example Inspection CA",
        "Example Security Appliances",
        "127.0.0.1",
        "システム担当者",
        "SHA-256",
    ] {
        assert!(found.sentence.contains(words), "{found}");
    }
    assert!(of(&findings, "接続先との暗号通信").is_bad());
    assert!(of(&findings, "HTTPS（直接）").is_bad());
    // Somebody else's certificate says nothing about the time.
    assert_eq!(of(&findings, "時計").outcome, Outcome::Open);
}

#[tokio::test]
async fn a_proxy_that_inspects_is_told_apart_from_the_clean_way_beside_it() {
    let fund = FakeFund::start().await;
    let inspects = Manner::LeadsTo(inspector().await.port());
    let proxy = FakeProxy::start(inspects).await;
    let mut pc = NewPc::new(&fund.url, &fund);
    pc.config.proxy = ProxySettings::try_from(format!("http://{}", proxy.address)).unwrap();
    let findings = pc.findings(time::Duration::ZERO).await;
    let found = of(&findings, "通信の検査");
    assert_eq!(found.outcome, Outcome::Open, "{found}");
    assert!(found.sentence.contains("プロキシ経由") && found.sentence.contains("Example"));
    assert_eq!(of(&findings, "HTTPS（直接）").outcome, Outcome::Good);
    assert!(proxy.connected() > 0);
}

#[tokio::test]
async fn a_network_that_swallows_everything_takes_no_longer_than_the_limit() {
    let fund = FakeFund::start().await;
    // Takes connections and says nothing.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
        }
    });
    let mut pc = NewPc::new(&format!("https://127.0.0.1:{port}"), &fund);
    pc.config.proxy = ProxySettings::try_from(format!("http://127.0.0.1:{port}")).unwrap();
    let start = Clock::system(None).now().mono;
    let findings = pc.findings(time::Duration::ZERO).await;
    let took = Clock::system(None)
        .now()
        .mono
        .saturating_duration_since(start);
    assert!(took < CHECK_LIMIT + Duration::from_secs(2), "{took:?}");
    for subject in [
        "HTTPS（直接）",
        "HTTPS（プロキシ経由）",
        "接続先との暗号通信",
    ] {
        assert!(of(&findings, subject).is_bad(), "{subject}");
    }
    assert!(
        of(&findings, "プロキシの設定")
            .sentence
            .contains(&port.to_string())
    );
    silent.abort();
    drop(pc.folder);
}
