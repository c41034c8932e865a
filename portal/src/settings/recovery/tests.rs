//! Recovery codes: shown once, used once, and only beside an authenticator.

use http::StatusCode;

use super::*;
use crate::authenticator::Authenticator;
use crate::testing::people::{self, Answer, Browser, PASSWORD, Place, USER_ID};
use crate::testing::{NOW, app, databases, sqlite};

const PATH: &str = "/settings/recovery-codes";
const WRONG: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

/// An admin with an authenticator, signed in.
async fn with_authenticator(app: &App) -> (Place, Browser) {
    let place = people::place(app, "0123", USER_ID).await;
    let sealed = Authenticator::generate().seal(&app.keys, &place.user.to_string());
    sqlx::query("UPDATE users SET second_factor = 'totp', totp_sealed = $1")
        .bind(sealed)
        .execute(app.db.pool())
        .await
        .unwrap();
    let browser = people::signed_in_member(app, &place).await;
    (place, browser)
}

/// The codes on the page that shows them.
fn codes(page: &Answer) -> Vec<String> {
    page.text
        .split("<li class=\"code\">")
        .skip(1)
        .filter_map(|rest| rest.split('<').next())
        .map(str::to_owned)
        .collect()
}

async fn sign_in(app: &App, place: &Place, code: &str) -> Answer {
    let mut browser = Browser::member(app, place.session);
    let form = [
        ("user_id", USER_ID),
        ("password", PASSWORD),
        ("code", code),
        ("action", "sign_in"),
    ];
    browser.submit("/sign-in", &form).await
}

#[tokio::test]
async fn each_code_signs_in_once_and_the_admins_hear_of_it() {
    for db in databases().await {
        let app = app(&db).await;
        let (place, mut browser) = with_authenticator(&app).await;
        let wrong = browser.submit(PATH, &[("password", "not hers")]).await;
        assert!(wrong.status == WRONG && codes(&wrong).is_empty());
        let page = browser.submit(PATH, &[("password", PASSWORD)]).await;
        let codes = codes(&page);
        assert_eq!(codes.len(), CODES);
        // 16 characters of 32: 80 bits, more than the 64 that are asked for.
        assert!(codes.iter().all(|code| code.len() == 19));
        assert!(!browser.get(PATH).await.text.contains(&codes[0]));
        let kept: Vec<String> = sqlx::query_scalar("SELECT code_hash FROM recovery_codes")
            .fetch_all(db.pool())
            .await
            .unwrap();
        assert!(!kept.contains(&codes[0]));

        let typed = codes[0].to_lowercase().replace('-', " ");
        let answer = sign_in(&app, &place, &typed).await;
        assert_eq!(answer.location, "/", "{}", answer.text);
        let mails: Vec<String> = sqlx::query_scalar("SELECT purpose FROM outbox")
            .fetch_all(db.pool())
            .await
            .unwrap();
        assert_eq!(mails, ["people_changed"]);
        let again = sign_in(&app, &place, &codes[0]).await;
        assert!(again.status == WRONG && again.text.contains("すでに使われています"));

        // Of many at once one wins.
        let tries = (0..6).map(|_| {
            let (app, code) = (app.clone(), codes[1].clone());
            tokio::spawn(async move {
                let code = RecoveryCode::read(&code).unwrap();
                let mut tx = app.db.begin().await.unwrap();
                let good = redeem(&mut tx, &app, &Actor::System, place.user, &code, NOW).await;
                Db::commit(tx).await.unwrap();
                good.unwrap()
            })
        });
        let tries: Vec<_> = tries.collect();
        let mut won = 0;
        for one in tries {
            won += i32::from(one.await.unwrap());
        }
        assert_eq!(won, 1);
        assert_eq!(left(&db, place.user).await.unwrap(), 8);
        audit::verify(&db, &app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn codes_are_nothing_without_an_authenticator() {
    for db in databases().await {
        let app = app(&db).await;
        let (place, mut browser) = with_authenticator(&app).await;
        let page = browser.submit(PATH, &[("password", PASSWORD)]).await;
        let code = codes(&page).remove(0);
        // The authenticator is taken off: the codes are gone with it.
        let mut tx = db.begin().await.unwrap();
        crate::settings::store::remove_authenticator(&mut tx, place.user)
            .await
            .unwrap();
        Db::commit(tx).await.unwrap();
        assert_eq!(sign_in(&app, &place, &code).await.status, WRONG);
        let answer = browser
            .submit_to("/settings/password", PATH, &[("password", PASSWORD)])
            .await;
        assert!(answer.status == WRONG && answer.text.contains("先に認証アプリを"));
        assert_eq!(left(&db, place.user).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_new_set_replaces_the_old_one_and_the_file_holds_only_ones_own() {
    let db = sqlite().await;
    let app = app(&db).await;
    let (place, mut browser) = with_authenticator(&app).await;
    let first = codes(&browser.submit(PATH, &[("password", PASSWORD)]).await);
    let second = codes(&browser.submit(PATH, &[("password", PASSWORD)]).await);
    assert_eq!(sign_in(&app, &place, &first[0]).await.status, WRONG);
    let file = "/settings/recovery-codes/file";
    let all = second.join(" ");
    let answer = browser.submit_to(PATH, file, &[("codes", &all)]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(
        answer.headers["content-disposition"]
            .to_str()
            .unwrap()
            .contains("attachment")
    );
    assert!(second.iter().all(|code| answer.text.contains(code)));
    let long = [all.as_str(), all.as_str()].join(" ");
    for foreign in [first.join(" ").as_str(), "ABCD", "", &long] {
        let answer = browser.submit_to(PATH, file, &[("codes", foreign)]).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{foreign}");
    }
}
