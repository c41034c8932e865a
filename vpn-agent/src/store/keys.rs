//! Where each enrolment's key is kept: in the PC's security chip where there is one that can,
//! else in a file that the system protects. Chosen once, when the key is made.
//!
//! The file `device-key` is either the key itself, wrapped by the system, or a note in JSON that
//! says under which name the chip keeps it. A wrapped key never begins like JSON: PKCS #8 begins
//! with `0x30`, what DPAPI makes with `0x01`.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use protocol::Der;
use serde::{Deserialize, Serialize};

use super::files::{MAX_FILE_BYTES, read_bounded, write_atomically};
use super::{KEY_FILE, Store, StoreError, doing, gone};
use crate::device_key::chip::{Chip, ChipError};
use crate::device_key::{DeviceKey, KeyError};
use crate::os;

/// The version of the note that this program writes and the only one that it reads.
const NOTE_VERSION: u32 = 1;
/// What a note begins with.
const NOTE_START: u8 = b'{';
/// What the chip calls a key; the name of the enrolment's folder follows.
const NAME_START: &str = "Renkei device ";

/// Says which of the chip's keys is meant.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    version: u32,
    /// What the chip calls it.
    chip_key: String,
    /// The chip's key is this one, and no other of the same name.
    public_key: Der,
}

impl Note {
    /// None for a key that lies in the file itself.
    fn read(file: &[u8]) -> Option<Result<Self, KeyError>> {
        if file.first() != Some(&NOTE_START) {
            return None;
        }
        let note = serde_json::from_slice(file).ok();
        let known = note.filter(|note: &Self| note.version == NOTE_VERSION);
        Some(known.ok_or(KeyError::Damaged))
    }
}

impl Store {
    /// Makes a key for the enrolment in `dir` and keeps it.
    pub(super) fn make_key(&self, dir: &Path) -> Result<DeviceKey, StoreError> {
        if let Some(chip) = &self.chip {
            let name = chip_name(dir);
            match make_in_chip(chip.as_ref(), &name) {
                Ok(key) => return keep_note(dir, name, key),
                Err(error) => {
                    tracing::warn!(%error, "no key in the security chip; the system protects it");
                }
            }
        }
        let file = dir.join(KEY_FILE);
        let (key, pkcs8) = DeviceKey::generate()?;
        let wrapped = os::protect(&pkcs8).map_err(doing("protect", &file))?;
        write_atomically(&file, &wrapped).map_err(doing("write", &file))?;
        Ok(key)
    }

    /// Opens the key of the enrolment in `dir`.
    pub(super) fn open_key(&self, dir: &Path) -> Result<DeviceKey, StoreError> {
        let file = dir.join(KEY_FILE);
        if os::tighten(&file).map_err(doing("read", &file))? {
            tracing::warn!("the device key was readable by others");
        }
        let bytes = read_bounded(&file).map_err(doing("read", &file))?;
        let damaged = |error: KeyError| StoreError::Damaged {
            path: file.clone(),
            reason: error.to_string(),
        };
        let Some(note) = Note::read(&bytes) else {
            let pkcs8 = os::unprotect(&bytes).map_err(doing("unprotect", &file))?;
            return DeviceKey::from_pkcs8(&pkcs8).map_err(damaged);
        };
        let note = note.map_err(damaged)?;
        let Some(chip) = &self.chip else {
            return Err(KeyError::ChipSilent("there is none".to_owned()).into());
        };
        let opened = chip.open(&note.chip_key).map_err(KeyError::from)?;
        let key = DeviceKey::in_chip(opened);
        if key.public_key() == note.public_key {
            Ok(key)
        } else {
            Err(KeyError::Gone.into())
        }
    }

    /// Deletes the key in `folder` from chip and disk, then removes all of it.
    pub(super) fn erase_folder(&self, folder: &Path) -> Result<(), StoreError> {
        self.delete_from_chip(folder);
        let file = folder.join(KEY_FILE);
        gone(overwrite(&file)).map_err(doing("erase", &file))?;
        fs::remove_dir_all(folder).map_err(doing("remove", folder))
    }

    /// A crash may have come before the note was written; the key's name is known all the same.
    /// A chip that says nothing keeps nobody from removing a registration.
    fn delete_from_chip(&self, folder: &Path) {
        let Some(chip) = &self.chip else {
            return;
        };
        let note = read_bounded(&folder.join(KEY_FILE)).ok();
        let name = match note.and_then(|bytes| Note::read(&bytes)?.ok()) {
            Some(note) => note.chip_key,
            None => chip_name(folder),
        };
        match chip.delete(&name) {
            Ok(()) | Err(ChipError::Gone) => {}
            Err(error @ ChipError::Silent(_)) => {
                tracing::warn!(%error, "a key stays behind in the security chip");
            }
        }
    }
}

fn make_in_chip(chip: &dyn Chip, name: &str) -> Result<DeviceKey, KeyError> {
    let made = chip.create(name)?;
    DeviceKey::made_in_chip(made).inspect_err(|_| {
        // Nobody will ask for it; that it stays behind does no harm.
        let _ = chip.delete(name);
    })
}

fn keep_note(dir: &Path, chip_key: String, key: DeviceKey) -> Result<DeviceKey, StoreError> {
    let file = dir.join(KEY_FILE);
    let note = Note {
        version: NOTE_VERSION,
        chip_key,
        public_key: key.public_key(),
    };
    let bytes = serde_json::to_vec(&note).expect("a note has a JSON form");
    write_atomically(&file, &bytes).map_err(doing("write", &file))?;
    Ok(key)
}

fn chip_name(folder: &Path) -> String {
    let id = folder.file_name().unwrap_or_default();
    format!("{NAME_START}{}", id.to_string_lossy())
}

