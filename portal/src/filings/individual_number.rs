//! Individual numbers (個人番号, マイナンバー) have no place in a filing to the fund: it has no
//! ground to take them, and what it must not keep it must not receive (FACTS.md, part 1).
//!
//! Found is a number of twelve digits with the right check digit, written in one piece, in
//! fours, or in boxes of one digit, in digits of either width. Twelve digits that are part of
//! a longer number are none, nor are two numbers that happen to stand side by side. Nothing
//! here returns, stores or prints a digit.

use unicode_normalization::UnicodeNormalization as _;

/// Digits of an individual number.
const DIGITS: usize = 12;

/// Says whether an individual number stands in the text.
pub fn occurs(text: &str) -> bool {
    let mut group = Group::default();
    // NFKC turns full-width digits, and those in circles, into plain ones.
    for c in text.nfkc().chain(['\n']) {
        match (c.to_digit(10), c) {
            (Some(digit), _) => group.digit(digit),
            (None, ' ' | '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{30FC}') => {
                group.separator();
            }
            (None, _) => {
                if group.ends_as_number() {
                    return true;
                }
                group = Group::default();
            }
        }
    }
    false
}

/// Says whether an individual number stands in a file's name, where words are also joined by
/// `_` and `.`.
pub fn occurs_in_name(name: &str) -> bool {
    occurs(name) || occurs(&name.replace(['_', '.'], "-"))
}

/// A file's name that may be shown, logged and kept: of one with an individual number no digit
/// is left.
pub fn without_number(name: &str) -> String {
    if !occurs_in_name(name) {
        return name.to_owned();
    }
    let hide = |c: char| if c.is_numeric() { '＊' } else { c };
    name.nfkc().map(hide).collect()
}

/// Digits and the places where they are separated.
#[derive(Default)]
struct Group {
    /// Runs of digits, each between separators.
    runs: Vec<Vec<u32>>,
    after_separator: bool,
}

impl Group {
    fn digit(&mut self, digit: u32) {
        match self.runs.last_mut() {
            Some(run) if !self.after_separator => run.push(digit),
            _ => self.runs.push(vec![digit]),
        }
        self.after_separator = false;
    }

    fn separator(&mut self) {
        self.after_separator = true;
    }

    fn ends_as_number(&self) -> bool {
        let lengths: Vec<usize> = self.runs.iter().map(Vec::len).collect();
        let written = |shape: &[usize]| {
            let places = lengths.windows(shape.len()).enumerate();
            places
                .filter(|(_, lengths)| *lengths == shape)
                .any(|(at, _)| fits(&self.runs[at..at + shape.len()].concat()))
        };
        // Of thirteen boxes, twelve in a row say nothing.
        let in_boxes = lengths.len() == DIGITS && written(&[1; DIGITS]);
        written(&[DIGITS]) || written(&[4, 4, 4]) || in_boxes
    }
}

/// Whether the last digit is the check digit of the others (番号利用法施行規則 第5条: modulus 11,
/// weights 2 to 7 and 2 to 6 from the right).
fn fits(digits: &[u32]) -> bool {
    let [rest @ .., check] = digits else {
        return false;
    };
    let weighted = rest.iter().rev().zip((2..=7).chain(2..=6));
    let sum: u32 = weighted.map(|(digit, weight)| digit * weight).sum();
    let wanted = match sum % 11 {
        0 | 1 => 0,
        rest => 11 - rest,
    };
    *check == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Invented: any eleven digits with their check digit.
    const NUMBER: &str = "123456789018";

    #[test]
    fn the_check_digit_is_that_of_the_regulation() {
        let digits =
            |text: &str| -> Vec<u32> { text.chars().filter_map(|c| c.to_digit(10)).collect() };
        assert!(fits(&digits(NUMBER)));
        for last in 0..=9 {
            let other = format!("12345678901{last}");
            assert_eq!(fits(&digits(&other)), last == 8, "{other}");
        }
        // A remainder of 0 or 1 gives the digit 0.
        assert!(fits(&digits("000000000000")));
        assert!(fits(&digits("000000000060")));
    }

    #[test]
    fn a_number_is_found_however_it_is_written() {
        for text in [
            "個人番号：123456789018",
            "個人番号 1234 5678 9018 です",
            "1234-5678-9018",
            "１２３４５６７８９０１８",
            "１２３４　５６７８　９０１８",
            "1 2 3 4 5 6 7 8 9 0 1 8",
            "No.1 1234 5678 9018 12",
            "提出日 2026-11-20\n123456789018",
        ] {
            assert!(occurs(text), "{text}");
        }
    }

    #[test]
    fn a_number_in_a_files_name_is_found_and_hidden() {
        for name in [
            "20260313_0123_資格取得届_123456789018.pdf",
            "1234_5678_9018.pdf",
            "資格取得届１２３４５６７８９０１８.pdf",
        ] {
            assert!(occurs_in_name(name), "{name}");
            let shown = without_number(name);
            assert!(!shown.chars().any(char::is_numeric), "{shown}");
        }
        for name in ["20260313_0123_資格取得届.pdf", "202603130123資格取得届.pdf"] {
            assert_eq!(without_number(name), name);
        }
    }

    #[test]
    fn other_numbers_are_not_taken_for_one() {
        for text in [
            "",
            "123456789012",
            "0123 20240524",
            "1234567890189",
            "91234567890180",
            "123456 789018",
            "1 2 3 4 5 6 7 8 9 0 1 8 3",
            "基礎年金番号 1234-567890",
            "電話 03-1234-5678 内線 9018",
            "1234,5678,9018",
        ] {
            assert!(!occurs(text), "{text}");
        }
    }
}
