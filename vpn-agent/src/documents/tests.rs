//! Zips of other people's tools, and what a careless or a hostile one may hold.

use std::io::{Cursor, Write as _};
use std::path::Path;
use std::process::Command;

use zip::write::{FileOptions, SimpleFileOptions};
use zip::{AesMode, CompressionMethod, ZipWriter};

use super::*;
use crate::clock::Clock;

const KEY: &str = "Rene52hsqx3ca4q2";
/// The password of the zips in `tests/corpus`.
const CORPUS_KEY: &str = "Rene52hsqx3ca4q2";

fn now() -> Instant {
    Clock::system(None).now().mono
}

fn deflated() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Deflated)
}

fn aes(key: &str) -> FileOptions<'_, '_, ()> {
    deflated().with_aes_encryption(AesMode::Aes256, key)
}

fn zip(files: &[(&str, &[u8], FileOptions<'_, '_, ()>)]) -> Zeroizing<Vec<u8>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes, options) in files {
        writer.start_file(*name, *options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    Zeroizing::new(writer.finish().unwrap().into_inner())
}

fn names(desk: &mut Desk) -> Vec<(String, Kind)> {
    match desk.look(now()) {
        Sight::Open { documents, .. } => documents
            .into_iter()
            .map(|listed| (listed.name, listed.kind))
            .collect(),
        sight @ (Sight::Empty | Sight::Sealed { .. }) => panic!("{sight:?}"),
    }
}

fn first(desk: &mut Desk) -> Bytes {
    let Sight::Open { number, .. } = desk.look(now()) else {
        panic!("nothing is open");
    };
    desk.document(number, 0, now()).unwrap().bytes
}

#[test]
fn a_password_zip_asks_once_and_the_next_one_opens_by_itself() {
    let mut desk = Desk::default();
    let bytes = zip(&[("決定通知書.pdf", b"%PDF-1.7 one", aes(KEY))]);
    assert_eq!(desk.lay("通知.zip", bytes, now()), Ok(Step::AskPassword));
    assert_eq!(
        desk.look(now()),
        Sight::Sealed {
            name: "通知.zip".into()
        }
    );
    desk.unlock(format!(" {KEY}\n"), now()).unwrap();
    assert_eq!(names(&mut desk), [("決定通知書.pdf".into(), Kind::Pdf)]);
    assert_eq!(&first(&mut desk)[..], b"%PDF-1.7 one");

    let bytes = zip(&[("second.pdf", b"%PDF-1.7 two", aes(KEY))]);
    assert_eq!(desk.lay("second.zip", bytes, now()), Ok(Step::Opened));
    assert_eq!(&first(&mut desk)[..], b"%PDF-1.7 two");
    let bytes = zip(&[("third.pdf", b"%PDF-1.7 three", aes("another"))]);
    assert_eq!(desk.lay("third.zip", bytes, now()), Ok(Step::AskPassword));
}

#[test]
fn a_wrong_password_says_so_and_leaves_another_try() {
    let mut desk = Desk::default();
    let bytes = zip(&[("a.pdf", b"%PDF-", aes(KEY))]);
    desk.lay("a.zip", bytes, now()).unwrap();
    for wrong in ["wrong", "", "x".repeat(2000).as_str()] {
        let error = desk.unlock(wrong.into(), now()).unwrap_err();
        assert!(error.is_about_the_password(), "{error:?}");
        assert!(error.page_texts()[0].contains("パスワード"));
        assert!(wrong.is_empty() || !format!("{error:?}").contains(wrong));
    }
    desk.unlock(KEY.into(), now()).unwrap();
    assert_eq!(
        desk.unlock(KEY.into(), now()),
        Err(DeskError::NothingWaits),
        "a second press of the button"
    );
}

#[test]
fn what_nobody_looked_at_is_put_away_with_its_password() {
    let mut desk = Desk::default();
    let start = now();
    let bytes = || zip(&[("a.pdf", b"%PDF-", aes(KEY))]);
    desk.lay("a.zip", bytes(), start).unwrap();
    desk.unlock(KEY.into(), start).unwrap();
    let almost = start + KEPT_FOR - Duration::from_secs(1);
    assert!(matches!(desk.look(almost), Sight::Open { .. }));
    let over = desk.poll_timeout().unwrap();
    assert_eq!(over, almost + KEPT_FOR);
    desk.handle_timeout(over);
    assert_eq!(desk.look(over), Sight::Empty);
    assert_eq!(desk.poll_timeout(), None);
    assert_eq!(desk.lay("a.zip", bytes(), over), Ok(Step::AskPassword));
}

#[test]
fn an_address_of_an_earlier_zip_shows_nothing_of_a_later_one() {
    let mut desk = Desk::default();
    desk.lay("a.zip", zip(&[("a.pdf", b"%PDF-a", deflated())]), now())
        .unwrap();
    let Sight::Open { number, .. } = desk.look(now()) else {
        panic!("a zip without a password is open at once");
    };
    desk.lay("b.zip", zip(&[("b.pdf", b"%PDF-b", deflated())]), now())
        .unwrap();
    assert!(desk.document(number, 0, now()).is_none());
    assert!(desk.document(number + 1, 1, now()).is_none());
    assert!(desk.document(number + 1, 0, now()).is_some());
    desk.clear();
    assert!(desk.document(number + 1, 0, now()).is_none());
}

#[test]
fn only_pdfs_are_shown_and_a_bare_pdf_is_one() {
    let mut desk = Desk::default();
    let page = b"<html><script>alert(1)</script>";
    let files: [(&str, &[u8], _); 3] = [
        ("page.pdf", page, deflated()),
        ("inner.zip", b"PK\x03\x04", deflated()),
        ("real.pdf", b"\xEF\xBB\xBF%PDF-1.4", deflated()),
    ];
    desk.lay("mixed.zip", zip(&files), now()).unwrap();
    let kinds: Vec<_> = names(&mut desk).into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, [Kind::Other, Kind::Other, Kind::Pdf]);
    let pdf = Zeroizing::new(b"%PDF-1.4".to_vec());
    desk.lay("C:\\Users\\x\\通知\u{202E}.pdf", pdf, now())
        .unwrap();
    assert_eq!(names(&mut desk), [("通知.pdf".into(), Kind::Pdf)]);
}

