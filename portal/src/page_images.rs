//! Pictures of the pages of a PDF, so that staff look at a filing without opening it.
//!
//! A picture can carry no program, whatever the file tried. Whoever makes it is the risk:
//! hayro has no unsafe code, its panics are caught here, and what it may cost is bounded: the
//! size of a picture, how many are made at once, and how long a caller waits. (A page that is
//! never finished keeps its place among those made at once until it is; the portal goes on.)
//!
//! The file must have passed [`crate::filings::pdf::check`], which bounds what its streams and
//! pictures unpack to. Nothing is kept: the review pages ask for one page at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hayro::hayro_interpret::InterpreterSettings;
use hayro::hayro_interpret::font::{FontData, FontQuery};
use hayro::hayro_syntax::Pdf;
use hayro::vello_cpu::color::palette::css::WHITE;
use hayro::{PixmapSettings, RenderCache, RenderSettings};
use tokio::sync::Semaphore;

use crate::documents::FONT_FILE;

/// How wide a picture may be, in points of the picture.
pub const WIDTH_RANGE: std::ops::RangeInclusive<u16> = 64..=2_400;
/// How high a picture may become; a page that is higher is made smaller.
pub const HEIGHT_LIMIT: u16 = 4_800;
/// How many pictures are made at once.
pub const AT_ONCE: usize = 2;
/// How long a caller waits for a picture.
pub const TIME_LIMIT: Duration = Duration::from_secs(20);
/// How many callers may wait for their turn.
pub const WAITING_LIMIT: usize = 64;

/// The picture of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageImage {
    /// The picture, as PNG.
    pub png: Vec<u8>,
    /// Whether all of the page is on it.
    pub fidelity: Fidelity,
    /// How many pages the PDF has.
    pub pages: usize,
}

/// Whether a picture shows all of its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fidelity {
    /// Everything was drawn.
    Complete,
    /// A font or a picture on the page could not be read: whoever decides by this picture
    /// must be told.
    Partial,
}

/// Why there is no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageImageError {
    /// The PDF has no such page.
    #[error("there is no page {page} among {pages}")]
    NoSuchPage {
        /// The page asked for, from 1.
        page: usize,
        /// How many there are.
        pages: usize,
    },
    /// A width outside [`WIDTH_RANGE`].
    #[error("a picture cannot be {0} points wide")]
    Width(u16),
    /// The page cannot be drawn.
    #[error("the page cannot be drawn")]
    Undrawable,
    /// It took longer than [`TIME_LIMIT`].
    #[error("drawing the page takes too long")]
    TooSlow,
    /// Too many are waiting.
    #[error("too many pictures are being made")]
    Busy,
}

impl PageImageError {
    /// What happened and what to do next, for the staff who look at a filing.
    pub fn page_text(&self) -> String {
        match self {
            Self::NoSuchPage { pages, .. } => {
                format!("このPDFは全{pages}ページです。指定されたページはありません。")
            }
            Self::Width(_) => "画像の幅の指定が正しくありません。".into(),
            Self::Undrawable | Self::TooSlow => {
                "このページを画像にできませんでした。PDFファイルをダウンロードしてご確認ください。"
                    .into()
            }
            Self::Busy => {
                "ただいま混み合っています。しばらくしてから、もう一度表示してください。".into()
            }
        }
    }
}

/// Makes pictures, a few at a time.
#[derive(Debug, Clone)]
pub struct PageImages {
    drawing: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for PageImages {
    fn default() -> Self {
        Self {
            drawing: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(AT_ONCE + WAITING_LIMIT)),
        }
    }
}

impl PageImages {
    /// The picture of `page` (from 1), `width` points wide.
    ///
    /// # Errors
    /// [`PageImageError`].
    pub async fn draw(
        &self,
        pdf: Vec<u8>,
        page: usize,
        width: u16,
    ) -> Result<PageImage, PageImageError> {
        let _waiting = self
            .waiting
            .try_acquire()
            .map_err(|_| PageImageError::Busy)?;
        let work = async {
            let drawing = Arc::clone(&self.drawing).acquire_owned().await;
            let place = drawing.map_err(|_| PageImageError::Busy)?;
            let drawn = tokio::task::spawn_blocking(move || {
                let _place = place;
                draw(pdf, page, width)
            });
            drawn.await.map_err(|_| PageImageError::Undrawable)?
        };
        tokio::time::timeout(TIME_LIMIT, work)
            .await
            .map_err(|_| PageImageError::TooSlow)?
    }
}

/// The picture of a page. Blocks for as long as it takes; [`PageImages::draw`] is for servers.
///
/// # Errors
/// [`PageImageError`].
pub fn draw(pdf: Vec<u8>, page: usize, width: u16) -> Result<PageImage, PageImageError> {
    if !WIDTH_RANGE.contains(&width) {
        return Err(PageImageError::Width(width));
    }
    catch_unwind(AssertUnwindSafe(|| draw_page(pdf, page, width)))
        .unwrap_or(Err(PageImageError::Undrawable))
}

fn draw_page(pdf: Vec<u8>, number: usize, width: u16) -> Result<PageImage, PageImageError> {
    let pdf = Pdf::new(pdf).map_err(|_| PageImageError::Undrawable)?;
    let pages = pdf.pages().len();
    let page = number
        .checked_sub(1)
        .and_then(|index| pdf.pages().get(index))
        .ok_or(PageImageError::NoSuchPage {
            page: number,
            pages,
        })?;
    let (page_width, page_height) = page.render_dimensions();
    if !(page_width >= 1.0 && page_height >= 1.0) {
        return Err(PageImageError::Undrawable);
    }
    let scale = (f32::from(width) / page_width).min(f32::from(HEIGHT_LIMIT) / page_height);
    if page_width * scale < 1.0 || page_height * scale < 1.0 {
        return Err(PageImageError::Undrawable);
    }

    let incomplete = Arc::new(AtomicBool::new(false));
    let noticed = Arc::clone(&incomplete);
    let settings = InterpreterSettings {
        font_resolver: Arc::new(substitute_font),
        warning_sink: Arc::new(move |_| noticed.store(true, Ordering::Relaxed)),
        ..InterpreterSettings::default()
    };
    let picture = hayro::render(
        page,
        &RenderCache::new(),
        &settings,
        &RenderSettings::default(),
        &PixmapSettings {
            x_scale: scale,
            y_scale: scale,
            bg_color: WHITE,
        },
    );
    let png = picture.into_png().map_err(|_| PageImageError::Undrawable)?;
    Ok(PageImage {
        png,
        fidelity: if incomplete.load(Ordering::Relaxed) {
            Fidelity::Partial
        } else {
            Fidelity::Complete
        },
        pages,
    })
}

/// Stands in for fonts that a file names and does not bring along: Japanese forms often do so
/// with MS Gothic and MS Mincho.
fn substitute_font(query: &FontQuery) -> Option<(FontData, u32)> {
    match query {
        FontQuery::Standard(font) => Some(font.get_font_data()),
        FontQuery::Fallback(wanted) if wanted.character_collection.is_some() => {
            Some((Arc::new(FONT_FILE), 0))
        }
        FontQuery::Fallback(wanted) => Some(wanted.pick_standard_font().get_font_data()),
    }
}

#[cfg(test)]
mod tests;
