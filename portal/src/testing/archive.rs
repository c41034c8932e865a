//! Whether a document of ours is fit to be kept for years: sound, and PDF/A-2u and PDF/UA-1 as
//! far as it can be seen without a validator (veraPDF is in none of the registries that this
//! project takes its tools from).

use std::process::Command;

/// Marks of PDF/A-2u and PDF/UA-1 that stand in the file itself.
const MARKS: [&str; 7] = [
    "<pdfaid:part>2<",
    "<pdfaid:conformance>U<",
    "<pdfuaid:part>1<",
    "/GTS_PDFA1",
    "/MarkInfo",
    "/StructTreeRoot",
    "/Lang",
];
/// What an archive must not hold.
const BANNED: [&str; 6] = [
    "/Encrypt",
    "/JavaScript",
    "/Launch",
    "/EmbeddedFile",
    "/AA",
    "/XFA",
];

/// Fails with what is wrong with `pdf`.
///
/// # Panics
/// If it is no sound archive file.
pub fn assert_archivable(pdf: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, plain) = (folder.path().join("a.pdf"), folder.path().join("plain.pdf"));
    std::fs::write(&path, pdf).expect("writes");
    // Its exit code is 3 where it has warnings alone: those count too.
    let check = Command::new("qpdf").arg("--check").arg(&path).output();
    let check = check.expect("qpdf is installed");
    let told = [check.stdout, check.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert_eq!(check.status.code(), Some(0), "{told}");

    let unpacked = Command::new("qpdf")
        .args([
            "--qdf",
            "--object-streams=disable",
            "--decode-level=generalized",
        ])
        .arg(&path)
        .arg(&plain)
        .status();
    assert!(unpacked.expect("qpdf is installed").success());
    let plain = std::fs::read(&plain).expect("reads");
    let count = |word: &str| memchr::memmem::find_iter(&plain, word.as_bytes()).count();
    for mark in MARKS {
        assert!(count(mark) > 0, "no {mark}");
    }
    for banned in BANNED {
        let is_word = |at: usize| {
            let next = plain.get(at + banned.len());
            !next.is_some_and(u8::is_ascii_alphanumeric)
        };
        let found = memchr::memmem::find_iter(&plain, banned.as_bytes());
        assert_eq!(found.filter(|at| is_word(*at)).count(), 0, "{banned}");
    }
    let fonts = count("/Type /FontDescriptor");
    let embedded = count("/FontFile2 ") + count("/FontFile3 ");
    assert!(
        fonts > 0 && fonts == embedded,
        "{embedded} of {fonts} fonts"
    );
    // Every font says which characters its glyphs are: text can be found and read aloud.
    assert_eq!(count("/Subtype /Type0"), count("/ToUnicode "));
}
