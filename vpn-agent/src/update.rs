//! The agent's own updates: what is believed, when it is taken, and how one program takes the
//! other's place.
//!
//! Believed is only what the key signed that this agent was built with ([`judge`]): not
//! expired, for this platform, and never older than what runs or was ever offered. It is
//! looked for and fetched inside the tunnel while nothing else moves ([`pace`], [`fetch`]),
//! lies checked beside the program ([`staging`]), and takes its place while no session runs
//! ([`take_over`]). At every moment there is a whole program under the program's name.
//!
//! Nothing here reads a clock or waits, but for [`event_loop`].

use protocol::Bytes32;
use protocol::updates::{
    Manifest, ManifestError, Name, SignedManifest, UpdateKey, Version, signed_message,
};
use ring::signature::{ED25519, UnparsedPublicKey};
use time::OffsetDateTime;

use crate::clock::from_unix_ms;

pub mod event_loop;
pub mod fetch;
pub mod guard;
pub mod pace;
pub mod staging;
pub mod take_over;

/// The version, behind a mark by which it is found in the program's file.
const MARKED_VERSION: &str = concat!("renkei-agent-version=", env!("CARGO_PKG_VERSION"));

/// Where an agent's update stands, for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// It is being fetched.
    Fetching(Version),
    /// It waits for the session's end.
    Ready(Version),
    /// The program lies where only an administrator may write.
    Administrator(Version),
    /// What was offered is not taken, and why.
    Refused(Refusal),
}

/// What an offer means for this agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Nothing newer, or nothing for this platform.
    Nothing,
    /// A program to fetch.
    Newer(Offer),
}

/// A newer program, believed but not fetched yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its version.
    pub version: Version,
    /// Its name at the portal.
    pub file: Name,
    /// Its length.
    pub size_bytes: u64,
    /// Its SHA-256.
    pub sha256: Bytes32,
}

/// What runs here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// The version that runs.
    pub running: Version,
    /// The newest version that was ever offered under the key.
    pub newest_seen: Option<Version>,
    /// Operating system and processor.
    pub platform: Name,
}

/// Why an offer is not taken. `Display` is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not of the right form.
    #[error("update cannot be read: {0}")]
    Unreadable(String),
    /// Not signed under the key.
    #[error("update is not signed under the key of this agent")]
    Forged,
    /// Its time is over.
    #[error("update expired at {0}")]
    Expired(OffsetDateTime),
    /// Older than what runs or was once offered.
    #[error("update {offered} is older than {known}")]
    Older {
        /// What is offered.
        offered: Version,
        /// What is known.
        known: Version,
    },
    /// This agent is too old to be replaced without an installer.
    #[error("update {offered} replaces agents from {minimum} on")]
    TooOld {
        /// What is offered.
        offered: Version,
        /// What it can replace.
        minimum: Version,
    },
    /// The program is not the one that the manifest names.
    #[error("the program fetched for {0} is not the one that was signed")]
    WrongProgram(Version),
    /// The program does not start here.
    #[error("the program fetched for {version} does not start: {why}")]
    DoesNotStart {
        /// Its version.
        version: Version,
        /// What happened.
        why: String,
    },
    /// It was tried and did not come up.
    #[error("{0} did not take over, tried often enough")]
    GivenUp(Version),
}

