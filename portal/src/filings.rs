//! Filings (届書): the rules of a filing's way from the sender to the decision.
//!
//! received 受付 → in review 審査中 → decided 決定 or returned 差戻し; withdrawn 取下げ while
//! received. Every step is a function from a [`Filing`] to a [`Step`], which holds the state
//! it started from: the store writes it only if that is still the state, so that of two
//! reviewers who act at once exactly one wins.
//!
//! Nothing here reads a clock, a row or a file. `filings::store` asks here before it writes.

pub mod check;
pub mod hand_in;
pub mod individual_number;
pub mod kinds;
pub mod names;
pub mod pages;
pub mod pdf;
pub mod reasons;
pub mod receipt;
pub mod store;
pub mod words;

use time::OffsetDateTime;

use crate::ids::{DocumentId, EstablishmentId, FilingId, StaffId, SubmissionId};
pub use names::FilingName;
pub use reasons::{ReturnCode, ReturnReason};

/// One filing, as the office and its sender see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filing {
    /// Its id.
    pub id: FilingId,
    /// Whose it is.
    pub establishment: EstablishmentId,
    /// What it came with.
    pub submission: SubmissionId,
    /// The sealed PDF.
    pub document: DocumentId,
    /// `届出年月日_事業所番号_届書名称`.
    pub name: FilingName,
    /// Where it stands.
    pub state: State,
    /// When it was received.
    pub received: OffsetDateTime,
    /// When it last moved.
    pub changed: OffsetDateTime,
    /// The returned filing that this one takes the place of.
    pub replaces: Option<FilingId>,
}

/// Where a filing stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// 受付: waits in the office's queue.
    Received,
    /// 審査中: one reviewer has it; nobody else may decide it.
    InReview {
        /// Who has it.
        reviewer: StaffId,
    },
    /// 決定: a notice was issued for it. Final.
    Decided {
        /// Who decided.
        reviewer: StaffId,
    },
    /// 差戻し: the sender has to correct it. Final; a corrected filing is a new one.
    Returned {
        /// Who returned it.
        reviewer: StaffId,
        /// Why, and what the sender has to do.
        reason: ReturnReason,
    },
    /// 取下げ: the sender took it back. Final.
    Withdrawn,
}

/// How much a member of staff may do with a colleague's case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// Works on own cases.
    Reviewer,
    /// May also give a colleague's case back to the queue.
    Supervisor,
}

/// One allowed step of a filing, not yet written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The state it starts from: the store writes the step only if this still holds.
    pub before: State,
    /// The filing after it.
    pub after: Filing,
    /// What the timeline says.
    pub event: Event,
    /// What the timeline adds in words; may be empty.
    pub note: String,
}

/// What a timeline can say about a filing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The portal accepted it.
    Received,
    /// A reviewer took it.
    Taken,
    /// A supervisor gave it to a reviewer.
    Assigned,
    /// It went back to the queue.
    Released,
    /// It was returned.
    Returned,
    /// It was decided.
    Decided,
    /// The sender took it back.
    Withdrawn,
    /// The sender asks the office to give it back.
    WithdrawalAsked,
    /// The office keeps it.
    WithdrawalDeclined,
    /// Somebody wrote something that both sides read.
    Commented,
    /// It came on paper, and staff wrote it down.
    CameOnPaper,
    /// A corrected filing took its place.
    Resubmitted,
    /// A notice was issued for it.
    Noticed,
    /// The establishment fetched that notice.
    Fetched,
}

/// Why a step is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// Someone else has it in review.
    #[error("filing is in review by {reviewer}")]
    InOtherHands {
        /// Who.
        reviewer: StaffId,
    },
    /// Only a supervisor gives a case to somebody.
    #[error("only a supervisor assigns cases")]
    NotSupervisor,
    /// The sender asked for it back, and nobody has answered.
    #[error("the sender's wish to withdraw is not answered yet")]
    WithdrawalAsked,
    /// The step needs a filing in review, and this one waits in the queue.
    #[error("filing is not in review")]
    NotInReview,
    /// The sender may take back only what nobody works on yet.
    #[error("filing is in review and can no longer be withdrawn")]
    ReviewBegan,
    /// It is decided, returned or withdrawn: its way is over.
    #[error("filing is already {}", .state.code())]
    Closed {
        /// Where it stands.
        state: State,
    },
    /// Only a returned filing can be replaced.
    #[error("filing is {} and needs no replacement", .state.code())]
    NotReturned {
        /// Where it stands.
        state: State,
    },
    /// A corrected filing was handed in already.
    #[error("filing was already replaced by {by}")]
    AlreadyReplaced {
        /// The corrected one.
        by: FilingId,
    },
    /// Between looking and acting, somebody else acted.
    #[error("filing moved while it was being looked at")]
    Moved,
}

