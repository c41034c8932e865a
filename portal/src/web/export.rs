//! Tables as files for spreadsheets: CSV and xlsx.
//!
//! A cell that a spreadsheet would take for a formula is made a text: what somebody typed into
//! a name must not run at the office. In xlsx every cell is an inline string, which is never a
//! formula; in CSV such a cell gets an apostrophe in front (OWASP, CSV injection).

use std::io::{Cursor, Write as _};

use encoding_rs::SHIFT_JIS;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// xlsx.
pub const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
/// CSV in UTF-8.
pub const CSV: &str = "text/csv; charset=utf-8";
/// CSV in CP932, for programs that know nothing else.
pub const CSV_CP932: &str = "text/csv; charset=Windows-31J";

/// What stands for a character that CP932 does not have.
const MISSING: char = '〓';
/// A cell of a spreadsheet holds no more (ECMA-376; Excel's limits).
const CELL_LIMIT_CHARS: usize = 32_767;

/// How CSV is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8 with a mark in front, by which Excel knows it.
    Utf8,
    /// CP932; characters that it does not have become 〓.
    Cp932,
}

/// A table: its headings and its rows, each as long as the headings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The first row.
    pub headings: Vec<&'static str>,
    /// The others.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// As CSV (RFC 4180).
    pub fn to_csv(&self, encoding: Encoding) -> Vec<u8> {
        let mut text = String::new();
        let headings: Vec<String> = self
            .headings
            .iter()
            .map(|cell| (*cell).to_owned())
            .collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let cells: Vec<String> = row.iter().map(|cell| csv_cell(cell)).collect();
            text.push_str(&cells.join(","));
            text.push_str("\r\n");
        }
        match encoding {
            Encoding::Utf8 => [b"\xEF\xBB\xBF", text.as_bytes()].concat(),
            Encoding::Cp932 => cp932(&text),
        }
    }

    /// As a workbook with one sheet.
    ///
    /// # Errors
    /// If memory cannot be written, which cannot be seen.
    pub fn to_xlsx(&self, sheet: &str) -> Result<Vec<u8>, zip::result::ZipError> {
        let mut book = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        let workbook = WORKBOOK.replace("{sheet}", &xml(sheet));
        for (name, text) in [
            ("[Content_Types].xml", CONTENT_TYPES),
            ("_rels/.rels", RELATIONS),
            ("xl/workbook.xml", workbook.as_str()),
            ("xl/_rels/workbook.xml.rels", WORKBOOK_RELATIONS),
            ("xl/styles.xml", STYLES),
            ("xl/worksheets/sheet1.xml", &self.sheet()),
        ] {
            book.start_file(name, options)?;
            book.write_all(text.as_bytes())?;
        }
        Ok(book.finish()?.into_inner())
    }

    fn sheet(&self) -> String {
        const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\
            <worksheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\">\
            <sheetViews><sheetView workbookViewId=\"0\"><pane ySplit=\"1\" topLeftCell=\"A2\" \
            activePane=\"bottomLeft\" state=\"frozen\"/></sheetView></sheetViews>\
            <sheetFormatPr defaultColWidth=\"22\" defaultRowHeight=\"18\"/><sheetData>";
        let mut text = String::from(HEAD);
        let headings: Vec<String> = self
            .headings
            .iter()
            .map(|cell| (*cell).to_owned())
            .collect();
        for (index, row) in std::iter::once(&headings).chain(&self.rows).enumerate() {
            let style = if index == 0 { " s=\"1\"" } else { "" };
            text.push_str("<row>");
            for cell in row {
                text.push_str("<c t=\"inlineStr\"");
                text.push_str(style);
                text.push_str("><is><t xml:space=\"preserve\">");
                text.push_str(&xml(cell));
                text.push_str("</t></is></c>");
            }
            text.push_str("</row>");
        }
        text.push_str("</sheetData></worksheet>");
        text
    }
}

/// Quoted always; with an apostrophe where a spreadsheet would see a formula.
fn csv_cell(cell: &str) -> String {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠']);
    let mark = if formula { "'" } else { "" };
    format!("\"{mark}{}\"", cell.replace('"', "\"\""))
}

fn cp932(text: &str) -> Vec<u8> {
    let (whole, _, missing) = SHIFT_JIS.encode(text);
    if !missing {
        return whole.into_owned();
    }
    let known = |c: char| {
        let mut one = [0; 4];
        let (_, _, missing) = SHIFT_JIS.encode(c.encode_utf8(&mut one));
        if missing { MISSING } else { c }
    };
    let text: String = text.chars().map(known).collect();
    SHIFT_JIS.encode(&text).0.into_owned()
}

/// A text between XML tags; characters that XML 1.0 does not have are left out.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().take(CELL_LIMIT_CHARS) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' => out.push(c),
            '\u{0}'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => {}
            c => out.push(c),
        }
    }
    out
}

