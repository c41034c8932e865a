//! The disk's side of an update: the next program beside the running one, whole and checked.
//!
//! ```text
//! vpn-agent[.exe]            the program
//! vpn-agent.new.part         the next one while it is being fetched
//! vpn-agent.new.json         its signed manifest
//! vpn-agent.new[.exe]        the next one, complete
//! vpn-agent.old[.exe]        the one before, until the next one has come up
//! <data_dir>/update.json     the newest version ever offered; how often one was tried; which
//!                            one came up
//! ```
//!
//! What lies there is believed no more than what comes over the line: signature, length and
//! hash are checked again before it is used. A crash between any two steps leaves the program
//! as it was.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use protocol::updates::{MANIFEST_LIMIT_BYTES, UpdateKey, Version};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Here, News, Offer, Refusal, judge, platform, running_version};
use crate::os;
use crate::store::files::{read_bounded, write_atomically};
use crate::store::name_of;

/// How often a version may try to take over before it is given up.
const MAX_TRIES: u32 = 2;

/// Bytes that are hashed at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Where one agent's updates lie.
#[derive(Debug, Clone)]
pub struct Place {
    program: PathBuf,
    memory: PathBuf,
}

/// What is remembered of updates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The newest version that was ever offered.
    pub newest_seen: Option<Version>,
    /// A version that was to take over, and how often.
    pub tried: Option<(Version, u32)>,
    /// The version that has come up since it took over: its pages were there.
    #[serde(default)]
    pub came_up: Option<Version>,
}

/// A complete and checked next program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Its file.
    pub path: PathBuf,
    /// Its version.
    pub version: Version,
}

/// A next program that is being written.
pub struct Part {
    place: Place,
    offer: Offer,
    file: File,
    hash: Context,
    written: u64,
}

