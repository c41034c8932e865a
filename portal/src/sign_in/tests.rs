//! Signing in, member and office: what fits, what does not, and how often.

use http::StatusCode;
use sqlx::Row as _;
use time::Duration;

use super::*;
use crate::app::App;
use crate::audit;
use crate::mail::{Outgoing, SendError, Transport, outbox};
use crate::one_time_codes::tests::{newest_code, sent_code};
use crate::staff::StaffRole;
use crate::testing::people::{self, Answer, Browser, PASSWORD, STAFF_USER_ID, USER_ID, Way};
use crate::testing::{NOW, app, databases, sqlite};

const OK_PAGE: StatusCode = StatusCode::OK;
const WRONG: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

async fn sign_in(browser: &mut Browser, user_id: &str, password: &str, code: &str) -> Answer {
    let form = [
        ("user_id", user_id),
        ("password", password),
        ("code", code),
        ("action", "sign_in"),
    ];
    browser.submit("/sign-in", &form).await
}

async fn ask_for_code(browser: &mut Browser) -> Answer {
    let form = [
        ("user_id", USER_ID),
        ("password", PASSWORD),
        ("action", "send_code"),
    ];
    browser.submit("/sign-in", &form).await
}

async fn sign_in_acts(app: &App) -> Vec<String> {
    sqlx::query_scalar("SELECT act FROM audit_log WHERE act LIKE 'sign%' ORDER BY seq")
        .fetch_all(app.db.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn user_id_password_and_mailed_code_sign_in() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let code = sent_code(&app, &place, NOW).await;
        let mut browser = Browser::member(&app, place.session);
        let page = browser.get("/sign-in").await;
        assert_eq!(page.status, OK_PAGE);
        assert!(page.text.contains("s•••@example.co.jp"), "{}", page.text);
        let answer = sign_in(&mut browser, " Suzuki ", PASSWORD, &code).await;
        assert_eq!(
            (answer.status, answer.location.as_str()),
            (StatusCode::SEE_OTHER, "/")
        );
        let home = browser.get("/").await;
        assert_eq!(home.status, OK_PAGE);
        assert!(home.text.contains("事業所番号 0123") && home.text.contains("鈴木 花子 さん"));
        assert_eq!(sign_in_acts(&app).await, ["signed_in"]);
        audit::verify(&db, &app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn a_code_signs_in_once() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let code = sent_code(&app, &place, NOW).await;
    let mut browser = Browser::member(&app, place.session);
    let first = sign_in(&mut browser, USER_ID, PASSWORD, &code).await;
    assert_eq!(first.status, StatusCode::SEE_OTHER);
    let mut again = Browser::member(&app, place.session);
    let second = sign_in(&mut again, USER_ID, PASSWORD, &code).await;
    assert_eq!(second.status, WRONG);
    assert!(second.text.contains("使えなくなりました"));
    assert_eq!(sign_in_acts(&app).await, ["signed_in", "sign_in_failed"]);
}

#[tokio::test]
async fn a_code_from_another_pc_or_from_eleven_minutes_ago_does_not_sign_in() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let code = sent_code(&app, &place, NOW).await;
    let second_pc = people::device(&app, place.establishment, place.user).await;
    let session = people::session(&app, place.establishment, second_pc, NOW).await;
    let mut elsewhere = Browser::member(&app, session);
    let answer = sign_in(&mut elsewhere, USER_ID, PASSWORD, &code).await;
    assert_eq!(answer.status, WRONG);

    app.clock.set(NOW + Duration::minutes(10));
    let mut late = Browser::member(&app, place.session);
    let answer = sign_in(&mut late, USER_ID, PASSWORD, &code).await;
    assert_eq!(answer.status, WRONG);
}

#[tokio::test]
async fn an_unknown_user_a_wrong_password_and_a_strangers_account_are_answered_alike() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    people::place(&app, "0124", "tanaka").await;
    let mut pages = Vec::new();
    for (user_id, password) in [
        ("nobody", PASSWORD),
        (USER_ID, "not her password"),
        // Right in every way, but no member of this establishment.
        ("tanaka", PASSWORD),
    ] {
        let mut browser = Browser::member(&app, place.session);
        let answer = sign_in(&mut browser, user_id, password, "123456").await;
        assert_eq!(answer.status, WRONG);
        pages.push(answer.text.replace(user_id, "USER"));
    }
    assert!(pages[0].contains("ユーザーIDまたはパスワードが正しくありません"));
    assert_eq!((&pages[0], &pages[0]), (&pages[1], &pages[2]));
}

