//! The mis-delivery guard (R9): another establishment's number or name in a document's text.
//!
//! A number counts where it is certain to be one: behind the words 事業所番号, or written with
//! its leading zeros (`0124`, `000124`) as a word of its own. Any other four digits may be a
//! year or an amount. A name counts wherever it stands, unless it is a part of the own name
//! or of the fund's. Scans have no text; they pass with a remark for the person who looks.
//!
//! The text is read by a process of its own ([`worker`]), like everything that strangers may
//! have made: what comes back is a page and a number, never a word of the document.

pub mod worker;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization as _;

/// A name shorter than this is a word that may stand anywhere.
const NAME_LEAST_CHARS: usize = 4;
/// How far behind its label a number may stand, in characters.
const LABEL_REACH_CHARS: usize = 12;

/// What is asked about a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Whose it is.
    pub own: u16,
    /// What that establishment is called.
    pub own_name: String,
    /// What the fund is called.
    pub fund: String,
}

/// All establishments, by number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory(pub Vec<(u16, String)>);

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    /// On which page, from 1.
    pub page: usize,
    /// Whose.
    pub number: u16,
    /// By what.
    pub by: By,
}

/// By what another establishment was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Its number.
    Number,
    /// Its name.
    Name,
}

/// What a document's text says about whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Another establishment stands in it.
    Stray(Stray),
    /// Nobody else; the own number or name stands in it.
    Own,
    /// Nobody else, and not the own one either.
    Nobody,
    /// There is no text.
    NoText,
}

/// Names prepared for many documents.
#[derive(Debug)]
pub struct Names<'a> {
    numbers: Vec<u16>,
    names: Vec<(u16, String)>,
    question: &'a Question,
    own: String,
    fund: String,
}

impl<'a> Names<'a> {
    /// Prepares the question.
    pub fn new(question: &'a Question, directory: &Directory) -> Self {
        let others = directory.0.iter().filter(|(n, _)| *n != question.own);
        let own = squeezed(&question.own_name);
        let names = others
            .clone()
            .map(|(number, name)| (*number, squeezed(name)))
            // Two establishments of one name cannot be told apart by it.
            .filter(|(_, name)| name.chars().count() >= NAME_LEAST_CHARS && *name != own)
            .collect();
        Self {
            numbers: others.map(|(number, _)| *number).collect(),
            names,
            question,
            own,
            fund: squeezed(&question.fund),
        }
    }

    /// Judges the pages of a document.
    pub fn judge(&self, pages: &[String]) -> Verdict {
        let (mut own, mut any) = (false, false);
        for (index, text) in pages.iter().enumerate() {
            let text: String = text.nfkc().collect();
            any |= text.chars().any(|c| !c.is_whitespace() && c != '\u{FFFD}');
            let found = numbers(&text);
            own |= found.contains(&self.question.own);
            let stray = |number, by| {
                Verdict::Stray(Stray {
                    page: index + 1,
                    number,
                    by,
                })
            };
            if let Some(number) = found.iter().find(|n| self.numbers.contains(n)) {
                return stray(*number, By::Number);
            }
            let whole = squeezed(&text);
            let mut rest = whole.clone();
            for known in [&self.own, &self.fund] {
                if known.chars().count() >= 2 && rest.contains(known.as_str()) {
                    own |= *known == self.own;
                    rest = rest.replace(known.as_str(), "\n");
                }
            }
            // A name with the own one inside it is looked for before that is taken out.
            let named = self.names.iter().find(|(_, name)| {
                let text = if name.contains(&self.own) {
                    &whole
                } else {
                    &rest
                };
                text.contains(name.as_str())
            });
            if let Some((number, _)) = named {
                return stray(*number, By::Name);
            }
        }
        match (any, own) {
            (false, _) => Verdict::NoText,
            (true, true) => Verdict::Own,
            (true, false) => Verdict::Nobody,
        }
    }
}

/// Without blanks, and with one way of writing kinds of companies.
fn squeezed(text: &str) -> String {
    let plain: String = text.nfkc().filter(|c| !c.is_whitespace()).collect();
    [
        ("株式会社", "(株)"),
        ("有限会社", "(有)"),
        ("合同会社", "(同)"),
        ("医療法人社団", "(医)"),
        ("医療法人", "(医)"),
        ("一般財団法人", "(一財)"),
        ("一般社団法人", "(一社)"),
    ]
    .into_iter()
    .fold(plain, |text, (long, short)| text.replace(long, short))
}

/// Every number in a text that is certain to be an establishment's.
fn numbers(text: &str) -> Vec<u16> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = labelled(&chars);
    let mut at = 0;
    while at < chars.len() {
        if !chars[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let end = at
            + chars[at..]
                .iter()
                .take_while(|c| c.is_ascii_digit())
                .count();
        let digits: String = chars[at..end].iter().collect();
        let padded = (digits.len() == 4 && digits.starts_with('0'))
            || (digits.len() == 6 && digits.starts_with("00"));
        if padded
            && stands_alone(&chars, at, end)
            && let Ok(number) = digits.parse()
        {
            found.push(number);
        }
        at = end;
    }
    found
}

/// Whether digits are a word of their own, and no part of a date, a telephone number or an
/// amount.
fn stands_alone(chars: &[char], start: usize, end: usize) -> bool {
    let digit = |at: Option<usize>| {
        at.and_then(|at| chars.get(at))
            .is_some_and(char::is_ascii_digit)
    };
    let joins = |c: char| matches!(c, ',' | '.' | '-' | '/' | ':' | '‐' | '−' | '–' | '~');
    let before = start.checked_sub(1).map(|at| chars[at]);
    let after = chars.get(end).copied();
    let joined_before = before
        .is_some_and(|c| c.is_ascii_alphanumeric() || (joins(c) && digit(start.checked_sub(2))));
    let joined_after = after.is_some_and(|c| {
        c.is_ascii_alphanumeric()
            || "円年月日時分名人件%".contains(c)
            || (joins(c) && digit(Some(end + 1)))
    });
    !joined_before && !joined_after && !matches!(before, Some('¥' | '\\' | '〒'))
}

/// Numbers behind the words that announce one. In boxes of one digit each there are blanks
/// between them.
fn labelled(chars: &[char]) -> Vec<u16> {
    const LABELS: [&str; 3] = ["事業所番号", "事業所コード", "事業所No"];
    let mut found = Vec::new();
    for label in LABELS {
        let label: Vec<char> = label.chars().collect();
        for start in 0..chars.len().saturating_sub(label.len()) {
            if chars[start..start + label.len()] != label[..] {
                continue;
            }
            let behind = &chars[start + label.len()..];
            let Some(first) = behind
                .iter()
                .take(LABEL_REACH_CHARS)
                .position(|c| !(c.is_whitespace() || ":.()[]|第No".contains(*c)))
            else {
                continue;
            };
            let mut digits = String::new();
            for c in &behind[first..] {
                match c {
                    '0'..='9' if digits.len() < 7 => digits.push(*c),
                    ' ' | '|' if !digits.is_empty() => {}
                    _ => break,
                }
            }
            if digits.len() <= 6
                && let Ok(number) = digits.parse()
            {
                found.push(number);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
