//! The agent's own window: a browser with a profile of its own that knows no other way out
//! than the loopback proxy.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use tokio::process::{Child, Command};

use crate::os;

/// What a window is opened with.
#[derive(Debug, Clone)]
pub struct Window {
    /// The browser.
    pub program: PathBuf,
    /// Its own profile.
    pub profile: PathBuf,
    /// The loopback proxy.
    pub proxy: SocketAddr,
    /// The page to open, with the launch token.
    pub url: String,
    /// SHA-256 of the service authority's key, if the portal's certificate comes from it.
    pub trusted_key: Option<String>,
    /// From the settings.
    pub more_arguments: Vec<String>,
}

/// Why no window came up.
#[derive(Debug, thiserror::Error)]
pub enum BrowserError {
    /// Nothing to open a window with.
    #[error("no browser of the Chromium family was found")]
    NotFound,
    /// It is there but does not start.
    #[error("cannot start {}: {source}", program.display())]
    CannotStart {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl BrowserError {
    /// What the user is told.
    pub fn page_text(&self) -> String {
        match self {
            Self::NotFound => {
                "Microsoft Edge または Google Chrome が見つかりませんでした。インストールするか、設定の browser に場所を指定してください。".to_owned()
            }
            Self::CannotStart { program, .. } => format!(
                "ブラウザー（{}）を起動できませんでした。設定の browser をご確認ください。",
                program.display()
            ),
        }
    }
}

/// The browser of the settings, or one that the system has.
pub fn find(configured: Option<&Path>) -> Result<PathBuf, BrowserError> {
    match configured {
        Some(path) => Ok(path.to_owned()),
        None => os::find_browser().ok_or(BrowserError::NotFound),
    }
}

impl Window {
    /// The command line of the browser.
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            format!("--app={}", self.url).into(),
            format!("--proxy-server=http://{}", self.proxy).into(),
            // Nothing goes around the proxy, loopback addresses neither.
            "--proxy-bypass-list=<-loopback>".into(),
        ];
        let mut profile = OsString::from("--user-data-dir=");
        profile.push(&self.profile);
        arguments.push(profile);
        arguments.extend(
            [
                "--no-first-run",
                "--no-default-browser-check",
                "--disable-background-networking",
                "--disable-sync",
                "--disable-component-update",
                "--disable-default-apps",
                "--disable-quic",
                "--hide-crash-restore-bubble",
                "--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable,Translate,OptimizationHints,MediaRouter",
            ]
            .map(OsString::from),
        );
        if let Some(key) = &self.trusted_key {
            arguments.push(format!("--ignore-certificate-errors-spki-list={key}").into());
        }
        arguments.extend(self.more_arguments.iter().map(OsString::from));
        arguments
    }

    /// Opens the window. When the process ends, the window was closed; a process that hands
    /// over to one that runs already ends at once.
    pub fn open(&self) -> Result<Child, BrowserError> {
        Command::new(&self.program)
            .args(self.arguments())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| BrowserError::CannotStart {
                program: self.program.clone(),
                source,
            })
    }
}

/// SHA-256 of a certificate's public key (SubjectPublicKeyInfo), base64, as browsers want
/// it. `None` if the certificate cannot be read.
pub fn key_hash(certificate: &[u8]) -> Option<String> {
    let mut store = RootCertStore::empty();
    store.add(CertificateDer::from(certificate)).ok()?;
    // The anchor holds the inside of the structure; the hash is over the whole.
    let inside = store.roots.first()?.subject_public_key_info.as_ref();
    let mut whole = vec![0x30];
    match u16::try_from(inside.len()).ok()? {
        length @ 0..=0x7f => whole.push(length as u8),
        length @ 0x80..=0xff => whole.extend([0x81, length as u8]),
        length => {
            whole.push(0x82);
            whole.extend(length.to_be_bytes());
        }
    }
    whole.extend(inside);
    Some(STANDARD.encode(digest(&SHA256, &whole)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, IsCa, KeyPair, PublicKeyData as _};

    #[test]
    fn the_hash_is_over_the_authoritys_whole_key() {
        for key in [
            KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
            KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
            KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
        ] {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let certificate = params.self_signed(&key).unwrap();
            let expected = STANDARD.encode(digest(&SHA256, &key.subject_public_key_info()));
            assert_eq!(key_hash(certificate.der()), Some(expected));
        }
        assert_eq!(key_hash(b"rubbish"), None);
    }

    #[test]
    fn the_window_knows_only_the_proxy() {
        let window = Window {
            program: "chromium".into(),
            profile: "/data/browser".into(),
            proxy: ([127, 0, 0, 1], 4000).into(),
            url: "http://renkei-agent.invalid/?token=x".into(),
            trusted_key: Some("hash=".into()),
            more_arguments: vec!["--no-sandbox".into()],
        };
        let arguments = window.arguments();
        for expected in [
            "--app=http://renkei-agent.invalid/?token=x",
            "--proxy-server=http://127.0.0.1:4000",
            "--proxy-bypass-list=<-loopback>",
            "--user-data-dir=/data/browser",
            "--disable-quic",
            "--ignore-certificate-errors-spki-list=hash=",
            "--no-sandbox",
        ] {
            assert!(arguments.contains(&expected.into()), "{expected}");
        }
    }
}
