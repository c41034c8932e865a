//! What is said beside the window: the warnings before a session's end, and an end that the
//! user did not ask for. The window may be behind others, or show the fund's pages.
//!
//! Each is said once. What is shown is decided by [`SessionState`]; this only repeats it.

use access::EndReason;

use super::EventLoop;
use crate::os::{Notification, Urgency};
use crate::session_state::{Notice, SessionState, State};

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    notice: Option<Notice>,
    had_session: bool,
}

impl Announcements {
    /// What is to be said now that things stand as in `state`. `who` names the establishment.
    fn next(&mut self, state: &SessionState, who: Option<&str>) -> Option<Notification> {
        let signed = |text: &str| match who {
            Some(who) => format!("{text}（{who}）"),
            None => text.to_owned(),
        };
        let has_session = state.state().session().is_some();
        let had_session = std::mem::replace(&mut self.had_session, has_session);
        let notice = state.notice().filter(|_| has_session);
        let said = std::mem::replace(&mut self.notice, notice);
        match (notice, state.state()) {
            (Some(notice), _) if said != Some(notice) => Some(Notification {
                title: signed(&format!("電子連携サービス：{}", notice.title())),
                body: notice.page_text().to_owned(),
                urgency: Urgency::High,
            }),
            (_, State::Ended { sentence })
                if had_session && sentence != EndReason::Disconnected.page_text() =>
            {
                Some(Notification {
                    title: signed("電子連携サービス：接続は終了しました"),
                    body: sentence.clone(),
                    urgency: Urgency::Normal,
                })
            }
            _ => None,
        }
    }
}

impl EventLoop {
    /// Says what is new.
    pub(super) fn announce(&mut self) {
        let enrolled = self.enrolment.as_ref().and_then(|found| found.enrolled());
        let who = enrolled.map(|enrolled| enrolled.establishment_name.as_str());
        if let Some(notification) = self.announcements.next(&self.state, who) {
            self.senses.notifier.notify(&notification);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session_state::Session;
    use std::time::{Duration, Instant};
    use time::macros::datetime;

    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other constructor"
    )]
    fn origin() -> Instant {
        Instant::now()
    }

    /// A session of eleven minutes that stands.
    fn connected(now: Instant) -> SessionState {
        let mut state = SessionState::new(State::Ready { problem: None });
        state.connect();
        let session = Session {
            id: protocol::SessionId::from_uuid(uuid::Uuid::from_u128(1)),
            ends_at: now + Duration::from_secs(11 * 60),
            ends_at_wall: datetime!(2026-11-20 11:30 +9),
            will_end: EndReason::TimeLimit,
            portal_url: "https://portal.example.jp/".into(),
            code_mailed_to: None,
        };
        assert!(state.handle_granted(session, now));
        state.handle_linked(now);
        state
    }

    #[test]
    fn both_warnings_and_the_end_are_said_once_each() {
        let now = origin();
        let mut state = connected(now);
        let mut announcements = Announcements::default();
        let mut said = Vec::new();
        for second in 0..12 * 60 {
            state.handle_timeout(now + Duration::from_secs(second));
            // Closing it on the page says nothing anew.
            if second % 7 == 0 {
                state.dismiss_notice();
            }
            let next = announcements.next(&state, Some("株式会社見本"));
            said.extend(next.map(|notification| (second, notification.title)));
        }
        assert_eq!(
            said,
            [
                (60, "電子連携サービス：残り10分（株式会社見本）".to_owned()),
                (540, "電子連携サービス：残り2分（株式会社見本）".to_owned()),
                (
                    660,
                    "電子連携サービス：接続は終了しました（株式会社見本）".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn an_end_that_the_user_asked_for_is_not_said() {
        let mut state = connected(origin());
        let mut announcements = Announcements::default();
        assert_eq!(announcements.next(&state, None), None);
        state.disconnect();
        assert_eq!(announcements.next(&state, None), None);
    }

    #[test]
    fn a_session_that_the_fund_ended_is_said_with_its_reason() {
        let mut state = connected(origin());
        let mut announcements = Announcements::default();
        announcements.next(&state, None);
        state.handle_ended(EndReason::Revoked);
        let said = announcements.next(&state, None).map(|said| said.body);
        assert_eq!(said.as_deref(), Some(EndReason::Revoked.page_text()));
        assert_eq!(announcements.next(&state, None), None);
    }
}