/// How many mails with these words wait.
async fn mails_with(app: &App, words: &str) -> usize {
    let rows = sqlx::query("SELECT id, message_sealed FROM outbox")
        .fetch_all(app.db.pool())
        .await
        .unwrap();
    let about = rows.iter().filter(|row| {
        let (id, sealed): (String, String) = (row.get("id"), row.get("message_sealed"));
        let place = format!("outbox/{id}");
        let mail = app.keys.open(Purpose::Mail, &place, &sealed).unwrap();
        let mail: serde_json::Value = serde_json::from_slice(&mail).unwrap();
        mail["body"].as_str().unwrap().contains(words)
    });
    about.count()
}

#[tokio::test]
async fn the_third_failure_stops_the_account_at_this_pc_for_a_day_and_nowhere_else() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let mut browser = Browser::member(&app, place.session);
        for failure in 1..=FAILURES_MAX {
            let answer = sign_in(&mut browser, USER_ID, "not her password", "123456").await;
            assert!(answer.text.contains("正しくありません"));
            // The last one says at once from when.
            let until = answer.text.contains("2026年3月14日 10:00から");
            assert_eq!(until, failure == FAILURES_MAX, "{}", answer.text);
        }
        assert_eq!(mails_with(&app, "24時間止めました").await, 1);
        let code = sent_code(&app, &place, NOW).await;
        app.clock.set(NOW + Duration::minutes(5));
        let paused = sign_in(&mut browser, USER_ID, PASSWORD, &code).await;
        assert_eq!(paused.status, WRONG);
        let until = "2026年3月14日 10:00から、もう一度お試しいただけます";
        assert!(paused.text.contains(until), "{}", paused.text);

        // Another PC of the same user is not affected, nor another user at this one.
        let second_pc = people::device(&app, place.establishment, place.user).await;
        let session = people::session(&app, place.establishment, second_pc, NOW).await;
        let mut elsewhere = Browser::member(&app, session);
        ask_for_code(&mut elsewhere).await;
        let code = newest_code(&app).await;
        let answer = sign_in(&mut elsewhere, USER_ID, PASSWORD, &code).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        let answer = sign_in(&mut browser, "tanaka", "x", "123456").await;
        assert!(
            !answer.text.contains("お試しいただけます"),
            "{}",
            answer.text
        );

        // Knocking during the pause does not lengthen it.
        let later = NOW + PAUSE;
        for (now, in_) in [(later - Duration::MILLISECOND, false), (later, true)] {
            app.clock.set(now);
            let session = people::session(&app, place.establishment, place.device, now).await;
            let place = people::Place { session, ..place };
            let code = sent_code(&app, &place, now).await;
            let mut browser = Browser::member(&app, session);
            let answer = sign_in(&mut browser, USER_ID, PASSWORD, &code).await;
            assert_eq!(
                answer.status == StatusCode::SEE_OTHER,
                in_,
                "{}",
                answer.text
            );
        }
    }
}

#[tokio::test]
async fn nobody_is_told_of_a_user_who_does_not_exist_and_the_page_is_the_same() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let mut pages = Vec::new();
    for user_id in [USER_ID, "nobody"] {
        let mut browser = Browser::member(&app, place.session);
        for _ in 0..FAILURES_MAX {
            sign_in(&mut browser, user_id, "not the password", "123456").await;
        }
        let page = sign_in(&mut browser, user_id, PASSWORD, "123456").await;
        pages.push(page.text.replace(user_id, "USER"));
    }
    assert_eq!(pages[0], pages[1]);
    assert_eq!(mails_with(&app, "24時間止めました").await, 1);
}

