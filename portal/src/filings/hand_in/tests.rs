//! Handing in, stopped at every moment: what `kill -9` would leave behind.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::*;
use crate::testing::NOW;
use crate::testing::world::{Browser, World, corpus};
use crate::testing::worlds;
use sqlx::Row as _;

/// A future that is dropped when it is polled once more than it may be.
struct Cut<F> {
    inner: Pin<Box<F>>,
    polls_left: usize,
}

impl<F: Future> Future for Cut<F> {
    type Output = Option<F::Output>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls_left == 0 {
            return Poll::Ready(None);
        }
        self.polls_left -= 1;
        self.inner.as_mut().poll(context).map(Some)
    }
}

async fn count(world: &World, sql: &'static str) -> i64 {
    let row = sqlx::query(sql).fetch_one(world.app.db.pool()).await;
    row.unwrap().try_get("n").unwrap()
}

async fn request(alice: &Browser) -> HandIn {
    let file = corpus("good/20240524_0123_届書一式.zip");
    let upload = alice.upload("届書一式.zip", file).await;
    HandIn {
        files: vec![HandInFile {
            upload: upload.parse().unwrap(),
            password: Some(Password::new("Rene52hsqx3ca4q2".into())),
            names: Vec::new(),
        }],
        duplicates_confirmed: true,
        duplicate_reason: "訂正のため".into(),
        replaces: None,
    }
}

/// Stops the work after its first, second, third … step, until it gets through. Each time
/// either everything was written or nothing, and asking again gives a receipt.
#[tokio::test]
async fn stopped_at_any_moment_everything_is_accepted_or_nothing() {
    let world = World::new().await;
    let member = world.alice.as_member().await;
    let mut submissions = 0;
    let mut cut_before_the_end = 0;
    for polls in (1..).step_by(3) {
        let request = request(&world.alice).await;
        let whole = Cut {
            inner: Box::pin(hand_in(&world.app, &member, &request, NOW)),
            polls_left: polls,
        };
        let ended = whole.await;
        let written = count(&world, "SELECT COUNT(*) AS n FROM submissions").await;
        assert!([submissions, submissions + 1].contains(&written));
        assert_eq!(
            count(&world, "SELECT COUNT(*) AS n FROM filings").await,
            6 * written
        );
        assert_eq!(
            count(&world, "SELECT COUNT(*) AS n FROM filing_events").await,
            6 * written
        );
        let audited = "SELECT COUNT(*) AS n FROM audit_log WHERE act = 'submitted'";
        assert_eq!(count(&world, audited).await, written);

        let again = hand_in(&world.app, &member, &request, NOW).await.unwrap();
        assert!(matches!(again, Outcome::Accepted(_)), "{again:?}");
        submissions += 1;
        let after = count(&world, "SELECT COUNT(*) AS n FROM submissions").await;
        assert_eq!(after, submissions);
        if ended.is_some() {
            break;
        }
        cut_before_the_end += 1;
    }
    assert!(cut_before_the_end > 3);

    // Every document is there, whole; what the cuts left is swept away; nothing else is left.
    let rows = sqlx::query("SELECT id FROM documents")
        .fetch_all(world.app.db.pool())
        .await
        .unwrap();
    for row in &rows {
        let id: String = row.try_get("id").unwrap();
        let document = custody::store::find(&world.app.db, id.parse().unwrap()).await;
        let document = document.unwrap().unwrap();
        let bytes = custody::read(&world.app, &document).await.unwrap();
        assert_eq!(sha256_hex(&bytes), document.sha256);
    }
    let far = time::macros::datetime!(2100-01-01 0:00 UTC);
    custody::sweep(&world.app, far).await.unwrap();
    let objects = world.app.vault.put_before(far).await.unwrap();
    assert_eq!(objects.len(), rows.len());
    audit::verify(&world.app.db, &world.app.keys).await.unwrap();
}

