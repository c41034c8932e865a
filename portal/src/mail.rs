//! Mails to users: what they say, and how they get out even if the mail server is down.
//!
//! A mail is queued in the transaction of what it tells about ([`outbox::queue`]), sealed;
//! [`outbox::run`] sends what is due through a [`Transport`] ([`smtp`]). Texts ([`texts`])
//! hold no personal data but the one-time password itself, and no log line holds a
//! recipient or a text (DESIGN, Security properties 8).

pub mod bounces;
pub mod outbox;
pub mod smtp;
pub mod texts;

use std::fmt;

use time::OffsetDateTime;

/// What a mail is about: the word in the database and in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailPurpose {
    /// A one-time password.
    OneTimeCode,
    /// A notice waits on the portal.
    NoticeIssued,
    /// A notice has been waiting for some days.
    NoticeWaiting,
    /// A filing was returned.
    FilingReturned,
    /// The office wrote about a filing, or answered a request about one.
    FilingCommented,
    /// A deadline comes near.
    Reminder,
    /// A PC was approved.
    DeviceApproved,
    /// An admin was registered.
    Invitation,
    /// The office answered an inquiry.
    InquiryAnswered,
    /// Something about an establishment's people or PCs changed.
    PeopleChanged,
    /// A new address must be confirmed.
    AddressCheck,
}

impl MailPurpose {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneTimeCode => "one_time_code",
            Self::NoticeIssued => "notice_issued",
            Self::NoticeWaiting => "notice_waiting",
            Self::FilingReturned => "filing_returned",
            Self::FilingCommented => "filing_commented",
            Self::Reminder => "reminder",
            Self::DeviceApproved => "device_approved",
            Self::Invitation => "invitation",
            Self::InquiryAnswered => "inquiry_answered",
            Self::PeopleChanged => "people_changed",
            Self::AddressCheck => "address_check",
        }
    }
}

/// A mail to one person.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// What it is about.
    pub purpose: MailPurpose,
    /// The address.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// The text, plain.
    pub body: String,
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mail({})", self.purpose.as_str())
    }
}

/// A mail on its way to the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Names the mail; the same at every try, so that a server can tell a repetition.
    pub id: String,
    /// When it was written.
    pub written: OffsetDateTime,
    /// The address.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// The text, plain.
    pub body: String,
}

/// Why the mail server did not take a mail; never holds an address or a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Trying again may help.
    #[error("not now: {0}")]
    NotNow(String),
    /// Trying again does not help.
    #[error("never: {0}")]
    Never(String),
    /// The server will never take a mail to this address; holds the status alone.
    #[error("refused for good ({0})")]
    Refused(String),
}

/// What takes mails out: SMTP, or a test's stand-in.
pub trait Transport: Send + Sync + 'static {
    /// Hands a mail over; returns when the server has taken it.
    fn send(&self, mail: &Outgoing) -> impl Future<Output = Result<(), SendError>> + Send;
}

/// A mail address of which only so much shows that its owner knows it: `t•••@example.jp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedAddress(String);

impl MaskedAddress {
    /// Hides most of the part before the `@`.
    pub fn of(address: &str) -> Self {
        let (name, domain) = address.rsplit_once('@').unwrap_or((address, ""));
        let first: String = name.chars().take(1).collect();
        Self(format!("{first}•••@{domain}"))
    }

    /// For a page or an answer to the agent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MaskedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