#[tokio::test]
async fn a_hundred_failures_at_many_pcs_stop_the_account_until_the_fund_frees_it() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let attempt = async |device: DeviceId| {
            let counted = Counted::at_pc(&app.keys, USER_ID, device);
            let mut tx = app.db.begin().await.unwrap();
            let attempt = store::count_attempt(&mut tx, &counted, NOW).await.unwrap();
            Db::commit(tx).await.unwrap();
            attempt
        };
        let new_pc = || DeviceId::from_uuid(uuid::Uuid::now_v7());
        let mut failed = 0;
        while failed < OVERALL_MAX {
            let pc = new_pc();
            // The fourth at one PC is refused, and so no failure.
            for _ in 0..=FAILURES_MAX {
                failed += i64::from(matches!(attempt(pc).await, Attempt::Allowed { .. }));
            }
        }
        assert_eq!(failed, OVERALL_MAX);
        assert_eq!(attempt(new_pc()).await, Attempt::Stopped);
        let code = sent_code(&app, &place, NOW).await;
        let mut browser = Browser::member(&app, place.session);
        let answer = sign_in(&mut browser, USER_ID, PASSWORD, &code).await;
        assert!(
            answer.text.contains("基金事務局へご連絡ください。ご本人"),
            "{}",
            answer.text
        );

        let (_, mut staff) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
        let page = format!("/establishments/{}", place.establishment);
        assert!(
            staff
                .get(&page)
                .await
                .text
                .contains("ログインの停止を解除する")
        );
        let free = format!("{page}/users/{}/free", place.user);
        let freed = staff.submit_to(&page, &free, &[]).await;
        assert_eq!(freed.location, format!("{page}?done=freed"));
        assert!(
            !staff
                .get(&page)
                .await
                .text
                .contains("ログインの停止を解除する")
        );
        assert_eq!(mails_with(&app, "停止を解除しました").await, 1);
        let freed: Vec<String> = sqlx::query_scalar("SELECT act FROM audit_log WHERE act = $1")
            .bind("sign_in_freed")
            .fetch_all(app.db.pool())
            .await
            .unwrap();
        assert_eq!(freed.len(), 1);
        let answer = sign_in(&mut browser, USER_ID, PASSWORD, &code).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    }
}

#[tokio::test]
async fn what_nobody_types_is_answered_without_a_word_about_it() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let long = "パ".repeat(5_000);
        for (user_id, password, code) in [
            (USER_ID, long.as_str(), "123456"),
            (long.as_str(), PASSWORD, "123456"),
            (USER_ID, PASSWORD, long.as_str()),
            ("su\0zuki", PASSWORD, "123456"),
            (USER_ID, "a\0b", "123456"),
            (USER_ID, PASSWORD, "12345\0"),
        ] {
            let mut browser = Browser::member(&app, place.session);
            let answer = sign_in(&mut browser, user_id, password, code).await;
            assert!(
                [StatusCode::BAD_REQUEST, WRONG].contains(&answer.status),
                "{}: {}",
                answer.status,
                answer.text
            );
        }
        let mut browser = Browser::member(&app, place.session);
        let token = browser.get("/sign-in").await.csrf().unwrap();
        for (kind, body) in [
            ("application/json", format!("{{\"csrf\":\"{token}\"}}")),
            ("text/plain", "x".to_owned()),
            ("multipart/form-data; boundary=x", "--x--".to_owned()),
            ("application/x-www-form-urlencoded", "%ff%fe=%00".to_owned()),
            ("application/x-www-form-urlencoded", "csrf".to_owned()),
        ] {
            let headers = [("content-type", kind)];
            let answer = browser
                .send(http::Method::POST, "/sign-in", &headers, body.into())
                .await;
            let refused = [StatusCode::BAD_REQUEST, StatusCode::FORBIDDEN];
            assert!(
                refused.contains(&answer.status),
                "{kind}: {}",
                answer.status
            );
        }
    }
}

#[tokio::test]
async fn parallel_guesses_cannot_slip_past_the_limit() {
    for db in databases().await {
        let app = app(&db).await;
        let device = DeviceId::from_uuid(uuid::Uuid::now_v7());
        let guesses: Vec<_> = (0..50)
            .map(|_| {
                let app = app.clone();
                tokio::spawn(async move {
                    let counted = Counted::at_pc(&app.keys, USER_ID, device);
                    let mut tx = app.db.begin().await.unwrap();
                    let attempt = store::count_attempt(&mut tx, &counted, NOW).await.unwrap();
                    Db::commit(tx).await.unwrap();
                    matches!(attempt, Attempt::Allowed { .. })
                })
            })
            .collect();
        let mut allowed = 0;
        for guess in guesses {
            allowed += i64::from(guess.await.unwrap());
        }
        assert_eq!(allowed, FAILURES_MAX);
    }
}

