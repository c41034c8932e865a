//! Notices (通知): what the fund sends to establishments, and who has fetched it.
//!
//! A notice is issued once and never changes. The portal records who fetched it, when, from
//! which PC and in which form; the first fetch stands in the filing's timeline. Mails tell
//! that a notice waits, and nothing of what is in it.

pub mod bundle;
pub mod determination;
pub mod pages;
pub mod store;

use time::OffsetDateTime;

use crate::ids::{DocumentId, EstablishmentId, FilingId, NoticeId};

/// A notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its id.
    pub id: NoticeId,
    /// Its number (文書番号).
    pub number: String,
    /// Whom it is for.
    pub establishment: EstablishmentId,
    /// The filing that it answers.
    pub filing: Option<FilingId>,
    /// The sealed PDF.
    pub document: DocumentId,
    /// What it is, for lists.
    pub title: String,
    /// When it was issued.
    pub issued: OffsetDateTime,
    /// When the establishment fetched it first; `None`: 未読.
    pub first_fetched: Option<OffsetDateTime>,
}

/// In which form a notice is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The PDF itself.
    Pdf,
    /// An AES-256 zip under the establishment's zip password.
    Zip,
}

impl Form {
    /// The word in the database, in paths and in the audit log.
    pub fn code(self) -> &'static str {
        match self {
            Self::Pdf => "pdf",
            Self::Zip => "zip",
        }
    }

    /// Reads the word back.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Pdf, Self::Zip]
            .into_iter()
            .find(|form| form.code() == code)
    }

    /// As people read it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pdf => "PDF",
            Self::Zip => "zip（パスワード付き）",
        }
    }
}
