//! The audit log: who did what, when, from which device, on what, why and how (S002-13).
//!
//! A row is written in the same transaction as what it records. Rows form a chain: each
//! carries an HMAC over itself and the chain value before it, under a key derived from the
//! master key. Who changes, removes, reorders or cuts rows without that key is found by
//! [`verify`], offline. Rows hold ids and codes, never names, contents or secrets.

use hmac::{Hmac, Mac as _};
use protocol::{DeviceId, SessionId};
use serde_json::{Value, json};
use sha2::Sha256;
use sqlx::Row as _;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use crate::clock::unix_ms;
use crate::db::{Db, StoreError, Tx};
use crate::ids::{
    AnnouncementId, ApprovalId, BatchId, DelegationId, EstablishmentId, FilingId, InquiryId,
    NoticeId, QuarantineId, RegistrationCodeId, RowId, StaffId, SubmissionId, TaskId, UserId,
};
use crate::keys::{MasterKey, Purpose};
use crate::metrics::metrics;
use protocol::EnrolmentId;

/// Rows that [`verify`] reads at a time.
const VERIFY_BATCH: i64 = 1_000;

/// Who acts, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An establishment's user, signed in through a tunnel session.
    Member {
        /// The user.
        user: UserId,
        /// The PC.
        device: DeviceId,
        /// The tunnel session.
        session: SessionId,
    },
    /// An establishment's user who acts for another establishment: both stand in the row.
    Delegate {
        /// The user.
        user: UserId,
        /// The PC.
        device: DeviceId,
        /// The tunnel session.
        session: SessionId,
        /// The user's own establishment, or sharoushi's office.
        office: EstablishmentId,
        /// Who is represented.
        client: EstablishmentId,
    },
    /// Fund staff on the office pages.
    Staff(StaffId),
    /// A PC, before anybody signed in.
    Device {
        /// The PC.
        device: DeviceId,
        /// Its session, if it has one.
        session: Option<SessionId>,
    },
    /// Somebody without an account: a registration code's holder, a failed sign-in.
    Stranger {
        /// The PC it came from, if one is known.
        device: Option<DeviceId>,
        /// Its session.
        session: Option<SessionId>,
    },
    /// The system administrator at the command line.
    CommandLine,
    /// The portal itself: a deadline, a retry, a clean-up.
    System,
}

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
}

/// The first row that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A row was changed, or does not follow the one before it.
    #[error("audit row {seq} was changed, or rows before it were removed or reordered")]
    Row {
        /// Its number.
        seq: i64,
    },
    /// Rows at the end are missing, or the recorded end was changed.
    #[error("audit rows after {last} are missing: the log should end with {expected}")]
    Cut {
        /// The last row there is.
        last: i64,
        /// The last row there should be.
        expected: i64,
    },
}

/// Why verification could not answer, or what it found.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log is not as it was written.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes one row. Call it last in a transaction: it locks the end of the chain until the
/// transaction is over. `reason` is a code or a short text without personal data.
pub async fn record(
    tx: &mut Tx,
    key: &MasterKey,
    actor: &Actor,
    act: Act,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    record_with(tx, key, actor, act, "", &json!({}), now).await
}

/// Like [`record`], with a reason and details (no personal data in either).
pub async fn record_with(
    tx: &mut Tx,
    key: &MasterKey,
    actor: &Actor,
    act: Act,
    reason: &str,
    details: &Value,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let head = sqlx::query("UPDATE audit_head SET seq = seq + 1 WHERE id = 1 RETURNING seq, chain")
        .fetch_one(&mut **tx)
        .await
        .map_err(StoreError::doing("lock the end of the audit log"))?;
    let before: String = head
        .try_get("chain")
        .map_err(StoreError::doing("read audit head"))?;
    let (actor_kind, actor_id, device, session) = actor.columns();
    let (word, object_kind, object_id) = act.columns();
    let row = AuditRow {
        seq: head
            .try_get("seq")
            .map_err(StoreError::doing("read audit head"))?,
        at_ms: unix_ms(now),
        texts: [
            actor_kind.to_owned(),
            actor_id,
            device,
            session,
            word.to_owned(),
            object_kind.to_owned(),
            object_id,
            reason.to_owned(),
            actor.completed(details).to_string(),
        ],
    };
    let chain = row.chain(key, &before);
    let mut insert = sqlx::query(
        "INSERT INTO audit_log (seq, at_ms, actor_kind, actor_id, device_id, session_id, act,
                                object_kind, object_id, reason, details, chain)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(row.seq)
    .bind(row.at_ms);
    for text in &row.texts {
        insert = insert.bind(text.as_str());
    }
    insert
        .bind(chain.as_str())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("write audit row"))?;
    sqlx::query("UPDATE audit_head SET chain = $1 WHERE id = 1")
        .bind(chain.as_str())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("move the end of the audit log"))?;
    metrics().count_act(&act);
    Ok(())
}

