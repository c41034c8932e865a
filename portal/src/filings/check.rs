//! The whole check of what somebody hands in: archive, names, and every rule about a file.
//!
//! All or nothing: an upload with one bad file is refused as a whole, and everything that is
//! wrong with any of its files is said at once, so that nobody has to try five times.
//! Nothing is stored here and nothing of a refused upload remains; texts name files, never
//! what stands in them.
//!
//! # A further rule
//! Implement [`Rule`] (see [`IsDocument`]), give it a variant in [`Fault`] with its
//! `page_text`, and put it into the list that the caller hands to [`check_upload`]. Rules run
//! in their order; the first that a file breaks is the one that is told.

use std::fmt;

use archive::{ArchiveError, Password, Protection};
use protocol::EstablishmentNumber;
use sha2::{Digest, Sha256};
use time::Date;
use unicode_normalization::UnicodeNormalization;

use super::individual_number::{self, without_number};
use super::kinds::Kinds;
use super::names::{self, FilingName, NameError};
use super::pdf::{self, PdfError};
use crate::text_layer::worker::Searcher;

/// How large an upload may be, as it arrives.
pub const UPLOAD_LIMIT_BYTES: usize = 200 * 1024 * 1024;

/// What somebody hands in.
#[derive(Debug)]
pub struct Upload<'a> {
    /// The name that the file has at the sender's.
    pub file_name: &'a str,
    /// The file as it arrived.
    pub bytes: &'a [u8],
    /// The zip's password, if one was given.
    pub password: Option<&'a Password>,
    /// Who files.
    pub establishment: EstablishmentNumber,
    /// The names that were chosen in the form, or accepted as suggestions.
    pub chosen: &'a [ChosenName],
    /// The day in Japan.
    pub today: Date,
    /// The kinds of filings that there are.
    pub kinds: &'a Kinds,
}

/// A name that the sender chose to stand for a file's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenName {
    /// Which file in the zip, by its own name; `None` for the only file of the upload.
    pub entry: Option<String>,
    /// The name.
    pub name: FilingName,
}

/// An upload that may be taken in.
#[derive(Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The filings, in the order of the archive; at least one.
    pub files: Vec<CheckedFile>,
    /// What the sender should know although it was accepted.
    pub warnings: Vec<Warning>,
}

/// One filing that passed every rule.
#[derive(PartialEq, Eq)]
pub struct CheckedFile {
    /// Its name by the rule.
    pub name: FilingName,
    /// The name it had at the sender's, in NFC.
    pub original_name: String,
    /// The PDF.
    pub bytes: Vec<u8>,
    /// The fingerprint for the receipt.
    pub sha256: [u8; 32],
    /// How many pages it has.
    pub pages: usize,
    /// The fingerprint of what its pages show, if that can be told: it stays the same when the
    /// file is saved anew.
    pub content: Option<[u8; 32]>,
}

impl fmt::Debug for CheckedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedFile")
            .field("name", &self.name.to_string())
            .field("size_bytes", &self.bytes.len())
            .field("pages", &self.pages)
            .finish_non_exhaustive()
    }
}

/// What the sender should know although the upload was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// The zip was protected by ZipCrypto.
    WeakEncryption,
}

impl Warning {
    /// What to do better next time.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::WeakEncryption => {
                "このzipファイルの暗号（ZipCrypto）は弱い方式です。今回は受け付けましたが、次回からは、PDFのままお送りいただくか、AES-256の暗号で作成してください。"
            }
        }
    }
}

/// An upload that is refused, with everything that is wrong. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the upload is refused: {} problems", problems.len())]
pub struct Refused {
    /// What is wrong, in the order of the archive.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which file in the zip; `None` for the upload itself.
    pub entry: Option<String>,
    /// What is wrong with it.
    pub fault: Fault,
}

impl Problem {
    /// What is wrong and what to do next, for the sender.
    pub fn page_text(&self) -> String {
        self.fault.page_text()
    }

    /// The right name, if the name is what is wrong and the right one is known.
    pub fn suggestion(&self) -> Option<FilingName> {
        match &self.fault {
            Fault::Name(error) => error.suggestion(),
            Fault::Size(_)
            | Fault::Archive(_)
            | Fault::Pdf(_)
            | Fault::Virus(_)
            | Fault::Unscannable
            | Fault::Unscanned
            | Fault::IndividualNumberInName
            | Fault::IndividualNumber { .. } => None,
        }
    }
}

