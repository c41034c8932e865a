//! What the agent remembers of a fund's gateways, beside the enrolment.
//!
//! A help, not a need: what cannot be read is as if it were not there, and the gateways of
//! the enrolment remain.

use super::files::{read_bounded, write_atomically};
use super::{Enrolment, StoreError, doing};
use crate::gateway_client::order::Known;

const GATEWAYS_FILE: &str = "gateways.json";

impl Enrolment {
    /// What an earlier run learnt of the gateways.
    pub fn known_gateways(&self) -> Option<Known> {
        let path = self.dir.join(GATEWAYS_FILE);
        let bytes = match read_bounded(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, "the list of gateways cannot be read");
                return None;
            }
        };
        serde_json::from_slice(&bytes)
            .inspect_err(|error| tracing::warn!(%error, "the list of gateways is damaged"))
            .ok()
    }

    /// Writes down what is known of the gateways.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the disk refuses.
    pub fn save_gateways(&self, known: &Known) -> Result<(), StoreError> {
        let path = self.dir.join(GATEWAYS_FILE);
        let bytes = serde_json::to_vec_pretty(known).expect("a list of texts has a JSON form");
        write_atomically(&path, &bytes).map_err(doing("write", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn gateways_are_remembered_and_a_damaged_list_stands_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let gateway = "https://gw.example.jp".parse().unwrap();
        let number = "123".parse().unwrap();
        let enrolment = store.prepare(&gateway, number, "PC").unwrap();
        assert_eq!(enrolment.known_gateways(), None);
        let known = Known {
            listed: vec!["https://gw2.example.jp".parse().unwrap()],
            last_good: Some(gateway),
        };
        enrolment.save_gateways(&known).unwrap();
        let found = store.find().unwrap().into_current().unwrap();
        assert_eq!(found.known_gateways(), Some(known));
        for damaged in ["", "{}", "{\"listed\":[\"http://x\"],\"last_good\":null}"] {
            std::fs::write(enrolment.dir.join(GATEWAYS_FILE), damaged).unwrap();
            let found = store.find().unwrap();
            assert!(found.damaged.is_empty());
            assert_eq!(found.into_current().unwrap().known_gateways(), None);
        }
    }
}