/// Why a next program could not be put there.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The program lies where this user may not write.
    #[error("the program's folder belongs to an administrator")]
    NotOurs,
    /// The disk.
    #[error("next program not written: {0}")]
    Io(#[from] io::Error),
    /// It is not to be believed.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Place {
    /// The place of the program at `program`, remembering in `data_dir`.
    pub fn new(program: PathBuf, data_dir: &Path) -> Self {
        Self {
            program,
            memory: data_dir.join("update.json"),
        }
    }

    /// The program that is replaced.
    pub fn program(&self) -> &Path {
        &self.program
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let stem = self.program.file_stem().unwrap_or_default();
        let mut name = stem.to_owned();
        name.push(ending);
        self.program.with_file_name(name)
    }

    /// Where the next program lies until it takes over.
    pub fn next_path(&self) -> PathBuf {
        self.beside(&format!(".new{}", std::env::consts::EXE_SUFFIX))
    }

    /// Where the program of before lies until the next one has come up.
    pub fn old_path(&self) -> PathBuf {
        self.beside(&format!(".old{}", std::env::consts::EXE_SUFFIX))
    }

    fn manifest_path(&self) -> PathBuf {
        self.beside(".new.json")
    }

    fn part_path(&self) -> PathBuf {
        self.beside(".new.part")
    }

    /// Keeps a whole copy of the program: what runs on if the next one does not come up.
    pub fn keep_old(&self) -> io::Result<()> {
        copy_whole(&self.program, &self.part_path(), &self.old_path())
    }

    /// Puts the program of before back under the program's name, in one step.
    pub fn put_old_back(&self) -> io::Result<()> {
        copy_whole(&self.old_path(), &self.part_path(), &self.program)
    }

    /// Whether a program of before is kept.
    pub fn keeps_old(&self) -> bool {
        self.old_path().exists()
    }

    /// What is remembered. What cannot be read is as if there had been nothing.
    pub fn memory(&self) -> Memory {
        let text = match read_bounded(&self.memory) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Memory::default(),
            Err(error) => {
                tracing::warn!(%error, "memory of updates not read");
                return Memory::default();
            }
        };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(%error, "memory of updates not understood");
            Memory::default()
        })
    }

    /// Writes down what is to be remembered.
    pub fn remember(&self, memory: &Memory) -> io::Result<()> {
        let text = serde_json::to_vec(memory).map_err(io::Error::other)?;
        write_atomically(&self.memory, &text)
    }

    /// What runs here, with what is remembered.
    pub fn here(&self) -> Here {
        Here {
            running: running_version(),
            newest_seen: self.memory().newest_seen,
            platform: platform(),
        }
    }

    /// Begins to write the program of `offer`.
    pub fn begin(&self, offer: &Offer) -> Result<Part, StageError> {
        let path = self.part_path();
        let file = match File::create(&path) {
            Ok(file) => file,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                return Err(StageError::NotOurs);
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Part {
            place: self.clone(),
            offer: offer.clone(),
            file,
            hash: Context::new(&SHA256),
            written: 0,
        })
    }

    /// The complete next program, if there is one that may be believed at `now`. What is there
    /// and may not is removed.
    pub fn staged(
        &self,
        key: &UpdateKey,
        here: &Here,
        now: OffsetDateTime,
    ) -> Result<Option<Staged>, Refusal> {
        let path = self.next_path();
        if !path.exists() {
            // What an update that succeeded, or broke off, has left.
            self.discard();
            return Ok(None);
        }
        let checked = self.check(&path, key, here, now);
        if !matches!(checked, Ok(Some(_))) {
            self.discard();
        }
        checked
    }

    fn check(
        &self,
        path: &Path,
        key: &UpdateKey,
        here: &Here,
        now: OffsetDateTime,
    ) -> Result<Option<Staged>, Refusal> {
        let unreadable = |error: io::Error| Refusal::Unreadable(error.to_string());
        let mut text = Vec::new();
        File::open(self.manifest_path())
            .and_then(|file| {
                file.take(MANIFEST_LIMIT_BYTES as u64 + 1)
                    .read_to_end(&mut text)
            })
            .map_err(unreadable)?;
        let News::Newer(offer) = judge(&text, key, here, now)? else {
            return Ok(None);
        };
        let wrong = Err(Refusal::WrongProgram(offer.version));
        let mut file = File::open(path).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.len() != offer.size_bytes {
            return wrong;
        }
        let mut hash = Context::new(&SHA256);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = file.read(&mut chunk).map_err(unreadable)?;
            if read == 0 {
                break;
            }
            hash.update(&chunk[..read]);
        }
        if hash.finish().as_ref() != offer.sha256.0 {
            return wrong;
        }
        if self.has_given_up(offer.version) {
            return Err(Refusal::GivenUp(offer.version));
        }
        Ok(Some(Staged {
            path: path.to_owned(),
            version: offer.version,
        }))
    }

    /// Takes note that `version` is about to take over.
    pub fn note_try(&self, version: Version) -> io::Result<()> {
        let mut memory = self.memory();
        let before = memory.tried.filter(|(tried, _)| *tried == version);
        memory.tried = Some((version, before.map_or(0, |(_, times)| times) + 1));
        memory.came_up = None;
        self.remember(&memory)
    }

    /// The version that took over and has not come up yet.
    pub fn on_trial(&self) -> Option<Version> {
        let memory = self.memory();
        let (tried, _) = memory.tried?;
        (memory.came_up != Some(tried)).then_some(tried)
    }

    /// Takes note that the running version has come up, if that was open, and lets go of the
    /// one before.
    pub fn note_came_up(&self, running: Version) -> io::Result<()> {
        let mut memory = self.memory();
        if memory.came_up != Some(running) && memory.tried.is_some() {
            memory.came_up = Some(running);
            self.remember(&memory)?;
        }
        Ok(())
    }

    /// Whether `version` has come up.
    pub fn has_come_up(&self, version: Version) -> bool {
        self.memory().came_up == Some(version)
    }

    /// Takes note that `version` did not come up: it is not tried again.
    pub fn give_up(&self, version: Version) -> io::Result<()> {
        let mut memory = self.memory();
        memory.tried = Some((version, MAX_TRIES));
        memory.came_up = None;
        self.remember(&memory)
    }

    /// Removes the program of before, which nobody needs any more. Windows removes none that
    /// still runs; the next start does.
    pub fn forget_old(&self) {
        remove(&self.old_path());
    }

    /// Whether `version` has been tried in vain often enough.
    pub fn has_given_up(&self, version: Version) -> bool {
        let tried = self.memory().tried;
        tried.is_some_and(|(tried, times)| tried == version && times >= MAX_TRIES)
    }

    /// Takes note that `version` was offered under the key.
    pub fn note_offer(&self, version: Version) -> io::Result<()> {
        let mut memory = self.memory();
        if memory.newest_seen.is_some_and(|seen| seen >= version) {
            return Ok(());
        }
        memory.newest_seen = Some(version);
        self.remember(&memory)
    }

    /// Removes whatever lies beside the program.
    pub fn discard(&self) {
        for path in [self.next_path(), self.manifest_path(), self.part_path()] {
            remove(&path);
        }
    }
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => tracing::info!(name = ?name_of(path), "removed"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, name = ?name_of(path), "cannot remove"),
    }
}

