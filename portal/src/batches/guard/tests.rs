//! Whose establishment a text speaks of, and what only looks like one.

use super::worker::{Guard, serve};
use super::*;

fn directory() -> Directory {
    Directory(vec![
        (123, "見本製作所株式会社".into()),
        (124, "例示物流株式会社".into()),
        (125, "見本製作所株式会社 大阪".into()),
        (1240, "千二百四十商事㈱".into()),
        (2026, "二千二十六工業".into()),
        (130, "見本".into()),
    ])
}

fn judge(own: u16, pages: &[&str]) -> Verdict {
    let directory = directory();
    let question = Question {
        own,
        own_name: directory
            .0
            .iter()
            .find(|(number, _)| *number == own)
            .map(|(_, name)| name.clone())
            .unwrap(),
        fund: "見本企業年金基金".into(),
    };
    let pages: Vec<String> = pages.iter().map(|text| (*text).to_owned()).collect();
    Names::new(&question, &directory).judge(&pages)
}

fn stray(page: usize, number: u16, by: By) -> Verdict {
    Verdict::Stray(Stray { page, number, by })
}

#[test]
fn another_establishment_is_found_by_number_or_name_and_its_page_is_named() {
    for text in [
        "事業所番号 0124",
        "事業所番号：１２４",
        "事業所番号 | 0 | 1 | 2 | 4",
        "事業所番号\n000124",
        "明細\n0124\n人数",
        "（000124）",
    ] {
        assert_eq!(
            judge(123, &["0123", text]),
            stray(2, 124, By::Number),
            "{text}"
        );
    }
    for text in ["例示物流株式会社 御中", "例示物流（株）", "例 示 物 流 ㈱"]
    {
        assert_eq!(judge(123, &[text]), stray(1, 124, By::Name), "{text}");
    }
    // Without leading zeros only behind the words.
    assert_eq!(judge(123, &["事業所番号 1240"]), stray(1, 1240, By::Number));
    assert_eq!(
        judge(123, &["千二百四十商事株式会社"]),
        stray(1, 1240, By::Name)
    );
}

#[test]
fn years_amounts_and_telephone_numbers_are_no_establishments() {
    let text =
        "事業所番号 0123 2026年11月 1240円 03-0124-0124 0120.0124.1 0124円 ¥0124 A0124 12:0124";
    assert_eq!(judge(123, &[text]), Verdict::Own);
    // A number that no establishment has.
    assert_eq!(judge(123, &["0999"]), Verdict::Nobody);
}

#[test]
fn a_name_within_the_own_name_or_the_funds_is_not_another() {
    assert_eq!(judge(125, &["見本製作所株式会社 大阪 御中"]), Verdict::Own);
    assert_eq!(
        judge(123, &["見本製作所株式会社 御中 見本企業年金基金"]),
        Verdict::Own
    );
    // And the own name within another is no excuse for that.
    assert_eq!(
        judge(123, &["見本製作所株式会社 大阪 御中"]),
        stray(1, 125, By::Name)
    );
    assert_eq!(
        judge(125, &["見本製作所株式会社 御中"]),
        stray(1, 123, By::Name)
    );
}

#[test]
fn a_page_without_text_is_told_from_one_that_names_nobody() {
    assert_eq!(judge(123, &[""]), Verdict::NoText);
    assert_eq!(judge(123, &["\u{FFFD}\u{FFFD}"]), Verdict::NoText);
    assert_eq!(judge(123, &["お知らせ"]), Verdict::Nobody);
}

#[test]
fn the_worker_answers_with_a_verdict_and_no_word_of_the_document() {
    let directory = directory();
    let question = Question {
        own: 124,
        own_name: "例示物流株式会社".into(),
        fund: "基金".into(),
    };
    let pdf = crate::testing::world::corpus("good/20240229_0123_資格喪失届.pdf");
    let mut input = serde_json::to_vec(&question).unwrap();
    input.push(b'\n');
    input.extend(serde_json::to_vec(&directory).unwrap());
    input.push(b'\n');
    input.extend(&pdf);
    let mut output = Vec::new();
    serve(&input[..], &mut output).unwrap();
    let verdict: Verdict = serde_json::from_slice(&output).unwrap();
    assert_eq!(verdict, Guard::default().judge(&question, &directory, &pdf));
    assert!(output.len() < 100);
    assert_eq!(
        Guard::default().judge(&question, &directory, b"no pdf"),
        Verdict::NoText
    );
}
