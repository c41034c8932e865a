//! The folder in which the mail catcher keeps what the portal sent.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::process::{output, wait_for};

/// How long a mail may take, in seconds: a second try and a third, 20 s later, included.
const PATIENCE_S: u64 = 60;

/// Mails that arrived, oldest first.
#[derive(Debug, Clone)]
pub struct Mailbox {
    folder: PathBuf,
}

/// One mail, decoded.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The recipient.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// The text.
    pub body: String,
    /// The whole message as it arrived.
    pub raw: String,
}

impl Mailbox {
    /// The mailbox in `folder`.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files, oldest first.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(&self.folder)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
            .collect();
        files.sort();
        Ok(files)
    }

    /// All mails, oldest first.
    pub fn mails(&self) -> Result<Vec<Mail>> {
        self.files()?.iter().map(|file| read(file)).collect()
    }

    /// Waits for a mail to `to`, the `nth` one that fits (0 is the first) and returns it.
    pub async fn wait(&self, to: &str, nth: usize, fits: impl Fn(&Mail) -> bool) -> Result<Mail> {
        wait_for("a mail", PATIENCE_S, async || {
            Ok(self
                .mails()?
                .into_iter()
                .filter(|mail| mail.to == to && fits(mail))
                .nth(nth))
        })
        .await
    }

    /// Waits for the `nth` one-time password sent to `to`.
    pub async fn wait_code(&self, to: &str, nth: usize) -> Result<String> {
        let mail = self
            .wait(to, nth, |mail| code_in(&mail.body).is_some())
            .await?;
        code_in(&mail.body).context("a mail with a code")
    }

    /// How many one-time passwords were sent to `to`.
    pub fn codes_sent(&self, to: &str) -> Result<usize> {
        Ok(self
            .mails()?
            .iter()
            .filter(|mail| mail.to == to && code_in(&mail.body).is_some())
            .count())
    }
}

/// The six digits that stand alone in a line.
fn code_in(body: &str) -> Option<String> {
    body.lines()
        .map(str::trim)
        .find(|line| line.len() == 6 && line.chars().all(|c| c.is_ascii_digit()))
        .map(str::to_owned)
}

/// Decodes with Python's mail library, which knows every encoding that mails come in.
fn read(file: &Path) -> Result<Mail> {
    const SCRIPT: &str = "import email, email.policy, json, sys
m = email.message_from_binary_file(open(sys.argv[1], 'rb'), policy=email.policy.default)
print(json.dumps({'to': m['X-Envelope-To'], 'subject': m['Subject'], 'body': m.get_body(('plain',)).get_content()}))";
    let decoded = output(
        std::process::Command::new("/usr/bin/python3")
            .args(["-c", SCRIPT])
            .arg(file),
    )?;
    let decoded: serde_json::Value = serde_json::from_str(&decoded)?;
    let text = |name: &str| decoded[name].as_str().unwrap_or_default().to_owned();
    let raw = String::from_utf8_lossy(&std::fs::read(file)?).into_owned();
    Ok(Mail {
        to: text("to"),
        subject: text("subject"),
        body: text("body"),
        raw,
    })
}
