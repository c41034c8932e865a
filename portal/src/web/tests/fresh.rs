//! What asks for a second factor shown just now: all of it, so that a route that stops asking
//! fails here.

use std::collections::BTreeSet;

use super::authorisation::tables;
use crate::testing::world::World;
use crate::web::router::Route;

/// Method and path of every weighty route of a member's.
const OF_MEMBERS: &[&str] = &[
    "GET /delegations/new",
    "POST /delegations/new",
    "POST /delegations/{id}/accept",
    "GET /settings/passkeys",
    "POST /settings/passkeys",
    "POST /settings/passkeys/question",
    "POST /settings/passkeys/{id}/remove",
    "GET /settings/zip-password",
];
/// The same of staff's.
const OF_STAFF: &[&str] = &[
    "POST /approvals/{id}/approve",
    "POST /establishments/{id}/leaving/destroy",
    "POST /establishments/{id}/leaving/end",
    "POST /establishments/{id}/leaving/take-back",
    "POST /establishments/{id}/users/{user}/password",
    "GET /passkeys",
    "POST /passkeys",
    "POST /passkeys/question",
    "POST /passkeys/{id}/remove",
    "POST /quarantine/{id}/destroy",
    "POST /quarantine/{id}/release",
    "POST /retention",
    "GET /staff/new",
    "POST /staff/new",
    "GET /staff/{id}/authenticator.png",
    "POST /staff/{id}/disable",
    "POST /staff/{id}/issue",
    "POST /staff/{id}/propose",
    "POST /staff/{id}/reset",
    "POST /staff/{id}/role",
];

fn fresh(table: &[Route]) -> BTreeSet<String> {
    let asks = table
        .iter()
        .filter(|route| route.allowed.starts_with("fresh "));
    asks.map(|route| format!("{} {}", route.method, route.path))
        .collect()
}

fn listed(routes: &[&str]) -> BTreeSet<String> {
    routes.iter().map(|&route| route.to_owned()).collect()
}

#[tokio::test]
async fn all_that_is_weighty_asks_for_a_second_factor_shown_just_now() {
    let world = World::new().await;
    let (member, office) = tables(&world);
    for (asks, weighty) in [(fresh(&member), OF_MEMBERS), (fresh(&office), OF_STAFF)] {
        let weighty = listed(weighty);
        let missing: Vec<_> = weighty.difference(&asks).collect();
        assert!(missing.is_empty(), "do not ask any more: {missing:#?}");
        // Who adds one enters it above, or the next one who drops it is not caught.
        let unlisted: Vec<_> = asks.difference(&weighty).collect();
        assert!(unlisted.is_empty(), "not listed: {unlisted:#?}");
    }
}
