//! `diagnose`: everything that connecting needs, checked, each with a sentence that the clerk can
//! pass on to the IT department.
//!
//! Changes nothing and asks for no session: a session would end the running one and mail a
//! code. What only a session can show is told from the running agent, if there is one. What
//! needs the network is asked at the same time, and nobody waits longer than [`CHECK_LIMIT`].
//! [`crate::commands`] and [`crate::page`] call it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::clock::Clock;
use crate::config::Config;
use crate::dial::Dialer;
use crate::dial::settings::{ProxyUrl, Source};
use crate::enrolment::{self, Approval, EnrolError};
use crate::gateway_client::trust::Roots;
use crate::gateway_client::{ApiError, GatewayClient};
use crate::link::paths::Via;
use crate::status::{StateName, StatusReport, skew_text};
use crate::store::{Enrolment, Store};
use crate::urls::{GatewayUrl, PortalUrl};

pub mod bundle;
mod interception;
mod local;
mod ways;

use interception::Seen;
use ways::Look;

/// How long one check may take, and so all of them.
pub const CHECK_LIMIT: Duration = Duration::from_secs(10);

/// The largest packet must be at least so large, in bytes, for the tunnel to go over UDP: its
/// smallest one, with the headers of QUIC's UDP, WireGuard, UDP and IPv6 around it.
const NEEDED_MTU_BYTES: u32 = 1_200 + 48 + 32 + 8 + 40;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it should be.
    Good,
    /// Something to do.
    Bad,
    /// Could not be looked at now, or makes no difference.
    Open,
}

/// One line of the diagnosis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub subject: &'static str,
    /// What was found.
    pub outcome: Outcome,
    /// For the user, who may pass it on.
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

impl Outcome {
    /// The mark in front of a line.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Good => "OK",
            Self::Bad => "NG",
            Self::Open => "--",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = self.outcome.mark();
        write!(f, "[{mark}] {}: {}", self.subject, self.sentence)
    }
}

/// What is examined: a PC with its settings, as it stands.
struct Scene<'a> {
    config: &'a Config,
    enrolment: Option<Enrolment>,
    running: Option<&'a StatusReport>,
    clock: Arc<Clock>,
    dialer: Dialer,
}

/// Checks everything. `running` is the status of the agent that runs, if one does.
pub async fn run(config: &Config, store: &Store, running: Option<&StatusReport>) -> Vec<Finding> {
    let clock = Arc::new(Clock::system(store.time_floor()));
    let dialer = Dialer::new(config.proxy.clone());
    run_with(config, store, running, clock, dialer).await
}

/// The same with a clock that may be wrong and connections of the caller's.
pub(crate) async fn run_with(
    config: &Config,
    store: &Store,
    running: Option<&StatusReport>,
    clock: Arc<Clock>,
    dialer: Dialer,
) -> Vec<Finding> {
    let mut findings = vec![local::disk(&config.data_dir), local::window(config)];
    let found = match store.find() {
        Ok(found) => found,
        Err(error) => {
            findings.push(Finding::new("登録情報", Outcome::Bad, error.page_text()));
            return findings;
        }
    };
    for damage in &found.damaged {
        findings.push(Finding::new("登録情報", Outcome::Bad, damage.page_text()));
    }
    let scene = Scene {
        config,
        enrolment: found.into_current(),
        running,
        clock,
        dialer,
    };
    findings.push(local::registration(scene.enrolment.as_ref()));
    match scene.gateway() {
        Some(gateway) => findings.extend(scene.examine(&gateway).await),
        None => {
            findings.extend(impossible_date(&scene.clock));
            findings.push(Finding::new(
                "通信",
                Outcome::Open,
                "接続先がわからないため、通信は確認していません。登録後にもう一度お試しください。",
            ));
        }
    }
    findings
}

/// What asking for the gateway's address came to.
enum Names {
    Known(std::net::IpAddr),
    Unknown,
    Silent,
}