#[tokio::test]
async fn a_user_whose_membership_ended_cannot_sign_in_and_is_out_at_once() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let mut browser = people::signed_in_member(&app, &place).await;
        assert_eq!(browser.get("/").await.status, OK_PAGE);
        sqlx::query("UPDATE memberships SET ended_ms = 1")
            .execute(db.pool())
            .await
            .unwrap();
        assert_eq!(browser.get("/").await.status, StatusCode::UNAUTHORIZED);
        let code = sent_code(&app, &place, NOW).await;
        let answer = sign_in(&mut browser, USER_ID, PASSWORD, &code).await;
        assert_eq!(answer.status, WRONG);
    }
}

#[tokio::test]
async fn the_page_says_truthfully_where_the_codes_mail_stands() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let mut browser = Browser::member(&app, place.session);
    let page = browser.get("/sign-in").await.text;
    assert!(page.contains("「ワンタイムパスワードを送る」を押してください"));
    ask_for_code(&mut browser).await;
    let page = browser.get("/sign-in").await.text;
    assert!(page.contains("ワンタイムパスワードを送っています"));
    for (change, words) in [
        (
            "UPDATE outbox SET last_error = 'no connection', not_before_ms = not_before_ms + 15000",
            "メールの送信に時間がかかっています",
        ),
        (
            "UPDATE outbox SET sent_ms = 1",
            "ワンタイムパスワードを送りました",
        ),
        (
            "UPDATE outbox SET sent_ms = NULL, given_up_ms = 1",
            "ワンタイムパスワードを送れませんでした",
        ),
    ] {
        sqlx::query(change).execute(db.pool()).await.unwrap();
        let page = browser.get("/sign-in").await.text;
        assert!(page.contains(words), "{page}");
    }
}

/// A mail server that is down, or takes everything.
struct Server {
    up: bool,
    taken: std::sync::Mutex<Vec<Outgoing>>,
}

impl Transport for Server {
    async fn send(&self, mail: &Outgoing) -> Result<(), SendError> {
        if !self.up {
            return Err(SendError::NotNow("no connection".to_owned()));
        }
        self.taken.lock().unwrap().push(mail.clone());
        Ok(())
    }
}

#[tokio::test]
async fn while_the_mail_server_is_down_the_page_says_so_and_the_code_arrives_later() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let mut server = Server {
            up: false,
            taken: std::sync::Mutex::default(),
        };
        let mut browser = Browser::member(&app, place.session);
        let page = ask_for_code(&mut browser).await;
        assert!(page.text.contains("送っています") && page.text.contains("data-under-way"));
        assert!(outbox::send_next(&app, &server, NOW).await.unwrap());
        let part = browser.get("/sign-in/code").await.text;
        assert!(part.contains("送信に時間がかかっています"), "{part}");
        assert!(part.contains("次は約5秒後") && part.contains("data-under-way"));

        server.up = true;
        let later = NOW + Duration::seconds(5);
        assert!(!outbox::send_next(&app, &server, NOW).await.unwrap());
        app.clock.set(later);
        assert!(outbox::send_next(&app, &server, later).await.unwrap());
        let part = browser.get("/sign-in/code").await.text;
        assert!(part.contains("送りました") && !part.contains("data-under-way"));

        let body = server.taken.lock().unwrap()[0].body.clone();
        let (_, rest) = body.split_once('\u{3000}').unwrap();
        let code = crate::one_time_codes::digits(rest.lines().next().unwrap());
        let answer = sign_in(&mut browser, USER_ID, PASSWORD, &code).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
    }
}

#[tokio::test]
async fn a_code_is_sent_only_after_user_id_and_password_and_not_twice_in_a_minute() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let mails = || async {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM outbox")
            .fetch_one(db.pool())
            .await
            .unwrap();
        count
    };
    let mut browser = Browser::member(&app, place.session);
    let form = [
        ("user_id", USER_ID),
        ("password", "not her password"),
        ("action", "send_code"),
    ];
    assert_eq!(browser.submit("/sign-in", &form).await.status, WRONG);
    assert_eq!(mails().await, 0);
    assert_eq!(ask_for_code(&mut browser).await.status, OK_PAGE);
    assert_eq!(mails().await, 1);
    let again = ask_for_code(&mut browser).await;
    assert!(again.text.contains("あと60秒"), "{}", again.text);
    assert_eq!(mails().await, 1);
}

