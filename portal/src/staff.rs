//! Fund staff (基金事務局): who they are and what they may do.

/// What a staff account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaffRole {
    /// 業務課: approves PCs, reviews filings, issues notices.
    Reviewer,
    /// 業務課の責任者: a reviewer who also releases and decides in doubt.
    Supervisor,
    /// システム管理者: watches and restores; never reads a document.
    SystemAdmin,
}

impl StaffRole {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Reviewer, Self::Supervisor, Self::SystemAdmin];

    /// The word in the database and at the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reviewer => "reviewer",
            Self::Supervisor => "supervisor",
            Self::SystemAdmin => "system_admin",
        }
    }

    /// Reads the word in the database.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// As people read it.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::Reviewer => "業務課",
            Self::Supervisor => "業務課 責任者",
            Self::SystemAdmin => "システム管理者",
        }
    }
}