impl From<ManifestError> for Refusal {
    fn from(error: ManifestError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// The version of this program.
pub fn running_version_text() -> &'static str {
    // Kept from the optimiser, so that file and program say the same.
    let marked = std::hint::black_box(MARKED_VERSION);
    marked
        .split_once('=')
        .map_or(marked, |(_, version)| version)
}

/// The version of this program.
pub fn running_version() -> Version {
    running_version_text()
        .parse()
        .expect("Cargo versions without additions are 1.2.3, and ours have none")
}

/// Operating system and processor of this program, `windows-x86_64`.
pub fn platform() -> Name {
    format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
        .parse()
        .expect("Rust's names are plain words")
}

/// Says what the text of a manifest means for this agent at `now`.
///
/// # Errors
/// Why it is not taken. Nothing but the signature is looked at before the signature fits.
pub fn judge(
    text: &[u8],
    key: &UpdateKey,
    here: &Here,
    now: OffsetDateTime,
) -> Result<News, Refusal> {
    let signed = SignedManifest::read(text)?;
    UnparsedPublicKey::new(&ED25519, key.as_bytes())
        .verify(&signed_message(&signed.manifest), &signed.signature.0)
        .map_err(|_| Refusal::Forged)?;
    let manifest = Manifest::read(&signed.manifest)?;
    let expires = from_unix_ms(manifest.expires_ms)
        .ok_or_else(|| Refusal::Unreadable("no calendar has its last year".to_owned()))?;
    if now >= expires {
        return Err(Refusal::Expired(expires));
    }
    let offered = manifest.version;
    let known = here
        .newest_seen
        .map_or(here.running, |seen| seen.max(here.running));
    if offered < known {
        return Err(Refusal::Older { offered, known });
    }
    if offered == here.running {
        return Ok(News::Nothing);
    }
    let Some(program) = manifest.program(&here.platform) else {
        return Ok(News::Nothing);
    };
    if here.running < manifest.minimum {
        let minimum = manifest.minimum;
        return Err(Refusal::TooOld { offered, minimum });
    }
    Ok(News::Newer(Offer {
        version: offered,
        file: program.file.clone(),
        size_bytes: program.size_bytes,
        sha256: program.sha256,
    }))
}

impl Refusal {
    /// What the user is told.
    pub fn page_text(&self) -> String {
        let what = match self {
            Self::Unreadable(_) | Self::Forged => {
                "配布された更新は、正しいものと確認できなかったため受け取りませんでした。"
                    .to_owned()
            }
            Self::WrongProgram(version) => format!(
                "配布された更新（{version}）は、正しいものと確認できなかったため受け取りませんでした。"
            ),
            Self::Expired(_) => {
                "配布された更新は、有効期限を過ぎているため受け取りませんでした。".to_owned()
            }
            Self::Older { offered, known } => format!(
                "配布された更新（{offered}）は、すでにある版（{known}）より古いため受け取りませんでした。"
            ),
            Self::TooOld { offered, .. } => {
                return format!(
                    "新しい版（{offered}）がありますが、いまの版からは自動で更新できません。新しいインストーラーで入れ直してください。登録はそのまま使えます。"
                );
            }
            Self::DoesNotStart { version, .. } | Self::GivenUp(version) => {
                return format!(
                    "新しい版（{version}）に切り替えられませんでした。いまの版のままお使いいただけます。続くときは、社内のシステム担当者にお知らせください。"
                );
            }
        };
        format!("{what}いまの版のままお使いいただけます。基金事務局へお知らせください。")
    }
}

impl Note {
    /// What the user is told.
    pub fn page_text(&self) -> String {
        match self {
            Self::Fetching(version) => {
                format!("新しい版（{version}）を受け取っています。作業はそのまま続けられます。")
            }
            Self::Ready(version) => format!(
                "新しい版（{version}）の準備ができました。接続を終えたあと、自動で切り替わり、この画面が開き直します。"
            ),
            Self::Administrator(version) => format!(
                "新しい版（{version}）があります。このパソコンでは、社内のシステム担当者が更新します。"
            ),
            Self::Refused(refusal) => refusal.page_text(),
        }
    }

    /// Whether something is wrong.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use protocol::Der;
    use protocol::updates::Program;
    use ring::rand::SystemRandom;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use time::Duration;
    use time::macros::datetime;

    use super::*;
    use crate::clock::to_unix_ms;

    pub const NOW: OffsetDateTime = datetime!(2026-11-20 9:00 UTC);

    /// Whoever makes the programs.
    pub struct Maker(Ed25519KeyPair);

    impl Maker {
        pub fn new() -> Self {
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            Self(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
        }

        pub fn key(&self) -> UpdateKey {
            let bytes: [u8; 32] = self.0.public_key().as_ref().try_into().unwrap();
            bytes.into()
        }

        pub fn sign(&self, manifest: &Manifest) -> Vec<u8> {
            let manifest = serde_json::to_string(manifest).unwrap();
            let signature = self.0.sign(&signed_message(&manifest));
            let signature = Der(signature.as_ref().to_vec());
            serde_json::to_vec(&SignedManifest {
                manifest,
                signature,
            })
            .unwrap()
        }
    }

    pub fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    /// Version 1.1.0 of `program`, for a month, for whoever has 1.0.0 or newer.
    pub fn manifest(program: &[u8]) -> Manifest {
        let digest = ring::digest::digest(&ring::digest::SHA256, program);
        Manifest {
            version: version("1.1.0"),
            minimum: version("1.0.0"),
            expires_ms: to_unix_ms(NOW + Duration::days(30)),
            programs: vec![Program {
                platform: platform(),
                file: "vpn-agent-1.1.0".parse().unwrap(),
                size_bytes: program.len() as u64,
                sha256: Bytes32(digest.as_ref().try_into().unwrap()),
            }],
        }
    }

