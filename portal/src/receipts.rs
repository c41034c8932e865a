//! Receipts (受付票): what was received, signed so that anybody can tell a true one from an
//! edited copy, with nothing but the fund's public key.
//!
//! When something is received, its [`Statement`] is written down line by line and signed
//! (Ed25519, RFC 8032), in the same transaction. The PDF that is made from it is sealed by
//! [`seal`]: a signature over every byte of the file. On paper a short code stands for the
//! signature; whoever types number and code into a page learns whether they belong together.
//!
//! Here are the rules; nothing here reads a clock or a row.

pub mod month;
pub mod pages;
pub mod seal;
pub mod store;

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::EstablishmentNumber;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::keys::READABLE;
use month::Month;

/// What a statement begins with. Another version of its form gets another line.
const FIRST_LINE: &str = "renkei-receipt 1";
/// Characters of a code, five bits each.
const CODE_CHARS: usize = 12;
/// Length of an Ed25519 public key, in bytes.
const PUBLIC_KEY_BYTES: usize = 32;

/// What a receipt says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// 受付番号.
    pub number: String,
    /// The fund's name.
    pub fund: String,
    /// The establishment's number.
    pub establishment: EstablishmentNumber,
    /// The establishment's name.
    pub establishment_name: String,
    /// When it was received.
    pub received: OffsetDateTime,
    /// In which month's contributions it counts.
    pub counts: Month,
    /// Who handed it in.
    pub sender: String,
    /// The PC that it came from.
    pub device: String,
    /// The filings.
    pub filings: Vec<StatedFile>,
    /// The files as they came.
    pub files: Vec<StatedFile>,
}

/// A file on a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatedFile {
    /// Its name.
    pub name: String,
    /// How large it is.
    pub size_bytes: u64,
    /// SHA-256, 64 hexadecimal digits.
    pub sha256: String,
}

impl Statement {
    /// The text that is signed: one fact a line, in one order and one form, UTF-8.
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: &str| {
            // A value is one line, whatever was typed.
            let value: String = value
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            writeln!(text, "{key}: {value}").expect("writing to a string does not fail");
        };
        line("number", &self.number);
        line("fund", &self.fund);
        line("establishment", &self.establishment.to_string());
        line("establishment-name", &self.establishment_name);
        line("received", &crate::web::dates::machine(self.received));
        line("counts", &self.counts.to_string());
        line("sender", &self.sender);
        line("device", &self.device);
        for (key, files) in [("filing", &self.filings), ("file", &self.files)] {
            for file in files {
                let value = format!("{} {} {}", file.sha256, file.size_bytes, file.name);
                line(key, &value);
            }
        }
        format!("{FIRST_LINE}\n{text}")
    }
}

/// The fund's key pair for receipts.
pub struct SigningKey {
    pair: Ed25519KeyPair,
}

/// A public key that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 public key in base64")]
pub struct NotAKey;

impl SigningKey {
    /// Makes a new one: PKCS #8, to be sealed.
    pub fn generate() -> Zeroizing<Vec<u8>> {
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .expect("the operating system gives random bytes");
        Zeroizing::new(pair.as_ref().to_vec())
    }

    /// Reads what [`SigningKey::generate`] made.
    ///
    /// # Errors
    /// [`NotAKey`], if it is something else.
    pub fn read(pkcs8: &[u8]) -> Result<Self, NotAKey> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| NotAKey)?;
        Ok(Self { pair })
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; PUBLIC_KEY_BYTES];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

/// What everybody may know of the fund's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; PUBLIC_KEY_BYTES]);

impl PublicKey {
    /// Reads base64.
    ///
    /// # Errors
    /// [`NotAKey`].
    pub fn from_base64(text: &str) -> Result<Self, NotAKey> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| NotAKey)?;
        bytes.try_into().map(Self).map_err(|_| NotAKey)
    }

    /// As it is published.
    pub fn to_base64(self) -> String {
        STANDARD.encode(self.0)
    }

    /// Whether the owner of this key signed `message`.
    pub fn has_signed(self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(message, signature)
            .is_ok()
    }
}

/// The code that stands for a signature on paper: 60 bits of its hash, in letters and digits
/// that nobody confuses, in fours.
pub fn code_of(signature: &[u8]) -> String {
    let hash = Sha256::digest(signature);
    let mut code = String::new();
    for (at, byte) in hash.iter().take(CODE_CHARS).enumerate() {
        if at > 0 && at % 4 == 0 {
            code.push('-');
        }
        code.push(char::from(READABLE[usize::from(byte % 32)]));
    }
    code
}

/// A number or a code as somebody typed it off paper: width, case, blanks and dashes do not
/// matter.
pub fn as_typed(text: &str) -> String {
    use unicode_normalization::UnicodeNormalization as _;
    text.nfkc()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    pub(super) fn statement() -> Statement {
        Statement {
            number: "20261118-0007".into(),
            fund: "見本企業年金基金".into(),
            establishment: "0123".parse().unwrap(),
            establishment_name: "見本製作所株式会社".into(),
            received: datetime!(2026-11-17 23:05:09 UTC),
            counts: "2026-11".parse().unwrap(),
            sender: "髙﨑 花子".into(),
            device: "総務\nPC".into(),
            filings: vec![StatedFile {
                name: "20261118_0123_資格取得届.pdf".into(),
                size_bytes: 20_522,
                sha256: "ab".repeat(32),
            }],
            files: Vec::new(),
        }
    }

    #[test]
    fn a_statement_has_one_fact_a_line_and_the_time_in_japan() {
        let text = statement().canonical();
        assert_eq!(text.lines().count(), 10);
        assert!(text.starts_with("renkei-receipt 1\nnumber: 20261118-0007\n"));
        assert!(text.contains("\nreceived: 2026-11-18T08:05:09+09:00\ncounts: 2026-11\n"));
        assert!(text.contains("\ndevice: 総務 PC\n"));
    }

    #[test]
    fn a_signature_fits_its_text_and_its_key_alone() {
        let key = SigningKey::read(&SigningKey::generate()).unwrap();
        let text = statement().canonical();
        let signature = key.sign(text.as_bytes());
        assert!(key.public().has_signed(text.as_bytes(), &signature));
        let edited = text.replace("20522", "20523");
        assert!(!key.public().has_signed(edited.as_bytes(), &signature));
        let other = SigningKey::read(&SigningKey::generate()).unwrap();
        assert!(!other.public().has_signed(text.as_bytes(), &signature));
        let published = key.public().to_base64();
        assert_eq!(PublicKey::from_base64(&published), Ok(key.public()));
        assert_eq!(PublicKey::from_base64("AAAA"), Err(NotAKey));
    }

    #[test]
    fn a_code_is_read_off_paper_in_any_way_of_typing() {
        let code = code_of(b"signature");
        assert_eq!(code.len(), 14);
        let typed = format!(" {}　", code.to_lowercase().replace('-', " "));
        assert_eq!(as_typed(&typed), as_typed(&code));
        assert_eq!(as_typed("２０２６１１１８－０００７"), "202611180007");
        assert_ne!(code, code_of(b"another"));
    }
}
