//! Names inside archives: which text the bytes stand for, and where they lead.
//!
//! The zip specification knows CP437 and UTF-8; Japanese tools wrote CP932; macOS writes
//! decomposed UTF-8. All come out as one NFC text. Names that lead anywhere but into the
//! archive itself, or one folder around it, are refused: nothing here "cleans" a path.

use encoding_rs::SHIFT_JIS;
use unicode_normalization::UnicodeNormalization;

/// An entry's name, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EntryName {
    /// The last part, in NFC.
    pub base: String,
    /// The last part as Windows and macOS compare names.
    pub folded: String,
    /// What the name says that the entry is.
    pub place: Place,
}

/// What a name says that an entry is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A file, alone or in the one folder.
    File {
        /// The folder around it.
        folder: Option<String>,
    },
    /// The one folder itself.
    Folder,
    /// What operating systems leave behind: never looked at.
    Junk,
}

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameRefused {
    /// A folder in a folder.
    #[error("a folder in a folder")]
    Deep,
    /// Files in several folders, or in one and beside it.
    #[error("several folders")]
    Folders,
    /// An absolute path, a drive, `..`, a backslash, a control character.
    #[error("a path that leads out of the archive")]
    Path,
    /// Neither UTF-8 nor CP932, or nothing at all.
    #[error("a name that cannot be read")]
    Unreadable,
}

impl NameRefused {
    /// What is wrong and what to do, for the sender.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::Deep => {
                "zipファイルの中のフォルダーに、さらにフォルダーがあります。PDFファイルだけを選んで、zipファイルを作り直してください。"
            }
            Self::Folders => {
                "zipファイルの中に、フォルダーが複数あります。PDFファイルだけを選んで、zipファイルを作り直してください。"
            }
            Self::Path => {
                "zipファイルの中のファイル名に、場所を表す記号（「..」「\\」「:」など）が含まれているため、受け付けられません。PDFファイルだけを選んで、zipファイルを作り直してください。"
            }
            Self::Unreadable => {
                "zipファイルの中のファイル名が読み取れません。ファイル名を付け直して、zipファイルを作り直してください。"
            }
        }
    }
}

/// The name as an error message shows it, whatever it is.
pub(super) fn shown(raw: &[u8]) -> String {
    const SHOWN_LIMIT_CHARS: usize = 120;
    decode(raw, false)
        .unwrap_or_else(|| String::from_utf8_lossy(raw).into_owned())
        .chars()
        .map(|c| if c.is_control() { '\u{FFFD}' } else { c })
        .take(SHOWN_LIMIT_CHARS)
        .collect()
}

/// Reads a name. `utf8` is the archive's own word that the name is UTF-8.
pub(super) fn read(raw: &[u8], utf8: bool) -> Result<EntryName, NameRefused> {
    let name = decode(raw, utf8).ok_or(NameRefused::Unreadable)?;
    let dangerous = |c: char| c.is_control() || matches!(c, '\\' | ':' | '\u{202A}'..='\u{202E}');
    if name.starts_with('/') || name.contains(dangerous) {
        return Err(NameRefused::Path);
    }
    let (name, is_folder) = match name.strip_suffix('/') {
        Some(name) => (name, true),
        None => (name.as_str(), false),
    };
    let parts: Vec<&str> = name.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Err(if name.is_empty() {
            NameRefused::Unreadable
        } else {
            NameRefused::Path
        });
    }
    let base = parts[parts.len() - 1].to_owned();
    let place = match parts.as_slice() {
        ["__MACOSX", ..] => Place::Junk,
        _ if is_junk(&base) && !is_folder => Place::Junk,
        [_] if is_folder => Place::Folder,
        [_] => Place::File { folder: None },
        [folder, _] if !is_folder => Place::File {
            folder: Some((*folder).to_owned()),
        },
        _ => return Err(NameRefused::Deep),
    };
    let folded = base.to_lowercase();
    Ok(EntryName {
        base,
        folded,
        place,
    })
}

fn is_junk(base: &str) -> bool {
    base.starts_with("._")
        || [".ds_store", "thumbs.db", "desktop.ini"].contains(&base.to_lowercase().as_str())
}

/// UTF-8 where it is UTF-8, else CP932, in NFC. (No CP932 text that is longer than a
/// character or two is valid UTF-8 by chance.)
fn decode(raw: &[u8], utf8: bool) -> Option<String> {
    let text = match std::str::from_utf8(raw) {
        Ok(text) => text.to_owned(),
        Err(_) if utf8 => return None,
        Err(_) => SHIFT_JIS
            .decode_without_bom_handling_and_without_replacement(raw)?
            .into_owned(),
    };
    Some(text.nfc().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(name: &str) -> Result<Place, NameRefused> {
        read(name.as_bytes(), false).map(|name| name.place)
    }

    #[test]
    fn three_ways_to_write_a_name_are_one_name() {
        let right = "髙﨑①㈱_届ガ.pdf";
        let (cp932, _, lost) = SHIFT_JIS.encode(right);
        let decomposed: String = right.nfd().collect();
        assert!(!lost);
        for raw in [right.as_bytes(), &cp932, decomposed.as_bytes()] {
            let right: String = right.nfc().collect();
            assert_eq!(read(raw, false).unwrap().base, right);
        }
        assert_eq!(read(&cp932, true), Err(NameRefused::Unreadable));
    }

    #[test]
    fn a_cp932_character_whose_second_byte_is_a_backslash_is_no_path() {
        let (raw, _, _) = SHIFT_JIS.encode("適用データ届出総括表.pdf");
        assert!(raw.contains(&b'\\'));
        assert_eq!(read(&raw, false).unwrap().base, "適用データ届出総括表.pdf");
    }

    #[test]
    fn one_folder_is_ignored_and_two_are_refused() {
        let folder = Some("届書".to_owned());
        assert_eq!(place("届書/a.pdf"), Ok(Place::File { folder }));
        assert_eq!(place("届書/"), Ok(Place::Folder));
        assert_eq!(place("a/b/c.pdf"), Err(NameRefused::Deep));
        assert_eq!(place("a/b/"), Err(NameRefused::Deep));
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for name in [
            "../a.pdf",
            "a/../b.pdf",
            "/a.pdf",
            "C:a.pdf",
            "C:\\a.pdf",
            "a\\b.pdf",
            "./a.pdf",
            "a//b.pdf",
            "a\0.pdf",
            "a\n.pdf",
            "..",
            "/",
            "a\u{202E}fdp.exe",
        ] {
            assert_eq!(place(name), Err(NameRefused::Path), "{name:?}");
        }
        assert_eq!(place(""), Err(NameRefused::Unreadable));
    }

    #[test]
    fn what_operating_systems_leave_behind_is_junk() {
        for name in [
            "__MACOSX/a/b/._c.pdf",
            ".DS_Store",
            "a/Thumbs.db",
            "a/._b.pdf",
            "__MACOSX/",
        ] {
            assert_eq!(place(name), Ok(Place::Junk), "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_file_that_is_let_in_has_a_plain_name(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(name) = read(&raw, false) {
                prop_assert!(!name.base.is_empty());
                prop_assert!(!name.base.contains(['/', '\\', ':', '\0']));
                prop_assert!(name.base != "." && name.base != "..");
            }
            prop_assert!(!shown(&raw).chars().any(char::is_control));
        }
    }
}