/// What can be wrong with an upload or a file in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Larger than [`UPLOAD_LIMIT_BYTES`].
    #[error("the upload has {0} bytes")]
    Size(usize),
    /// The zip, or how a file lies in it.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The file's name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The file is no acceptable PDF.
    #[error(transparent)]
    Pdf(#[from] PdfError),
    /// The scanner knows something against it: its name for that.
    #[error("virus: {0}")]
    Virus(String),
    /// The scanner is there, and cannot judge this file.
    #[error("the virus scanner gives no verdict on the file")]
    Unscannable,
    /// The scanner gave no verdict.
    #[error("not scanned for viruses")]
    Unscanned,
    /// An individual number stands in the file's name.
    #[error("an individual number in the file's name")]
    IndividualNumberInName,
    /// An individual number stands in it.
    #[error("an individual number on page {page}")]
    IndividualNumber {
        /// The first page with one, from 1.
        page: usize,
    },
}

impl Fault {
    /// What is wrong and what to do next, for the sender.
    pub fn page_text(&self) -> String {
        match self {
            Self::Size(_) => format!(
                "ファイルが大きすぎます（{}MBまで）。分けてお送りください。",
                UPLOAD_LIMIT_BYTES / (1024 * 1024)
            ),
            Self::Archive(error) => error.page_text(),
            Self::Name(error) => error.page_text(),
            Self::Pdf(error) => error.page_text(),
            Self::Virus(name) => format!(
                "ウイルス検査で問題が見つかりました（検出名：{name}）。このファイルは受け付けずに隔離しました。ファイルを開かずに、社内のシステム担当の方へご連絡ください。"
            ),
            Self::Unscannable => {
                "このファイルはウイルス検査ができないため、受け付けずに隔離しました。PDFを作り直してお送りいただくか、基金事務局へご連絡ください。".into()
            }
            Self::Unscanned => {
                "ただいまウイルス検査ができないため、受け付けられません。送信したファイルはそのまま残っています。しばらくしてから、もう一度提出してください。".into()
            }
            Self::IndividualNumberInName => {
                "ファイル名に個人番号（マイナンバー）と思われる12桁の数字があります。基金は個人番号を受け取ることができません。ファイル名を変えて、zipファイルを作り直してお送りください。このファイルは保存していません。".into()
            }
            Self::IndividualNumber { page } => format!(
                "{page}ページ目に個人番号（マイナンバー）と思われる12桁の数字があります。基金は個人番号を受け取ることができません。個人番号を除いて、PDFを作り直してお送りください。このファイルは保存していません。"
            ),
        }
    }
}

/// A rule about the content of one file. It may take its time, and must not be handed to an
/// asynchronous thread: callers run the whole check where blocking is allowed.
pub trait Rule: Send + Sync {
    /// Says whether the file may pass. What it learns, it may note in `facts`.
    ///
    /// # Errors
    /// Why the file may not pass.
    fn check(&self, bytes: &[u8], facts: &mut Facts) -> Result<(), Fault>;
}

/// What the rules learn about a file while they look at it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// How many pages it has.
    pub pages: usize,
    /// The fingerprint of what its pages show.
    pub content: Option<[u8; 32]>,
}

/// The file is a PDF, whole, open, and only a document.
#[derive(Debug, Clone, Copy, Default)]
pub struct IsDocument;

impl Rule for IsDocument {
    fn check(&self, bytes: &[u8], facts: &mut Facts) -> Result<(), Fault> {
        facts.pages = pdf::check(bytes)?.pages;
        Ok(())
    }
}

/// No individual number stands in the file's text.
#[derive(Debug, Clone, Default)]
pub struct HasNoIndividualNumber(pub Searcher);

impl Rule for HasNoIndividualNumber {
    fn check(&self, bytes: &[u8], facts: &mut Facts) -> Result<(), Fault> {
        let examined = self.0.examine(bytes);
        facts.content = examined.content;
        match examined.number_page {
            Some(page) => Err(Fault::IndividualNumber { page }),
            None => Ok(()),
        }
    }
}

