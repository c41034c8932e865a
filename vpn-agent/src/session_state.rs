//! How things stand between this PC and the fund, and what may follow what.
//!
//! Pure: no clock, no IO, no keys. [`crate::event_loop`] tells it what happened and does
//! what the new state asks for; page, command line and tests only look at it. It never says
//! "connected" past the deadline, and each warning comes once in a session.

use std::time::{Duration, Instant};

use access::{EndReason, SESSION_LIMIT};
use protocol::SessionId;
use time::OffsetDateTime;

/// A warning before the end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notice {
    /// Ten minutes are left.
    TenMinutes,
    /// Two minutes are left.
    TwoMinutes,
}

/// Why a session that stood is not known to stand now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Doubt {
    /// An answer is overdue; it may be a moment.
    #[default]
    Silent,
    /// Nothing has come for longer: the way is looked for anew.
    Lost,
    /// The system says that the PC has no network.
    Offline,
    /// There is a network again; whether the session still stands is being asked.
    Back,
    /// The PC slept; whether the session still stands is being asked.
    Woke,
    /// The PC is in another network.
    Moved,
}

/// A session that the portal granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Which.
    pub id: SessionId,
    /// The deadline on a monotonic clock that counts sleep.
    pub ends_at: Instant,
    /// The deadline by the portal's clock, for people to read.
    pub ends_at_wall: OffsetDateTime,
    /// Why it will end then.
    pub will_end: EndReason,
    /// The portal's first page.
    pub portal_url: String,
    /// Where the one-time password was mailed to, half hidden.
    pub code_mailed_to: Option<String>,
}

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// No enrolment. `problem` says why the last try failed.
    Unenrolled {
        /// For the user.
        problem: Option<String>,
    },
    /// The request to be registered is on its way.
    Enrolling {
        /// How things stood before, to go back to.
        from: Box<Self>,
    },
    /// Staff have to decide. `problem` says why the last question got no answer.
    Pending {
        /// For the user.
        problem: Option<String>,
    },
    /// Enrolled, not connected. `problem` says why the gateway cannot be asked just now.
    Ready {
        /// For the user.
        problem: Option<String>,
    },
    /// A session was asked for.
    Asking,
    /// A session was granted; the tunnel is being made.
    Linking(Session),
    /// The tunnel stands.
    Connected(Session),
    /// The tunnel was lost; it is being made again while the deadline allows.
    Reconnecting(Session),
    /// The fund said no.
    Refused {
        /// For the user: why and what to do.
        sentence: String,
        /// When the service opens next.
        next_opening: Option<OffsetDateTime>,
        /// What was refused.
        what: Refused,
    },
    /// The last session is over, or none came about.
    Ended {
        /// For the user: why and what to do.
        sentence: String,
    },
}

/// What the fund can refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// To register this PC: the way on is another registration code.
    Enrolment,
    /// A session: the way on is to try again later.
    Session,
}

/// What the portal said about the service when last asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Whether a session could start.
    pub open: bool,
    /// Why not, and when next, for the user.
    pub sentence: Option<String>,
    /// When it opens next.
    pub next_opening: Option<OffsetDateTime>,
    /// A rehearsal calendar that never closes.
    pub rehearsal: bool,
}

/// The state with the rules of how it changes.
#[derive(Debug)]
pub struct SessionState {
    state: State,
    service: Option<Service>,
    /// The last warning that was given in this session.
    warned: Option<Notice>,
    /// The warning that is on show until it is dismissed.
    on_show: Option<Notice>,
    /// What is known of a lost tunnel; says nothing in other states.
    doubt: Doubt,
}

impl Notice {
    const ALL: [Self; 2] = [Self::TenMinutes, Self::TwoMinutes];

    /// How much is left when the warning is due.
    pub fn left(self) -> Duration {
        match self {
            Self::TenMinutes => Duration::from_secs(10 * 60),
            Self::TwoMinutes => Duration::from_secs(2 * 60),
        }
    }

