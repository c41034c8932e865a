//! The seal of a receipt's PDF: a signature over every byte of the file.
//!
//! The file is made with [`BLANK`] among its keywords, where a signature has room. The
//! signature is over the file with the blank; then it takes the blank's place, wherever that
//! stands. Who checks puts the blank back and asks whether the signature fits: whatever else
//! was changed in the file, it does not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::{PublicKey, SigningKey};

/// What stands before a seal.
const MARK: &str = "renkei-seal-1:";
/// A signature of 64 bytes in base64.
const SIGNATURE_CHARS: usize = 86;
/// What stands before the few facts that a checker tells.
const FACTS_MARK: &str = "renkei-facts-1:";
/// Longest facts, in bytes.
const FACTS_LIMIT_BYTES: usize = 200;
/// What is signed begins with this: no other signature of the same key can be taken for it.
const DOMAIN: &[u8] = b"renkei receipt file 1\n";
/// How often a file may carry its seal: once for each kind of metadata.
const SEALS_LIMIT: usize = 4;

/// The few facts that are told of a receipt that is true. They stand in the file as ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// 受付番号.
    pub number: String,
    /// The establishment's number.
    pub establishment: String,
    /// When it was received, RFC 3339, Japan's time.
    pub received: String,
    /// The month in which it counts.
    pub counts: String,
    /// The code on paper.
    pub code: String,
}

/// Why a file is no true receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No seal is in it.
    #[error("the file carries no seal of a receipt")]
    Unsealed,
    /// It was changed after it was sealed, or another key sealed it.
    #[error("the file was changed after it was sealed, or another fund sealed it")]
    Changed,
}

impl SealError {
    /// What it means.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::Unsealed => {
                "このファイルは、基金の電子署名がある受付票ではありません。「受付票をPDFで保存する」で保存したままのファイルを選んでください（印刷してスキャンしたものは確認できません）。"
            }
            Self::Changed => {
                "この受付票は正しくありません。発行された後に内容が変更されているか、別の基金が発行したものです。"
            }
        }
    }
}

/// The keywords that a receipt's PDF has to be made with.
pub fn keywords(facts: &Facts) -> Vec<String> {
    let Facts {
        number,
        establishment,
        received,
        counts,
        code,
    } = facts;
    vec![
        format!("{FACTS_MARK}{number};{establishment};{received};{counts};{code}"),
        format!("{MARK}{}", blank()),
    ]
}

fn blank() -> String {
    "0".repeat(SIGNATURE_CHARS)
}

/// Seals a file that was made with [`keywords`].
///
/// # Errors
/// [`SealError::Unsealed`], if there is no room for a seal in it.
pub fn seal(mut pdf: Vec<u8>, key: &SigningKey) -> Result<Vec<u8>, SealError> {
    let places = places(&pdf);
    if places.is_empty()
        || places
            .iter()
            .any(|at| pdf[*at..*at + SIGNATURE_CHARS] != *blank().as_bytes())
    {
        return Err(SealError::Unsealed);
    }
    let signature = URL_SAFE_NO_PAD.encode(key.sign(&message(&pdf)));
    for at in places {
        pdf[at..at + SIGNATURE_CHARS].copy_from_slice(signature.as_bytes());
    }
    Ok(pdf)
}

/// Says whether the owner of `key` made this file as it is.
///
/// # Errors
/// [`SealError`], if not.
pub fn verify(pdf: &[u8], key: PublicKey) -> Result<Facts, SealError> {
    let places = places(pdf);
    let (Some(first), true) = (places.first(), places.len() <= SEALS_LIMIT) else {
        return Err(SealError::Unsealed);
    };
    let written = &pdf[*first..*first + SIGNATURE_CHARS];
    let signature = URL_SAFE_NO_PAD
        .decode(written)
        .map_err(|_| SealError::Changed)?;
    let mut made = pdf.to_vec();
    for at in &places {
        let place = &mut made[*at..*at + SIGNATURE_CHARS];
        if *place != *written {
            return Err(SealError::Changed);
        }
        place.copy_from_slice(blank().as_bytes());
    }
    if !key.has_signed(&message(&made), &signature) {
        return Err(SealError::Changed);
    }
    facts(&made).ok_or(SealError::Changed)
}

fn message(pdf: &[u8]) -> Vec<u8> {
    [DOMAIN, &Sha256::digest(pdf)].concat()
}

/// Where the seals stand: behind each mark, as long as there is room.
fn places(pdf: &[u8]) -> Vec<usize> {
    memchr::memmem::find_iter(pdf, MARK)
        .map(|at| at + MARK.len())
        .filter(|at| at + SIGNATURE_CHARS <= pdf.len())
        .take(SEALS_LIMIT + 1)
        .collect()
}

fn facts(pdf: &[u8]) -> Option<Facts> {
    let at = memchr::memmem::find(pdf, FACTS_MARK.as_bytes())? + FACTS_MARK.len();
    let end = (at + FACTS_LIMIT_BYTES).min(pdf.len());
    let text: String = pdf[at..end]
        .iter()
        .map(|byte| char::from(*byte))
        .take_while(|c| c.is_ascii_graphic() && *c != ',')
        .collect();
    let mut parts = text.split(';').map(str::to_owned);
    Some(Facts {
        number: parts.next()?,
        establishment: parts.next()?,
        received: parts.next()?,
        counts: parts.next()?,
        code: parts.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts_of_one() -> Facts {
        Facts {
            number: "20261118-0007".into(),
            establishment: "0123".into(),
            received: "2026-11-18T08:05:09+09:00".into(),
            counts: "2026-11".into(),
            code: "ABCD-EFGH-JKLM".into(),
        }
    }

    fn file() -> Vec<u8> {
        let keywords = keywords(&facts_of_one()).join(", ");
        format!("%PDF-1.7 one ({keywords}) two <{keywords}> three").into_bytes()
    }

    fn key() -> SigningKey {
        SigningKey::read(&SigningKey::generate()).unwrap()
    }

    #[test]
    fn a_sealed_file_is_true_and_tells_its_facts() {
        let key = key();
        let sealed = seal(file(), &key).unwrap();
        assert_eq!(verify(&sealed, key.public()), Ok(facts_of_one()));
        assert_eq!(sealed.len(), file().len());
    }

    #[test]
    fn a_change_of_any_byte_is_found() {
        let key = key();
        let sealed = seal(file(), &key).unwrap();
        for at in 0..sealed.len() {
            let mut edited = sealed.clone();
            edited[at] ^= 1;
            assert!(verify(&edited, key.public()).is_err(), "{at}");
        }
        for edited in [
            &sealed[1..],
            &sealed[..sealed.len() - 1],
            &[&*sealed, b"\n"].concat(),
        ] {
            assert_eq!(verify(edited, key.public()), Err(SealError::Changed));
        }
    }

    #[test]
    fn another_key_and_no_seal_are_told_apart() {
        let sealed = seal(file(), &key()).unwrap();
        assert_eq!(verify(&sealed, key().public()), Err(SealError::Changed));
        assert_eq!(
            verify(b"%PDF-1.7", key().public()),
            Err(SealError::Unsealed)
        );
        assert_eq!(verify(&file(), key().public()), Err(SealError::Changed));
        assert!(seal(sealed, &key()).is_err());
        let many = MARK.repeat(SEALS_LIMIT + 1) + &blank();
        assert!(verify(many.as_bytes(), key().public()).is_err());
    }
}
