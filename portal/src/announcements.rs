//! お知らせ: what the office tells all establishments or some of them, for a while.
//!
//! Plain text. A blank line begins a paragraph, and 「[届書を提出する](/filings/new)」 is a link,
//! to a page of the members' own and nowhere else: an announcement must not lead people out of
//! the tunnel. Before sign-in only what is for everybody is shown.

pub mod pages;
pub mod store;

use time::{Duration, OffsetDateTime};

use crate::filings::individual_number;
use crate::ids::AnnouncementId;

/// Characters of a title.
pub const TITLE_LIMIT_CHARS: usize = 80;
/// Characters of a text.
pub const BODY_LIMIT_CHARS: usize = 4_000;
/// How far ahead an announcement may end.
pub const AHEAD_LIMIT: Duration = Duration::days(400);
/// Where a link may lead.
const LINKS: [&str; 8] = [
    "/",
    "/filings/new",
    "/filings",
    "/notices",
    "/history",
    "/settings",
    "/contact",
    "/help",
];

/// An announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Its id.
    pub id: AnnouncementId,
    /// Its title.
    pub title: String,
    /// Its text, as it was typed.
    pub body: String,
    /// Whether it is for everybody.
    pub audience: Audience,
    /// Shown from here.
    pub from: OffsetDateTime,
    /// Shown until here, which is no longer part of it.
    pub until: OffsetDateTime,
    /// Who wrote it.
    pub written_by: String,
    /// When it was taken back, if it was.
    pub withdrawn: Option<OffsetDateTime>,
}

/// For whom an announcement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Every establishment.
    All,
    /// Those that were chosen.
    Chosen,
}

/// What is wrong with what was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// No title.
    #[error("no title")]
    NoTitle,
    /// A title that is too long.
    #[error("title too long")]
    TitleTooLong,
    /// No text.
    #[error("no text")]
    NoBody,
    /// A text that is too long.
    #[error("text too long")]
    BodyTooLong,
    /// A link that leads anywhere but to a member page.
    #[error("a link leads elsewhere")]
    ForeignLink,
    /// An individual number.
    #[error("an individual number stands in it")]
    IndividualNumber,
}

/// A part of a line: words, or words that lead somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The words.
    pub words: String,
    /// Where they lead; empty: nowhere.
    pub link: &'static str,
}

/// Lines of pieces.
pub type Paragraph = Vec<Vec<Piece>>;

impl TextError {
    /// The field it is about.
    pub fn field(self) -> &'static str {
        match self {
            Self::NoTitle | Self::TitleTooLong => "title",
            Self::NoBody | Self::BodyTooLong | Self::ForeignLink | Self::IndividualNumber => "body",
        }
    }

    /// For the page.
    pub fn page_text(self) -> String {
        match self {
            Self::NoTitle => "件名を入力してください。".into(),
            Self::TitleTooLong => format!("件名は{TITLE_LIMIT_CHARS}文字以内で入力してください。"),
            Self::NoBody => "本文を入力してください。".into(),
            Self::BodyTooLong => format!("本文は{BODY_LIMIT_CHARS}文字以内で入力してください。"),
            Self::ForeignLink => format!(
                "リンクは、利用者の画面（{}）にだけ付けられます。",
                LINKS.join("、")
            ),
            Self::IndividualNumber => {
                "個人番号（マイナンバー）と思われる12桁の数字があります。削除してください。".into()
            }
        }
    }
}

impl Audience {
    /// The word in the database and in forms.
    pub fn code(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Chosen => "chosen",
        }
    }

    /// Reads the word back.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::All, Self::Chosen]
            .into_iter()
            .find(|audience| audience.code() == code)
    }
}

/// What is wrong with a title and a text.
pub fn faults(title: &str, body: &str) -> Vec<TextError> {
    let mut faults = Vec::new();
    match title.trim().chars().count() {
        0 => faults.push(TextError::NoTitle),
        1..=TITLE_LIMIT_CHARS => {}
        _ => faults.push(TextError::TitleTooLong),
    }
    match body.trim().chars().count() {
        0 => faults.push(TextError::NoBody),
        1..=BODY_LIMIT_CHARS => {}
        _ => faults.push(TextError::BodyTooLong),
    }
    let paragraphs = paragraphs(body);
    let leads_away = |piece: &Piece| {
        piece.link.is_empty() && piece.words.contains("](")
            || piece.words.contains("http://")
            || piece.words.contains("https://")
    };
    if paragraphs.iter().flatten().flatten().any(leads_away) {
        faults.push(TextError::ForeignLink);
    }
    if individual_number::occurs(title) || individual_number::occurs(body) {
        faults.push(TextError::IndividualNumber);
    }
    faults
}

/// The text as pages show it.
pub fn paragraphs(body: &str) -> Vec<Paragraph> {
    let body = body.replace("\r\n", "\n");
    body.split("\n\n")
        .map(|part| part.trim_matches('\n'))
        .filter(|part| !part.is_empty())
        .map(|part| part.lines().map(pieces).collect())
        .collect()
}

fn pieces(line: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = line;
    while let Some((words, link, before, after)) = next_link(rest) {
        if !before.is_empty() {
            pieces.push(plain(before));
        }
        pieces.push(Piece {
            words: words.to_owned(),
            link,
        });
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(plain(rest));
    }
    pieces
}

fn plain(words: &str) -> Piece {
    Piece {
        words: words.to_owned(),
        link: "",
    }
}

/// The first link to a known page: its words, its target, what stands before and after.
fn next_link(line: &str) -> Option<(&str, &'static str, &str, &str)> {
    let mut from = 0;
    while let Some(middle) = line[from..].find("](").map(|at| at + from) {
        let open = line[..middle].rfind('[');
        let close = line[middle..].find(')').map(|at| at + middle);
        if let (Some(open), Some(close)) = (open, close)
            && let Some(link) = LINKS
                .into_iter()
                .find(|link| *link == &line[middle + 2..close])
            && open + 1 < middle
        {
            let (before, after) = (&line[..open], &line[close + 1..]);
            return Some((&line[open + 1..middle], link, before, after));
        }
        from = middle + 2;
    }
    None
}

#[cfg(test)]
mod tests;
