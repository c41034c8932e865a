//! The profiles of this PC: one for each establishment at each fund, with a store of its own.
//!
//! ```text
//! <data_dir>/             the first profile's store: what an agent with one profile had
//!            profiles/2/  the second profile's store, and so on
//!            run/         lock and control channel, for all of them
//! ```
//!
//! Only the run that holds the lock adds, splits or sweeps. A profile without an enrolment is
//! nobody's and is swept away at the next start.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use protocol::EstablishmentNumber;
use serde::{Deserialize, Serialize};

use super::{
    ENROLMENT_FILE, Enrolment, Found, NETWORKS_FILE, Progress, Store, StoreError, doing, gone,
};
use crate::desk::Choice;
use crate::os;
use crate::urls::GatewayUrl;

/// Profiles on one PC. A sharoushi works for some tens of establishments.
pub const MAX_PROFILES: usize = 64;

const PROFILES_FOLDER: &str = "profiles";
/// Where profiles wait while an old store is split.
const SPLITTING_FOLDER: &str = "profiles.new";

/// Names a profile on this PC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct ProfileId(u8);

/// Not the number of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a profile's number is 1 to 99")]
pub struct NotAProfile;

impl ProfileId {
    /// The profile that lies in the data folder itself.
    pub const FIRST: Self = Self(1);
    const LAST: u8 = 99;
}

impl TryFrom<u8> for ProfileId {
    type Error = NotAProfile;

    fn try_from(number: u8) -> Result<Self, NotAProfile> {
        match number {
            1..=Self::LAST => Ok(Self(number)),
            0 | 100.. => Err(NotAProfile),
        }
    }
}

impl From<ProfileId> for u8 {
    fn from(id: ProfileId) -> Self {
        id.0
    }
}

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ProfileId {
    type Err = NotAProfile;

    fn from_str(text: &str) -> Result<Self, NotAProfile> {
        let number: u8 = text.parse().map_err(|_| NotAProfile)?;
        Self::try_from(number)
    }
}

/// All profiles on disk.
#[derive(Debug, Clone)]
pub struct Profiles {
    first: Store,
}

impl Profiles {
    /// The profiles beside `first`, the store in the data folder.
    pub fn beside(first: Store) -> Self {
        Self { first }
    }

    /// The store in the data folder.
    pub fn first(&self) -> &Store {
        &self.first
    }

    fn folder(&self) -> PathBuf {
        self.first.dir.join(PROFILES_FOLDER)
    }

    /// All profiles, by number; the first is always among them.
    ///
    /// # Errors
    /// [`StoreError`] if the disk refuses.
    pub fn all(&self) -> Result<Vec<(ProfileId, Store)>, StoreError> {
        let mut all = vec![(ProfileId::FIRST, self.first.clone())];
        for (id, path) in numbered(&self.folder())? {
            if all.len() < MAX_PROFILES && id != ProfileId::FIRST {
                all.push((id, Store::open(&path)?));
            }
        }
        Ok(all)
    }

    /// The profile that is meant; without a choice the first that has something in it, or the
    /// first. None if there is no such profile.
    ///
    /// # Errors
    /// [`StoreError`] if the disk refuses.
    pub fn choose(&self, choice: Option<Choice>) -> Result<Option<(ProfileId, Store)>, StoreError> {
        for (id, store) in self.all()? {
            let fits = match choice {
                None => !store.is_unused()?,
                Some(Choice::Id(wanted)) => id == wanted,
                Some(Choice::Establishment(wanted)) => {
                    let current = store.find()?.into_current();
                    current.is_some_and(|found| found.record.establishment == wanted)
                }
            };
            if fits {
                return Ok(Some((id, store)));
            }
        }
        let first = (ProfileId::FIRST, self.first.clone());
        Ok(choice.is_none().then_some(first))
    }

    /// Makes an empty profile. None if there are too many.
    ///
    /// # Errors
    /// [`StoreError`] if the disk refuses.
    pub fn add(&self) -> Result<Option<(ProfileId, Store)>, StoreError> {
        let all = self.all()?;
        let last = all.last().map_or(ProfileId::FIRST, |(id, _)| *id);
        if all.len() >= MAX_PROFILES {
            return Ok(None);
        }
        let taken = |id: &ProfileId| all.iter().any(|(known, _)| known == id);
        // A number that was in use a moment ago is not given to another profile.
        let free = (last.0..ProfileId::LAST)
            .chain(1..last.0)
            .filter_map(|before| ProfileId::try_from(before + 1).ok())
            .find(|id| !taken(id) && !self.folder().join(id.to_string()).exists());
        let Some(id) = free else {
            return Ok(None);
        };
        let store = Store::open(&self.folder().join(id.to_string()))?;
        let parent = self.folder();
        os::sync_dir(&parent).map_err(doing("sync", &parent))?;
        Ok(Some((id, store)))
    }

