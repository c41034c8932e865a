//! Passkeys on both sides: registered, shown, refused, copied, removed with their owner.

use axum::body::Body;
use http::{Method, StatusCode};
use serde_json::Value;
use sqlx::Row as _;
use time::Duration;

use super::*;
use crate::people;
use crate::staff::{self, StaffRole};
use crate::step_up::FRESH_FOR;
use crate::testing::key::{Device, UNVERIFIED};
use crate::testing::people::{self as persons, Answer, Browser, Place, USER_ID};
use crate::testing::{NOW, app, databases, sqlite};

const MEMBERS: &str = "https://renkei.example.jp";
const OFFICE: &str = "https://office.example.jp";
const WRONG: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

/// Fetches a question as the page's script does, with the token of the page `from`.
async fn asked(browser: &mut Browser, from: &str, path: &str) -> (StatusCode, Value) {
    let token = browser.get(from).await.csrf().unwrap_or_default();
    let headers = [
        ("renkei-csrf", token.as_str()),
        ("accept", "application/json"),
    ];
    let answer = browser
        .send(Method::POST, path, &headers, Body::empty())
        .await;
    let body = serde_json::from_str(&answer.text).unwrap_or_default();
    (answer.status, body)
}

async fn register_at(browser: &mut Browser, base: &str, device: &mut Device) -> Answer {
    let (status, options) = asked(browser, base, &format!("{base}/question")).await;
    assert_eq!(status, StatusCode::OK, "{options}");
    assert_eq!(
        options["authenticatorSelection"]["userVerification"],
        "required"
    );
    assert_eq!(options["authenticatorSelection"]["residentKey"], "required");
    let form = [
        ("name", "総務のパソコン"),
        ("answer", &device.create(&options)),
    ];
    browser.submit(base, &form).await
}

async fn sign_in_with(browser: &mut Browser, device: &mut Device) -> Answer {
    let (status, options) = asked(browser, "/sign-in", "/sign-in/passkey/question").await;
    assert_eq!(status, StatusCode::OK, "{options}");
    let answer = device.get(&options);
    let form = [("answer", answer.as_str())];
    browser
        .submit_to("/sign-in", "/sign-in/passkey", &form)
        .await
}

/// A member with a passkey, on the PC it was made for.
async fn member(app: &App) -> (Place, Device) {
    let place = persons::place(app, "0123", USER_ID).await;
    let mut browser = persons::signed_in_member(app, &place).await;
    let mut device = Device::at(MEMBERS);
    let added = register_at(&mut browser, "/settings/passkeys", &mut device).await;
    assert_eq!(
        added.location, "/settings/passkeys?done=added",
        "{}",
        added.text
    );
    (place, device)
}

async fn acts(app: &App, like: &str) -> Vec<String> {
    sqlx::query_scalar("SELECT act FROM audit_log WHERE act LIKE $1 ORDER BY seq")
        .bind(like)
        .fetch_all(app.db.pool())
        .await
        .unwrap()
}

/// How many mails speak of passkeys.
async fn mails(app: &App) -> usize {
    let rows: Vec<(String, String)> = sqlx::query("SELECT id, message_sealed FROM outbox")
        .fetch_all(app.db.pool())
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get("id"), row.get("message_sealed")))
        .collect();
    let about = rows.iter().filter(|(id, sealed)| {
        let place = format!("outbox/{id}");
        let mail = app.keys.open(KeyPurpose::Mail, &place, sealed).unwrap();
        let mail: Value = serde_json::from_slice(&mail).unwrap();
        mail["body"].as_str().unwrap().contains("パスキー")
    });
    about.count()
}