/// Where the disk writes in place, nothing is left to be read.
fn overwrite(path: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    file.write_all(&vec![0; length.min(MAX_FILE_BYTES)])?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::device_key::chip::tests::{Mood, TestChip};
    use crate::store::{Damage, Enrolment};

    struct Pc {
        _folder: tempfile::TempDir,
        store: Store,
        chip: TestChip,
    }

    fn pc(mood: Mood) -> Pc {
        let folder = tempfile::tempdir().unwrap();
        let chip = TestChip::default();
        chip.set(mood);
        let mut store = Store::open(&folder.path().join("data")).unwrap();
        store.chip = Some(Arc::new(chip.clone()));
        Pc {
            _folder: folder,
            store,
            chip,
        }
    }

    impl Pc {
        fn enrol(&self) -> Enrolment {
            let gateway = "https://gw.example.jp".parse().unwrap();
            let number = "123".parse().unwrap();
            self.store.prepare(&gateway, number, "PC").unwrap()
        }

        fn damage(&self) -> Vec<Damage> {
            let found = self.store.find().unwrap();
            assert!(found.enrolments.is_empty());
            found.damaged
        }
    }

    #[test]
    fn where_there_is_a_chip_the_key_is_in_it_and_the_file_is_a_note() {
        let pc = pc(Mood::Good);
        let enrolment = pc.enrol();
        let file = fs::read(enrolment.dir.join(KEY_FILE)).unwrap();
        let note = Note::read(&file).unwrap().unwrap();
        assert_eq!(pc.chip.names(), [note.chip_key]);
        assert_eq!(note.public_key, enrolment.key.public_key());
        let again = pc.store.find().unwrap().into_current().unwrap();
        assert_eq!(again.key.matching_code(), enrolment.key.matching_code());
    }

    #[test]
    fn a_chip_that_cannot_make_such_keys_leaves_them_to_the_system() {
        for mood in [Mood::Old, Mood::Broken, Mood::Off] {
            let pc = pc(mood);
            let enrolment = pc.enrol();
            let file = fs::read(enrolment.dir.join(KEY_FILE)).unwrap();
            assert!(Note::read(&file).is_none(), "{mood:?}");
            assert!(pc.chip.names().is_empty(), "{mood:?}");
            let again = pc.store.find().unwrap().into_current().unwrap();
            assert_eq!(again.key.matching_code(), enrolment.key.matching_code());
        }
    }

    #[test]
    fn a_key_that_the_system_protects_is_opened_where_there_is_a_chip_by_now() {
        let mut pc = pc(Mood::Good);
        let chip = pc.store.chip.take();
        let code = pc.enrol().key.matching_code();
        pc.store.chip = chip;
        let again = pc.store.find().unwrap().into_current().unwrap();
        assert_eq!(again.key.matching_code(), code);
        assert!(pc.chip.names().is_empty());
    }

    #[test]
    fn a_chip_that_was_cleared_or_is_another_one_has_lost_the_key_and_a_new_one_can_be_made() {
        let pc = pc(Mood::Good);
        let enrolment = pc.enrol();
        let name = pc.chip.names().remove(0);
        pc.chip.clear();
        let gone = [Damage::KeyGone(enrolment.dir.clone())];
        assert_eq!(pc.damage(), gone);
        // A key of the same name is another key.
        pc.chip.create(&name).unwrap();
        assert_eq!(pc.damage(), gone);
        assert!(gone[0].page_text().contains("鍵が見つかりません"));
        let fresh = pc.enrol();
        let found = pc.store.find().unwrap();
        assert_eq!(found.damaged, gone);
        let current = found.into_current().unwrap();
        assert_eq!(current.key.matching_code(), fresh.key.matching_code());
    }

    #[test]
    fn a_chip_that_does_not_answer_has_lost_nothing() {
        let mut pc = pc(Mood::Good);
        let enrolment = pc.enrol();
        let silent = [Damage::ChipSilent(enrolment.dir.clone())];
        pc.chip.set(Mood::Off);
        assert_eq!(pc.damage(), silent);
        assert!(silent[0].page_text().contains("応答しません"));
        let chip = pc.store.chip.take();
        assert_eq!(pc.damage(), silent);
        pc.store.chip = chip;
        pc.chip.set(Mood::Good);
        assert_eq!(pc.store.find().unwrap().enrolments.len(), 1);
    }

    #[test]
    fn a_note_that_makes_no_sense_is_damage() {
        let pc = pc(Mood::Good);
        let enrolment = pc.enrol();
        let unreadable = [Damage::Unreadable(enrolment.dir.clone())];
        for rubbish in ["{", "{}", r#"{"version":2,"chip_key":"a","public_key":""}"#] {
            fs::write(enrolment.dir.join(KEY_FILE), rubbish).unwrap();
            assert_eq!(pc.damage(), unreadable, "{rubbish}");
        }
    }

    #[test]
    fn an_erased_enrolment_leaves_no_key_in_the_chip_whenever_a_crash_came() {
        let pc = pc(Mood::Good);
        pc.enrol();
        pc.store.erase().unwrap();
        assert!(pc.chip.names().is_empty());
        // Ended between the chip's key and the note.
        let half = pc.store.enrolments().join("half");
        os::create_private_dir(&half).unwrap();
        pc.chip.create(&chip_name(&half)).unwrap();
        pc.store.sweep().unwrap();
        assert!(pc.chip.names().is_empty() && !half.exists());
        // Cleared, or silent: the registration goes all the same.
        pc.enrol();
        pc.chip.clear();
        pc.store.erase().unwrap();
        pc.enrol();
        pc.chip.set(Mood::Off);
        pc.store.erase().unwrap();
        assert!(pc.store.is_unused().unwrap());
    }
}
