//! The process that draws a page, and how it is asked.
//!
//! The portal starts its own program again as `portal draw-page PAGE WIDTH`, gives it the PDF
//! on its standard input, and reads a line of JSON and, after it, the picture. The process
//! gets no environment, no argument that says whose file it is, and limits on its memory and
//! its time that the kernel keeps. What it answers is not believed further than that it is
//! a picture.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Stdio;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::{Fidelity, PNG_LIMIT_BYTES, PageImage, PageImageError, TIME_LIMIT, draw};
use crate::filings::pdf::SIZE_LIMIT_BYTES;

/// The word after the program's name: `portal draw-page PAGE WIDTH`.
pub const COMMAND: &str = "draw-page";

/// How much memory the process may map.
const MEMORY_LIMIT_KIB: u64 = 3 * 1024 * 1024;
/// How long the line before the picture may be.
const HEAD_LIMIT_BYTES: usize = 1024;
const PNG_MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Head {
    Drawn { fidelity: Fidelity, pages: usize },
    Refused(PageImageError),
}

/// Draws the page of the PDF that comes from `input`, and answers to `output`: the whole
/// duty of `portal draw-page PAGE WIDTH` with standard input and output.
///
/// # Errors
/// Only if reading or writing fails; what is wrong with the page is part of the answer.
pub fn serve(page: usize, width: u16, input: impl Read, mut output: impl Write) -> io::Result<()> {
    let mut pdf = Vec::new();
    input
        .take(SIZE_LIMIT_BYTES as u64 + 1)
        .read_to_end(&mut pdf)?;
    let drawn = if pdf.len() > SIZE_LIMIT_BYTES {
        Err(PageImageError::Undrawable)
    } else {
        draw(pdf, page, width)
    };
    let (head, png) = match drawn {
        Ok(image) => {
            let (fidelity, pages) = (image.fidelity, image.pages);
            (Head::Drawn { fidelity, pages }, image.png)
        }
        Err(error) => (Head::Refused(error), Vec::new()),
    };
    serde_json::to_writer(&mut output, &head)?;
    output.write_all(b"\n")?;
    output.write_all(&png)?;
    output.flush()
}

/// Has a page drawn by `program`. Dropping the future kills the process.
pub(super) async fn ask(
    program: &Path,
    pdf: &[u8],
    page: usize,
    width: u16,
) -> Result<PageImage, PageImageError> {
    let mut process = Command::from(limited(program.as_os_str()))
        .arg(COMMAND)
        .arg(page.to_string())
        .arg(width.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            tracing::error!(%error, "the process that draws pages cannot be started");
            PageImageError::Undrawable
        })?;
    let (Some(mut input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
        return Err(PageImageError::Undrawable);
    };
    let give = async move {
        // A process that has read enough closes its end: no error.
        let _ = input.write_all(pdf).await;
    };
    let mut answer = Vec::new();
    let limit = (HEAD_LIMIT_BYTES + PNG_LIMIT_BYTES) as u64;
    let mut output = output.take(limit);
    let (_, read) = tokio::join!(give, output.read_to_end(&mut answer));
    match process.wait().await {
        Ok(status) if status.success() && read.is_ok() => {}
        ended => {
            tracing::warn!(?ended, "the process that draws pages broke down");
            return Err(PageImageError::Undrawable);
        }
    }
    understand(&answer)
}

fn understand(answer: &[u8]) -> Result<PageImage, PageImageError> {
    let end = answer
        .iter()
        .take(HEAD_LIMIT_BYTES)
        .position(|byte| *byte == b'\n')
        .ok_or(PageImageError::Undrawable)?;
    let (head, png) = (&answer[..end], &answer[end + 1..]);
    match serde_json::from_slice(head).map_err(|_| PageImageError::Undrawable)? {
        Head::Drawn { fidelity, pages } if png.starts_with(PNG_MAGIC) => Ok(PageImage {
            png: png.to_vec(),
            fidelity,
            pages,
        }),
        Head::Drawn { .. } => Err(PageImageError::Undrawable),
        Head::Refused(error) => Err(error),
    }
}

/// A program that reads what strangers sent: without environment, under limits of memory and
/// time that a shell sets before it becomes the program.
#[cfg(unix)]
pub(crate) fn limited(program: &OsStr) -> std::process::Command {
    let seconds = TIME_LIMIT.as_secs();
    let script =
        format!(r#"ulimit -v {MEMORY_LIMIT_KIB} && ulimit -t {seconds} && exec "$0" "$@""#);
    let mut command = std::process::Command::new("/bin/sh");
    command.env_clear().arg("-c").arg(script).arg(program);
    command
}

#[cfg(not(unix))]
pub(crate) fn limited(program: &OsStr) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command.env_clear();
    command
}
