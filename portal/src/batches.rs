//! Batches of notices (一括発行, R9): one PDF per establishment by name rule, or one CSV from
//! which the contribution documents are made; checked as a whole, released by a second person.
//!
//! A batch is all or nothing. What is wrong with any file or line stops it and is named; a
//! stopped batch keeps no document. A checked one lies sealed until somebody else releases it,
//! and then all its notices exist from one moment on ([`store::release`]): there is no state
//! in which half of it is out. Mails follow in small transactions of their own ([`mails`]),
//! each of which marks whom it told, so that a crash neither forgets nor repeats one.

pub mod guard;
pub mod intake;
pub mod mails;
pub mod names;
pub mod pages;
pub mod store;
pub mod table;

use protocol::EstablishmentNumber;
use time::{Month, OffsetDateTime};

use crate::app::App;
use crate::audit::{self, Act};
use crate::db::{StoreError, Tx};
use crate::ids::{BatchId, StaffId};
use crate::web::principals::Staff;

/// Files or lines that one batch may have: a fund of 1,000 establishments with two each.
pub const ITEM_LIMIT: usize = 2_000;
/// What is dropped at once may have this size, in bytes.
pub const DROP_LIMIT_BYTES: u64 = 128 * 1024 * 1024;
/// What the title of a correction begins with.
const CORRECTED: &str = "【訂正】";
/// A batch that nobody released is thrown away after this long.
pub const LIFETIME: time::Duration = time::Duration::days(30);

/// From what a batch is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// PDFs, or zips of them.
    Files,
    /// One CSV with a line for each establishment.
    Csv,
}

impl Source {
    /// The word in the database and in forms.
    pub fn code(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Csv => "csv",
        }
    }

    /// Reads the word back.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Files, Self::Csv]
            .into_iter()
            .find(|source| source.code() == code)
    }

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Files => "PDFファイル",
            Self::Csv => "CSVから作成",
        }
    }
}

/// Whether a batch is the first for its month or corrects what was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edition {
    /// The first.
    First,
    /// In place of what was issued before; both stay (電子帳簿保存法).
    Correction,
}

impl Edition {
    /// The word in the database and in forms.
    pub fn code(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Correction => "correction",
        }
    }

    /// Reads the word back.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::First, Self::Correction]
            .into_iter()
            .find(|edition| edition.code() == code)
    }
}

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Something is wrong; nothing was kept.
    Stopped,
    /// Everything fits; it waits for a second person's word (`approvals`).
    Checked,
    /// Its notices are issued.
    Released,
    /// It was thrown away.
    Discarded,
}

impl State {
    const ALL: [Self; 4] = [
        Self::Stopped,
        Self::Checked,
        Self::Released,
        Self::Discarded,
    ];

    /// The word in the database.
    pub fn code(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Checked => "checked",
            Self::Released => "released",
            Self::Discarded => "discarded",
        }
    }

    /// Reads the word back.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// Colour and word for a page.
    pub fn chip(self) -> (&'static str, &'static str) {
        match self {
            Self::Stopped => ("error", "停止（問題あり）"),
            Self::Checked => ("info", "確認中"),
            Self::Released => ("success", "発行済"),
            Self::Discarded => ("neutral", "破棄"),
        }
    }
}

/// A month of contributions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetMonth {
    year: i32,
    month: Month,
}

impl TargetMonth {
    /// Years that a form may name.
    const YEARS: std::ops::RangeInclusive<i32> = 2019..=2099;

    /// Reads `2026-10`, as the browser's month field and the database write it.
    pub fn read(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let digits = |text: &str, length| {
            (text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| text.parse::<i32>().ok())
                .flatten()
        };
        let year = digits(year, 4).filter(|year| Self::YEARS.contains(year))?;
        let month = u8::try_from(digits(month, 2)?).ok()?;
        let month = Month::try_from(month).ok()?;
        Some(Self { year, month })
    }

    /// `2026-10`
    pub fn code(self) -> String {
        format!("{}-{:02}", self.year, u8::from(self.month))
    }

    /// `令和8年10月分`
    pub fn name(self) -> String {
        const REIWA_BEFORE: i32 = 2018;
        let year = match self.year - REIWA_BEFORE {
            1 => "元".to_owned(),
            year => year.to_string(),
        };
        format!("令和{year}年{}月分", u8::from(self.month))
    }

    /// The month before the one that this instant is in: what a batch is mostly about.
    pub fn before(now: OffsetDateTime) -> Self {
        let today = now.to_offset(access::JST).date();
        let (year, month) = (today.year(), today.month());
        Self {
            year: if month == Month::January {
                year - 1
            } else {
                year
            },
            month: month.previous(),
        }
    }
}

/// A batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its id.
    pub id: BatchId,
    /// `2026-003`
    pub number: String,
    /// From what it was made.
    pub source: Source,
    /// What month it is about.
    pub month: TargetMonth,
    /// First or correction.
    pub edition: Edition,
    /// Where it stands.
    pub state: State,
    /// Who made it.
    pub made_by: StaffId,
    /// When.
    pub made: OffsetDateTime,
    /// When its notices were issued.
    pub released: Option<OffsetDateTime>,
}

