//! What both sides' pages say about a case beside the filing itself: comments, the mark on a
//! page, the chain of corrections.

use super::chain::Link;
use super::marks::Mark;
use super::talk::{Audience, Comment};
use crate::filings::store::ActorSide;
use crate::filings::words::{Chip, chip};
use crate::ids::FilingId;
use crate::web::dates;
use crate::web::layout::Side;

/// A comment in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentLine {
    /// When.
    pub at: String,
    /// Who.
    pub who: String,
    /// What.
    pub text: String,
    /// Whether staff alone read it.
    pub internal: bool,
}

/// Comments as `side` reads them. An establishment reads 基金事務局 where staff read a name.
pub fn comments(comments: Vec<Comment>, side: Side) -> Vec<CommentLine> {
    comments
        .into_iter()
        .map(|comment| CommentLine {
            at: dates::moment(comment.at),
            who: match (comment.side, side) {
                (ActorSide::Staff, Side::Member) => "基金事務局".to_owned(),
                (ActorSide::Staff, Side::Office) => format!("基金事務局 {}", comment.actor),
                (ActorSide::Member, Side::Member) => comment.actor,
                (ActorSide::Member, Side::Office) => format!("事業所 {}", comment.actor),
            },
            text: comment.text,
            internal: comment.audience == Audience::Office,
        })
        .collect()
}

/// A filing of a chain in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainLine {
    /// Its page.
    pub path: String,
    /// Its receipt's number.
    pub receipt_number: String,
    /// When it was received.
    pub received: String,
    /// Its state.
    pub chip: Chip,
    /// Whether it is the one that the page is about.
    pub here: bool,
}

/// A chain in words; empty if nothing was replaced.
pub fn chain(links: Vec<Link>, here: FilingId) -> Vec<ChainLine> {
    if links.len() < 2 {
        return Vec::new();
    }
    links
        .into_iter()
        .map(|link| ChainLine {
            path: format!("/filings/{}", link.id),
            receipt_number: link.receipt_number,
            received: dates::moment(link.received),
            chip: chip(&link.state),
            here: link.id == here,
        })
        .collect()
}

/// A marked page: its picture, and the rectangle in percent of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedPage {
    /// The page.
    pub page: u64,
    /// Its picture.
    pub picture: String,
    /// Left, top, width, height.
    pub area: Option<[String; 4]>,
    /// Where it is, for who does not see it.
    pub place: String,
}

/// A mark on a filing whose page is at `path`.
pub fn marked(mark: Mark, path: &str) -> MarkedPage {
    let percent = |thousandths: u16| format!("{}.{}", thousandths / 10, thousandths % 10);
    let page = mark.page;
    MarkedPage {
        page,
        picture: format!("{path}/pages/{page}.png"),
        area: mark
            .area
            .map(|area| [area.left, area.top, area.width, area.height].map(percent)),
        place: match mark.area {
            None => format!("{page}ページ目の全体"),
            Some(area) => {
                let height = match area.top + area.height / 2 {
                    0..=333 => "上のほう",
                    334..=666 => "中ほど",
                    _ => "下のほう",
                };
                let side = match area.left + area.width / 2 {
                    0..=333 => "左",
                    334..=666 => "中央",
                    _ => "右",
                };
                format!("{page}ページ目の{height}、{side}")
            }
        },
    }
}
