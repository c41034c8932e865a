//! `portal agent-update new-key | sign`
//!
//! Runs where the signing key is kept: a machine or a stick that no server sees. What it
//! writes is copied to the portal's `agent_updates_dir`, programs first.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::updates::{
    MANIFEST_FILE, Manifest, Name, PROGRAM_LIMIT_BYTES, Program, SignedManifest, UpdateKey,
    signed_message,
};
use protocol::{Bytes32, Der};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::gateway::make_folder;
use super::keys::write_secret;
use super::{AgentUpdateCommand, AgentUpdateSign};
use portal::clock::unix_ms;

/// A program to offer, as it is typed: `windows-x86_64=vpn-agent.exe`.
#[derive(Debug, Clone)]
pub(super) struct Source {
    platform: Name,
    file: PathBuf,
}

impl FromStr for Source {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (platform, file) = text
            .split_once('=')
            .ok_or_else(|| "not of the form PLATFORM=FILE".to_owned())?;
        Ok(Self {
            platform: platform
                .parse()
                .map_err(|error| format!("platform: {error}"))?,
            file: file.into(),
        })
    }
}

pub(super) fn run(command: AgentUpdateCommand, now: OffsetDateTime) -> anyhow::Result<()> {
    match command {
        AgentUpdateCommand::NewKey { out } => {
            let key = new_key(&out)?;
            println!("{key}");
            eprintln!(
                "signing key written to {}: keep it off every server; agents are built with the \
                 line above as RENKEI_BUILT_UPDATE_KEY",
                out.display()
            );
            Ok(())
        }
        AgentUpdateCommand::Sign(order) => {
            let manifest = sign(&order, now)?;
            println!(
                "version {} for {} in {}; agents believe it for {} days",
                manifest.version,
                manifest
                    .programs
                    .iter()
                    .map(|program| program.platform.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
                order.out.display(),
                order.days
            );
            Ok(())
        }
    }
}

/// Makes a key in a file that only its owner may read; returns the public half.
fn new_key(out: &Path) -> anyhow::Result<UpdateKey> {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
        .ok()
        .context("no randomness")?;
    let text = Zeroizing::new(STANDARD.encode(document.as_ref()));
    let key = read_key(text.as_bytes())?;
    write_secret(out, text.as_bytes())?;
    public_half(&key)
}

fn read_key(text: &[u8]) -> anyhow::Result<Ed25519KeyPair> {
    let document = STANDARD.decode(text.trim_ascii()).map(Zeroizing::new);
    let document = document.ok().context("not base64")?;
    let key = Ed25519KeyPair::from_pkcs8(&document);
    key.ok().context("not an Ed25519 key (PKCS #8)")
}

fn public_half(key: &Ed25519KeyPair) -> anyhow::Result<UpdateKey> {
    let bytes: [u8; 32] = key.public_key().as_ref().try_into()?;
    Ok(bytes.into())
}

/// Copies the programs and writes their manifest, last: whoever copies on in that order never
/// offers a program that is not there.
fn sign(order: &AgentUpdateSign, now: OffsetDateTime) -> anyhow::Result<Manifest> {
    let text = std::fs::read(&order.key)
        .map(Zeroizing::new)
        .with_context(|| format!("cannot read {}", order.key.display()))?;
    let key = read_key(&text).with_context(|| format!("cannot use {}", order.key.display()))?;
    make_folder(&order.out).with_context(|| format!("cannot use {}", order.out.display()))?;
    let mut programs = Vec::new();
    for source in &order.programs {
        let added = add(source, order)
            .with_context(|| format!("cannot offer {}", source.file.display()))?;
        programs.push(added);
    }
    let manifest = Manifest {
        version: order.version,
        minimum: order.minimum,
        expires_ms: unix_ms(now + Duration::days(order.days)),
        programs,
    };
    let text = serde_json::to_string(&manifest)?;
    // What agents would not read is better found here.
    let manifest = Manifest::read(&text)?;
    let signature = key.sign(&signed_message(&text));
    let signed = SignedManifest {
        manifest: text,
        signature: Der(signature.as_ref().to_vec()),
    };
    let path = order.out.join(MANIFEST_FILE);
    std::fs::write(&path, serde_json::to_vec_pretty(&signed)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(manifest)
}

fn add(source: &Source, order: &AgentUpdateSign) -> anyhow::Result<Program> {
    let size_bytes = std::fs::metadata(&source.file)?.len();
    ensure!(
        size_bytes <= PROGRAM_LIMIT_BYTES,
        "it has {size_bytes} bytes, over {PROGRAM_LIMIT_BYTES}"
    );
    let bytes = std::fs::read(&source.file)?;
    let file: Name = format!("vpn-agent-{}-{}", order.version, source.platform).parse()?;
    std::fs::write(order.out.join(file.as_str()), &bytes)?;
    Ok(Program {
        platform: source.platform.clone(),
        file,
        size_bytes: bytes.len() as u64,
        sha256: Bytes32(Sha256::digest(&bytes).into()),
    })
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-20 9:00 UTC);

    fn order(folder: &Path) -> AgentUpdateSign {
        AgentUpdateSign {
            key: folder.join("key"),
            version: "1.2.3".parse().unwrap(),
            minimum: "0.1.0".parse().unwrap(),
            days: 30,
            out: folder.join("out"),
            programs: vec![Source {
                platform: "linux-x86_64".parse().unwrap(),
                file: folder.join("program"),
            }],
        }
    }

    #[test]
    fn what_is_signed_verifies_under_the_printed_key_and_names_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::write(folder.join("program"), "a program").unwrap();
        let key = new_key(&folder.join("key")).unwrap();
        sign(&order(folder), NOW).unwrap();

        let text = std::fs::read(folder.join("out/update.json")).unwrap();
        let signed = SignedManifest::read(&text).unwrap();
        UnparsedPublicKey::new(&ED25519, key.as_bytes())
            .verify(&signed_message(&signed.manifest), &signed.signature.0)
            .unwrap();
        let manifest = Manifest::read(&signed.manifest).unwrap();
        assert_eq!(manifest.version.to_string(), "1.2.3");
        assert_eq!(manifest.expires_ms, unix_ms(NOW + Duration::days(30)));
        let [program] = &manifest.programs[..] else {
            panic!("{manifest:?}");
        };
        assert_eq!(program.size_bytes, 9);
        let copied = std::fs::read(folder.join("out").join(program.file.as_str())).unwrap();
        assert_eq!(program.sha256.0, <[u8; 32]>::from(Sha256::digest(&copied)));
    }

    #[test]
    fn a_key_is_never_written_over_and_a_used_folder_never_mixed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::write(folder.join("program"), "a program").unwrap();
        new_key(&folder.join("key")).unwrap();
        assert!(new_key(&folder.join("key")).is_err());
        sign(&order(folder), NOW).unwrap();
        assert!(sign(&order(folder), NOW).is_err());
    }

    #[test]
    fn an_empty_program_and_a_wrong_key_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::write(folder.join("key"), "bm8ga2V5").unwrap();
        std::fs::write(folder.join("program"), "").unwrap();
        assert!(sign(&order(folder), NOW).is_err());
        std::fs::remove_file(folder.join("key")).unwrap();
        new_key(&folder.join("key")).unwrap();
        let error = sign(&order(folder), NOW).unwrap_err();
        assert!(format!("{error:#}").contains("0 bytes"), "{error:#}");
        assert!(!folder.join("out/update.json").exists());
    }
}
