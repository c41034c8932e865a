//! Authenticator apps (TOTP, RFC 6238): SHA-1, six digits, 30 seconds, as every app knows it.
//!
//! One step before and after the current one is taken, for clocks that are a little off; a
//! step is never taken twice, which the store's conditional UPDATE decides. Secrets are kept
//! sealed.

use time::OffsetDateTime;
use totp_rs::{Algorithm, Builder, Secret, Totp, TotpError};
use zeroize::Zeroizing;

use crate::keys::{MasterKey, Purpose, Unsealable, random_bytes};
use crate::one_time_codes::digits;

/// Bytes of a secret (RFC 4226 recommends 160 bits).
const SECRET_BYTES: usize = 20;
/// Digits of a code.
const DIGITS: u8 = 6;
/// Seconds of a step.
const STEP_S: u64 = 30;
/// Steps before and after the current one that are taken too.
const SKEW: u16 = 1;

/// One account's authenticator.
#[derive(Clone)]
pub struct Authenticator {
    secret: Zeroizing<Vec<u8>>,
}

impl Authenticator {
    /// Makes a new secret.
    pub fn generate() -> Self {
        Self {
            secret: Zeroizing::new(random_bytes::<SECRET_BYTES>().to_vec()),
        }
    }

    /// Takes over a secret in base32, as apps and command lines write it.
    pub fn from_base32(text: &str) -> Option<Self> {
        let secret = Secret::try_from_base32(text.trim()).ok()?;
        let bytes: &[u8] = secret.as_ref();
        Some(Self {
            secret: Zeroizing::new(bytes.to_vec()),
        })
    }

    /// Seals the secret for the row of `account`.
    pub fn seal(&self, keys: &MasterKey, account: &str) -> String {
        keys.seal(Purpose::TotpSecret, &place(account), &self.secret)
    }

    /// Opens the secret of the row of `account`.
    pub fn open(keys: &MasterKey, account: &str, sealed: &str) -> Result<Self, Unsealable> {
        let secret = keys.open(Purpose::TotpSecret, &place(account), sealed)?;
        Ok(Self { secret })
    }

    /// Returns the step that a typed code belongs to, if it is right at `now`.
    pub fn check(&self, typed: &str, now: OffsetDateTime) -> Option<i64> {
        let now = u64::try_from(now.unix_timestamp()).ok()?;
        let step = self.totp("", "").ok()?.check(&digits(typed), now)?;
        i64::try_from(step).ok()
    }

    /// The code at `now`, as the app shows it.
    pub fn code_at(&self, now: OffsetDateTime) -> Option<String> {
        let now = u64::try_from(now.unix_timestamp()).ok()?;
        Some(self.totp("", "").ok()?.generate(now).to_string())
    }

    /// The secret in base32, in groups of four, for those who cannot scan the picture.
    pub fn to_base32(&self) -> String {
        let text = Secret::from(self.secret.to_vec()).to_base32();
        let groups: Vec<String> = text
            .as_bytes()
            .chunks(4)
            .map(|group| String::from_utf8_lossy(group).into_owned())
            .collect();
        groups.join(" ")
    }

    /// `otpauth://…`, as the picture holds it.
    pub fn url(&self, issuer: &str, account: &str) -> Result<String, TotpError> {
        self.totp(issuer, account)?.to_url()
    }

    /// The picture (PNG) that an app scans.
    pub fn picture(&self, issuer: &str, account: &str) -> Result<Vec<u8>, TotpError> {
        self.totp(issuer, account)?.to_qr_png()
    }

    fn totp(&self, issuer: &str, account: &str) -> Result<Totp, TotpError> {
        // The URL's own separator cannot stand in either name.
        let plain = |text: &str| text.replace(':', " ");
        let mut builder = Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_digits(DIGITS)
            .with_step_duration(STEP_S)
            .with_skew(SKEW)
            .with_secret(self.secret.to_vec());
        if !issuer.is_empty() {
            builder = builder
                .with_issuer(Some(plain(issuer)))
                .with_account_name(plain(account));
        }
        builder.build()
    }
}

fn place(account: &str) -> String {
    format!("totp/{account}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-03-13 10:00 +9);

    #[test]
    fn a_code_is_taken_one_step_early_or_late_and_no_more() {
        let authenticator = Authenticator::generate();
        let code = authenticator.code_at(NOW).unwrap();
        let step = NOW.unix_timestamp() / 30;
        for (seconds, taken) in [
            (-31, false),
            (-30, true),
            (0, true),
            (59, true),
            (60, false),
        ] {
            let now = NOW + Duration::seconds(seconds);
            // Another step may show the same six digits; then the step tells.
            assert_eq!(
                authenticator.check(&code, now) == Some(step),
                taken,
                "{seconds}"
            );
        }
    }

    #[test]
    fn the_vector_of_rfc_6238_holds() {
        // Appendix B: secret "12345678901234567890", 59 s, SHA-1: 94287082 in eight digits.
        let authenticator = Authenticator::from_base32("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").unwrap();
        let at = OffsetDateTime::from_unix_timestamp(59).unwrap();
        assert_eq!(authenticator.code_at(at).unwrap(), "287082");
        assert_eq!(authenticator.check("２８７ ０８２", at), Some(1));
    }

    #[test]
    fn a_sealed_secret_opens_for_its_account_alone() {
        let keys = MasterKey::generate();
        let authenticator = Authenticator::generate();
        let sealed = authenticator.seal(&keys, "a");
        assert_eq!(
            *Authenticator::open(&keys, "a", &sealed).unwrap().secret,
            *authenticator.secret
        );
        assert!(Authenticator::open(&keys, "b", &sealed).is_err());
    }

    #[test]
    fn the_picture_is_a_png_and_the_url_names_fund_and_account() {
        let authenticator = Authenticator::generate();
        let picture = authenticator.picture("見本企業年金基金", "suzuki").unwrap();
        assert_eq!(&picture[1..4], b"PNG");
        let url = authenticator.url("見本:企業年金基金", "suzuki").unwrap();
        assert!(url.starts_with("otpauth://totp/"), "{url}");
        assert!(url.contains("suzuki"));
    }
}
