//! A disk that is soon full.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::process::output;

/// A disk of two mebibytes over a folder; it goes away with the story.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it. Takes root, of a user namespace at least.
    ///
    /// # Errors
    /// If this user may not mount.
    pub fn at(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        output(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
                .arg(folder),
        )?;
        Ok(Self(folder.to_owned()))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes all room but less than a page.
    ///
    /// # Errors
    /// If there is no file to take it with.
    pub fn fill(&self) -> Result<()> {
        use std::io::Write as _;
        let mut ballast = std::fs::File::create(self.ballast())?;
        while ballast.write_all(&[0; 4096]).is_ok() {}
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// If none was taken.
    pub fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.ballast())?)
    }

    /// Files other than the ballast, which must be there.
    ///
    /// # Errors
    /// If the disk was not filled.
    pub fn files(&self) -> Result<Vec<String>> {
        ensure!(self.ballast().exists(), "the disk is the small one");
        let found = output(
            Command::new("find")
                .arg(&self.0)
                .args(["-type", "f", "!", "-name", "ballast"]),
        )?;
        Ok(found.lines().map(str::to_owned).collect())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Whether this user may mount a small disk.
pub fn may_mount() -> bool {
    let Ok(folder) = tempfile::tempdir() else {
        return false;
    };
    let may = SmallDisk::at(folder.path()).is_ok();
    may && folder.path().exists()
}

/// Plays this story as root of a user namespace, where everybody may mount.
///
/// # Errors
/// If it fails there.
pub fn in_a_namespace_of_its_own(story: &str) -> Result<()> {
    const INSIDE: &str = "RENKEI_TEST_NAMESPACE";
    if std::env::var_os(INSIDE).is_some() {
        bail!("not even root of a user namespace may mount a tmpfs here");
    }
    eprintln!("this user may not mount a small disk; unshare(1) makes a namespace that may");
    let run = Command::new("unshare")
        .args(["--map-root-user", "--mount"])
        .arg(std::env::current_exe()?)
        .args(["--exact", story, "--nocapture"])
        .env(INSIDE, "yes")
        .output()?;
    let told = String::from_utf8_lossy(&run.stdout);
    ensure!(
        run.status.success() && told.contains("1 passed"),
        "{}: {told}\n{}",
        run.status,
        String::from_utf8_lossy(&run.stderr)
    );
    Ok(())
}
