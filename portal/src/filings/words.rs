//! Filings in words, as the pages of both sides show them: states, times, sizes, timelines.

use super::store::{ActorSide, TimelineEntry};
use super::{State, state_label};
use crate::web::dates;
use crate::web::layout::Side;

/// A state's word and colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chip {
    /// `neutral`, `info`, `success`, `error`.
    pub kind: &'static str,
    /// The word.
    pub word: &'static str,
}

/// The chip of a state's word in the database.
pub fn chip(code: &str) -> Chip {
    let kind = match code {
        "in_review" => "info",
        "decided" => "success",
        "returned" => "error",
        _ => "neutral",
    };
    Chip {
        kind,
        word: state_label(code),
    }
}

/// A state to choose from in a search form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateChoice {
    /// The word in the form.
    pub code: &'static str,
    /// The word on the page.
    pub label: &'static str,
    /// Whether it is chosen.
    pub selected: bool,
}

/// Every state, with the chosen one marked.
pub fn state_choices(chosen: Option<&str>) -> Vec<StateChoice> {
    State::CODES
        .into_iter()
        .map(|code| StateChoice {
            code,
            label: state_label(code),
            selected: chosen == Some(code),
        })
        .collect()
}

/// One entry of a timeline, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineLine {
    /// When.
    pub at: String,
    /// What.
    pub what: &'static str,
    /// Who.
    pub who: String,
    /// What else there is to say; may be empty.
    pub note: String,
}

/// A timeline as `side` reads it. Both sides read the same entries; an establishment reads
/// 基金事務局 where staff read a colleague's name.
pub fn timeline(entries: Vec<TimelineEntry>, side: Side) -> Vec<TimelineLine> {
    entries
        .into_iter()
        .map(|entry| TimelineLine {
            at: dates::moment(entry.at),
            what: entry.event.label(),
            who: match (entry.side, side) {
                (ActorSide::Staff, Side::Member) => "基金事務局".to_owned(),
                (ActorSide::Staff, Side::Office) => format!("基金事務局 {}", entry.actor),
                (ActorSide::Member, Side::Member) => entry.actor,
                (ActorSide::Member, Side::Office) => format!("事業所 {}", entry.actor),
            },
            note: entry.note,
        })
        .collect()
}

/// `1.4 MB（1,423,187バイト）`
pub fn size(bytes: u64) -> String {
    let exact = thousands(bytes);
    let rough = bytes as f64;
    if bytes < 1024 {
        format!("{exact}バイト")
    } else if bytes < 1024 * 1024 {
        format!("{:.0} KB（{exact}バイト）", rough / 1024.0)
    } else {
        format!("{:.1} MB（{exact}バイト）", rough / (1024.0 * 1024.0))
    }
}

/// `1,423,187`
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_and_exact() {
        assert_eq!(size(999), "999バイト");
        assert_eq!(size(2_048), "2 KB（2,048バイト）");
        assert_eq!(size(1_572_864), "1.5 MB（1,572,864バイト）");
    }
}
