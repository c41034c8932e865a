//! The agent's states, driven through a day with a clock of its own.

use super::*;
use time::macros::datetime;
use uuid::Uuid;

/// A core that is woken only when it asks for it.
struct Desk {
    core: SessionState,
    now: Instant,
    shown: Vec<Notice>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other constructor"
)]
fn some_instant() -> Instant {
    Instant::now() + Duration::from_secs(100_000)
}

fn session(ends_at: Instant) -> Session {
    Session {
        id: SessionId::from_uuid(Uuid::from_u128(1)),
        ends_at,
        ends_at_wall: datetime!(2026-11-20 11:30 +9),
        will_end: EndReason::TimeLimit,
        portal_url: "https://portal.example.jp/".into(),
        code_mailed_to: None,
    }
}

impl Desk {
    fn ready() -> Self {
        Self {
            core: SessionState::new(State::Ready { problem: None }),
            now: some_instant(),
            shown: Vec::new(),
        }
    }

    fn connected(minutes: u64) -> Self {
        let mut desk = Self::ready();
        assert!(desk.core.connect());
        let ends_at = desk.now + Duration::from_secs(60 * minutes);
        assert!(desk.core.handle_granted(session(ends_at), desk.now));
        desk.core.handle_linked(desk.now);
        desk.look();
        desk
    }

    fn look(&mut self) {
        if let Some(notice) = self.core.notice() {
            self.core.dismiss_notice();
            self.shown.push(notice);
        }
    }

    fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(wake) = self.core.poll_timeout().filter(|wake| *wake <= until) {
            assert!(wake >= self.now, "wakes in the past spin");
            self.now = wake;
            self.core.handle_timeout(wake);
            self.look();
        }
        self.now = until;
    }

    fn is_connected(&self) -> bool {
        matches!(self.core.state(), State::Connected(_))
    }
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

#[test]
fn both_warnings_come_once_and_in_time() {
    let mut desk = Desk::connected(90);
    desk.pass(minutes(80) - Duration::from_nanos(1));
    assert_eq!(desk.shown, []);
    desk.pass(Duration::from_nanos(1));
    assert_eq!(desk.shown, [Notice::TenMinutes]);
    desk.pass(minutes(8) - Duration::from_nanos(1));
    assert_eq!(desk.shown, [Notice::TenMinutes]);
    desk.pass(minutes(1));
    assert_eq!(desk.shown, [Notice::TenMinutes, Notice::TwoMinutes]);
}

#[test]
fn a_short_session_is_warned_of_what_is_true_at_its_start() {
    assert_eq!(Desk::connected(5).shown, [Notice::TenMinutes]);
    assert_eq!(Desk::connected(1).shown, [Notice::TwoMinutes]);
}

#[test]
fn after_a_long_sleep_only_the_latest_warning_is_shown() {
    let mut desk = Desk::connected(90);
    desk.now += minutes(89);
    desk.core.handle_timeout(desk.now);
    assert_eq!(desk.core.notice(), Some(Notice::TwoMinutes));
    desk.look();
    desk.core.handle_timeout(desk.now);
    assert_eq!(desk.core.notice(), None);
}

#[test]
fn a_lost_and_regained_tunnel_does_not_warn_again() {
    let mut desk = Desk::connected(9);
    desk.core.handle_link_lost();
    desk.core.handle_linked(desk.now);
    desk.look();
    assert_eq!(desk.shown, [Notice::TenMinutes]);
}

#[test]
fn the_deadline_ends_the_session_to_the_nanosecond() {
    let mut desk = Desk::connected(90);
    desk.pass(minutes(90) - Duration::from_nanos(1));
    assert!(desk.is_connected());
    desk.pass(Duration::from_nanos(1));
    assert_eq!(
        *desk.core.state(),
        State::Ended {
            sentence: EndReason::TimeLimit.page_text().into()
        }
    );
    assert_eq!(desk.core.poll_timeout(), None);
}

#[test]
fn the_deadline_also_ends_a_session_whose_tunnel_is_lost_or_not_yet_made() {
    let mut lost = Desk::connected(90);
    lost.core.handle_link_lost();
    lost.pass(minutes(90));
    assert!(matches!(lost.core.state(), State::Ended { .. }));
    let mut linking = Desk::ready();
    linking.core.connect();
    linking
        .core
        .handle_granted(session(linking.now + minutes(1)), linking.now);
    linking.pass(minutes(1));
    linking.core.handle_linked(linking.now);
    assert!(matches!(linking.core.state(), State::Ended { .. }));
}

