//! The process that reads a document's text and says whose establishment stands in it.
//!
//! The portal starts its own program again as `portal find-other-establishments`, gives it
//! two lines of JSON (the question and all establishments) and the PDF behind them on its
//! standard input, and reads one line of JSON with the verdict.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use super::{Directory, Names, Question, Verdict};
use crate::filings::pdf::SIZE_LIMIT_BYTES;
use crate::page_images::worker::limited;
use crate::text_layer;

/// The word after the program's name.
pub const COMMAND: &str = "find-other-establishments";

/// How long the lines of the question may be together: 10,000 names of 100 characters.
const QUESTION_LIMIT_BYTES: u64 = 8 * 1024 * 1024;
/// How long an answer may be.
const ANSWER_LIMIT_BYTES: u64 = 256;

/// Asks about documents.
#[derive(Debug, Clone)]
pub struct Guard(How);

#[derive(Debug, Clone)]
enum How {
    /// In a process of its own.
    #[cfg_attr(test, expect(dead_code, reason = "a unit test's program is no portal"))]
    Program(Arc<Path>),
    /// In the test that asks.
    #[cfg(test)]
    Here,
}

impl Default for Guard {
    fn default() -> Self {
        #[cfg(test)]
        let how = How::Here;
        #[cfg(not(test))]
        let how = How::Program(std::env::current_exe().unwrap_or_default().into());
        Self(how)
    }
}

impl Guard {
    /// Judges a PDF. Blocks.
    ///
    /// A text that cannot be read is no text: the person who looks the batch over is told.
    pub fn judge(&self, question: &Question, directory: &Directory, pdf: &[u8]) -> Verdict {
        let judged = match &self.0 {
            How::Program(program) => ask(program, question, directory, pdf),
            #[cfg(test)]
            How::Here => judge(question, directory, pdf.to_vec()),
        };
        judged.unwrap_or_else(|error| {
            tracing::warn!(%error, "a notice's text could not be searched");
            Verdict::NoText
        })
    }
}

/// Answers one question: the whole duty of `portal find-other-establishments` with standard
/// input and output.
///
/// # Errors
/// If reading or writing fails, or the file is unreadable.
pub fn serve(input: impl Read, mut output: impl Write) -> io::Result<()> {
    let mut input = BufReader::new(input);
    let mut lines = [String::new(), String::new()];
    for line in &mut lines {
        (&mut input).take(QUESTION_LIMIT_BYTES).read_line(line)?;
    }
    let question: Question = serde_json::from_str(&lines[0])?;
    let directory: Directory = serde_json::from_str(&lines[1])?;
    let mut pdf = Vec::new();
    input.take(SIZE_LIMIT_BYTES as u64).read_to_end(&mut pdf)?;
    let verdict = judge(&question, &directory, pdf)?;
    serde_json::to_writer(&mut output, &verdict)?;
    output.write_all(b"\n")?;
    output.flush()
}

fn judge(question: &Question, directory: &Directory, pdf: Vec<u8>) -> io::Result<Verdict> {
    let pages = text_layer::read(pdf).map_err(io::Error::other)?;
    Ok(Names::new(question, directory).judge(&pages))
}

fn ask(
    program: &Path,
    question: &Question,
    directory: &Directory,
    pdf: &[u8],
) -> io::Result<Verdict> {
    let mut head = serde_json::to_vec(question)?;
    head.push(b'\n');
    head.extend(serde_json::to_vec(directory)?);
    head.push(b'\n');
    let mut process = limited(program.as_os_str())
        .arg(COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let answered = std::thread::scope(|scope| {
        let input = process.stdin.take();
        scope.spawn(move || {
            // A process that broke down closes its end: its status tells.
            input.map(|mut input| input.write_all(&head).and_then(|()| input.write_all(pdf)))
        });
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
            "the process that reads a notice ended with {status}"
        )));
    }
    serde_json::from_str(answered?.trim()).map_err(io::Error::other)
}