/// Why something cannot be done with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// It stands elsewhere than the page showed, or somebody else was first.
    #[error("the batch is {0:?}")]
    Moved(State),
    /// Whoever made it cannot be the second person, even if somebody else proposed it.
    #[error("the second person must be another one")]
    OwnBatch,
    /// What was issued for its month is not what it was made for any more: another batch for
    /// the month was released meanwhile, or a notice that it corrects was recalled.
    #[error("notices of {places} establishments, {first} among them, changed meanwhile")]
    Overtaken {
        /// The lowest number among them.
        first: EstablishmentNumber,
        /// How many establishments.
        places: u64,
    },
    /// Nobody is left to remind.
    #[error("everything was fetched")]
    NobodyToRemind,
    /// They were reminded today.
    #[error("reminded today already")]
    RemindedToday,
}

impl BatchError {
    /// What happened and what to do next, for staff.
    pub fn page_text(self) -> String {
        match self {
            Self::Moved(state) => format!(
                "この一括発行は、いま「{}」です。画面を更新して、状態をご確認ください。",
                state.chip().1
            ),
            Self::OwnBatch => "一括発行を作成した方とは別の責任者が承認してください。".into(),
            Self::Overtaken { first, places } => {
                let others = match places {
                    0 | 1 => String::new(),
                    places => format!("ほか{}事業所", places - 1),
                };
                format!(
                    "この一括発行を作成した後に、同じ月の通知書が別の一括発行で発行されたか、取り消されました（事業所番号{first}{others}）。二重に発行しないよう、何も発行していません。申請を却下してこの一括発行を破棄し、発行済みの通知書を確認してから、作り直してください。"
                )
            }
            Self::NobodyToRemind => {
                "すべて受け取られているため、お知らせする相手がいません。".into()
            }
            Self::RemindedToday => {
                "今日はすでに再度のお知らせを送っています。次は明日以降に送れます。".into()
            }
        }
    }
}

impl Batch {
    /// Whether it can be put before a second person.
    ///
    /// # Errors
    /// [`BatchError::Moved`].
    pub fn propose(&self) -> Result<(), BatchError> {
        self.expect(&[State::Checked])
    }

    /// Whether `by`, the second person, can release it.
    ///
    /// # Errors
    /// [`BatchError`].
    pub fn release(&self, by: StaffId) -> Result<(), BatchError> {
        self.expect(&[State::Checked])?;
        if self.made_by == by {
            return Err(BatchError::OwnBatch);
        }
        Ok(())
    }

    /// Whether it can be thrown away.
    ///
    /// # Errors
    /// [`BatchError::Moved`].
    pub fn discard(&self) -> Result<(), BatchError> {
        self.expect(&[State::Checked, State::Stopped])
    }

    /// Whether reminders can be sent.
    ///
    /// # Errors
    /// [`BatchError::Moved`].
    pub fn remind(&self) -> Result<(), BatchError> {
        self.expect(&[State::Released])
    }

    fn expect(&self, states: &[State]) -> Result<(), BatchError> {
        if states.contains(&self.state) {
            Ok(())
        } else {
            Err(BatchError::Moved(self.state))
        }
    }
}

/// What staff who look a checked batch over should know about one of its documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remark {
    /// Nothing.
    Nothing,
    /// The establishment's own number and name do not stand in the text.
    OwnNameMissing,
    /// No text can be read: a scan.
    TextUnread,
}

impl Remark {
    const ALL: [Self; 3] = [Self::Nothing, Self::OwnNameMissing, Self::TextUnread];

    /// The word in the database.
    pub fn code(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::OwnNameMissing => "own_number_missing",
            Self::TextUnread => "text_unread",
        }
    }

    /// Reads the word back.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|remark| remark.code() == code)
    }

    /// For the page; empty if there is nothing to say.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::OwnNameMissing => {
                "本文に、この事業所の番号も名称も見つかりません。内容を目でご確認ください。"
            }
            Self::TextUnread => {
                "本文の文字を読み取れないPDF（スキャンなど）のため、送り先の誤りを確認できません。内容を目でご確認ください。"
            }
        }
    }
}

/// Issues a batch: what `approvals` does when a second person agrees, in that transaction.
/// Mails follow after it ([`mails::tell`]).
///
/// # Errors
/// [`ReleaseError`].
pub async fn release(
    tx: &mut Tx,
    app: &App,
    id: BatchId,
    staff: &Staff,
    now: OffsetDateTime,
) -> Result<(), ReleaseError> {
    let batch = store::find_in(tx, id).await?.ok_or(ReleaseError::Gone)?;
    batch.release(staff.id())?;
    let issued = store::release(tx, &batch, staff.id(), now).await??;
    let details = serde_json::json!({ "notices": issued });
    let (actor, act) = (staff.actor(), Act::BatchReleased(id));
    audit::record_with(tx, &app.keys, &actor, act, "", &details, now).await?;
    Ok(())
}

/// A batch cannot be released.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// There is no such batch.
    #[error("no such batch")]
    Gone,
    /// The rules say no.
    #[error(transparent)]
    Refused(#[from] BatchError),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ReleaseError {
    /// What staff are told; `None` if the fault is ours.
    pub fn page_text(&self) -> Option<String> {
        match self {
            Self::Gone | Self::Store(_) => None,
            Self::Refused(error) => Some(error.page_text()),
        }
    }
}

#[cfg(test)]
mod tests;
