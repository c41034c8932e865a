//! Passwords: how they are kept, checked and chosen.
//!
//! Kept as argon2id (OWASP's parameters) in PHC format. A check costs the same whether the
//! account exists or not, runs off the event loop, and only a few at a time: each takes
//! 19 MiB. New passwords follow NIST SP 800-63B: length and a blocklist, no composition
//! rules, no expiry. Nothing here logs or stores a password.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use crate::keys::random_readable;

/// Characters a new password has at least.
pub const LENGTH_MIN: usize = 12;
/// Characters a password has at most.
pub const LENGTH_MAX: usize = 128;

/// OWASP, Password Storage Cheat Sheet: argon2id, 19 MiB, 2 passes, 1 lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Passwords hashed at the same time at most.
const PARALLEL_HASHES: usize = 4;
static HASHING: Semaphore = Semaphore::const_new(PARALLEL_HASHES);

/// The hash of a password that nobody knows, checked where there is no account, so that
/// the answer takes as long as for one that exists.
const NOBODYS_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$zbHt2vfPIn5xVT1Ql8mC/w$\
                            Xrmv+fSPTp2nJrlsOL5bZpGxL0NXYhtBzBbM7hQeU7I";

/// Words that people build passwords from; one per line.
const COMMON: &str = include_str!("passwords/common.txt");
/// What is left of a password besides known words must have this many characters.
const OWN_PART_MIN: usize = 8;

/// A password cannot be hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// The hash function refused.
    #[error("cannot hash a password: {0}")]
    Hash(argon2::password_hash::Error),
    /// The thread pool is going down.
    #[error("the thread that hashes passwords ended")]
    Stopped,
}

/// Why a new password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Fewer than [`LENGTH_MIN`] characters.
    #[error("too short")]
    TooShort,
    /// More than [`LENGTH_MAX`] characters.
    #[error("too long")]
    TooLong,
    /// On the list of common passwords, or a simple pattern.
    #[error("too common")]
    TooCommon,
    /// Little more than the user's own ID or the fund's name.
    #[error("built from the user id or the fund's name")]
    TooClose,
}

impl WeakPassword {
    /// What the user reads.
    pub fn page_text(self) -> String {
        match self {
            Self::TooShort => format!("パスワードは{LENGTH_MIN}文字以上にしてください。"),
            Self::TooLong => format!("パスワードは{LENGTH_MAX}文字以内にしてください。"),
            Self::TooCommon => "このパスワードは推測されやすいため使えません。関係のない言葉をいくつか並べるなど、別のパスワードにしてください。".to_owned(),
            Self::TooClose => "ユーザーIDや基金の名前をもとにしたパスワードは使えません。別のパスワードにしてください。".to_owned(),
        }
    }
}

/// Makes one form of the ways to type the same characters (NFKC).
fn normalized(password: &str) -> Zeroizing<String> {
    Zeroizing::new(password.nfkc().collect())
}

/// Says whether a new password may be taken. `close` are texts that it must not be built
/// from: the user ID, the fund's name.
pub fn check_new(password: &str, close: &[&str]) -> Result<(), WeakPassword> {
    let password = normalized(password);
    let length = password.chars().count();
    if length < LENGTH_MIN {
        return Err(WeakPassword::TooShort);
    }
    if length > LENGTH_MAX {
        return Err(WeakPassword::TooLong);
    }
    let lower = Zeroizing::new(password.to_lowercase());
    for text in close {
        let text = normalized(text).to_lowercase();
        if !text.is_empty() && lower.contains(&text) {
            let rest = lower.replace(&text, "");
            if rest.chars().count() < OWN_PART_MIN {
                return Err(WeakPassword::TooClose);
            }
        }
    }
    if is_pattern(&lower) || is_common(&lower) {
        return Err(WeakPassword::TooCommon);
    }
    Ok(())
}

/// A few characters repeated, or a run up or down: `abcabcabcabc`, `123456789012`.
fn is_pattern(password: &str) -> bool {
    let chars: Vec<char> = password.chars().collect();
    let repeats = |unit: usize| chars.iter().zip(&chars[unit..]).all(|(a, b)| a == b);
    let runs = |step: i64| {
        chars.windows(2).all(|pair| {
            let (a, b) = (i64::from(u32::from(pair[0])), i64::from(u32::from(pair[1])));
            b - a == step || (b - a).abs() == 9
        })
    };
    (1..=4).any(repeats) || runs(1) || runs(-1)
}

