//! The check against the real files in `tests/corpus`, and against damaged ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use time::macros::date;

use super::*;
use crate::filings::pdf::Active;

/// Files that only a virus scanner finds. They pass here, where there is none; the tests of
/// `virus_scan` ask a real one about them.
const FOUND_BY_A_SCANNER: [&str; 1] = ["bad/eicar_attached.zip"];

struct Row {
    file: String,
    password: Option<Password>,
    accepted: bool,
    reason: String,
    entries: Vec<String>,
}

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus")
}

/// Splits a line of CSV whose quotes only ever wrap a whole field.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().unwrap().push(c),
        }
    }
    fields
}

fn rows() -> Vec<Row> {
    let table = fs::read_to_string(corpus().join("expected.csv")).unwrap();
    let rows = table.lines().skip(1).map(|line| {
        let fields = fields(line);
        assert_eq!(fields.len(), 5, "{line}");
        Row {
            file: fields[0].clone(),
            password: Some(Password::new(fields[1].clone())).filter(|_| !fields[1].is_empty()),
            accepted: fields[2] == "accept",
            reason: fields[3].clone(),
            entries: fields[4]
                .split('|')
                .filter(|entry| !entry.is_empty())
                .map(str::to_owned)
                .collect(),
        }
    });
    // The registration forms are another feature's.
    rows.filter(|row| !row.file.starts_with("registration/"))
        .collect()
}

fn hand_in(file: &str, bytes: &[u8], password: Option<&Password>) -> Result<Accepted, Refused> {
    let upload = Upload {
        file_name: file.rsplit('/').next().unwrap(),
        bytes,
        password,
        establishment: "0123".parse().unwrap(),
        chosen: &[],
        today: date!(2026 - 11 - 20),
        kinds: &Kinds::of_a_new_portal(),
    };
    check_upload(&upload, &[&IsDocument, &HasNoIndividualNumber::default()])
}

/// The faults that fit a reason of the table, by how the reason begins.
fn fits(reason: &str, fault: &Fault) -> bool {
    use names::NameFault as Name;
    let name = |wanted: fn(&Name) -> bool| match fault {
        Fault::Name(error) => error.faults().iter().any(wanted),
        _ => false,
    };
    let suggests = |right: &str| match fault {
        Fault::Name(error) => error
            .suggestion()
            .is_some_and(|name| name.to_string() == right),
        _ => false,
    };
    let right = "20240524_0123_資格取得届";
    match reason.split(": ").collect::<Vec<_>>().as_slice() {
        ["name", "no establishment number"] => {
            name(|f| *f == Name::MissingNumber) && suggests(right)
        }
        ["name", "no such date"] => name(|f| matches!(f, Name::NoSuchDate { .. })),
        ["name", "another establishment's number"] => {
            name(|f| matches!(f, Name::OtherEstablishment { .. }))
        }
        ["name", "no kind of filing"] => name(|f| *f == Name::MissingKind),
        ["name", "hyphens for underscores", _] => {
            name(|f| *f == Name::Separators) && suggests(right)
        }
        ["name", "Japanese era date", _] => {
            name(|f| matches!(f, Name::EraDate { .. })) && suggests(right)
        }
        ["name", "copy suffix", _] => {
            name(|f| matches!(f, Name::CopyMark { .. })) && suggests(right)
        }
        ["name", "unknown kind of filing"] => name(|f| matches!(f, Name::UnknownKind { .. })),
        ["encrypted PDF", ..] => *fault == PdfError::Encrypted.into(),
        ["active content", what] => {
            let wanted = match what.split(' ').next().unwrap() {
                "JavaScript" => Active::JavaScript,
                "Launch" => Active::Launch,
                "embedded" => Active::EmbeddedFile,
                other => panic!("{other}"),
            };
            matches!(fault, Fault::Pdf(PdfError::ActiveContent(found)) if found.contains(&wanted))
        }
        ["not a PDF", ..] => *fault == PdfError::NotAPdf.into(),
        ["empty file"] => *fault == PdfError::Empty.into(),
        ["broken PDF"] => matches!(fault, Fault::Pdf(PdfError::Broken(_))),
        ["virus", what] if what.ends_with("also not a PDF") => *fault == PdfError::NotAPdf.into(),
        ["individual number", ..] => *fault == Fault::IndividualNumber { page: 1 },
        ["wrong password"] => *fault == ArchiveError::WrongPassword.into(),
        ["zip without a password", ..] => [ArchiveError::NotEncrypted, ArchiveError::NotAFile]
            .map(Fault::from)
            .contains(fault),
        ["path in a name"] => *fault == ArchiveError::Name(archive::NameRefused::Path).into(),
        ["path in a name", "a folder in a folder"] => {
            *fault == ArchiveError::Name(archive::NameRefused::Deep).into()
        }
        ["broken zip"] => matches!(fault, Fault::Archive(ArchiveError::Broken(_))),
        ["broken zip", _, "authentication code fails"] => {
            *fault == ArchiveError::EntryBroken.into()
        }
        [
            "broken zip",
            "local header names another file than the central directory",
        ] => {
            matches!(fault, Fault::Archive(ArchiveError::Broken(text)) if text.contains("inconsistency"))
        }
        ["empty zip"] => *fault == ArchiveError::Empty.into(),
        ["duplicate names"] => *fault == ArchiveError::DuplicateNames.into(),
        ["too many entries", ..] => *fault == ArchiveError::TooManyEntries(60).into(),
        ["too large when opened", ..] => {
            matches!(
                fault,
                Fault::Archive(ArchiveError::TooLarge { .. } | ArchiveError::RatioTooHigh)
            )
        }
        other => panic!("no fault is known for {other:?}"),
    }
}