    /// Takes a store of an agent with one profile over: establishments that were hidden behind
    /// a later enrolment get profiles of their own. A crash at any moment loses nothing, and
    /// the next start goes on.
    ///
    /// # Errors
    /// [`StoreError`] if the disk refuses.
    pub fn take_over(&self) -> Result<(), StoreError> {
        let folder = self.folder();
        if !folder.is_dir() {
            let splitting = self.first.dir.join(SPLITTING_FOLDER);
            os::create_private_dir(&splitting).map_err(doing("make folder", &splitting))?;
            self.split_into(&splitting)?;
            fs::rename(&splitting, &folder).map_err(doing("rename", &splitting))?;
            let dir = &self.first.dir;
            os::sync_dir(dir).map_err(doing("sync", dir))?;
        }
        self.sweep()
    }

    fn split_into(&self, splitting: &Path) -> Result<(), StoreError> {
        let Some(current) = self.first.find()?.into_current() else {
            return Ok(());
        };
        for hidden in self.first.find()?.enrolments {
            let is_of_use = match hidden.record.progress {
                Progress::Approved(_) | Progress::Pending { .. } => true,
                Progress::Prepared | Progress::Refused { .. } => false,
            };
            if !is_of_use || hidden.is_for(&current.record.gateway, current.record.establishment) {
                continue;
            }
            let mut number = ProfileId::FIRST.0 + 1;
            let mut home = None;
            for (id, path) in numbered(splitting)? {
                let store = Store::open(&path)?;
                let wanted = (&hidden.record.gateway, hidden.record.establishment);
                let found = store.find()?;
                if found
                    .enrolments
                    .iter()
                    .any(|known| known.is_for(wanted.0, wanted.1))
                {
                    home = Some(store);
                }
                number = number.max(id.0.saturating_add(1));
            }
            let home = match (home, ProfileId::try_from(number)) {
                (Some(home), _) => home,
                (None, Ok(id)) => Store::open(&splitting.join(id.to_string()))?,
                (None, Err(NotAProfile)) => return Ok(()),
            };
            let target = match hidden.dir.file_name() {
                Some(name) => home.enrolments().join(name),
                None => continue,
            };
            fs::rename(&hidden.dir, &target).map_err(doing("rename", &hidden.dir))?;
        }
        Ok(())
    }

    /// Removes what nobody uses: profiles without an enrolment, and keys without a record.
    fn sweep(&self) -> Result<(), StoreError> {
        for (id, store) in self.all()? {
            store.sweep()?;
            let found = store.find()?;
            if found.enrolments.is_empty() && found.damaged.is_empty() {
                store.forget_window();
                if id != ProfileId::FIRST
                    && let Err(error) = fs::remove_dir_all(&store.dir)
                {
                    tracing::warn!(%error, %id, "an unused profile stays behind");
                }
            }
        }
        Ok(())
    }
}