impl Scene<'_> {
    fn gateway(&self) -> Option<GatewayUrl> {
        let enrolled = self
            .enrolment
            .as_ref()
            .map(|own| own.record.gateway.clone());
        enrolled.or_else(|| self.config.gateway_url.clone())
    }

    /// Everything that needs the network, at the same time.
    async fn examine(&self, gateway: &GatewayUrl) -> Vec<Finding> {
        let (names, proxies, straight, proxied, answer, portal) = tokio::join!(
            names(gateway),
            self.dialer.proxies(gateway),
            ways::look(self, gateway, Via::Straight),
            ways::look(self, gateway, Via::Proxy),
            self.answer(gateway),
            portal(self.running),
        );
        let (host, _) = gateway.authority();
        let seen = [straight.seen.as_ref(), proxied.seen.as_ref()];
        let reports = self.running.map_or(&[][..], |report| &report.ways);
        let mut findings = vec![
            time_of_day(&self.clock, &seen),
            name_resolution(host, names, proxied.is_open()),
            proxy(proxies.as_ref()),
            interception::finding(host, seen[0], seen[1]),
            answer,
            packet_size(&straight, &proxied),
        ];
        findings.extend(ways::https(straight, proxied));
        findings.extend(ways::udp(reports));
        findings.push(portal);
        findings
    }

    /// Whether the gateway answers as it should.
    async fn answer(&self, gateway: &GatewayUrl) -> Finding {
        let subject = "接続先との暗号通信";
        let asked = tokio::time::timeout(CHECK_LIMIT, self.ask_gateway(gateway)).await;
        match asked.unwrap_or(Err(EnrolError::Api(ApiError::Silent))) {
            // A refusal came over a verified connection too.
            Ok(()) | Err(EnrolError::Api(ApiError::Refused(_))) => {
                Finding::new(subject, Outcome::Good, "基金の接続口と安全に通信できます。")
            }
            Err(error) => Finding::new(subject, Outcome::Bad, error.page_text()),
        }
    }

    async fn ask_gateway(&self, gateway: &GatewayUrl) -> Result<(), EnrolError> {
        self.client(gateway)?.status().await?;
        Ok(())
    }

    /// A client that speaks to the gateway as far as this PC may.
    fn client(&self, gateway: &GatewayUrl) -> Result<GatewayClient, EnrolError> {
        let roots = self.roots()?;
        let (clock, dialer) = (self.clock.clone(), self.dialer.clone());
        let approved = self
            .enrolment
            .as_ref()
            .and_then(|enrolment| Some((enrolment, enrolment.enrolled()?)));
        let client = match approved {
            Some((enrolment, enrolled)) => {
                let approval = Approval::check(enrolment, enrolled)?;
                let (gateways, identity) = (approval.gateways, approval.identity);
                GatewayClient::device(gateways, roots, identity, clock, dialer)
            }
            None => GatewayClient::anonymous(gateway.clone(), roots, clock, dialer),
        };
        Ok(client?)
    }

    /// Whom this PC believes.
    fn roots(&self) -> Result<Roots, EnrolError> {
        let roots = enrolment::roots(self.config.gateway_ca_file.as_deref())?;
        match self.enrolment.as_ref().and_then(|own| own.enrolled()) {
            Some(enrolled) => Ok(roots.and_service_authority(&enrolled.service_authority.0)?),
            None => Ok(roots),
        }
    }

    fn is_device(&self) -> bool {
        let enrolment = self.enrolment.as_ref();
        enrolment.is_some_and(|enrolment| enrolment.enrolled().is_some())
    }
}

async fn names(gateway: &GatewayUrl) -> Names {
    let (host, port) = gateway.authority();
    let lookup = tokio::net::lookup_host((host.trim_matches(['[', ']']), port));
    match tokio::time::timeout(CHECK_LIMIT, lookup).await {
        Ok(Ok(mut addresses)) => match addresses.next() {
            Some(address) => Names::Known(address.ip()),
            None => Names::Unknown,
        },
        Ok(Err(_)) => Names::Unknown,
        Err(_) => Names::Silent,
    }
}

fn name_resolution(host: &str, names: Names, proxy_helps: bool) -> Finding {
    let subject = "接続先の名前";
    let (what, outcome) = match names {
        Names::Known(address) => {
            let sentence = format!("{host} は {address} です。");
            return Finding::new(subject, Outcome::Good, sentence);
        }
        Names::Unknown | Names::Silent if proxy_helps => (
            "このパソコンからは調べられませんが、プロキシが代わりに調べるため、支障ありません。",
            Outcome::Open,
        ),
        Names::Unknown => (
            "見つかりませんでした（DNSの名前解決の失敗）。インターネットの接続をご確認ください。ほかのホームページが見られるときは、社内のシステム担当者に、この名前の解決の許可を依頼してください。",
            Outcome::Bad,
        ),
        Names::Silent => (
            "調べましたが、DNSサーバーから応答がありません。ネットワークの接続をご確認ください。",
            Outcome::Bad,
        ),
    };
    Finding::new(subject, outcome, format!("{host}：{what}"))
}