    /// What the window's title says.
    pub fn title(self) -> &'static str {
        match self {
            Self::TenMinutes => "残り10分",
            Self::TwoMinutes => "残り2分",
        }
    }

    /// What the user is told.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::TenMinutes => {
                "残り10分を切りました。入力中の内容は、時間内に保存または提出してください。"
            }
            Self::TwoMinutes => {
                "残り2分を切りました。まもなく自動的に切断します。アップロードの途中でも、次回の接続で続きから再開できます。"
            }
        }
    }
}

impl Doubt {
    /// What the user is told, in a heading.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Silent | Self::Back | Self::Woke => "応答を待っています",
            Self::Lost | Self::Moved => "つなぎ直しています",
            Self::Offline => "ネットワークにつながっていません",
        }
    }

    /// What the user is told.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::Silent => "基金からの応答を待っています。そのままお待ちください。",
            Self::Lost => "通信が途切れたため、つなぎ直しています。ネットワークをご確認ください。",
            Self::Offline => {
                "このパソコンがネットワークにつながっていません。LANケーブルまたはWi-Fiをご確認ください。つながりしだい、続きから再開します。"
            }
            Self::Back => {
                "ネットワークにつながりました。基金からの応答を待っています。そのままお待ちください。"
            }
            Self::Woke => {
                "パソコンがスリープから復帰しました。基金からの応答を待っています。そのままお待ちください。"
            }
            Self::Moved => {
                "ネットワークが変わったため、つなぎ直しています。そのままお待ちください。"
            }
        }
    }

    /// Whether this takes the place of what is on show. What only time tells hides nothing
    /// that the system told.
    fn says_more_than(self, shown: Self) -> bool {
        match self {
            Self::Silent => false,
            Self::Lost => shown == Self::Silent,
            Self::Offline | Self::Back | Self::Woke | Self::Moved => true,
        }
    }
}

impl Session {
    /// Makes a session from what the portal said: it ends at `deadline` by a clock that
    /// shows `server_time` at `now`. However far away that is, it is cut to the longest
    /// session there can be. The PC's wall clock has no say.
    pub fn ends(deadline: OffsetDateTime, server_time: OffsetDateTime, now: Instant) -> Instant {
        let left = Duration::try_from(deadline - server_time).unwrap_or_default();
        now + left.min(SESSION_LIMIT)
    }

    /// What is left at `now`.
    pub fn remaining(&self, now: Instant) -> Duration {
        self.ends_at.saturating_duration_since(now)
    }
}

impl State {
    /// The session that is running or coming about.
    pub fn session(&self) -> Option<&Session> {
        match self {
            Self::Linking(session) | Self::Connected(session) | Self::Reconnecting(session) => {
                Some(session)
            }
            Self::Unenrolled { .. }
            | Self::Enrolling { .. }
            | Self::Pending { .. }
            | Self::Ready { .. }
            | Self::Asking
            | Self::Refused { .. }
            | Self::Ended { .. } => None,
        }
    }

    /// Whether a new session may be asked for.
    pub fn may_connect(&self) -> bool {
        match self {
            Self::Ready { .. } | Self::Ended { .. } => true,
            Self::Refused { what, .. } => *what == Refused::Session,
            Self::Unenrolled { .. }
            | Self::Enrolling { .. }
            | Self::Pending { .. }
            | Self::Asking
            | Self::Linking(_)
            | Self::Connected(_)
            | Self::Reconnecting(_) => false,
        }
    }

    /// Whether a registration code may be handed in: also by a PC that is enrolled, for
    /// another establishment or after it was revoked.
    pub fn may_enrol(&self) -> bool {
        match self {
            Self::Unenrolled { .. }
            | Self::Pending { .. }
            | Self::Ready { .. }
            | Self::Refused { .. }
            | Self::Ended { .. } => true,
            Self::Enrolling { .. }
            | Self::Asking
            | Self::Linking(_)
            | Self::Connected(_)
            | Self::Reconnecting(_) => false,
        }
    }
}

impl SessionState {
    /// Starts with what was found on disk.
    pub fn new(state: State) -> Self {
        Self {
            state,
            service: None,
            warned: None,
            on_show: None,
            doubt: Doubt::default(),
        }
    }

    /// How things stand.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What the portal said about the service.
    pub fn service(&self) -> Option<&Service> {
        self.service.as_ref()
    }