#[test]
fn no_wall_clock_and_no_portal_lengthens_a_session() {
    let now = some_instant();
    let server = datetime!(2026-11-20 10:00 +9);
    let ends = |deadline| Session::ends(deadline, server, now);
    assert_eq!(ends(datetime!(2026-11-20 10:10 +9)), now + minutes(10));
    assert_eq!(ends(datetime!(2027-11-20 10:10 +9)), now + SESSION_LIMIT);
    assert_eq!(ends(datetime!(2026-11-20 09:59 +9)), now);
}

#[test]
fn a_grant_that_nobody_wants_any_more_is_not_used() {
    let mut desk = Desk::ready();
    desk.core.connect();
    desk.core.disconnect();
    assert_eq!(*desk.core.state(), State::Ready { problem: None });
    assert!(
        !desk
            .core
            .handle_granted(session(desk.now + minutes(90)), desk.now)
    );
    assert_eq!(desk.core.state().session(), None);
}

#[test]
fn what_the_gateway_says_ends_the_session_with_its_reason() {
    let mut desk = Desk::connected(90);
    desk.core.handle_ended(EndReason::Revoked);
    assert_eq!(
        *desk.core.state(),
        State::Ended {
            sentence: EndReason::Revoked.page_text().into()
        }
    );
    // A word that comes after the end changes nothing.
    desk.core.handle_ended(EndReason::TimeLimit);
    desk.core.handle_link_lost();
    desk.core.handle_linked(desk.now);
    assert!(matches!(desk.core.state(), State::Ended { .. }));
    assert!(desk.core.connect(), "a new session may be asked for");
}

#[test]
fn nobody_connects_twice_or_before_the_approval() {
    assert!(!Desk::connected(90).core.connect());
    for state in [
        State::Unenrolled { problem: None },
        State::Enrolling {
            from: Box::new(State::Ready { problem: None }),
        },
        State::Pending { problem: None },
        State::Asking,
    ] {
        assert!(!SessionState::new(state).connect());
    }
}

#[test]
fn an_enrolment_goes_its_way() {
    let mut core = SessionState::new(State::Unenrolled { problem: None });
    assert!(core.enrol());
    assert!(!core.enrol(), "one request at a time");
    core.handle_enrolment_failed("だめでした。".into());
    assert_eq!(
        *core.state(),
        State::Unenrolled {
            problem: Some("だめでした。".into())
        }
    );
    assert!(core.enrol());
    core.handle_enrolment_opened();
    core.handle_still_pending(Some("届きません。".into()));
    core.handle_still_pending(None);
    assert_eq!(*core.state(), State::Pending { problem: None });
    core.handle_approved();
    assert_eq!(*core.state(), State::Ready { problem: None });
}

#[test]
fn a_refused_enrolment_leads_back_to_the_form() {
    let mut core = SessionState::new(State::Pending { problem: None });
    core.handle_enrolment_refused("お断りします。".into());
    assert!(!core.connect());
    assert!(core.enrol());
}

#[test]
fn when_the_service_opens_the_refusal_goes_away() {
    let service = |open| Service {
        open,
        sentence: None,
        next_opening: None,
        rehearsal: false,
    };
    let mut desk = Desk::ready();
    desk.core.connect();
    let next = Some(datetime!(2026-11-24 8:00 +9));
    desk.core.handle_refused("本日は祝日です。".into(), next);
    desk.core.handle_service(service(false));
    assert!(matches!(desk.core.state(), State::Refused { .. }));
    desk.core.handle_service(service(true));
    assert_eq!(*desk.core.state(), State::Ready { problem: None });
    // A revoked device is not helped by an open service.
    desk.core.connect();
    desk.core.handle_refused("停止しています。".into(), None);
    desk.core.handle_service(service(true));
    assert!(matches!(desk.core.state(), State::Refused { .. }));
}

#[test]
fn a_second_enrolment_that_fails_takes_nothing_away() {
    let mut core = SessionState::new(State::Ready { problem: None });
    assert!(core.enrol());
    assert!(!core.connect());
    core.handle_enrolment_failed("だめでした。".into());
    let problem = Some("だめでした。".into());
    assert_eq!(*core.state(), State::Ready { problem });
    assert!(core.connect());
}

