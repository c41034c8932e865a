//! What the agent keeps on disk: keys, enrolments, the latest server time.
//!
//! ```text
//! <data_dir>/enrolments/<id>/device-key     the PC's key, or where it is kept: see [`keys`]
//!                            enrolment.json how far the enrolment came
//!                            gateways.json  what is known of the fund's gateways
//!            time.json                      the latest server time ever seen
//!            networks.json                  which way worked in which network
//!            browser/                       the window's own profile
//!            run/                           lock and control channel of the running agent
//! ```
//!
//! One such folder is one profile; further ones lie beside it: see [`profiles`].
//!
//! The key is written before anything is sent, and nothing is ever half written: a crash at
//! any moment leaves the old state or the new. What cannot be read is left where it is,
//! named, and does not stand in the way of a new enrolment.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::agent_api::Enrolled;
use protocol::{EnrolmentId, EstablishmentNumber};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::clock::{from_unix_ms, to_unix_ms};
use crate::device_key::chip::Chip;
use crate::device_key::{DeviceKey, KeyError};
use crate::os;
use crate::urls::GatewayUrl;

pub(crate) mod files;
mod gateways;
mod keys;
mod networks;
pub mod profiles;

use files::{read_bounded, write_atomically};

/// The version that this program writes and the only one that it reads.
const FORMAT_VERSION: u32 = 1;

/// Enrolments that are looked at; a PC has one, a sharoushi's some tens.
const MAX_ENROLMENTS: usize = 1000;

const KEY_FILE: &str = "device-key";
const ENROLMENT_FILE: &str = "enrolment.json";
const TIME_FILE: &str = "time.json";
const NETWORKS_FILE: &str = "networks.json";

/// The folder that everything lies in.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    /// Where new keys are made, if the PC has such a chip.
    chip: Option<Arc<dyn Chip>>,
}

/// One enrolment with its key.
#[derive(Debug)]
pub struct Enrolment {
    dir: PathBuf,
    /// The PC's key for this fund.
    pub key: DeviceKey,
    /// What was asked for and how far it came.
    pub record: Record,
}

/// What is written about an enrolment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    /// Orders the enrolments of this PC; clocks may be wrong.
    sequence: u64,
    /// Where the request was sent.
    pub gateway: GatewayUrl,
    /// For which establishment.
    pub establishment: EstablishmentNumber,
    /// What the PC was called.
    pub device_name: String,
    /// How far it came.
    pub progress: Progress,
}

/// How far an enrolment came.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Progress {
    /// The key is made; the request may or may not have reached the portal.
    Prepared,
    /// The portal has the request; staff have not decided.
    Pending {
        /// Names the request.
        enrolment: EnrolmentId,
        /// Proves that this PC may ask about it.
        poll_token: String,
    },
    /// Approved.
    Approved(Box<Enrolled>),
    /// Turned down.
    Refused {
        /// What the user was told.
        sentence: String,
    },
}

/// What was found on disk.
#[derive(Debug)]
pub struct Found {
    /// All that can be read, oldest first.
    pub enrolments: Vec<Enrolment>,
    /// Those that cannot be used.
    pub damaged: Vec<Damage>,
}

/// An enrolment that is there and cannot be used, by its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// Its files cannot be read, or make no sense.
    Unreadable(PathBuf),
    /// Its key is not in the chip that should keep it.
    KeyGone(PathBuf),
    /// The chip that keeps its key does not answer.
    ChipSilent(PathBuf),
}

/// Why something could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused.
    #[error("cannot {doing} {:?}: {source}", name_of(path))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is there but makes no sense.
    #[error("{:?} is damaged: {reason}", name_of(path))]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The key itself failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A file's name for the log: the folders above it name the user.
pub(crate) fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

impl StoreError {
    /// What the user is told.
    pub fn page_text(&self) -> String {
        match self {
            Self::Io { path, .. } => format!(
                "このパソコンに登録情報を保存または読み取りできませんでした（{}）。空き容量とアクセス権をご確認ください。",
                path.display()
            ),
            Self::Damaged { path, .. } => damaged_text(path),
            Self::Key(error) => error.page_text().to_owned(),
        }
    }
}