/// Copies a program by way of `part`: under the name `to` there is the old file or the whole
/// new one.
fn copy_whole(from: &Path, part: &Path, to: &Path) -> io::Result<()> {
    // Takes the rights to run it along.
    fs::copy(from, part)?;
    File::options().write(true).open(part)?.sync_all()?;
    os::replace_file(part, to)
}

impl Part {
    /// Writes the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        self.written += bytes.len() as u64;
        if self.written > self.offer.size_bytes {
            return Err(Refusal::WrongProgram(self.offer.version).into());
        }
        self.hash.update(bytes);
        Ok(self.file.write_all(bytes)?)
    }

    /// Checks what was written and, if it is the program that was signed in `manifest`, puts
    /// it beside the running one. Else nothing is left of it.
    pub fn finish(self, manifest: &[u8]) -> Result<Staged, StageError> {
        let Self {
            place,
            offer,
            file,
            hash,
            written,
        } = self;
        let is_right =
            written == offer.size_bytes && hash.finish().as_ref() == offer.sha256.0.as_slice();
        if !is_right {
            drop(file);
            place.discard();
            return Err(Refusal::WrongProgram(offer.version).into());
        }
        make_runnable(&file)?;
        file.sync_all()?;
        // Windows renames no open file.
        drop(file);
        let path = place.next_path();
        // The program last: without it the rest means nothing.
        write_atomically(&place.manifest_path(), manifest)?;
        os::replace_file(&place.part_path(), &path)?;
        Ok(Staged {
            path,
            version: offer.version,
        })
    }
}

/// Lets this user run the file, and everybody read it, as programs are.
#[cfg(unix)]
fn make_runnable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(fs::Permissions::from_mode(0o755))
}

