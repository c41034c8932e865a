//! Serves the pages over plain HTTP for people who work on their look.
//!
//! `cargo test -p portal look -- --ignored --nocapture`, then open the addresses that it
//! prints. Whoever asks is signed in already; `/sign-in` and the like work too.

use std::net::Ipv6Addr;

use axum::Router;
use axum::body::Body;
use axum::middleware::{Next, from_fn};
use http::{Request, header};
use tokio::net::TcpListener;

use super::principals::{OfficeConnection, SESSION_COOKIE, TunnelConnection};
use super::sessions;
use crate::clock::Clock;
use crate::db::Db;
use crate::devices::tests::{Fund, new_key};
use crate::staff::StaffRole;
use crate::testing::people::{self, Place};
use crate::testing::sqlite;

/// Lets every request come through `tunnel` or from the office, with the session's cookie
/// unless it asks for `/sign-in` or `/first-password`.
fn arriving(router: Router, tunnel: Option<TunnelConnection>, token: String) -> Router {
    router.layer(from_fn(move |mut request: Request<Body>, next: Next| {
        if let Some(tunnel) = tunnel {
            request.extensions_mut().insert(tunnel);
        }
        request.extensions_mut().insert(OfficeConnection {
            peer: ([127, 0, 0, 1], 1).into(),
        });
        if request.uri().path() != "/sign-in" {
            let cookie = format!("{SESSION_COOKIE}={token}");
            let cookie = cookie.try_into().expect("a cookie is a header");
            request.headers_mut().insert(header::COOKIE, cookie);
        }
        next.run(request)
    }))
}

async fn serve(router: Router, port: &str, what: &str) {
    let port = std::env::var(port).unwrap_or_else(|_| "0".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .await
        .expect("listens");
    println!("{what}: http://{}/", listener.local_addr().expect("bound"));
    axum::serve(listener, router).await.expect("serves");
}

#[tokio::test]
#[ignore = "serves pages until it is stopped"]
async fn pages_to_look_at() {
    let db = sqlite().await;
    let app = crate::testing::rehearsal(&db).await;
    let now = app.clock.now();
    let fund = Fund::on(app.clone()).await;
    let code = fund.code().await;
    fund.enrol(&code, &new_key(), "SOMU-PC-02")
        .await
        .expect("enrols");
    let device = fund.device("SOMU-PC-01").await.id;
    let place = Place {
        establishment: fund.establishment,
        user: fund.user,
        device,
        session: people::session(&app, fund.establishment, device, now).await,
    };
    sqlx::query("UPDATE users SET password_is_initial_since_ms = NULL, password_hash = $1")
        .bind(people::password_hash().await)
        .execute(db.pool())
        .await
        .expect("sets the password");
    let initial = std::env::var("RENKEI_TEST_LOOK_INITIAL").is_ok();
    if initial {
        sqlx::query("UPDATE users SET password_is_initial_since_ms = 1")
            .execute(db.pool())
            .await
            .expect("an initial password");
    }
    let visitor = sessions::find_visitor(&app, place.session, now)
        .await
        .expect("answers")
        .expect("a live session");
    let (staff, authenticator) = people::staff(&app, StaffRole::Supervisor).await;
    let mut tx = app.db.begin().await.expect("begins");
    let member_token = sessions::begin_member(&mut tx, &app.keys, &visitor, place.user, now)
        .await
        .expect("signs in");
    let staff_token = sessions::begin_staff(&mut tx, &app.keys, staff, now)
        .await
        .expect("signs in");
    Db::commit(tx).await.expect("commits");
    println!(
        "{} / {} ; staff {} {}",
        people::USER_ID,
        people::PASSWORD,
        people::STAFF_USER_ID,
        authenticator.to_base32()
    );
    assert!(matches!(app.clock, Clock::System));

    let tunnel = TunnelConnection {
        session: place.session,
        inner_address: Ipv6Addr::LOCALHOST,
    };
    let member = arriving(
        super::member_router(app.clone()),
        Some(tunnel),
        member_token,
    );
    let office = arriving(super::office_router(app), None, staff_token);
    tokio::join!(
        serve(member, "RENKEI_TEST_LOOK_MEMBER", "member"),
        serve(office, "RENKEI_TEST_LOOK_OFFICE", "office"),
    );
}
