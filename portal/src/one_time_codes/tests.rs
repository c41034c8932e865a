//! One-time passwords: once, bound, counted, on both databases.

use super::*;
use crate::testing::people::{self, Place};
use crate::testing::{NOW, app, databases};

impl Binding {
    pub(crate) fn of(place: &Place) -> Self {
        Self {
            user: place.user,
            device: place.device,
            session: place.session,
        }
    }
}

/// Sends a code and reads it out of the sealed mail, as its addressee would.
pub(crate) async fn sent_code(app: &App, place: &Place, now: OffsetDateTime) -> String {
    let mut tx = app.db.begin().await.unwrap();
    issue(&mut tx, app, place.user, place.device, place.session, now)
        .await
        .unwrap()
        .unwrap();
    Db::commit(tx).await.unwrap();
    newest_code(app).await
}

/// The code in the mail that was queued last.
pub(crate) async fn newest_code(app: &App) -> String {
    let (id, sealed): (String, String) = {
        use sqlx::Row as _;
        let row = sqlx::query("SELECT id, message_sealed FROM outbox ORDER BY id DESC LIMIT 1")
            .fetch_one(app.db.pool())
            .await
            .unwrap();
        (row.get("id"), row.get("message_sealed"))
    };
    let text = app
        .keys
        .open(Purpose::Mail, &format!("outbox/{id}"), &sealed)
        .unwrap();
    let mail: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let body = mail["body"].as_str().unwrap();
    let (_, rest) = body.split_once('\u{3000}').unwrap();
    digits(rest.lines().next().unwrap())
}

async fn tried(app: &App, binding: &Binding, code: &str, now: OffsetDateTime) -> Redeemed {
    let mut tx = app.db.begin().await.unwrap();
    let redeemed = redeem(&mut tx, &app.keys, binding, code, now)
        .await
        .unwrap();
    Db::commit(tx).await.unwrap();
    redeemed
}

fn wrong(code: &str) -> String {
    let last = if code.ends_with('0') { "1" } else { "0" };
    format!("{}{last}", &code[..5])
}

#[tokio::test]
async fn a_code_is_good_once() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", "suzuki").await;
        let binding = Binding::of(&place);
        assert_eq!(tried(&app, &binding, "000000", NOW).await, Redeemed::NoCode);
        let code = sent_code(&app, &place, NOW).await;
        assert_eq!(code.len(), 6);
        assert_eq!(tried(&app, &binding, &code, NOW).await, Redeemed::Yes);
        assert_eq!(tried(&app, &binding, &code, NOW).await, Redeemed::OutOfUse);
    }
}

#[tokio::test]
async fn of_a_hundred_parallel_redemptions_one_succeeds() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", "suzuki").await;
        let code = sent_code(&app, &place, NOW).await;
        let tries: Vec<_> = (0..100)
            .map(|_| {
                let (app, code) = (app.clone(), code.clone());
                tokio::spawn(async move { tried(&app, &Binding::of(&place), &code, NOW).await })
            })
            .collect();
        let mut successes = 0;
        for one in tries {
            successes += usize::from(one.await.unwrap() == Redeemed::Yes);
        }
        assert_eq!(successes, 1);
    }
}

#[tokio::test]
async fn a_code_is_out_of_use_in_the_eleventh_minute() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", "suzuki").await;
        let binding = Binding::of(&place);
        let code = sent_code(&app, &place, NOW).await;
        let end = NOW + Duration::minutes(10);
        assert_eq!(tried(&app, &binding, &code, end).await, Redeemed::OutOfUse);
        let just_before = end - Duration::MILLISECOND;
        assert_eq!(
            tried(&app, &binding, &code, just_before).await,
            Redeemed::Yes
        );
    }
}

#[tokio::test]
async fn five_wrong_tries_put_a_code_out_of_use() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", "suzuki").await;
        let binding = Binding::of(&place);
        let code = sent_code(&app, &place, NOW).await;
        for left in (0..5).rev() {
            assert_eq!(
                tried(&app, &binding, &wrong(&code), NOW).await,
                Redeemed::Wrong { tries_left: left }
            );
        }
        assert_eq!(tried(&app, &binding, &code, NOW).await, Redeemed::OutOfUse);
    }
}