#[test]
fn what_cannot_be_opened_is_refused_with_a_sentence_and_leaves_nothing() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/bad");
    for (name, words) in [
        ("bomb.zip", "大きさ"),
        ("cloaked.zip", "壊れて"),
        ("deep.zip", "安全のため"),
        ("duplicate_names.zip", "同じ名前"),
        ("empty.zip", "ファイルがありません"),
        ("path_traversal.zip", "安全のため"),
        ("symlink.zip", "安全のため"),
        ("too_many.zip", "多すぎる"),
        ("truncated.zip", "壊れて"),
    ] {
        let mut desk = Desk::default();
        let bytes = Zeroizing::new(std::fs::read(corpus.join(name)).unwrap());
        let result = desk
            .lay(name, bytes, now())
            .map_err(|error| error.page_texts())
            .and_then(|_| {
                desk.unlock(CORPUS_KEY.into(), now())
                    .map_err(|error| error.page_texts())
            });
        let texts = result.expect_err(name);
        assert!(
            texts.iter().any(|text| text.contains(words)),
            "{name}: {texts:?}"
        );
        assert!(!matches!(desk.look(now()), Sight::Open { .. }), "{name}");
    }
    let mut desk = Desk::default();
    for (name, bytes) in [
        ("text.zip", b"hello".to_vec()),
        ("none", Vec::new()),
        ("large.zip", vec![0; FILE_LIMIT_BYTES + 1]),
    ] {
        let error = desk.lay(name, Zeroizing::new(bytes), now()).unwrap_err();
        assert!(!error.page_texts().is_empty());
        assert_eq!(desk.look(now()), Sight::Empty);
    }
}

#[test]
fn the_corpus_that_establishments_really_send_can_be_read() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/good");
    let mut opened = 0;
    for file in std::fs::read_dir(corpus).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let mut desk = Desk::default();
        let bytes = Zeroizing::new(std::fs::read(&path).unwrap());
        if desk.lay(name, bytes, now()).unwrap() == Step::AskPassword {
            desk.unlock(CORPUS_KEY.into(), now())
                .unwrap_or_else(|error| panic!("{name}: {:?}", error.page_texts()));
        }
        let shown = names(&mut desk);
        assert!(
            shown.iter().all(|(_, kind)| *kind == Kind::Pdf),
            "{name}: {shown:?}"
        );
        opened += 1;
    }
    assert!(opened >= 10, "{opened}");
}

/// 7-Zip's AES in each strength, its ZipCrypto, and names in its own encoding.
#[test]
fn zips_of_7_zip_open_in_every_strength() {
    let folder = tempfile::tempdir().unwrap();
    let content = b"%PDF-1.7 made for 7-Zip".repeat(500);
    std::fs::write(folder.path().join("納入告知書.pdf"), &content).unwrap();
    for method in ["AES128", "AES192", "AES256", "ZipCrypto"] {
        let done = Command::new("7z")
            .current_dir(folder.path())
            .env("LANG", "C.UTF-8")
            .args([
                "a",
                "-tzip",
                &format!("-mem={method}"),
                "-phimitsu7",
                "x.zip",
            ])
            .arg("納入告知書.pdf")
            .output()
            .expect("7z (Debian's package p7zip-full)");
        assert!(done.status.success(), "{done:?}");
        let path = folder.path().join("x.zip");
        let bytes = Zeroizing::new(std::fs::read(&path).unwrap());
        std::fs::remove_file(path).unwrap();
        let mut desk = Desk::default();
        assert_eq!(desk.lay("x.zip", bytes, now()), Ok(Step::AskPassword));
        assert!(desk.unlock("ちがう".into(), now()).is_err(), "{method}");
        desk.unlock("himitsu7".into(), now()).unwrap();
        assert_eq!(names(&mut desk), [("納入告知書.pdf".into(), Kind::Pdf)]);
        assert!(first(&mut desk) == content, "{method}");
    }
}

#[test]
fn nothing_on_the_desk_shows_in_a_log() {
    let mut desk = Desk::default();
    desk.lay("秘密.zip", zip(&[("氏名.pdf", b"%PDF-x", aes(KEY))]), now())
        .unwrap();
    desk.unlock(KEY.into(), now()).unwrap();
    let shown = format!("{desk:?}");
    for secret in ["秘密", "氏名", KEY, "%PDF"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