/// Where proxies come from, and which. Whether they help is told with the ways.
fn proxy(proxies: Option<&(Source, Vec<ProxyUrl>)>) -> Finding {
    let subject = "プロキシの設定";
    let Some((source, proxies)) = proxies else {
        return Finding::new(
            subject,
            Outcome::Good,
            "プロキシは設定されていません。直接接続します。",
        );
    };
    let source = match source {
        Source::Settings => "連携の設定",
        Source::Environment => "環境変数",
        Source::System => "Windowsの設定",
        Source::Script => "自動構成スクリプト（PAC）",
    };
    let names: Vec<String> = proxies.iter().map(ToString::to_string).collect();
    let sentence = format!("{source}により、{} を使います。", names.join("、"));
    Finding::new(subject, Outcome::Good, sentence)
}

fn packet_size(straight: &Look, proxied: &Look) -> Finding {
    let subject = "パケットの大きさ（MTU）";
    match (straight.mtu_bytes, proxied.mtu_bytes) {
        (Some(mtu), _) if mtu < NEEDED_MTU_BYTES => Finding::new(
            subject,
            Outcome::Open,
            format!(
                "{mtu}バイトです。UDPでの接続には小さすぎる（{NEEDED_MTU_BYTES}バイト必要）ため、HTTPSで接続します。速さが必要なときは、社内のシステム担当者にMTUの確認を依頼してください。"
            ),
        ),
        (Some(mtu), _) => Finding::new(
            subject,
            Outcome::Good,
            format!("{mtu}バイトで、足りています。"),
        ),
        (None, Some(_)) => Finding::new(
            subject,
            Outcome::Open,
            "直接の通信ができないため、確認できませんでした。プロキシ経由の接続には影響しません。",
        ),
        (None, None) => Finding::new(
            subject,
            Outcome::Open,
            "通信できないため、確認できませんでした。",
        ),
    }
}

/// A clock before the time that this program, or this PC, has certainly seen is wrong.
fn impossible_date(clock: &Clock) -> Option<Finding> {
    let (today, floor) = (clock.now().wall, clock.floor());
    (today < floor).then(|| {
        let sentence = format!(
            "このパソコンの日付（{}）が正しくありません。日付と時刻を合わせてください。",
            day(today)
        );
        Finding::new(CLOCK, Outcome::Bad, sentence)
    })
}

const CLOCK: &str = "時計";

fn day(time: time::OffsetDateTime) -> String {
    let date = time.to_offset(access::JST).date();
    format!(
        "{}年{}月{}日",
        date.year(),
        u8::from(date.month()),
        date.day()
    )
}

fn time_of_day(clock: &Clock, seen: &[Option<&Seen>]) -> Finding {
    let now = clock.now();
    if clock.has_been_told() {
        return match clock.skew(now) {
            None => Finding::new(CLOCK, Outcome::Good, "正しく合っています。"),
            Some(skew) => Finding::new(CLOCK, Outcome::Bad, skew_text(skew.whole_seconds())),
        };
    }
    if let Some(finding) = impossible_date(clock) {
        return finding;
    }
    // Only of the gateway's own certificate: anybody else's says nothing about the time.
    let gateways = seen.iter().copied().flatten();
    let mut outside = gateways
        .filter(|seen| seen.whose == interception::Whose::Gateways)
        .filter_map(|seen| seen.outside_dates.as_ref());
    match outside.next() {
        Some(dates) => Finding::new(
            CLOCK,
            Outcome::Bad,
            format!(
                "このパソコンの日付（{}）が、接続先の証明書の有効期間（{dates}）に入っていません。日付と時刻を合わせてください。",
                day(now.wall)
            ),
        ),
        None => Finding::new(CLOCK, Outcome::Open, "基金の時刻を確認できませんでした。"),
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
mod tests;