impl Damage {
    fn of(dir: PathBuf, error: &StoreError) -> Self {
        match error {
            StoreError::Key(KeyError::Gone) => Self::KeyGone(dir),
            StoreError::Key(KeyError::ChipSilent(_)) => Self::ChipSilent(dir),
            StoreError::Io { .. } | StoreError::Damaged { .. } | StoreError::Key(_) => {
                Self::Unreadable(dir)
            }
        }
    }

    /// What the user is told: what happened, and the way on.
    pub fn page_text(&self) -> String {
        match self {
            Self::Unreadable(dir) => damaged_text(dir),
            Self::KeyGone(_) => KeyError::Gone.page_text().to_owned(),
            Self::ChipSilent(_) => KeyError::ChipSilent(String::new()).page_text().to_owned(),
        }
    }
}

fn damaged_text(path: &Path) -> String {
    format!(
        "このパソコンの登録情報が壊れているため読み取れません（{}）。登録コードを基金事務局に依頼し、もう一度パソコンを登録してください。",
        path.display()
    )
}

/// What is not there is gone.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn doing(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io {
        doing,
        path,
        source,
    }
}

impl Store {
    /// Opens the folder, making it if need be.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let store = Self {
            dir: dir.to_owned(),
            chip: os::key_chip(),
        };
        // A folder that was there already keeps its mode: it may be somebody else's too.
        if !dir.is_dir() {
            os::create_private_dir(dir).map_err(doing("make folder", dir))?;
        }
        let folder = store.enrolments();
        os::create_private_dir(&folder).map_err(doing("make folder", &folder))?;
        Ok(store)
    }

    /// Where lock and control channel of the running agent lie.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The window's own profile.
    pub fn browser_dir(&self) -> PathBuf {
        self.dir.join("browser")
    }

    fn enrolments(&self) -> PathBuf {
        self.dir.join("enrolments")
    }

    /// Reads all enrolments.
    pub fn find(&self) -> Result<Found, StoreError> {
        let folder = self.enrolments();
        let entries = fs::read_dir(&folder).map_err(doing("list", &folder))?;
        let mut damaged = Vec::new();
        let mut enrolments = Vec::new();
        for entry in entries.take(MAX_ENROLMENTS) {
            let path = entry.map_err(doing("list", &folder))?.path();
            if !path.is_dir() {
                continue;
            }
            match self.read(&path) {
                Ok(Some(enrolment)) => enrolments.push(enrolment),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "enrolment cannot be read");
                    damaged.push(Damage::of(path, &error));
                }
            }
        }
        enrolments.sort_by_key(|enrolment: &Enrolment| enrolment.record.sequence);
        Ok(Found {
            enrolments,
            damaged,
        })
    }

    /// Reads one folder. `None` if it holds no enrolment yet: a crash came before the record.
    fn read(&self, dir: &Path) -> Result<Option<Enrolment>, StoreError> {
        let record_file = dir.join(ENROLMENT_FILE);
        let damaged = |path: &Path, reason: String| StoreError::Damaged {
            path: path.to_owned(),
            reason,
        };
        let bytes = match read_bounded(&record_file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(doing("read", &record_file)(error)),
        };
        let record: Record = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(&record_file, error.to_string()))?;
        if record.version != FORMAT_VERSION {
            let reason = format!("version {} is not known", record.version);
            return Err(damaged(&record_file, reason));
        }
        Ok(Some(Enrolment {
            dir: dir.to_owned(),
            key: self.open_key(dir)?,
            record,
        }))
    }

    /// Makes a key and writes it down, before anybody hears of it. An earlier try for the
    /// same establishment whose request may have been lost is taken up again, with its key:
    /// the portal then sees one PC, not two.
    pub fn prepare(
        &self,
        gateway: &GatewayUrl,
        establishment: EstablishmentNumber,
        device_name: &str,
    ) -> Result<Enrolment, StoreError> {
        let found = self.find()?;
        let last = found.enrolments.last().map_or(0, |e| e.record.sequence);
        let lost = found.enrolments.into_iter().rev().find(|enrolment| {
            matches!(enrolment.record.progress, Progress::Prepared)
                && enrolment.record.gateway == *gateway
                && enrolment.record.establishment == establishment
        });
        if let Some(enrolment) = lost {
            return Ok(enrolment);
        }
        let dir = self.enrolments().join(Uuid::new_v4().to_string());
        os::create_private_dir(&dir).map_err(doing("make folder", &dir))?;
        let key = self.make_key(&dir)?;
        let mut enrolment = Enrolment {
            dir,
            key,
            record: Record {
                version: FORMAT_VERSION,
                sequence: last + 1,
                gateway: gateway.clone(),
                establishment,
                device_name: device_name.to_owned(),
                progress: Progress::Prepared,
            },
        };
        enrolment.save(Progress::Prepared)?;
        let parent = self.enrolments();
        os::sync_dir(&parent).map_err(doing("sync", &parent))?;
        Ok(enrolment)
    }

    /// The latest server time that was written down, if it can be read.
    pub fn time_floor(&self) -> Option<OffsetDateTime> {
        let bytes = read_bounded(&self.dir.join(TIME_FILE)).ok()?;
        let seen: TimeSeen = serde_json::from_slice(&bytes).ok()?;
        from_unix_ms(seen.server_time_ms)
    }

    /// Writes down a server time.
    pub fn save_time_floor(&self, time: OffsetDateTime) -> Result<(), StoreError> {
        let path = self.dir.join(TIME_FILE);
        let seen = TimeSeen {
            server_time_ms: to_unix_ms(time),
        };
        let bytes = serde_json::to_vec(&seen).expect("a number has a JSON form");
        write_atomically(&path, &bytes).map_err(doing("write", &path))
    }
}

