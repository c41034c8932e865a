//! Whether a file is a PDF that the fund accepts: whole, open, and only a document.
//!
//! [`scan`] decides: it reads every object that any reader could find in the file, not only
//! those that this or that parser follows: in old revisions, behind a wrong table, inside
//! object streams. It also measures what the streams unpack to, and counts the pages.
//!
//! Neither hayro-syntax nor lopdf serves for that. Both follow the tables of the file, so that
//! an object which another reader finds stays unseen; both unpack object streams without a
//! limit; and where a table is broken, hayro searches the file in a way that a crafted one
//! draws out for hours. What passes here has been measured before hayro draws it.
//!
//! Nothing here runs, renders or changes a file. [`super::check`] calls it.

mod lexer;
mod pages;
mod scan;
mod streams;

pub use scan::Active;

/// How large a PDF may be that is handed in.
pub const SIZE_LIMIT_BYTES: usize = 50 * 1024 * 1024;
/// How many pages one filing may have.
pub const PAGE_LIMIT: usize = 2_000;
/// How far from the end the last cross-reference may stand: readers look no further.
const END_REACH_BYTES: usize = 2_048;

/// A PDF that may be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// How many pages it has; at least one.
    pub pages: usize,
}

/// Why a PDF is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PdfError {
    /// Nothing in it.
    #[error("empty file")]
    Empty,
    /// It does not begin like a PDF.
    #[error("not a PDF")]
    NotAPdf,
    /// Cut off or damaged.
    #[error("broken PDF: {0}")]
    Broken(&'static str),
    /// It has a password or a restriction of its own.
    #[error("encrypted PDF")]
    Encrypted,
    /// It can do something, or carries something along.
    #[error("active content: {0:?}")]
    ActiveContent(Vec<Active>),
    /// Larger than [`SIZE_LIMIT_BYTES`].
    #[error("the PDF has {0} bytes")]
    TooLarge(usize),
    /// More pages than [`PAGE_LIMIT`].
    #[error("the PDF has {0} pages")]
    TooManyPages(usize),
    /// It unpacks to more than any document, or is built so that nobody can look inside.
    #[error("the PDF cannot be inspected: {0}")]
    Uninspectable(&'static str),
}

impl PdfError {
    /// What is wrong and what to do, for the sender.
    pub fn page_text(&self) -> String {
        match self {
            Self::Empty => "ファイルの中身が空です（0バイト）。PDFを作り直してお送りください。".into(),
            Self::NotAPdf => "PDFファイルではありません。届書をPDFで保存し直してお送りください。".into(),
            Self::Broken(_) => "PDFファイルが壊れているか、途中で切れています。PDFを作り直してお送りください。".into(),
            Self::Encrypted => "PDFそのものにパスワードや編集・印刷の制限が付いています。制限のないPDFで保存し直してお送りください。".into(),
            Self::ActiveContent(found) => {
                let names: Vec<&str> = found.iter().map(|active| active.name()).collect();
                format!(
                    "PDFの中に、届書に不要な仕組み（{}）が入っているため、受け付けられません。「印刷」から「PDFに保存」を選んで作り直したPDFをお送りください。",
                    names.join("、")
                )
            }
            Self::TooLarge(_) => format!(
                "PDFファイルが大きすぎます（{}MBまで）。解像度を下げるか、分けてお送りください。",
                SIZE_LIMIT_BYTES / (1024 * 1024)
            ),
            Self::TooManyPages(pages) => format!(
                "PDFのページ数が多すぎます（{pages}ページ）。{PAGE_LIMIT}ページまでに分けてお送りください。"
            ),
            Self::Uninspectable(_) => "PDFの作りが特殊なため、中身を確認できません。「印刷」から「PDFに保存」を選んで作り直したPDFをお送りください。".into(),
        }
    }
}

/// Says whether a file begins like a PDF.
pub fn looks_like_pdf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"%PDF-")
}

/// Checks a file.
///
/// # Errors
/// [`PdfError`]: the first thing that is wrong.
pub fn check(bytes: &[u8]) -> Result<Checked, PdfError> {
    if bytes.is_empty() {
        return Err(PdfError::Empty);
    }
    if !looks_like_pdf(bytes) {
        return Err(PdfError::NotAPdf);
    }
    if bytes.len() > SIZE_LIMIT_BYTES {
        return Err(PdfError::TooLarge(bytes.len()));
    }
    check_end(bytes)?;
    let found = scan::scan(bytes)?;
    if found.encrypted {
        return Err(PdfError::Encrypted);
    }
    if !found.active.is_empty() {
        return Err(PdfError::ActiveContent(found.active.into_iter().collect()));
    }
    match found.pages {
        0 => Err(PdfError::Broken("no pages")),
        pages if pages > PAGE_LIMIT => Err(PdfError::TooManyPages(pages)),
        pages => Ok(Checked { pages }),
    }
}

/// A whole PDF ends with the place of its cross-reference, and that is where it says.
fn check_end(bytes: &[u8]) -> Result<(), PdfError> {
    let tail_at = bytes.len().saturating_sub(END_REACH_BYTES);
    let tail = &bytes[tail_at..];
    let at = tail
        .windows(9)
        .rposition(|window| window == b"startxref")
        .ok_or(PdfError::Broken("no cross-reference at the end"))?;
    let mut rest = lexer::Lexer::new(&tail[at + 9..]);
    let Some(lexer::Token::Int(offset)) = rest.next_token() else {
        return Err(PdfError::Broken("no place of the cross-reference"));
    };
    if !tail[at..].windows(5).any(|window| window == b"%%EOF") {
        return Err(PdfError::Broken("no end mark"));
    }
    let table = usize::try_from(offset)
        .ok()
        .and_then(|offset| bytes.get(offset..))
        .ok_or(PdfError::Broken("the cross-reference is outside the file"))?;
    let mut table = lexer::Lexer::new(table);
    match table.next_token() {
        Some(lexer::Token::Keyword(b"xref")) => Ok(()),
        Some(lexer::Token::Int(_))
            if matches!(table.next_token(), Some(lexer::Token::Int(_)))
                && table.next_token() == Some(lexer::Token::Keyword(b"obj")) =>
        {
            Ok(())
        }
        _ => Err(PdfError::Broken("no cross-reference where it should be")),
    }
}

#[cfg(test)]
mod tests;
