//! What is written down: every act, with the words that stand in its row.

use protocol::{DeviceId, EnrolmentId, SessionId};

use crate::ids::{
    AnnouncementId, ApprovalId, BatchId, DelegationId, EstablishmentId, FilingId, InquiryId,
    NoticeId, QuarantineId, RegistrationCodeId, RowId, StaffId, SubmissionId, TaskId, UserId,
};

/// What was done, on what. Every variant is one kind of row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// A staff account was made.
    StaffAdded(StaffId),
    /// Staff signed in.
    StaffSignedIn(StaffId),
    /// A sign-in on the office pages failed.
    StaffSignInFailed,
    /// Staff signed out.
    StaffSignedOut(StaffId),
    /// A gateway got its certificate.
    GatewayAdded(String),
    /// A gateway got a new certificate.
    GatewayRenewed(String),
    /// A gateway was taken out of use.
    GatewayRetired(String),
    /// A certificate authority was made.
    AuthorityMade(&'static str),
    /// An establishment was registered.
    EstablishmentAdded(EstablishmentId),
    /// A user was registered.
    UserAdded(UserId),
    /// A user became a member of an establishment.
    MembershipAdded(UserId, EstablishmentId),
    /// A user is no member of an establishment any more.
    MembershipEnded(UserId, EstablishmentId),
    /// A member became an admin, or an added user.
    RoleChanged(UserId, EstablishmentId, &'static str),
    /// What an added user may do was changed.
    PermissionsChanged(UserId, EstablishmentId),
    /// A user's name was changed.
    UserRenamed(UserId),
    /// A code was sent to a user's new mail address.
    AddressChangeAsked(UserId),
    /// A user's mail address was changed.
    AddressChanged(UserId),
    /// An admin named a successor.
    HandoverProposed(RowId),
    /// A successor accepted or declined, or the admin withdrew.
    HandoverClosed(RowId, &'static str),
    /// An admin asked the fund for something.
    RequestMade(RowId),
    /// A request to the fund was decided or withdrawn.
    RequestClosed(RowId, &'static str),
    /// Staff published new terms of use.
    TermsPublished(i64),
    /// A user accepted terms of use.
    TermsAccepted(i64),
    /// An admin confirmed or corrected what the fund has on file of the establishment.
    ContactsChanged(EstablishmentId),
    /// A user confirmed or corrected what the fund has on file of him.
    OwnContactsChanged(UserId),
    /// A user got new recovery codes.
    RecoveryCodesMade(UserId),
    /// A user signed in with a recovery code.
    RecoveryCodeUsed(UserId),
    /// Staff changed the own password.
    StaffPasswordChanged(StaffId),
    /// A registration code was issued.
    RegistrationCodeIssued(RegistrationCodeId),
    /// A PC asked to be registered.
    EnrolmentRequested(EnrolmentId),
    /// Staff approved a PC.
    DeviceApproved(DeviceId),
    /// Staff refused a PC.
    EnrolmentRefused(EnrolmentId),
    /// Staff revoked a PC.
    DeviceRevoked(DeviceId),
    /// A PC got a new certificate for its key.
    DeviceCertificateRenewed(DeviceId),
    /// A tunnel session was opened.
    SessionOpened(SessionId),
    /// A tunnel session went on through another gateway.
    SessionMoved(SessionId, String),
    /// A tunnel session was refused, by code.
    SessionRefused(&'static str),
    /// A tunnel session ended, by code.
    SessionEnded(SessionId, &'static str),
    /// A tunnel session's deadline came nearer.
    SessionShortened(SessionId),
    /// A one-time password was sent.
    CodeSent(UserId),
    /// A user signed in.
    SignedIn(UserId),
    /// Staff let a user sign in again before the pause was over.
    SignInFreed(UserId),
    /// A user's sign-in failed.
    SignInFailed,
    /// One side proposed a delegation.
    DelegationProposed(DelegationId),
    /// The other side accepted it; the details name both.
    DelegationAccepted(DelegationId),
    /// A delegation or a proposal ended, by code.
    DelegationEnded(DelegationId, &'static str),
    /// Staff put an establishment into a group; the details name both.
    GroupJoined(DelegationId),
    /// Staff made a sharoushi's office of what was registered.
    SharoushiOfficeMade(EstablishmentId),
    /// A user began to act for a client.
    DelegateActs(DelegationId),
    /// A user acts for nobody but his own any more.
    DelegateLeaves,
    /// The role of a staff account changed, to this.
    StaffRoleChanged(StaffId, &'static str),
    /// A staff account was taken out of use.
    StaffDisabled(StaffId),
    /// A member of staff got a new password and authenticator, by two people's word.
    StaffReset(StaffId),
    /// Staff set a password of their own at the first sign-in.
    StaffPasswordSet(StaffId),
    /// A supervisor ended an establishment's use of the service.
    EstablishmentEnded(EstablishmentId),
    /// A supervisor took the end back.
    EstablishmentEndTakenBack(EstablishmentId),
    /// An establishment's key was destroyed; the details say by whose proposal.
    KeyDestroyed(EstablishmentId),
    /// Staff proposed something that a second person decides, by kind.
    ApprovalProposed(ApprovalId, &'static str),
    /// The second person agreed; the details name both.
    ApprovalGiven(ApprovalId, &'static str),
    /// The second person refused.
    ApprovalRefused(ApprovalId, &'static str),
    /// Who proposed it took it back.
    ApprovalWithdrawn(ApprovalId, &'static str),
    /// A second factor was shown once more, before something weighty.
    FactorShown,
    /// A user signed out.
    SignedOut(UserId),
    /// A user changed the password.
    PasswordChanged(UserId),
    /// A user moved to an authenticator app.
    AuthenticatorAdded(UserId),
    /// Staff took a user's authenticator app off the account.
    AuthenticatorRemoved(UserId),
    /// A passkey was registered.
    PasskeyAdded(RowId),
    /// A passkey was removed by its owner.
    PasskeyRemoved(RowId),
    /// A passkey's counter went back: it is removed.
    PasskeyCopied(RowId),
    /// Staff gave a user a new initial password.
    PasswordReset(UserId),
    /// Filings were accepted.
    Submitted(SubmissionId),
    /// An upload was refused; the reasons stand in the details.
    UploadRefused,
    /// A member opened a filing's document.
    FilingRead(FilingId),
    /// Staff took a filing into review.
    FilingTaken(FilingId),
    /// A supervisor gave a filing to a reviewer.
    FilingAssigned(FilingId),
    /// Staff gave a filing back to the queue.
    FilingReleased(FilingId),
    /// Somebody wrote something about a filing; for whom stands in the details.
    FilingCommented(FilingId),
    /// The sender of a filing in review wants it back.
    WithdrawalAsked(FilingId),
    /// The office keeps the filing.
    WithdrawalDeclined(FilingId),
    /// Staff returned a filing.
    FilingReturned(FilingId),
    /// Staff decided a filing.
    FilingDecided(FilingId),
    /// The sender withdrew a filing.
    FilingWithdrawn(FilingId),
    /// Staff made a draft of a notice for a filing.
    NoticeDrafted(FilingId),
    /// A notice was issued.
    NoticeIssued(NoticeId),
    /// Staff looked at a notice that was issued.
    NoticeRead(NoticeId),
    /// A notice was fetched, as pdf or zip.
    NoticeFetched(NoticeId, &'static str),
    /// A batch of notices was read and checked, or stopped: the details say which.
    BatchMade(BatchId),
    /// A second person released a batch: all its notices are issued.
    BatchReleased(BatchId),
    /// A batch was thrown away.
    BatchDiscarded(BatchId),
    /// Staff looked at a page of a batch.
    BatchRead(BatchId),
    /// Those who have not fetched a batch's notices were reminded.
    BatchReminded(BatchId, &'static str),
    /// A notice that nobody had fetched was recalled.
    NoticeRecalled(NoticeId),
    /// A notice's document was destroyed, its time being over.
    NoticeDestroyed(NoticeId),
    /// How long notices of a kind are kept was changed.
    RetentionChanged(&'static str),
    /// A pack of records was made, by its own id.
    RecordsPacked(RowId),
    /// The list of destructions was exported.
    DestructionsExported,
    /// A zip password was shown.
    ZipPasswordShown(EstablishmentId),
    /// A zip password was changed.
    ZipPasswordChanged(EstablishmentId),
    /// A file was held back, and why, by code.
    FileQuarantined(QuarantineId, &'static str),
    /// Two people let a held file be handed in again.
    QuarantineReleased(QuarantineId),
    /// The supervisor destroyed a held file.
    QuarantineDestroyed(QuarantineId),
    /// A member made a cover sheet for a filing on paper.
    CoverSheetMade(String),
    /// Staff recorded a filing that came on paper.
    PaperFilingRecorded(FilingId),
    /// The portal queued reminders of a closing day.
    RemindersQueued,
    /// A user switched reminders on or off.
    RemindersSwitched(UserId),
    /// Staff edited the days of the monthly cycle.
    CycleEdited,
    /// Staff edited a kind of filing, by its code.
    FilingKindEdited(String),
    /// Staff edited the calendar.
    CalendarEdited,
    /// Staff made an admin's letter anew, with another registration code.
    LetterReissued(UserId),
    /// Staff wrote or changed an announcement.
    AnnouncementWritten(AnnouncementId),
    /// Staff took an announcement back.
    AnnouncementWithdrawn(AnnouncementId),
    /// A member asked the office something.
    InquiryOpened(InquiryId),
    /// Somebody wrote something more in an inquiry.
    InquiryContinued(InquiryId),
    /// Staff closed an inquiry.
    InquiryClosed(InquiryId),
    /// A mail server refused an address for good; staff have to see to it.
    TaskRaised(TaskId),
    /// Staff saw to a task.
    TaskDone(TaskId),
    /// Somebody took the history as a file, as csv or xlsx.
    HistoryExported(&'static str),
    /// A copy of everything was made.
    BackedUp,
    /// Staff took the audit log as a file, as csv or xlsx.
    AuditExported(&'static str),
    /// Staff had the audit log checked; the details say what was found.
    AuditChecked,
}

impl Act {
    /// The word that stands in the row.
    pub fn word(&self) -> &'static str {
        self.columns().0
    }

    /// What distinguishes acts of one word from each other, as far as it is a word too.
    pub fn detail(&self) -> &'static str {
        match self {
            Self::SessionRefused(code) | Self::SessionEnded(_, code) => code,
            Self::DelegationEnded(_, code) | Self::StaffRoleChanged(_, code) => code,
            Self::ApprovalProposed(_, kind)
            | Self::ApprovalGiven(_, kind)
            | Self::ApprovalRefused(_, kind)
            | Self::ApprovalWithdrawn(_, kind) => kind,
            _ => "",
        }
    }

    /// Word, object's kind, object's id, as they stand in the row.
    pub(super) fn columns(&self) -> (&'static str, &'static str, String) {
        match self {
            Self::StaffAdded(id) => ("staff_added", "staff", id.to_string()),
            Self::StaffSignedIn(id) => ("staff_signed_in", "staff", id.to_string()),
            Self::StaffSignInFailed => ("staff_sign_in_failed", "", String::new()),
            Self::StaffSignedOut(id) => ("staff_signed_out", "staff", id.to_string()),
            Self::GatewayAdded(name) => ("gateway_added", "gateway", name.clone()),
            Self::GatewayRenewed(name) => ("gateway_renewed", "gateway", name.clone()),
            Self::GatewayRetired(name) => ("gateway_retired", "gateway", name.clone()),
            Self::AuthorityMade(kind) => ("authority_made", "authority", (*kind).to_owned()),
            Self::EstablishmentAdded(id) => {
                ("establishment_added", "establishment", id.to_string())
            }
            Self::UserAdded(id) => ("user_added", "user", id.to_string()),
            Self::MembershipAdded(user, establishment) => (
                "membership_added",
                "membership",
                format!("{user}/{establishment}"),
            ),
            Self::MembershipEnded(user, establishment) => (
                "membership_ended",
                "membership",
                format!("{user}/{establishment}"),
            ),
            Self::RoleChanged(user, establishment, role) => (
                "role_changed",
                "membership",
                format!("{user}/{establishment}/{role}"),
            ),
            Self::PermissionsChanged(user, establishment) => (
                "permissions_changed",
                "membership",
                format!("{user}/{establishment}"),
            ),
            Self::UserRenamed(id) => ("user_renamed", "user", id.to_string()),
            Self::AddressChangeAsked(id) => ("address_change_asked", "user", id.to_string()),
            Self::AddressChanged(id) => ("address_changed", "user", id.to_string()),
            Self::HandoverProposed(id) => ("handover_proposed", "handover", id.to_string()),
            Self::HandoverClosed(id, outcome) => {
                ("handover_closed", "handover", format!("{id}/{outcome}"))
            }
            Self::RequestMade(id) => ("request_made", "request", id.to_string()),
            Self::RequestClosed(id, outcome) => {
                ("request_closed", "request", format!("{id}/{outcome}"))
            }
            Self::TermsPublished(version) => ("terms_published", "terms", version.to_string()),
            Self::TermsAccepted(version) => ("terms_accepted", "terms", version.to_string()),
            Self::ContactsChanged(id) => ("contacts_changed", "establishment", id.to_string()),
            Self::OwnContactsChanged(id) => ("own_contacts_changed", "user", id.to_string()),
            Self::RecoveryCodesMade(id) => ("recovery_codes_made", "user", id.to_string()),
            Self::RecoveryCodeUsed(id) => ("recovery_code_used", "user", id.to_string()),
            Self::StaffPasswordChanged(id) => ("staff_password_changed", "staff", id.to_string()),
            Self::RegistrationCodeIssued(id) => (
                "registration_code_issued",
                "registration_code",
                id.to_string(),
            ),
            Self::EnrolmentRequested(id) => ("enrolment_requested", "enrolment", id.to_string()),
            Self::DeviceApproved(id) => ("device_approved", "device", id.to_string()),
            Self::EnrolmentRefused(id) => ("enrolment_refused", "enrolment", id.to_string()),
            Self::DeviceRevoked(id) => ("device_revoked", "device", id.to_string()),
            Self::DeviceCertificateRenewed(id) => {
                ("device_certificate_renewed", "device", id.to_string())
            }
            Self::SessionOpened(id) => ("session_opened", "session", id.to_string()),
            Self::SessionMoved(id, gateway) => {
                ("session_moved", "session", format!("{id}/{gateway}"))
            }
            Self::SessionRefused(code) => ("session_refused", "refusal", (*code).to_owned()),
            Self::SessionEnded(id, code) => ("session_ended", "session", format!("{id}/{code}")),
            Self::SessionShortened(id) => ("session_shortened", "session", id.to_string()),
            Self::CodeSent(id) => ("code_sent", "user", id.to_string()),
            Self::SignedIn(id) => ("signed_in", "user", id.to_string()),
            Self::SignInFailed => ("sign_in_failed", "", String::new()),
            Self::DelegationProposed(id) => ("delegation_proposed", "delegation", id.to_string()),
            Self::DelegationAccepted(id) => ("delegation_accepted", "delegation", id.to_string()),
            Self::DelegationEnded(id, code) => {
                ("delegation_ended", "delegation", format!("{id}/{code}"))
            }
            Self::GroupJoined(id) => ("group_joined", "delegation", id.to_string()),
            Self::SharoushiOfficeMade(id) => {
                ("sharoushi_office_made", "establishment", id.to_string())
            }
            Self::DelegateActs(id) => ("delegate_acts", "delegation", id.to_string()),
            Self::DelegateLeaves => ("delegate_leaves", "", String::new()),
            Self::StaffRoleChanged(id, role) => {
                ("staff_role_changed", "staff", format!("{id}/{role}"))
            }
            Self::StaffDisabled(id) => ("staff_disabled", "staff", id.to_string()),
            Self::StaffPasswordSet(id) => ("staff_password_set", "staff", id.to_string()),
            Self::EstablishmentEnded(id) => {
                ("establishment_ended", "establishment", id.to_string())
            }
            Self::EstablishmentEndTakenBack(id) => (
                "establishment_end_taken_back",
                "establishment",
                id.to_string(),
            ),
            Self::KeyDestroyed(id) => ("key_destroyed", "establishment", id.to_string()),
            Self::ApprovalProposed(id, _) => ("approval_proposed", "approval", id.to_string()),
            Self::ApprovalGiven(id, _) => ("approval_given", "approval", id.to_string()),
            Self::ApprovalRefused(id, _) => ("approval_refused", "approval", id.to_string()),
            Self::ApprovalWithdrawn(id, _) => ("approval_withdrawn", "approval", id.to_string()),
            Self::FactorShown => ("factor_shown", "", String::new()),
            Self::SignedOut(id) => ("signed_out", "user", id.to_string()),
            Self::PasswordChanged(id) => ("password_changed", "user", id.to_string()),
            Self::AuthenticatorAdded(id) => ("authenticator_added", "user", id.to_string()),
            Self::AuthenticatorRemoved(id) => ("authenticator_removed", "user", id.to_string()),
            Self::SignInFreed(id) => ("sign_in_freed", "user", id.to_string()),
            Self::StaffReset(id) => ("staff_reset", "staff", id.to_string()),
            Self::PasskeyAdded(id) => ("passkey_added", "passkey", id.to_string()),
            Self::PasskeyRemoved(id) => ("passkey_removed", "passkey", id.to_string()),
            Self::PasskeyCopied(id) => ("passkey_copied", "passkey", id.to_string()),
            Self::PasswordReset(id) => ("password_reset", "user", id.to_string()),
            Self::Submitted(id) => ("submitted", "submission", id.to_string()),
            Self::UploadRefused => ("upload_refused", "", String::new()),
            Self::FilingRead(id) => ("filing_read", "filing", id.to_string()),
            Self::FilingTaken(id) => ("filing_taken", "filing", id.to_string()),
            Self::FilingAssigned(id) => ("filing_assigned", "filing", id.to_string()),
            Self::FilingCommented(id) => ("filing_commented", "filing", id.to_string()),
            Self::WithdrawalAsked(id) => ("withdrawal_asked", "filing", id.to_string()),
            Self::WithdrawalDeclined(id) => ("withdrawal_declined", "filing", id.to_string()),
            Self::FilingReleased(id) => ("filing_released", "filing", id.to_string()),
            Self::FilingReturned(id) => ("filing_returned", "filing", id.to_string()),
            Self::FilingDecided(id) => ("filing_decided", "filing", id.to_string()),
            Self::FilingWithdrawn(id) => ("filing_withdrawn", "filing", id.to_string()),
            Self::NoticeDrafted(id) => ("notice_drafted", "filing", id.to_string()),
            Self::NoticeIssued(id) => ("notice_issued", "notice", id.to_string()),
            Self::NoticeRead(id) => ("notice_read", "notice", id.to_string()),
            Self::NoticeFetched(id, form) => ("notice_fetched", "notice", format!("{id}/{form}")),
            Self::BatchMade(id) => ("batch_made", "batch", id.to_string()),
            Self::BatchReleased(id) => ("batch_released", "batch", id.to_string()),
            Self::BatchDiscarded(id) => ("batch_discarded", "batch", id.to_string()),
            Self::BatchRead(id) => ("batch_read", "batch", id.to_string()),
            Self::BatchReminded(id, how) => ("batch_reminded", "batch", format!("{id}/{how}")),
            Self::NoticeRecalled(id) => ("notice_recalled", "notice", id.to_string()),
            Self::NoticeDestroyed(id) => ("notice_destroyed", "notice", id.to_string()),
            Self::RetentionChanged(kind) => ("retention_changed", "kind", (*kind).to_owned()),
            Self::RecordsPacked(id) => ("records_packed", "pack", id.to_string()),
            Self::DestructionsExported => ("destructions_exported", "", String::new()),
            Self::ZipPasswordShown(id) => ("zip_password_shown", "establishment", id.to_string()),
            Self::ZipPasswordChanged(id) => {
                ("zip_password_changed", "establishment", id.to_string())
            }
            Self::FileQuarantined(id, code) => {
                ("file_quarantined", "quarantine", format!("{id}/{code}"))
            }
            Self::QuarantineReleased(id) => ("quarantine_released", "quarantine", id.to_string()),
            Self::QuarantineDestroyed(id) => ("quarantine_destroyed", "quarantine", id.to_string()),
            Self::CoverSheetMade(id) => ("cover_sheet_made", "cover_sheet", id.clone()),
            Self::PaperFilingRecorded(id) => ("paper_filing_recorded", "filing", id.to_string()),
            Self::RemindersQueued => ("reminders_queued", "", String::new()),
            Self::RemindersSwitched(id) => ("reminders_switched", "user", id.to_string()),
            Self::CycleEdited => ("cycle_edited", "calendar", String::new()),
            Self::FilingKindEdited(code) => ("filing_kind_edited", "filing_kind", code.clone()),
            Self::CalendarEdited => ("calendar_edited", "calendar", String::new()),
            Self::LetterReissued(id) => ("letter_reissued", "user", id.to_string()),
            Self::AnnouncementWritten(id) => {
                ("announcement_written", "announcement", id.to_string())
            }
            Self::AnnouncementWithdrawn(id) => {
                ("announcement_withdrawn", "announcement", id.to_string())
            }
            Self::InquiryOpened(id) => ("inquiry_opened", "inquiry", id.to_string()),
            Self::InquiryContinued(id) => ("inquiry_continued", "inquiry", id.to_string()),
            Self::InquiryClosed(id) => ("inquiry_closed", "inquiry", id.to_string()),
            Self::TaskRaised(id) => ("task_raised", "task", id.to_string()),
            Self::TaskDone(id) => ("task_done", "task", id.to_string()),
            Self::HistoryExported(form) => ("history_exported", "history", (*form).to_owned()),
            Self::AuditExported(form) => ("audit_exported", "log", (*form).to_owned()),
            Self::AuditChecked => ("audit_checked", "", String::new()),
            Self::BackedUp => ("backed_up", "", String::new()),
        }
    }
}
