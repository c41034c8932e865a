//! `diagnose`: everything that connecting needs, checked step by step, each with a sentence.
//!
//! Changes nothing and asks for no session: a session would end the running one and mail a
//! code. What only a session can show is told from the running agent, if there is one.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::browser;
use crate::clock::Clock;
use crate::config::Config;
use crate::dial::Dialer;
use crate::enrolment::{self, Approval, EnrolError};
use crate::gateway_client::{ApiError, GatewayClient};
use crate::status::{StateName, StatusReport, skew_text};
use crate::store::{Enrolment, Store};
use crate::urls::{GatewayUrl, PortalUrl};

mod ways;

/// How long one check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Good,
    /// Something to do.
    Bad,
    /// Could not be looked at now.
    Open,
}

/// One line of the diagnosis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub subject: &'static str,
    /// What was found.
    pub outcome: Outcome,
    /// For the user.
    pub sentence: String,
}

impl Finding {
    /// Whether there is something to do.
    pub fn is_bad(&self) -> bool {
        self.outcome == Outcome::Bad
    }

    fn new(subject: &'static str, outcome: Outcome, sentence: impl Into<String>) -> Self {
        Self {
            subject,
            outcome,
            sentence: sentence.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.outcome {
            Outcome::Good => "OK",
            Outcome::Bad => "NG",
            Outcome::Open => "--",
        };
        write!(f, "[{mark}] {}: {}", self.subject, self.sentence)
    }
}

/// Checks everything. `running` is the status of the agent that runs, if one does.
pub async fn run(config: &Config, store: &Store, running: Option<&StatusReport>) -> Vec<Finding> {
    let clock = Arc::new(Clock::system(store.time_floor()));
    let mut findings = vec![disk(&config.data_dir), window(config)];
    let found = match store.find() {
        Ok(found) => found,
        Err(error) => {
            findings.push(Finding::new("登録情報", Outcome::Bad, error.page_text()));
            return findings;
        }
    };
    for path in &found.damaged {
        let sentence = crate::store::damaged_text(path);
        findings.push(Finding::new("登録情報", Outcome::Bad, sentence));
    }
    let enrolment = found.into_current();
    findings.push(registration(enrolment.as_ref()));
    let gateway = enrolment
        .as_ref()
        .map(|enrolment| enrolment.record.gateway.clone())
        .or_else(|| config.gateway_url.clone());
    let Some(gateway) = gateway else {
        let sentence =
            "接続先がわからないため、通信は確認していません。登録後にもう一度お試しください。";
        findings.push(Finding::new("通信", Outcome::Open, sentence));
        return findings;
    };
    findings.push(name_resolution(&gateway).await);
    findings.push(tls(config, &gateway, enrolment.as_ref(), &clock).await);
    findings.push(time_of_day(&clock));
    findings.extend(ways::https(config, &gateway, enrolment.as_ref(), &clock).await);
    findings.extend(ways::udp(running.map_or(&[], |report| &report.ways)));
    findings.push(portal(running).await);
    findings
}

fn disk(data_dir: &Path) -> Finding {
    let subject = "保存場所";
    match tempfile_in(data_dir) {
        Ok(()) => Finding::new(subject, Outcome::Good, "書き込みできます。"),
        Err(error) => Finding::new(
            subject,
            Outcome::Bad,
            format!(
                "{} に書き込めません（{error}）。空き容量とアクセス権をご確認ください。",
                data_dir.display()
            ),
        ),
    }
}

fn tempfile_in(data_dir: &Path) -> std::io::Result<()> {
    use std::io::Write as _;
    let path = data_dir.join(format!(".diagnose-{}", std::process::id()));
    let written = crate::os::create_private_file(&path).and_then(|mut file| {
        file.write_all(b"diagnose")?;
        file.sync_all()
    });
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

fn window(config: &Config) -> Finding {
    let subject = "ブラウザー";
    match browser::find(config.browser.as_deref()) {
        Ok(path) if path.is_file() => Finding::new(
            subject,
            Outcome::Good,
            format!("{} を使います。", path.display()),
        ),
        Ok(path) => Finding::new(
            subject,
            Outcome::Bad,
            format!("設定された {} がありません。", path.display()),
        ),
        Err(error) => Finding::new(subject, Outcome::Bad, error.page_text()),
    }
}

fn registration(enrolment: Option<&Enrolment>) -> Finding {
    let subject = "パソコンの登録";
    match enrolment {
        None => Finding::new(subject, Outcome::Bad, "まだ登録されていません。"),
        Some(enrolment) => match enrolment.enrolled() {
            None => Finding::new(
                subject,
                Outcome::Bad,
                format!(
                    "承認されていません（照合番号 {}）。基金事務局へお問い合わせください。",
                    enrolment.key.matching_code()
                ),
            ),
            Some(enrolled) => match Approval::check(enrolment, enrolled) {
                Ok(_) => Finding::new(
                    subject,
                    Outcome::Good,
                    format!(
                        "{}、{}として登録されています。",
                        enrolled.fund_name, enrolled.establishment_name
                    ),
                ),
                Err(error) => Finding::new(subject, Outcome::Bad, error.page_text()),
            },
        },
    }
}

async fn name_resolution(gateway: &GatewayUrl) -> Finding {
    let subject = "接続先の名前";
    let (host, port) = gateway.authority();
    let lookup = tokio::net::lookup_host((host.trim_matches(['[', ']']), port));
    match tokio::time::timeout(CHECK_LIMIT, lookup).await {
        Ok(Ok(mut addresses)) => match addresses.next() {
            Some(address) => Finding::new(
                subject,
                Outcome::Good,
                format!("{host} は {} です。", address.ip()),
            ),
            None => Finding::new(
                subject,
                Outcome::Bad,
                format!("{host} の住所がありません。"),
            ),
        },
        Ok(Err(_)) | Err(_) => Finding::new(
            subject,
            Outcome::Bad,
            format!("{host} を調べられませんでした。インターネットの接続をご確認ください。"),
        ),
    }
}

async fn tls(
    config: &Config,
    gateway: &GatewayUrl,
    enrolment: Option<&Enrolment>,
    clock: &Arc<Clock>,
) -> Finding {
    let subject = "接続先との暗号通信";
    match ask_gateway(config, gateway, enrolment, clock).await {
        // A refusal came over a verified connection too.
        Ok(()) | Err(EnrolError::Api(ApiError::Refused(_))) => {
            Finding::new(subject, Outcome::Good, "基金の接続口と安全に通信できます。")
        }
        Err(error) => Finding::new(subject, Outcome::Bad, error.page_text()),
    }
}

async fn ask_gateway(
    config: &Config,
    gateway: &GatewayUrl,
    enrolment: Option<&Enrolment>,
    clock: &Arc<Clock>,
) -> Result<(), EnrolError> {
    let dialer = Dialer::new(config.proxy.clone());
    client(config, gateway, enrolment, clock, dialer)?
        .status()
        .await?;
    Ok(())
}

/// A client that speaks to the gateway as far as this PC may.
fn client(
    config: &Config,
    gateway: &GatewayUrl,
    enrolment: Option<&Enrolment>,
    clock: &Arc<Clock>,
    dialer: Dialer,
) -> Result<GatewayClient, EnrolError> {
    let roots = enrolment::roots(config.gateway_ca_file.as_deref())?;
    let approved = enrolment.and_then(|enrolment| Some((enrolment, enrolment.enrolled()?)));
    match approved {
        Some((enrolment, enrolled)) => {
            let approval = Approval::check(enrolment, enrolled)?;
            let roots = roots.and_service_authority(&enrolled.service_authority.0)?;
            let (gateways, identity) = (approval.gateways, approval.identity);
            Ok(GatewayClient::device(
                gateways,
                roots,
                identity,
                clock.clone(),
                dialer,
            )?)
        }
        None => {
            let gateway = gateway.clone();
            Ok(GatewayClient::anonymous(
                gateway,
                roots,
                clock.clone(),
                dialer,
            )?)
        }
    }
}

fn time_of_day(clock: &Clock) -> Finding {
    let subject = "時計";
    let now = clock.now();
    match (clock.has_been_told(), clock.skew(now)) {
        (false, _) => Finding::new(subject, Outcome::Open, "基金の時刻を確認できませんでした。"),
        (true, None) => Finding::new(subject, Outcome::Good, "正しく合っています。"),
        (true, Some(skew)) => Finding::new(subject, Outcome::Bad, skew_text(skew.whole_seconds())),
    }
}

async fn portal(running: Option<&StatusReport>) -> Finding {
    let subject = "業務画面";
    let connected = running.filter(|report| report.state == StateName::Connected);
    let target = connected.and_then(|report| {
        let proxy: SocketAddr = report.proxy.as_ref()?.parse().ok()?;
        let portal: PortalUrl = report.portal_url.as_ref()?.parse().ok()?;
        Some((proxy, portal))
    });
    let Some((proxy, portal)) = target else {
        return Finding::new(
            subject,
            Outcome::Open,
            "接続中にだけ確認できます。接続してから、もう一度お試しください。",
        );
    };
    match tokio::time::timeout(CHECK_LIMIT, reach_portal(proxy, &portal)).await {
        Ok(Ok(())) => Finding::new(subject, Outcome::Good, "業務画面のサーバーに届きます。"),
        Ok(Err(_)) | Err(_) => Finding::new(
            subject,
            Outcome::Bad,
            "業務画面のサーバーに届きませんでした。基金事務局へお問い合わせください。",
        ),
    }
}

/// Opens a connection through proxy and tunnel and begins TLS on it; an answer of the
/// portal's, whatever it is, shows that the way is open.
async fn reach_portal(proxy: SocketAddr, portal: &PortalUrl) -> std::io::Result<()> {
    let (host, port) = portal.authority();
    let mut stream = TcpStream::connect(proxy).await?;
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 4096 {
        head.push(stream.read_u8().await?);
    }
    if !head.starts_with(b"HTTP/1.1 200") {
        return Err(std::io::Error::other("proxy refused"));
    }
    let hello = client_hello(host).map_err(std::io::Error::other)?;
    stream.write_all(&hello).await?;
    // A handshake record (22) is the portal's hello.
    match stream.read_u8().await? {
        22 => Ok(()),
        _ => Err(std::io::Error::other("no TLS at the portal")),
    }
}

/// The first flight of a TLS handshake. Nothing secret follows it, so nothing is verified.
fn client_hello(host: &str) -> Result<Vec<u8>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name)?;
    let mut hello = Vec::new();
    connection
        .write_tls(&mut hello)
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    Ok(hello)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dial::settings::ProxySettings;

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

    #[test]
    fn a_disk_that_cannot_be_written_is_named() {
        let finding = disk(Path::new("/nonexistent/data"));
        assert!(finding.is_bad());
        assert!(finding.to_string().contains("/nonexistent/data"));
    }
}
