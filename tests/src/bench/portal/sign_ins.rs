//! Everybody signs in at the same moment: 555 users, each at his own PC, on the real pages
//! with password and authenticator.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use super::cost::{Cost, Meter};
use super::door::Door;
use super::fund::Fund;
use crate::bench::now;
use crate::stage::Stage;

/// How long all of them may take.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) people: usize,
    /// Until the last one was on the home page.
    pub(super) all: Duration,
    /// One of them, from the first request to the home page.
    pub(super) median: Duration,
    pub(super) cost: Cost,
    /// Their ways to the portal, still open.
    pub(super) doors: Vec<Door>,
    /// The index of each door's person.
    whose: Vec<usize>,
}

impl Found {
    /// The numbers of the establishments whose people stand at the doors.
    pub(super) fn numbers(&self, fund: &Fund) -> Vec<String> {
        self.whose
            .iter()
            .map(|person| fund.places[fund.people[*person].at].number.to_string())
            .collect()
    }
}

/// Lets everybody sign in; fails if one of them cannot.
pub(super) async fn all_at_once(
    stage: &Stage,
    fund: &Fund,
    processes: BTreeMap<&'static str, u32>,
    folder: &Path,
) -> Result<Found> {
    let mut doors = Vec::new();
    for person in fund.clerks() {
        doors.push(Door::open(stage, fund, person).await?);
    }
    let meter = Meter::start(processes, folder)?;
    let begun = now();
    let mut going = JoinSet::new();
    for (at, (door, person)) in doors.into_iter().zip(fund.clerks()).enumerate() {
        let person = person.clone();
        going.spawn(async move {
            let begun = now();
            door.sign_in(&person).await?;
            anyhow::Ok((door, at, begun.elapsed()))
        });
    }
    let (mut doors, mut whose, mut took) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(done) = going.join_next().await {
        let (door, at, time) = done??;
        doors.push(door);
        whose.push(at);
        took.push(time);
    }
    let all = begun.elapsed();
    let cost = meter.stop()?;
    ensure!(doors.len() == fund.clerks().len(), "somebody is missing");
    took.sort();
    Ok(Found {
        people: doors.len(),
        all,
        median: took[took.len() / 2],
        cost,
        doors,
        whose,
    })
}
