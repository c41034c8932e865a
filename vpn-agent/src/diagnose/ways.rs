//! The ways that the tunnel could take: UDP to each port, HTTPS straight and through a proxy.
//!
//! One that is closed while another is open is nothing to worry about, and is told as such.

use std::io;
use std::time::Duration;

use super::interception::{Seen, Witness};
use super::{CHECK_LIMIT, Finding, Outcome, Scene};
use crate::dial::DialError;
use crate::gateway_client::{ApiError, is_about_dates};
use crate::link::paths::Via;
use crate::link::tls_way::{self, TlsWayError};
use crate::os;
use crate::status::{Transport, WayReport, WayResult};
use crate::urls::GatewayUrl;

const STRAIGHT: &str = "HTTPS（直接）";
const THROUGH_PROXY: &str = "HTTPS（プロキシ経由）";

/// What the running session found out about UDP. The gateway answers nobody who has no
/// session, so that there is no other way to know.
pub(super) fn udp(ways: &[WayReport]) -> Vec<Finding> {
    let udp: Vec<_> = ways
        .iter()
        .filter(|way| way.transport == Transport::Udp)
        .collect();
    let another_works = ways.iter().any(|way| way.result == WayResult::Answered);
    if udp.is_empty() {
        return vec![Finding::new(
            "UDPの通信",
            Outcome::Open,
            "接続中にだけ確認できます。接続してから、もう一度お試しください。",
        )];
    }
    udp.into_iter()
        .map(|way| udp_port(way, another_works))
        .collect()
}

fn udp_port(way: &WayReport, another_works: bool) -> Finding {
    let port = way.port.unwrap_or_default();
    let closed = if another_works {
        Outcome::Open
    } else {
        Outcome::Bad
    };
    let (outcome, what) = match way.result {
        WayResult::Answered => (Outcome::Good, "応答がありました。"),
        WayResult::Untried => (Outcome::Open, "ほかの経路で接続したため、試していません。"),
        WayResult::Silent => (
            closed,
            "応答がありません。会社のネットワークで止められているようです。HTTPSで接続できれば業務に支障はありませんが、許可すると速くなります。",
        ),
        WayResult::Refused => (
            closed,
            "通信を拒否されました。会社のネットワークで止められているようです。HTTPSで接続できれば業務に支障はありませんが、許可すると速くなります。",
        ),
    };
    Finding::new("UDPの通信", outcome, format!("ポート{port}: {what}"))
}

/// How long the true time may take to become known, where the PC's clock is wrong.
const TIME_PATIENCE: Duration = Duration::from_secs(3);

/// What one way by TLS showed.
pub(super) struct Look {
    /// Whether the tunnel would be carried.
    result: Result<(), TlsWayError>,
    /// The certificate that came.
    pub(super) seen: Option<Seen>,
    /// The largest packet, in bytes.
    pub(super) mtu_bytes: Option<u32>,
}

impl Look {
    /// Whether the gateway was reached.
    pub(super) fn is_open(&self) -> bool {
        self.result.is_ok()
    }
}

/// Connects one way and asks whether the tunnel would be carried; looks at the certificate.
pub(super) async fn look(scene: &Scene<'_>, gateway: &GatewayUrl, via: Via) -> Look {
    let mut mtu_bytes = None;
    let (seen, result) = tokio::join!(
        witness(scene, gateway, via),
        tokio::time::timeout(CHECK_LIMIT, try_way(scene, gateway, via, &mut mtu_bytes)),
    );
    Look {
        result: result.unwrap_or(Err(TlsWayError::Cut(io::ErrorKind::TimedOut.into()))),
        seen,
        mtu_bytes,
    }
}

async fn witness(scene: &Scene<'_>, gateway: &GatewayUrl, via: Via) -> Option<Seen> {
    let (witness, tls) = Witness::new(&scene.roots().ok()?, scene.clock.clone()).ok()?;
    let connecting = scene.dialer.connect_via(gateway, via, &tls);
    // Whatever came of it, nothing is said over this connection.
    let _ = tokio::time::timeout(CHECK_LIMIT, connecting).await;
    witness.testimony()
}