    pub fn here(running: &str) -> Here {
        Here {
            running: version(running),
            newest_seen: None,
            platform: platform(),
        }
    }

    #[test]
    fn a_newer_version_is_taken_and_the_same_is_no_news() {
        let maker = Maker::new();
        let text = maker.sign(&manifest(b"x"));
        let news = judge(&text, &maker.key(), &here("1.0.0"), NOW).unwrap();
        let News::Newer(offer) = news else {
            panic!("{news:?}")
        };
        assert_eq!(offer.version, version("1.1.0"));
        let news = judge(&text, &maker.key(), &here("1.1.0"), NOW);
        assert_eq!(news, Ok(News::Nothing));
    }

    #[test]
    fn what_another_key_signed_is_refused_whatever_it_says() {
        let (maker, other) = (Maker::new(), Maker::new());
        let text = other.sign(&manifest(b"x"));
        let judged = judge(&text, &maker.key(), &here("1.0.0"), NOW);
        assert_eq!(judged, Err(Refusal::Forged));
    }

    #[test]
    fn any_change_to_what_was_signed_is_refused() {
        let maker = Maker::new();
        let text = maker.sign(&manifest(b"x"));
        for at in 0..text.len() {
            let mut tampered = text.clone();
            tampered[at] ^= 1;
            let judged = judge(&tampered, &maker.key(), &here("1.0.0"), NOW);
            // A changed letter of the outer JSON's own words may be no JSON at all.
            assert!(
                matches!(judged, Err(Refusal::Forged | Refusal::Unreadable(_))),
                "byte {at}: {judged:?}"
            );
        }
    }

    #[test]
    fn an_expired_one_is_refused_from_its_last_moment_on() {
        let maker = Maker::new();
        let text = maker.sign(&manifest(b"x"));
        let last = NOW + Duration::days(30);
        let at = |now| judge(&text, &maker.key(), &here("1.0.0"), now);
        assert!(at(last - Duration::milliseconds(1)).is_ok());
        assert_eq!(at(last), Err(Refusal::Expired(last)));
    }

    #[test]
    fn an_older_one_is_refused_even_if_it_is_newer_than_what_runs() {
        let maker = Maker::new();
        let text = maker.sign(&manifest(b"x"));
        let judged = judge(&text, &maker.key(), &here("1.2.0"), NOW);
        assert!(matches!(judged, Err(Refusal::Older { .. })), "{judged:?}");
        let seen = Here {
            newest_seen: Some(version("1.1.1")),
            ..here("1.0.0")
        };
        let judged = judge(&text, &maker.key(), &seen, NOW);
        let (offered, known) = (version("1.1.0"), version("1.1.1"));
        assert_eq!(judged, Err(Refusal::Older { offered, known }));
    }

    #[test]
    fn an_agent_that_is_too_old_is_sent_to_the_installer() {
        let maker = Maker::new();
        let text = maker.sign(&manifest(b"x"));
        let judged = judge(&text, &maker.key(), &here("0.9.0"), NOW);
        let refusal = judged.unwrap_err();
        assert!(refusal.page_text().contains("インストーラー"), "{refusal}");
    }

    #[test]
    fn an_offer_for_other_platforms_is_no_news() {
        let maker = Maker::new();
        let mut manifest = manifest(b"x");
        manifest.programs[0].platform = "plan9-mips".parse().unwrap();
        let judged = judge(&maker.sign(&manifest), &maker.key(), &here("1.0.0"), NOW);
        assert_eq!(judged, Ok(News::Nothing));
    }

    #[test]
    fn every_refusal_says_in_japanese_that_the_agent_goes_on_working() {
        let version = version("1.1.0");
        for refusal in [
            Refusal::Unreadable("x".to_owned()),
            Refusal::Forged,
            Refusal::Expired(NOW),
            Refusal::Older {
                offered: version,
                known: version,
            },
            Refusal::WrongProgram(version),
            Refusal::DoesNotStart {
                version,
                why: "x".to_owned(),
            },
            Refusal::GivenUp(version),
        ] {
            let text = refusal.page_text();
            assert!(
                text.contains("いまの版のままお使いいただけます。"),
                "{text}"
            );
        }
    }

    #[test]
    fn the_running_version_is_cargos() {
        assert_eq!(running_version().to_string(), env!("CARGO_PKG_VERSION"));
    }
}