const CONTENT_TYPES: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\
    <Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\">\
    <Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/>\
    <Default Extension=\"xml\" ContentType=\"application/xml\"/>\
    <Override PartName=\"/xl/workbook.xml\" ContentType=\"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml\"/>\
    <Override PartName=\"/xl/styles.xml\" ContentType=\"application/vnd.openxmlformats-officedocument.spreadsheetml.styles+xml\"/>\
    <Override PartName=\"/xl/worksheets/sheet1.xml\" ContentType=\"application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml\"/>\
    </Types>";
const RELATIONS: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\
    <Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
    <Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument\" Target=\"xl/workbook.xml\"/>\
    </Relationships>";
const WORKBOOK: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\
    <workbook xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" \
    xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\">\
    <sheets><sheet name=\"{sheet}\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>";
const WORKBOOK_RELATIONS: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\
    <Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
    <Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet\" Target=\"worksheets/sheet1.xml\"/>\
    <Relationship Id=\"rId2\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles\" Target=\"styles.xml\"/>\
    </Relationships>";
/// The second format is bold, for headings.
const STYLES: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\
    <styleSheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\">\
    <fonts count=\"2\"><font><sz val=\"11\"/><name val=\"游ゴシック\"/></font>\
    <font><b/><sz val=\"11\"/><name val=\"游ゴシック\"/></font></fonts>\
    <fills count=\"2\"><fill><patternFill patternType=\"none\"/></fill>\
    <fill><patternFill patternType=\"gray125\"/></fill></fills>\
    <borders count=\"1\"><border><left/><right/><top/><bottom/><diagonal/></border></borders>\
    <cellStyleXfs count=\"1\"><xf numFmtId=\"0\" fontId=\"0\" fillId=\"0\" borderId=\"0\"/></cellStyleXfs>\
    <cellXfs count=\"2\"><xf numFmtId=\"49\" fontId=\"0\" fillId=\"0\" borderId=\"0\" xfId=\"0\"/>\
    <xf numFmtId=\"49\" fontId=\"1\" fillId=\"0\" borderId=\"0\" xfId=\"0\"/></cellXfs>\
    </styleSheet>";

#[cfg(test)]
mod tests {
    use calamine::{Data, Reader as _, Xlsx};

    use super::*;

    fn table() -> Table {
        let cells = [
            "=HYPERLINK(\"x\")",
            "+1",
            "-1",
            "@SUM(A1)",
            "\tx",
            "\rx",
            "髙﨑　花子",
            "a \"b\"\nc <&>",
        ];
        Table {
            headings: vec!["一", "二"],
            rows: cells
                .iter()
                .map(|cell| vec![(*cell).to_owned(), "0123".to_owned()])
                .collect(),
        }
    }

    #[test]
    fn no_cell_of_a_csv_begins_as_a_formula() {
        let csv = table().to_csv(Encoding::Utf8);
        assert!(csv.starts_with(b"\xEF\xBB\xBF"));
        let text = String::from_utf8(csv[3..].to_vec()).unwrap();
        assert!(text.starts_with("\"一\",\"二\"\r\n\"'=HYPERLINK(\"\"x\"\")\",\"0123\"\r\n"));
        for start in ["\"=", "\"+", "\"-", "\"@", "\"\t"] {
            assert!(!text.contains(start), "{start:?} in {text}");
        }
        assert!(text.contains("\"'\rx\""), "{text}");
    }

    #[test]
    fn cp932_keeps_what_it_has_and_marks_what_it_has_not() {
        let table = Table {
            headings: vec!["氏名"],
            rows: vec![vec!["髙﨑 𠮷田".to_owned()]],
        };
        let csv = table.to_csv(Encoding::Cp932);
        let (text, _, broken) = SHIFT_JIS.decode(&csv);
        assert!(!broken);
        assert_eq!(text, "\"氏名\"\r\n\"髙﨑 〓田\"\r\n");
    }

    #[test]
    fn a_workbook_holds_strings_and_no_formulas() {
        let xlsx = table().to_xlsx("履歴").unwrap();
        let mut book = Xlsx::new(Cursor::new(xlsx)).unwrap();
        assert_eq!(book.sheet_names(), ["履歴"]);
        let values = book.worksheet_range("履歴").unwrap();
        assert_eq!(
            values.get((1, 0)),
            Some(&Data::String("=HYPERLINK(\"x\")".into()))
        );
        assert_eq!(values.get((1, 1)), Some(&Data::String("0123".into())));
        assert_eq!(
            values.get((8, 0)),
            Some(&Data::String("a \"b\"\nc <&>".into()))
        );
        let formulas = book.worksheet_formula("履歴").unwrap();
        assert_eq!(formulas.used_cells().count(), 0);
    }
}
