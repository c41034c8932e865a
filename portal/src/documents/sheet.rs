//! A4 pages on which lines, rules and tables are placed from top to bottom.
//!
//! What is written is kept as a list until the end, because only then the number of pages is
//! known that stands in every footer. Text belongs to a node of the document's structure;
//! rules, shades and footers belong to none and are marked as decoration.

mod write;

use std::num::NonZeroU16;

use time::OffsetDateTime;

use super::DocumentError;
use super::face::Face;

/// A4, in points.
const PAGE_WIDTH: f32 = 595.28;
const PAGE_HEIGHT: f32 = 841.89;
const MARGIN: f32 = 62.0;
const FOOTER_ROOM: f32 = 30.0;
/// How many pages a document may have.
const PAGE_LIMIT: usize = 500;
/// Room that the head of a table takes on a page at most.
const HEAD_ROOM: f32 = 60.0;
/// Room around the text of a cell.
const CELL_PADDING: f32 = 5.0;
/// Text is never made smaller than this part of its size.
const SHRINK_LIMIT: f32 = 0.88;

/// What a piece of the document is, for a reader who does not see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A heading of this level, one at the top.
    Heading(NonZeroU16),
    /// A paragraph.
    Paragraph,
    /// A table.
    Table,
    /// The rows at the top of a table that say what its columns are.
    TableHead,
    /// The other rows of a table.
    TableBody,
    /// A row.
    Row,
    /// A cell that says what its column is.
    ColumnHeader,
    /// A cell that says what its row is.
    RowHeader,
    /// A cell.
    Data,
}

/// How a text looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Style {
    /// In points.
    pub size: f32,
    /// From line to line, in points.
    pub leading: f32,
    /// Where it stands.
    pub align: Align,
    /// Its colour.
    pub ink: Ink,
}

impl Style {
    /// Text of this size, left, in black, with room between the lines.
    pub const fn new(size: f32) -> Self {
        Self {
            size,
            leading: size * 1.6,
            align: Align::Left,
            ink: Ink::Text,
        }
    }

    /// The same at another place.
    #[must_use]
    pub const fn align(self, align: Align) -> Self {
        Self { align, ..self }
    }

    /// The same in another colour.
    #[must_use]
    pub const fn ink(self, ink: Ink) -> Self {
        Self { ink, ..self }
    }
}

/// Where a text stands between left and right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// At the left.
    Left,
    /// In the middle.
    Centre,
    /// At the right.
    Right,
}

/// The colours of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Text.
    Text,
    /// Less important text; dark enough to read (contrast 7 to 1).
    Quiet,
    /// Rules.
    Rule,
    /// Behind the head of a table.
    Shade,
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub struct Cell<'a> {
    /// What stands in it.
    pub text: &'a str,
    /// Where.
    pub align: Align,
    /// What it is.
    pub role: Role,
}

/// A piece of the document's structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeId(usize);

struct Node {
    role: Role,
    title: String,
    children: Vec<Child>,
}

enum Child {
    Node(NodeId),
    Mark(usize),
}

enum Op {
    Text {
        x: f32,
        baseline: f32,
        size: f32,
        text: String,
        ink: Ink,
        mark: Option<usize>,
    },
    Fill {
        x: f32,
        y: f32,
        width: f32,
        height: f32,
        ink: Ink,
    },
}

/// A document in the making.
pub struct Sheet {
    title: String,
    made_at: OffsetDateTime,
    pages: Vec<Vec<Op>>,
    nodes: Vec<Node>,
    roots: Vec<NodeId>,
    marks: usize,
    y: f32,
    footer: String,
    keywords: Vec<String>,
    error: Option<DocumentError>,
}

impl Sheet {
    /// An empty document. `title` is what a reader's window shows; `footer` stands at the
    /// bottom of every page, beside the page's number; `made_at` is kept inside the file.
    pub fn new(title: &str, footer: &str, made_at: OffsetDateTime) -> Self {
        Self {
            title: title.to_owned(),
            made_at,
            pages: vec![Vec::new()],
            nodes: Vec::new(),
            roots: Vec::new(),
            marks: 0,
            y: MARGIN,
            footer: footer.to_owned(),
            keywords: Vec::new(),
            error: None,
        }
    }

    /// Words that are kept inside the file and shown on no page.
    pub fn set_keywords(&mut self, keywords: Vec<String>) {
        self.keywords = keywords;
    }

