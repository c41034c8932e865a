//! The zip in which notices are handed out: AES-256, names in UTF-8, one password.
//!
//! Opened by 7-Zip, by the agent and by every current archiver; not by Windows Explorer,
//! which knows no AES (for that there is the plain PDF). The password is the establishment's
//! own, long and random: what AES in zips does to slow down guessing (1,000 rounds) is little.

use std::fmt;
use std::io::{Cursor, Write};

use zeroize::Zeroizing;
use zip::write::SimpleFileOptions;
use zip::{AesMode, CompressionMethod, DateTime, ZipWriter};

use crate::keys::{READABLE, random_readable};

/// How many files one zip may have.
pub const FILE_LIMIT: usize = 1_000;
/// How large the files may be together.
pub const TOTAL_LIMIT_BYTES: usize = 256 * 1024 * 1024;
/// How many characters a password has: 100 bits.
pub const PASSWORD_CHARS: usize = 20;

/// The password of an establishment's zips. Wiped when dropped; shown only where it is asked
/// for by name.
#[derive(Clone, PartialEq, Eq)]
pub struct ZipPassword(Zeroizing<String>);

impl fmt::Debug for ZipPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ZipPassword(…)")
    }
}

impl ZipPassword {
    /// Makes a new password.
    pub fn random() -> Self {
        Self(Zeroizing::new(random_readable(PASSWORD_CHARS)))
    }

    /// Takes over a password that was kept.
    ///
    /// # Errors
    /// [`BundleError::WeakPassword`] unless it looks as [`ZipPassword::random`] makes them.
    pub fn from_kept(text: String) -> Result<Self, BundleError> {
        let text = Zeroizing::new(text);
        let plain = text.bytes().all(|byte| READABLE.contains(&byte));
        if text.len() == PASSWORD_CHARS && plain {
            Ok(Self(text))
        } else {
            Err(BundleError::WeakPassword)
        }
    }

    /// The password itself: for the page that shows it, and to be sealed.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// One file for a zip.
#[derive(Debug, Clone)]
pub struct BundleFile<'a> {
    /// The name, without a folder.
    pub name: &'a str,
    /// The content.
    pub bytes: &'a [u8],
}

/// Why no zip can be made.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Nothing to put into it.
    #[error("no files for a zip")]
    Empty,
    /// More than [`FILE_LIMIT`] files or [`TOTAL_LIMIT_BYTES`].
    #[error("too much for one zip")]
    TooLarge,
    /// A name that would lead somewhere, or that is there twice.
    #[error("not a name for a file in a zip, or there twice: {0:?}")]
    Name(String),
    /// A password that was not made here.
    #[error("not a zip password of ours")]
    WeakPassword,
    /// The zip cannot be written.
    #[error("the zip cannot be written")]
    Write(#[source] zip::result::ZipError),
}

impl BundleError {
    /// What happened and what to do next, for the person who downloads.
    pub fn page_text(&self) -> &'static str {
        match self {
            Self::Empty => "ダウンロードする書類が選ばれていません。書類を選んでください。",
            Self::TooLarge => {
                "一度にダウンロードできる大きさを超えています。書類を分けて選んでください。"
            }
            Self::Name(_) | Self::WeakPassword | Self::Write(_) => {
                "zipファイルを作成できませんでした。PDFのままダウンロードするか、しばらくしてからもう一度お試しください。"
            }
        }
    }
}