/// Reads the whole log and returns how many rows it has, or the first bad one.
pub async fn verify(db: &Db, key: &MasterKey) -> Result<i64, VerifyError> {
    let mut before = String::new();
    let mut last = 0;
    loop {
        let rows = sqlx::query(
            "SELECT seq, at_ms, actor_kind, actor_id, device_id, session_id, act, object_kind, object_id,
                    reason, details, chain
               FROM audit_log WHERE seq > $1 ORDER BY seq LIMIT $2",
        )
        .bind(last)
        .bind(VERIFY_BATCH)
        .fetch_all(db.pool())
        .await
        .map_err(StoreError::doing("read audit rows"))?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let (row, chain) = AuditRow::read(row).map_err(StoreError::doing("read audit row"))?;
            if row.seq != last + 1 || row.chain(key, &before) != chain {
                return Err(Broken::Row { seq: row.seq }.into());
            }
            (before, last) = (chain, row.seq);
        }
    }
    let head = sqlx::query("SELECT seq, chain FROM audit_head WHERE id = 1")
        .fetch_one(db.pool())
        .await
        .map_err(StoreError::doing("read audit head"))?;
    let expected: i64 = head
        .try_get("seq")
        .map_err(StoreError::doing("read audit head"))?;
    let chain: String = head
        .try_get("chain")
        .map_err(StoreError::doing("read audit head"))?;
    if expected != last || chain != before {
        return Err(Broken::Cut { last, expected }.into());
    }
    Ok(last)
}

/// A row without its chain value: actor kind and id, device, session, act, object kind and
/// id, reason, details.
struct AuditRow {
    seq: i64,
    at_ms: i64,
    texts: [String; 9],
}

impl AuditRow {
    fn read(row: &AnyRow) -> Result<(Self, String), sqlx::Error> {
        const TEXTS: [&str; 9] = [
            "actor_kind",
            "actor_id",
            "device_id",
            "session_id",
            "act",
            "object_kind",
            "object_id",
            "reason",
            "details",
        ];
        let mut texts = <[String; 9]>::default();
        for (text, column) in texts.iter_mut().zip(TEXTS) {
            *text = row.try_get(column)?;
        }
        let read = Self {
            seq: row.try_get("seq")?,
            at_ms: row.try_get("at_ms")?,
            texts,
        };
        Ok((read, row.try_get("chain")?))
    }

    /// HMAC over the chain before and every column, each with its length: no two rows write
    /// the same bytes.
    fn chain(&self, key: &MasterKey, before: &str) -> String {
        use base64::Engine as _;
        let key = key.derive(Purpose::AuditChain, b"hash");
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&*key)
            .expect("HMAC takes a key of any length");
        mac.update(&self.seq.to_be_bytes());
        mac.update(&self.at_ms.to_be_bytes());
        for text in std::iter::once(before).chain(self.texts.iter().map(String::as_str)) {
            mac.update(&(text.len() as u64).to_be_bytes());
            mac.update(text.as_bytes());
        }
        base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
    }
}

impl Actor {
    /// How `…_by` columns of other tables name the actor: `staff/<id>`, `command_line`.
    pub fn name_for_rows(&self) -> String {
        match self.columns() {
            (kind, id, ..) if id.is_empty() => kind.to_owned(),
            (kind, id, ..) => format!("{kind}/{id}"),
        }
    }

    /// The details of a row, with whom a delegate acts for.
    fn completed(&self, details: &Value) -> Value {
        let mut details = details.clone();
        if let (Self::Delegate { office, client, .. }, Value::Object(fields)) = (self, &mut details)
        {
            fields.insert("office".to_owned(), json!(office.to_string()));
            fields.insert("acting_for".to_owned(), json!(client.to_string()));
        }
        details
    }

