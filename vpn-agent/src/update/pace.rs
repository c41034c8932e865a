//! When an update is looked for, fetched and put in place: never in anybody's way.
//!
//! Pure: [`super::event_loop`] tells it each second what it sees. Looked for while connected;
//! fetched only while next to nothing moves through the tunnel, so that no upload shares its
//! line; put in place only while no session runs, and not before the user could read why the
//! last one ended.

use std::time::{Duration, Instant};

use protocol::SessionId;

/// How long a session stands before the portal is asked: the first pages come first.
pub const CHECK_AFTER: Duration = Duration::from_secs(5);

/// How often it is asked again.
pub const CHECK_AGAIN: Duration = Duration::from_secs(30 * 60);

/// When it is asked again after something went wrong on the way.
pub const CHECK_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// What may move from one look to the next and still count as nothing: the pages' own signs
/// of life.
pub const QUIET_BYTES: u64 = 16 * 1024;

/// How long nothing must have moved.
pub const QUIET_FOR: Duration = Duration::from_secs(4);

/// How long the agent must have been at rest before it makes way for the next.
pub const REST_FOR: Duration = Duration::from_secs(20);

/// What is seen at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The session whose tunnel stands.
    pub session: Option<SessionId>,
    /// No session runs or comes about, and the user is not in the middle of anything.
    pub resting: bool,
    /// Bytes that have passed the proxy since the start, both ways.
    pub moved_bytes: u64,
}

/// What was seen so far.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    moved_bytes: u64,
    session: Option<SessionId>,
    connected_since: Option<Instant>,
    quiet_since: Option<Instant>,
    resting_since: Option<Instant>,
    next_check: Option<Instant>,
}

impl Pace {
    /// Takes note of what is seen at `now`.
    pub fn see(&mut self, seen: Seen, now: Instant) {
        let moved = seen.moved_bytes.saturating_sub(self.moved_bytes);
        self.moved_bytes = seen.moved_bytes;
        let since = |kept: Option<Instant>, is_so: bool| is_so.then(|| kept.unwrap_or(now));
        if self.session != seen.session {
            // Each session asks anew, also one that follows within a second.
            self.session = seen.session;
            self.connected_since = None;
            self.next_check = None;
        }
        self.connected_since = since(self.connected_since, seen.session.is_some());
        self.quiet_since = since(self.quiet_since, moved <= QUIET_BYTES);
        self.resting_since = since(self.resting_since, seen.resting);
    }

    /// Whether the portal may be asked now.
    pub fn may_check(&self, now: Instant) -> bool {
        let has_stood = lasted(self.connected_since, CHECK_AFTER, now);
        let is_due = self.next_check.is_none_or(|next| now >= next);
        has_stood && is_due && self.may_fetch(now)
    }

    /// The portal is being asked.
    pub fn checks(&mut self, now: Instant) {
        self.next_check = Some(now + CHECK_AGAIN);
    }

    /// Something went wrong on the way.
    pub fn failed(&mut self, now: Instant) {
        self.next_check = Some(now + CHECK_AFTER_FAILURE);
    }

    /// Whether the next piece may be fetched now.
    pub fn may_fetch(&self, now: Instant) -> bool {
        self.connected_since.is_some() && lasted(self.quiet_since, QUIET_FOR, now)
    }

    /// Whether the next program may take over now.
    pub fn may_hand_over(&self, now: Instant) -> bool {
        lasted(self.resting_since, REST_FOR, now) && lasted(self.quiet_since, QUIET_FOR, now)
    }
}

fn lasted(since: Option<Instant>, how_long: Duration, now: Instant) -> bool {
    since.is_some_and(|since| now >= since + how_long)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Day {
        pace: Pace,
        now: Instant,
        seen: Seen,
        sessions: u128,
    }

    impl Day {
        #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
        fn new() -> Self {
            Self {
                pace: Pace::default(),
                now: Instant::now(),
                seen: Seen {
                    session: None,
                    resting: true,
                    moved_bytes: 0,
                },
                sessions: 0,
            }
        }

        /// Passes seconds in each of which `bytes` move.
        fn pass(&mut self, seconds: u32, bytes: u64) {
            for _ in 0..seconds {
                self.now += SECOND;
                self.seen.moved_bytes += bytes;
                self.pace.see(self.seen, self.now);
            }
        }

        fn connect(&mut self) {
            self.sessions += 1;
            let id = uuid::Uuid::from_u128(self.sessions);
            self.seen.session = Some(SessionId::from_uuid(id));
            self.seen.resting = false;
            self.pace.see(self.seen, self.now);
        }

        fn disconnect(&mut self) {
            (self.seen.session, self.seen.resting) = (None, true);
            self.pace.see(self.seen, self.now);
        }
    }

    #[test]
    fn the_portal_is_asked_once_a_session_stands_and_then_seldom() {
        let mut day = Day::new();
        day.pass(60, 0);
        assert!(!day.pace.may_check(day.now));
        day.connect();
        day.pass(4, 0);
        assert!(!day.pace.may_check(day.now));
        day.pass(1, 0);
        assert!(day.pace.may_check(day.now));
        day.pace.checks(day.now);
        day.pass(29 * 60, 0);
        assert!(!day.pace.may_check(day.now));
        day.pass(60, 0);
        assert!(day.pace.may_check(day.now));
        day.pace.checks(day.now);
        // Without a look in between at which nothing was connected.
        day.connect();
        day.pass(5, 0);
        assert!(day.pace.may_check(day.now), "another session asks anew");
    }

    #[test]
    fn nothing_is_fetched_while_an_upload_runs_nor_right_after() {
        let mut day = Day::new();
        day.connect();
        day.pass(100, 100_000);
        assert!(!day.pace.may_fetch(day.now) && !day.pace.may_check(day.now));
        day.pass(4, 0);
        assert!(!day.pace.may_fetch(day.now));
        day.pass(1, 0);
        assert!(day.pace.may_fetch(day.now));
        day.pass(1, 100_000);
        assert!(!day.pace.may_fetch(day.now));
    }

    #[test]
    fn signs_of_life_of_the_pages_are_no_transfer() {
        let mut day = Day::new();
        day.connect();
        day.pass(10, 3_000);
        assert!(day.pace.may_fetch(day.now));
    }

    #[test]
    fn nobody_is_handed_over_while_a_session_runs_however_quiet() {
        let mut day = Day::new();
        day.connect();
        day.pass(3_600, 0);
        assert!(!day.pace.may_hand_over(day.now));
        day.disconnect();
        day.pass(19, 0);
        assert!(!day.pace.may_hand_over(day.now));
        day.pass(1, 0);
        assert!(day.pace.may_hand_over(day.now));
        day.connect();
        assert!(!day.pace.may_hand_over(day.now));
    }
}