impl Filing {
    /// A reviewer takes the filing. Taking what one has already changes nothing but is no error
    /// worth a message; it is refused like any other second taking, for the page to reload.
    pub fn take(&self, reviewer: StaffId, now: OffsetDateTime) -> Result<Step, StepError> {
        match &self.state {
            State::Received => Ok(self.step(State::InReview { reviewer }, Event::Taken, now)),
            State::InReview { reviewer } => Err(StepError::InOtherHands {
                reviewer: *reviewer,
            }),
            State::Decided { .. } | State::Returned { .. } | State::Withdrawn => Err(self.closed()),
        }
    }

    /// A supervisor gives the filing to a reviewer, from the queue or from a colleague.
    pub fn assign(
        &self,
        reviewer: StaffId,
        rank: Rank,
        now: OffsetDateTime,
    ) -> Result<Step, StepError> {
        match (&self.state, rank) {
            (_, Rank::Reviewer) => Err(StepError::NotSupervisor),
            (State::InReview { reviewer: has }, Rank::Supervisor) if *has == reviewer => {
                Err(StepError::InOtherHands { reviewer })
            }
            (State::Received | State::InReview { .. }, Rank::Supervisor) => {
                Ok(self.step(State::InReview { reviewer }, Event::Assigned, now))
            }
            (
                State::Decided { .. } | State::Returned { .. } | State::Withdrawn,
                Rank::Supervisor,
            ) => Err(self.closed()),
        }
    }

    /// Gives the filing back to the queue because its reviewer's account is disabled, so that
    /// no case is orphaned.
    pub fn free(&self, gone: StaffId, now: OffsetDateTime) -> Result<Step, StepError> {
        self.reviewer_is(gone)?;
        Ok(self.step(State::Received, Event::Released, now))
    }

    /// The sender asks for a filing that is in review already; the office answers.
    pub fn ask_to_withdraw(&self) -> Result<(), StepError> {
        match &self.state {
            State::InReview { .. } => Ok(()),
            State::Received => Err(StepError::NotInReview),
            State::Decided { .. } | State::Returned { .. } | State::Withdrawn => Err(self.closed()),
        }
    }

    /// The reviewer lets the sender have the filing back.
    pub fn grant_withdrawal(
        &self,
        reviewer: StaffId,
        now: OffsetDateTime,
    ) -> Result<Step, StepError> {
        self.reviewer_is(reviewer)?;
        Ok(self.step(State::Withdrawn, Event::Withdrawn, now))
    }

    /// The reviewer keeps the filing although its sender wants it back.
    pub fn decline_withdrawal(&self, reviewer: StaffId) -> Result<(), StepError> {
        self.reviewer_is(reviewer)
    }

    /// Gives the filing back to the queue: its reviewer, or a supervisor when he is away.
    pub fn release(
        &self,
        staff: StaffId,
        rank: Rank,
        now: OffsetDateTime,
    ) -> Result<Step, StepError> {
        match (self.reviewer_is(staff), rank) {
            (Ok(()), _) | (Err(StepError::InOtherHands { .. }), Rank::Supervisor) => {
                Ok(self.step(State::Received, Event::Released, now))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Returns the filing to its sender.
    pub fn give_back(
        &self,
        reviewer: StaffId,
        reason: ReturnReason,
        now: OffsetDateTime,
    ) -> Result<Step, StepError> {
        self.reviewer_is(reviewer)?;
        let note = reason.timeline_note();
        let mut step = self.step(State::Returned { reviewer, reason }, Event::Returned, now);
        step.note = note;
        Ok(step)
    }

    /// Decides the filing. The notice is issued in the same transaction.
    pub fn decide(&self, reviewer: StaffId, now: OffsetDateTime) -> Result<Step, StepError> {
        self.reviewer_is(reviewer)?;
        Ok(self.step(State::Decided { reviewer }, Event::Decided, now))
    }

    /// The sender takes the filing back.
    pub fn withdraw(&self, now: OffsetDateTime) -> Result<Step, StepError> {
        match &self.state {
            State::Received => Ok(self.step(State::Withdrawn, Event::Withdrawn, now)),
            State::InReview { .. } => Err(StepError::ReviewBegan),
            State::Decided { .. } | State::Returned { .. } | State::Withdrawn => Err(self.closed()),
        }
    }

    /// Says whether a corrected filing may take this one's place. `replacement` is the one
    /// that already does and was not withdrawn.
    pub fn may_be_replaced(&self, replacement: Option<FilingId>) -> Result<(), StepError> {
        match (&self.state, replacement) {
            (State::Returned { .. }, None) => Ok(()),
            (State::Returned { .. }, Some(by)) => Err(StepError::AlreadyReplaced { by }),
            (state, _) => Err(StepError::NotReturned {
                state: state.clone(),
            }),
        }
    }

    fn reviewer_is(&self, staff: StaffId) -> Result<(), StepError> {
        match &self.state {
            State::InReview { reviewer } if *reviewer == staff => Ok(()),
            State::InReview { reviewer } => Err(StepError::InOtherHands {
                reviewer: *reviewer,
            }),
            State::Received => Err(StepError::NotInReview),
            State::Decided { .. } | State::Returned { .. } | State::Withdrawn => Err(self.closed()),
        }
    }

    fn closed(&self) -> StepError {
        StepError::Closed {
            state: self.state.clone(),
        }
    }

    fn step(&self, state: State, event: Event, now: OffsetDateTime) -> Step {
        Step {
            before: self.state.clone(),
            after: Self {
                state,
                changed: now,
                ..self.clone()
            },
            event,
            note: String::new(),
        }
    }
}

impl State {
    /// Every state's word in the database, in the order of a filing's way.
    pub const CODES: [&'static str; 5] =
        ["received", "in_review", "returned", "decided", "withdrawn"];

    /// The word in the database.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::InReview { .. } => "in_review",
            Self::Decided { .. } => "decided",
            Self::Returned { .. } => "returned",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// The word on pages.
    pub fn label(&self) -> &'static str {
        state_label(self.code())
    }

    /// Who has it or had it at the end.
    pub fn reviewer(&self) -> Option<StaffId> {
        match self {
            Self::InReview { reviewer }
            | Self::Decided { reviewer }
            | Self::Returned { reviewer, .. } => Some(*reviewer),
            Self::Received | Self::Withdrawn => None,
        }
    }

    /// Why it was returned.
    pub fn return_reason(&self) -> Option<&ReturnReason> {
        match self {
            Self::Returned { reason, .. } => Some(reason),
            Self::Received | Self::InReview { .. } | Self::Decided { .. } | Self::Withdrawn => None,
        }
    }
}

/// The word on pages for a state's word in the database.
pub fn state_label(code: &str) -> &'static str {
    match code {
        "received" => "受付",
        "in_review" => "審査中",
        "decided" => "決定",
        "returned" => "差戻し",
        "withdrawn" => "取下げ",
        _ => "不明",
    }
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 14] = [
        Self::Received,
        Self::Taken,
        Self::Assigned,
        Self::WithdrawalAsked,
        Self::WithdrawalDeclined,
        Self::Commented,
        Self::CameOnPaper,
        Self::Released,
        Self::Returned,
        Self::Decided,
        Self::Withdrawn,
        Self::Resubmitted,
        Self::Noticed,
        Self::Fetched,
    ];

    /// The word in the database.
    pub fn code(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Taken => "taken",
            Self::Assigned => "assigned",
            Self::WithdrawalAsked => "withdrawal_asked",
            Self::WithdrawalDeclined => "withdrawal_declined",
            Self::Commented => "commented",
            Self::CameOnPaper => "came_on_paper",
            Self::Released => "released",
            Self::Returned => "returned",
            Self::Decided => "decided",
            Self::Withdrawn => "withdrawn",
            Self::Resubmitted => "resubmitted",
            Self::Noticed => "noticed",
            Self::Fetched => "fetched",
        }
    }

