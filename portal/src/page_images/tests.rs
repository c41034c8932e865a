//! Pictures of real filings, and of pages that are none.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use archive::Password;
use hayro::vello_cpu::Pixmap;

use super::*;

fn corpus(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus");
    fs::read(path.join(name)).unwrap()
}

/// Every PDF in `tests/corpus/good`.
fn filings() -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/good");
    let mut found = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let bytes = corpus(&format!("good/{name}"));
        if archive::looks_like_zip(&bytes) {
            let password = Password::new("Rene52hsqx3ca4q2".into());
            let opened = archive::open(&bytes, Some(&password)).unwrap();
            found.extend(
                opened
                    .entries
                    .into_iter()
                    .map(|entry| (entry.name, entry.bytes)),
            );
        } else {
            found.push((name, bytes));
        }
    }
    found
}

/// The part of the points that are not white.
fn ink(png: &[u8]) -> f64 {
    let picture = Pixmap::from_png(std::io::Cursor::new(png)).unwrap();
    let points = picture.data();
    let dark = points.iter().filter(|point| point.r < 128).count();
    dark as f64 / points.len() as f64
}

fn page(content: &str, more: &str, size: &str) -> Vec<u8> {
    let length = content.len();
    let objects = [
        "<</Type/Catalog/Pages 2 0 R>>".to_owned(),
        "<</Type/Pages/Kids[3 0 R]/Count 1>>".to_owned(),
        format!(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 {size}]/Contents 4 0 R/Resources<<{more}>>>>"
        ),
        format!("<</Length {length}>>\nstream\n{content}\nendstream"),
    ];
    let mut file = String::from("%PDF-1.7\n");
    let mut table = String::from("xref\n0 5\n0000000000 65535 f \n");
    for (index, object) in objects.iter().enumerate() {
        table.push_str(&format!("{:010} 00000 n \n", file.len()));
        file.push_str(&format!("{} 0 obj\n{object}\nendobj\n", index + 1));
    }
    let at = file.len();
    file.push_str(&format!(
        "{table}trailer\n<</Size 5/Root 1 0 R>>\nstartxref\n{at}\n%%EOF\n"
    ));
    file.into_bytes()
}

#[test]
fn the_first_page_of_every_good_filing_is_drawn_and_not_blank() {
    let filings = filings();
    assert!(filings.len() >= 15, "{}", filings.len());
    for (name, bytes) in filings {
        let image = draw(bytes, 1, 600).unwrap();
        assert_eq!(image.fidelity, Fidelity::Complete, "{name}");
        let ink = ink(&image.png);
        assert!((0.002..0.5).contains(&ink), "{name}: {ink}");
    }
}

#[test]
fn a_japanese_font_that_the_file_does_not_bring_along_is_replaced() {
    let font = "/Font<</F1<</Type/Font/Subtype/Type0/BaseFont/MS-Gothic/Encoding/90ms-RKSJ-H\
        /DescendantFonts[<</Type/Font/Subtype/CIDFontType2/BaseFont/MS-Gothic/CIDSystemInfo\
        <</Registry(Adobe)/Ordering(Japan1)/Supplement 2>>/FontDescriptor<</Type/FontDescriptor\
        /FontName/MS-Gothic/Flags 4/FontBBox[0 -137 1000 859]/ItalicAngle 0/Ascent 859\
        /Descent -137/CapHeight 709/StemV 80>>>>]>>>>";
    // 資格 in CP932.
    let text = "BT /F1 40 Tf 10 30 Td <8E918A69> Tj ET";
    let image = draw(page(text, font, "100 100"), 1, 200).unwrap();
    assert!(ink(&image.png) > 0.02, "{}", ink(&image.png));
}

#[test]
fn odd_sizes_are_kept_within_bounds() {
    let size = |size: &str| {
        let image = draw(page("0 0 1 1 re f", "", size), 1, 2_400)?;
        let picture = Pixmap::from_png(std::io::Cursor::new(image.png)).unwrap();
        Ok::<_, PageImageError>((picture.width(), picture.height()))
    };
    let (width, height) = size("100 100000").unwrap_or((1, 1));
    assert!(width <= 2_400 && height <= HEIGHT_LIMIT);
    for odd in ["0 0", "1e30 1e30", "-5 -5", "0.0001 1000000"] {
        if let Ok((width, height)) = size(odd) {
            assert!(
                width <= 2_400 && height <= HEIGHT_LIMIT,
                "{odd}: {width}×{height}"
            );
        }
    }
    let wide = draw(page("", "", "100 100"), 1, 10_000);
    assert_eq!(wide, Err(PageImageError::Width(10_000)));
}

