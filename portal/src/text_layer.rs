//! The text of a PDF's pages, as far as it can be told: what a program finds with a search.
//!
//! Glyphs come in the order in which the page draws them, with their places. Those that stand
//! close on one line are one word; a wider gap is a blank; anything else begins a line. So a
//! number in boxes of one digit each is read as digits with blanks between them.
//!
//! As with [`crate::page_images`], whoever made the PDF is the risk: [`worker`] reads it in a
//! process of its own, and what comes back is only the answer to a question.

pub mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};

use hayro::hayro_interpret::font::{Glyph, GlyphRun};
use hayro::hayro_interpret::kurbo::{Affine, BezPath, Point, Rect};
use hayro::hayro_interpret::{
    BlendMode, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageData, ImageDrawProps,
    InterpreterCache, InterpreterSettings, SoftMask, interpret_page,
};
use hayro::hayro_syntax::Pdf;
use hayro::hayro_syntax::page::Page;
use sha2::{Digest as _, Sha256};

/// What one page's text may hold, in characters; more is not read.
const PAGE_LIMIT_CHARS: usize = 1_000_000;
/// From one glyph's origin to the next within a word, in ems: full-width ones have one em.
const WORD_GAP_EMS: f64 = 1.1;
/// The same across a blank or the edge between two boxes.
const BLANK_GAP_EMS: f64 = 4.0;
/// Pages with less text than this, in characters, and no picture are not compared.
const COMPARABLE_CHARS: usize = 20;
/// How far a glyph may stand above or below the one before on the same line, in ems.
const LINE_SLACK_EMS: f64 = 0.3;

/// No text can be told of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text of the PDF cannot be read")]
pub struct Unreadable;

/// The text of each page. Blocks for as long as it takes: [`worker`] calls it.
///
/// # Errors
/// [`Unreadable`], if the file is no PDF or cannot be made sense of.
pub fn read(pdf: Vec<u8>) -> Result<Vec<String>, Unreadable> {
    catch_unwind(AssertUnwindSafe(|| {
        let pdf = Pdf::new(pdf).map_err(|_| Unreadable)?;
        Ok(pdf.pages().iter().map(|page| seen_on(page).text).collect())
    }))
    .unwrap_or(Err(Unreadable))
}

/// What a page shows, as far as it can be compared: its text, and its pictures by their hash.
fn seen_on(page: &Page<'_>) -> Seen {
    let (width, height) = page.render_dimensions();
    let area = Rect::new(0.0, 0.0, f64::from(width), f64::from(height));
    let mut context = Context::new(
        Affine::IDENTITY,
        area,
        &InterpreterCache::new(),
        page.xref(),
        InterpreterSettings::default(),
    );
    let mut reader = Reader::default();
    interpret_page(page, &mut context, &mut reader);
    Seen {
        text: reader.text,
        pictures: reader.pictures.map(|hash| hash.finalize().into()),
    }
}

struct Seen {
    text: String,
    pictures: Option<[u8; 32]>,
}

/// The text of each page, and the fingerprint of all that the pages show. It is the same when
/// the file is saved anew, and `None` where the pages show too little to tell one from another.
///
/// # Errors
/// [`Unreadable`], if the file is no PDF or cannot be made sense of.
pub fn read_with_fingerprint(pdf: Vec<u8>) -> Result<(Vec<String>, Option<[u8; 32]>), Unreadable> {
    catch_unwind(AssertUnwindSafe(|| {
        let pdf = Pdf::new(pdf).map_err(|_| Unreadable)?;
        let seen: Vec<Seen> = pdf.pages().iter().map(seen_on).collect();
        let mut hash = Sha256::new();
        let mut chars = 0;
        for page in &seen {
            let text: String = page.text.chars().filter(|c| !c.is_whitespace()).collect();
            chars += text.chars().count();
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(&text);
            hash.update(page.pictures.unwrap_or_default());
        }
        let is_enough =
            chars >= COMPARABLE_CHARS || seen.iter().any(|page| page.pictures.is_some());
        let fingerprint = is_enough.then(|| hash.finalize().into());
        Ok((
            seen.into_iter().map(|page| page.text).collect(),
            fingerprint,
        ))
    }))
    .unwrap_or(Err(Unreadable))
}