    /// Reads the word back.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.code() == code)
    }

    /// The sentence on both sides' timelines.
    pub fn label(self) -> &'static str {
        match self {
            Self::Received => "受け付けました",
            Self::Taken => "審査を始めました",
            Self::Assigned => "担当者を決めました",
            Self::WithdrawalAsked => "取下げを依頼しました",
            Self::WithdrawalDeclined => "取下げの依頼をお断りしました",
            Self::Commented => "連絡がありました",
            Self::CameOnPaper => "紙の届書を受け付けました",
            Self::Released => "審査待ちに戻しました",
            Self::Returned => "差し戻しました",
            Self::Decided => "決定しました",
            Self::Withdrawn => "取り下げました",
            Self::Resubmitted => "訂正した届書が再提出されました",
            Self::Noticed => "決定通知書を発行しました",
            Self::Fetched => "決定通知書を受け取りました",
        }
    }
}

impl StepError {
    /// What happened and what to do next, for the person in front of the page.
    pub fn page_text(&self) -> String {
        match self {
            Self::InOtherHands { .. } => {
                "この届書は、すでに担当者が審査しています。一覧を更新して状態をご確認ください。".into()
            }
            Self::NotSupervisor => {
                "担当者を決められるのは責任者だけです。".into()
            }
            Self::WithdrawalAsked => {
                "事業所から取下げの依頼が届いています。先に「取下げの依頼」に答えてください。".into()
            }
            Self::NotInReview => {
                "この届書はまだ審査中になっていません。「審査を始める」を押してから操作してください。".into()
            }
            Self::ReviewBegan => {
                "この届書は基金事務局で審査が始まっているため、すぐには取り下げられません。取り下げたいときは、画面の「取下げを依頼する」から基金事務局へお知らせください。".into()
            }
            Self::Closed { state } => format!(
                "この届書はすでに「{}」になっています。画面を更新して状態をご確認ください。",
                state.label()
            ),
            Self::NotReturned { state } => format!(
                "再提出できるのは差戻しになった届書だけです。この届書は「{}」です。新しい届書として提出してください。",
                state.label()
            ),
            Self::AlreadyReplaced { .. } => {
                "この届書は、すでに訂正した届書が再提出されています。提出履歴でご確認ください。".into()
            }
            Self::Moved => {
                "ほかの人がこの届書を先に操作しました。画面を更新して状態をご確認ください。".into()
            }
        }
    }
}

#[cfg(test)]
mod tests;
