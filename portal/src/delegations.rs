//! 代理: somebody acts for an establishment that is not his own (FACTS R11; FEATURES S003-18,
//! S003-19, S003-37).
//!
//! A delegation joins a *client*, who is represented, and a *delegate*, who acts: a
//! sharoushi's office by agreement of both sides, or the managing establishment of a group,
//! written down by staff with the client's consent. It says which permissions and which
//! procedures, and until when. `web::sessions` asks at every request whether it stands, so
//! that it ends with the next request; [`end`] also cuts the connections that are open, and
//! what arrives through them with it.
//!
//! A delegate has never more than his own office gave him, never what the client's admin
//! alone may do, and delegates nothing further: a delegation is looked up from the PC's own
//! establishment, and from no other.

mod agreement;
mod desk;
mod office;
pub mod store;

use time::{Date, Duration, OffsetDateTime};

use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::db::{StoreError, Tx};
use crate::filings::kinds::Procedure;
use crate::ids::{DelegationId, EstablishmentId};
use crate::people::news::{self, News};
use crate::permissions::Permissions;
use crate::web::principals::Member;

pub use desk::member_routes as desk_routes;
pub use office::office_routes;

/// The pages of both sides of an agreement.
pub use agreement::member_routes as agreement_routes;

/// How long a proposal waits to be accepted.
pub const PROPOSAL_VALIDITY: Duration = Duration::days(30);
/// How far in the future a delegation may end.
pub const TERM_LIMIT: Duration = Duration::days(3 * 366);
/// Proposals and delegations that one delegate may have at a time.
pub const DELEGATIONS_LIMIT: i64 = 1_000;
/// Proposals of one delegate that may wait at a time: who guesses numbers learns nothing, and
/// tires soon.
pub const WAITING_LIMIT: i64 = 50;

/// What an establishment is to the fund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EstablishmentKind {
    /// 事業所.
    Employer,
    /// 社会保険労務士事務所: acts for others and has no filings of its own.
    Sharoushi,
}

impl EstablishmentKind {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Employer => "employer",
            Self::Sharoushi => "sharoushi",
        }
    }

    /// Reads the word in the database.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Employer, Self::Sharoushi]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// What a delegation rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Both sides agreed.
    Agreement,
    /// 複数事業所管理: staff wrote it down, with the client's consent.
    Group,
}

impl Basis {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agreement => "agreement",
            Self::Group => "group",
        }
    }

    /// Reads the word in the database.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Agreement, Self::Group]
            .into_iter()
            .find(|basis| basis.as_str() == word)
    }
}

/// One of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who is represented.
    Client,
    /// Who acts.
    Delegate,
}

impl Side {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Delegate => "delegate",
        }
    }

    /// Reads the word in the database.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Client, Self::Delegate]
            .into_iter()
            .find(|side| side.as_str() == word)
    }
}

/// Which procedures: all, or some groups of kinds of filings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Procedures(Vec<Procedure>);

impl Procedures {
    /// Every kind of filing, also those to come.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only these; all of them are the same as [`Procedures::all`]. `None` if there are none.
    pub fn only(chosen: Vec<Procedure>) -> Option<Self> {
        match chosen.len() {
            0 => None,
            n if n == Procedure::ALL.len() => Some(Self::all()),
            _ => Some(Self(chosen)),
        }
    }

    /// Reads what [`Procedures::to_words`] wrote.
    pub fn from_words(words: &str) -> Option<Self> {
        words
            .split(',')
            .filter(|word| !word.is_empty())
            .map(Procedure::from_code)
            .collect::<Option<_>>()
            .map(Self)
    }

    /// `,membership,salary,`; empty: all.
    pub fn to_words(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let words: Vec<_> = self.0.iter().map(|group| group.code()).collect();
        format!(",{},", words.join(","))
    }

    /// As people read it.
    pub fn page_text(&self) -> String {
        if self.0.is_empty() {
            return "すべての届書".to_owned();
        }
        let labels: Vec<_> = self.0.iter().map(|group| group.label()).collect();
        format!("{}の届書", labels.join("・"))
    }
}

/// What is delegated, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// What the delegate may do; never nothing.
    pub permissions: Permissions,
    /// For which filings.
    pub procedures: Procedures,
    /// The first moment that is too late; `None` in a group, which staff end.
    pub ends: Option<OffsetDateTime>,
}

/// The moment at which a last day is over, if it is one that may be agreed on at `now`.
pub fn end_of(last_day: Date, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let ends = last_day.next_day()?.midnight().assume_offset(access::JST);
    (now < ends && ends <= now + TERM_LIMIT).then_some(ends)
}

/// Whom a member acts for, at this request.
#[derive(Debug, Clone)]
pub struct Acting {
    /// By which delegation.
    pub delegation: DelegationId,
    /// Who is represented.
    pub client: EstablishmentId,
    /// Its number.
    pub number: protocol::EstablishmentNumber,
    /// Its name.
    pub name: String,
    /// Which procedures, as [`Procedures::to_words`].
    pub procedures: String,
}