#[test]
fn every_file_of_the_corpus_gets_its_verdict() {
    let rows = rows();
    assert_eq!(rows.len(), 44);
    for row in &rows {
        let bytes = fs::read(corpus().join(&row.file)).unwrap();
        let verdict = hand_in(&row.file, &bytes, row.password.as_ref());
        let file = &row.file;
        if FOUND_BY_A_SCANNER.contains(&file.as_str()) {
            assert!(
                !row.accepted && verdict.is_ok(),
                "{file}: take it off the list"
            );
            continue;
        }
        match verdict {
            Ok(accepted) => {
                assert!(row.accepted, "{file} was accepted: {}", row.reason);
                let names: Vec<String> =
                    accepted.files.iter().map(|f| f.name.file_name()).collect();
                assert_eq!(names, row.entries, "{file}");
                assert_eq!(
                    accepted.warnings.contains(&Warning::WeakEncryption),
                    row.reason.contains("ZipCrypto"),
                    "{file}"
                );
                assert!(accepted.files.iter().all(|f| f.pages >= 1), "{file}");
            }
            Err(refused) => {
                assert!(!row.accepted, "{file} was refused: {refused:?}");
                assert!(
                    refused
                        .problems
                        .iter()
                        .all(|problem| fits(&row.reason, &problem.fault)),
                    "{file}: {} is no reason for {refused:?}",
                    row.reason
                );
                assert!(!refused.problems.is_empty(), "{file}");
                for problem in &refused.problems {
                    assert!(
                        problem.page_text().contains('。'),
                        "{file}: {}",
                        problem.page_text()
                    );
                }
            }
        }
    }
}

#[test]
fn every_bad_file_that_is_in_the_folder_is_in_the_table() {
    let listed: BTreeMap<String, bool> = rows().into_iter().map(|r| (r.file, r.accepted)).collect();
    for (folder, accepted) in [("good", true), ("bad", false)] {
        for file in fs::read_dir(corpus().join(folder)).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            assert_eq!(
                listed.get(&format!("{folder}/{name}")),
                Some(&accepted),
                "{name}"
            );
        }
    }
}

#[test]
fn a_name_from_the_form_stands_for_the_files_own() {
    let bytes = fs::read(corpus().join("good/20240229_0123_資格喪失届.pdf")).unwrap();
    let chosen: FilingName = "20260401_0123_氏名変更届".parse().unwrap();
    let upload = Upload {
        file_name: "スキャン 1.pdf",
        bytes: &bytes,
        password: None,
        establishment: "0123".parse().unwrap(),
        chosen: &[ChosenName {
            entry: None,
            name: chosen,
        }],
        today: date!(2026 - 11 - 20),
        kinds: &Kinds::of_a_new_portal(),
    };
    let accepted = check_upload(&upload, &[&IsDocument]).unwrap();
    assert_eq!(accepted.files[0].name, chosen);
    assert_eq!(accepted.files[0].original_name, "スキャン 1.pdf");
    let sha256: [u8; 32] = Sha256::digest(&bytes).into();
    assert_eq!(accepted.files[0].sha256, sha256);
}

