//! Whether somebody opens the TLS on the way: whose certificate really came, and what it says.
//!
//! Many companies read TLS with a certificate authority of their own. The agent believes only
//! the authorities it knows, and refuses; here it looks at what came, so that the clerk can
//! tell the IT department which device to except the gateway from. Nothing is sent over such a
//! connection: a certificate that is not believed ends it, as always.

use std::sync::{Arc, Mutex, PoisonError};

use ring::digest::{SHA256, digest};
use rustls::{CertificateError, ClientConfig, Error};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::{Finding, Outcome};
use crate::clock::Clock;
use crate::gateway_client::ApiError;
use crate::gateway_client::trust::{Roots, Rule, Verdict, Verifier, beyond_dates, edge};

pub(super) const SUBJECT: &str = "通信の検査";

/// Longest name out of a certificate that is shown, in characters: anybody may have written it.
const NAME_LIMIT_CHARS: usize = 120;

/// What the other end of a connection showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Whose it is.
    pub whose: Whose,
    /// For whom the certificate was made.
    pub subject: String,
    /// By whom.
    pub issuer: String,
    /// SHA-256 of the certificate, for looking it up.
    pub fingerprint: String,
    /// From when until when the certificate is valid, if the clock does not fit that.
    pub outside_dates: Option<String>,
}

/// Whose certificate came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The gateway's.
    Gateways,
    /// One of an authority that this program knows, for another name.
    OtherName,
    /// One of an authority that this program does not know.
    Foreign,
}

/// Verifies as always, and notes what it saw.
#[derive(Debug, Default)]
pub(super) struct Witness {
    seen: Mutex<Option<Seen>>,
}

impl Witness {
    /// A witness and the TLS settings that call it.
    pub(super) fn new(
        roots: &Roots,
        clock: Arc<Clock>,
    ) -> Result<(Arc<Self>, Arc<ClientConfig>), ApiError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trust = |error: &dyn std::error::Error| ApiError::Trust(error.to_string());
        let witness = Arc::new(Self::default());
        let verifier = Verifier::new(roots, provider.clone(), witness.clone())?;
        // Devices that open TLS may know version 1.2 only; nothing is sent over it.
        let tls = ClientConfig::builder_with_details(provider, clock)
            .with_safe_default_protocol_versions()
            .map_err(|error| trust(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok((witness, Arc::new(tls)))
    }

    /// What was seen, if the other end showed a certificate.
    pub(super) fn testimony(&self) -> Option<Seen> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }
}

impl Rule for Witness {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        now: UnixTime,
        verify: &dyn Fn(UnixTime) -> Verdict,
    ) -> Verdict {
        let result = verify(now);
        let but_for_dates = beyond_dates(verify(now), verify).map(drop);
        let dates_differ = result.as_ref().err().and_then(edge).is_some();
        let seen = describe(end_entity, &but_for_dates, dates_differ);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        result
    }
}

