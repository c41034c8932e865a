//! CSV that people open in Excel: UTF-8 with a byte order mark, and no cell that Excel would
//! take for a formula (CWE-1236).

/// A table under construction.
#[derive(Debug)]
pub struct Table(String);

impl Table {
    /// A table with its head.
    pub fn new(head: &[&str]) -> Self {
        let mut table = Self("\u{FEFF}".to_owned());
        table.row(head);
        table
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[&str]) {
        for (index, cell) in cells.iter().enumerate() {
            if index > 0 {
                self.0.push(',');
            }
            self.cell(cell);
        }
        self.0.push_str("\r\n");
    }

    fn cell(&mut self, text: &str) {
        // Excel looks behind blanks, too; a plain number may begin with a minus.
        let first = text.trim_start().chars().next();
        let formula = matches!(
            first,
            Some('=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠')
        ) || text.starts_with(['\t', '\r', '\n']);
        let number = text.parse::<i64>().is_ok() && !text.starts_with('+');
        let safe = if formula && !number { "'" } else { "" };
        let quoted = text.contains(['"', ',', '\r', '\n']) || text != text.trim();
        if quoted {
            self.0.push('"');
            self.0.push_str(safe);
            self.0.push_str(&text.replace('"', "\"\""));
            self.0.push('"');
        } else {
            self.0.push_str(safe);
            self.0.push_str(text);
        }
    }

    /// The file.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_and_every_cell_is_read_back() {
        let cells = [
            "=1+1", "+81", "-5", "@x", "－", "\t=1", " =1", "a,b", "改\n行", "\"q\"", "", "-a",
        ];
        let mut table = Table::new(&["頭"; 12]);
        table.row(&cells);
        let bytes = table.into_bytes();
        assert!(bytes.starts_with(b"\xEF\xBB\xBF"));
        let mut reader = csv::Reader::from_reader(&bytes[3..]);
        let row = reader.records().next().unwrap().unwrap();
        let read: Vec<&str> = row.iter().collect();
        assert_eq!(
            read,
            [
                "'=1+1", "'+81", "-5", "'@x", "'－", "'\t=1", "' =1", "a,b", "改\n行", "\"q\"", "",
                "'-a"
            ]
        );
    }
}
