//! 送受信履歴: everything that was sent and received, by both sides (FEATURES S003-03).
//!
//! A filing's timeline says what became of one filing; this is the one list of what passed
//! between the establishments and the fund. Each entry is written by the store function that
//! writes the thing itself ([`store::of_filing`], [`store::of_notice`],
//! [`store::of_batch`]), in its transaction, and
//! never changes. Internal steps, such as a reviewer taking a case, are no exchange and not here.
//!
//! Nothing here decides who may look: the pages ask their principals.

pub mod export;
pub mod pages;
pub mod search;
pub mod store;

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;

use crate::clock::{from_unix_ms, unix_ms};
use crate::filings::Event;
use crate::ids::RowId;
use crate::web::layout::Side;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entry {
    /// An establishment handed a filing in.
    Filed,
    /// A filing came on paper, and staff wrote it down.
    FiledOnPaper,
    /// The establishment took a filing back.
    Withdrawn,
    /// The fund returned a filing.
    Returned,
    /// The fund decided a filing.
    Decided,
    /// The fund issued a notice.
    Issued,
    /// The establishment fetched a notice.
    Fetched,
    /// The fund recalled a notice that nobody had fetched.
    Recalled,
}

/// Which way something went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the establishment to the fund.
    ToFund,
    /// From the fund to the establishment.
    ToEstablishment,
}

impl Entry {
    /// Every one, in the order of the search form.
    pub const ALL: [Self; 8] = [
        Self::Filed,
        Self::FiledOnPaper,
        Self::Withdrawn,
        Self::Returned,
        Self::Decided,
        Self::Issued,
        Self::Fetched,
        Self::Recalled,
    ];

    /// The entry that a step on a filing's timeline is, if it is an exchange.
    pub fn of_event(event: Event) -> Option<Self> {
        match event {
            Event::Received => Some(Self::Filed),
            Event::CameOnPaper => Some(Self::FiledOnPaper),
            Event::Withdrawn => Some(Self::Withdrawn),
            Event::Returned => Some(Self::Returned),
            Event::Decided => Some(Self::Decided),
            // Internal, or written with the thing itself: a corrected filing, a notice, a fetch.
            Event::Taken
            | Event::Assigned
            | Event::Released
            | Event::WithdrawalAsked
            | Event::WithdrawalDeclined
            | Event::Commented
            | Event::Resubmitted
            | Event::Noticed
            | Event::Fetched => None,
        }
    }

    /// The word in the database and in addresses.
    pub fn code(self) -> &'static str {
        match self {
            Self::Filed => "filed",
            Self::FiledOnPaper => "filed_on_paper",
            Self::Withdrawn => "withdrawn",
            Self::Returned => "returned",
            Self::Decided => "decided",
            Self::Issued => "issued",
            Self::Fetched => "fetched",
            Self::Recalled => "recalled",
        }
    }

    /// Reads the word back.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|entry| entry.code() == code)
    }

    /// As people read it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Filed => "届書の提出",
            Self::FiledOnPaper => "紙での届出",
            Self::Withdrawn => "取下げ",
            Self::Returned => "差戻し",
            Self::Decided => "決定",
            Self::Issued => "通知書の発行",
            Self::Fetched => "通知書の受け取り",
            Self::Recalled => "通知書の取消し",
        }
    }

    /// The chip's colour.
    pub fn colour(self) -> &'static str {
        match self {
            Self::Filed | Self::FiledOnPaper | Self::Issued => "info",
            Self::Decided | Self::Fetched => "success",
            Self::Returned => "error",
            Self::Withdrawn | Self::Recalled => "neutral",
        }
    }

    /// Which way it went.
    pub fn way(self) -> Way {
        match self {
            Self::Filed | Self::FiledOnPaper | Self::Withdrawn => Way::ToFund,
            Self::Returned | Self::Decided | Self::Issued | Self::Fetched | Self::Recalled => {
                Way::ToEstablishment
            }
        }
    }
}

impl Way {
    /// 送信 or 受信, as `side` sees it.
    pub fn label(self, side: Side) -> &'static str {
        match (self, side) {
            (Self::ToFund, Side::Member) | (Self::ToEstablishment, Side::Office) => "送信",
            (Self::ToFund, Side::Office) | (Self::ToEstablishment, Side::Member) => "受信",
        }
    }
}

/// A place in the list: after it comes what is older, before it what is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// When.
    pub at: OffsetDateTime,
    /// Among those of one millisecond.
    pub id: RowId,
}

/// A text that is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position in the history")]
pub struct NotAPosition;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", unix_ms(self.at), self.id)
    }
}

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        // 14 digits are the year 5138: more than a date can hold is no position.
        const DIGITS_LIMIT: usize = 14;
        let (at, id) = text.split_once('.').ok_or(NotAPosition)?;
        if at.len() > DIGITS_LIMIT {
            return Err(NotAPosition);
        }
        Ok(Self {
            at: from_unix_ms(at.parse().map_err(|_| NotAPosition)?),
            id: id.parse().map_err(|_| NotAPosition)?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
