//! Making the fund's own documents: PDFs that archives keep and screen readers read.
//!
//! Every document conforms to PDF/A-2u and PDF/UA-1 at once: fonts embedded, every character
//! mapped, language and title set, every piece tagged or marked as decoration. krilla checks
//! that while writing, and a document that breaks a rule is an error, not a worse document.
//!
//! Here is how things are placed, not what they say: letters and receipts are with the
//! features that issue them.
//!
//! # A further document
//! Make a [`Sheet`], [`Sheet::open`] a node for each heading, paragraph, table and cell, and
//! write lines into it; [`Sheet::finish`] writes the file. See `notices/determination.rs`.

mod dates;
mod face;
mod money;
mod sheet;

pub(crate) use face::FILE as FONT_FILE;

pub use dates::{date_text, short_date_text};
pub use money::yen_text;
pub use sheet::{Align, Cell, Ink, NodeId, Role, RowPlace, Sheet, Style};

/// `text` with every character that cannot be drawn shown as a geta (〓), the printers' mark
/// for a missing type. For what may be shown so; a name that a decision is about may not.
pub fn drawable(text: &str) -> String {
    let mut plain = text.to_owned();
    while let Some(missing) = face::Face::get().missing(&plain) {
        plain = plain.replace(missing, "〓");
    }
    plain
}

/// Why a document cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// A character that the font does not have. In a name it must not be left out.
    #[error("the font has no glyph for {character:?} (U+{:04X})", u32::from(*character))]
    MissingGlyph {
        /// The character.
        character: char,
    },
    /// Longer than any document of ours.
    #[error("the document has more than {0} pages")]
    TooLong(usize),
    /// A cell of a table that no page can hold.
    #[error("a cell is longer than a page")]
    CellTooLong,
    /// krilla refuses to write it: a fault of this program.
    #[error("the document breaks a rule of PDF/A or PDF/UA: {0}")]
    Invalid(String),
}

impl DocumentError {
    /// What is wrong and what to do next, for the staff who issue the document.
    pub fn page_text(&self) -> String {
        match self {
            Self::MissingGlyph { character } => format!(
                "文字「{character}」（U+{:04X}）は、この書体で表示できないため、書類を作成できません。別の字体に置き換えるか、作成済みのPDFを登録してください。",
                u32::from(*character)
            ),
            Self::TooLong(pages) => {
                format!("書類が長すぎます（{pages}ページまで）。分けて作成してください。")
            }
            Self::CellTooLong => "表の1つの欄に入る文字が多すぎます。短くしてください。".into(),
            Self::Invalid(_) => {
                "書類を作成できませんでした。システム管理者へご連絡ください。".into()
            }
        }
    }
}
