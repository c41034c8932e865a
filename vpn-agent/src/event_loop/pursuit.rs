//! What becomes of a session whose tunnel is lost: made anew through the same gateway, taken
//! to another one, or given up.
//!
//! Pure: no clock, no sockets, no jobs. [`super::session`] and [`super::failover`] tell it what
//! happened and do what it says; a simulation can do the same. Nothing here gives a session
//! more time, and as long as the deadline is ahead one of the two tries is always due.

use std::time::{Duration, Instant};

use access::EndReason;
use protocol::agent_api::{EndCode, RefusalCode};

use crate::link::paths::Outlook;
use crate::link::{LinkEnd, LinkError};
use crate::session_state::{Doubt, SessionState};

/// A session whose tunnel never stood is given up after so many gateways.
const GATEWAYS_TO_BEGIN: u32 = 3;

/// Pause between tries to make a lost tunnel anew.
const REBUILD_PAUSE: Duration = Duration::from_secs(2);

/// How long the session's own gateway has to come back when no other can help.
const SEEK_PAUSE: Duration = Duration::from_secs(3);

/// What is remembered from one try to the next.
#[derive(Debug)]
pub struct Pursuit {
    next_build: Instant,
    /// Whether the link was lost, and none has been tried since.
    is_lost: bool,
    /// Grants of this session over which no tunnel came to stand, one after the other.
    in_vain: u32,
    /// When another gateway may be sought: not before the own one was tried again, after no
    /// other could help.
    seek_at: Instant,
    /// Whether the portal is to be told of the end: not if the word came from there.
    tells_portal: bool,
}

impl Pursuit {
    /// A grant came at `now`: its tunnel is to be made.
    pub fn new(now: Instant) -> Self {
        Self {
            next_build: now,
            is_lost: false,
            in_vain: 0,
            seek_at: now,
            tells_portal: true,
        }
    }

    /// The same for a grant with which the session goes on elsewhere.
    pub fn after(before: &Self, now: Instant) -> Self {
        Self {
            in_vain: before.in_vain,
            ..Self::new(now)
        }
    }

    /// Whether the tunnel is to be made now, if there is none.
    pub fn wants_link(&self, now: Instant) -> bool {
        now >= self.next_build
    }

    /// Whether another gateway should be sought now: the link is gone, or (`outlook`) no way
    /// leads to its gateway any more.
    pub fn wants_another(&self, outlook: Option<Outlook>, now: Instant) -> bool {
        let is_lost = match outlook {
            Some(outlook) => outlook == Outlook::Dead,
            None => self.is_lost,
        };
        is_lost && now >= self.seek_at
    }

    /// When it has something to do by itself while there is no tunnel. `seeks` says whether
    /// other gateways are asked at all.
    pub fn poll_timeout(&self, seeks: bool) -> Instant {
        match self.is_lost && seeks {
            true => self.next_build.min(self.seek_at),
            false => self.next_build,
        }
    }

    /// Whether the portal is to be told when the session is left.
    pub fn tells_portal(&self) -> bool {
        self.tells_portal
    }

    /// The tunnel stands.
    pub fn handle_linked(&mut self, state: &mut SessionState, now: Instant) {
        self.in_vain = 0;
        state.handle_linked(now);
    }

    /// No tunnel came about. Another gateway is asked; if none helps, the next try follows
    /// until the deadline, or a session that never stood is given up.
    pub fn handle_no_link(&mut self, error: &LinkError, state: &mut SessionState, now: Instant) {
        self.next_build = now + REBUILD_PAUSE;
        match error {
            LinkError::Ended(end) => self.handle_end(*end, state, now),
            LinkError::NoAnswer { .. } => {
                self.lose(now);
                self.fail(error, state);
            }
            LinkError::Setup(_) => state.handle_connect_failed(error.page_text()),
        }
    }

    /// The gateway, or the tunnel itself, said that it is over.
    pub fn handle_end(&mut self, end: LinkEnd, state: &mut SessionState, now: Instant) {
        match end {
            // The session itself goes on: through another gateway, or the same one later.
            LinkEnd::Told(EndCode::GatewayStopped | EndCode::Moved) => {
                self.lose(now);
                state.handle_link_lost();
            }
            // The gateway is there and has forgotten the connection; it has its grants back.
            LinkEnd::Lost => {
                self.next_build = self.next_build.max(now);
                state.handle_link_lost();
            }
            // Revoked, say, while the tunnel was being made: the portal is asked, and knows.
            LinkEnd::Unexplained => {
                self.lose(now);
                state.handle_link_lost();
                self.fail(&LinkError::Ended(end), state);
            }
            LinkEnd::Told(code) => {
                self.tells_portal = false;
                state.handle_ended(code.into());
            }
            LinkEnd::Ours => {}
            LinkEnd::Failed => state.handle_broken(LinkError::Ended(LinkEnd::Failed).page_text()),
        }
    }

    /// The tunnel found a way, or waits for an answer.
    pub fn handle_outlook(outlook: Outlook, state: &mut SessionState, now: Instant) {
        match outlook {
            Outlook::Standing(_) => state.handle_linked(now),
            Outlook::Searching => state.handle_doubt(Doubt::Silent),
            // Every way was tried: another gateway may be the better choice.
            Outlook::Dead => state.handle_link_lost(),
        }
    }

    /// How the tunnel stands, as was looked after once a second.
    pub fn handle_watched(outlook: Outlook, state: &mut SessionState, now: Instant) {
        match outlook {
            Outlook::Standing(_) => state.handle_linked(now),
            Outlook::Searching | Outlook::Dead => state.handle_link_lost(),
        }
    }