/// The folders in `folder` whose names are numbers of profiles, by number. None if it is not
/// there.
fn numbered(folder: &Path) -> Result<Vec<(ProfileId, PathBuf)>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(doing("list", folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(doing("list", folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let id = name.and_then(|name| ProfileId::from_str(name).ok());
        // `02` is nobody's name for it.
        if let Some(id) = id.filter(|id| name == Some(&id.to_string()))
            && path.is_dir()
        {
            found.push((id, path));
        }
    }
    found.sort();
    Ok(found)
}

impl Enrolment {
    /// Whether it was asked for at `gateway`, or at another one of the same fund, for
    /// `establishment`.
    pub fn is_for(&self, gateway: &GatewayUrl, establishment: EstablishmentNumber) -> bool {
        let named = |enrolled: &protocol::agent_api::Enrolled| {
            let listed = enrolled.gateways.iter();
            listed
                .flat_map(|url| url.parse())
                .any(|url: GatewayUrl| url == *gateway)
        };
        self.record.establishment == establishment
            && (self.record.gateway == *gateway || self.enrolled().is_some_and(named))
    }
}

impl Store {
    /// Whether nothing was ever asked for here, or nothing is left of it.
    ///
    /// # Errors
    /// [`StoreError`] if the disk refuses.
    pub fn is_unused(&self) -> Result<bool, StoreError> {
        let Found {
            enrolments,
            damaged,
        } = self.find()?;
        Ok(enrolments.is_empty() && damaged.is_empty())
    }

    /// Erases every enrolment with its key, and what is remembered of networks. The record
    /// goes first: a crash leaves a key that no record names, and the next start sweeps it.
    ///
    /// # Errors
    /// [`StoreError`] if the disk refuses.
    pub fn erase(&self) -> Result<(), StoreError> {
        for folder in self.enrolment_folders()? {
            let record = folder.join(ENROLMENT_FILE);
            gone(fs::remove_file(&record)).map_err(doing("remove", &record))?;
            self.erase_folder(&folder)?;
        }
        let networks = self.dir.join(NETWORKS_FILE);
        gone(fs::remove_file(&networks)).map_err(doing("remove", &networks))?;
        let enrolments = self.enrolments();
        os::sync_dir(&enrolments).map_err(doing("sync", &enrolments))
    }

    /// Removes keys that no record names: left by a crash while one was made or erased.
    pub(super) fn sweep(&self) -> Result<(), StoreError> {
        for folder in self.enrolment_folders()? {
            if !folder.join(ENROLMENT_FILE).exists() {
                self.erase_folder(&folder)?;
            }
        }
        Ok(())
    }

    /// Removes the window's own profile. It must be closed.
    fn forget_window(&self) {
        if let Err(error) = gone(fs::remove_dir_all(self.browser_dir())) {
            tracing::warn!(%error, "the window's profile stays behind");
        }
    }

    fn enrolment_folders(&self) -> Result<Vec<PathBuf>, StoreError> {
        let folder = self.enrolments();
        let entries = fs::read_dir(&folder).map_err(doing("list", &folder))?;
        let mut folders = Vec::new();
        for entry in entries {
            let path = entry.map_err(doing("list", &folder))?.path();
            if path.is_dir() {
                folders.push(path);
            }
        }
        Ok(folders)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Damage, KEY_FILE};
    use super::*;
    use protocol::EnrolmentId;
    use uuid::Uuid;

    fn gateway(name: &str) -> GatewayUrl {
        format!("https://{name}.example.jp").parse().unwrap()
    }

    fn pending() -> Progress {
        Progress::Pending {
            enrolment: EnrolmentId::from_uuid(Uuid::from_u128(7)),
            poll_token: "token".into(),
        }
    }

    fn ask(store: &Store, fund: &str, establishment: &str) -> String {
        let number = establishment.parse().unwrap();
        let mut asked = store.prepare(&gateway(fund), number, "PC").unwrap();
        asked.save(pending()).unwrap();
        asked.key.matching_code()
    }

    fn data() -> (tempfile::TempDir, Profiles) {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open(&folder.path().join("data")).unwrap();
        (folder, Profiles::beside(first))
    }

    fn current(store: &Store) -> Enrolment {
        store.find().unwrap().into_current().unwrap()
    }

    fn numbers(profiles: &Profiles) -> Vec<u8> {
        let all = profiles.all().unwrap();
        all.into_iter().map(|(id, _)| id.0).collect()
    }

    #[test]
    fn a_profile_has_a_number_and_nothing_else_is_one() {
        assert_eq!("2".parse(), Ok(ProfileId(2)));
        for wrong in ["", "0", "100", "-1", "x", "1.0", "../1", "0123"] {
            let parsed = wrong.parse::<ProfileId>();
            assert!(parsed.is_err() || wrong == "0123", "{wrong}");
        }
        assert!(serde_json::from_str::<ProfileId>("0").is_err());
    }

    #[test]
    fn each_profile_has_its_own_key_and_folder() {
        let (_folder, profiles) = data();
        profiles.take_over().unwrap();
        let first = ask(profiles.first(), "one", "123");
        let (id, store) = profiles.add().unwrap().unwrap();
        assert_eq!(id, ProfileId(2));
        let second = ask(&store, "two", "123");
        assert_ne!(first, second);
        assert_ne!(store.browser_dir(), profiles.first().browser_dir());
        let all = profiles.all().unwrap();
        let codes: Vec<_> = all
            .iter()
            .map(|(_, s)| current(s).key.matching_code())
            .collect();
        assert_eq!(codes, [first, second]);
    }

    #[test]
    fn what_an_agent_with_one_profile_had_is_the_first_profile() {
        let (_folder, profiles) = data();
        let code = ask(profiles.first(), "one", "123");
        profiles.take_over().unwrap();
        assert_eq!(numbers(&profiles), [1]);
        assert_eq!(current(profiles.first()).key.matching_code(), code);
    }

    #[test]
    fn establishments_that_were_hidden_get_profiles_of_their_own_whenever_it_is_interrupted() {
        for crash in [false, true] {
            let (_folder, profiles) = data();
            let hidden = ask(profiles.first(), "one", "123");
            let other_fund = ask(profiles.first(), "two", "125");
            let current_code = ask(profiles.first(), "one", "125");
            let refused = profiles.first();
            let mut asked = refused
                .prepare(&gateway("one"), "999".parse().unwrap(), "PC")
                .unwrap();
            let sentence = "お断りします。".to_owned();
            asked.save(Progress::Refused { sentence }).unwrap();
            if crash {
                // One was moved, and the folder had not got its name.
                let splitting = profiles.first().dir.join(SPLITTING_FOLDER);
                let store = Store::open(&splitting.join("2")).unwrap();
                let found = profiles.first().find().unwrap();
                let moved = &found.enrolments[0];
                let target = store.enrolments().join(moved.dir.file_name().unwrap());
                fs::rename(&moved.dir, target).unwrap();
            }
            profiles.take_over().unwrap();
            let all = profiles.all().unwrap();
            let codes: Vec<_> = all
                .iter()
                .map(|(_, s)| current(s).key.matching_code())
                .collect();
            assert_eq!(codes, [current_code, hidden, other_fund], "crash: {crash}");
            // A later start splits nothing any more.
            ask(profiles.first(), "one", "777");
            profiles.take_over().unwrap();
            assert_eq!(numbers(&profiles), [1, 2, 3]);
        }
    }

    #[test]
    fn an_erased_profile_leaves_no_key_and_its_number_to_nobody_for_now() {
        let (folder, profiles) = data();
        profiles.take_over().unwrap();
        ask(profiles.first(), "one", "123");
        let (second, store) = profiles.add().unwrap().unwrap();
        ask(&store, "one", "124");
        let (third, other) = profiles.add().unwrap().unwrap();
        let kept = ask(&other, "one", "125");
        store.erase().unwrap();
        assert!(store.is_unused().unwrap());
        let left = walk(folder.path());
        let keys = left.iter().filter(|path| path.ends_with(KEY_FILE)).count();
        assert_eq!(keys, 2, "{left:?}");
        assert_eq!(current(&other).key.matching_code(), kept);
        let (fourth, _) = profiles.add().unwrap().unwrap();
        assert!(fourth > third && third > second);
        // The next start removes the folders that nobody uses.
        profiles.take_over().unwrap();
        assert_eq!(numbers(&profiles), [1, 3]);
    }

    #[test]
    fn the_first_profile_can_be_erased_and_used_again() {
        let (_folder, profiles) = data();
        profiles.take_over().unwrap();
        let before = ask(profiles.first(), "one", "123");
        fs::create_dir_all(profiles.first().browser_dir().join("Default")).unwrap();
        profiles.first().erase().unwrap();
        profiles.take_over().unwrap();
        assert!(!profiles.first().browser_dir().exists());
        assert_ne!(ask(profiles.first(), "one", "123"), before);
    }

    #[test]
    fn a_key_that_no_record_names_is_swept_and_a_damaged_record_is_kept() {
        let (_folder, profiles) = data();
        let first = profiles.first();
        ask(first, "one", "123");
        let half = first.enrolments().join("half");
        fs::create_dir(&half).unwrap();
        fs::write(half.join(KEY_FILE), b"key").unwrap();
        let damaged = first.enrolments().join("damaged");
        fs::create_dir(&damaged).unwrap();
        fs::write(damaged.join(ENROLMENT_FILE), b"{").unwrap();
        profiles.take_over().unwrap();
        assert!(!half.exists());
        let found = first.find().unwrap().damaged;
        assert_eq!(found, [Damage::Unreadable(damaged)]);
    }

    #[test]
    fn rubbish_among_the_profiles_is_nobodys_and_there_is_an_end_to_them() {
        let (_folder, profiles) = data();
        profiles.take_over().unwrap();
        for name in ["x", "0", "02", "100", "1"] {
            fs::create_dir(profiles.folder().join(name)).unwrap();
        }
        fs::write(profiles.folder().join("7"), b"a file").unwrap();
        assert_eq!(numbers(&profiles), [1]);
        while let Some((_, store)) = profiles.add().unwrap() {
            assert!(store.is_unused().unwrap());
        }
        assert_eq!(numbers(&profiles).len(), MAX_PROFILES);
    }

    fn walk(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(walk(&path));
            } else {
                found.push(path);
            }
        }
        found
    }
}