    /// The warning on show.
    pub fn notice(&self) -> Option<Notice> {
        self.on_show
    }

    /// Why the session is not known to stand, in [`State::Reconnecting`].
    pub fn doubt(&self) -> Doubt {
        self.doubt
    }

    /// The user has read the warning.
    pub fn dismiss_notice(&mut self) {
        self.on_show = None;
    }

    /// The user handed in a registration code. False if this is not the time for it.
    pub fn enrol(&mut self) -> bool {
        let may = self.state.may_enrol();
        if may {
            let from = Box::new(self.state.clone());
            self.state = State::Enrolling { from };
        }
        may
    }

    /// The portal has the request.
    pub fn handle_enrolment_opened(&mut self) {
        if matches!(self.state, State::Enrolling { .. }) {
            self.state = State::Pending { problem: None };
        }
    }

    /// The request did not get through, or was turned down at once.
    pub fn handle_enrolment_failed(&mut self, problem: String) {
        let State::Enrolling { from } = &self.state else {
            return;
        };
        let problem = Some(problem);
        self.state = match **from {
            State::Pending { .. } => State::Pending { problem },
            State::Ready { .. }
            | State::Ended { .. }
            | State::Refused {
                what: Refused::Session,
                ..
            } => State::Ready { problem },
            State::Unenrolled { .. }
            | State::Refused {
                what: Refused::Enrolment,
                ..
            }
            | State::Enrolling { .. }
            | State::Asking
            | State::Linking(_)
            | State::Connected(_)
            | State::Reconnecting(_) => State::Unenrolled { problem },
        };
    }

    /// Staff have not decided, or (`problem`) could not be asked.
    pub fn handle_still_pending(&mut self, problem: Option<String>) {
        if let State::Pending { problem: shown } = &mut self.state {
            *shown = problem;
        }
    }

    /// Staff approved this PC.
    pub fn handle_approved(&mut self) {
        if matches!(self.state, State::Pending { .. }) {
            self.state = State::Ready { problem: None };
        }
    }

    /// Staff turned this PC down, or the request is gone.
    pub fn handle_enrolment_refused(&mut self, sentence: String) {
        if matches!(self.state, State::Pending { .. }) {
            self.state = State::Refused {
                sentence,
                next_opening: None,
                what: Refused::Enrolment,
            };
        }
    }

    /// The portal told about the service.
    pub fn handle_service(&mut self, service: Service) {
        match &mut self.state {
            State::Ready { problem } => *problem = None,
            // The door is open again: nothing keeps the user from knocking.
            State::Refused {
                what: Refused::Session,
                next_opening: Some(_),
                ..
            } if service.open => self.state = State::Ready { problem: None },
            State::Refused { .. }
            | State::Unenrolled { .. }
            | State::Enrolling { .. }
            | State::Pending { .. }
            | State::Asking
            | State::Linking(_)
            | State::Connected(_)
            | State::Reconnecting(_)
            | State::Ended { .. } => {}
        }
        self.service = Some(service);
    }

    /// The portal could not be asked about the service.
    pub fn handle_service_unknown(&mut self, sentence: String) {
        if let State::Ready { problem } = &mut self.state {
            *problem = Some(sentence);
        }
    }

    /// The user wants a session. False if this is not the time for it.
    pub fn connect(&mut self) -> bool {
        let may = self.state.may_connect();
        if may {
            self.state = State::Asking;
        }
        may
    }

    /// The fund refused: a session, or to speak to this PC at all.
    pub fn handle_refused(&mut self, sentence: String, next_opening: Option<OffsetDateTime>) {
        if matches!(self.state, State::Asking | State::Ready { .. }) {
            self.state = State::Refused {
                sentence,
                next_opening,
                what: Refused::Session,
            };
        }
    }

    /// No session came about for a reason that is not the fund's will.
    pub fn handle_connect_failed(&mut self, sentence: String) {
        if matches!(self.state, State::Asking | State::Linking(_)) {
            self.state = State::Ended { sentence };
        }
    }

    /// The portal granted a session. False if nobody wants it any more.
    pub fn handle_granted(&mut self, session: Session, now: Instant) -> bool {
        let wanted = self.state == State::Asking;
        if wanted {
            self.warned = None;
            self.on_show = None;
            self.state = State::Linking(session);
            self.handle_timeout(now);
        }
        wanted
    }

