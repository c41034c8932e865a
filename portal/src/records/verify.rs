//! Whether a pack is what the fund made: every file, nothing more, and the signature.
//!
//! Reads a zip or the folder that it was unpacked into; needs no database and, given the
//! public key, no secret either.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};

use super::pack::{FORMAT, MANIFEST, Manifest, README, RECORD_LIMIT, SIGNATURE, SUMS};
use crate::custody::sha256_hex;

/// Files that a pack may have, with those that explain it.
const FILE_LIMIT: usize = RECORD_LIMIT as usize + 5;
/// How large one file may be.
const FILE_LIMIT_BYTES: u64 = 64 * 1024 * 1024;
/// How large all may be together.
const TOTAL_LIMIT_BYTES: u64 = 512 * 1024 * 1024;

/// What is wrong with a pack.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// More than any pack of ours.
    #[error("larger than any pack")]
    TooLarge,
    /// A file that every pack has is not there.
    #[error("{0} is missing")]
    NoFile(&'static str),
    /// Not a manifest of ours.
    #[error("{MANIFEST} is not a manifest of this kind")]
    NotAManifest,
    /// Not a key.
    #[error("the public key is not 32 bytes in base64")]
    Key,
    /// Another key signed it, or it was changed.
    #[error("the signature does not fit: another key signed the manifest, or it was changed")]
    Signature,
    /// A file of the list is not there.
    #[error("{0:?} is missing")]
    Missing(String),
    /// A file is not what it was.
    #[error("{0:?} was changed")]
    Changed(String),
    /// A file that is not on the list.
    #[error("{0:?} does not belong to the pack")]
    Foreign(String),
}

/// Verifies a pack at `path` (a zip or a folder) with a public key in base64.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(path: &Path, public_key: &str) -> Result<Manifest, VerifyError> {
    let files = if path.is_dir() {
        from_folder(path)
    } else {
        from_zip(path)
    }?;
    verify_files(&files, public_key)
}

fn verify_files(
    files: &BTreeMap<String, Vec<u8>>,
    public_key: &str,
) -> Result<Manifest, VerifyError> {
    let file = |name| files.get(name).ok_or(VerifyError::NoFile(name));
    let (bytes, signature) = (file(MANIFEST)?, file(SIGNATURE)?);
    let key = STANDARD
        .decode(public_key.trim())
        .map_err(|_| VerifyError::Key)?;
    if key.len() != 32 {
        return Err(VerifyError::Key);
    }
    let signature = STANDARD
        .decode(signature.trim_ascii())
        .map_err(|_| VerifyError::Signature)?;
    UnparsedPublicKey::new(&ED25519, key)
        .verify(bytes, &signature)
        .map_err(|_| VerifyError::Signature)?;
    let manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|_| VerifyError::NotAManifest)?;
    if manifest.format != FORMAT {
        return Err(VerifyError::NotAManifest);
    }
    for entry in &manifest.files {
        let bytes = files
            .get(&entry.name)
            .ok_or_else(|| VerifyError::Missing(entry.name.clone()))?;
        if bytes.len() as u64 != entry.size_bytes || sha256_hex(bytes) != entry.sha256 {
            return Err(VerifyError::Changed(entry.name.clone()));
        }
    }
    let known = |name: &str| {
        [MANIFEST, SIGNATURE, SUMS, README].contains(&name)
            || manifest.files.iter().any(|entry| entry.name == name)
    };
    match files.keys().find(|name| !known(name)) {
        Some(foreign) => Err(VerifyError::Foreign(foreign.clone())),
        None => Ok(manifest),
    }
}

fn unreadable<E: std::error::Error + Send + Sync + 'static>(
    path: &Path,
) -> impl Fn(E) -> VerifyError {
    move |source| VerifyError::Unreadable {
        path: path.to_owned(),
        source: Box::new(source),
    }
}

/// Files of a pack as far as they fit.
#[derive(Default)]
struct Files {
    read: BTreeMap<String, Vec<u8>>,
    total_bytes: u64,
}

impl Files {
    fn take(
        &mut self,
        path: &Path,
        name: String,
        reader: impl std::io::Read,
    ) -> Result<(), VerifyError> {
        let mut bytes = Vec::new();
        reader
            .take(FILE_LIMIT_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable(path))?;
        self.total_bytes += bytes.len() as u64;
        let fits = bytes.len() as u64 <= FILE_LIMIT_BYTES && self.total_bytes <= TOTAL_LIMIT_BYTES;
        if !fits || self.read.len() == FILE_LIMIT {
            return Err(VerifyError::TooLarge);
        }
        if self.read.contains_key(&name) {
            return Err(VerifyError::Foreign(name));
        }
        self.read.insert(name, bytes);
        Ok(())
    }
}

fn from_folder(path: &Path) -> Result<BTreeMap<String, Vec<u8>>, VerifyError> {
    let mut files = Files::default();
    for entry in std::fs::read_dir(path).map_err(unreadable(path))? {
        let entry = entry.map_err(unreadable(path))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type().map_err(unreadable(path))?.is_file() {
            return Err(VerifyError::Foreign(name));
        }
        let at = entry.path();
        let file = std::fs::File::open(&at).map_err(unreadable(&at))?;
        files.take(&at, name, file)?;
    }
    Ok(files.read)
}

fn from_zip(path: &Path) -> Result<BTreeMap<String, Vec<u8>>, VerifyError> {
    let file = std::fs::File::open(path).map_err(unreadable(path))?;
    let mut archive = zip::ZipArchive::new(file).map_err(unreadable(path))?;
    if archive.len() > FILE_LIMIT {
        return Err(VerifyError::TooLarge);
    }
    let mut files = Files::default();
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(unreadable(path))?;
        let name = entry.name().map_err(unreadable(path))?.into_owned();
        files.take(path, name, entry)?;
    }
    Ok(files.read)
}