/// Common words, with digits and signs around and between them: `password2026!!`.
fn is_common(password: &str) -> bool {
    let letters: String = password
        .chars()
        .map(|c| match c {
            '@' => 'a',
            '0' => 'o',
            '1' | '!' => 'i',
            '3' => 'e',
            '$' | '5' => 's',
            other => other,
        })
        .filter(|c| c.is_alphabetic())
        .collect();
    let plain: String = password.chars().filter(|c| c.is_alphabetic()).collect();
    // Digits alone have about three bits each, and people choose dates and telephone numbers.
    if plain.is_empty() {
        return true;
    }
    COMMON.lines().filter(|word| !word.is_empty()).any(|word| {
        password == word
            || [&letters, &plain].into_iter().any(|text| {
                text.contains(word) && text.replace(word, "").chars().count() < OWN_PART_MIN / 2
            })
    })
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .expect("OWASP's parameters are within argon2's limits");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Hashes a password for the database.
pub async fn hash(password: &str) -> Result<String, HashError> {
    let password = normalized(password);
    off_the_event_loop(move || {
        let hash: PasswordHash = argon2()
            .hash_password(password.as_bytes())
            .map_err(HashError::Hash)?;
        Ok(hash.to_string())
    })
    .await?
}

/// Says whether `password` is the one of `hash`; `None` where there is no account. Takes as
/// long either way.
pub async fn verify(password: &str, hash: Option<&str>) -> Result<bool, HashError> {
    let exists = hash.is_some();
    let hash = hash.unwrap_or(NOBODYS_HASH).to_owned();
    // Longer ones cannot have been chosen; cutting keeps the cost the same.
    let password: Zeroizing<String> =
        Zeroizing::new(normalized(password).chars().take(LENGTH_MAX + 1).collect());
    let fits = off_the_event_loop(move || {
        PasswordHash::new(&hash)
            .is_ok_and(|hash| argon2().verify_password(password.as_bytes(), &hash).is_ok())
    })
    .await?;
    Ok(fits && exists)
}

async fn off_the_event_loop<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, HashError> {
    let _permit = HASHING
        .acquire()
        .await
        .expect("the semaphore is never closed");
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| HashError::Stopped)
}

/// Makes an initial password for a letter: four groups of four, 80 random bits.
pub fn initial() -> Zeroizing<String> {
    Zeroizing::new([(); 4].map(|()| random_readable(4)).join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSE: [&str; 2] = ["tanaka0123", "見本企業年金基金"];

    #[test]
    fn a_long_uncommon_password_is_taken_whatever_it_is_made_of() {
        for password in [
            "kawa to yama no aida",
            "correct horse battery staple",
            "ゆきのふるまちをひとりあるく",
            "MZ7K-QP3X-9WRT-HH2B",
            "なつのあさ、うみへいく。",
        ] {
            assert_eq!(check_new(password, &CLOSE), Ok(()), "{password}");
        }
        assert_eq!(check_new(&initial(), &CLOSE), Ok(()));
    }

    #[test]
    fn common_passwords_are_refused_with_their_usual_decorations() {
        for password in [
            "password1234",
            "P@ssw0rd2026!",
            "qwertyuiop123",
            "1q2w3e4r5t6y",
            "123456789012",
            "aaaaaaaaaaaa",
            "abcabcabcabc",
            "19800401-0312",
            "sakurasakura1",
            "konnichiwa123",
            "nenkinkikin1",
            "ｐａｓｓｗｏｒｄ１２３４",
        ] {
            assert_eq!(
                check_new(password, &CLOSE),
                Err(WeakPassword::TooCommon),
                "{password}"
            );
        }
    }

    #[test]
    fn the_own_user_id_and_the_funds_name_are_no_passwords() {
        for password in ["tanaka0123tanaka", "TANAKA0123!!!", "見本企業年金基金2026"] {
            assert_eq!(
                check_new(password, &CLOSE),
                Err(WeakPassword::TooClose),
                "{password}"
            );
        }
    }

    #[test]
    fn length_is_counted_in_characters() {
        assert_eq!(
            check_new("みじかいことば", &CLOSE),
            Err(WeakPassword::TooShort)
        );
        assert_eq!(
            check_new(&"ながい".repeat(60), &CLOSE),
            Err(WeakPassword::TooLong)
        );
    }

    #[tokio::test]
    async fn a_password_fits_its_hash_however_its_characters_were_typed() {
        let hash = hash("ﾊﾟｽﾜｰﾄﾞではない言葉").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(verify("パスワードではない言葉", Some(&hash)).await.unwrap());
        assert!(!verify("パスワードではない言棄", Some(&hash)).await.unwrap());
    }

    #[tokio::test]
    async fn nobodys_password_is_checked_at_the_same_cost_and_never_fits() {
        let nobody = PasswordHash::new(NOBODYS_HASH).unwrap();
        let params = Params::try_from(&nobody).unwrap();
        assert_eq!(
            (params.m_cost(), params.t_cost(), params.p_cost()),
            (MEMORY_KIB, PASSES, LANES)
        );
        assert_eq!(nobody.hash.unwrap().len(), 32);
        assert!(!verify("anything", None).await.unwrap());
    }
}
