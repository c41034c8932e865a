//! The people of an establishment: who may change what, and the admin that always stays.

use http::StatusCode;
use time::Duration;

use super::*;
use crate::app::App;
use crate::establishments::{self, LoginName, MailAddress, NewUser};
use crate::testing::people::{self, Browser, PASSWORD, Place, USER_ID, password_hash};
use crate::testing::world::worlds;
use crate::testing::{NOW, app, databases, sqlite};

const WRONG: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

/// Adds somebody who has signed in before.
pub(crate) async fn colleague(app: &App, place: &Place, login: &str, role: Role) -> UserId {
    let new = NewUser {
        login: LoginName::new(login).unwrap(),
        name: Name::new("田村 次郎").unwrap(),
        email: MailAddress::new(&format!("{login}@example.co.jp")).unwrap(),
        password_hash: password_hash().await.to_owned(),
    };
    let (actor, here) = (Actor::System, place.establishment);
    let mut tx = app.db.begin().await.unwrap();
    let user = establishments::add_user(&mut tx, &app.keys, &actor, here, &new, role, NOW)
        .await
        .unwrap();
    people::introduce(&mut tx, user).await;
    crate::db::Db::commit(tx).await.unwrap();
    user
}

/// A PC of that person, with a tunnel session and a browser.
pub(crate) async fn at_work(app: &App, place: &Place, user: UserId) -> (Place, Browser) {
    let device = people::device(app, place.establishment, user).await;
    let session = people::session(app, place.establishment, device, NOW).await;
    let there = Place {
        user,
        device,
        session,
        ..*place
    };
    let browser = people::signed_in_member(app, &there).await;
    (there, browser)
}

async fn column(app: &App, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql)
        .fetch_all(app.db.pool())
        .await
        .unwrap()
}

async fn mails(app: &App) -> usize {
    let sql = "SELECT id FROM outbox WHERE purpose = 'people_changed'";
    column(app, sql).await.len()
}