/// A delegation cannot be proposed, accepted or ended.
#[derive(Debug, thiserror::Error)]
pub enum DelegationError {
    /// There is one between the two already, or a proposal.
    #[error("there is one between the two already")]
    ThereAlready,
    /// Too many.
    #[error("too many delegations or proposals")]
    TooMany,
    /// It was answered or ended meanwhile, or it waited too long.
    #[error("answered, ended or too old")]
    TooLate,
    /// The client belongs to another group.
    #[error("in a group already")]
    InGroup,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DelegationError {
    /// What people are told; `None` if the fault is ours.
    pub fn page_text(&self) -> Option<&'static str> {
        match self {
            Self::ThereAlready => {
                Some("この相手との代理の設定または申込みが、すでにあります。一覧をご確認ください。")
            }
            Self::TooMany => Some(
                "承諾待ちの申込みが多すぎます。不要な申込みを取り消してから、もう一度お試しください。",
            ),
            Self::TooLate => Some(
                "この申込みはすでに処理されたか、期限が切れています。画面を更新してご確認ください。",
            ),
            Self::InGroup => Some(
                "この事業所は、すでに別の事業所がまとめて管理しています。先にそちらを終了してください。",
            ),
            Self::Store(_) => None,
        }
    }
}

/// A delegation to propose.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Who is represented, by number. A number that nobody has waits like any other, so that
    /// who proposes learns nothing from it.
    pub client_number: protocol::EstablishmentNumber,
    /// Who has that number, if anybody whom it can be proposed to.
    pub client: Option<EstablishmentId>,
    /// Who acts.
    pub delegate: EstablishmentId,
    /// Who proposes.
    pub side: Side,
    /// What.
    pub scope: Scope,
}

/// Proposes a delegation by agreement; the other side is told by mail. After the commit, tell
/// `signals.mail_queued()`.
pub async fn propose(
    tx: &mut Tx,
    app: &App,
    member: &Member,
    proposal: &Proposal,
    now: OffsetDateTime,
) -> Result<DelegationId, DelegationError> {
    store::close_over(tx, proposal.client_number, proposal.delegate, now).await?;
    if proposal.side == Side::Delegate {
        let counts = store::count_of_delegate(tx, proposal.delegate, now).await?;
        if counts.waiting >= WAITING_LIMIT || counts.all >= DELEGATIONS_LIMIT {
            return Err(DelegationError::TooMany);
        }
    }
    let id = DelegationId::new();
    store::add(tx, id, proposal, member.user(), now)
        .await
        .map_err(|error| match error.is_unique_violation() {
            true => DelegationError::ThereAlready,
            false => error.into(),
        })?;
    let other = match proposal.side {
        Side::Client => Some(proposal.delegate),
        Side::Delegate => proposal.client,
    };
    if let Some(other) = other {
        news::tell(tx, app, other, News::DelegationProposed, now).await?;
    }
    let act = Act::DelegationProposed(id);
    audit::record(tx, &app.keys, &member.actor(), act, now).await?;
    Ok(id)
}

/// Accepts what the other side proposed.
pub async fn accept(
    tx: &mut Tx,
    app: &App,
    member: &Member,
    id: DelegationId,
    now: OffsetDateTime,
) -> Result<(), DelegationError> {
    let own = member.home_establishment();
    let accepted = store::accept(tx, id, own, member.user(), now).await?;
    let (client, delegate) = accepted.ok_or(DelegationError::TooLate)?;
    for side in [client, delegate] {
        news::tell(tx, app, side, News::DelegationAccepted, now).await?;
    }
    let details = serde_json::json!({
        "client": client.to_string(),
        "delegate": delegate.to_string(),
    });
    let act = Act::DelegationAccepted(id);
    audit::record_with(tx, &app.keys, &member.actor(), act, "", &details, now).await?;
    Ok(())
}

/// How a delegation or a proposal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The other side does not want it.
    Declined,
    /// Who proposed it took it back.
    Withdrawn,
    /// The client or staff revoked it.
    Revoked,
    /// The delegate gave it up.
    GivenUp,
}

impl EndReason {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Declined => "declined",
            Self::Withdrawn => "withdrawn",
            Self::Revoked => "revoked",
            Self::GivenUp => "given_up",
        }
    }
}

/// Ends a delegation or a proposal of `own`'s, or any for staff (`None`). Whoever acts by it
/// is out with the next request, and open connections are cut. After the commit, tell
/// `signals.sessions_changed()` and `signals.mail_queued()`.
pub async fn end(
    tx: &mut Tx,
    app: &App,
    actor: &Actor,
    id: DelegationId,
    own: Option<EstablishmentId>,
    now: OffsetDateTime,
) -> Result<(), DelegationError> {
    let found = store::lock(tx, id, own).await?;
    let found = found.ok_or(DelegationError::TooLate)?;
    let side = own.map(|own| match own == found.delegate {
        true => Side::Delegate,
        false => Side::Client,
    });
    let reason = match (found.accepted, side) {
        (false, Some(side)) if side == found.proposed_by => EndReason::Withdrawn,
        (false, Some(_)) => EndReason::Declined,
        (true, Some(Side::Delegate)) => EndReason::GivenUp,
        (true, Some(Side::Client)) | (_, None) => EndReason::Revoked,
    };
    if !store::end(tx, id, &actor.name_for_rows(), reason, now).await? {
        return Err(DelegationError::TooLate);
    }
    store::cut_pages(tx, id, now).await?;
    if found.accepted {
        let both = [found.client, Some(found.delegate)];
        for side in both.into_iter().flatten() {
            news::tell(tx, app, side, News::DelegationEnded, now).await?;
        }
    }
    let act = Act::DelegationEnded(id, reason.as_str());
    audit::record(tx, &app.keys, actor, act, now).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