#[test]
fn the_gateway_can_bring_the_end_nearer_and_never_put_it_off() {
    let mut desk = Desk::connected(90);
    let granted = datetime!(2026-11-20 11:30 +9);
    let later = granted + minutes(10);
    desk.core
        .handle_deadline(later, EndReason::ClosingTime, desk.now);
    assert_eq!(desk.core.poll_timeout(), Some(desk.now + minutes(80)));
    let earlier = granted - minutes(85);
    desk.core
        .handle_deadline(earlier, EndReason::ClosingTime, desk.now);
    desk.look();
    assert_eq!(desk.shown, [Notice::TenMinutes]);
    desk.pass(minutes(5));
    assert_eq!(
        *desk.core.state(),
        State::Ended {
            sentence: EndReason::ClosingTime.page_text().into()
        }
    );
}

#[test]
fn another_gateway_gives_a_session_no_more_time_and_no_new_warning() {
    let mut desk = Desk::connected(9);
    desk.core.handle_link_lost();
    let longer = session(desk.now + minutes(90));
    assert!(desk.core.handle_moved(&longer, desk.now));
    desk.core.handle_linked(desk.now);
    desk.look();
    assert_eq!(desk.shown, [Notice::TenMinutes]);
    desk.pass(minutes(9));
    assert!(matches!(desk.core.state(), State::Ended { .. }));
}

#[test]
fn another_gateway_may_bring_the_end_nearer_and_say_why() {
    let mut desk = Desk::connected(90);
    let nearer = Session {
        ends_at: desk.now + minutes(20),
        ends_at_wall: datetime!(2026-11-20 10:20 +9),
        will_end: EndReason::ClosingTime,
        ..session(desk.now)
    };
    assert!(desk.core.handle_moved(&nearer, desk.now));
    assert!(!desk.is_connected(), "the tunnel to it is still to be made");
    desk.core.handle_linked(desk.now);
    desk.pass(minutes(20));
    let sentence = EndReason::ClosingTime.page_text().into();
    assert_eq!(*desk.core.state(), State::Ended { sentence });
}

#[test]
fn a_move_that_comes_after_the_end_or_for_another_session_changes_nothing() {
    let mut desk = Desk::connected(90);
    let other = Session {
        id: SessionId::from_uuid(Uuid::from_u128(2)),
        ..session(desk.now + minutes(1))
    };
    assert!(!desk.core.handle_moved(&other, desk.now));
    assert!(desk.is_connected());
    desk.core.disconnect();
    let own = session(desk.now + minutes(90));
    assert!(!desk.core.handle_moved(&own, desk.now));
    assert!(matches!(desk.core.state(), State::Ended { .. }));
}

#[test]
fn an_overdue_answer_is_not_called_connected_and_an_answer_is() {
    let mut desk = Desk::connected(90);
    desk.core.handle_doubt(Doubt::Silent);
    assert!(!desk.is_connected());
    assert_eq!(desk.core.doubt(), Doubt::Silent);
    desk.core.handle_linked(desk.now);
    assert!(desk.is_connected());
}

#[test]
fn what_the_system_told_is_not_hidden_by_silence_and_the_latest_of_it_rules() {
    let mut desk = Desk::connected(90);
    desk.core.handle_doubt(Doubt::Silent);
    desk.core.handle_link_lost();
    assert_eq!(desk.core.doubt(), Doubt::Lost);
    for told in [Doubt::Offline, Doubt::Back, Doubt::Woke, Doubt::Moved] {
        desk.core.handle_doubt(told);
        desk.core.handle_link_lost();
        desk.core.handle_doubt(Doubt::Silent);
        assert_eq!(desk.core.doubt(), told);
    }
    // The next doubt begins anew.
    desk.core.handle_linked(desk.now);
    desk.core.handle_doubt(Doubt::Silent);
    assert_eq!(desk.core.doubt(), Doubt::Silent);
}

#[test]
fn a_doubt_makes_no_session_of_none_and_lengthens_none() {
    let mut desk = Desk::ready();
    for doubt in [Doubt::Silent, Doubt::Offline, Doubt::Woke] {
        desk.core.handle_doubt(doubt);
        assert_eq!(*desk.core.state(), State::Ready { problem: None });
    }
    let mut desk = Desk::connected(5);
    desk.core.handle_doubt(Doubt::Woke);
    desk.pass(minutes(5));
    assert_eq!(
        *desk.core.state(),
        State::Ended {
            sentence: EndReason::TimeLimit.page_text().into()
        }
    );
}

#[test]
fn a_pc_that_slept_past_the_deadline_says_so_when_it_is_looked_at_first() {
    let mut desk = Desk::connected(90);
    // Nothing ran meanwhile: one look, hours later.
    desk.core.handle_timeout(desk.now + minutes(600));
    assert!(matches!(desk.core.state(), State::Ended { .. }));
    assert_eq!(desk.core.notice(), None);
}