#[test]
fn a_page_that_is_not_there_is_told_apart() {
    let pages = 1;
    let pdf = page("", "", "100 100");
    for page in [0, 2, usize::MAX] {
        let missing = draw(pdf.clone(), page, 200);
        assert_eq!(missing, Err(PageImageError::NoSuchPage { page, pages }));
    }
    assert_eq!(
        draw(b"no PDF".to_vec(), 1, 200),
        Err(PageImageError::Undrawable)
    );
}

#[test]
fn a_form_that_draws_itself_ends() {
    let file = page("/X Do", "/XObject<</X 4 0 R>>", "100 100");
    let text = String::from_utf8(file).unwrap();
    let file = text.replace(
        "<</Length 5>>",
        "<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 4 0 R>>>>/Length 5>>",
    );
    assert!(draw(file.into_bytes(), 1, 200).is_ok());
}

#[test]
fn damaged_filings_never_bring_the_program_down() {
    let bytes = corpus("good/20240229_0123_資格喪失届.pdf");
    for step in 1..60 {
        let mut damaged = bytes.clone();
        let at = bytes.len() * step / 60;
        damaged[at] ^= 0x55;
        let _ = draw(damaged, 1, 64);
        let _ = draw(bytes[..at].to_vec(), 1, 64);
    }
}

/// A program that answers like the worker, or does not.
fn program(folder: &tempfile::TempDir, script: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.path().join("program");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

#[tokio::test]
async fn what_the_worker_answers_is_what_the_caller_gets() {
    let folder = tempfile::tempdir().unwrap();
    let pdf = page("0 0 50 50 re f", "", "100 100");
    for (page, width) in [(1, 200), (7, 200)] {
        let mut answer = Vec::new();
        worker::serve(page, width, pdf.as_slice(), &mut answer).unwrap();
        fs::write(folder.path().join("answer"), &answer).unwrap();
        let script = format!("cat >/dev/null; cat {}/answer", folder.path().display());
        let images = PageImages::by(&program(&folder, &script));
        let drawn = images.draw(pdf.clone(), page, width).await;
        assert_eq!(drawn, draw(pdf.clone(), page, width));
        assert_eq!(drawn.is_ok(), page == 1);
    }
}

#[tokio::test]
async fn the_worker_is_asked_by_command_and_sees_no_secret_of_the_portal() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let script = format!(
        "echo \"$@\" >{0}; env >>{0}; ulimit -v >>{0}; cat >/dev/null",
        seen.display()
    );
    let images = PageImages::by(&program(&folder, &script));
    let answer = images.draw(b"%PDF-".to_vec(), 3, 200).await;
    assert_eq!(answer, Err(PageImageError::Undrawable));
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.starts_with("draw-page 3 200\n"), "{seen}");
    assert!(!seen.contains("HOME=") && !seen.contains("CARGO"), "{seen}");
    assert!(!seen.contains("unlimited"), "{seen}");
}

#[tokio::test]
async fn a_worker_that_breaks_down_or_talks_rubbish_gives_no_picture() {
    let folder = tempfile::tempdir().unwrap();
    for script in [
        "exit 1",
        "kill -9 $$",
        "cat",
        "echo '{}'",
        "echo rubbish; exit 0",
        ":",
    ] {
        let images = PageImages::by(&program(&folder, script));
        let answer = images.draw(vec![b'x'; 1 << 20], 1, 200).await;
        assert_eq!(answer, Err(PageImageError::Undrawable), "{script}");
    }
    let images = PageImages::by(&folder.path().join("missing"));
    assert_eq!(
        images.draw(Vec::new(), 1, 200).await,
        Err(PageImageError::Undrawable)
    );
}

#[tokio::test]
async fn a_worker_that_is_late_is_killed_and_leaves_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let images = PageImages {
        limit: Duration::from_millis(100),
        ..PageImages::by(&program(&folder, "exec sleep 600"))
    };
    for _ in 0..AT_ONCE + 1 {
        assert_eq!(
            images.draw(b"%PDF-".to_vec(), 1, 200).await,
            Err(PageImageError::TooSlow)
        );
    }
    assert_eq!(images.drawing.available_permits(), AT_ONCE);
    let everybody = u32::try_from(AT_ONCE + WAITING_LIMIT).unwrap();
    let everybody = images.waiting.acquire_many(everybody).await.unwrap();
    assert_eq!(
        images.draw(b"%PDF-".to_vec(), 1, 200).await,
        Err(PageImageError::Busy)
    );
    drop(everybody);
}
