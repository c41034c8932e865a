//! The two-person rule: what one proposes, another one decides (FEATURES R12, R15).
//!
//! A proposal is a row: what kind of act, on what, why, by whom, until when. Somebody else
//! with the role for it decides, with a fresh second factor; the act itself happens in the
//! transaction of the approval or not at all. Nobody decides what he proposed, and of two who
//! decide at once one is too late: both stand in the one conditional UPDATE of `store`.
//!
//! Recipe for a new kind: add a variant to [`Kind`] and answer the compiler's questions: who
//! may propose and decide, how the page names the subject, and what happens
//! (`effects::carry_out`). The feature's own page calls [`propose`]; deciding is done on
//! `/approvals` alone.

mod effects;
mod pages;
pub mod resets;
pub mod store;

use time::{Duration, OffsetDateTime};

use crate::app::App;
use crate::audit::{self, Act};
use crate::db::{StoreError, Tx};
use crate::ids::{ApprovalId, StaffId};
use crate::staff::StaffRole;
use crate::step_up::Fresh;
use crate::web::principals::Staff;

pub use effects::EffectError;
pub(crate) use effects::member_subject;
pub use pages::office_routes;
pub(crate) use pages::refused;

/// How long a proposal waits for its decision.
pub const VALIDITY: Duration = Duration::days(7);
/// Longest reason, in characters.
pub const REASON_LIMIT: usize = 500;

/// What kind of act a second person decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Destroying the key of an establishment that has left, and with it its documents.
    KeyDestruction,
    /// Letting a file that the virus scanner held back be handed in again.
    QuarantineRelease,
    /// Issuing everything in a batch of notices.
    BatchRelease,
    /// Taking the authenticator off an admin's account: a lost telephone.
    SecondFactorReset,
    /// Making an admin where the last one is gone.
    AdminAppointment,
    /// Giving an establishment's admin a new initial password.
    PasswordReset,
    /// Giving a member of staff a new password and authenticator.
    StaffReset,
    /// Giving somebody who was added to the staff a vote in what takes two.
    StaffAddition,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::KeyDestruction,
        Self::QuarantineRelease,
        Self::BatchRelease,
        Self::SecondFactorReset,
        Self::AdminAppointment,
        Self::PasswordReset,
        Self::StaffReset,
        Self::StaffAddition,
    ];

    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KeyDestruction => "key_destruction",
            Self::QuarantineRelease => "quarantine_release",
            Self::SecondFactorReset => "second_factor_reset",
            Self::AdminAppointment => "admin_appointment",
            Self::PasswordReset => "password_reset",
            Self::StaffReset => "staff_reset",
            Self::StaffAddition => "staff_addition",
            Self::BatchRelease => "batch_release",
        }
    }

    /// Reads the word in the database.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// As people read it.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::KeyDestruction => "事業所の鍵の破棄",
            Self::QuarantineRelease => "隔離したファイルの解放",
            Self::SecondFactorReset => "管理者の認証アプリ・パスキーの解除",
            Self::AdminAppointment => "事業所の管理者の登録",
            Self::PasswordReset => "管理者のパスワードの作り直し",
            Self::StaffReset => "職員のログインの再発行",
            Self::StaffAddition => "職員の追加",
            Self::BatchRelease => "通知書の一括発行",
        }
    }

    /// What follows, for who decides.
    pub fn consequence(self) -> &'static str {
        match self {
            Self::QuarantineRelease => {
                "提出した方は、同じファイルをもう一度提出できるようになり、ウイルス検査の結果にかかわらず受け付けられます。"
            }
            Self::SecondFactorReset => {
                "この管理者はログアウトされ、次の接続からメールのワンタイムパスワードでログインします。事業所の管理者全員にメールでお知らせします。"
            }
            Self::AdminAppointment => {
                "この利用者が事業所の管理者になります。事業所の管理者全員にメールでお知らせします。"
            }
            Self::PasswordReset => {
                "承認から7日のあいだ、事業所の画面で新しい初期パスワードの用紙を一度だけ作れるようになります。作ったときに、この管理者はログアウトされ、事業所の管理者全員にメールでお知らせします。"
            }
            Self::StaffReset => {
                "承認から7日のあいだ、「職員」の画面で新しいパスワードと認証アプリを一度だけ発行できるようになります。発行したときに、この職員はログアウトされ、いまのパスワード・認証アプリ・パスキーは使えなくなります。"
            }
            Self::StaffAddition => {
                "この職員が、承認の申請と、ほかの方の申請の承認をできるようになります。ご本人を知っていることをお確かめください。"
            }
            Self::KeyDestruction => {
                "この事業所の届書・通知書はすべて読めなくなり、元に戻せません。廃棄記録が残ります。"
            }
            Self::BatchRelease => {
                "すべての事業所へ一度に発行し、お知らせメールを送ります。受け取られたあとは取り消せません。"
            }
        }
    }

    /// Who may propose it.
    pub fn may_be_proposed_by(self, role: StaffRole) -> bool {
        match (self, role) {
            (
                Self::SecondFactorReset | Self::AdminAppointment | Self::PasswordReset,
                StaffRole::Reviewer | StaffRole::Supervisor,
            ) => true,
            (
                Self::SecondFactorReset | Self::AdminAppointment | Self::PasswordReset,
                StaffRole::SystemAdmin,
            ) => false,
            (Self::StaffReset | Self::StaffAddition, StaffRole::SystemAdmin) => true,
            (
                Self::StaffReset | Self::StaffAddition,
                StaffRole::Reviewer | StaffRole::Supervisor,
            ) => false,
            (Self::KeyDestruction | Self::QuarantineRelease, StaffRole::Supervisor) => true,
            (
                Self::KeyDestruction | Self::QuarantineRelease,
                StaffRole::Reviewer | StaffRole::SystemAdmin,
            ) => false,
            (Self::BatchRelease, StaffRole::Reviewer | StaffRole::Supervisor) => true,
            (Self::BatchRelease, StaffRole::SystemAdmin) => false,
        }
    }

    /// Who may decide it, if somebody else proposed it.
    pub fn may_be_decided_by(self, role: StaffRole) -> bool {
        match (self, role) {
            (
                Self::SecondFactorReset | Self::AdminAppointment | Self::PasswordReset,
                StaffRole::Reviewer | StaffRole::Supervisor,
            ) => true,
            (
                Self::SecondFactorReset | Self::AdminAppointment | Self::PasswordReset,
                StaffRole::SystemAdmin,
            ) => false,
            (
                Self::StaffReset | Self::StaffAddition,
                StaffRole::Supervisor | StaffRole::SystemAdmin,
            ) => true,
            (Self::StaffReset | Self::StaffAddition, StaffRole::Reviewer) => false,
            (
                Self::KeyDestruction | Self::QuarantineRelease,
                StaffRole::Supervisor | StaffRole::SystemAdmin,
            ) => true,
            (Self::KeyDestruction | Self::QuarantineRelease, StaffRole::Reviewer) => false,
            (Self::BatchRelease, StaffRole::Supervisor) => true,
            (Self::BatchRelease, StaffRole::Reviewer | StaffRole::SystemAdmin) => false,
        }
    }
}

