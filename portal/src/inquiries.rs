//! お問い合わせ: a member asks, staff answer, both read one thread (FEATURES S003-49).
//!
//! What is written may be about people: it is sealed in the database, no mail holds any of it,
//! and an individual number is refused. A thread is seen by who began it and by the admin of the
//! establishment.

pub mod pages;
pub mod store;

use crate::filings::individual_number;

/// Characters of one message.
pub const TEXT_LIMIT_CHARS: usize = 2_000;
/// Messages of one thread.
pub const MESSAGES_LIMIT: u64 = 60;
/// Threads of one establishment that are not closed.
pub const OPEN_LIMIT: u64 = 20;

/// What a thread is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// How something is done.
    HowTo,
    /// A filing.
    Filing,
    /// A notice.
    Notice,
    /// A PC, the connection, the sign-in.
    Connection,
    /// One person for several establishments (FEATURES S003-18, S003-37).
    SeveralEstablishments,
    /// Anything else.
    Other,
}

/// Where a thread stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The office has to answer.
    Waiting,
    /// The office answered last.
    Answered,
    /// It is over.
    Closed,
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Nothing.
    #[error("nothing written")]
    Empty,
    /// Too much.
    #[error("longer than {TEXT_LIMIT_CHARS} characters")]
    TooLong,
    /// An individual number.
    #[error("an individual number stands in it")]
    IndividualNumber,
    /// No subject was chosen.
    #[error("no subject")]
    NoSubject,
    /// Too many threads are open.
    #[error("{OPEN_LIMIT} threads are open")]
    TooMany,
    /// The thread is over, or full.
    #[error("the thread takes no more messages")]
    Closed,
}

impl Subject {
    /// Every one, in the order of the form.
    pub const ALL: [Self; 6] = [
        Self::HowTo,
        Self::Filing,
        Self::Notice,
        Self::Connection,
        Self::SeveralEstablishments,
        Self::Other,
    ];

    /// The word in the database and in forms.
    pub fn code(self) -> &'static str {
        match self {
            Self::HowTo => "how_to",
            Self::Filing => "filing",
            Self::Notice => "notice",
            Self::Connection => "connection",
            Self::SeveralEstablishments => "several_establishments",
            Self::Other => "other",
        }
    }

    /// Reads the word back.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|subject| subject.code() == code)
    }

    /// As people read it.
    pub fn label(self) -> &'static str {
        match self {
            Self::HowTo => "操作の方法",
            Self::Filing => "届書の提出・差戻し",
            Self::Notice => "通知書の受け取り",
            Self::Connection => "接続・ログイン・パソコン",
            Self::SeveralEstablishments => "複数の事業所での利用・社会保険労務士の利用",
            Self::Other => "その他",
        }
    }
}

impl State {
    const ALL: [Self; 3] = [Self::Waiting, Self::Answered, Self::Closed];

    /// The word in the database.
    pub fn code(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Answered => "answered",
            Self::Closed => "closed",
        }
    }

    /// Reads the word back.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// The chip's colour and word.
    pub fn chip(self) -> (&'static str, &'static str) {
        match self {
            Self::Waiting => ("warning", "回答待ち"),
            Self::Answered => ("success", "回答済み"),
            Self::Closed => ("neutral", "終了"),
        }
    }
}

impl MessageError {
    /// For the page.
    pub fn page_text(self) -> String {
        match self {
            Self::Empty => "内容を入力してください。".into(),
            Self::TooLong => format!("{TEXT_LIMIT_CHARS}文字以内で入力してください。"),
            Self::IndividualNumber => "個人番号（マイナンバー）と思われる12桁の数字があります。個人番号は送れません。削除してください。".into(),
            Self::NoSubject => "お問い合わせの種類を選んでください。".into(),
            Self::TooMany => format!(
                "終わっていないお問い合わせが{OPEN_LIMIT}件あります。続きは、すでにあるお問い合わせの画面から送ってください。"
            ),
            Self::Closed => "このお問い合わせは終了しています。新しいお問い合わせを送ってください。".into(),
        }
    }
}

/// A message as it will be kept.
///
/// # Errors
/// What is wrong with it.
pub fn check(text: &str) -> Result<&str, MessageError> {
    let text = text.trim();
    match text.chars().count() {
        0 => Err(MessageError::Empty),
        1..=TEXT_LIMIT_CHARS if individual_number::occurs(text) => {
            Err(MessageError::IndividualNumber)
        }
        1..=TEXT_LIMIT_CHARS => Ok(text),
        _ => Err(MessageError::TooLong),
    }
}

#[cfg(test)]
mod tests;
