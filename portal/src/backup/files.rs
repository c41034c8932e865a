//! The files of a copy: folders, checksums, the manifest.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Write as _};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{BackupError, DocumentFile, Manifest};

/// How much is copied at a time, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;
/// Longest manifest, in bytes: a million documents.
const MANIFEST_LIMIT_BYTES: u64 = 512 * 1024 * 1024;
/// Folders inside each other at most.
const DEPTH_LIMIT: usize = 8;

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    move |source| BackupError::File {
        path: path.to_owned(),
        source,
    }
}

/// Makes a folder that only its owner may read; one that is there must be empty.
pub(super) fn make_empty_folder(path: &Path) -> Result<(), BackupError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path).map_err(at(path))?;
    match fs::read_dir(path).map_err(at(path))?.next() {
        None => Ok(()),
        Some(_) => Err(BackupError::NotEmpty(path.to_owned())),
    }
}

/// Makes a new file for writing.
pub(super) fn new_file(path: &Path) -> Result<File, BackupError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(at(path))
}

/// Copies every file under `from`, with checksums. A file that goes away meanwhile was
/// destroyed, and is left out; half-written ones are named with `#` by the document store.
pub(super) fn copy_all(from: &Path, to: &Path) -> Result<Vec<DocumentFile>, BackupError> {
    DirBuilder::new()
        .recursive(true)
        .create(to)
        .map_err(at(to))?;
    let mut copied = Vec::new();
    if from.exists() {
        copy_folder(from, to, &mut PathBuf::new(), DEPTH_LIMIT, &mut copied)?;
    }
    Ok(copied)
}

fn copy_folder(
    from: &Path,
    to: &Path,
    below: &mut PathBuf,
    depth: usize,
    copied: &mut Vec<DocumentFile>,
) -> Result<(), BackupError> {
    let folder = from.join(&below);
    let mut entries = fs::read_dir(&folder)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(at(&folder))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let kind = entry.file_type().map_err(at(&entry.path()))?;
        below.push(&name);
        if kind.is_dir() && depth > 0 {
            let folder = to.join(&below);
            fs::create_dir(&folder).map_err(at(&folder))?;
            copy_folder(from, to, below, depth - 1, copied)?;
        } else if kind.is_file() && !name.to_string_lossy().contains('#') {
            copied.extend(copy_file(&entry.path(), &to.join(&below), below)?);
        }
        below.pop();
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, below: &Path) -> Result<Option<DocumentFile>, BackupError> {
    let source = match File::open(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(at(from))?,
    };
    let mut target = new_file(to)?;
    let (bytes, sha256) = digest(source, |chunk| target.write_all(chunk)).map_err(at(to))?;
    target.sync_all().map_err(at(to))?;
    Ok(Some(DocumentFile {
        path: below.to_string_lossy().into_owned(),
        bytes,
        sha256,
    }))
}

/// Length and SHA-256 of a file.
pub(super) fn sha256(path: &Path) -> Result<(u64, String), BackupError> {
    let file = File::open(path).map_err(at(path))?;
    digest(file, |_| Ok(())).map_err(at(path))
}

fn digest(
    mut source: File,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<(u64, String)> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut bytes, mut hash) = (0, Sha256::new());
    loop {
        let read = source.read(&mut chunk)?;
        if read == 0 {
            return Ok((bytes, hex(&hash.finalize())));
        }
        bytes += read as u64;
        hash.update(&chunk[..read]);
        each(&chunk[..read])?;
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Joins a path of a manifest to a folder, if it stays inside.
pub(super) fn inside(folder: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    path.components().all(plain).then(|| folder.join(path))
}

pub(super) fn write_manifest(path: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    let text = serde_json::to_vec_pretty(manifest)
        .map_err(io::Error::other)
        .map_err(at(path))?;
    let mut file = new_file(path)?;
    file.write_all(&text).map_err(at(path))?;
    file.sync_all().map_err(at(path))
}

pub(super) fn read_manifest(path: &Path) -> Result<Manifest, BackupError> {
    let file = File::open(path).map_err(at(path))?;
    let limited = BufReader::new(file.take(MANIFEST_LIMIT_BYTES));
    serde_json::from_reader(limited).map_err(|error| BackupError::NotACopy {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}
