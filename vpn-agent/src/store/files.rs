//! Writing files whole or not at all.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use crate::os;
use crate::secret::random_bytes;

/// Largest file that is read, in bytes. An approved enrolment is under 10 KB.
pub(super) const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Ending of files that are being written.
const UNFINISHED: &str = ".tmp";

/// Reads a file of ordinary size.
pub fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "file is too large",
        ));
    }
    Ok(bytes)
}

/// Replaces `path` by `bytes`: written beside it, flushed to the disk, then renamed. Whoever
/// reads sees the old file or the new one. Only this user can read it.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no file name"));
    };
    remove_unfinished(folder, name)?;
    let random: [u8; 8] = random_bytes().map_err(io::Error::other)?;
    let temporary = folder.join(format!(
        ".{name}.{:016x}{UNFINISHED}",
        u64::from_le_bytes(random)
    ));
    let written = (|| {
        let mut file = os::create_private_file(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // Windows renames no file that is open.
        drop(file);
        os::replace_file(&temporary, path)?;
        os::sync_dir(folder)
    })();
    if written.is_err()
        && let Err(error) = fs::remove_file(&temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "cannot remove unfinished file");
    }
    written
}

/// Removes what a crash left behind.
fn remove_unfinished(folder: &Path, name: &str) -> io::Result<()> {
    let beginning = format!(".{name}.");
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let left_over = file_name
            .to_str()
            .is_some_and(|found| found.starts_with(&beginning) && found.ends_with(UNFINISHED));
        if left_over {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        // A folder in the target's place makes the rename fail.
        let path = folder.path().join("target");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), b"old").unwrap();
        assert!(write_atomically(&path, b"new").is_err());
        assert_eq!(fs::read(path.join("inside")).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// What each step leaves on the disk if the program ends right after it: nothing of the
    /// temporary file, an empty one, half of it, all of it.
    #[test]
    fn a_write_that_ends_after_any_step_leaves_the_old_file_or_the_new() {
        for left in [None, Some(&b""[..]), Some(&b"ne"[..]), Some(&b"new"[..])] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("target");
            write_atomically(&path, b"old").unwrap();
            let torn = folder.path().join(".target.0011223344556677.tmp");
            if let Some(bytes) = left {
                fs::write(&torn, bytes).unwrap();
            }
            assert_eq!(read_bounded(&path).unwrap(), b"old");
            write_atomically(&path, b"newer").unwrap();
            assert_eq!(read_bounded(&path).unwrap(), b"newer");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        fs::write(&path, vec![0; 1024 * 1024 + 1]).unwrap();
        assert!(read_bounded(&path).is_err());
        fs::write(&path, vec![0; 1024 * 1024]).unwrap();
        assert!(read_bounded(&path).is_ok());
    }
}