fn describe(end_entity: &[u8], beyond_dates: &Result<(), Error>, dates_differ: bool) -> Seen {
    let parsed = X509Certificate::from_der(end_entity).ok();
    let parsed = parsed.map(|(_, certificate)| certificate);
    let name = |name: Option<String>| {
        let name = name.unwrap_or_default();
        let shown: String = name
            .chars()
            .filter(|c| !c.is_control() && !matches!(c, '\u{202A}'..='\u{202E}'))
            .take(NAME_LIMIT_CHARS)
            .collect();
        if shown.is_empty() {
            "（名前なし）".to_owned()
        } else {
            shown
        }
    };
    let dates = parsed.as_ref().filter(|_| dates_differ).map(|certificate| {
        let validity = certificate.validity();
        let day = |time: x509_parser::time::ASN1Time| {
            let date = time.to_datetime().date();
            format!(
                "{}年{}月{}日",
                date.year(),
                u8::from(date.month()),
                date.day()
            )
        };
        format!(
            "{}から{}まで",
            day(validity.not_before),
            day(validity.not_after)
        )
    });
    let whose = match beyond_dates {
        Ok(()) => Whose::Gateways,
        Err(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => Whose::OtherName,
        Err(_) => Whose::Foreign,
    };
    Seen {
        whose,
        subject: name(parsed.as_ref().map(|found| found.subject().to_string())),
        issuer: name(parsed.as_ref().map(|found| found.issuer().to_string())),
        fingerprint: fingerprint(end_entity),
        outside_dates: dates,
    }
}

/// In groups, so that it can be compared by eye.
fn fingerprint(certificate: &[u8]) -> String {
    let hash = digest(&SHA256, certificate);
    let groups: Vec<String> = hash
        .as_ref()
        .chunks(2)
        .map(|pair| pair.iter().map(|byte| format!("{byte:02X}")).collect())
        .collect();
    groups.join(" ")
}

/// What the two ways showed, as one finding. None: no certificate came there.
pub(super) fn finding(host: &str, straight: Option<&Seen>, proxied: Option<&Seen>) -> Finding {
    let ways = [("直接の通信", straight), ("プロキシ経由の通信", proxied)];
    let known = ways.iter().filter_map(|(way, seen)| Some((*way, (*seen)?)));
    let (good, bad): (Vec<_>, Vec<_>) = known.partition(|(_, seen)| seen.whose == Whose::Gateways);
    let Some((way, seen)) = bad.first() else {
        return match good.first() {
            Some((_, seen)) => Finding::new(
                SUBJECT,
                Outcome::Good,
                format!(
                    "検査されていません。接続先の証明書が、そのまま届いています（発行者：{}）。",
                    seen.issuer
                ),
            ),
            None => Finding::new(
                SUBJECT,
                Outcome::Open,
                "接続先から証明書が届かなかったため、確認できませんでした。",
            ),
        };
    };
    let outcome = if good.is_empty() {
        Outcome::Bad
    } else {
        Outcome::Open
    };
    let certificate = format!(
        "届いた証明書：{}／発行者：{}／SHA-256：{}",
        seen.subject, seen.issuer, seen.fingerprint
    );
    let sentence = match seen.whose {
        Whose::OtherName => format!(
            "{way}で、{host}ではない別のサーバーの証明書が届きました。公衆無線LANのログイン画面などに誘導されている場合があります。{certificate}"
        ),
        Whose::Foreign | Whose::Gateways => format!(
            "{way}が、途中の機器またはソフト（プロキシ、ファイアウォール、ウイルス対策ソフトなど）で検査されています。基金のものではない証明書が届きました。社内のシステム担当者に、{host} をHTTPS検査（SSLインスペクション）の対象から除くよう依頼してください。{certificate}"
        ),
    };
    Finding::new(SUBJECT, outcome, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(whose: Whose) -> Seen {
        Seen {
            whose,
            subject: "CN=gw.example.jp".into(),
            issuer: "CN=Inspector 9000".into(),
            fingerprint: fingerprint(b"x"),
            outside_dates: None,
        }
    }

    #[test]
    fn one_clean_way_makes_an_inspected_one_a_note() {
        let (ours, foreign) = (seen(Whose::Gateways), seen(Whose::Foreign));
        let of = |straight, proxied| finding("gw.example.jp", straight, proxied);
        assert_eq!(of(Some(&ours), None).outcome, Outcome::Good);
        assert_eq!(of(Some(&ours), Some(&foreign)).outcome, Outcome::Open);
        assert_eq!(of(None, None).outcome, Outcome::Open);
        let bad = of(None, Some(&foreign));
        assert!(bad.is_bad());
        for word in ["Inspector 9000", "gw.example.jp", "プロキシ経由", "SHA-256"] {
            assert!(bad.sentence.contains(word), "{}", bad.sentence);
        }
        let captive = of(Some(&seen(Whose::OtherName)), None);
        assert!(captive.is_bad() && captive.sentence.contains("公衆無線LAN"));
    }

    #[test]
    fn what_is_no_certificate_has_no_name() {
        let wrong = Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        let seen = describe(b"\x30\x03abc", &wrong, false);
        assert_eq!(
            (seen.whose, &*seen.subject),
            (Whose::Foreign, "（名前なし）")
        );
        assert_eq!(seen.fingerprint.split(' ').count(), 16);
    }
}
