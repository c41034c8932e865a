//! What is written about a filing: among the office alone, or between office and establishment.
//!
//! Comments lie sealed under the establishment's key, for people write names into them. What is for the office alone is
//! never read for the member pages: the question leaves it out, not the page.

use time::OffsetDateTime;

use crate::clock::unix_ms;
use crate::custody::texts::{self, Reader};
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::filings::Filing;
use crate::filings::individual_number;
use crate::filings::store::ActorSide;
use crate::ids::{FilingId, RowId};
use crate::keys::MasterKey;
use crate::web::layout::Side;

/// Longest comment, in characters.
pub const TEXT_LIMIT_CHARS: usize = 1_000;
/// Comments on one filing, at most.
pub const COMMENTS_LIMIT: i64 = 200;

/// Who reads a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// 基金内メモ: staff alone.
    Office,
    /// 事業所への連絡: both sides.
    Both,
}

/// Something to be written down about a filing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(String);

/// Text that is not written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing.
    #[error("the text is empty")]
    Empty,
    /// Too much.
    #[error("the text is longer than {TEXT_LIMIT_CHARS} characters")]
    TooLong,
    /// It holds an individual number.
    #[error("the text holds an individual number")]
    IndividualNumber,
    /// The filing has as many comments as it can have.
    #[error("the filing has {COMMENTS_LIMIT} comments")]
    TooMany,
    /// The establishment's key is destroyed.
    #[error("the establishment's key is destroyed")]
    KeyDestroyed,
}

/// One comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// When.
    pub at: OffsetDateTime,
    /// Who reads it.
    pub audience: Audience,
    /// On whose side it was written.
    pub side: ActorSide,
    /// Who wrote it.
    pub actor: String,
    /// What.
    pub text: String,
}

impl Audience {
    /// The word in the database and in forms.
    pub fn code(self) -> &'static str {
        match self {
            Self::Office => "office",
            Self::Both => "both",
        }
    }

    /// Reads the word back.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Office, Self::Both]
            .into_iter()
            .find(|audience| audience.code() == code)
    }
}

impl Text {
    /// Reads what somebody typed.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn parse(typed: &str) -> Result<Self, TextError> {
        let text = typed.trim().replace("\r\n", "\n");
        if text.is_empty() {
            Err(TextError::Empty)
        } else if text.chars().count() > TEXT_LIMIT_CHARS {
            Err(TextError::TooLong)
        } else if individual_number::occurs(&text) {
            Err(TextError::IndividualNumber)
        } else {
            Ok(Self(text))
        }
    }

    /// What was typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TextError {
    /// What is wrong and what to do.
    pub fn page_text(self) -> String {
        match self {
            Self::Empty => "内容を入力してください。".into(),
            Self::TooLong => format!("内容は{TEXT_LIMIT_CHARS}文字以内で入力してください。"),
            Self::IndividualNumber => {
                "個人番号（マイナンバー）と思われる12桁の数字があります。個人番号は書かないでください。".into()
            }
            Self::KeyDestroyed => {
                "この事業所の鍵は破棄されているため、新しく書くことはできません。".into()
            }
            Self::TooMany => {
                format!("1つの届書に書けるのは{COMMENTS_LIMIT}件までです。お電話でご連絡ください。")
            }
        }
    }
}

fn place(id: RowId) -> String {
    texts::place("filing_comments", id)
}

/// Writes a comment on a filing that the caller has found.
pub async fn write(
    tx: &mut Tx,
    keys: &MasterKey,
    filing: FilingId,
    comment: (Audience, &Text),
    writer: (ActorSide, &str),
    now: OffsetDateTime,
) -> Result<Result<(), TextError>, StoreError> {
    let (audience, text) = comment;
    let (side, actor) = writer;
    let there = sqlx::query("SELECT COUNT(*) AS there FROM filing_comments WHERE filing_id = $1")
        .bind(filing.to_string())
        .fetch_one(&mut **tx)
        .await
        .map_err(StoreError::doing("count comments"))?
        .number("there")?;
    if there >= COMMENTS_LIMIT {
        return Ok(Err(TextError::TooMany));
    }
    let id = RowId::new();
    let Some(sealed) = texts::seal(tx, keys, filing, &place(id), &text.0).await? else {
        return Ok(Err(TextError::KeyDestroyed));
    };
    sqlx::query(
        "INSERT INTO filing_comments (id, filing_id, at_ms, audience, actor_kind, actor_name, text_sealed)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id.to_string())
    .bind(filing.to_string())
    .bind(unix_ms(now))
    .bind(audience.code())
    .bind(side.code())
    .bind(actor.to_owned())
    .bind(sealed)
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write a comment"))?;
    Ok(Ok(()))
}

/// The comments that `side` reads on a filing that the caller has found, oldest first.
pub async fn read(
    db: &Db,
    keys: &MasterKey,
    filing: &Filing,
    side: Side,
) -> Result<Vec<Comment>, StoreError> {
    let for_the_office = match side {
        Side::Office => Audience::Office.code(),
        Side::Member => "",
    };
    let rows = sqlx::query(
        "SELECT id, at_ms, audience, actor_kind, actor_name, text_sealed FROM filing_comments
          WHERE filing_id = $1 AND (audience = 'both' OR audience = $2) ORDER BY at_ms, id",
    )
    .bind(filing.id.to_string())
    .bind(for_the_office)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("read comments"))?;
    let reader = Reader::of(db, keys, filing.establishment).await?;
    let unreadable = || StoreError::Unreadable { what: "comment" };
    rows.iter()
        .map(|row| {
            let sealed = row.text("text_sealed")?;
            let text = reader.open(&place(row.parsed("id")?), &sealed)?;
            Ok(Comment {
                at: row.moment("at_ms")?,
                audience: Audience::from_code(&row.text("audience")?).ok_or_else(unreadable)?,
                side: ActorSide::from_code(&row.text("actor_kind")?).ok_or_else(unreadable)?,
                actor: row.text("actor_name")?,
                text,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_holds_something_but_not_too_much_and_no_individual_number() {
        assert_eq!(Text::parse(" \r\n "), Err(TextError::Empty));
        assert_eq!(
            Text::parse(&"長".repeat(TEXT_LIMIT_CHARS + 1)),
            Err(TextError::TooLong)
        );
        assert!(Text::parse(&"長".repeat(TEXT_LIMIT_CHARS)).is_ok());
        assert_eq!(
            Text::parse("番号は 1234 5678 9018 です"),
            Err(TextError::IndividualNumber)
        );
        assert_eq!(Text::parse(" 一\r\n二 ").unwrap().as_str(), "一\n二");
    }

    #[test]
    fn every_audience_is_read_back() {
        for audience in [Audience::Office, Audience::Both] {
            assert_eq!(Audience::from_code(audience.code()), Some(audience));
        }
        assert_eq!(Audience::from_code("everybody"), None);
    }
}
