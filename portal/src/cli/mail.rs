//! `portal mail bounce`

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use portal::app::App;
use portal::mail::bounces::{self, REPORT_LIMIT_BYTES, Taken};

/// Largest mbox that is read, in bytes.
const MBOX_LIMIT_BYTES: u64 = 64 * 1024 * 1024;
/// Messages of a maildir that one call reads.
const MAILDIR_LIMIT: usize = 10_000;

/// Reads reports from standard input, a file (one message or an mbox) or a maildir, and prints
/// what became of them. Messages of a maildir that were read go from `new` to `cur`.
pub(super) async fn bounce(app: &App, from: Option<PathBuf>) -> anyhow::Result<()> {
    let (mut reports, mut raised, mut ignored) = (0, 0, 0);
    let mut count = |taken: Option<Taken>| match taken {
        Some(Taken::Raised(tasks)) => {
            reports += 1;
            raised += tasks;
        }
        Some(Taken::NotOurs) | None => ignored += 1,
    };
    match from {
        None => {
            let mut message = Vec::new();
            let limit = REPORT_LIMIT_BYTES as u64 + 1;
            std::io::stdin().take(limit).read_to_end(&mut message)?;
            count(take(app, &message).await?);
        }
        Some(folder) if folder.is_dir() => {
            for file in waiting(&folder)? {
                let mut message = Vec::new();
                let limit = REPORT_LIMIT_BYTES as u64 + 1;
                let opened = std::fs::File::open(&file).context("cannot open a message")?;
                opened.take(limit).read_to_end(&mut message)?;
                count(take(app, &message).await?);
                let mut name = file.file_name().unwrap_or_default().to_owned();
                name.push(":2,S");
                std::fs::rename(&file, folder.join("cur").join(name))
                    .context("cannot move a message from new to cur")?;
            }
        }
        Some(file) => {
            let length = std::fs::metadata(&file)
                .context("cannot read the file")?
                .len();
            if length > MBOX_LIMIT_BYTES {
                bail!("{} is larger than 64 MiB", file.display());
            }
            let bytes = std::fs::read(&file).context("cannot read the file")?;
            for message in messages(&bytes) {
                count(take(app, &message).await?);
            }
        }
    }
    println!("{reports} reports on mails of ours, {raised} new tasks, {ignored} other messages");
    Ok(())
}

async fn take(app: &App, message: &[u8]) -> anyhow::Result<Option<Taken>> {
    match bounces::read(message) {
        None => Ok(None),
        Some(bounce) => Ok(Some(bounces::take(app, &bounce, app.clock.now()).await?)),
    }
}

/// What lies in a maildir's `new`, by name.
fn waiting(maildir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(maildir.join("new")).context("no maildir: it has no new")?;
    let mut files = Vec::new();
    for entry in entries.take(MAILDIR_LIMIT) {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// The messages of an mbox (RFC 4155), or the one message that a file is.
fn messages(bytes: &[u8]) -> Vec<Vec<u8>> {
    const MARK: &[u8] = b"From ";
    if !bytes.starts_with(MARK) {
        return vec![bytes.to_vec()];
    }
    let mut messages: Vec<Vec<u8>> = Vec::new();
    let mut after_empty = true;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if after_empty && line.starts_with(MARK) {
            messages.push(Vec::new());
        } else if let Some(message) = messages.last_mut() {
            let quoted = line.starts_with(b">From ");
            message.extend_from_slice(if quoted { &line[1..] } else { line });
        }
        after_empty = line == b"\n" || line == b"\r\n";
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mbox_falls_into_its_messages() {
        let mbox =
            b"From a@b Fri\nSubject: 1\n\n>From me\nFrom inside\n\nFrom c@d Fri\nSubject: 2\n\nx\n";
        let read = messages(mbox);
        assert_eq!(read.len(), 2);
        assert_eq!(read[0], b"Subject: 1\n\nFrom me\nFrom inside\n\n");
        assert_eq!(read[1], b"Subject: 2\n\nx\n");
        assert_eq!(messages(b"Subject: 1\n\nx"), [b"Subject: 1\n\nx".to_vec()]);
    }
}
