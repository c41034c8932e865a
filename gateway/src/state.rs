//! The gateway's own folder: its WireGuard key, and where it listens.
//!
//! Files are written whole or not at all. The key is made once, readable by its owner only,
//! and never leaves the folder.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use protocol::Bytes32;
use serde::Serialize;
use tunnel::keys::{NoRandomness, SecretKey};

const KEY_FILE: &str = "wireguard.key";
const LISTENING_FILE: &str = "listening.json";

/// Owner only.
const SECRET_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;

/// Where the gateway listens, for scripts that started it on port 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listening {
    /// WireGuard, in the order of the configuration.
    pub udp: Vec<SocketAddr>,
    /// The agent API.
    pub tls: SocketAddr,
    /// Metrics and health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<SocketAddr>,
}

/// Why the folder cannot be used. The text names the file.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The key file holds something else.
    #[error("{path} is no WireGuard key")]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// No key could be made.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

/// Reads the gateway's WireGuard key; the first time, makes it.
///
/// # Errors
/// [`StateError`], which names the file. A damaged key is an error, not a new key: agents
/// and portal know the old one.
pub fn wireguard_key(folder: &Path) -> Result<SecretKey, StateError> {
    let path = folder.join(KEY_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Bytes32::try_from(text.trim().to_owned())
            .map(|key| SecretKey::from_bytes(key.0))
            .map_err(|_| StateError::NotAKey { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = SecretKey::generate()?;
            let text = format!("{}\n", Bytes32(*key.to_bytes()));
            write_whole(&path, text.as_bytes(), SECRET_MODE)?;
            Ok(key)
        }
        Err(source) => Err(StateError::File { path, source }),
    }
}

/// Writes down where the gateway listens.
///
/// # Errors
/// [`StateError::File`] if it cannot be written.
pub fn write_listening(folder: &Path, listening: &Listening) -> Result<(), StateError> {
    let path = folder.join(LISTENING_FILE);
    let text = serde_json::to_string(listening).map_err(|error| StateError::File {
        path: path.clone(),
        source: error.into(),
    })?;
    write_whole(&path, format!("{text}\n").as_bytes(), PUBLIC_MODE)
}

fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StateError> {
    let draft = path.with_extension("new");
    let write = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        // One left behind by a crash may have another mode.
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    };
    write().map_err(|source| StateError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_key_is_made_once_and_belongs_to_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("new/state");
        let first = wireguard_key(&state).unwrap();
        let second = wireguard_key(&state).unwrap();
        assert_eq!(first.public_key(), second.public_key());
        let file = std::fs::metadata(state.join(KEY_FILE)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_stops_the_program_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEY_FILE);
        std::fs::write(&path, "short").unwrap();
        let error = wireguard_key(folder.path()).unwrap_err();
        assert!(error.to_string().contains(KEY_FILE), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "short");
    }

    #[test]
    fn scripts_can_read_where_it_listens() {
        let folder = tempfile::tempdir().unwrap();
        let listening = Listening {
            udp: vec![
                "127.0.0.1:51820".parse().unwrap(),
                "[::1]:443".parse().unwrap(),
            ],
            tls: "[::1]:443".parse().unwrap(),
            operator: None,
        };
        write_listening(folder.path(), &listening).unwrap();
        write_listening(folder.path(), &listening).unwrap();
        let text = std::fs::read_to_string(folder.path().join(LISTENING_FILE)).unwrap();
        assert_eq!(
            text,
            "{\"udp\":[\"127.0.0.1:51820\",\"[::1]:443\"],\"tls\":\"[::1]:443\"}\n"
        );
    }
}