#[test]
fn a_chosen_name_keeps_to_the_rules_and_never_hides_another_establishments_number() {
    let bytes = fs::read(corpus().join("good/20240229_0123_資格喪失届.pdf")).unwrap();
    let check = |file_name, name: &str| {
        let upload = Upload {
            file_name,
            bytes: &bytes,
            password: None,
            establishment: "0123".parse().unwrap(),
            chosen: &[ChosenName {
                entry: None,
                name: name.parse().unwrap(),
            }],
            today: date!(2026 - 11 - 20),
            kinds: &Kinds::of_a_new_portal(),
        };
        check_upload(&upload, &[&IsDocument])
    };
    assert!(check("a.pdf", "20261120_0123_資格喪失届").is_ok());
    assert!(check("a.pdf", "20361120_0123_資格喪失届").is_err());
    assert!(check("a.pdf", "20261120_0124_資格喪失届").is_err());
    assert!(check("20261120_0124_資格喪失届.pdf", "20261120_0123_資格喪失届").is_err());
}

#[test]
fn the_name_and_the_content_are_both_complained_about_at_once() {
    let refused = hand_in("2024-05-24_0123_資格取得届.pdf", b"", None).unwrap_err();
    assert_eq!(refused.problems.len(), 2);
    assert!(refused.problems[0].suggestion().is_some());
    assert_eq!(refused.problems[1].fault, PdfError::Empty.into());
}

#[test]
fn an_excel_file_is_not_asked_for_a_password() {
    let form = corpus().join("registration/good/電子連携管理者登録届(000123).xlsx");
    let refused = hand_in(
        "20240524_0123_資格取得届.xlsx",
        &fs::read(form).unwrap(),
        None,
    )
    .unwrap_err();
    assert!(
        refused
            .problems
            .iter()
            .any(|problem| problem.fault == PdfError::NotAPdf.into())
    );
}

#[test]
fn a_rule_that_is_put_into_the_list_is_asked() {
    struct Nothing;
    impl Rule for Nothing {
        fn check(&self, bytes: &[u8], _: &mut Facts) -> Result<(), Fault> {
            Err(Fault::Size(bytes.len()))
        }
    }
    let bytes = fs::read(corpus().join("good/20240229_0123_資格喪失届.pdf")).unwrap();
    let upload = Upload {
        file_name: "20240229_0123_資格喪失届.pdf",
        bytes: &bytes,
        password: None,
        establishment: "0123".parse().unwrap(),
        chosen: &[],
        today: date!(2026 - 11 - 20),
        kinds: &Kinds::of_a_new_portal(),
    };
    let refused = check_upload(&upload, &[&IsDocument, &Nothing]).unwrap_err();
    assert_eq!(refused.problems[0].fault, Fault::Size(bytes.len()));
}

/// A small generator, so that every run damages the same places.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }
}

#[test]
fn damaged_files_never_panic_and_cut_ones_are_never_accepted() {
    let mut dice = Dice(0x5EED);
    for row in rows()
        .iter()
        .filter(|row| row.accepted || row.file.contains("launch"))
    {
        let whole = fs::read(corpus().join(&row.file)).unwrap();
        for round in 0..20 {
            let mut bytes = whole.clone();
            let at = dice.below(bytes.len());
            match round % 4 {
                0 => bytes.truncate(at),
                1 => bytes[at] ^= 1 << dice.below(8),
                2 => bytes.copy_within(at.., at / 2),
                _ => bytes.fill_range(at, &mut dice),
            }
            let verdict = hand_in(&row.file, &bytes, row.password.as_ref());
            if bytes != whole && round % 4 == 0 {
                assert!(verdict.is_err(), "{} cut to {at}", row.file);
            }
        }
    }
}

trait FillRange {
    fn fill_range(&mut self, at: usize, dice: &mut Dice);
}

impl FillRange for Vec<u8> {
    fn fill_range(&mut self, at: usize, dice: &mut Dice) {
        let end = (at + 16).min(self.len());
        for byte in &mut self[at..end] {
            *byte = u8::try_from(dice.below(256)).unwrap();
        }
    }
}