async fn try_way(
    scene: &Scene<'_>,
    gateway: &GatewayUrl,
    via: Via,
    mtu_bytes: &mut Option<u32>,
) -> Result<(), TlsWayError> {
    // Roots that cannot be read are told elsewhere.
    let tls = scene
        .client(gateway)
        .map_err(|error| TlsWayError::Dial(DialError::Tls(io::Error::other(error))))?
        .tls();
    let mut tried = scene.dialer.connect_via(gateway, via, &tls).await;
    if tried.as_ref().is_err_and(is_about_dates) && scene.is_device() {
        // The question beside this one learns the true time, as it does when connecting.
        let told = async {
            while !scene.clock.has_been_told() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let _ = tokio::time::timeout(TIME_PATIENCE, told).await;
        tried = scene.dialer.connect_via(gateway, via, &tls).await;
    }
    let connection = tried.map_err(TlsWayError::Dial)?;
    *mtu_bytes = os::path_mtu(connection.get_ref().0);
    if scene.is_device() {
        tls_way::ask(connection, gateway).await?;
    }
    Ok(())
}

/// What came of both ways.
pub(super) fn https(straight: Look, proxied: Look) -> Vec<Finding> {
    let any = straight.is_open() || proxied.is_open();
    vec![
        https_finding(STRAIGHT, straight.result, any),
        https_finding(THROUGH_PROXY, proxied.result, any),
    ]
}

fn https_finding(subject: &'static str, result: Result<(), TlsWayError>, any: bool) -> Finding {
    let outcome = match &result {
        Ok(()) => Outcome::Good,
        Err(TlsWayError::Dial(DialError::NoProxy)) => Outcome::Open,
        Err(_) if any => Outcome::Open,
        Err(_) => Outcome::Bad,
    };
    let sentence = match result {
        Ok(()) => "UDPが使えないときも、この経路で接続できます。".to_owned(),
        Err(TlsWayError::Dial(DialError::NoProxy)) => {
            "プロキシは設定されていません。".to_owned()
        }
        Err(TlsWayError::Dial(error)) => ApiError::from_dial(error).page_text(),
        Err(TlsWayError::Refused(status)) => format!(
            "基金の接続口が、HTTPSでのトンネルに応じませんでした（状態{status}）。基金事務局へお問い合わせください。"
        ),
        Err(TlsWayError::Garbage(_) | TlsWayError::NotAFrame(_) | TlsWayError::Cut(_)) => {
            "接続が途中で切れました。会社のネットワーク機器が通信を検査または遮断している場合があります。社内のシステム担当者へお問い合わせください。".to_owned()
        }
    };
    Finding::new(subject, outcome, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(transport: Transport, port: Option<u16>, result: WayResult) -> WayReport {
        WayReport {
            transport,
            port,
            result,
        }
    }

    fn udp_with(ways: Vec<WayReport>) -> Vec<(Outcome, String)> {
        let findings = udp(&ways).into_iter();
        findings
            .map(|found| (found.outcome, found.sentence))
            .collect()
    }

    #[test]
    fn closed_udp_is_bad_only_if_nothing_else_works() {
        let silent = way(Transport::Udp, Some(51820), WayResult::Silent);
        let refused = way(Transport::Udp, Some(443), WayResult::Refused);
        let tls = way(Transport::Tls, None, WayResult::Answered);
        let with_tls = udp_with(vec![silent, refused, tls]);
        assert!(
            with_tls
                .iter()
                .all(|(outcome, _)| *outcome == Outcome::Open)
        );
        assert!(with_tls[0].1.contains("51820") && with_tls[1].1.contains("443"));
        let without = udp_with(vec![silent, refused]);
        assert!(without.iter().all(|(outcome, _)| *outcome == Outcome::Bad));
        assert_eq!(udp_with(Vec::new())[0].0, Outcome::Open);
    }

    #[test]
    fn one_open_https_way_is_enough() {
        let closed = || Err(TlsWayError::Refused(503));
        assert_eq!(
            https_finding(STRAIGHT, closed(), true).outcome,
            Outcome::Open
        );
        let bad = https_finding(STRAIGHT, closed(), false);
        assert!(bad.is_bad() && bad.sentence.contains("503"));
        let none = https_finding(
            THROUGH_PROXY,
            Err(TlsWayError::Dial(DialError::NoProxy)),
            false,
        );
        assert_eq!(none.outcome, Outcome::Open);
    }
}
