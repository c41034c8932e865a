//! The ways that the tunnel could take: UDP to each port, HTTPS straight and through a proxy.
//!
//! One that is closed while another is open is nothing to worry about, and is told as such.

use std::sync::Arc;

use super::{CHECK_LIMIT, Finding, Outcome, client};
use crate::clock::Clock;
use crate::config::Config;
use crate::dial::{DialError, Dialer};
use crate::gateway_client::ApiError;
use crate::link::paths::Via;
use crate::link::tls_way::{self, TlsWayError};
use crate::status::{Transport, WayReport, WayResult};
use crate::store::Enrolment;
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

/// Connects both ways and asks on each whether the tunnel would be carried.
pub(super) async fn https(
    config: &Config,
    gateway: &GatewayUrl,
    enrolment: Option<&Enrolment>,
    clock: &Arc<Clock>,
) -> Vec<Finding> {
    let dialer = Dialer::new(config.proxy.clone());
    let tls = match client(config, gateway, enrolment, clock, dialer.clone()) {
        Ok(client) => client.tls(),
        Err(error) => {
            return vec![Finding::new(STRAIGHT, Outcome::Bad, error.page_text())];
        }
    };
    let is_device = enrolment.is_some_and(|enrolment| enrolment.enrolled().is_some());
    let attempt = async |via| {
        let connection = dialer.connect_via(gateway, via, &tls).await;
        let connection = connection.map_err(TlsWayError::Dial)?;
        if is_device {
            tls_way::ask(connection, gateway).await?;
        }
        Ok(())
    };
    let limited = async |via| match tokio::time::timeout(CHECK_LIMIT, attempt(via)).await {
        Ok(result) => result,
        Err(_) => Err(TlsWayError::Cut(std::io::ErrorKind::TimedOut.into())),
    };
    let straight = limited(Via::Straight).await;
    let proxy = limited(Via::Proxy).await;
    let any = straight.is_ok() || proxy.is_ok();
    vec![
        https_finding(STRAIGHT, straight, any),
        https_finding(THROUGH_PROXY, proxy, any),
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
