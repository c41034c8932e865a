//! Password zips that the clerk wants to read: opened in memory, shown by the agent's page.
//!
//! Windows' own Explorer cannot open AES zips. What lies here is never written to a disk, is
//! shown to this user's own window only, and is wiped when it is put away, when another file
//! takes its place, or when nobody looked at it for [`KEPT_FOR`]. The password is remembered
//! that long too, so that a second zip of the same fund opens without asking.
//!
//! Pure: `now` is an argument. [`crate::page`] and [`crate::commands`] call it.

use std::fmt;
use std::time::{Duration, Instant};

use archive::{ArchiveError, ArchiveProblem, Password, Plain};
use bytes::Bytes;
use zeroize::Zeroizing;

/// Largest file that is taken, in bytes: as much as an archive's files may be together, and
/// what a zip needs around them.
pub const FILE_LIMIT_BYTES: usize = 104 * 1024 * 1024;

/// How long documents and password are kept after the last look at them.
pub const KEPT_FOR: Duration = Duration::from_secs(30 * 60);

/// Longest file name that is shown, in characters.
const NAME_LIMIT_CHARS: usize = 120;

/// How far into a file PDF viewers look for its mark, in bytes.
const PDF_MARK_REACH_BYTES: usize = 1024;

/// The one file that lies open, or waits for its password.
#[derive(Debug, Default)]
pub struct Desk {
    pile: Option<Pile>,
    password: Option<Password>,
    looked_at: Option<Instant>,
    /// Counts the files: an address of an earlier one shows nothing of a later one.
    number: u64,
}

/// A file on the desk.
struct Pile {
    name: String,
    sheets: Sheets,
}

enum Sheets {
    /// A zip without its password yet.
    Sealed(Zeroizing<Vec<u8>>),
    Open(Vec<Document>),
}

/// One document out of a zip. Its bytes are wiped when the last user of them is done.
#[derive(Clone)]
pub struct Document {
    /// The name without its folder.
    pub name: String,
    /// The content.
    pub bytes: Bytes,
    /// Whether it can be shown.
    pub kind: Kind,
}

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Shown by the browser.
    Pdf,
    /// Nothing that this program shows.
    Other,
}

/// What lies on the desk, for the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Nothing.
    Empty,
    /// A zip that wants its password.
    Sealed {
        /// The zip's name.
        name: String,
    },
    /// Documents to read.
    Open {
        /// The zip's name.
        name: String,
        /// Stands in the documents' addresses.
        number: u64,
        /// In the zip's order.
        documents: Vec<Listed>,
    },
}

/// A document in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: usize,
    /// What it is.
    pub kind: Kind,
}

/// What became of a file or a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The documents can be read.
    Opened,
    /// The password is needed.
    AskPassword,
}

/// Why a file cannot be read. Never holds a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// Larger than [`FILE_LIMIT_BYTES`].
    #[error("the file is larger than {FILE_LIMIT_BYTES} bytes")]
    TooLarge,
    /// What is wrong with the archive and its entries. Never empty.
    #[error("{} problems with the archive", .0.len())]
    Archive(Vec<ArchiveProblem>),
    /// A password came, but no zip waits for one.
    #[error("no zip waits for a password")]
    NothingWaits,
}

impl DeskError {
    /// What the user is told: one sentence or more.
    pub fn page_texts(&self) -> Vec<String> {
        match self {
            Self::TooLarge => vec![format!(
                "ファイルが大きすぎるため開けません（{}MBまで）。",
                FILE_LIMIT_BYTES / 1024 / 1024
            )],
            Self::NothingWaits => vec![
                "zipファイルがありません（30分間ご利用がなかったため、片付けました）。もう一度zipファイルを選んでください。".to_owned(),
            ],
            Self::Archive(problems) => problems.iter().map(problem_text).collect(),
        }
    }
}

fn problem_text(problem: &ArchiveProblem) -> String {
    let text = reader_text(&problem.error);
    match &problem.entry {
        Some(entry) => format!("{entry}：{text}"),
        None => text,
    }
}