    /// Kind, id, device, session, as they stand in the row.
    fn columns(&self) -> (&'static str, String, String, String) {
        let text = |id: &Option<SessionId>| id.map(|id| id.to_string()).unwrap_or_default();
        match self {
            Self::Member {
                user,
                device,
                session,
            } => (
                "member",
                user.to_string(),
                device.to_string(),
                session.to_string(),
            ),
            Self::Delegate {
                user,
                device,
                session,
                ..
            } => (
                "delegate",
                user.to_string(),
                device.to_string(),
                session.to_string(),
            ),
            Self::Staff(staff) => ("staff", staff.to_string(), String::new(), String::new()),
            Self::Device { device, session } => (
                "device",
                device.to_string(),
                device.to_string(),
                text(session),
            ),
            Self::Stranger { device, session } => {
                let device = device.map(|id| id.to_string()).unwrap_or_default();
                ("stranger", String::new(), device, text(session))
            }
            Self::CommandLine => ("command_line", String::new(), String::new(), String::new()),
            Self::System => ("system", String::new(), String::new(), String::new()),
        }
    }
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
    fn columns(&self) -> (&'static str, &'static str, String) {
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
            Self::BackedUp => ("backed_up", "", String::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::databases;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-03-13 10:00 +9);

    async fn five_rows(db: &Db, key: &MasterKey) {
        for _ in 0..5 {
            let mut tx = db.begin().await.unwrap();
            record(&mut tx, key, &Actor::System, Act::CalendarEdited, NOW)
                .await
                .unwrap();
            Db::commit(tx).await.unwrap();
        }
    }

    async fn first_bad(db: &Db, key: &MasterKey) -> Result<i64, Broken> {
        match verify(db, key).await {
            Ok(rows) => Ok(rows),
            Err(VerifyError::Broken(broken)) => Err(broken),
            Err(VerifyError::Store(error)) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn an_untouched_log_verifies() {
        for db in databases().await {
            let key = MasterKey::generate();
            assert_eq!(first_bad(&db, &key).await, Ok(0));
            five_rows(&db, &key).await;
            assert_eq!(first_bad(&db, &key).await, Ok(5));
        }
    }

    #[tokio::test]
    async fn every_kind_of_tampering_names_the_first_bad_row() {
        let tamperings: [(&'static str, Broken); 6] = [
            (
                "UPDATE audit_log SET reason = 'x' WHERE seq = 3",
                Broken::Row { seq: 3 },
            ),
            (
                "UPDATE audit_log SET at_ms = at_ms + 1 WHERE seq = 1",
                Broken::Row { seq: 1 },
            ),
            (
                "DELETE FROM audit_log WHERE seq = 3",
                Broken::Row { seq: 4 },
            ),
            (
                "DELETE FROM audit_log WHERE seq = 5",
                Broken::Cut {
                    last: 4,
                    expected: 5,
                },
            ),
            (
                "DELETE FROM audit_log",
                Broken::Cut {
                    last: 0,
                    expected: 5,
                },
            ),
            (
                "UPDATE audit_log SET seq = CASE seq WHEN 4 THEN 50 ELSE seq END",
                Broken::Row { seq: 5 },
            ),
        ];
        for (tampering, broken) in tamperings {
            for db in databases().await {
                let key = MasterKey::generate();
                five_rows(&db, &key).await;
                sqlx::query(tampering).execute(db.pool()).await.unwrap();
                assert_eq!(
                    first_bad(&db, &key).await,
                    Err(broken.clone()),
                    "{tampering}"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_log_rewritten_without_the_master_key_is_found() {
        for db in databases().await {
            five_rows(&db, &MasterKey::generate()).await;
            assert_eq!(
                first_bad(&db, &MasterKey::generate()).await,
                Err(Broken::Row { seq: 1 })
            );
        }
    }

    #[tokio::test]
    async fn parallel_writers_keep_one_chain() {
        for db in databases().await {
            let key = MasterKey::generate();
            let writers: Vec<_> = (0..8)
                .map(|_| {
                    let (db, key) = (db.clone(), key.clone());
                    tokio::spawn(async move { five_rows(&db, &key).await })
                })
                .collect();
            for writer in writers {
                writer.await.unwrap();
            }
            assert_eq!(first_bad(&db, &key).await, Ok(40));
        }
    }
}