#[tokio::test]
async fn an_authenticators_code_signs_in_and_its_step_is_never_taken_again() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let authenticator = crate::authenticator::Authenticator::generate();
        sqlx::query("UPDATE users SET second_factor = 'totp', totp_sealed = $1")
            .bind(authenticator.seal(&app.keys, &place.user.to_string()))
            .execute(db.pool())
            .await
            .unwrap();
        let code = authenticator.code_at(NOW).unwrap();
        let mut browser = Browser::member(&app, place.session);
        let answer = sign_in(&mut browser, USER_ID, PASSWORD, &code).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        let mut again = Browser::member(&app, place.session);
        let answer = sign_in(&mut again, USER_ID, PASSWORD, &code).await;
        assert_eq!(answer.status, WRONG);
        assert!(answer.text.contains("すでに使われています"));
        // The next step is good, although the clock is still in this one.
        let next = authenticator.code_at(NOW + Duration::seconds(30)).unwrap();
        let answer = sign_in(&mut again, USER_ID, PASSWORD, &next).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
    }
}

#[tokio::test]
async fn signing_out_ends_the_web_session_for_good() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let mut browser = people::signed_in_member(&app, &place).await;
    let copy = browser.clone();
    let token = browser.get("/").await.csrf().unwrap();
    let answer = browser.post("/sign-out", &[("csrf", &token)]).await;
    assert_eq!(answer.location, "/signed-out");
    assert_eq!(browser.get("/signed-out").await.status, OK_PAGE);
    let mut stolen = copy;
    assert_eq!(stolen.get("/").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(sign_in_acts(&app).await, ["signed_out"]);
}

async fn staff_sign_in(browser: &mut Browser, password: &str, code: &str) -> Answer {
    let form = [
        ("user_id", STAFF_USER_ID),
        ("password", password),
        ("code", code),
    ];
    browser.submit("/sign-in", &form).await
}

#[tokio::test]
async fn staff_sign_in_with_password_and_authenticator_each_step_once() {
    for db in databases().await {
        let app = app(&db).await;
        let (_, authenticator) = people::staff(&app, StaffRole::SystemAdmin).await;
        let code = authenticator.code_at(NOW).unwrap();
        let mut browser = Browser::office(&app);
        assert_eq!(staff_sign_in(&mut browser, "no", &code).await.status, WRONG);
        let answer = staff_sign_in(&mut browser, PASSWORD, &code).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        assert_eq!(browser.get("/").await.location, "/devices");
        let mut again = Browser::office(&app);
        let answer = staff_sign_in(&mut again, PASSWORD, &code).await;
        assert_eq!(answer.status, WRONG);
        audit::verify(&db, &app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn staff_failures_pause_the_address_they_came_from() {
    let db = sqlite().await;
    let app = app(&db).await;
    let (_, authenticator) = people::staff(&app, StaffRole::Reviewer).await;
    let code = authenticator.code_at(NOW).unwrap();
    let mut browser = Browser::office(&app);
    for _ in 0..OFFICE_FAILURES_MAX {
        staff_sign_in(&mut browser, "no", "123456").await;
    }
    let answer = staff_sign_in(&mut browser, PASSWORD, &code).await;
    assert!(answer.text.contains("一時的に止めています"));
    let mut elsewhere = browser.moved(Way::OfficeFrom([192, 0, 2, 8]));
    let answer = staff_sign_in(&mut elsewhere, PASSWORD, &code).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn staff_are_signed_out_after_an_hour_without_a_request_and_after_twelve_hours() {
    let db = sqlite().await;
    let app = app(&db).await;
    let (_, mut browser) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
    let mut now = NOW;
    while now < NOW + Duration::hours(12) {
        app.clock.set(now);
        assert_eq!(browser.get("/").await.status, StatusCode::SEE_OTHER);
        now += Duration::minutes(59);
    }
    app.clock.set(NOW + Duration::hours(12));
    assert_eq!(browser.get("/").await.status, StatusCode::UNAUTHORIZED);

    let db = sqlite().await;
    let app = self::app(&db).await;
    let (_, mut browser) = people::signed_in_staff(&app, StaffRole::Reviewer).await;
    app.clock.set(NOW + Duration::minutes(60));
    assert_eq!(browser.get("/").await.status, StatusCode::UNAUTHORIZED);
}