/// Checks an upload against the name rule and `rules`. Blocks for as long as that takes.
///
/// # Errors
/// [`Refused`] with everything that is wrong.
pub fn check_upload(upload: &Upload<'_>, rules: &[&dyn Rule]) -> Result<Accepted, Refused> {
    let refuse = |problems: Vec<Problem>| Refused { problems };
    if upload.bytes.len() > UPLOAD_LIMIT_BYTES {
        let fault = Fault::Size(upload.bytes.len());
        return Err(refuse(vec![Problem { entry: None, fault }]));
    }
    let name: String = upload.file_name.nfc().collect();
    let (found, warnings) = if is_archive(&name, upload.bytes) {
        let opened = archive::open(upload.bytes, upload.password).map_err(|problems| {
            let problem = |problem: archive::ArchiveProblem| Problem {
                entry: problem.entry.as_deref().map(without_number),
                fault: problem.error.into(),
            };
            refuse(problems.into_iter().map(problem).collect())
        })?;
        let warnings = match opened.protection {
            Protection::Aes => Vec::new(),
            Protection::ZipCrypto | Protection::Nothing => vec![Warning::WeakEncryption],
        };
        let found = opened.entries.into_iter().map(|entry| Found {
            entry: Some(entry.name.clone()),
            name: entry.name,
            bytes: entry.bytes,
        });
        (found.collect(), warnings)
    } else {
        let found = Found {
            entry: None,
            name,
            bytes: upload.bytes.to_vec(),
        };
        (vec![found], Vec::new())
    };

    let only = found.len() == 1;
    let mut problems = Vec::new();
    let mut files = Vec::new();
    for file in found {
        let chosen = upload.chosen.iter().find(|chosen| match &chosen.entry {
            Some(entry) => *entry == file.name,
            None => only,
        });
        match check_file(&file, chosen.map(|chosen| chosen.name), upload, rules) {
            Ok((name, facts)) => files.push(CheckedFile {
                name,
                sha256: Sha256::digest(&file.bytes).into(),
                original_name: file.name,
                bytes: file.bytes,
                pages: facts.pages,
                content: facts.content,
            }),
            Err(faults) => problems.extend(faults.into_iter().map(|fault| Problem {
                entry: file.entry.as_deref().map(without_number),
                fault,
            })),
        }
    }
    if problems.is_empty() {
        Ok(Accepted { files, warnings })
    } else {
        Err(refuse(problems))
    }
}

/// A file that was handed in, alone or in a zip.
struct Found {
    entry: Option<String>,
    name: String,
    bytes: Vec<u8>,
}

/// The name's faults and the content's first, together.
fn check_file(
    file: &Found,
    chosen: Option<FilingName>,
    upload: &Upload<'_>,
    rules: &[&dyn Rule],
) -> Result<(FilingName, Facts), Vec<Fault>> {
    // Nothing else is said of it, for other sentences quote the name.
    if individual_number::occurs_in_name(&file.name) {
        return Err(vec![Fault::IndividualNumberInName]);
    }
    let own_name = names::parse(
        &file.name,
        upload.establishment,
        Some(upload.today),
        upload.kinds,
    );
    let name = match (chosen, own_name) {
        // Nobody's filing lands in another establishment's with one click.
        (Some(_), Err(error)) if error.names_another_establishment() => Err(error),
        (Some(name), _) => {
            let today = Some(upload.today);
            names::parse(&name.file_name(), upload.establishment, today, upload.kinds)
        }
        (None, own_name) => own_name,
    };
    let mut facts = Facts::default();
    let content = rules
        .iter()
        .try_for_each(|rule| rule.check(&file.bytes, &mut facts));
    match (name, content) {
        (Ok(name), Ok(())) => Ok((name, facts)),
        // Whoever sends a spreadsheet must not be told to call it .pdf.
        (_, Err(fault @ Fault::Pdf(PdfError::NotAPdf))) => Err(vec![fault]),
        (name, content) => Err(name
            .err()
            .map(Fault::from)
            .into_iter()
            .chain(content.err())
            .collect()),
    }
}

/// A file is what its name says; where that says nothing, what it begins like. (An Excel file
/// begins like a zip, but nobody who sends one wants to be asked for a zip's password.)
fn is_archive(name: &str, bytes: &[u8]) -> bool {
    match name.rsplit_once('.') {
        Some((_, extension)) if extension.eq_ignore_ascii_case("zip") => true,
        Some((_, extension)) if extension.is_ascii() && !extension.is_empty() => false,
        _ => archive::looks_like_zip(bytes),
    }
}

#[cfg(test)]
mod tests;