    /// Draws a QR code, `side` points wide, at the right margin from the present height down;
    /// what follows is written beside it. It is decoration to a reader who does not see it: what
    /// it says has to stand beside it in words.
    pub fn squares_at_margin(
        &mut self,
        modules: usize,
        side: f32,
        is_dark: impl Fn(usize, usize) -> bool,
    ) {
        let left = PAGE_WIDTH - MARGIN - side;
        self.squares((left, self.y), modules, side, is_dark);
    }

    /// Draws a QR code in the middle of the page; what follows is written below it. Otherwise as
    /// [`Self::squares_at_margin`].
    pub fn squares_in_middle(
        &mut self,
        modules: usize,
        side: f32,
        is_dark: impl Fn(usize, usize) -> bool,
    ) {
        self.need(side);
        let left = MARGIN + (self.width() - side) / 2.0;
        self.squares((left, self.y), modules, side, is_dark);
        self.y += side;
    }

    /// `modules` by `modules` small squares, asked for by column and row.
    fn squares(
        &mut self,
        (left, top): (f32, f32),
        modules: usize,
        side: f32,
        is_dark: impl Fn(usize, usize) -> bool,
    ) {
        let step = side / modules.max(1) as f32;
        for row in 0..modules {
            let mut column = 0;
            while column < modules {
                let from = column;
                while column < modules && is_dark(column, row) {
                    column += 1;
                }
                if column > from {
                    let (x, y) = (left + from as f32 * step, top + row as f32 * step);
                    self.fill(x, y, (column - from) as f32 * step, step, Ink::Text);
                }
                column += 1;
            }
        }
    }

    /// The width between the margins.
    pub fn width(&self) -> f32 {
        PAGE_WIDTH - 2.0 * MARGIN
    }

    /// How wide a text becomes.
    pub fn width_of(&self, text: &str, size: f32) -> f32 {
        Face::get().width(text, size)
    }

    /// Where the next line goes, from the top of the page.
    pub fn y(&self) -> f32 {
        self.y
    }

    /// Goes on at another height of the same page, to write beside what stands there.
    pub fn set_y(&mut self, y: f32) {
        self.y = y;
    }

    /// Leaves room.
    pub fn skip(&mut self, points: f32) {
        self.y += points;
    }

    /// Begins a new page unless `points` of room are left on this one.
    pub fn need(&mut self, points: f32) -> bool {
        let full = self.y + points > PAGE_HEIGHT - MARGIN - FOOTER_ROOM;
        let room_anywhere = points <= PAGE_HEIGHT - 2.0 * MARGIN - FOOTER_ROOM;
        let begin = full && (room_anywhere || self.y > MARGIN);
        if begin {
            if self.pages.len() == PAGE_LIMIT {
                self.error.get_or_insert(DocumentError::TooLong(PAGE_LIMIT));
            } else {
                self.pages.push(Vec::new());
            }
            self.y = MARGIN;
        }
        begin
    }

    /// Adds a piece to the document, inside `parent` or by itself.
    pub fn open(&mut self, parent: Option<NodeId>, role: Role) -> NodeId {
        let id = NodeId(self.nodes.len());
        self.nodes.push(Node {
            role,
            title: String::new(),
            children: Vec::new(),
        });
        match parent {
            Some(parent) => self.nodes[parent.0].children.push(Child::Node(id)),
            None => self.roots.push(id),
        }
        id
    }

    /// A paragraph or heading of its own, from margin to margin.
    pub fn paragraph(&mut self, role: Role, text: &str, style: Style) {
        let width = self.width();
        self.block(role, 0.0, width, text, style);
    }

    /// A paragraph or heading of its own, in a column that begins `left` of the margin.
    pub fn block(&mut self, role: Role, left: f32, width: f32, text: &str, style: Style) {
        let node = self.open(None, role);
        self.nodes[node.0].title = text.to_owned();
        for line in Face::get().wrap(text, style.size, width) {
            self.need(style.leading);
            let baseline = self.y + style.leading / 2.0 + style.size * 0.36;
            self.line(Some(node), MARGIN + left, width, baseline, &line, style);
            self.y += style.leading;
        }
    }

    /// A rule from margin to margin.
    pub fn rule(&mut self) {
        let (y, width) = (self.y, self.width());
        self.fill(MARGIN, y, width, 0.75, Ink::Rule);
    }