/// What is wrong, for somebody who received the zip and did not make it.
fn reader_text(error: &ArchiveError) -> String {
    match error {
        ArchiveError::NotAZip => "zipファイルでもPDFファイルでもないため、開けません。".to_owned(),
        ArchiveError::Broken(_) | ArchiveError::EntryBroken => {
            "zipファイルが壊れています（途中で切れているか、中の記録が食い違っています）。もう一度受け取り直してください。".to_owned()
        }
        ArchiveError::PasswordMissing => "パスワードを入力してください。".to_owned(),
        ArchiveError::WrongPassword => {
            "パスワードが違います。大文字・小文字と、数字の「0」と英字の「O」などをご確認のうえ、もう一度入力してください。".to_owned()
        }
        ArchiveError::PasswordTooLong => "パスワードが長すぎます。".to_owned(),
        ArchiveError::NotEncrypted => "パスワードが付いていません。".to_owned(),
        ArchiveError::Empty => "zipファイルの中にファイルがありません。".to_owned(),
        ArchiveError::TooManyEntries(count) => format!(
            "zipファイルの中のファイルが多すぎるため（{count}件）、開けません（{}件まで）。",
            archive::ENTRY_LIMIT
        ),
        ArchiveError::TooLarge { limit_bytes, .. } => format!(
            "開いたときの大きさが上限（{}MB）を超えるため、開けません。",
            limit_bytes / 1024 / 1024
        ),
        ArchiveError::RatioTooHigh => {
            "開いたときの大きさが異常に大きくなるため、安全のため開きません。送り主にご確認ください。".to_owned()
        }
        ArchiveError::DuplicateNames => {
            "同じ名前のファイルが2つ以上入っているため、開けません。送り主にご確認ください。".to_owned()
        }
        ArchiveError::Name(_) | ArchiveError::NotAFile => {
            "ファイル名または種類が通常のものではないため、安全のため開きません。送り主にご確認ください。".to_owned()
        }
        ArchiveError::UnsupportedMethod => {
            "zipファイルの作り方が特殊なため、開けません。送り主に、標準の圧縮方式で作り直すよう依頼してください。".to_owned()
        }
    }
}

impl Desk {
    /// Takes a file in place of the one that lay there. A zip whose password is remembered, or
    /// that has none, is open at once; a PDF too.
    ///
    /// # Errors
    /// [`DeskError`]; nothing lies on the desk then.
    pub fn lay(
        &mut self,
        name: &str,
        bytes: Zeroizing<Vec<u8>>,
        now: Instant,
    ) -> Result<Step, DeskError> {
        self.handle_timeout(now);
        self.looked_at = Some(now);
        self.pile = None;
        self.number += 1;
        if bytes.len() > FILE_LIMIT_BYTES {
            return Err(DeskError::TooLarge);
        }
        let name = plain_name(name);
        if is_pdf(&bytes) && !archive::looks_like_zip(&bytes) {
            let document = Document::new(name.clone(), bytes);
            self.open(name, vec![document]);
            return Ok(Step::Opened);
        }
        match read(&bytes, self.password.as_ref()) {
            Ok(documents) => {
                self.open(name, documents);
                Ok(Step::Opened)
            }
            Err(error) if error.is_about_the_password() => {
                let sheets = Sheets::Sealed(bytes);
                self.pile = Some(Pile { name, sheets });
                Ok(Step::AskPassword)
            }
            Err(error) => Err(error),
        }
    }

    /// Tries a password on the zip that waits. A right one is remembered.
    ///
    /// # Errors
    /// [`DeskError`]; after a wrong password the zip still waits.
    pub fn unlock(&mut self, typed: String, now: Instant) -> Result<(), DeskError> {
        let password = Password::new(typed);
        self.handle_timeout(now);
        let Some(Pile {
            name,
            sheets: Sheets::Sealed(bytes),
        }) = &self.pile
        else {
            return Err(DeskError::NothingWaits);
        };
        self.looked_at = Some(now);
        let documents = read(bytes, Some(&password))?;
        let name = name.clone();
        self.password = Some(password);
        self.open(name, documents);
        Ok(())
    }