#[tokio::test]
async fn a_newer_code_puts_the_older_one_and_its_waiting_mail_out_of_use() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", "suzuki").await;
        let binding = Binding::of(&place);
        let older = sent_code(&app, &place, NOW).await;
        let newer = sent_code(&app, &place, NOW).await;
        let given_up: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM outbox WHERE given_up_ms IS NOT NULL")
                .fetch_one(db.pool())
                .await
                .unwrap();
        assert_eq!(given_up, 1);
        if older != newer {
            assert_ne!(tried(&app, &binding, &older, NOW).await, Redeemed::Yes);
        }
        assert_eq!(tried(&app, &binding, &newer, NOW).await, Redeemed::Yes);
    }
}

#[tokio::test]
async fn a_code_is_useless_for_another_user_device_or_session() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", "suzuki").await;
        let other = people::place(&app, "0124", "tanaka").await;
        let code = sent_code(&app, &place, NOW).await;
        let binding = Binding::of(&place);
        for foreign in [
            Binding {
                user: other.user,
                ..binding
            },
            Binding {
                device: other.device,
                ..binding
            },
            Binding {
                session: other.session,
                ..binding
            },
        ] {
            assert_eq!(tried(&app, &foreign, &code, NOW).await, Redeemed::NoCode);
        }
        assert_eq!(tried(&app, &binding, &code, NOW).await, Redeemed::Yes);
    }
}

#[tokio::test]
async fn codes_are_sent_again_only_after_a_minute_and_five_times_a_session() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", "suzuki").await;
        let binding = Binding::of(&place);
        let mut now = NOW;
        for _ in 0..CODES_PER_SESSION_MAX {
            sent_code(&app, &place, now).await;
            let mut tx = db.begin().await.unwrap();
            let soon = now + Duration::seconds(59);
            let refused = may_resend(&mut tx, &binding, soon).await.unwrap();
            assert!(refused.is_err());
            drop(tx);
            now += RESEND_PAUSE;
        }
        let mut tx = db.begin().await.unwrap();
        assert_eq!(
            may_resend(&mut tx, &binding, now).await.unwrap(),
            Err(ResendRefused::TooMany)
        );
    }
}

#[tokio::test]
async fn a_user_with_an_authenticator_gets_no_mail() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", "suzuki").await;
        sqlx::query("UPDATE users SET second_factor = 'totp'")
            .execute(db.pool())
            .await
            .unwrap();
        let mut tx = db.begin().await.unwrap();
        let to = issue(&mut tx, &app, place.user, place.device, place.session, NOW).await;
        assert_eq!(to.unwrap(), None);
    }
}

#[test]
fn typed_codes_are_read_with_full_width_digits_and_spaces() {
    assert_eq!(digits(" ０４８ 213\n"), "048213");
    assert_eq!(digits("048-213"), "048213");
}

#[tokio::test]
async fn who_asks_for_several_codes_at_once_gets_one() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", "suzuki").await;
        let binding = Binding::of(&place);
        let (user, device, session) = (place.user, place.device, place.session);
        let askers = (0..4).map(|_| async {
            let mut tx = app.db.begin().await.unwrap();
            let may = may_resend(&mut tx, &binding, NOW).await.unwrap();
            if may.is_ok() {
                let sent = issue(&mut tx, &app, user, device, session, NOW).await;
                assert!(sent.unwrap().is_some());
            }
            Db::commit(tx).await.unwrap();
            may
        });
        let asked = futures_util::future::join_all(askers).await;
        let at = NOW + RESEND_PAUSE;
        let later = asked
            .iter()
            .filter(|may| **may == Err(ResendRefused::TooSoon { at }));
        assert_eq!(later.count(), 3, "{asked:?}");
        let good = "SELECT COUNT(*) FROM one_time_codes WHERE superseded_ms IS NULL";
        let good: i64 = sqlx::query_scalar(good).fetch_one(db.pool()).await.unwrap();
        assert_eq!(good, 1);
    }
}