#[tokio::test]
async fn of_admins_who_all_leave_at_once_one_stays() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let mut admins = vec![place.user];
        for number in 0..11 {
            let login = format!("admin{number:02}");
            admins.push(colleague(&app, &place, &login, Role::Admin).await);
        }
        // Half of them are removed, half demoted, all at the same time.
        let leaving: Vec<_> = admins
            .iter()
            .enumerate()
            .map(|(at, user)| {
                let (app, user, here) = (app.clone(), *user, place.establishment);
                tokio::spawn(async move {
                    let actor = Actor::System;
                    let mut tx = app.db.begin().await.unwrap();
                    let left = if at % 2 == 0 {
                        remove(&mut tx, &app, &actor, here, user, NOW).await
                    } else {
                        change_role(&mut tx, &app, &actor, here, user, Role::Added, NOW).await
                    };
                    if left.is_ok() {
                        crate::db::Db::commit(tx).await.unwrap();
                    }
                    left
                })
            })
            .collect();
        let mut stayed = 0;
        for leaver in leaving {
            match leaver.await.unwrap() {
                Ok(()) => {}
                Err(PeopleError::LastAdmin) => stayed += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(stayed, 1);
        let mut tx = db.begin().await.unwrap();
        let admins = store::admins(&mut tx, place.establishment).await.unwrap();
        assert_eq!(admins.len(), 1);
        drop(tx);
        audit::verify(&db, &app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn an_admin_adds_a_user_who_gets_a_code_and_a_password_that_are_shown_once() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let mut admin = people::signed_in_member(&app, &place).await;
        let form = [
            ("user_name", "社労士 一郎"),
            ("login", "Ichiro"),
            ("email", "ichiro@example.jp"),
            ("code", "yes"),
        ];
        let slip = admin.submit("/users/new", &form).await;
        assert_eq!(slip.status, StatusCode::OK);
        assert!(slip.text.contains("id=\"registration-code\"") && slip.text.contains("ichiro"));
        let list = admin.get("/users").await;
        assert!(list.text.contains("社労士 一郎") && list.text.contains("初回ログイン前"));
        assert!(!list.text.contains("registration-code"));
        assert_eq!(mails(&app).await, 1);
        // The same user ID again: the form says so and keeps what was typed.
        let again = admin.submit("/users/new", &form).await;
        assert_eq!(again.status, WRONG);
        assert!(again.text.contains("すでに使われています") && again.text.contains("社労士 一郎"));
        let acts = column(&app, "SELECT act FROM audit_log ORDER BY seq").await;
        assert!(acts.ends_with(&[
            "user_added".to_owned(),
            "membership_added".to_owned(),
            "registration_code_issued".to_owned()
        ]));
    }
}

#[tokio::test]
async fn who_is_removed_is_out_at_once_with_pc_session_and_codes() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let user = colleague(&app, &place, "tamura", Role::Added).await;
        let (there, mut browser) = at_work(&app, &place, user).await;
        // She also sits at the admin's PC now and then.
        let at_admins = Place { user, ..place };
        let mut second = people::signed_in_member(&app, &at_admins).await;
        assert_eq!(second.get("/").await.status, StatusCode::OK);
        let session = people::session(&app, place.establishment, place.device, NOW).await;
        let mut admin = people::signed_in_member(&app, &Place { session, ..place }).await;
        let path = format!("/users/{user}/remove");
        let answer = admin.submit(&path, &[("password", "not hers")]).await;
        assert_eq!(answer.status, WRONG);
        assert_eq!(browser.get("/").await.status, StatusCode::OK);
        let answer = admin.submit(&path, &[("password", PASSWORD)]).await;
        assert_eq!(answer.location, "/users?done=removed");
        assert_eq!(browser.get("/").await.status, StatusCode::UNAUTHORIZED);
        let ended = column(
            &app,
            "SELECT end_reason FROM tunnel_sessions WHERE end_reason IS NOT NULL",
        )
        .await;
        assert_eq!(ended, ["revoked"]);
        let revoked = column(&app, "SELECT id FROM devices WHERE revoked_ms IS NOT NULL").await;
        assert_eq!(revoked, [there.device.to_string()]);
        // The admin's own PC and session stay.
        assert_eq!(admin.get("/users").await.status, StatusCode::OK);
        assert!(!admin.get("/users").await.text.contains("tamura"));
        assert_eq!(admin.get(&path).await.status, StatusCode::NOT_FOUND);
        assert_eq!(mails(&app).await, 1);
        audit::verify(&db, &app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn the_last_admin_is_told_why_she_cannot_leave() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let mut admin = people::signed_in_member(&app, &place).await;
    for act in ["remove", "demote"] {
        let path = format!("/users/{}/{act}", place.user);
        let answer = admin.submit(&path, &[("password", PASSWORD)]).await;
        assert_eq!(answer.status, WRONG);
        assert!(answer.text.contains("管理者が1名以上必要です"));
    }
    assert_eq!(admin.get("/users").await.status, StatusCode::OK);
    assert_eq!(mails(&app).await, 0);
}

#[tokio::test]
async fn an_admin_has_no_power_over_another_admins_account_nor_over_a_shared_one() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let elsewhere = people::place(&app, "0124", "boss").await;
    let other = colleague(&app, &place, "other", Role::Admin).await;
    let shared = colleague(&app, &place, "shared", Role::Added).await;
    let mut tx = db.begin().await.unwrap();
    let (actor, there) = (Actor::System, elsewhere.establishment);
    establishments::add_member(&mut tx, &app.keys, &actor, there, shared, Role::Added, NOW)
        .await
        .unwrap();
    crate::db::Db::commit(tx).await.unwrap();
    let before = column(&app, "SELECT password_hash FROM users ORDER BY id").await;
    let mut admin = people::signed_in_member(&app, &place).await;
    for user in [other, shared] {
        for act in ["password", "authenticator"] {
            let path = format!("/users/{user}/{act}");
            let answer = admin.submit(&path, &[("password", PASSWORD)]).await;
            assert_eq!(answer.status, WRONG, "{act}");
            assert!(
                answer.text.contains("基金事務局へご連絡"),
                "{}",
                answer.text
            );
        }
        let page = format!("/users/{user}");
        let form = [("user_name", "別の 名前")];
        let answer = admin
            .submit_to("/users/new", &format!("{page}/name"), &form)
            .await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
    }
    assert_eq!(
        before,
        column(&app, "SELECT password_hash FROM users ORDER BY id").await
    );
    // But the shared one's place here is the establishment's: it ends, the other stays.
    let path = format!("/users/{shared}/remove");
    let answer = admin.submit(&path, &[("password", PASSWORD)]).await;
    assert_eq!(answer.location, "/users?done=removed");
    let mut tx = db.begin().await.unwrap();
    let left = store::find(&mut tx, elsewhere.establishment, shared)
        .await
        .unwrap();
    assert!(left.is_some());
}

