//! Opens a password zip, in memory, and hands out what is in it only when all of it is sound.
//!
//! Never writes to a disk, never trusts a name, never acts on a byte before the entry was
//! read to its end and its authentication code or checksum was checked. What an archive may
//! cost is bounded before it is paid: the number of entries before the directory is read,
//! the sizes before anything is unpacked and again while it is.
//!
//! The portal opens with it what establishments hand in, the PC's program what the clerk wants
//! to read. The password stands in no error and no log line.

mod entry_names;
pub mod fuzzing;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Cursor, Read};

use encoding_rs::SHIFT_JIS;
use zeroize::Zeroizing;
use zip::result::ZipError;
use zip::{ZipArchive, ZipReadOptions};

pub use entry_names::NameRefused;
use entry_names::{EntryName, Place};

/// How many filings one archive may hold.
pub const ENTRY_LIMIT: usize = 50;
/// How many entries an archive's directory may list, the junk of macOS and Windows included.
pub const DIRECTORY_LIMIT: usize = 4 * ENTRY_LIMIT;
/// How large one filing may be when opened: a form scanned in colour has about 1 MiB a page.
pub const ENTRY_LIMIT_BYTES: u64 = 50 * MIB;
/// How large all filings of one archive may be together when opened.
pub const TOTAL_LIMIT_BYTES: u64 = 200 * MIB;
/// Above [`RATIO_FREE_BYTES`], a file may not shrink to less than this part of its size.
pub const RATIO_LIMIT: u64 = 100;
/// Up to this size no ratio is suspicious.
pub const RATIO_FREE_BYTES: u64 = 10 * MIB;
/// How long a password may be.
pub const PASSWORD_LIMIT_BYTES: usize = 512;

/// How much one archive may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files; the directory may list four times as many entries.
    pub entries: usize,
    /// All files together when opened.
    pub total_bytes: u64,
}

impl Limits {
    /// For what one sender hands in at once.
    pub const FILINGS: Self = Self {
        entries: ENTRY_LIMIT,
        total_bytes: TOTAL_LIMIT_BYTES,
    };
}

const MIB: u64 = 1024 * 1024;
/// The end record and the longest comment after it.
const END_RECORD_REACH_BYTES: usize = 22 + 65_535;

/// The password of a zip, as the sender typed it. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes a password over. Blanks around it come from copying it out of a mail.
    pub fn new(text: String) -> Self {
        let text = Zeroizing::new(text);
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The ways in which the sender's program may have written the password down: Japanese
    /// ones write CP932.
    fn spellings(&self) -> Vec<Zeroizing<Vec<u8>>> {
        let utf8 = Zeroizing::new(self.bytes().to_vec());
        if self.0.is_ascii() {
            return vec![utf8];
        }
        let (cp932, _, lossy) = SHIFT_JIS.encode(&self.0);
        let cp932 = (!lossy).then(|| Zeroizing::new(cp932.into_owned()));
        [Some(utf8), cp932].into_iter().flatten().collect()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What was in an archive.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// The filings, in the order of the archive's directory. Never empty.
    pub entries: Vec<Entry>,
    /// How well the archive was protected.
    pub protection: Protection,
}

/// One file out of an archive, complete and checked against its code.
#[derive(PartialEq, Eq)]
pub struct Entry {
    /// The name without its folder, in NFC.
    pub name: String,
    /// The file.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({:?}, {} bytes)", self.name, self.bytes.len())
    }
}

/// How well an archive was protected on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// AES-128, -192 or -256 for every file.
    Aes,
    /// ZipCrypto for at least one file: broken since 1994. Accepted, with a warning.
    ZipCrypto,
    /// None for at least one file. Only where [`Plain::Taken`] allows it.
    Nothing,
}

/// What is done with files that have no password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// They are refused, and the archive with them: nobody may hand them in.
    Refused,
    /// They are read like the others.
    Taken,
}

