//! Pictures of the pages of a PDF, so that staff look at a filing without opening it.
//!
//! A picture can carry no program, whatever the file tried. Whoever makes it is the risk, so
//! it is made by a process of its own ([`worker`]): one that knows no key and no secret, has
//! bounded memory and time, and is killed when it is late. hayro has no unsafe code, but a
//! crafted file can make it work for hours.
//!
//! The file must have passed [`crate::filings::pdf::check`], which bounds what its streams and
//! pictures unpack to. Nothing is kept: the review pages ask for one page at a time.

pub mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hayro::hayro_interpret::InterpreterSettings;
use hayro::hayro_interpret::font::{FontData, FontQuery};
use hayro::hayro_syntax::Pdf;
use hayro::vello_cpu::color::palette::css::WHITE;
use hayro::{PixmapSettings, RenderCache, RenderSettings};
use serde::{Deserialize, Serialize};
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

/// How large a picture's file may be.
const PNG_LIMIT_BYTES: usize = 64 * 1024 * 1024;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fidelity {
    /// Everything was drawn.
    Complete,
    /// A font or a picture on the page could not be read: whoever decides by this picture
    /// must be told.
    Partial,
}

/// Why there is no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    drawer: Drawer,
    drawing: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    limit: Duration,
}

#[derive(Debug, Clone)]
enum Drawer {
    /// A process of its own for each picture.
    Program(Arc<Path>),
    /// The test that asks.
    #[cfg(test)]
    Test,
}

impl Default for PageImages {
    /// Has pictures made by the program that is running. (A unit test's program is no portal:
    /// there, the test draws.)
    fn default() -> Self {
        #[cfg(test)]
        let drawer = Drawer::Test;
        #[cfg(not(test))]
        let drawer = Drawer::Program(std::env::current_exe().unwrap_or_default().into());
        Self::with(drawer)
    }
}

impl PageImages {
    /// Has pictures made by `program`, which must answer to [`worker::COMMAND`] as
    /// [`worker::serve`] does: the portal's own program.
    pub fn by(program: &Path) -> Self {
        Self::with(Drawer::Program(program.into()))
    }

    fn with(drawer: Drawer) -> Self {
        Self {
            drawer,
            drawing: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(AT_ONCE + WAITING_LIMIT)),
            limit: TIME_LIMIT,
        }
    }

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
        if !WIDTH_RANGE.contains(&width) {
            return Err(PageImageError::Width(width));
        }
        let _waiting = self
            .waiting
            .try_acquire()
            .map_err(|_| PageImageError::Busy)?;
        let work = async {
            let _drawing = self.drawing.acquire().await;
            match &self.drawer {
                Drawer::Program(program) => worker::ask(program, &pdf, page, width).await,
                #[cfg(test)]
                Drawer::Test => draw(pdf, page, width),
            }
        };
        tokio::time::timeout(self.limit, work)
            .await
            .map_err(|_| PageImageError::TooSlow)?
    }
}

/// The picture of a page. Blocks for as long as it takes: [`worker`] calls it, where nobody
/// else is held up.
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
