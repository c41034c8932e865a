//! Notices (通知): what the fund sends to establishments, and who has fetched it.
//!
//! A notice is issued once and never changes. The portal records who fetched it, when, from
//! which PC and in which form; the first fetch stands in the filing's timeline. Mails tell
//! that a notice waits, and nothing of what is in it. Until somebody has fetched it, staff can
//! recall it; afterwards only a correction can follow, and both stay.

pub mod bundle;
pub mod contribution;
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
    /// The amount that it is about, in yen, where it is about money.
    pub amount_yen: Option<i64>,
    /// When staff took it back, if they did.
    pub recalled: Option<OffsetDateTime>,
}

/// What kind of document a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// 決定通知書
    Determination,
    /// 掛金計算書
    Contribution,
    /// 納入告知書
    Payment,
    /// Any other document.
    Other,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [
        Self::Determination,
        Self::Contribution,
        Self::Payment,
        Self::Other,
    ];

    /// The word in the database.
    pub fn code(self) -> &'static str {
        match self {
            Self::Determination => "determination",
            Self::Contribution => "contribution",
            Self::Payment => "payment",
            Self::Other => "other",
        }
    }

    /// Reads the word back.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Determination => "決定通知書",
            Self::Contribution => "掛金計算書",
            Self::Payment => "納入告知書",
            Self::Other => "その他の書類",
        }
    }
}

/// What became of an attempt to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetching {
    /// The first one: 受取済 from now on.
    First,
    /// It was fetched before.
    Again,
    /// Staff recalled it in between: nothing may be handed out.
    Recalled,
}

/// Why a notice cannot be recalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecallError {
    /// Somebody has it.
    #[error("the notice was fetched already")]
    Fetched,
    /// It is recalled already.
    #[error("the notice is recalled already")]
    Recalled,
}

impl RecallError {
    /// What happened and what to do next, for staff.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::Fetched => {
                "この通知書は、すでに事業所が受け取っているため取り消せません。内容を直すときは、訂正版を発行してください（前の版も残ります）。"
            }
            Self::Recalled => "この通知書は、すでに取り消されています。",
        }
    }
}

/// In which form a notice is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The PDF itself.
    Pdf,
    /// An AES-256 zip under the establishment's zip password.
    Zip,
    /// As a part of a pack of records (電子帳簿保存法).
    Pack,
}

impl Form {
    /// The word in the database, in paths and in the audit log.
    pub fn code(self) -> &'static str {
        match self {
            Self::Pdf => "pdf",
            Self::Zip => "zip",
            Self::Pack => "pack",
        }
    }

    /// Reads the word back.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Pdf, Self::Zip, Self::Pack]
            .into_iter()
            .find(|form| form.code() == code)
    }

    /// As people read it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pdf => "PDF",
            Self::Zip => "zip（パスワード付き）",
            Self::Pack => "記録の一式",
        }
    }
}