    /// What lies there.
    pub fn look(&mut self, now: Instant) -> Sight {
        self.handle_timeout(now);
        let Some(pile) = &self.pile else {
            return Sight::Empty;
        };
        self.looked_at = Some(now);
        let name = pile.name.clone();
        match &pile.sheets {
            Sheets::Sealed(_) => Sight::Sealed { name },
            Sheets::Open(documents) => Sight::Open {
                name,
                number: self.number,
                documents: documents.iter().map(Document::listed).collect(),
            },
        }
    }

    /// One document of file `number`, if that still lies there.
    pub fn document(&mut self, number: u64, index: usize, now: Instant) -> Option<Document> {
        self.handle_timeout(now);
        match &self.pile.as_ref()?.sheets {
            Sheets::Open(documents) if number == self.number => {
                let document = documents.get(index)?.clone();
                self.looked_at = Some(now);
                Some(document)
            }
            Sheets::Open(_) | Sheets::Sealed(_) => None,
        }
    }

    /// Puts everything away and forgets the password.
    pub fn clear(&mut self) {
        self.pile = None;
        self.password = None;
        self.looked_at = None;
    }

    /// Clears the desk if nobody looked for [`KEPT_FOR`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.clear();
        }
    }

    /// When the desk has to be cleared.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.looked_at.map(|at| at + KEPT_FOR)
    }

    fn open(&mut self, name: String, documents: Vec<Document>) {
        let sheets = Sheets::Open(documents);
        self.pile = Some(Pile { name, sheets });
    }
}

impl DeskError {
    /// Whether another password may help.
    pub fn is_about_the_password(&self) -> bool {
        match self {
            Self::Archive(problems) => problems.iter().any(|problem| {
                matches!(
                    problem.error,
                    ArchiveError::PasswordMissing
                        | ArchiveError::WrongPassword
                        | ArchiveError::PasswordTooLong
                )
            }),
            Self::TooLarge | Self::NothingWaits => false,
        }
    }
}

impl Document {
    fn new(name: String, bytes: Zeroizing<Vec<u8>>) -> Self {
        let kind = if is_pdf(&bytes) {
            Kind::Pdf
        } else {
            Kind::Other
        };
        Self {
            name,
            bytes: Bytes::from_owner(bytes),
            kind,
        }
    }

    fn listed(&self) -> Listed {
        Listed {
            name: self.name.clone(),
            size_bytes: self.bytes.len(),
            kind: self.kind,
        }
    }
}

fn read(bytes: &[u8], password: Option<&Password>) -> Result<Vec<Document>, DeskError> {
    let opened = archive::open_with(bytes, password, Plain::Taken).map_err(DeskError::Archive)?;
    let document = |entry: archive::Entry| Document::new(entry.name, Zeroizing::new(entry.bytes));
    Ok(opened.entries.into_iter().map(document).collect())
}

fn is_pdf(bytes: &[u8]) -> bool {
    let reach = &bytes[..bytes.len().min(PDF_MARK_REACH_BYTES)];
    reach.windows(5).any(|window| window == b"%PDF-")
}

/// The last part of a name or path, as it is shown.
fn plain_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let shown: String = last
        .chars()
        .filter(|c| {
            !c.is_control() && !matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
        })
        .take(NAME_LIMIT_CHARS)
        .collect();
    if shown.is_empty() {
        "名前のないファイル".to_owned()
    } else {
        shown
    }
}

impl fmt::Debug for Pile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sheets = match &self.sheets {
            Sheets::Sealed(bytes) => format!("{} sealed bytes", bytes.len()),
            Sheets::Open(documents) => format!("{} documents", documents.len()),
        };
        write!(f, "Pile({sheets})")
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({:?}, {} bytes)", self.kind, self.bytes.len())
    }
}

#[cfg(test)]
mod tests;