#[derive(Serialize, Deserialize)]
struct TimeSeen {
    server_time_ms: i64,
}

impl Found {
    /// The enrolment to work with: the latest of those that staff have or will decide well.
    /// A request that may have been lost, or was refused, hides no earlier approval.
    pub fn into_current(self) -> Option<Enrolment> {
        self.enrolments.into_iter().max_by_key(|enrolment| {
            let rank = match enrolment.record.progress {
                Progress::Approved(_) | Progress::Pending { .. } => 2,
                Progress::Prepared => 1,
                Progress::Refused { .. } => 0,
            };
            (rank, enrolment.record.sequence)
        })
    }
}

impl Enrolment {
    /// Writes down how far the enrolment came.
    pub fn save(&mut self, progress: Progress) -> Result<(), StoreError> {
        let path = self.dir.join(ENROLMENT_FILE);
        // What is not on the disk has not happened: it is asked for again.
        let before = std::mem::replace(&mut self.record.progress, progress);
        let bytes = serde_json::to_vec_pretty(&self.record).expect("a record has a JSON form");
        write_atomically(&path, &bytes)
            .map_err(doing("write", &path))
            .inspect_err(|_| self.record.progress = before)
    }

    /// What an approved PC knows.
    pub fn enrolled(&self) -> Option<&Enrolled> {
        match &self.record.progress {
            Progress::Approved(enrolled) => Some(enrolled),
            Progress::Prepared | Progress::Pending { .. } | Progress::Refused { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn gateway() -> GatewayUrl {
        "https://gw.example.jp".parse().unwrap()
    }

    fn number(text: &str) -> EstablishmentNumber {
        text.parse().unwrap()
    }

    fn pending() -> Progress {
        Progress::Pending {
            enrolment: EnrolmentId::from_uuid(Uuid::from_u128(7)),
            poll_token: "token".into(),
        }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("data")).unwrap();
        (folder, store)
    }

    #[test]
    fn a_lost_request_is_taken_up_with_the_same_key() {
        let (_folder, store) = store();
        let first = store.prepare(&gateway(), number("123"), "PC").unwrap();
        let again = store.prepare(&gateway(), number("123"), "PC").unwrap();
        let other = store.prepare(&gateway(), number("124"), "PC").unwrap();
        assert_eq!(first.key.matching_code(), again.key.matching_code());
        assert_ne!(first.key.matching_code(), other.key.matching_code());
    }

    #[test]
    fn a_pending_request_is_found_after_a_restart() {
        let (_folder, store) = store();
        let mut enrolment = store.prepare(&gateway(), number("123"), "PC").unwrap();
        enrolment.save(pending()).unwrap();
        let found = store.find().unwrap().into_current().unwrap();
        assert_eq!(found.key.matching_code(), enrolment.key.matching_code());
        assert!(matches!(found.record.progress, Progress::Pending { .. }));
    }

    #[test]
    fn a_lost_or_refused_request_hides_no_earlier_one() {
        let (_folder, store) = store();
        let mut first = store.prepare(&gateway(), number("123"), "PC").unwrap();
        first.save(pending()).unwrap();
        store.prepare(&gateway(), number("125"), "PC").unwrap();
        let mut second = store.prepare(&gateway(), number("124"), "PC").unwrap();
        let sentence = "お断りします。".to_owned();
        second.save(Progress::Refused { sentence }).unwrap();
        let found = store.find().unwrap().into_current().unwrap();
        assert_eq!(found.record.establishment, number("123"));
    }

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_record() {
        let (_folder, store) = store();
        let mut enrolment = store.prepare(&gateway(), number("123"), "PC").unwrap();
        enrolment.save(pending()).unwrap();
        // What a crash in the middle of the next save leaves behind.
        let torn = enrolment.dir.join(".enrolment.json.0123456789abcdef.tmp");
        fs::write(&torn, b"{\"version\":1,\"seq").unwrap();
        let found = store.find().unwrap();
        assert!(found.damaged.is_empty());
        let mut current = found.into_current().unwrap();
        assert!(matches!(current.record.progress, Progress::Pending { .. }));
        current.save(Progress::Prepared).unwrap();
        assert!(!torn.exists(), "what was left over is tidied up");
    }

    #[test]
    fn what_could_not_be_written_has_not_happened() {
        let (_folder, store) = store();
        let mut enrolment = store.prepare(&gateway(), number("123"), "PC").unwrap();
        enrolment.save(pending()).unwrap();
        // A folder in the record's place keeps it from being written.
        let record = enrolment.dir.join(ENROLMENT_FILE);
        fs::remove_file(&record).unwrap();
        fs::create_dir_all(record.join("inside")).unwrap();
        assert!(enrolment.save(Progress::Prepared).is_err());
        assert!(matches!(
            enrolment.record.progress,
            Progress::Pending { .. }
        ));
        fs::remove_dir_all(&record).unwrap();
        enrolment.save(Progress::Prepared).unwrap();
        assert!(matches!(enrolment.record.progress, Progress::Prepared));
    }

    #[test]
    fn a_crash_between_key_and_record_is_no_damage() {
        let (_folder, store) = store();
        let dir = store.enrolments().join("half");
        os::create_private_dir(&dir).unwrap();
        write_atomically(&dir.join(KEY_FILE), b"key").unwrap();
        let found = store.find().unwrap();
        assert!(found.enrolments.is_empty() && found.damaged.is_empty());
    }

    #[test]
    fn what_is_damaged_is_named_kept_and_not_in_the_way() {
        let (_folder, store) = store();
        let enrolment = store.prepare(&gateway(), number("123"), "PC").unwrap();
        let record_file = enrolment.dir.join(ENROLMENT_FILE);
        for rubbish in [
            "",
            "{",
            "[]",
            r#"{"version":2,"sequence":1,"gateway":"https://gw.example.jp","establishment":"0123","device_name":"PC","progress":{"state":"prepared"}}"#,
        ] {
            fs::write(&record_file, rubbish).unwrap();
            let found = store.find().unwrap();
            assert!(found.enrolments.is_empty());
            assert_eq!(
                found.damaged,
                [Damage::Unreadable(enrolment.dir.clone())],
                "{rubbish}"
            );
        }
        let fresh = store.prepare(&gateway(), number("123"), "PC").unwrap();
        let found = store.find().unwrap();
        assert_eq!(
            found.into_current().unwrap().key.matching_code(),
            fresh.key.matching_code()
        );
        assert!(record_file.exists());
    }

    #[test]
    fn a_damaged_key_is_damage() {
        let (_folder, store) = store();
        let enrolment = store.prepare(&gateway(), number("123"), "PC").unwrap();
        fs::write(enrolment.dir.join(KEY_FILE), b"rubbish").unwrap();
        let damaged = store.find().unwrap().damaged;
        assert_eq!(damaged, [Damage::Unreadable(enrolment.dir)]);
    }

    #[test]
    fn the_latest_server_time_survives() {
        let (_folder, store) = store();
        assert_eq!(store.time_floor(), None);
        let time = datetime!(2026-11-20 12:00 UTC);
        store.save_time_floor(time).unwrap();
        assert_eq!(store.time_floor(), Some(time));
    }
}