/// Makes a zip. Takes some milliseconds per megabyte: call it where blocking is allowed.
///
/// # Errors
/// [`BundleError`].
pub fn zip(files: &[BundleFile<'_>], password: &ZipPassword) -> Result<Vec<u8>, BundleError> {
    let total: usize = files.iter().map(|file| file.bytes.len()).sum();
    if files.is_empty() {
        return Err(BundleError::Empty);
    }
    if files.len() > FILE_LIMIT || total > TOTAL_LIMIT_BYTES {
        return Err(BundleError::TooLarge);
    }
    let mut writer = ZipWriter::new(Cursor::new(Vec::with_capacity(total)));
    let mut names = std::collections::BTreeSet::new();
    for file in files {
        let leads = |c: char| {
            c.is_control() || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
        };
        let plain =
            !file.name.is_empty() && !file.name.contains(leads) && !file.name.starts_with('.');
        if !plain || !names.insert(file.name.to_lowercase()) {
            return Err(BundleError::Name(file.name.to_owned()));
        }
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            // When a notice was zipped is nobody's business; the earliest date says nothing.
            .last_modified_time(DateTime::default())
            .with_aes_encryption(AesMode::Aes256, password.reveal());
        writer
            .start_file(file.name, options)
            .and_then(|()| Ok(writer.write_all(file.bytes)?))
            .map_err(BundleError::Write)?;
    }
    let written = writer.finish().map_err(BundleError::Write)?;
    Ok(written.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::process::Command;

    const NAME: &str = "20261120_0123_決定通知書.pdf";

    fn made(password: &ZipPassword) -> (tempfile::TempDir, std::path::PathBuf, Vec<u8>) {
        let content = b"%PDF-1.7 notice ".repeat(10_000);
        let files = [
            BundleFile {
                name: NAME,
                bytes: &content,
            },
            BundleFile {
                name: "短い.pdf",
                bytes: b"%PDF",
            },
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notices.zip");
        std::fs::write(&path, zip(&files, password).unwrap()).unwrap();
        (folder, path, content)
    }

    #[test]
    fn seven_zip_lists_the_japanese_name_and_opens_it_with_the_password() {
        let password = ZipPassword::random();
        let (folder, path, content) = made(&password);
        let seven = |args: &[&str]| {
            let output = Command::new("7z")
                .args(args)
                .arg(&path)
                .output()
                .expect("p7zip is installed");
            (
                output.status.success(),
                String::from_utf8_lossy(&output.stdout).into_owned(),
            )
        };
        let (_, listing) = seven(&["l", "-slt"]);
        assert!(listing.contains(NAME), "{listing}");
        assert!(listing.contains("AES-256"), "{listing}");
        let key = format!("-p{}", password.reveal());
        let out = format!("-o{}", folder.path().display());
        assert!(seven(&["x", "-y", &key, &out]).0);
        assert_eq!(std::fs::read(folder.path().join(NAME)).unwrap(), content);
        assert!(!seven(&["t", "-pWRONG"]).0);
    }

    #[test]
    fn what_knows_no_aes_says_so_instead_of_giving_out_rubbish() {
        let password = ZipPassword::random();
        let (_folder, path, _) = made(&password);
        let script = "import sys,zipfile\nz=zipfile.ZipFile(sys.argv[1])\nprint(z.namelist()[0])\nz.setpassword(sys.argv[2].encode())\ntry:\n z.read(z.namelist()[0])\n print('read')\nexcept (NotImplementedError,RuntimeError) as e:\n print('refused')";
        let output = Command::new("python3")
            .args(["-X", "utf8", "-c", script])
            .arg(&path)
            .arg(password.reveal())
            .output()
            .expect("python3 is installed");
        let told = String::from_utf8(output.stdout).unwrap();
        assert_eq!(told.lines().collect::<Vec<_>>(), [NAME, "refused"]);
    }

    #[test]
    fn our_own_intake_opens_what_we_hand_out() {
        let password = ZipPassword::random();
        let (_folder, path, content) = made(&password);
        let typed = archive::Password::new(password.reveal().to_owned());
        let opened = archive::open(&std::fs::read(path).unwrap(), Some(&typed)).unwrap();
        assert_eq!(opened.entries[0].name, NAME);
        assert_eq!(opened.entries[0].bytes, content);
    }

    #[test]
    fn passwords_are_long_random_and_without_look_alikes() {
        let made: BTreeSet<String> = (0..200)
            .map(|_| ZipPassword::random().reveal().to_owned())
            .collect();
        assert_eq!(made.len(), 200);
        for text in &made {
            assert_eq!(text.len(), PASSWORD_CHARS);
            assert!(!text.contains(['I', 'O', '0', '1', 'l']), "{text}");
            assert!(ZipPassword::from_kept(text.clone()).is_ok());
        }
        let used: BTreeSet<char> = made.iter().flat_map(|text| text.chars()).collect();
        assert_eq!(used.len(), 32);
        for weak in ["", "20240524", "password", "ABCDEFGHJKLMNPQRSTU0"] {
            assert!(ZipPassword::from_kept(weak.into()).is_err(), "{weak}");
        }
    }

    #[test]
    fn names_that_lead_somewhere_or_are_there_twice_are_refused() {
        let password = ZipPassword::random();
        for names in [
            &["../a.pdf"][..],
            &["a/b.pdf"],
            &[""],
            &["a.pdf", "A.pdf"],
            &[".hidden"],
        ] {
            let files: Vec<BundleFile<'_>> = names
                .iter()
                .map(|name| BundleFile { name, bytes: b"x" })
                .collect();
            assert!(
                matches!(zip(&files, &password), Err(BundleError::Name(_))),
                "{names:?}"
            );
        }
        assert!(matches!(zip(&[], &password), Err(BundleError::Empty)));
    }
}