/// Units of a glyph's own space in an em.
const UNITS_PER_EM: f64 = 1000.0;

/// Takes down what is written and draws nothing.
#[derive(Default)]
struct Reader {
    text: String,
    length: usize,
    last: Option<Place>,
    pictures: Option<Sha256>,
}

/// Where a glyph stands, and how large an em is there.
struct Place {
    origin: Point,
    along: (f64, f64),
    em: f64,
}

impl Place {
    fn of(transform: Affine) -> Self {
        let [a, b, c, d, x, y] = transform.as_coeffs();
        let length = a.hypot(b).max(f64::MIN_POSITIVE);
        Self {
            origin: Point::new(x, y),
            along: (a / length, b / length),
            // The height: widths may be stretched.
            em: c.hypot(d).max(f64::MIN_POSITIVE),
        }
    }

    /// From the one before: along the line, and across it, in ems.
    fn from(&self, last: &Self) -> (f64, f64) {
        let step = self.origin - last.origin;
        let (x, y) = last.along;
        let along = step.x * x + step.y * y;
        let across = step.y * x - step.x * y;
        (along / last.em, across.abs() / last.em)
    }
}

impl Reader {
    fn glyph(&mut self, place: Place, text: &str) {
        if self.length > PAGE_LIMIT_CHARS {
            return;
        }
        if let Some(last) = &self.last {
            let (along, across) = place.from(last);
            if across > LINE_SLACK_EMS || !(0.0..BLANK_GAP_EMS).contains(&along) {
                self.text.push('\n');
            } else if along > WORD_GAP_EMS {
                self.text.push(' ');
            }
        }
        self.text.push_str(text);
        self.length += text.chars().count() + 1;
        self.last = Some(place);
    }
}

/// What a glyph says. A font that names MS Gothic and brings no table along has the codes of
/// CP932, of which the digits matter here.
fn text(glyph: &Glyph<'_>) -> Option<String> {
    use hayro::hayro_interpret::hayro_cmap::BfString;
    match glyph.as_unicode() {
        Some(BfString::Char(c)) => Some(c.to_string()),
        Some(BfString::String(text)) => Some(text),
        None => match glyph.char_code() {
            code @ 0x20..=0x7E => char::from_u32(code).map(String::from),
            code @ 0x824F..=0x8258 => char::from_digit(code - 0x824F, 10).map(String::from),
            _ => Some('\u{FFFD}'.to_string()),
        },
    }
}

impl<'a> Device<'a> for Reader {
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, 'a>, props: DrawProps<'a>, _: &DrawMode) {
        for glyph in run.glyphs() {
            if let Some(text) = text(glyph) {
                // Glyphs are drawn in units of a thousandth of an em.
                let place = props.transform * glyph.transform() * Affine::scale(UNITS_PER_EM);
                self.glyph(Place::of(place), &text);
            }
        }
    }

    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'a>, _: &DrawMode) {}
    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_clip_rect(&mut self, _: &Rect) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'a>>, _: BlendMode) {}
    fn draw_image(&mut self, image: Image<'a, '_>, _: ImageDrawProps<'a>) {
        let hash = self.pictures.get_or_insert_default();
        match image {
            Image::Raster(raster) => raster.with_rgba(
                |data, _| match data {
                    ImageData::Rgb(data) => hash.update(&data.data),
                    ImageData::Luma(data) => hash.update(&data.data),
                },
                None,
            ),
            Image::Stencil(stencil) => {
                stencil.with_stencil(|data, _| hash.update(&data.data), None)
            }
        }
    }
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}

#[cfg(test)]
mod tests;
