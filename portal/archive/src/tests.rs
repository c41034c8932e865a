//! Archives made here, to try what the corpus does not hold.

use std::io::Write;

use proptest::prelude::*;
use zip::unstable::write::FileOptionsExt;
use zip::write::SimpleFileOptions;
use zip::{AesMode, CompressionMethod, ZipWriter};

use super::*;

const KEY: &str = "Rene52hsqx3ca4q2";

fn key() -> Password {
    Password::new(KEY.into())
}

fn plain() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Deflated)
}

fn aes<'k>() -> zip::write::FileOptions<'k, 'k, ()> {
    plain().with_aes_encryption(AesMode::Aes256, KEY)
}

type Options<'k> = zip::write::FileOptions<'k, 'k, ()>;

fn archive(files: &[(&str, &[u8], Options<'_>)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes, options) in files {
        writer.start_file(*name, *options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn errors(bytes: &[u8]) -> Vec<ArchiveError> {
    let problems = open(bytes, Some(&key())).unwrap_err();
    assert!(!problems.is_empty());
    problems.into_iter().map(|problem| problem.error).collect()
}

#[test]
fn junk_is_passed_over_even_if_it_has_no_password() {
    let bytes = archive(&[
        ("届書/", b"", plain()),
        ("届書/a.pdf", b"%PDF-a", aes()),
        ("__MACOSX/届書/._a.pdf", b"junk", plain()),
        ("届書/.DS_Store", b"junk", plain()),
    ]);
    let opened = open(&bytes, Some(&key())).unwrap();
    assert_eq!(opened.entries.len(), 1);
    assert_eq!(opened.entries[0].name, "a.pdf");
    assert_eq!(opened.protection, Protection::Aes);
    let junk = archive(&[(".DS_Store", b"junk", aes())]);
    assert_eq!(errors(&junk), [ArchiveError::Empty]);
}

#[test]
fn one_file_without_a_password_among_others_is_named() {
    let bytes = archive(&[("a.pdf", b"%PDF-a", aes()), ("b.pdf", b"%PDF-b", plain())]);
    let problems = open(&bytes, Some(&key())).unwrap_err();
    assert_eq!(
        problems,
        [ArchiveProblem {
            entry: Some("b.pdf".into()),
            error: ArchiveError::NotEncrypted
        }]
    );
}

#[test]
fn a_password_is_asked_for_only_after_what_can_be_told_without_it() {
    let good = archive(&[("a.pdf", b"%PDF-a", aes())]);
    for none in [None, Some(Password::new(" ".into()))] {
        let problems = open(&good, none.as_ref()).unwrap_err();
        assert_eq!(problems[0].error, ArchiveError::PasswordMissing);
    }
    let bad = archive(&[("x/y/a.pdf", b"%PDF-a", aes())]);
    let problems = open(&bad, None).unwrap_err();
    assert_eq!(problems[0].error, ArchiveError::Name(NameRefused::Deep));
    let long = Password::new("x".repeat(PASSWORD_LIMIT_BYTES + 1));
    assert_eq!(
        open(&good, Some(&long)).unwrap_err()[0].error,
        ArchiveError::PasswordTooLong
    );
}

#[test]
fn blanks_that_were_copied_with_the_password_do_no_harm() {
    let good = archive(&[("a.pdf", b"%PDF-a", aes())]);
    assert!(open(&good, Some(&Password::new(format!("　{KEY} \r\n")))).is_ok());
    assert_eq!(format!("{:?}", key()), "Password(…)");
}

#[test]
fn a_japanese_password_opens_however_the_senders_program_wrote_it() {
    let typed = Password::new("年金パスワード".into());
    let (cp932, _, _) = SHIFT_JIS.encode("年金パスワード");
    let utf8 = "年金パスワード".as_bytes();
    for written in [utf8, &cp932] {
        let options = plain().with_deprecated_encryption(written).unwrap();
        let bytes = archive(&[("a.pdf", b"%PDF-a", options)]);
        assert!(open(&bytes, Some(&typed)).is_ok());
        assert!(open(&bytes, Some(&key())).is_err());
    }
}

#[test]
fn names_that_differ_only_in_case_or_composition_are_duplicates() {
    let decomposed: String = "ガ.pdf".nfd_text();
    for (one, two) in [("a.pdf", "A.PDF"), ("ガ.pdf", decomposed.as_str())] {
        let bytes = archive(&[(one, b"%PDF-", aes()), (two, b"%PDF-", aes())]);
        assert_eq!(errors(&bytes), [ArchiveError::DuplicateNames], "{one}");
    }
}

trait NfdText {
    fn nfd_text(&self) -> String;
}

impl NfdText for str {
    fn nfd_text(&self) -> String {
        use unicode_normalization::UnicodeNormalization;
        self.nfd().collect()
    }
}

#[test]
fn files_in_two_folders_are_refused() {
    let bytes = archive(&[("x/a.pdf", b"%PDF-", aes()), ("y/b.pdf", b"%PDF-", aes())]);
    assert_eq!(errors(&bytes), [ArchiveError::Name(NameRefused::Folders)]);
}

#[test]
fn links_are_refused_even_with_a_password() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.add_symlink("a.pdf", "/etc/passwd", aes()).unwrap();
    let bytes = writer.finish().unwrap().into_inner();
    assert_eq!(errors(&bytes), [ArchiveError::NotAFile]);
}

#[test]
fn several_bombs_that_are_each_small_enough_are_too_large_together() {
    let noise = |seed: u32| -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8 & 0x0F
        };
        let block: Vec<u8> = (0..1 << 20).map(|_| next()).collect();
        block.repeat(45)
    };
    let names = ["a.pdf", "b.pdf", "c.pdf", "d.pdf", "e.pdf"];
    let files: Vec<Vec<u8>> = (1..=5).map(noise).collect();
    let size = files[0].len() as u64;
    assert!(size < ENTRY_LIMIT_BYTES && 5 * size > TOTAL_LIMIT_BYTES);
    let stored = plain()
        .compression_level(Some(1))
        .with_aes_encryption(AesMode::Aes256, KEY);
    let all: Vec<_> = (names.iter().zip(&files))
        .map(|(name, bytes)| (*name, &bytes[..], stored))
        .collect();
    assert!(open(&archive(&all[..4]), Some(&key())).is_ok());
    assert!(matches!(
        errors(&archive(&all))[..],
        [ArchiveError::TooLarge {
            limit_bytes: TOTAL_LIMIT_BYTES,
            ..
        }]
    ));
}

#[test]
fn a_file_that_shrinks_too_far_is_refused_before_it_is_unpacked() {
    let zeros = vec![0; 20 << 20];
    let bytes = archive(&[("a.pdf", &zeros, aes())]);
    assert_eq!(errors(&bytes), [ArchiveError::RatioTooHigh]);
}

#[test]
fn an_end_record_that_lies_about_the_number_of_entries_builds_no_directory() {
    let mut bytes = archive(&[("a.pdf", b"%PDF-a", aes())]);
    let end = bytes.len() - 22;
    bytes[end + 8..end + 12].fill(0xFF);
    assert_eq!(errors(&bytes), [ArchiveError::TooManyEntries(65_535)]);
    let mut two_ends = archive(&[("a.pdf", b"%PDF-a", aes())]);
    let end = two_ends[two_ends.len() - 22..].to_vec();
    two_ends.extend(end);
    assert!(matches!(errors(&two_ends)[..], [ArchiveError::Broken(_)]));
}

#[test]
fn a_program_with_an_archive_behind_it_is_no_archive() {
    let mut bytes = b"MZ program".to_vec();
    bytes.extend(archive(&[("a.pdf", b"%PDF-a", aes())]));
    assert_eq!(errors(&bytes), [ArchiveError::NotAZip]);
}

#[test]
fn no_wrong_password_for_zipcrypto_gives_out_a_byte() {
    let options = plain().with_deprecated_encryption(KEY.as_bytes()).unwrap();
    let content = b"%PDF-1.7 filing".repeat(100);
    let bytes = archive(&[("a.pdf", &content, options)]);
    let opened = open(&bytes, Some(&key())).unwrap();
    assert_eq!(opened.protection, Protection::ZipCrypto);
    assert_eq!(opened.entries[0].bytes, content);
    // One in 256 gets past the one check byte at the front.
    for number in 0..1_000 {
        let wrong = Password::new(format!("wrong-{number}"));
        let problems = open(&bytes, Some(&wrong)).unwrap_err();
        assert_eq!(problems[0].error, ArchiveError::WrongPassword, "{number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_changed_archive_gives_out_what_was_packed_or_nothing(
        at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<bool>(),
    ) {
        let content = b"%PDF-1.7 filing".repeat(30);
        let mut bytes = archive(&[("a.pdf", &content, aes()), ("b.pdf", b"%PDF-b", aes())]);
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = value;
        }
        if let Ok(opened) = open(&bytes, Some(&key())) {
            for entry in opened.entries {
                prop_assert!([&content[..], b"%PDF-b"].contains(&entry.bytes.as_slice()));
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut zip = b"PK\x03\x04".to_vec();
        zip.extend(bytes);
        prop_assert!(open(&zip, Some(&key())).is_err());
    }
}

#[test]
fn files_without_a_password_are_read_only_where_that_is_allowed() {
    let bytes = archive(&[("a.pdf", b"%PDF-a", aes()), ("b.pdf", b"%PDF-b", plain())]);
    let opened = open_with(&bytes, Some(&key()), Plain::Taken).unwrap();
    assert_eq!(opened.entries.len(), 2);
    assert_eq!(opened.protection, Protection::Nothing);
    let missing = open_with(&bytes, None, Plain::Taken).unwrap_err();
    assert_eq!(missing[0].error, ArchiveError::PasswordMissing);
    let all_plain = archive(&[("a.pdf", b"%PDF-a", plain())]);
    assert!(open_with(&all_plain, None, Plain::Taken).is_ok());
    assert_eq!(errors(&all_plain), [ArchiveError::NotEncrypted]);
}
