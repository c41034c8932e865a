//! Mails that come back (RFC 3464): reads the report and says which mail of ours met which
//! refusal.
//!
//! Reports arrive from anywhere, and anybody can write one. A report counts only if it names a
//! mail that this portal sent, by the Message-ID that only its recipient and the servers on the
//! way have seen, and an address to which that mail went ([`take`]). What else stands in it is
//! not kept: a report often holds the returned mail.

use crate::app::App;
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError};
use crate::ids::MailId;
use crate::keys::{MasterKey, Purpose};
use crate::tasks;
use time::{Duration, OffsetDateTime};

/// Largest report, in bytes. With the returned mail an honest one has some 20 KB.
pub const REPORT_LIMIT_BYTES: usize = 1024 * 1024;
/// How long after a mail went out its report may come: servers try for five days.
const SENT_WITHIN: Duration = Duration::days(30);
/// Header fields of one block.
const FIELDS_LIMIT: usize = 500;
/// Parts of one report.
const PARTS_LIMIT: usize = 20;
/// Recipients of one report; ours have one each.
const RECIPIENTS_LIMIT: usize = 20;
/// Characters of a status that are kept: 5.1.1.
const STATUS_LIMIT_CHARS: usize = 12;

/// A report that a mail cannot be delivered, ever.
#[derive(Clone, PartialEq, Eq)]
pub struct Bounce {
    /// The mail, by its Message-ID.
    pub mail: MailId,
    /// Addresses that are said to refuse it.
    addresses: Vec<String>,
    /// Why, by code (RFC 3463).
    pub status: String,
}

impl std::fmt::Debug for Bounce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bounce({}, {})", self.mail, self.status)
    }
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Staff have that many new tasks; none if they had them already.
    Raised(usize),
    /// It names no mail that this portal sent to that address.
    NotOurs,
}

/// The hash under which a recipient is remembered when the mail itself is gone.
pub fn address_hash(keys: &MasterKey, address: &str) -> String {
    let address = address.trim().to_lowercase();
    keys.hash(Purpose::MailAddress, address.as_bytes())
}

/// Raises the tasks of a report, if it is about a mail of ours.
///
/// # Errors
/// If the database does not answer.
pub async fn take(app: &App, bounce: &Bounce, now: OffsetDateTime) -> Result<Taken, StoreError> {
    let row = sqlx::query(
        "SELECT recipient_hash FROM outbox WHERE id = $1 AND sent_ms IS NOT NULL AND sent_ms > $2",
    )
    .bind(bounce.mail.to_string())
    .bind(unix_ms(now - SENT_WITHIN))
    .fetch_optional(app.db.pool())
    .await
    .map_err(StoreError::doing("find the mail of a bounce"))?;
    let sent_to = row.map(|row| row.text_if("recipient_hash")).transpose()?;
    let Some(sent_to) = sent_to.flatten() else {
        return Ok(Taken::NotOurs);
    };
    let mut addresses = bounce.addresses.iter();
    let Some(address) = addresses.find(|address| address_hash(&app.keys, address) == sent_to)
    else {
        return Ok(Taken::NotOurs);
    };
    let mut tx = app.db.begin().await?;
    let raised = tasks::mail_undelivered(&mut tx, &app.keys, address, &bounce.status, now).await?;
    Db::commit(tx).await?;
    Ok(Taken::Raised(raised))
}

