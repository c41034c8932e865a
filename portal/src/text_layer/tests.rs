//! What is read of real filings, and of numbers that are written in odd ways.

use std::path::PathBuf;

use super::worker::{Searcher, serve};
use super::*;
use archive::Password;

fn filing(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus");
    let bytes = std::fs::read(folder.join(name)).unwrap();
    if !archive::looks_like_zip(&bytes) {
        return bytes;
    }
    let password = Password::new("Rene52hsqx3ca4q2".into());
    let mut opened = archive::open(&bytes, Some(&password)).unwrap();
    opened.entries.swap_remove(0).bytes
}

/// A page with this content; /F1 is a font that the file does not bring along.
fn page(content: &str) -> Vec<u8> {
    let font = "<</Type/Font/Subtype/Type0/BaseFont/MS-Gothic/Encoding/90ms-RKSJ-H\
        /DescendantFonts[<</Type/Font/Subtype/CIDFontType2/BaseFont/MS-Gothic/CIDSystemInfo\
        <</Registry(Adobe)/Ordering(Japan1)/Supplement 2>>/FontDescriptor<</Type/FontDescriptor\
        /FontName/MS-Gothic/Flags 4/FontBBox[0 -137 1000 859]/ItalicAngle 0/Ascent 859\
        /Descent -137/CapHeight 709/StemV 80>>>>]>>";
    let objects = [
        "<</Type/Catalog/Pages 2 0 R>>".to_owned(),
        "<</Type/Pages/Kids[3 0 R]/Count 1>>".to_owned(),
        format!(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 400 400]/Contents 4 0 R\
             /Resources<</Font<</F1 {font}>>>>>>"
        ),
        format!(
            "<</Length {}>>\nstream\n{content}\nendstream",
            content.len()
        ),
    ];
    let mut file = String::from("%PDF-1.7\n");
    let mut table = String::from("xref\n0 5\n0000000000 65535 f \n");
    for (index, object) in objects.iter().enumerate() {
        table.push_str(&format!("{:010} 00000 n \n", file.len()));
        file.push_str(&format!("{} 0 obj\n{object}\nendobj\n", index + 1));
    }
    let at = file.len();
    let trailer = format!("trailer\n<</Size 5/Root 1 0 R>>\nstartxref\n{at}\n%%EOF\n");
    (file + &table + &trailer).into_bytes()
}

fn has_number(content: &str) -> bool {
    Searcher::default().find(&page(content)) == Some(1)
}

#[test]
fn the_numbers_in_the_corpus_are_found_and_nowhere_else() {
    let found = |name: &str| Searcher::default().find(&filing(name));
    for name in ["my_number", "my_number_spaced", "my_number_fullwidth"] {
        assert!(found(&format!("bad/{name}.zip")).is_some(), "{name}");
    }
    for name in [
        "good/20240229_0123_資格喪失届.pdf",
        "good/20250402_0123_資格取得届.pdf",
        "good/20250401_0123_資格取得届.zip",
        "good/20240524_0123_届書一式.zip",
    ] {
        assert_eq!(found(name), None, "{name}");
    }
}

#[test]
fn the_text_of_a_filing_is_read() {
    let text = read(filing("good/20240229_0123_資格喪失届.pdf"))
        .unwrap()
        .concat();
    assert!(text.contains("資格喪失届"), "{text}");
}

#[test]
fn a_number_in_boxes_and_one_without_a_table_of_characters_are_found() {
    let boxes: String = "123456789018"
        .chars()
        .enumerate()
        .map(|(at, digit)| format!("1 0 0 1 {} 100 Tm ({digit}) Tj ", 20 + 18 * at))
        .collect();
    assert!(has_number(&format!("BT /F1 12 Tf {boxes}ET")));
    assert!(has_number("BT /F1 12 Tf 20 100 Td (1234 5678 9018) Tj ET"));
    // １２３４５６７８９０１８ in CP932.
    let wide = "<825082518252825382548255825682578258824F82508257>";
    assert!(has_number(&format!("BT /F1 12 Tf 20 100 Td {wide} Tj ET")));
}

#[test]
fn numbers_in_neighbouring_cells_and_lines_are_not_joined() {
    let cells = "1 0 0 1 20 100 Tm (123456) Tj 1 0 0 1 70 100 Tm (789018) Tj";
    assert!(!has_number(&format!("BT /F1 12 Tf {cells} ET")));
    let lines = "1 0 0 1 20 100 Tm (123456) Tj 1 0 0 1 20 80 Tm (789018) Tj";
    assert!(!has_number(&format!("BT /F1 12 Tf {lines} ET")));
}

#[test]
fn what_cannot_be_read_has_no_number_and_does_no_harm() {
    assert_eq!(read(b"no PDF".to_vec()), Err(Unreadable));
    assert_eq!(Searcher::default().find(b"no PDF"), None);
    let bytes = filing("bad/my_number.zip");
    for step in 1..60 {
        let at = bytes.len() * step / 60;
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        let _ = read(damaged);
        let _ = read(bytes[..at].to_vec());
    }
}

#[test]
fn the_process_answers_with_a_page_and_never_with_a_number() {
    let mut answer = Vec::new();
    serve(filing("bad/my_number.zip").as_slice(), &mut answer).unwrap();
    assert_eq!(answer, b"1\n");
    let mut answer = Vec::new();
    serve(
        filing("good/20240229_0123_資格喪失届.pdf").as_slice(),
        &mut answer,
    )
    .unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!((lines[0], lines[1].len()), ("0", 64), "{answer}");
    assert!(lines[2].contains("資格喪失届"), "{answer}");
    assert!(serve(b"no PDF".as_slice(), Vec::new()).is_err());
}

#[test]
fn a_file_that_was_saved_anew_has_the_same_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (folder.path().join("a.pdf"), folder.path().join("b.pdf"));
    let name = "good/20240229_0123_資格喪失届.pdf";
    std::fs::write(&before, filing(name)).unwrap();
    let qpdf = std::process::Command::new("qpdf")
        .args(["--object-streams=generate", "--recompress-flate"])
        .args([&before, &after])
        .status();
    assert!(qpdf.expect("qpdf is installed").success());
    let saved_anew = std::fs::read(&after).unwrap();
    assert_ne!(saved_anew, filing(name));
    let fingerprint = |pdf: &[u8]| Searcher::default().examine(pdf).content;
    assert!(fingerprint(&saved_anew).is_some());
    assert_eq!(fingerprint(&saved_anew), fingerprint(&filing(name)));
    let other = filing("good/20240524_0123_資格取得届.zip");
    assert_ne!(fingerprint(&other), fingerprint(&saved_anew));
    assert_eq!(fingerprint(&page("")), None);
}

#[test]
fn an_answer_that_is_none_lets_the_file_pass() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    for (script, page) in [
        ("echo 3", Some(3)),
        ("echo 0", None),
        ("echo x", None),
        ("exit 1", None),
    ] {
        let program = folder.path().join("program");
        std::fs::write(&program, format!("#!/bin/sh\ncat >/dev/null\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(
            Searcher::by(program).find(&[b'x'; 1 << 20]),
            page,
            "{script}"
        );
    }
}