#[tokio::test]
async fn a_registered_passkey_signs_in_alone_and_each_use_is_written_down() {
    for db in databases().await {
        let app = app(&db).await;
        let (place, mut device) = member(&app).await;
        assert_eq!(mails(&app).await, 1);
        let mut browser = Browser::member(&app, place.session);
        let page = browser.get("/sign-in").await.text;
        assert!(page.contains("パスキーでログイン"), "{page}");
        let answer = sign_in_with(&mut browser, &mut device).await;
        assert_eq!(
            (answer.status, answer.location.as_str()),
            (StatusCode::SEE_OTHER, "/")
        );
        assert!(browser.get("/").await.text.contains("鈴木 花子 さん"));
        let list = browser.get("/settings/passkeys").await.text;
        assert!(
            list.contains("総務のパソコン") && !list.contains("まだありません"),
            "{list}"
        );
        assert_eq!(acts(&app, "passkey%").await, ["passkey_added"]);
        assert_eq!(acts(&app, "signed_in").await, ["signed_in"]);
        audit::verify(&db, &app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_counts_once_even_if_it_is_sent_many_times_at_once() {
    for db in databases().await {
        let app = app(&db).await;
        let (place, mut device) = member(&app).await;
        let mut browser = Browser::member(&app, place.session);
        let (_, options) = asked(&mut browser, "/sign-in", "/sign-in/passkey/question").await;
        let answer = device.get(&options);
        let token = browser.get("/sign-in").await.csrf().unwrap();
        let tries: Vec<_> = (0..4)
            .map(|_| {
                let (mut browser, answer, token) = (browser.clone(), answer.clone(), token.clone());
                tokio::spawn(async move {
                    let form = [("answer", answer.as_str()), ("csrf", token.as_str())];
                    browser.post("/sign-in/passkey", &form).await.status
                })
            })
            .collect();
        let mut in_ = 0;
        for tried in tries {
            in_ += usize::from(tried.await.unwrap() == StatusCode::SEE_OTHER);
        }
        assert_eq!(in_, 1);
    }
}

#[tokio::test]
async fn a_question_is_for_its_session_its_purpose_and_five_minutes() {
    for db in databases().await {
        let app = app(&db).await;
        let (place, mut device) = member(&app).await;
        let second_pc = persons::device(&app, place.establishment, place.user).await;
        let elsewhere = persons::session(&app, place.establishment, second_pc, NOW).await;

        // Asked at one PC, answered at another.
        let mut here = Browser::member(&app, place.session);
        let mut there = Browser::member(&app, elsewhere);
        let (_, options) = asked(&mut here, "/sign-in", "/sign-in/passkey/question").await;
        let answer = device.get(&options);
        let form = [("answer", answer.as_str())];
        let refused = there.submit_to("/sign-in", "/sign-in/passkey", &form).await;
        assert_eq!(refused.status, WRONG);
        assert!(
            refused.text.contains("やり直しが必要です"),
            "{}",
            refused.text
        );

        // Too late by a moment.
        app.clock.set(NOW + QUESTION_LIFETIME);
        let late = here.submit_to("/sign-in", "/sign-in/passkey", &form).await;
        assert_eq!(late.status, WRONG);

        // Asked to sign in, shown to confirm.
        let mut signed_in = persons::signed_in_member(&app, &place).await;
        app.clock
            .set(NOW + QUESTION_LIFETIME + FRESH_FOR + Duration::SECOND);
        let (_, options) = asked(&mut here, "/sign-in", "/sign-in/passkey/question").await;
        let answer = device.get(&options);
        let form = [("step_up_action", "passkey"), ("step_up_answer", &answer)];
        let refused = signed_in.submit("/step-up", &form).await;
        assert_eq!(refused.status, WRONG);
    }
}

#[tokio::test]
async fn another_origin_an_unasked_user_and_nonsense_are_refused() {
    for db in databases().await {
        let app = app(&db).await;
        let (place, device) = member(&app).await;
        let mut browser = Browser::member(&app, place.session);
        let mut elsewhere = device.clone();
        elsewhere.origin = "https://renkei.example.com".to_owned();
        let mut careless = device.clone();
        careless.flags = UNVERIFIED;
        for device in [&mut elsewhere, &mut careless] {
            let answer = sign_in_with(&mut browser, device).await;
            assert_eq!(answer.status, WRONG);
            assert!(
                answer.text.contains("確認できませんでした"),
                "{}",
                answer.text
            );
        }
        let long = "x".repeat(40_000);
        for nonsense in ["", "{}", "null", "\0", "[1]", long.as_str()] {
            asked(&mut browser, "/sign-in", "/sign-in/passkey/question").await;
            let form = [("answer", nonsense)];
            let answer = browser
                .submit_to("/sign-in", "/sign-in/passkey", &form)
                .await;
            assert_eq!(answer.status, WRONG, "{nonsense:.10}");
            // Other tries at this PC do not count against this one.
            app.clock.set(app.clock.now() + Duration::hours(25));
            browser = Browser::member(&app, renewed(&app, &place).await);
        }
        assert!(acts(&app, "sign_in_failed").await.len() >= 8);
    }
}

/// A new tunnel session at the same PC.
async fn renewed(app: &App, place: &Place) -> protocol::SessionId {
    persons::session(app, place.establishment, place.device, app.clock.now()).await
}

#[tokio::test]
async fn a_copied_passkey_is_removed_and_its_owner_told() {
    for db in databases().await {
        let app = app(&db).await;
        let (place, mut device) = member(&app).await;
        let mut copy = device.clone();
        let mut browser = Browser::member(&app, place.session);
        let answer = sign_in_with(&mut browser, &mut device).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        // The copy counts on from where it was taken.
        let mut thief = Browser::member(&app, place.session);
        let answer = sign_in_with(&mut thief, &mut copy).await;
        assert_eq!(answer.status, WRONG);
        assert!(answer.text.contains("複製された疑い"), "{}", answer.text);
        assert_eq!(mails(&app).await, 2);
        assert_eq!(
            acts(&app, "passkey%").await,
            ["passkey_added", "passkey_copied"]
        );
        // Neither of them counts any more.
        let mut again = Browser::member(&app, place.session);
        let answer = sign_in_with(&mut again, &mut device).await;
        assert_eq!(answer.status, WRONG);
    }
}

#[tokio::test]
async fn a_passkey_confirms_in_place_of_the_code_and_only_its_owner() {
    for db in databases().await {
        let app = app(&db).await;
        let (place, mut device) = member(&app).await;
        let other = persons::place(&app, "0124", "tanaka").await;
        let mut browser = persons::signed_in_member(&app, &place).await;
        let mut stranger = persons::signed_in_member(&app, &other).await;
        app.clock.set(NOW + FRESH_FOR + Duration::SECOND);
        for (browser, confirmed) in [(&mut stranger, false), (&mut browser, true)] {
            let path = "/settings/passkeys";
            let led = browser.get(path).await;
            assert!(led.location.starts_with("/step-up"), "{}", led.location);
            let (_, options) = asked(browser, &led.location, "/step-up/question").await;
            let answer = device.get(&options);
            let form = [
                ("step_up_action", "passkey"),
                ("step_up_answer", &answer),
                ("next", path),
            ];
            let answer = browser.submit_to(&led.location, "/step-up", &form).await;
            assert_eq!(answer.location == path, confirmed, "{}", answer.text);
            assert_eq!(browser.get(path).await.status == StatusCode::OK, confirmed);
        }
    }
}

#[tokio::test]
async fn a_passkey_goes_with_a_reset_with_the_membership_and_by_its_owners_hand() {
    for db in databases().await {
        let app = app(&db).await;
        let (place, mut device) = member(&app).await;
        let (here, user) = (place.establishment, place.user);
        let mut tx = app.db.begin().await.unwrap();
        people::reset_second_factor(&mut tx, &app, &Actor::System, here, user, NOW)
            .await
            .unwrap();
        Db::commit(tx).await.unwrap();
        let mut browser = Browser::member(&app, place.session);
        assert_eq!(sign_in_with(&mut browser, &mut device).await.status, WRONG);

        let mut browser = persons::signed_in_member(&app, &place).await;
        let mut second = Device::at(MEMBERS);
        register_at(&mut browser, "/settings/passkeys", &mut second).await;
        let kept = store::list(&app.db, Owner::Member(user)).await.unwrap();
        let path = format!("/settings/passkeys/{}/remove", kept[0].id);
        let removed = browser.submit_to("/settings/passkeys", &path, &[]).await;
        assert_eq!(removed.location, "/settings/passkeys?done=removed");
        let twice = browser.submit_to("/settings/passkeys", &path, &[]).await;
        assert_eq!(twice.status, StatusCode::NOT_FOUND);

        let mut third = Device::at(MEMBERS);
        register_at(&mut browser, "/settings/passkeys", &mut third).await;
        sqlx::query("UPDATE memberships SET ended_ms = 1")
            .execute(db.pool())
            .await
            .unwrap();
        let mut browser = Browser::member(&app, place.session);
        assert_eq!(sign_in_with(&mut browser, &mut third).await.status, WRONG);
        let mut tx = app.db.begin().await.unwrap();
        store::forget_without_membership(&mut tx, user)
            .await
            .unwrap();
        Db::commit(tx).await.unwrap();
        let kept = store::list(&app.db, Owner::Member(user)).await.unwrap();
        assert!(kept.is_empty());
    }
}

#[tokio::test]
async fn nobody_removes_anothers_passkey() {
    for db in databases().await {
        let app = app(&db).await;
        let (place, _) = member(&app).await;
        let other = persons::place(&app, "0124", "tanaka").await;
        let kept = store::list(&app.db, Owner::Member(place.user))
            .await
            .unwrap();
        let mut stranger = persons::signed_in_member(&app, &other).await;
        let path = format!("/settings/passkeys/{}/remove", kept[0].id);
        let refused = stranger.submit_to("/settings/passkeys", &path, &[]).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND);
        let kept = store::list(&app.db, Owner::Member(place.user))
            .await
            .unwrap();
        assert_eq!(kept.len(), 1);
    }
}

#[tokio::test]
async fn staff_sign_in_with_a_passkey_until_they_leave_and_a_members_is_none_of_theirs() {
    for db in databases().await {
        let app = app(&db).await;
        let (id, mut browser) = persons::signed_in_staff(&app, StaffRole::Reviewer).await;
        let mut device = Device::at(OFFICE);
        let added = register_at(&mut browser, "/passkeys", &mut device).await;
        assert_eq!(added.location, "/passkeys?done=added", "{}", added.text);
        let mut fresh = Browser::office(&app);
        let answer = sign_in_with(&mut fresh, &mut device).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        assert_eq!(fresh.get("/passkeys").await.status, StatusCode::OK);

        let (_, mut of_member) = member(&app).await;
        of_member.origin = OFFICE.to_owned();
        let mut stranger = Browser::office(&app);
        assert_eq!(
            sign_in_with(&mut stranger, &mut of_member).await.status,
            WRONG
        );

        let mut tx = app.db.begin().await.unwrap();
        let by = StaffId::new();
        staff::accounts::disable(&mut tx, &app.keys, (id, by), NOW)
            .await
            .unwrap();
        Db::commit(tx).await.unwrap();
        assert!(
            store::list(&app.db, Owner::Staff(id))
                .await
                .unwrap()
                .is_empty()
        );
        let mut again = Browser::office(&app);
        assert_eq!(sign_in_with(&mut again, &mut device).await.status, WRONG);
    }
}

#[tokio::test]
async fn a_passkey_that_is_known_a_name_that_is_none_and_an_eleventh_are_refused() {
    let db = sqlite().await;
    let app = app(&db).await;
    let (place, mut device) = member(&app).await;
    let mut browser = persons::signed_in_member(&app, &place).await;
    let base = "/settings/passkeys";
    let again = register_at(&mut browser, base, &mut device).await;
    assert_eq!(again.status, WRONG);
    // The browser would have said so: the question names the passkeys that are there.
    assert!(
        again.text.contains("確認できませんでした"),
        "{}",
        again.text
    );
    // Nor does it become another account's.
    let other = persons::place(&app, "0124", "tanaka").await;
    let mut stranger = persons::signed_in_member(&app, &other).await;
    let taken = register_at(&mut stranger, base, &mut device).await;
    assert!(
        taken.text.contains("すでに登録されています"),
        "{}",
        taken.text
    );
    for name in ["", "　", "a\0b", &"あ".repeat(41)] {
        let form = [("name", name), ("answer", "{}")];
        let refused = browser.submit(base, &form).await;
        assert!(refused.text.contains("40文字以内"), "{}", refused.text);
    }
    for _ in 1..LIMIT {
        register_at(&mut browser, base, &mut Device::at(MEMBERS)).await;
    }
    let (status, body) = asked(&mut browser, base, &format!("{base}/question")).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(
        body["sentence"].as_str().unwrap().contains("10個まで"),
        "{body}"
    );
}

#[tokio::test]
async fn where_the_address_is_a_bare_number_no_passkey_is_offered() {
    let db = sqlite().await;
    let app = app(&db).await;
    assert!(are_offered(&app, Side::Member) && are_offered(&app, Side::Office));
    let mut config = app.config.clone();
    config.member.url = "https://192.0.2.1/".to_owned();
    let there = App::start(db.db.clone(), app.clock.clone(), app.keys.clone(), config)
        .await
        .unwrap();
    assert!(!are_offered(&there, Side::Member));
}