#[tokio::test]
async fn strangers_people_and_pcs_do_not_exist() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let other = people::place(&app, "0124", "boss").await;
    let mut admin = people::signed_in_member(&app, &place).await;
    let user = other.user;
    for path in [
        format!("/users/{user}"),
        format!("/users/{user}/remove"),
        format!("/users/{user}/nothing"),
        format!("/pcs/{}/revoke", other.device),
    ] {
        assert_eq!(
            admin.get(&path).await.status,
            StatusCode::NOT_FOUND,
            "{path}"
        );
        let form = [("password", PASSWORD)];
        let answer = admin.submit_to("/users/new", &path, &form).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    // An added user has none of these pages, not even for herself.
    let added = colleague(&app, &place, "tamura", Role::Added).await;
    let (_, mut browser) = at_work(&app, &place, added).await;
    assert!(!browser.get("/").await.text.contains("href=\"/users\""));
    for path in ["/users", "/users/new", &format!("/users/{added}")] {
        assert_eq!(browser.get(path).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_lost_pc_is_revoked_at_once_even_the_one_the_admin_sits_at() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let second = people::device(&app, place.establishment, place.user).await;
        let mut admin = people::signed_in_member(&app, &place).await;
        let list = admin.get("/users").await;
        assert!(list.text.contains("3台まで") && list.text.contains("いま2台"));
        let answer = admin
            .submit(&format!("/pcs/{second}/revoke"), &[("password", PASSWORD)])
            .await;
        assert_eq!(answer.location, "/users?done=revoked");
        assert!(admin.get("/users").await.text.contains("いま1台"));
        assert_eq!(mails(&app).await, 1);
        let path = format!("/pcs/{}/revoke", place.device);
        let page = admin.get(&path).await;
        assert!(page.text.contains("いまお使いのパソコン"));
        admin.submit(&path, &[("password", PASSWORD)]).await;
        assert_eq!(admin.get("/users").await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_lost_telephone_puts_the_user_back_on_mail_and_ends_the_web_sessions() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let user = colleague(&app, &place, "tamura", Role::Added).await;
        let (_, mut browser) = at_work(&app, &place, user).await;
        sqlx::query("UPDATE users SET second_factor = 'totp', totp_sealed = 'x' WHERE id = $1")
            .bind(user.to_string())
            .execute(db.pool())
            .await
            .unwrap();
        let mut admin = people::signed_in_member(&app, &place).await;
        let path = format!("/users/{user}/authenticator");
        let answer = admin.submit(&path, &[("password", PASSWORD)]).await;
        assert_eq!(answer.location, "/users?done=authenticator");
        let factors = column(&app, "SELECT second_factor FROM users").await;
        assert_eq!(factors, ["email", "email"]);
        assert_eq!(browser.get("/").await.status, StatusCode::UNAUTHORIZED);
        // A new password comes on paper, and must be changed.
        let path = format!("/users/{user}/password");
        let slip = admin.submit(&path, &[("password", PASSWORD)]).await;
        assert!(slip.text.contains("id=\"initial-password\""));
        assert!(admin.get("/users").await.text.contains("初回ログイン前"));
        assert_eq!(mails(&app).await, 2);
    }
}

#[tokio::test]
async fn a_role_changes_for_the_open_page_too() {
    let db = sqlite().await;
    let app = app(&db).await;
    let place = people::place(&app, "0123", USER_ID).await;
    let user = colleague(&app, &place, "tamura", Role::Added).await;
    let (_, mut browser) = at_work(&app, &place, user).await;
    let mut admin = people::signed_in_member(&app, &place).await;
    let path = format!("/users/{user}/promote");
    let answer = admin.submit(&path, &[("password", PASSWORD)]).await;
    assert_eq!(answer.location, "/users?done=promoted");
    app.clock.set(NOW + Duration::seconds(1));
    assert_ne!(browser.get("/users").await.status, StatusCode::NOT_FOUND);
    // Twice is refused, and said.
    let again = admin.submit(&path, &[("password", PASSWORD)]).await;
    assert!(again.text.contains("すでに変更されています"));
    // Now the first admin may go.
    let path = format!("/users/{}/remove", place.user);
    admin.submit(&path, &[("password", PASSWORD)]).await;
    assert_eq!(admin.get("/").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_added_user_may_what_the_admin_ticked_at_once() {
    for db in databases().await {
        let app = app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let user = colleague(&app, &place, "tamura", Role::Added).await;
        let (_, mut browser) = at_work(&app, &place, user).await;
        let mut admin = people::signed_in_member(&app, &place).await;
        assert_eq!(browser.get("/filings/new").await.status, StatusCode::OK);
        let page = format!("/users/{user}");
        let path = format!("{page}/permissions");
        let answer = admin.submit_to(&page, &path, &[("fetch", "yes")]).await;
        assert_eq!(answer.location, "/users?done=permissions");
        assert_eq!(
            browser.get("/filings/new").await.status,
            StatusCode::NOT_FOUND
        );
        assert_eq!(browser.get("/notices").await.status, StatusCode::OK);
        assert_eq!(mails(&app).await, 1);
        // The same again changes nothing, and nobody is told.
        admin.submit_to(&page, &path, &[("fetch", "yes")]).await;
        assert_eq!(mails(&app).await, 1);
        // An admin has every permission: there is nothing to tick.
        let own = format!("/users/{}", place.user);
        assert!(!admin.get(&own).await.text.contains("/permissions"));
        let answer = admin
            .submit_to(&own, &format!("{own}/permissions"), &[])
            .await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        audit::verify(&db, &app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn staff_reset_an_admins_second_factor_and_appoint_an_admin_by_two() {
    for world in worlds().await {
        let db = &world.app.db;
        let (alice, colleague) = (&world.alice, world.colleague().await);
        let (admin, added) = (
            alice.as_member().await.user(),
            colleague.as_member().await.user(),
        );
        sqlx::query("UPDATE users SET second_factor = 'totp', totp_sealed = 'x' WHERE id = $1")
            .bind(admin.to_string())
            .execute(db.pool())
            .await
            .unwrap();
        let users = format!("/establishments/{}/users", world.alpha);
        for (path, still) in [
            (format!("{users}/{admin}/authenticator"), StatusCode::OK),
            (format!("{users}/{added}/appoint"), StatusCode::NOT_FOUND),
        ] {
            let (status, ..) = world.sato.post(&path, &[("reason", "")]).await;
            assert_eq!(status, StatusCode::CONFLICT);
            let reason = [("reason", "電話でご本人を確認した")];
            let (_, location, text) = world.sato.post(&path, &reason).await;
            assert_eq!(location, "/approvals?done=proposed", "{text}");
            // Nothing has happened yet, and it does not happen by his own hand.
            let browser = if still == StatusCode::OK {
                alice
            } else {
                &colleague
            };
            assert_eq!(browser.get("/users").await.0, still);
            let (_, page) = world.suzuki.get("/approvals").await;
            let at = page.find("/approvals/0").unwrap();
            let approve = page[at..].split('"').next().unwrap().to_owned();
            let (status, ..) = world.sato.post(&approve, &[]).await;
            assert_eq!(status, StatusCode::CONFLICT);
            let (status, _, text) = world.suzuki.post(&approve, &[]).await;
            assert_eq!(status, StatusCode::SEE_OTHER, "{text}");
        }
        assert_eq!(alice.get("/").await.0, StatusCode::UNAUTHORIZED);
        assert!(crate::sign_in::store::uses_mail(db, admin).await.unwrap());
        assert_eq!(colleague.get("/users").await.0, StatusCode::OK);
        let mut tx = db.begin().await.unwrap();
        assert_eq!(store::admins(&mut tx, world.alpha).await.unwrap().len(), 2);
        drop(tx);
        audit::verify(db, &world.app.keys).await.unwrap();
    }
}

/// Where the open proposal is approved, as one sees it who may.
async fn approval(browser: &crate::testing::world::Browser) -> String {
    let (_, page) = browser.get("/approvals").await;
    let at = page.find("/approvals/0").expect("an open proposal");
    let path = page[at..].split('"').next().unwrap().to_owned();
    assert!(path.ends_with("/approve"), "{path}");
    path
}

#[tokio::test]
async fn staff_make_an_admins_password_anew_by_two_and_print_it_once() {
    for world in worlds().await {
        let app = &world.app;
        let user = world.alice.as_member().await.user();
        let path = format!("/establishments/{}/users/{user}/password", world.alpha);
        let reason = [("reason", "電話でご本人を確認した")];
        let (_, location, text) = world.sato.post(&path, &reason).await;
        assert_eq!(location, "/approvals?done=proposed", "{text}");
        let (status, ..) = world.sato.post(&path, &reason).await;
        assert_eq!(status, StatusCode::CONFLICT);
        let approve = approval(&world.suzuki).await;
        for (browser, status) in [
            (&world.sato, StatusCode::CONFLICT),
            (&world.suzuki, StatusCode::SEE_OTHER),
        ] {
            assert_eq!(browser.post(&approve, &[]).await.0, status);
        }
        // Approved, and still nothing has changed for the admin.
        assert_eq!(world.alice.get("/").await.0, StatusCode::OK);

        let (one, two) = tokio::join!(world.sato.post(&path, &[]), world.suzuki.post(&path, &[]));
        let printed = [&one, &two].map(|answer| answer.2.contains("id=\"initial-password\""));
        assert!(printed[0] != printed[1], "{} {}", one.2, two.2);
        assert_eq!(world.alice.get("/").await.0, StatusCode::UNAUTHORIZED);
        let mails: Vec<String> = sqlx::query_scalar("SELECT purpose FROM outbox")
            .fetch_all(app.db.pool())
            .await
            .unwrap();
        assert_eq!(mails, ["people_changed"]);
        // Used up.
        let (status, ..) = world.sato.post(&path, &[]).await;
        assert_eq!(status, StatusCode::CONFLICT);

        // A permission that nobody uses ends by itself.
        world.sato.post(&path, &reason).await;
        let approve = approval(&world.suzuki).await;
        world.suzuki.post(&approve, &[]).await;
        let (kind, subject) = (
            crate::approvals::Kind::PasswordReset,
            crate::approvals::member_subject(world.alpha, user),
        );
        let until = app.clock.now() + crate::approvals::resets::VALIDITY;
        for (now, allowed) in [(until - Duration::MILLISECOND, true), (until, false)] {
            let found = crate::approvals::resets::is_allowed(&app.db, kind, &subject, now).await;
            assert_eq!(found.unwrap(), allowed);
        }
        audit::verify(&app.db, &app.keys).await.unwrap();
    }
}