#[tokio::test]
async fn of_the_same_content_sent_twice_at_once_the_second_is_asked_about() {
    for world in worlds().await {
        let member = world.alice.as_member().await;
        let (mut one, mut two) = (request(&world.alice).await, request(&world.alice).await);
        (one.duplicates_confirmed, two.duplicates_confirmed) = (false, false);
        let (one, two) = tokio::join!(
            hand_in(&world.app, &member, &one, NOW),
            hand_in(&world.app, &member, &two, NOW)
        );
        let (one, two) = (one.unwrap(), two.unwrap());
        let asked = match (&one, &two) {
            (Outcome::Accepted(_), Outcome::Duplicates(asked))
            | (Outcome::Duplicates(asked), Outcome::Accepted(_)) => asked,
            _ => panic!("{one:?} and {two:?}"),
        };
        assert_eq!(asked.len(), 6);
        assert!(asked.iter().all(|filing| filing.earlier.is_some()));
        let filings = "SELECT COUNT(*) AS n FROM filings";
        assert_eq!(count(&world, filings).await, 6);
    }
}

/// What was sealed at the beginning of a very long check may be swept away before its row
/// stands: nothing is accepted, nothing is left, and the next attempt gets through.
#[tokio::test]
async fn what_was_sealed_a_day_before_it_is_written_down_is_not_accepted() {
    let world = World::new().await;
    let (app, member) = (&world.app, world.alice.as_member().await);
    let request = request(&world.alice).await;
    let found = find_uploads(app, &member, &request, NOW).await.unwrap();
    let Ok(Found::Open(found)) = found else {
        panic!("not open");
    };
    let file = check_and_seal(app, &member, &request.files[0], &found[0], NOW).await;
    let passed = vec![file.unwrap().unwrap_or_else(|_| panic!("refused"))];
    let parts = app.vault.put_before(NOW.replace_year(2100).unwrap()).await;
    let (parts, sealed) = (parts.unwrap().len(), passed[0].filings.len());
    app.clock.set(NOW + time::Duration::hours(25));
    let late = write_down(app, &member, &request, passed, NOW).await;
    assert!(matches!(late, Err(HandInFailure::TooLong)), "{late:?}");
    let left = app.vault.put_before(NOW.replace_year(2100).unwrap()).await;
    assert_eq!(left.unwrap().len(), parts - sealed);

    let again = hand_in(app, &member, &request, NOW).await.unwrap();
    assert!(matches!(again, Outcome::Accepted(_)), "{again:?}");
}

#[tokio::test]
async fn a_filing_with_an_individual_number_is_refused_and_leaves_nothing() {
    let world = World::new().await;
    let member = world.alice.as_member().await;
    for name in ["my_number", "my_number_spaced", "my_number_fullwidth"] {
        let file = corpus(&format!("bad/{name}.zip"));
        let upload = world.alice.upload("20240524_0123_届書.zip", file).await;
        let request = HandIn {
            files: vec![HandInFile {
                upload: upload.parse().unwrap(),
                password: Some(Password::new("Rene52hsqx3ca4q2".into())),
                names: Vec::new(),
            }],
            duplicates_confirmed: false,
            duplicate_reason: String::new(),
            replaces: None,
        };
        let outcome = hand_in(&world.app, &member, &request, NOW).await.unwrap();
        let Outcome::Refused(refused) = outcome else {
            panic!("{name}: {outcome:?}");
        };
        let told = refused[0].problems[0].page_text();
        assert!(
            told.contains("個人番号") && told.contains("1ページ目"),
            "{told}"
        );
        assert_eq!(
            told.chars().filter(char::is_ascii_digit).count(),
            3,
            "{told}"
        );
        for table in ["uploads", "upload_parts", "filings", "documents"] {
            let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) AS n FROM {table}"));
            let row = sqlx::query(sql).fetch_one(world.app.db.pool()).await;
            let left: i64 = row.unwrap().try_get("n").unwrap();
            assert_eq!(left, 0, "{name}: {table}");
        }
        let again = hand_in(&world.app, &member, &request, NOW).await.unwrap();
        assert!(
            matches!(again, Outcome::Impossible(HandInError::Gone(_))),
            "{again:?}"
        );
    }
}
