//! `portal keys new`

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use portal::keys::MasterKey;

/// Makes a new master key in a file that only its owner may read.
pub(super) fn make_new(out: &Path) -> anyhow::Result<()> {
    write_secret(out, MasterKey::generate().to_base64().as_bytes())?;
    println!(
        "master key written to {}: keep a copy of it apart from the backups",
        out.display()
    );
    Ok(())
}

/// Writes a new file with mode 0600.
pub(super) fn write_secret(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    file.write_all(content)
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_can_be_used_and_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        make_new(&path).unwrap();
        let first = MasterKey::from_file(&path).unwrap().to_base64();
        assert!(make_new(&path).is_err());
        assert_eq!(MasterKey::from_file(&path).unwrap().to_base64(), first);
    }
}