/// Why an archive, or an entry of it, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The file does not begin like a zip.
    #[error("not a zip")]
    NotAZip,
    /// Cut off, or its headers contradict each other.
    #[error("broken zip: {0}")]
    Broken(String),
    /// A file in it cannot be read to the end, or its code does not fit.
    #[error("broken zip: an entry fails its check")]
    EntryBroken,
    /// There is a password, and none was given.
    #[error("no password was given")]
    PasswordMissing,
    /// The password given is not the archive's.
    #[error("wrong password")]
    WrongPassword,
    /// Longer than [`PASSWORD_LIMIT_BYTES`].
    #[error("the password is too long")]
    PasswordTooLong,
    /// A file in it has no password.
    #[error("an entry is not encrypted")]
    NotEncrypted,
    /// Nothing in it.
    #[error("empty zip")]
    Empty,
    /// More than [`ENTRY_LIMIT`] files, or [`DIRECTORY_LIMIT`] entries.
    #[error("too many entries: {0}")]
    TooManyEntries(usize),
    /// Larger than [`ENTRY_LIMIT_BYTES`] or [`TOTAL_LIMIT_BYTES`] when opened.
    #[error("too large when opened: {size_bytes} of {limit_bytes} bytes")]
    TooLarge {
        /// What it would take, as far as known.
        size_bytes: u64,
        /// What it may take.
        limit_bytes: u64,
    },
    /// Shrunk further than any document can be.
    #[error("too large when opened: compressed more than {RATIO_LIMIT} times")]
    RatioTooHigh,
    /// The same name twice.
    #[error("duplicate names")]
    DuplicateNames,
    /// The name leads somewhere, or cannot be read.
    #[error("name: {0}")]
    Name(#[source] NameRefused),
    /// A symbolic link, or another thing that is no file.
    #[error("an entry is no file but a link or a device")]
    NotAFile,
    /// Packed or encrypted in a way that we do not read.
    #[error("an entry is packed in an unusual way")]
    UnsupportedMethod,
}

impl ArchiveError {
    /// What happened and what to do next, for the sender.
    pub fn page_text(&self) -> String {
        match self {
            Self::NotAZip => "zipファイルではありません。PDFファイル、またはPDFを入れたパスワード付きzipファイルをお送りください。".into(),
            Self::Broken(_) => "zipファイルが壊れています（途中で切れているか、中の記録が食い違っています）。もう一度作り直してお送りください。".into(),
            Self::EntryBroken => "zipファイルの中身が壊れています。もう一度作り直してお送りください。".into(),
            Self::PasswordMissing => "zipファイルのパスワードを入力してください。".into(),
            Self::WrongPassword => "パスワードが違います。zipファイルを作ったときのパスワードを入力してください。正しいパスワードでも開けないときは、zipファイルを作り直してください。".into(),
            Self::PasswordTooLong => format!("パスワードが長すぎます（{PASSWORD_LIMIT_BYTES}バイトまで）。"),
            Self::NotEncrypted => "パスワードが付いていないzipファイルです。パスワードを付けて作り直すか、PDFのままお送りください。".into(),
            Self::Empty => "zipファイルの中にファイルがありません。".into(),
            Self::TooManyEntries(count) => format!(
                "zipファイルの中のファイルが多すぎます（{count}件）。1つのzipファイルに入れられるのは{ENTRY_LIMIT}件までです。分けてお送りください。"
            ),
            Self::TooLarge { limit_bytes, .. } => format!(
                "開いたときの大きさが上限（{}MB）を超えます。小さくするか、分けてお送りください。",
                limit_bytes / MIB
            ),
            Self::RatioTooHigh => "開いたときの大きさが、圧縮された大きさに比べて異常に大きいため、受け付けられません。PDFを作り直してお送りください。".into(),
            Self::DuplicateNames => "zipファイルの中に、同じ名前のファイルが2つ以上あります。名前を分けるか、別々にお送りください。".into(),
            Self::Name(refused) => refused.page_text().into(),
            Self::NotAFile => "zipファイルの中に、ファイルではなくリンク（ショートカット）が入っています。PDFファイルそのものを入れてください。".into(),
            Self::UnsupportedMethod => "zipファイルの作り方が特殊なため、開けません。標準の圧縮方式（Deflate）とAES-256の暗号で作り直してください。".into(),
        }
    }
}

