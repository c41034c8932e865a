//! What pages cannot show: steps that come too late, and corrected filings that race.

use http::StatusCode;
use serde_json::json;

use super::*;
use crate::ids::StaffId;
use crate::testing::world::corpus;
use crate::testing::{NOW, worlds};

fn id_of(path: &str) -> FilingId {
    path.trim_start_matches("/filings/").parse().unwrap()
}

#[tokio::test]
async fn a_step_from_a_state_that_has_passed_is_not_written() {
    for world in worlds().await {
        let app = &world.app;
        let id = id_of(&world.alice.file("20260313_0123_資格取得届.pdf").await);
        let (member, sato) = (
            world.alice.as_member().await,
            world.sato.as_reviewer().await,
        );
        let seen = find_own(app.db.pool(), &member, id).await.unwrap().unwrap();
        let withdrawal = seen.withdraw(NOW).unwrap();
        let taking = seen.take(sato.id(), NOW).unwrap();

        let mut tx = app.db.begin().await.unwrap();
        assert_eq!(save_review(&mut tx, &sato, &taking).await.unwrap(), Ok(()));
        Db::commit(tx).await.unwrap();
        let mut tx = app.db.begin().await.unwrap();
        let late = save_own(&mut tx, &member, &withdrawal).await.unwrap();
        assert_eq!(late, Err(StepError::Moved));
        Db::commit(tx).await.unwrap();

        let now = find_own(app.db.pool(), &member, id).await.unwrap().unwrap();
        assert_eq!(now.state, taking.after.state);
        let entries = timeline(&app.db, &now).await.unwrap();
        let events: Vec<_> = entries.iter().map(|entry| entry.event).collect();
        assert_eq!(events, [Event::Received, Event::Taken]);
    }
}

#[tokio::test]
async fn a_step_counts_only_for_the_reviewer_it_was_decided_for() {
    for world in worlds().await {
        let app = &world.app;
        let id = id_of(&world.alice.file("20260313_0123_資格取得届.pdf").await);
        let sato = world.sato.as_reviewer().await;
        world.suzuki.post(&format!("/filings/{id}/take"), &[]).await;
        let filing = find_for_review(app.db.pool(), &sato, id)
            .await
            .unwrap()
            .unwrap();
        // A step made from a state in which Sato had it, which never was.
        let imagined = Filing {
            state: State::InReview {
                reviewer: sato.id(),
            },
            ..filing
        };
        let step = imagined.decide(sato.id(), NOW).unwrap();
        let mut tx = app.db.begin().await.unwrap();
        let saved = save_review(&mut tx, &sato, &step).await.unwrap();
        assert_eq!(saved, Err(StepError::Moved));
    }
}

#[tokio::test]
async fn of_two_corrections_at_once_one_takes_the_returned_filings_place() {
    for world in worlds().await {
        let alice = &world.alice;
        let filing = alice.file("20260313_0123_資格取得届.pdf").await;
        world.sato.post(&format!("{filing}/take"), &[]).await;
        let fields = [("code", "illegible")];
        world.sato.post(&format!("{filing}/return"), &fields).await;
        let mut rivals = Vec::new();
        for (name, file) in [
            (
                "20250402_0123_資格取得届.pdf",
                "good/20250402_0123_資格取得届.pdf",
            ),
            (
                "20240229_0123_資格喪失届.pdf",
                "good/20240229_0123_資格喪失届.pdf",
            ),
        ] {
            let upload = alice.upload(name, corpus(file)).await;
            let body = json!({ "files": [{ "upload": upload }], "replaces": id_of(&filing) });
            let alice = alice.clone();
            rivals.push(tokio::spawn(async move {
                alice.post_json("/filings", &body).await.0
            }));
        }
        let mut statuses = Vec::new();
        for rival in rivals {
            statuses.push(rival.await.unwrap());
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [StatusCode::CREATED, StatusCode::CONFLICT]);
        let member = alice.as_member().await;
        let all = history(&world.app.db, &member, &Search::default()).await;
        assert_eq!(all.unwrap().total, 2);
    }
}

#[tokio::test]
async fn a_filing_keeps_the_reason_it_was_returned_for() {
    for world in worlds().await {
        let app = &world.app;
        let id = id_of(&world.alice.file("20260313_0123_資格取得届.pdf").await);
        let sato = world.sato.as_reviewer().await;
        let received = find_for_review(app.db.pool(), &sato, id).await.unwrap();
        let taking = received.unwrap().take(sato.id(), NOW).unwrap();
        let reason = ReturnReason::parse("other", "一行目\n二行目").unwrap();
        let step = taking.after.give_back(sato.id(), reason.clone(), NOW);
        let mut tx = app.db.begin().await.unwrap();
        for step in [&taking, &step.unwrap()] {
            save_review(&mut tx, &sato, step).await.unwrap().unwrap();
        }
        Db::commit(tx).await.unwrap();
        let read = find_for_review(app.db.pool(), &sato, id).await.unwrap();
        let reviewer: StaffId = sato.id();
        let state = State::Returned { reviewer, reason };
        assert_eq!(read.unwrap().state, state);
    }
}
