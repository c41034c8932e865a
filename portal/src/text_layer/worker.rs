//! The process that reads a PDF's text, and what it is asked.
//!
//! The portal starts its own program again as `portal find-individual-number`, gives it the
//! PDF on its standard input, and reads the number of the first page on which an individual
//! number stands, or 0; the fingerprint of what the pages show; and how the first page begins,
//! by which a form is told from another. An individual number never leaves that process: of a
//! file with one nothing else is said, and long numbers are left out of the beginning.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use super::{Unreadable, read_with_fingerprint};
use crate::filings::individual_number;
use crate::filings::pdf::SIZE_LIMIT_BYTES;
use crate::page_images::worker::limited;

/// The word after the program's name.
pub const COMMAND: &str = "find-individual-number";

/// How long an answer may be.
const ANSWER_LIMIT_BYTES: u64 = 16 * 1024;
/// How much of the first page is told, in characters.
const HEAD_LIMIT_CHARS: usize = 1_000;
/// Longest run of digits that is told: a date has eight.
const DIGITS_LIMIT: usize = 8;

/// What is known of a PDF's pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// The first page on which an individual number stands, from 1.
    pub number_page: Option<usize>,
    /// The fingerprint of what the pages show, if it can be told.
    pub content: Option<[u8; 32]>,
    /// How the first page begins, on one line, without long numbers.
    pub head: String,
}

/// Searches PDFs for individual numbers.
#[derive(Debug, Clone)]
pub struct Searcher(How);

#[derive(Debug, Clone)]
enum How {
    /// In a process of its own.
    Program(Arc<Path>),
    /// In the test that asks.
    #[cfg(test)]
    Here,
}

impl Default for Searcher {
    /// Asks the program that is running. (A unit test's program is no portal: there, the test
    /// searches.)
    fn default() -> Self {
        #[cfg(test)]
        let how = How::Here;
        #[cfg(not(test))]
        let how = How::Program(std::env::current_exe().unwrap_or_default().into());
        Self(how)
    }
}

impl Searcher {
    /// Asks `program`, which must answer to [`COMMAND`] as [`serve`] does.
    pub fn by(program: PathBuf) -> Self {
        Self(How::Program(program.into()))
    }

    /// The first page on which an individual number stands, from 1. Blocks.
    ///
    /// A file whose text cannot be read has none that a search could find, as a scanned one
    /// has none: it passes. The guard is against mistakes, which are made with files that
    /// programs write well.
    pub fn find(&self, pdf: &[u8]) -> Option<usize> {
        self.examine(pdf).number_page
    }

    /// Like [`Searcher::find`], with what else is known of the pages. Blocks.
    pub fn examine(&self, pdf: &[u8]) -> Examined {
        let found = match &self.0 {
            How::Program(program) => ask(program, pdf),
            #[cfg(test)]
            How::Here => examine(pdf.to_vec()).map_err(io::Error::other),
        };
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "a filing's text could not be searched");
            Examined::default()
        })
    }
}

/// Searches the PDF that comes from `input`, and answers to `output`: the whole duty of
/// `portal find-individual-number` with standard input and output.
///
/// # Errors
/// If reading or writing fails, or the file is unreadable.
pub fn serve(input: impl Read, mut output: impl Write) -> io::Result<()> {
    let mut pdf = Vec::new();
    input.take(SIZE_LIMIT_BYTES as u64).read_to_end(&mut pdf)?;
    let examined = examine(pdf).map_err(io::Error::other)?;
    writeln!(output, "{}", examined.number_page.unwrap_or(0))?;
    if examined.number_page.is_none() {
        let hex = |bytes: [u8; 32]| bytes.map(|byte| format!("{byte:02x}")).concat();
        writeln!(output, "{}", examined.content.map_or("-".to_owned(), hex))?;
        writeln!(output, "{}", examined.head)?;
    }
    output.flush()
}

fn examine(pdf: Vec<u8>) -> Result<Examined, Unreadable> {
    let (pages, content) = read_with_fingerprint(pdf)?;
    let found = pages
        .iter()
        .position(|text| individual_number::occurs(text));
    if let Some(index) = found {
        return Ok(Examined {
            number_page: Some(index + 1),
            ..Examined::default()
        });
    }
    Ok(Examined {
        number_page: None,
        content,
        head: pages.first().map(|text| head(text)).unwrap_or_default(),
    })
}

/// How a page begins, on one line. A run of digits that is longer than a date is left out.
fn head(text: &str) -> String {
    use unicode_normalization::UnicodeNormalization as _;
    let line: String = text
        .nfkc()
        .filter(|c| !c.is_whitespace() && !c.is_control())
        .take(HEAD_LIMIT_CHARS)
        .collect();
    let mut head = String::new();
    let mut digits = String::new();
    for c in line.chars().chain(['\n']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        if digits.len() <= DIGITS_LIMIT {
            head.push_str(&digits);
        }
        digits.clear();
        head.push(c);
    }
    head.trim_end().to_owned()
}

/// Reads what [`serve`] wrote.
fn understand(answer: &str) -> io::Result<Examined> {
    let mut lines = answer.lines();
    let page: usize = lines
        .next()
        .unwrap_or_default()
        .trim()
        .parse()
        .map_err(io::Error::other)?;
    let content = lines.next().and_then(|line| {
        let mut bytes = [0; 32];
        if line.len() != 2 * bytes.len() || !line.is_ascii() {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&line[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(bytes)
    });
    Ok(Examined {
        number_page: (page > 0).then_some(page),
        content,
        head: lines.next().unwrap_or_default().to_owned(),
    })
}

fn ask(program: &Path, pdf: &[u8]) -> io::Result<Examined> {
    let mut process = limited(program.as_os_str())
        .arg(COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let answered = std::thread::scope(|scope| {
        let input = process.stdin.take();
        // A process that has read enough closes its end: no error.
        scope.spawn(move || input.map(|mut input| input.write_all(pdf)));
        let output = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut answer = String::new();
        output
            .take(ANSWER_LIMIT_BYTES)
            .read_to_string(&mut answer)?;
        Ok::<_, io::Error>(answer)
    });
    let status = process.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!(
            "the process that searches ended with {status}"
        )));
    }
    understand(&answered?)
}