/// Reads a report. `None`: no report, or not of a delivery that failed for good.
pub fn read(message: &[u8]) -> Option<Bounce> {
    if message.len() > REPORT_LIMIT_BYTES {
        return None;
    }
    let text = String::from_utf8_lossy(message).replace("\r\n", "\n");
    let (head, body) = split_head(&text);
    let kind = field(&head, "content-type")?;
    if !kind.to_lowercase().starts_with("multipart/report") {
        return None;
    }
    let boundary = format!("--{}", parameter(kind, "boundary")?);
    let mut failed: Option<(String, Vec<String>)> = None;
    let (mut mail, mut to) = (None, None);
    for part in parts(body, &boundary) {
        let (head, body) = split_head(part);
        let kind = field(&head, "content-type").unwrap_or_default();
        let kind = kind
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_lowercase();
        match kind.as_str() {
            "message/delivery-status" | "message/global-delivery-status" => {
                failed = failed.or_else(|| failure(body));
            }
            "message/rfc822"
            | "text/rfc822-headers"
            | "message/global"
            | "message/global-headers" => {
                let (returned, _) = split_head(body);
                mail = mail.or_else(|| field(&returned, "message-id").and_then(mail_id));
                to = to.or_else(|| field(&returned, "to").map(bare_address));
            }
            _ => {}
        }
    }
    let (status, mut addresses) = failed?;
    addresses.extend(to);
    Some(Bounce {
        mail: mail?,
        addresses,
        status,
    })
}

/// The status and the addresses of the recipients whom the mail will never reach.
fn failure(body: &str) -> Option<(String, Vec<String>)> {
    let mut found: Option<(String, Vec<String>)> = None;
    // The first block is about the message, each other about one recipient.
    for block in body.split("\n\n").take(RECIPIENTS_LIMIT + 1) {
        let (fields, _) = split_head(block.trim_start_matches('\n'));
        let is_failed = field(&fields, "action")
            .is_some_and(|action| action.trim().eq_ignore_ascii_case("failed"));
        let status = field(&fields, "status").unwrap_or_default().trim();
        if !is_failed || !status.starts_with("5.") {
            continue;
        }
        let digits: String = status
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .take(STATUS_LIMIT_CHARS)
            .collect();
        let addresses = ["original-recipient", "final-recipient"]
            .into_iter()
            .filter_map(|name| field(&fields, name))
            .filter_map(|value| value.split_once(';'))
            .map(|(_, address)| bare_address(address));
        let (_, all) = found.get_or_insert_with(|| (digits, Vec::new()));
        all.extend(addresses);
    }
    found
}

type Field = (String, String);

/// The fields up to the first empty line, and what follows it.
fn split_head(text: &str) -> (Vec<Field>, &str) {
    let text = text.strip_prefix('\n').unwrap_or(text);
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut fields: Vec<Field> = Vec::new();
    for line in head.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            if fields.len() == FIELDS_LIMIT {
                break;
            }
            fields.push((name.trim().to_lowercase(), value.trim().to_owned()));
        }
    }
    (fields, body)
}

fn field<'a>(fields: &'a [Field], name: &str) -> Option<&'a str> {
    let found = fields.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

/// `boundary="a b"` or `boundary=ab`.
fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once(';') {
        rest = after;
        let (found, value) = rest.trim_start().split_once('=')?;
        if found.trim().eq_ignore_ascii_case(name) {
            let value = value.trim_start();
            return match value.strip_prefix('"') {
                Some(quoted) => quoted.split('"').next(),
                None => value.split([';', ' ']).next(),
            }
            .filter(|value| !value.is_empty());
        }
    }
    None
}

/// What stands between the lines that are the boundary.
fn parts<'a>(body: &'a str, boundary: &str) -> Vec<&'a str> {
    let mut starts = Vec::new();
    let mut at = 0;
    for line in body.split_inclusive('\n') {
        if line
            .trim_end()
            .strip_suffix("--")
            .unwrap_or(line.trim_end())
            == boundary
        {
            starts.push((at, at + line.len()));
        }
        at += line.len();
    }
    starts
        .windows(2)
        .take(PARTS_LIMIT)
        .filter_map(|pair| body.get(pair[0].1..pair[1].0))
        .collect()
}

/// `<0190…@example.jp>`: what stands before the `@` is the mail's id.
fn mail_id(message_id: &str) -> Option<MailId> {
    let inner = message_id.trim().strip_prefix('<')?;
    inner.split_once('@')?.0.parse().ok()
}

/// `Name <a@b>` or `a@b`.
fn bare_address(text: &str) -> String {
    let inner = text.rsplit_once('<').map_or(text, |(_, inner)| inner);
    inner.trim().trim_end_matches('>').trim().to_owned()
}

#[cfg(test)]
mod tests;
