//! The process that reads a PDF's text, and what it is asked.
//!
//! The portal starts its own program again as `portal find-individual-number`, gives it the
//! PDF on its standard input, and reads the number of the first page on which an individual
//! number stands, or 0. The number itself never leaves that process, nor does any other text.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use super::{Unreadable, read};
use crate::filings::individual_number;
use crate::filings::pdf::SIZE_LIMIT_BYTES;
use crate::page_images::worker::limited;

/// The word after the program's name.
pub const COMMAND: &str = "find-individual-number";

/// How long an answer may be: a page's number and a line end.
const ANSWER_LIMIT_BYTES: u64 = 16;

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
        let found = match &self.0 {
            How::Program(program) => ask(program, pdf),
            #[cfg(test)]
            How::Here => find(pdf.to_vec()).map_err(io::Error::other),
        };
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "a filing's text could not be searched");
            None
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
    let page = find(pdf).map_err(io::Error::other)?;
    writeln!(output, "{}", page.unwrap_or(0))?;
    output.flush()
}

fn find(pdf: Vec<u8>) -> Result<Option<usize>, Unreadable> {
    let pages = read(pdf)?;
    let found = pages
        .iter()
        .position(|text| individual_number::occurs(text));
    Ok(found.map(|index| index + 1))
}

fn ask(program: &Path, pdf: &[u8]) -> io::Result<Option<usize>> {
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
    let page: usize = answered?.trim().parse().map_err(io::Error::other)?;
    Ok((page > 0).then_some(page))
}
