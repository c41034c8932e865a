//! Identifiers of what the database keeps, each with its own type.
//!
//! All are UUIDs of version 7 (they sort by time), written as text. The ids that cross the
//! wire to agents and gateways are in `protocol`.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

macro_rules! row_id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new identifier.
            #[expect(clippy::new_without_default, reason = "each call gives another value")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The bare identifier, to authenticate what belongs to it.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::from_str(text).map(Self)
            }
        }
    )* };
}

row_id! {
    /// An establishment (事業所); its public number is `protocol::EstablishmentNumber`.
    EstablishmentId,
    /// A member-side account: establishment admin or added user.
    UserId,
    /// A fund-side account (基金事務局).
    StaffId,
    /// A registration code's row; the code itself is kept only as a hash.
    RegistrationCodeId,
    /// A one-time password's row.
    OneTimeCodeId,
    /// A mail waiting in, or sent from, the outbox.
    MailId,
    /// An upload that is still arriving.
    UploadId,
    /// A sealed document.
    DocumentId,
    /// What one person handed in at one time: one receipt.
    SubmissionId,
    /// One filing (届書).
    FilingId,
    /// A file that the virus scanner holds back.
    QuarantineId,
    /// One notice from the fund.
    NoticeId,
    /// A batch of notices.
    BatchId,
    /// A notice that a reviewer looks at before it is issued.
    DraftId,
    /// A delegation, or a proposal of one.
    DelegationId,
    /// What the office tells the establishments.
    AnnouncementId,
    /// A question to the office, with what was said about it.
    InquiryId,
    /// Something that staff have to see to.
    TaskId,
    /// A proposal that a second person decides.
    ApprovalId,
    /// A row of a list that nothing refers to.
    RowId,
}