/// One thing that is wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveProblem {
    /// Which entry; `None` for the archive as a whole.
    pub entry: Option<String>,
    /// What is wrong.
    pub error: ArchiveError,
}

impl From<ArchiveError> for ArchiveProblem {
    fn from(error: ArchiveError) -> Self {
        Self { entry: None, error }
    }
}

/// Says whether a file begins like a zip.
pub fn looks_like_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06")
}

/// Opens an archive.
///
/// # Errors
/// Everything that is wrong with it, as far as it can be told without the password, or else
/// everything that was found while opening. Never empty.
pub fn open(bytes: &[u8], password: Option<&Password>) -> Result<Opened, Vec<ArchiveProblem>> {
    open_with(bytes, password, Plain::Refused)
}

/// Opens an archive, which may hold files without a password if `plain` says so. One without
/// any needs no password.
///
/// # Errors
/// As [`open`].
pub fn open_with(
    bytes: &[u8],
    password: Option<&Password>,
    plain: Plain,
) -> Result<Opened, Vec<ArchiveProblem>> {
    open_within(bytes, password, plain, Limits::FILINGS)
}

/// Opens an archive that may hold more, or less, than filings may.
///
/// # Errors
/// As [`open`].
pub fn open_within(
    bytes: &[u8],
    password: Option<&Password>,
    plain: Plain,
    limits: Limits,
) -> Result<Opened, Vec<ArchiveProblem>> {
    let mut archive = directory(bytes, limits).map_err(|error| vec![error.into()])?;
    let entries = plan(&mut archive, plain, limits)?;
    let has = |cipher| entries.iter().any(|planned| planned.cipher == cipher);
    let needs_password = has(Cipher::Aes) || has(Cipher::ZipCrypto);
    let spellings = match password.filter(|password| !password.bytes().is_empty()) {
        None if needs_password => return Err(vec![ArchiveError::PasswordMissing.into()]),
        None => vec![Zeroizing::default()],
        Some(password) if password.bytes().len() > PASSWORD_LIMIT_BYTES => {
            return Err(vec![ArchiveError::PasswordTooLong.into()]);
        }
        Some(password) => password.spellings(),
    };

    let mut problems = Vec::new();
    let mut opened = Vec::new();
    let mut left_bytes = limits.total_bytes;
    for planned in &entries {
        match read_with_any(&mut archive, planned, &spellings, left_bytes) {
            Ok(bytes) => {
                left_bytes -= bytes.len() as u64;
                opened.push(Entry {
                    name: planned.name.clone(),
                    bytes,
                });
            }
            // The same for every entry, and each try costs a key derivation.
            Err(ArchiveError::WrongPassword) => {
                return Err(vec![ArchiveError::WrongPassword.into()]);
            }
            Err(error) => problems.push(planned.problem(error)),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let protection = if has(Cipher::Nothing) {
        Protection::Nothing
    } else if has(Cipher::ZipCrypto) {
        Protection::ZipCrypto
    } else {
        Protection::Aes
    };
    Ok(Opened {
        entries: opened,
        protection,
    })
}

/// An entry that may be read.
struct Planned {
    index: usize,
    name: String,
    cipher: Cipher,
    size_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cipher {
    Aes,
    ZipCrypto,
    Nothing,
}

impl Planned {
    fn problem(&self, error: ArchiveError) -> ArchiveProblem {
        ArchiveProblem {
            entry: Some(self.name.clone()),
            error,
        }
    }
}

type Zip<'a> = ZipArchive<Cursor<&'a [u8]>>;

/// Reads the directory, once it is known to be small, and holds it against the local headers:
/// an archive that shows one list to a virus scanner and another to the reader is refused.
fn directory(bytes: &[u8], limits: Limits) -> Result<Zip<'_>, ArchiveError> {
    if !looks_like_zip(bytes) {
        return Err(ArchiveError::NotAZip);
    }
    let listed = listed_entries(bytes)?;
    if listed == 0 {
        return Err(ArchiveError::Empty);
    }
    if listed > limits.entries.saturating_mul(DIRECTORY_LIMIT / ENTRY_LIMIT) {
        return Err(ArchiveError::TooManyEntries(listed));
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| broken(&error))?;
    if archive.has_duplicate_names() {
        return Err(ArchiveError::DuplicateNames);
    }
    archive
        .validate_header_consistency()
        .map_err(|error| broken(&error))?;
    Ok(archive)
}

/// How many entries the end record announces. There must be exactly one such record, and no
/// 64-bit one before it (no archive of our size needs it): then the reader, too, believes
/// this number, and cannot be made to build a directory of millions.
fn listed_entries(bytes: &[u8]) -> Result<usize, ArchiveError> {
    const END_RECORD: &[u8] = b"PK\x05\x06";
    const LOCATOR_64: &[u8] = b"PK\x06\x07";
    const LOCATOR_64_BYTES: usize = 20;
    const COUNT_AT: usize = 10;
    let start = bytes.len().saturating_sub(END_RECORD_REACH_BYTES);
    let mut found = (start..bytes.len()).filter(|at| bytes[*at..].starts_with(END_RECORD));
    let (Some(end), None) = (found.next(), found.next()) else {
        return Err(ArchiveError::Broken("not exactly one end record".into()));
    };
    let locator = end.checked_sub(LOCATOR_64_BYTES).map(|at| &bytes[at..end]);
    if locator.is_some_and(|locator| locator.starts_with(LOCATOR_64)) {
        return Err(ArchiveError::UnsupportedMethod);
    }
    match bytes.get(end + COUNT_AT..end + COUNT_AT + 2) {
        Some(&[low, high]) => Ok(usize::from(u16::from_le_bytes([low, high]))),
        _ => Err(ArchiveError::Broken("the end record is cut off".into())),
    }
}

/// Decides from the headers alone which entries are filings, and what is wrong with any.
fn plan(
    archive: &mut Zip<'_>,
    plain: Plain,
    limits: Limits,
) -> Result<Vec<Planned>, Vec<ArchiveProblem>> {
    let mut problems = Vec::new();
    let mut planned = Vec::new();
    let mut names = BTreeMap::<String, usize>::new();
    let mut folders = BTreeMap::<Option<String>, usize>::new();
    let mut total_bytes: u64 = 0;
    for index in 0..archive.len() {
        let cipher = match archive.get_aes_verification_key_and_salt(index) {
            Ok(Some(_)) => Cipher::Aes,
            Ok(None) => Cipher::ZipCrypto,
            Err(error) => return Err(vec![broken(&error).into()]),
        };
        let entry = match archive.by_index_data(index) {
            Ok(entry) => entry,
            Err(error) => return Err(vec![broken(&error).into()]),
        };
        const UTF8_FLAG: u16 = 0x0800;
        let says_utf8 = entry.flags().as_u16() & UTF8_FLAG != 0;
        let shown = entry_names::shown(entry.name_raw());
        let mut problem = |error| {
            problems.push(ArchiveProblem {
                entry: Some(shown.clone()),
                error,
            });
        };
        let name = match entry_names::read(entry.name_raw(), says_utf8) {
            Ok(EntryName {
                place: Place::Junk, ..
            }) => continue,
            Ok(EntryName {
                place: Place::Folder,
                ..
            }) if entry.size() == 0 => continue,
            Ok(name) => name,
            Err(refused) => {
                problem(ArchiveError::Name(refused));
                continue;
            }
        };
        const KIND_OF_FILE: u32 = 0o170_000;
        const REGULAR: u32 = 0o100_000;
        let kind = entry.unix_mode().unwrap_or(REGULAR) & KIND_OF_FILE;
        if entry.is_symlink() || ![0, REGULAR].contains(&kind) || name.place == Place::Folder {
            problem(ArchiveError::NotAFile);
            continue;
        }
        let Place::File { folder } = name.place else {
            continue;
        };
        let cipher = match (entry.encrypted(), plain) {
            (true, _) => cipher,
            (false, Plain::Taken) => Cipher::Nothing,
            (false, Plain::Refused) => {
                problem(ArchiveError::NotEncrypted);
                continue;
            }
        };
        if entry.size() > ENTRY_LIMIT_BYTES {
            problem(ArchiveError::TooLarge {
                size_bytes: entry.size(),
                limit_bytes: ENTRY_LIMIT_BYTES,
            });
            continue;
        }
        if entry.size() > RATIO_FREE_BYTES && entry.size() / RATIO_LIMIT > entry.compressed_size() {
            problem(ArchiveError::RatioTooHigh);
            continue;
        }
        total_bytes += entry.size();
        *names.entry(name.folded).or_default() += 1;
        *folders.entry(folder).or_default() += 1;
        planned.push(Planned {
            index,
            name: name.base,
            cipher,
            size_bytes: entry.size(),
        });
    }
    if planned.len() > limits.entries {
        problems.push(ArchiveError::TooManyEntries(planned.len()).into());
    }
    if total_bytes > limits.total_bytes {
        problems.push(
            ArchiveError::TooLarge {
                size_bytes: total_bytes,
                limit_bytes: limits.total_bytes,
            }
            .into(),
        );
    }
    if names.values().any(|count| *count > 1) {
        problems.push(ArchiveError::DuplicateNames.into());
    }
    if folders.len() > 1 {
        problems.push(ArchiveError::Name(NameRefused::Folders).into());
    }
    if planned.is_empty() && problems.is_empty() {
        problems.push(ArchiveError::Empty.into());
    }
    if problems.is_empty() {
        Ok(planned)
    } else {
        Err(problems)
    }
}

fn read_with_any(
    archive: &mut Zip<'_>,
    planned: &Planned,
    spellings: &[Zeroizing<Vec<u8>>],
    left_bytes: u64,
) -> Result<Vec<u8>, ArchiveError> {
    let mut tries = spellings
        .iter()
        .map(|password| read_entry(archive, planned, password, left_bytes));
    tries
        .find(|read| *read != Err(ArchiveError::WrongPassword))
        .unwrap_or(Err(ArchiveError::WrongPassword))
}

/// Reads one entry to its end, so that its authentication code or checksum was compared.
fn read_entry(
    archive: &mut Zip<'_>,
    planned: &Planned,
    password: &[u8],
    left_bytes: u64,
) -> Result<Vec<u8>, ArchiveError> {
    let password = (planned.cipher != Cipher::Nothing).then_some(password);
    let options = ZipReadOptions::new()
        .password(password)
        .enforce_header_consistency(true);
    let entry = archive
        .by_index_with_options(planned.index, options)
        .map_err(|error| match error {
            ZipError::InvalidPassword => ArchiveError::WrongPassword,
            ZipError::CompressionMethodNotSupported(_) | ZipError::UnsupportedArchive(_) => {
                ArchiveError::UnsupportedMethod
            }
            error => broken(&error),
        })?;
    let limit_bytes = left_bytes.min(ENTRY_LIMIT_BYTES);
    let capacity = usize::try_from(planned.size_bytes.min(limit_bytes)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(capacity);
    let read = entry.take(limit_bytes + 1).read_to_end(&mut bytes);
    if bytes.len() as u64 > limit_bytes {
        return Err(ArchiveError::TooLarge {
            size_bytes: bytes.len() as u64,
            limit_bytes,
        });
    }
    // ZipCrypto lets 1 of 256 wrong passwords through, and only then the content tells.
    let failed = match planned.cipher {
        Cipher::Aes | Cipher::Nothing => ArchiveError::EntryBroken,
        Cipher::ZipCrypto => ArchiveError::WrongPassword,
    };
    match read {
        Ok(_) if bytes.len() as u64 == planned.size_bytes => Ok(bytes),
        Ok(_) | Err(_) => Err(failed),
    }
}

fn broken(error: &ZipError) -> ArchiveError {
    ArchiveError::Broken(error.to_string())
}

#[cfg(test)]
mod tests;