/// Windows runs what ends in `.exe`.
#[cfg(not(unix))]
fn make_runnable(_: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Maker, NOW, here, manifest, version};
    use super::*;

    const PROGRAM: &[u8] = b"the next program";

    struct Pc {
        folder: tempfile::TempDir,
        place: Place,
        maker: Maker,
        manifest: Vec<u8>,
        offer: Offer,
    }

    impl Pc {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let program = folder
                .path()
                .join(format!("agent{}", std::env::consts::EXE_SUFFIX));
            fs::write(&program, "the program").unwrap();
            let place = Place::new(program, folder.path());
            let maker = Maker::new();
            let manifest = maker.sign(&manifest(PROGRAM));
            let news = judge(&manifest, &maker.key(), &here("1.0.0"), NOW).unwrap();
            let News::Newer(offer) = news else {
                panic!("{news:?}")
            };
            Self {
                folder,
                place,
                maker,
                manifest,
                offer,
            }
        }

        fn fetch(&self, bytes: &[u8]) -> Result<Staged, StageError> {
            let mut part = self.place.begin(&self.offer)?;
            for chunk in bytes.chunks(5) {
                part.write(chunk)?;
            }
            part.finish(&self.manifest)
        }

        fn staged(&self) -> Result<Option<Staged>, Refusal> {
            self.place.staged(&self.maker.key(), &here("1.0.0"), NOW)
        }

        fn files(&self) -> Vec<String> {
            let mut names: Vec<_> = fs::read_dir(self.folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.contains(".new"))
                .collect();
            names.sort();
            names
        }
    }

    #[test]
    fn a_whole_program_is_found_again_and_the_running_one_is_untouched() {
        let pc = Pc::new();
        let staged = pc.fetch(PROGRAM).unwrap();
        assert_eq!(pc.staged(), Ok(Some(staged.clone())));
        assert_eq!(fs::read(staged.path).unwrap(), PROGRAM);
        assert_eq!(fs::read(pc.place.program()).unwrap(), b"the program");
    }

    #[test]
    fn a_program_that_is_another_than_signed_leaves_nothing_behind() {
        let pc = Pc::new();
        for wrong in [
            &b"the next progran"[..],
            b"the next progra",
            b"the next program!",
            b"",
        ] {
            let error = pc.fetch(wrong).unwrap_err();
            assert!(
                matches!(error, StageError::Refused(Refusal::WrongProgram(_))),
                "{error}"
            );
            pc.place.discard();
            assert_eq!(pc.files(), [""; 0]);
        }
    }

    #[test]
    fn a_crash_at_any_step_leaves_nothing_that_is_taken_for_complete() {
        let pc = Pc::new();
        // While it is fetched.
        let mut part = pc.place.begin(&pc.offer).unwrap();
        part.write(b"the next").unwrap();
        drop(part);
        assert_eq!(pc.staged(), Ok(None));
        // With the manifest written and the program not renamed.
        write_atomically(&pc.place.manifest_path(), &pc.manifest).unwrap();
        assert_eq!(pc.staged(), Ok(None));
        // The next time begins from the start, over what is left.
        let staged = pc.fetch(PROGRAM).unwrap();
        assert_eq!(pc.staged(), Ok(Some(staged)));
    }

    #[test]
    fn what_was_changed_on_the_disk_is_refused_and_removed() {
        let pc = Pc::new();
        let staged = pc.fetch(PROGRAM).unwrap();
        fs::write(&staged.path, b"the evil program").unwrap();
        assert_eq!(pc.staged(), Err(Refusal::WrongProgram(version("1.1.0"))));
        assert_eq!(pc.files(), [""; 0]);

        pc.fetch(PROGRAM).unwrap();
        let other = Maker::new().sign(&manifest(PROGRAM));
        fs::write(pc.place.manifest_path(), other).unwrap();
        assert_eq!(pc.staged(), Err(Refusal::Forged));
        assert_eq!(pc.files(), [""; 0]);
    }

    #[test]
    fn the_program_of_before_is_kept_until_the_next_one_has_come_up() {
        let pc = Pc::new();
        let staged = pc.fetch(PROGRAM).unwrap();
        assert_eq!(pc.place.on_trial(), None);
        pc.place.keep_old().unwrap();
        pc.place.note_try(staged.version).unwrap();
        assert_eq!(pc.place.on_trial(), Some(staged.version));
        os::replace_file(&staged.path, pc.place.program()).unwrap();
        assert_eq!(fs::read(pc.place.program()).unwrap(), PROGRAM);
        // It does not come up.
        pc.place.put_old_back().unwrap();
        pc.place.give_up(staged.version).unwrap();
        assert_eq!(fs::read(pc.place.program()).unwrap(), b"the program");
        assert!(pc.place.has_given_up(staged.version) && pc.place.keeps_old());
        // It does.
        pc.place.note_try(staged.version).unwrap();
        pc.place.note_came_up(staged.version).unwrap();
        assert!(pc.place.has_come_up(staged.version));
        assert_eq!(pc.place.on_trial(), None);
        pc.place.forget_old();
        assert!(!pc.place.keeps_old());
    }

    #[test]
    fn a_version_that_does_not_come_up_is_given_up_after_two_tries() {
        let pc = Pc::new();
        pc.fetch(PROGRAM).unwrap();
        for _ in 0..2 {
            let staged = pc.staged().unwrap().unwrap();
            pc.place.note_try(staged.version).unwrap();
        }
        assert_eq!(pc.staged(), Err(Refusal::GivenUp(version("1.1.0"))));
        assert!(pc.place.has_given_up(version("1.1.0")));
        assert!(!pc.place.has_given_up(version("1.1.1")));
    }

    #[test]
    fn the_newest_offer_is_remembered_and_never_forgotten_for_an_older_one() {
        let pc = Pc::new();
        pc.place.note_offer(version("1.1.0")).unwrap();
        pc.place.note_offer(version("1.0.5")).unwrap();
        assert_eq!(pc.place.here().newest_seen, Some(version("1.1.0")));
        fs::write(&pc.place.memory, "{").unwrap();
        assert_eq!(pc.place.memory(), Memory::default());
    }

    #[cfg(unix)]
    #[test]
    fn a_staged_program_may_be_run() {
        use std::os::unix::fs::PermissionsExt as _;
        let pc = Pc::new();
        let staged = pc.fetch(PROGRAM).unwrap();
        let mode = fs::metadata(staged.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }
}
