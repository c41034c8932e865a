//! Turns the list of what stands where into a file, by krilla.

use krilla::Document;
use krilla::SerializeSettings;
use krilla::color::rgb;
use krilla::configure::ConfigurationBuilder;
use krilla::configure::validate::{Accessibility, Archival};
use krilla::destination::XyzDestination;
use krilla::error::KrillaError;
use krilla::geom::{PathBuilder, Point, Rect};
use krilla::metadata::{DateTime, Metadata};
use krilla::outline::{Outline, OutlineNode};
use krilla::page::PageSettings;
use krilla::paint::Fill;
use krilla::surface::Surface;
use krilla::tagging::{
    Artifact, ArtifactType, ContentTag, Identifier, SpanTag, TableHeaderScope, Tag, TagGroup,
    TagKind, TagTree,
};
use krilla::text::TextDirection;
use time::OffsetDateTime;

use super::{Child, Ink, MARGIN, Node, NodeId, Op, PAGE_HEIGHT, PAGE_WIDTH, Role, Sheet};
use crate::documents::DocumentError;
use crate::documents::face::Face;

const FOOTER_SIZE: f32 = 8.5;
const LANGUAGE: &str = "ja";

pub(super) fn write(sheet: &Sheet) -> Result<Vec<u8>, DocumentError> {
    let configuration = ConfigurationBuilder::new()
        .with_archival_validator(Archival::A2_U)
        .with_accessibility_validator(Accessibility::UA1)
        .finish()
        .map_err(|error| DocumentError::Invalid(format!("{error:?}")))?;
    let mut document = Document::new_with(SerializeSettings {
        configuration,
        enable_tagging: true,
        ..SerializeSettings::default()
    });
    document.set_metadata(
        Metadata::new()
            .title(sheet.title.clone())
            .language(LANGUAGE.into())
            .creator("Renkei".into())
            .keywords(sheet.keywords.clone())
            .creation_date(date_time(sheet.made_at)),
    );

    let mut marks: Vec<Option<Identifier>> = vec![None; sheet.marks];
    let settings = PageSettings::from_wh(PAGE_WIDTH, PAGE_HEIGHT)
        .ok_or_else(|| DocumentError::Invalid("A4".into()))?;
    for (index, ops) in sheet.pages.iter().enumerate() {
        let mut page = document.start_page_with(settings.clone());
        let mut surface = page.surface();
        for op in ops {
            draw(&mut surface, op, &mut marks);
        }
        footer(&mut surface, sheet, index);
        surface.finish();
        page.finish();
    }

    let mut tree = TagTree::new().with_lang(Some(LANGUAGE.into()));
    for root in &sheet.roots {
        tree.push(group(&sheet.nodes, *root, &marks));
    }
    document.set_tag_tree(tree);
    let mut outline = Outline::new();
    let top = XyzDestination::new(0, Point::from_xy(0.0, 0.0));
    outline.push_child(OutlineNode::new(sheet.title.clone(), top));
    document.set_outline(outline);
    document.finish().map_err(|error| {
        DocumentError::Invalid(match error {
            KrillaError::Validation(errors) => {
                let errors: Vec<String> = errors
                    .iter()
                    .map(|(error, _)| format!("{error:?}"))
                    .collect();
                errors.join(", ")
            }
            error => format!("{error:?}"),
        })
    })
}

fn draw(surface: &mut Surface<'_>, op: &Op, marks: &mut [Option<Identifier>]) {
    match op {
        Op::Text {
            x,
            baseline,
            size,
            text,
            ink,
            mark,
        } => {
            let tag = match mark {
                Some(_) => ContentTag::Span(SpanTag::empty()),
                None => ContentTag::Artifact(Artifact::with_kind(ArtifactType::PaginationOther)),
            };
            let identifier = surface.start_tagged(tag);
            text_at(surface, *x, *baseline, *size, text, *ink);
            surface.end_tagged();
            if let Some(place) = mark.and_then(|mark| marks.get_mut(mark)) {
                *place = Some(identifier);
            }
        }
        Op::Fill {
            x,
            y,
            width,
            height,
            ink,
        } => {
            let mut path = PathBuilder::new();
            let Some(rect) = Rect::from_xywh(*x, *y, *width, *height) else {
                return;
            };
            path.push_rect(rect);
            let Some(path) = path.finish() else { return };
            let layout = Artifact::with_kind(ArtifactType::Layout);
            surface.start_tagged(ContentTag::Artifact(layout));
            surface.set_fill(Some(fill(*ink)));
            surface.draw_path(&path);
            surface.end_tagged();
        }
    }
}

fn text_at(surface: &mut Surface<'_>, x: f32, baseline: f32, size: f32, text: &str, ink: Ink) {
    surface.set_fill(Some(fill(ink)));
    surface.draw_text(
        Point::from_xy(x, baseline),
        Face::get().font(),
        size,
        text,
        false,
        TextDirection::LeftToRight,
    );
}

fn footer(surface: &mut Surface<'_>, sheet: &Sheet, index: usize) {
    let baseline = PAGE_HEIGHT - MARGIN + 18.0;
    let number = format!("{} / {}", index + 1, sheet.pages.len());
    let right = PAGE_WIDTH - MARGIN - Face::get().width(&number, FOOTER_SIZE);
    for (kind, x, text) in [
        (ArtifactType::Footer, MARGIN, &sheet.footer),
        (ArtifactType::PageNumber, right, &number),
    ] {
        surface.start_tagged(ContentTag::Artifact(Artifact::with_kind(kind)));
        text_at(surface, x, baseline, FOOTER_SIZE, text, Ink::Quiet);
        surface.end_tagged();
    }
}

fn group(nodes: &[Node], id: NodeId, marks: &[Option<Identifier>]) -> TagGroup {
    let node = &nodes[id.0];
    let tag: TagKind = match node.role {
        Role::Heading(level) => Tag::Hn(level, Some(node.title.clone())).into(),
        Role::Paragraph => Tag::P.into(),
        Role::Table => Tag::Table.into(),
        Role::TableHead => Tag::THead.into(),
        Role::TableBody => Tag::TBody.into(),
        Role::Row => Tag::TR.into(),
        Role::ColumnHeader => Tag::TH(TableHeaderScope::Column).into(),
        Role::RowHeader => Tag::TH(TableHeaderScope::Row).into(),
        Role::Data => Tag::TD.into(),
    };
    let mut group = TagGroup::new(tag);
    for child in &node.children {
        match child {
            Child::Node(child) => group.push(self::group(nodes, *child, marks)),
            Child::Mark(mark) => {
                if let Some(identifier) = marks.get(*mark).copied().flatten() {
                    group.push(identifier);
                }
            }
        }
    }
    group
}

fn fill(ink: Ink) -> Fill {
    let (red, green, blue) = match ink {
        Ink::Text => (0x1A, 0x1A, 0x1A),
        Ink::Quiet => (0x4D, 0x4D, 0x4D),
        Ink::Rule => (0xB3, 0xB3, 0xB3),
        Ink::Shade => (0xF2, 0xF2, 0xF2),
    };
    Fill {
        paint: rgb::Color::new(red, green, blue).into(),
        ..Fill::default()
    }
}

fn date_time(at: OffsetDateTime) -> DateTime {
    let at = at.to_offset(time::UtcOffset::UTC);
    DateTime::new(u16::try_from(at.year()).unwrap_or_default())
        .month(u8::from(at.month()))
        .day(at.day())
        .hour(at.hour())
        .minute(at.minute())
        .second(at.second())
        .utc_offset_hour(0)
        .utc_offset_minute(0)
}