    /// The portal would not let the session go on elsewhere. `sentence` is for the user.
    pub fn handle_refused(
        &mut self,
        code: RefusalCode,
        sentence: String,
        state: &mut SessionState,
        now: Instant,
    ) {
        match code {
            RefusalCode::SessionOver | RefusalCode::NotFound => {
                self.tells_portal = false;
                state.handle_broken(sentence);
            }
            RefusalCode::Revoked | RefusalCode::NoDevice => {
                self.tells_portal = false;
                state.handle_ended(EndReason::Revoked);
            }
            RefusalCode::Closed
            | RefusalCode::WrongCode
            | RefusalCode::TooManyDevices
            | RefusalCode::TooManyRequests
            | RefusalCode::BadRequest
            | RefusalCode::Unavailable => self.stay(sentence, state, now),
        }
    }

    /// No other gateway helps: the own one is tried again first. A session that never stood
    /// is given up.
    pub fn stay(&mut self, sentence: String, state: &mut SessionState, now: Instant) {
        state.handle_connect_failed(sentence);
        self.is_lost = false;
        self.seek_at = now + SEEK_PAUSE;
    }

    /// The link is gone, or did not come about.
    fn lose(&mut self, now: Instant) {
        self.is_lost = true;
        self.next_build = self.next_build.max(now);
    }

    fn fail(&mut self, error: &LinkError, state: &mut SessionState) {
        self.in_vain += 1;
        if self.in_vain >= GATEWAYS_TO_BEGIN {
            state.handle_connect_failed(error.page_text());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session_state::{Session, State};
    use protocol::SessionId;
    use time::macros::datetime;
    use uuid::Uuid;

    const NO_ANSWER: LinkError = LinkError::NoAnswer { sentence: None };

    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other constructor"
    )]
    fn granted() -> (SessionState, Instant) {
        let now = Instant::now() + Duration::from_secs(100_000);
        let mut state = SessionState::new(State::Ready { problem: None });
        assert!(state.connect());
        let session = Session {
            id: SessionId::from_uuid(Uuid::from_u128(1)),
            ends_at: now + Duration::from_secs(90 * 60),
            ends_at_wall: datetime!(2026-11-20 11:30 +9),
            will_end: EndReason::TimeLimit,
            portal_url: "https://portal.example.jp/".into(),
            code_mailed_to: None,
        };
        assert!(state.handle_granted(session, now));
        (state, now)
    }

    #[test]
    fn a_session_that_never_stood_is_given_up_after_three_gateways() {
        let (mut state, now) = granted();
        let mut pursuit = Pursuit::new(now);
        for _ in 1..GATEWAYS_TO_BEGIN {
            pursuit.handle_no_link(&NO_ANSWER, &mut state, now);
            assert!(state.state().session().is_some());
            assert!(pursuit.wants_another(None, now));
            pursuit = Pursuit::after(&pursuit, now);
        }
        pursuit.handle_no_link(&NO_ANSWER, &mut state, now);
        assert!(matches!(state.state(), State::Ended { .. }));
    }

    #[test]
    fn a_session_that_stood_is_never_given_up_before_its_deadline() {
        let (mut state, mut now) = granted();
        let mut pursuit = Pursuit::new(now);
        pursuit.handle_linked(&mut state, now);
        pursuit.handle_end(LinkEnd::Lost, &mut state, now);
        for _ in 0..100 {
            now = now.max(pursuit.poll_timeout(true));
            assert!(pursuit.wants_link(now) || pursuit.wants_another(None, now));
            pursuit.handle_no_link(&NO_ANSWER, &mut state, now);
            pursuit.stay(String::new(), &mut state, now);
            assert!(matches!(state.state(), State::Reconnecting(_)));
        }
    }

    #[test]
    fn the_own_gateway_is_tried_again_when_no_other_helped() {
        let (mut state, now) = granted();
        let mut pursuit = Pursuit::new(now);
        pursuit.handle_linked(&mut state, now);
        pursuit.handle_end(LinkEnd::Told(EndCode::GatewayStopped), &mut state, now);
        assert!(pursuit.wants_another(None, now));
        pursuit.stay(String::new(), &mut state, now);
        assert!(!pursuit.wants_another(None, now + SEEK_PAUSE));
        assert!(pursuit.wants_link(now));
        // A tunnel that stands without a way is another matter, as soon as the pause is over.
        let dead = Some(Outlook::Dead);
        assert!(!pursuit.wants_another(dead, now + SEEK_PAUSE / 2));
        assert!(pursuit.wants_another(dead, now + SEEK_PAUSE));
    }

    #[test]
    fn the_portal_is_not_told_of_an_end_that_it_told_itself() {
        for code in [RefusalCode::SessionOver, RefusalCode::Revoked] {
            let (mut state, now) = granted();
            let mut pursuit = Pursuit::new(now);
            pursuit.handle_refused(code, "だめでした。".to_owned(), &mut state, now);
            assert!(state.state().session().is_none());
            assert!(!pursuit.tells_portal());
        }
        let (mut state, now) = granted();
        let mut pursuit = Pursuit::new(now);
        pursuit.handle_linked(&mut state, now);
        let busy = RefusalCode::Unavailable;
        pursuit.handle_refused(busy, String::new(), &mut state, now);
        assert!(state.state().session().is_some());
        assert!(pursuit.tells_portal());
    }
}