/// Why something is proposed: a sentence for who decides, without personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// Trims and checks: neither empty nor longer than [`REASON_LIMIT`].
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = (1..=REASON_LIMIT).contains(&text.chars().count());
        let plain = !text
            .chars()
            .any(|c| c.is_control() && c != '\n' && c != '\r');
        (fits && plain).then(|| Self(text.to_owned()))
    }

    /// What a form says if there is none.
    pub fn page_text() -> String {
        format!("理由を{REASON_LIMIT}文字以内で入力してください。")
    }

    /// The sentence.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What became of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Somebody else agreed, and it happened.
    Approved,
    /// Somebody else refused.
    Refused,
    /// Who proposed it took it back.
    Withdrawn,
    /// Nobody decided in time.
    Expired,
}

impl Decision {
    const ALL: [Self; 4] = [
        Self::Approved,
        Self::Refused,
        Self::Withdrawn,
        Self::Expired,
    ];

    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Refused => "refused",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
        }
    }

    /// Reads the word in the database.
    pub fn from_word(word: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|decision| decision.as_str() == word)
    }

    /// As people read it.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::Approved => "承認",
            Self::Refused => "却下",
            Self::Withdrawn => "取消し",
            Self::Expired => "期限切れ",
        }
    }
}

/// A proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Its row.
    pub id: ApprovalId,
    /// What kind of act.
    pub kind: Kind,
    /// On what: an id, by kind.
    pub subject: String,
    /// Why.
    pub reason: String,
    /// Who proposed it.
    pub proposed_by: StaffId,
    /// His name.
    pub proposer: String,
    /// When.
    pub proposed: OffsetDateTime,
    /// Until when it can be decided.
    pub expires: OffsetDateTime,
    /// What became of it, when, and by whom, if a person decided.
    pub decided: Option<(Decision, OffsetDateTime, Option<String>)>,
}

