//! The rule about PDFs, against small files made here.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::*;

const CATALOG: &str = "<</Type/Catalog/Pages 2 0 R>>";

/// A PDF of one empty page, with `catalog` as its first object and `more` after the third.
fn pdf(catalog: &str, more: &[&[u8]]) -> Vec<u8> {
    let mut objects: Vec<Vec<u8>> = vec![
        catalog.into(),
        "<</Type/Pages/Kids[3 0 R]/Count 1>>".into(),
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 100 100]/Resources<</Font<</AA 4 0 R>>>>>>".into(),
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>".into(),
    ];
    objects.extend(more.iter().map(|object| object.to_vec()));
    let mut file = b"%PDF-1.7\n".to_vec();
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for (index, object) in objects.iter().enumerate() {
        table.push_str(&format!("{:010} 00000 n \n", file.len()));
        file.extend(format!("{} 0 obj\n", index + 1).bytes());
        file.extend(object);
        file.extend(b"\nendobj\n");
    }
    let at = file.len();
    let size = objects.len() + 1;
    file.extend(
        format!("{table}trailer\n<</Size {size}/Root 1 0 R>>\nstartxref\n{at}\n%%EOF\n").bytes(),
    );
    file
}

fn deflated(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn stream(dict: &str, data: &[u8]) -> Vec<u8> {
    let mut object = format!("<<{dict}/Length {}>>\nstream\n", data.len()).into_bytes();
    object.extend(data);
    object.extend(b"\nendstream");
    object
}

fn active(file: &[u8]) -> Vec<Active> {
    match check(file) {
        Err(PdfError::ActiveContent(found)) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_plain_document_passes_even_if_a_font_is_called_like_an_action() {
    assert_eq!(check(&pdf(CATALOG, &[])), Ok(Checked { pages: 1 }));
    let link = b"<</Type/Annot/Subtype/Link/A<</S/URI/URI(https://example.jp/)>>>>";
    let goto = "<</Type/Catalog/Pages 2 0 R/OpenAction[3 0 R/Fit]/XFA null>>";
    assert_eq!(check(&pdf(CATALOG, &[link])), Ok(Checked { pages: 1 }));
    assert!(
        check(&pdf(goto, &[])).is_err(),
        "a null XFA is still a word without another use"
    );
    assert_eq!(
        check(&pdf(&goto.replace("/XFA null", ""), &[])),
        Ok(Checked { pages: 1 })
    );
}

#[test]
fn each_kind_of_active_content_is_found() {
    for (object, wanted) in [
        (
            &b"<</S/JavaScript/JS(app.alert\\(1\\))>>"[..],
            Active::JavaScript,
        ),
        (b"<</S/Java#53cript/JS 9 0 R>>", Active::JavaScript),
        (b"/JavaScript", Active::JavaScript),
        (b"<</Kind/Rename/JS(app.alert\\(1\\))>>", Active::JavaScript),
        (b"<</S/Launch/F(calc.exe)>>", Active::Launch),
        (b"<</AA<</O 5 0 R>>>>", Active::AutomaticAction),
        (b"<</AA 99 0 R>>", Active::AutomaticAction),
        (b"<</AA 2 0 R>>", Active::AutomaticAction),
        (b"<</Type/Filespec/EF<</F 9 0 R>>>>", Active::EmbeddedFile),
        (b"<</Names<</EmbeddedFiles 9 0 R>>>>", Active::EmbeddedFile),
        (b"<</Subtype/FileAttachment>>", Active::EmbeddedFile),
        (
            b"<</S/GoToR/F(\\\\\\\\server\\\\share\\\\a.pdf)>>",
            Active::RemoteFile,
        ),
        (b"<</S/GoToE>>", Active::RemoteFile),
        (
            b"<</S/SubmitForm/F(https://example.com)>>",
            Active::FormData,
        ),
        (b"<</S/ImportData>>", Active::FormData),
        (b"<</AcroForm<</XFA[(a)9 0 R]>>>>", Active::Xfa),
        (b"<</Subtype/RichMedia>>", Active::Media),
        (b"<</Subtype/Screen>>", Active::Media),
        (b"<</Subtype/3D>>", Active::Media),
    ] {
        let file = pdf(CATALOG, &[object]);
        let shown = String::from_utf8_lossy(object);
        assert!(active(&file).contains(&wanted), "{shown}");
    }
}

#[test]
fn an_object_that_no_table_lists_is_read_too() {
    let hidden = b"(unlisted \n 77 0 obj <</S/JavaScript>> endobj)";
    assert_eq!(active(&pdf(CATALOG, &[hidden])), [Active::JavaScript]);
    let mut comment = pdf(CATALOG, &[]);
    comment.splice(9..9, *b"%77 0 obj<</S/Launch>>endobj\n");
    assert!(
        matches!(check(&comment), Err(PdfError::Broken(_))),
        "the table no longer fits"
    );
    let inside = stream("", b"q 77 0 obj <</S/Launch>> endobj Q");
    assert_eq!(active(&pdf(CATALOG, &[&inside])), [Active::Launch]);
}

#[test]
fn object_streams_are_read_by_their_list_and_from_end_to_end() {
    // Read by its list, the object begins inside what is a string from end to end.
    let inside_text = b"9 1 (<</S/JavaScript>>)";
    let listed = stream(
        "/Type/ObjStm/N 1/First 4/Filter/FlateDecode",
        &deflated(inside_text),
    );
    assert_eq!(active(&pdf(CATALOG, &[&listed])), [Active::JavaScript]);
    let unlisted = deflated(b"9 0 <<>> <</S/Launch>>");
    let unlisted = stream("/Type/ObjStm/N 1/First 4/Filter/Fl", &unlisted);
    assert_eq!(active(&pdf(CATALOG, &[&unlisted])), [Active::Launch]);
    // Readers go by /N and /First, whatever /Type says.
    let unnamed = stream(
        "/Type/Metadata/N 1/First 4/Filter/FlateDecode",
        &deflated(b"9 0 <</S/Launch>>"),
    );
    assert_eq!(active(&pdf(CATALOG, &[&unnamed])), [Active::Launch]);
    let armoured = stream(
        "/Type/ObjStm/N 1/First 4/Filter/ASCIIHexDecode",
        b"392030203C3C2F532F4C61756E63683E3E>",
    );
    assert_eq!(active(&pdf(CATALOG, &[&armoured])), [Active::Launch]);
}

#[test]
fn streams_that_unpack_to_too_much_are_refused_in_bounded_memory() {
    let zeros = deflated(&vec![0; 140 * 1024 * 1024]);
    let bomb = stream("/Filter/FlateDecode", &zeros);
    assert!(matches!(
        check(&pdf(CATALOG, &[&bomb])),
        Err(PdfError::Uninspectable(_))
    ));
    let objects = deflated(&vec![b' '; 20 * 1024 * 1024]);
    let bomb = stream("/Type/ObjStm/N 1/First 4/Filter/FlateDecode", &objects);
    assert!(matches!(
        check(&pdf(CATALOG, &[&bomb])),
        Err(PdfError::Uninspectable(_))
    ));
    let twice = stream("/Filter[/FlateDecode/FlateDecode]", &deflated(&zeros));
    assert!(matches!(
        check(&pdf(CATALOG, &[&twice])),
        Err(PdfError::Uninspectable(_))
    ));
    let picture = b"<</Subtype/Image/Width 60000/Height 60000/Length 0>>\nstream\n\nendstream";
    assert!(matches!(
        check(&pdf(CATALOG, &[picture])),
        Err(PdfError::Uninspectable(_))
    ));
}

#[test]
fn what_no_obj_introduces_is_measured_too() {
    let mut file = pdf(CATALOG, &[]);
    let mut bomb = b"<</Type/ObjStm/N 1/First 4/Filter/FlateDecode>>\nstream\n".to_vec();
    bomb.extend(deflated(&vec![0; 140 * 1024 * 1024]));
    bomb.extend(b"\nendstream\n");
    let end = memchr::memmem::rfind(&file, b"startxref").unwrap();
    file.splice(end..end, bomb);
    assert!(matches!(check(&file), Err(PdfError::Uninspectable(_))));
}

#[test]
fn a_file_that_makes_its_reader_read_again_and_again_is_given_up() {
    let mut nest = Vec::new();
    for _ in 0..20_000 {
        nest.extend(b"1 0 obj(");
    }
    nest.resize(2 * 1024 * 1024, b' ');
    assert!(matches!(
        check(&pdf(CATALOG, &[&nest])),
        Err(PdfError::Uninspectable(_))
    ));
    // Each object opens what nobody closes, each comment and each stream goes to the end.
    for piece in [
        &b"1 0 obj[ "[..],
        b"1 0 obj<< ",
        b"1 0 obj<<>>%",
        b"1 0 obj<<>>stream\n",
        b"1 0 obj<<( ",
    ] {
        let file = pdf(CATALOG, &[&piece.repeat(1_000_000)]);
        assert!(check(&file).is_err(), "{}", String::from_utf8_lossy(piece));
    }
    let tower = vec![b'['; 1_000];
    assert!(matches!(
        check(&pdf(CATALOG, &[&tower])),
        Err(PdfError::Uninspectable(_))
    ));
}

#[test]
fn pages_are_counted_through_the_tree_and_the_last_writing_of_an_object_counts() {
    let two = b"<</Type/Page/Parent 2 0 R>>";
    let unlisted = pdf(CATALOG, &[two]);
    assert_eq!(
        check(&unlisted),
        Ok(Checked { pages: 1 }),
        "nobody points to the fifth object"
    );
    let mut updated = pdf(CATALOG, &[two]);
    let at = memchr::memmem::rfind(&updated, b"xref\n0").unwrap();
    updated.extend(b"2 0 obj<</Type/Pages/Kids[3 0 R 5 0 R 2 0 R]/Count 2>>endobj\n");
    updated.extend(format!("startxref\n{at}\n%%EOF").bytes());
    assert_eq!(check(&updated), Ok(Checked { pages: 2 }));
    let none = pdf("<</Type/Catalog>>", &[]);
    let none = String::from_utf8(none)
        .unwrap()
        .replace("/Type/Page/", "/Type/Pane/");
    assert_eq!(check(none.as_bytes()), Err(PdfError::Broken("no pages")));
}

#[test]
fn an_encrypted_file_is_refused_even_if_it_opens_without_a_password() {
    let file = pdf(CATALOG, &[]);
    let text = String::from_utf8(file).unwrap();
    let file = text
        .replace("/Root 1 0 R", "/Encrypt 5 0 R/Root 1 0 R")
        .into_bytes();
    assert_eq!(check(&file), Err(PdfError::Encrypted));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = pdf(
        CATALOG,
        &[&stream("/Filter/FlateDecode", &deflated(b"0 0 m"))],
    );
    assert_eq!(check(&whole), Ok(Checked { pages: 1 }));
    let end_mark = memchr::memmem::rfind(&whole, b"%%EOF").unwrap() + 5;
    for end in 0..end_mark {
        assert!(
            check(&whole[..end]).is_err(),
            "cut to {end} of {}",
            whole.len()
        );
    }
}

#[test]
fn every_flipped_bit_gets_an_answer() {
    let whole = pdf(
        CATALOG,
        &[&stream("/Filter/FlateDecode", &deflated(b"0 0 m"))],
    );
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            let _ = check(&bytes);
        }
    }
}
