//! The agent's updates: what the fund offers, as the key of whoever makes the programs has
//! signed it.
//!
//! The signing key is never on a server: the portal hands out files that it cannot make. The
//! agent believes a [`SignedManifest`] only under the Ed25519 key that it was built with, and
//! then only for the file whose length and SHA-256 stand in it. Both lie in one folder of the
//! portal's, and are reached inside a tunnel only:
//!
//! | request | answer |
//! |---|---|
//! | `GET` [`MANIFEST_PATH`] | [`SignedManifest`], or 404 where nothing is offered |
//! | `GET` [`FILES_PATH`]`{name}` | the program |
//!
//! What an agent makes of an offer is decided in the agent.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::{Bytes32, Der};

/// Where the portal's member pages offer the manifest.
pub const MANIFEST_PATH: &str = "/agent/update.json";

/// What the path of a program begins with.
pub const FILES_PATH: &str = "/agent/files/";

/// The manifest's name in the portal's folder.
pub const MANIFEST_FILE: &str = "update.json";

/// Largest manifest, in bytes. One with four platforms is under 2 KB.
pub const MANIFEST_LIMIT_BYTES: usize = 16 * 1024;

/// Largest program, in bytes. The agent for Windows has to be under 15 MB.
pub const PROGRAM_LIMIT_BYTES: u64 = 64 * 1024 * 1024;

/// Platforms in one manifest.
const MAX_PROGRAMS: usize = 16;

/// Longest name of a file or platform, in characters.
const MAX_NAME: usize = 80;

/// What lies in [`MANIFEST_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedManifest {
    /// The JSON text of a [`Manifest`], exactly as it was signed.
    pub manifest: String,
    /// Ed25519 over [`signed_message`].
    pub signature: Der,
}

/// What is offered. An older agent reads past fields that it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of all programs in it.
    pub version: Version,
    /// The oldest version that can be replaced without an installer.
    pub minimum: Version,
    /// Not to be believed from then on, Unix milliseconds: whoever sits on the line can hold
    /// back a newer manifest only until then.
    pub expires_ms: i64,
    /// One for each platform.
    pub programs: Vec<Program>,
}

/// The program for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Operating system and processor, `windows-x86_64`.
    pub platform: Name,
    /// The file's name under [`FILES_PATH`].
    pub file: Name,
    /// Its length.
    pub size_bytes: u64,
    /// Its SHA-256.
    pub sha256: Bytes32,
}

/// `1.2.3`, in the order of its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    major: u16,
    minor: u16,
    patch: u16,
}

/// 1 to 80 of `a-z A-Z 0-9 . _ -`, not beginning with a dot: a file's name that stays in its
/// folder on every system.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`MANIFEST_LIMIT_BYTES`].
    #[error("manifest has {0} bytes, over {MANIFEST_LIMIT_BYTES}")]
    TooLong(usize),
    /// Not JSON of this form.
    #[error("manifest cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// Nothing, or too much, or one platform twice.
    #[error("manifest names {0} programs, or one platform twice")]
    Programs(usize),
    /// A program of no bytes, or of more than [`PROGRAM_LIMIT_BYTES`].
    #[error("program for {0} has {1} bytes, not 1 to {PROGRAM_LIMIT_BYTES}")]
    Size(Name, u64),
}

/// A text that is not a version.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version of the form 1.2.3")]
pub struct NotAVersion;

/// A text that is not a name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 1 to {MAX_NAME} of a-z, A-Z, 0-9, '.', '_' and '-'")]
pub struct NotAName;

/// Returns what is signed: the manifest's bytes, behind what they are meant for.
pub fn signed_message(manifest: &str) -> Vec<u8> {
    [b"renkei agent update v1\0", manifest.as_bytes()].concat()
}

impl SignedManifest {
    /// Reads [`MANIFEST_FILE`]. Nothing in it is to be believed yet.
    ///
    /// # Errors
    /// If it is too long or of another form.
    pub fn read(text: &[u8]) -> Result<Self, ManifestError> {
        if text.len() > MANIFEST_LIMIT_BYTES {
            return Err(ManifestError::TooLong(text.len()));
        }
        Ok(serde_json::from_slice(text)?)
    }
}

impl Manifest {
    /// Reads the text whose signature was verified.
    ///
    /// # Errors
    /// If it is of another form, or says what cannot be.
    pub fn read(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_str(text)?;
        let programs = &manifest.programs;
        let twice = programs.iter().enumerate().any(|(at, program)| {
            let others = programs.iter().skip(at + 1);
            others
                .map(|other| &other.platform)
                .any(|other| *other == program.platform)
        });
        if programs.is_empty() || programs.len() > MAX_PROGRAMS || twice {
            return Err(ManifestError::Programs(programs.len()));
        }
        for program in programs {
            if !(1..=PROGRAM_LIMIT_BYTES).contains(&program.size_bytes) {
                let platform = program.platform.clone();
                return Err(ManifestError::Size(platform, program.size_bytes));
            }
        }
        Ok(manifest)
    }