/// A proposal cannot be made or decided.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    /// The role is not one for this.
    #[error("not for this role")]
    NotForRole,
    /// One's own account waits for a second person.
    #[error("one's own account is not approved yet")]
    NoVote,
    /// The same is proposed already.
    #[error("proposed already")]
    ProposedAlready,
    /// Who proposed it decides.
    #[error("one's own proposal")]
    OwnProposal,
    /// It was decided meanwhile, or is too old.
    #[error("decided already or expired")]
    TooLate,
    /// The act itself is not possible now.
    #[error(transparent)]
    Effect(#[from] EffectError),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ApprovalError {
    /// What staff are told; `None` if the fault is ours.
    pub fn page_text(&self) -> Option<String> {
        match self {
            Self::NotForRole => Some("この操作を行う役割ではありません。".to_owned()),
            Self::NoVote => Some(
                "ご自分の登録が、まだ別の方に承認されていません。承認されるまで、申請と承認はできません。責任者かシステム管理者の方にお伝えください。"
                    .to_owned(),
            ),
            Self::ProposedAlready => {
                Some("同じ内容がすでに承認待ちです。「承認」の画面でご確認ください。".to_owned())
            }
            Self::OwnProposal => {
                Some("ご自分の申請は承認できません。別の方が承認してください。".to_owned())
            }
            Self::TooLate => Some(
                "この申請はすでに処理されたか、期限が切れています。一覧をご確認ください。"
                    .to_owned(),
            ),
            Self::Effect(error) => error.page_text(),
            Self::Store(_) => None,
        }
    }
}

/// Proposes an act, in the caller's transaction. The caller has found the subject and knows
/// that the act is possible now.
pub async fn propose(
    tx: &mut Tx,
    app: &App,
    kind: Kind,
    subject: &str,
    reason: &Reason,
    staff: &Staff,
    now: OffsetDateTime,
) -> Result<ApprovalId, ApprovalError> {
    if !kind.may_be_proposed_by(staff.role()) {
        return Err(ApprovalError::NotForRole);
    }
    must_have_a_vote(tx, staff).await?;
    store::close_expired(tx, kind, subject, now).await?;
    let id = ApprovalId::new();
    store::add(tx, id, kind, subject, reason, staff.id(), now)
        .await
        .map_err(|error| match error.is_unique_violation() {
            true => ApprovalError::ProposedAlready,
            false => error.into(),
        })?;
    let act = Act::ApprovalProposed(id, kind.as_str());
    audit::record(tx, &app.keys, &staff.actor(), act, now).await?;
    Ok(id)
}

/// Approves a proposal of somebody else's and does what was proposed, in the caller's
/// transaction: let it go on any error. The audit row names both.
pub async fn approve(
    tx: &mut Tx,
    app: &App,
    id: ApprovalId,
    staff: &Fresh<Staff>,
    now: OffsetDateTime,
) -> Result<Approval, ApprovalError> {
    let approval = decide(tx, id, Decision::Approved, staff, now).await?;
    effects::carry_out(tx, app, &approval, staff, now).await?;
    let details = serde_json::json!({
        "kind": approval.kind.as_str(),
        "subject": approval.subject,
        "proposed_by": approval.proposed_by.to_string(),
        "approved_by": staff.id().to_string(),
    });
    let act = Act::ApprovalGiven(id, approval.kind.as_str());
    audit::record_with(tx, &app.keys, &staff.actor(), act, "", &details, now).await?;
    Ok(approval)
}

/// Refuses a proposal of somebody else's.
pub async fn refuse(
    tx: &mut Tx,
    app: &App,
    id: ApprovalId,
    staff: &Staff,
    now: OffsetDateTime,
) -> Result<Approval, ApprovalError> {
    let approval = decide(tx, id, Decision::Refused, staff, now).await?;
    let act = Act::ApprovalRefused(id, approval.kind.as_str());
    audit::record(tx, &app.keys, &staff.actor(), act, now).await?;
    Ok(approval)
}

/// Who was added by one person alone could be that person once more.
async fn must_have_a_vote(tx: &mut Tx, staff: &Staff) -> Result<(), ApprovalError> {
    match crate::staff::store::has_vote(tx, staff.id()).await? {
        true => Ok(()),
        false => Err(ApprovalError::NoVote),
    }
}

async fn decide(
    tx: &mut Tx,
    id: ApprovalId,
    decision: Decision,
    staff: &Staff,
    now: OffsetDateTime,
) -> Result<Approval, ApprovalError> {
    let found = store::find(tx, id).await?;
    let approval = found.ok_or(ApprovalError::TooLate)?;
    if approval.proposed_by == staff.id() {
        return Err(ApprovalError::OwnProposal);
    }
    if !approval.kind.may_be_decided_by(staff.role()) {
        return Err(ApprovalError::NotForRole);
    }
    must_have_a_vote(tx, staff).await?;
    if !store::decide(tx, id, decision, staff.id(), now).await? {
        return Err(ApprovalError::TooLate);
    }
    Ok(approval)
}

/// Takes one's own proposal back.
pub async fn withdraw(
    tx: &mut Tx,
    app: &App,
    id: ApprovalId,
    staff: &Staff,
    now: OffsetDateTime,
) -> Result<(), ApprovalError> {
    let kind = store::find(tx, id)
        .await?
        .ok_or(ApprovalError::TooLate)?
        .kind;
    if !store::withdraw(tx, id, staff.id(), now).await? {
        return Err(ApprovalError::TooLate);
    }
    let act = Act::ApprovalWithdrawn(id, kind.as_str());
    audit::record(tx, &app.keys, &staff.actor(), act, now).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
