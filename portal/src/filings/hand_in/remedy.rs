//! What a sender can do about a file that was refused.

use archive::ArchiveError;

use crate::filings::check::Fault;

/// What a sender can do about a problem, for the page to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Type the zip's password (again).
    Password,
    /// Choose date and kind in a form, or accept the suggested name.
    Name,
    /// Mend the file.
    File,
    /// Hand in again after a while.
    Later,
}

impl Remedy {
    /// What helps against `fault`.
    pub fn against(fault: &Fault) -> Self {
        match fault {
            Fault::Archive(
                ArchiveError::PasswordMissing
                | ArchiveError::WrongPassword
                | ArchiveError::PasswordTooLong,
            ) => Self::Password,
            Fault::Name(error) if !error.names_another_establishment() => Self::Name,
            Fault::Name(_)
            | Fault::Archive(_)
            | Fault::Pdf(_)
            | Fault::Size(_)
            | Fault::Virus(_)
            | Fault::Unscannable
            | Fault::IndividualNumberInName
            | Fault::IndividualNumber { .. } => Self::File,
            Fault::Unscanned => Self::Later,
        }
    }

    /// The word for the page's script.
    pub fn code(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Name => "name",
            Self::File => "file",
            Self::Later => "later",
        }
    }
}
