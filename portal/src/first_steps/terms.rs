//! The terms of use (利用規約): versions, and who accepted which one when.
//!
//! Version 1 comes with the program; what staff publish afterwards takes its place for
//! everybody. An acceptance is kept with version, time, establishment and PC, for good.

use time::OffsetDateTime;

use super::store;
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::{StoreError, Tx};
use crate::web::principals::{Member, Reviewer};

/// The terms that come with the program.
const FIRST: &str = include_str!("terms.txt");
/// Their version.
pub const FIRST_VERSION: i64 = 1;
/// Longest terms, in characters.
pub const TEXT_LIMIT: usize = 20_000;

/// Terms of use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Counts up from [`FIRST_VERSION`].
    pub version: i64,
    /// Paragraphs, separated by empty lines; a line that begins with 第 is a heading.
    pub text: String,
    /// Since when they are in force; `None` for those of the program.
    pub published: Option<OffsetDateTime>,
}

impl Terms {
    /// The terms that come with the program.
    pub fn first() -> Self {
        Self {
            version: FIRST_VERSION,
            text: FIRST.to_owned(),
            published: None,
        }
    }

    /// The paragraphs.
    pub fn paragraphs(&self) -> Vec<String> {
        self.text
            .replace("\r\n", "\n")
            .split("\n\n")
            .map(|paragraph| paragraph.trim().to_owned())
            .filter(|paragraph| !paragraph.is_empty())
            .collect()
    }
}

/// Why terms were not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Empty or too long.
    #[error("terms are empty or longer than {TEXT_LIMIT} characters")]
    Text,
    /// The same as those in force.
    #[error("terms are those in force")]
    Same,
    /// Somebody else published in the meantime.
    #[error("other terms were published in the meantime")]
    Outrun,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PublishError {
    /// What staff read; `None` if the fault is ours.
    pub fn page_text(&self) -> Option<String> {
        match self {
            Self::Text => Some(format!(
                "利用規約は1文字以上{TEXT_LIMIT}文字以内で入力してください。"
            )),
            Self::Same => Some("いまの利用規約と同じ内容です。".to_owned()),
            Self::Outrun => Some(
                "ほかの職員が先に新しい利用規約を公開しました。内容を確認し、もう一度お試しください。"
                    .to_owned(),
            ),
            Self::Store(_) => None,
        }
    }
}

/// Publishes new terms after version `shown`: everybody is asked at the next page.
pub async fn publish(
    tx: &mut Tx,
    app: &App,
    reviewer: &Reviewer,
    (shown, text): (i64, &str),
    now: OffsetDateTime,
) -> Result<i64, PublishError> {
    let text = text.replace("\r\n", "\n");
    let text = text.trim();
    if !(1..=TEXT_LIMIT).contains(&text.chars().count()) {
        return Err(PublishError::Text);
    }
    let current = store::current_terms(tx).await?;
    if current.version != shown {
        return Err(PublishError::Outrun);
    }
    if current.text.trim() == text {
        return Err(PublishError::Same);
    }
    let version = current.version + 1;
    match store::add_terms(tx, version, text, reviewer, now).await {
        Ok(()) => {}
        Err(error) if error.is_unique_violation() => return Err(PublishError::Outrun),
        Err(error) => return Err(error.into()),
    }
    let act = Act::TermsPublished(version);
    audit::record(tx, &app.keys, &reviewer.actor(), act, now).await?;
    Ok(version)
}

/// Writes an acceptance of the terms in force down. `false` if `version` is another one: the
/// member has to read the new ones first.
pub async fn accept(
    tx: &mut Tx,
    app: &App,
    member: &Member,
    version: i64,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    if store::current_terms(tx).await?.version != version {
        return Ok(false);
    }
    if store::accept_terms(tx, member, version, now).await? {
        let act = Act::TermsAccepted(version);
        audit::record(tx, &app.keys, &member.actor(), act, now).await?;
    }
    Ok(true)
}