    /// The program for `platform`.
    pub fn program(&self, platform: &Name) -> Option<&Program> {
        let mut programs = self.programs.iter();
        programs.find(|program| program.platform == *platform)
    }
}

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = NotAName;
    fn from_str(text: &str) -> Result<Self, NotAName> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let fits = (1..=MAX_NAME).contains(&text.len()) && text.chars().all(plain);
        if fits && !text.starts_with('.') {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAName)
        }
    }
}

impl TryFrom<String> for Name {
    type Error = NotAName;
    fn try_from(text: String) -> Result<Self, NotAName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = NotAVersion;
    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let mut numbers = text.split('.').map(|part| {
            // "+1" and "01" are numbers to the parser, but not one way to write a version.
            let number: u16 = part.parse().map_err(|_| NotAVersion)?;
            (number.to_string() == part)
                .then_some(number)
                .ok_or(NotAVersion)
        });
        let mut next = || numbers.next().unwrap_or(Err(NotAVersion));
        let version = Self {
            major: next()?,
            minor: next()?,
            patch: next()?,
        };
        match numbers.next() {
            None => Ok(version),
            Some(_) => Err(NotAVersion),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = NotAVersion;
    fn try_from(text: String) -> Result<Self, NotAVersion> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

/// The Ed25519 public key that manifests are signed under. Base64 in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct UpdateKey([u8; 32]);

/// A text that is no public key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 32 bytes in base64")]
pub struct NotAKey;

impl UpdateKey {
    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for UpdateKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for UpdateKey {
    type Err = NotAKey;
    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| NotAKey)?;
        bytes.try_into().map(Self).map_err(|_| NotAKey)
    }
}

impl TryFrom<String> for UpdateKey {
    type Error = NotAKey;
    fn try_from(text: String) -> Result<Self, NotAKey> {
        text.parse()
    }
}

impl fmt::Display for UpdateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_ordered_by_their_numbers_and_not_by_their_text() {
        assert!(version("0.10.0") > version("0.9.9"));
        assert!(version("1.0.0") > version("0.65535.65535"));
        assert_eq!(version("1.2.3").to_string(), "1.2.3");
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "1.2.x",
            "01.2.3",
            "+1.2.3",
            "1.2.65536",
            "1..3",
        ] {
            assert_eq!(text.parse::<Version>(), Err(NotAVersion), "{text}");
        }
    }

    #[test]
    fn a_name_stays_in_its_folder() {
        for text in [
            "",
            ".",
            "..",
            ".hidden",
            "a/b",
            "a\\b",
            "c:x",
            "名",
            &"x".repeat(81),
        ] {
            assert_eq!(text.parse::<Name>(), Err(NotAName), "{text}");
        }
        let name = "vpn-agent-0.1.0-windows-x86_64.exe";
        assert_eq!(name.parse::<Name>().unwrap().as_str(), name);
    }

    #[test]
    fn a_manifest_with_impossible_programs_is_none() {
        let program = |platform: &str, size: u64| {
            format!(
                r#"{{"platform":"{platform}","file":"f","size_bytes":{size},"sha256":"{}"}}"#,
                "A".repeat(43) + "="
            )
        };
        let manifest = |programs: &[String]| {
            Manifest::read(&format!(
                r#"{{"version":"1.0.0","minimum":"0.1.0","expires_ms":1,"later":true,"programs":[{}]}}"#,
                programs.join(",")
            ))
        };
        let good = manifest(&[program("linux-x86_64", 1), program("windows-x86_64", 2)]).unwrap();
        let windows = "windows-x86_64".parse().unwrap();
        assert_eq!(good.program(&windows).unwrap().size_bytes, 2);
        assert!(manifest(&[]).is_err());
        assert!(manifest(&[program("a", 1), program("a", 2)]).is_err());
        assert!(manifest(&[program("a", 0)]).is_err());
        assert!(manifest(&[program("a", PROGRAM_LIMIT_BYTES + 1)]).is_err());
        assert!(manifest(&[program("../a", 1)]).is_err());
        let many: Vec<_> = (0..17).map(|n| program(&format!("p{n}"), 1)).collect();
        assert!(manifest(&many).is_err());
    }

    #[test]
    fn a_file_that_is_too_long_is_not_even_parsed() {
        let text = vec![b' '; MANIFEST_LIMIT_BYTES + 1];
        let read = SignedManifest::read(&text);
        assert!(matches!(read, Err(ManifestError::TooLong(_))));
    }
}
