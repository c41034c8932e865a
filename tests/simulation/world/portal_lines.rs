//! The lines between the gateways and the portal: the feed, what it brings, and the reports
//! that go back.

use std::time::Duration;

use gateway::grants::from_unix_ms;
use protocol::control::FeedLine;
use time::OffsetDateTime;

use super::{Happening, Input, World};
use crate::gateway::Feed;
use crate::portal::Change;
use crate::random::draw;
use crate::steps::GATEWAYS;

/// How often a report that did not get through is repeated, and an asker is told that
/// nobody answers.
pub(super) const RETRY: Duration = Duration::from_secs(1);

impl World {
    pub(super) fn wall(&self) -> OffsetDateTime {
        self.start + self.t
    }

    pub(super) fn portal_is_up(&self) -> bool {
        self.portal_back_at.is_none()
    }

    pub(super) fn portal_changed(&mut self, changes: &[Change]) {
        for change in changes {
            match *change {
                Change::Ended(session) => self.model.ended(session, self.t),
                Change::Shortened(session, deadline_ms) => {
                    self.model.shortened(session, deadline_ms, self.t);
                    self.tally.count("a session was shortened");
                }
            }
        }
        // Word goes round inside one portal at once; what another portal of the fund wrote
        // is found at the next look.
        self.serial += 1;
        if draw(self.seed, 55, self.serial).chance(500) {
            for gateway in 0..GATEWAYS {
                self.look(gateway, false);
            }
        }
    }

    pub(super) fn look(&mut self, gateway: usize, ticked: bool) {
        if self.portal_is_up()
            && let Some(connection) = self.gateways[gateway].connection()
        {
            for line in self.portal.look(gateway, ticked, self.wall()) {
                self.send_line(gateway, connection, line);
            }
        }
    }

    pub(super) fn send_line(&mut self, gateway: usize, connection: u64, line: FeedLine) {
        let program = &mut self.gateways[gateway];
        let arrival = (self.t + program.feed_delay).max(program.last_arrival);
        program.last_arrival = arrival;
        self.at(
            arrival,
            Happening::Line(gateway, connection, Box::new(line)),
        );
    }

    /// A line arrives, unless the connection is gone; while the line is cut it waits.
    pub(super) fn line(&mut self, gateway: usize, connection: u64, line: Box<FeedLine>) {
        let program = &mut self.gateways[gateway];
        if program.core.is_none() || program.connection() != Some(connection) {
            return;
        }
        let blocked = [program.cut_until, program.stalled_until];
        if let Some(until) = blocked
            .into_iter()
            .flatten()
            .filter(|until| *until > self.t)
            .max()
        {
            let arrival = (until + program.feed_delay).max(program.last_arrival);
            program.last_arrival = arrival;
            return self.at(arrival, Happening::Line(gateway, connection, line));
        }
        if program.gives_up(self.t) {
            self.portal.hang_up(gateway);
            return self.touched(gateway);
        }
        match (*line, program.feed) {
            (
                FeedLine::Snapshot {
                    server_time_ms,
                    grants,
                },
                _,
            ) => {
                program.feed = Feed::Live(connection, self.t);
                let said_at = at(server_time_ms);
                self.tally.count("snapshots taken over");
                self.at_gateway(gateway, Input::Snapshot(grants, said_at));
                self.touched(gateway);
            }
            (_, Feed::Asked(..) | Feed::Lost(_)) => {}
            (
                FeedLine::Granted {
                    server_time_ms,
                    grant,
                },
                Feed::Live(..),
            ) => {
                program.feed = Feed::Live(connection, self.t);
                self.at_gateway(gateway, Input::Install(grant, at(server_time_ms)));
            }
            (
                FeedLine::Ended {
                    session,
                    through,
                    reason,
                },
                Feed::Live(..),
            ) => {
                program.feed = Feed::Live(connection, self.t);
                self.at_gateway(gateway, Input::End(session, through, reason));
            }
            (FeedLine::Heartbeat { .. }, Feed::Live(..)) => {
                program.feed = Feed::Live(connection, self.t);
            }
        }
    }

    /// Looks anew whether a gateway is in touch with the portal.
    pub(super) fn touched(&mut self, gateway: usize) {
        let program = &self.gateways[gateway];
        let live = program.live_connection().is_some()
            && program.runs(self.t)
            && program.is_linked(self.t)
            && self.portal_is_up();
        let since = self.model.in_touch_since(gateway);
        let since = live.then(|| since.unwrap_or(self.t));
        self.model.in_touch(gateway, since);
    }

    pub(super) fn report(&mut self, gateway: usize, life: u64) {
        let program = &mut self.gateways[gateway];
        if program.life != life || program.core.is_none() || program.reports.is_empty() {
            return;
        }
        if !program.is_linked(self.t) || self.portal_back_at.is_some() {
            return self.soon(RETRY, Happening::Report(gateway, life));
        }
        for ended in std::mem::take(&mut program.reports) {
            let changes = self.portal.take_report(gateway, &ended, self.wall());
            self.portal_changed(&changes);
        }
    }
}

/// A date of the portal's.
pub(super) fn at(ms: i64) -> OffsetDateTime {
    from_unix_ms(ms).expect("the portal's dates are dates")
}