    /// The session goes on through another gateway, as the portal says now. It never lasts
    /// longer for that. False if there is no such session any more.
    pub fn handle_moved(&mut self, moved: &Session, now: Instant) -> bool {
        let (State::Linking(session) | State::Connected(session) | State::Reconnecting(session)) =
            &mut self.state
        else {
            return false;
        };
        if session.id != moved.id {
            return false;
        }
        session.ends_at = session.ends_at.min(moved.ends_at);
        if moved.ends_at_wall < session.ends_at_wall {
            session.ends_at_wall = moved.ends_at_wall;
            session.will_end = moved.will_end;
        }
        self.handle_link_lost();
        self.handle_timeout(now);
        self.state.session().is_some()
    }

    /// The gateway said that the session ends earlier than was granted: at `deadline` by the
    /// portal's clock. A later one changes nothing.
    pub fn handle_deadline(&mut self, deadline: OffsetDateTime, will_end: EndReason, now: Instant) {
        let (State::Linking(session) | State::Connected(session) | State::Reconnecting(session)) =
            &mut self.state
        else {
            return;
        };
        let Ok(earlier) = Duration::try_from(session.ends_at_wall - deadline) else {
            return;
        };
        if earlier.is_zero() {
            return;
        }
        session.ends_at = session.ends_at.checked_sub(earlier).unwrap_or(now);
        session.ends_at_wall = deadline;
        session.will_end = will_end;
        self.handle_timeout(now);
    }

    /// The tunnel stands.
    pub fn handle_linked(&mut self, now: Instant) {
        if let State::Linking(session) | State::Reconnecting(session) = &self.state {
            self.state = State::Connected(session.clone());
            self.handle_timeout(now);
        }
    }

    /// Nothing comes through the tunnel any more, without a word from the gateway.
    pub fn handle_link_lost(&mut self) {
        self.handle_doubt(Doubt::Lost);
    }

    /// Whether the tunnel stands is not known for now. [`Self::handle_linked`] ends the doubt.
    pub fn handle_doubt(&mut self, doubt: Doubt) {
        if let State::Connected(session) = &self.state {
            self.state = State::Reconnecting(session.clone());
            self.doubt = doubt;
        } else if matches!(self.state, State::Reconnecting(_)) && doubt.says_more_than(self.doubt) {
            self.doubt = doubt;
        }
    }

    /// The session is over because the gateway said so.
    pub fn handle_ended(&mut self, reason: EndReason) {
        if self.state.session().is_some() {
            self.end(reason);
        }
    }

    /// The session cannot go on, for a reason that no end reason names.
    pub fn handle_broken(&mut self, sentence: String) {
        if self.state.session().is_some() {
            self.on_show = None;
            self.state = State::Ended { sentence };
        }
    }

    /// The user ends the session, or gives up waiting for one.
    pub fn disconnect(&mut self) {
        if self.state == State::Asking {
            self.state = State::Ready { problem: None };
        } else if self.state.session().is_some() {
            self.end(EndReason::Disconnected);
        }
    }

    /// Does what is due: warnings, and the end.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some(session) = self.state.session() else {
            return;
        };
        let (left, will_end) = (session.remaining(now), session.will_end);
        if left.is_zero() {
            self.end(will_end);
            return;
        }
        let due = Notice::ALL
            .into_iter()
            .filter(|notice| left <= notice.left())
            .max();
        if due > self.warned {
            self.warned = due;
            self.on_show = due;
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let session = self.state.session()?;
        let next_notice = Notice::ALL
            .into_iter()
            .find(|notice| Some(*notice) > self.warned)
            .map_or(Duration::ZERO, Notice::left);
        // A session that is shorter than the warning was warned at its beginning.
        Some(
            session
                .ends_at
                .checked_sub(next_notice)
                .unwrap_or(session.ends_at),
        )
    }

    fn end(&mut self, reason: EndReason) {
        self.on_show = None;
        self.state = State::Ended {
            sentence: reason.page_text().to_owned(),
        };
    }
}

#[cfg(test)]
mod tests;
