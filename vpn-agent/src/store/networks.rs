//! Which way to the fund worked in which network.
//!
//! A hint and nothing more: a file that is missing or makes no sense is an empty one.

use serde::{Deserialize, Serialize};

use super::files::{read_bounded, write_atomically};
use super::{FORMAT_VERSION, NETWORKS_FILE, Store, StoreError, doing};
use crate::link::paths::{Via, Way};
use crate::network::NetworkKey;

/// Networks that are remembered, the latest first; a laptop sees some ten.
const MAX_NETWORKS: usize = 32;

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    version: u32,
    networks: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    network: String,
    way: Remembered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Remembered {
    Udp,
    Tls,
    TlsThroughProxy,
}

impl From<Way> for Remembered {
    fn from(way: Way) -> Self {
        match way {
            Way::Udp(_) => Self::Udp,
            Way::Tls(Via::Straight) => Self::Tls,
            Way::Tls(Via::Proxy) => Self::TlsThroughProxy,
        }
    }
}

impl Store {
    /// The TLS way that worked in `network`, if UDP did not.
    pub fn remembered_way(&self, network: &NetworkKey) -> Option<Via> {
        let name = network.to_string();
        let known = self.networks();
        let entry = known.into_iter().find(|entry| entry.network == name)?;
        match entry.way {
            Remembered::Udp => None,
            Remembered::Tls => Some(Via::Straight),
            Remembered::TlsThroughProxy => Some(Via::Proxy),
        }
    }

    /// Writes down which way works in `network`.
    ///
    /// # Errors
    /// [`StoreError`] if the disk refuses.
    pub fn remember_way(&self, network: &NetworkKey, way: Way) -> Result<(), StoreError> {
        let entry = Entry {
            network: network.to_string(),
            way: way.into(),
        };
        let mut networks = self.networks();
        if networks.first() == Some(&entry) {
            return Ok(());
        }
        networks.retain(|known| known.network != entry.network);
        networks.insert(0, entry);
        networks.truncate(MAX_NETWORKS);
        let file = File {
            version: FORMAT_VERSION,
            networks,
        };
        let path = self.dir.join(NETWORKS_FILE);
        let bytes = serde_json::to_vec(&file).expect("the file has a JSON form");
        write_atomically(&path, &bytes).map_err(doing("write", &path))
    }

    fn networks(&self) -> Vec<Entry> {
        read_bounded(&self.dir.join(NETWORKS_FILE))
            .ok()
            .and_then(|bytes| serde_json::from_slice::<File>(&bytes).ok())
            .filter(|file| file.version == FORMAT_VERSION)
            .map(|file| file.networks)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Network, Tables};

    fn network(number: u32) -> NetworkKey {
        let routes = format!("\neth0 00000000 {number:08X} 3 0 0 0 00000000");
        let tables = Tables {
            routes,
            ..Tables::default()
        };
        Network::of(&tables).unwrap().key()
    }

    #[test]
    fn the_latest_networks_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.remembered_way(&network(1)), None);
        store
            .remember_way(&network(1), Way::Tls(Via::Proxy))
            .unwrap();
        store
            .remember_way(&network(2), Way::Tls(Via::Straight))
            .unwrap();
        assert_eq!(store.remembered_way(&network(1)), Some(Via::Proxy));
        assert_eq!(store.remembered_way(&network(2)), Some(Via::Straight));
        let udp = Way::Udp(([192, 0, 2, 1], 443).into());
        store.remember_way(&network(1), udp).unwrap();
        assert_eq!(store.remembered_way(&network(1)), None);
        for number in 10..100 {
            store
                .remember_way(&network(number), Way::Tls(Via::Proxy))
                .unwrap();
        }
        assert_eq!(store.networks().len(), MAX_NETWORKS);
        assert_eq!(store.remembered_way(&network(2)), None);
        assert_eq!(store.remembered_way(&network(99)), Some(Via::Proxy));
    }

    #[test]
    fn a_damaged_file_is_an_empty_one_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for rubbish in ["", "[]", "{\"version\":9,\"networks\":[]}", "\0"] {
            std::fs::write(folder.path().join(NETWORKS_FILE), rubbish).unwrap();
            assert_eq!(store.remembered_way(&network(1)), None);
        }
        store
            .remember_way(&network(1), Way::Tls(Via::Proxy))
            .unwrap();
        assert_eq!(store.remembered_way(&network(1)), Some(Via::Proxy));
    }
}
