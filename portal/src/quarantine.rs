//! Quarantine (隔離): files that the virus scanner knows something against, or cannot judge.
//!
//! Such a file is never received. It is kept sealed as it came, no page shows it, and no
//! reviewer knows of it. The supervisor sees that it is there and destroys it, or proposes its
//! release; when somebody else agrees (`approvals`), the sender may hand in the same file, to
//! the byte, once more, and the scanner's word does not count for it. Every other check does.

pub mod pages;
pub mod store;

use time::OffsetDateTime;

use crate::app::App;
use crate::audit::{self, Act};
use crate::custody::{self, CustodyError};
use crate::db::{Db, StoreError, Tx};
use crate::filings::check::{Fault, Problem};
use crate::ids::QuarantineId;
use crate::uploads::Upload;
use crate::web::principals::{Member, Staff};

/// Why a file is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The scanner knows it, under this name.
    Virus(String),
    /// The scanner is there, and gives no verdict on it.
    Unscannable,
}

impl Finding {
    /// What of a file's problems is a reason to hold it.
    pub fn among(problems: &[Problem]) -> Option<Self> {
        problems.iter().find_map(|problem| match &problem.fault {
            Fault::Virus(name) => Some(Self::Virus(name.clone())),
            Fault::Unscannable => Some(Self::Unscannable),
            Fault::Size(_)
            | Fault::Archive(_)
            | Fault::Name(_)
            | Fault::Pdf(_)
            | Fault::Unscanned
            | Fault::IndividualNumberInName
            | Fault::IndividualNumber { .. } => None,
        })
    }

    /// The word in the database.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Virus(_) => "virus",
            Self::Unscannable => "unscannable",
        }
    }

    /// Reads the words in the database.
    pub fn from_words(code: &str, signature: String) -> Option<Self> {
        match code {
            "virus" => Some(Self::Virus(signature)),
            "unscannable" => Some(Self::Unscannable),
            _ => None,
        }
    }

    /// As people read it.
    pub fn page_text(&self) -> String {
        match self {
            Self::Virus(name) => format!("ウイルスの疑い（検出名：{name}）"),
            Self::Unscannable => "ウイルス検査ができないファイル".into(),
        }
    }
}

/// Holds a file. Of the same file, handed in twice, one is held.
///
/// # Errors
/// If it cannot be kept.
pub async fn hold(
    app: &App,
    member: &Member,
    upload: &Upload,
    bytes: Vec<u8>,
    finding: &Finding,
    now: OffsetDateTime,
) -> Result<(), CustodyError> {
    let sealed = custody::seal(app, member.establishment(), &upload.file_name, bytes, 0).await?;
    let id = QuarantineId::new();
    let mut tx = app.db.begin().await?;
    if store::is_held(&mut tx, member, &sealed.document().sha256).await? {
        drop(tx);
        custody::discard(app, [sealed]).await;
        return Ok(());
    }
    store::hold(&mut tx, member, id, sealed, finding, now).await?;
    let act = Act::FileQuarantined(id, finding.code());
    audit::record(&mut tx, &app.keys, &member.actor(), act, now).await?;
    Ok(Db::commit(tx).await?)
}

/// A file cannot be released or destroyed.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// Somebody decided about it before.
    #[error("the file is not held any more")]
    NotHeld,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl QuarantineError {
    /// What staff are told; `None` if the fault is ours.
    pub fn page_text(&self) -> Option<String> {
        match self {
            Self::NotHeld => Some(
                "このファイルは、すでに解放または廃棄されています。一覧をご確認ください。".into(),
            ),
            Self::Store(_) => None,
        }
    }
}

/// Lets the sender hand the same file in again: the effect of an approval.
///
/// # Errors
/// [`QuarantineError`].
pub async fn release(
    tx: &mut Tx,
    app: &App,
    id: QuarantineId,
    staff: &Staff,
    now: OffsetDateTime,
) -> Result<(), QuarantineError> {
    if !store::decide(tx, id, "released", staff, now).await? {
        return Err(QuarantineError::NotHeld);
    }
    let act = Act::QuarantineReleased(id);
    audit::record(tx, &app.keys, &staff.actor(), act, now).await?;
    Ok(())
}