    /// A row of a table. Cells become as high as the highest; a text that is too wide is
    /// made a little smaller, then broken. Returns whether the row fitted on the page; if not,
    /// nothing was written, and the caller begins a page and repeats the table's head.
    pub fn row(
        &mut self,
        parent: Option<NodeId>,
        widths: &[f32],
        cells: &[Cell<'_>],
        style: Style,
    ) -> RowPlace {
        let fitted: Vec<(f32, Vec<String>)> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| fit(cell.text, style.size, width - 2.0 * CELL_PADDING))
            .collect();
        let lines = fitted
            .iter()
            .map(|(_, lines)| lines.len())
            .max()
            .unwrap_or(1);
        let line_height = style.size * 1.35;
        let height = lines as f32 * line_height + 2.0 * CELL_PADDING;
        if height > PAGE_HEIGHT - 2.0 * MARGIN - FOOTER_ROOM - HEAD_ROOM {
            self.error.get_or_insert(DocumentError::CellTooLong);
            return RowPlace::Written;
        }
        if self.y + height > PAGE_HEIGHT - MARGIN - FOOTER_ROOM {
            return RowPlace::NoRoom;
        }

        let total: f32 = widths.iter().sum();
        let top = self.y;
        let shaded = cells.iter().all(|cell| cell.role == Role::ColumnHeader);
        if shaded {
            self.fill(MARGIN, top, total, height, Ink::Shade);
            self.fill(MARGIN, top, total, 1.0, Ink::Text);
        }
        let node = parent.map(|parent| self.open(Some(parent), Role::Row));
        let mut left = MARGIN;
        for ((cell, (size, lines)), width) in cells.iter().zip(&fitted).zip(widths) {
            if cell.role == Role::RowHeader {
                self.fill(left, top, *width, height, Ink::Shade);
            }
            let node = node.map(|node| self.open(Some(node), cell.role));
            let block = lines.len() as f32 * line_height;
            let mut y = top + (height - block) / 2.0;
            for line in lines {
                let baseline = y + line_height / 2.0 + size * 0.36;
                let style = Style {
                    size: *size,
                    align: cell.align,
                    ..style
                };
                let inner = width - 2.0 * CELL_PADDING;
                self.line(node, left + CELL_PADDING, inner, baseline, line, style);
                y += line_height;
            }
            left += width;
        }
        self.y += height;
        self.fill(MARGIN, self.y, total, 0.5, Ink::Rule);
        RowPlace::Written
    }

    fn line(
        &mut self,
        node: Option<NodeId>,
        left: f32,
        width: f32,
        baseline: f32,
        text: &str,
        style: Style,
    ) {
        if text.is_empty() {
            return;
        }
        let face = Face::get();
        if let Some(character) = face.missing(text) {
            self.error
                .get_or_insert(DocumentError::MissingGlyph { character });
            return;
        }
        let spare = width - face.width(text, style.size);
        let x = match style.align {
            Align::Left => left,
            Align::Centre => left + spare / 2.0,
            Align::Right => left + spare,
        };
        let mark = node.map(|node| {
            let mark = self.marks;
            self.marks += 1;
            self.nodes[node.0].children.push(Child::Mark(mark));
            mark
        });
        let text = text.to_owned();
        let (size, ink) = (style.size, style.ink);
        self.put(Op::Text {
            x,
            baseline,
            size,
            text,
            ink,
            mark,
        });
    }

    fn fill(&mut self, x: f32, y: f32, width: f32, height: f32, ink: Ink) {
        self.put(Op::Fill {
            x,
            y,
            width,
            height,
            ink,
        });
    }

    fn put(&mut self, op: Op) {
        if let Some(page) = self.pages.last_mut() {
            page.push(op);
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`DocumentError::MissingGlyph`] if a character cannot be drawn anywhere in it.
    pub fn finish(mut self) -> Result<Vec<u8>, DocumentError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if let Some(character) = Face::get().missing(&self.footer) {
            return Err(DocumentError::MissingGlyph { character });
        }
        write::write(&self)
    }
}

/// Whether a row was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowPlace {
    /// It stands on the page.
    Written,
    /// The page is full.
    NoRoom,
}

/// The size and the lines in which a text stands in a cell.
fn fit(text: &str, size: f32, width: f32) -> (f32, Vec<String>) {
    let face = Face::get();
    let wide = face.width(text, size);
    if wide <= width {
        return (size, vec![text.to_owned()]);
    }
    let smaller = size * width / wide;
    if smaller >= size * SHRINK_LIMIT {
        return (smaller, vec![text.to_owned()]);
    }
    // As many lines as it takes, but no last line of one character.
    let mut lines = face.wrap(text, size, width);
    let mut narrower = width;
    while narrower > width / 2.0 {
        narrower *= 0.95;
        let even = face.wrap(text, size, narrower);
        if even.len() > lines.len() {
            break;
        }
        lines = even;
    }
    (size, lines)
}
