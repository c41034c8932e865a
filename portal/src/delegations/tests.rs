//! Delegates act within what they were given, for as long as it stands, and see nothing else.

use http::{Method, StatusCode};
use time::macros::date;

use super::*;
use crate::testing::NOW;
use crate::testing::world::{Browser, World, worlds};
use crate::web::forms::CSRF_HEADER;

const EVERYTHING: [(&str, &str); 8] = [
    ("file", "on"),
    ("fetch", "on"),
    ("history", "on"),
    ("membership", "on"),
    ("record", "on"),
    ("salary", "on"),
    ("establishment", "on"),
    ("last_day", "2026-12-31"),
];

fn with<'a>(partner: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut form = EVERYTHING.to_vec();
    form.push(("partner", partner));
    form.extend_from_slice(more);
    form
}

/// The id in the first form of the page whose action ends so.
async fn id_before(browser: &Browser, page: &str, ending: &str) -> String {
    let (_, text) = browser.get(page).await;
    let at = text
        .find(ending)
        .unwrap_or_else(|| panic!("{ending} in {text}"));
    text[at - 36..at].to_owned()
}

/// Alpha asks the office, which accepts; the delegation.
async fn agreed(world: &World, office: &Browser, more: &[(&str, &str)]) -> String {
    let mut form = with("9001", &[("confirmed", "9001")]);
    form.retain(|(name, _)| more.iter().all(|(other, _)| name != other));
    form.extend(more.iter().filter(|(_, value)| !value.is_empty()));
    let (status, location, text) = world.alice.post("/delegations/new", &form).await;
    assert_eq!(location, "/delegations", "{status} {text}");
    let id = id_before(office, "/delegations", "/accept").await;
    let (status, ..) = office.post(&format!("/delegations/{id}/accept"), &[]).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    id
}

/// The browser as it is after it took up acting.
async fn acting(browser: &Browser, delegation: &str) -> Browser {
    let form = [("delegation", delegation), ("next", "/filings")];
    let (status, location, text) = browser.post("/desk/act", &form).await;
    assert_eq!(location, "/filings", "{status} {text}");
    refreshed(browser).await
}

/// The browser with the token of the page that it sees now.
async fn refreshed(browser: &Browser) -> Browser {
    let (_, text) = browser.get("/settings").await;
    let (_, rest) = text.split_once("name=\"csrf\" value=\"").unwrap();
    let mut browser = browser.clone();
    browser.csrf = rest.split('"').next().unwrap().to_owned();
    browser
}

#[tokio::test]
async fn an_establishment_asks_an_office_which_accepts_and_works_for_it_under_a_banner() {
    for world in worlds().await {
        let office = world.sharoushi().await;
        let (_, desk) = office.get("/desk").await;
        assert!(desk.contains("代理できる事業所はまだありません"), "{desk}");
        assert_eq!(office.get("/filings").await.0, StatusCode::NOT_FOUND);

        // The office is shown by name before anything goes out.
        let form = with("9001", &[]);
        let (status, _, text) = world.alice.post("/delegations/new", &form).await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("みらい社労士事務所"), "{text}");
        let id = agreed(&world, &office, &[]).await;

        let works = acting(&office, &id).await;
        for page in [
            "/",
            "/filings",
            "/filings/new",
            "/notices",
            "/settings",
            "/desk",
        ] {
            let (status, text) = works.get(page).await;
            assert_eq!(status, StatusCode::OK, "{page}");
            assert!(text.contains("見本製作所株式会社の代理"), "{page}: {text}");
        }
        let filing = works.file("20240524_0123_資格取得届.pdf").await;
        let (_, text) = world.alice.get(&filing).await;
        assert!(
            text.contains("みらい社労士事務所") && text.contains("森 次郎"),
            "{text}"
        );
        let (_, text) = works.get(&filing).await;
        let at = text.find("/submissions/").unwrap();
        let receipt = text[at..].split('"').next().unwrap();
        let (_, receipt) = works.get(receipt).await;
        assert!(receipt.contains("みらい社労士事務所"), "{receipt}");

        let details: String =
            sqlx::query_scalar("SELECT details FROM audit_log WHERE act = 'submitted'")
                .fetch_one(world.app.db.pool())
                .await
                .unwrap();
        assert!(details.contains(&world.alpha.to_string()), "{details}");
        let actor: String =
            sqlx::query_scalar("SELECT actor_id FROM audit_log WHERE act = 'submitted'")
                .fetch_one(world.app.db.pool())
                .await
                .unwrap();
        assert_eq!(actor, works.as_member().await.user().to_string());

        // What the client's admin alone may do does not exist for the delegate.
        for page in ["/delegations", "/users"] {
            assert_eq!(works.get(page).await.0, StatusCode::NOT_FOUND, "{page}");
        }
        let (_, location, _) = works.post("/desk/leave", &[]).await;
        assert_eq!(location, "/desk");
        assert_eq!(office.get(&filing).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn an_office_proposes_by_number_and_learns_nothing_from_it() {
    for world in worlds().await {
        let office = world.sharoushi().await;
        for number in ["0123", "0777"] {
            let (_, location, text) = office.post("/delegations/new", &with(number, &[])).await;
            assert_eq!(location, "/delegations", "{text}");
        }
        let (_, page) = office.get("/delegations").await;
        assert!(page.contains("0123") && page.contains("0777"), "{page}");
        assert!(!page.contains("見本製作所"), "{page}");
        let (_, _, text) = office.post("/delegations/new", &with("0123", &[])).await;
        assert!(text.contains("すでにあります"), "{text}");

        let id = id_before(&world.alice, "/delegations", "/accept").await;
        let path = format!("/delegations/{id}/accept");
        for other in [&world.bob, &office] {
            assert_eq!(other.post(&path, &[]).await.0, StatusCode::NOT_FOUND);
        }
        assert_eq!(world.alice.post(&path, &[]).await.0, StatusCode::SEE_OTHER);
        let (_, desk) = office.get("/desk").await;
        assert!(desk.contains("見本製作所株式会社"), "{desk}");
    }
}

/// Every route of the members with an object in its path.
async fn walk(browser: &Browser, objects: &[String], message: &str) {
    let is_stale = message.contains("old token");
    let routes = crate::web::member_table(browser.app());
    let routes = routes.iter().filter(|route| route.path.contains('{'));
    for route in routes.filter(|route| !["anyone", "visitor"].contains(&route.allowed)) {
        for object in objects {
            let path: Vec<_> = route
                .path
                .split('/')
                .map(|part| if part.starts_with('{') { object } else { part })
                .collect();
            let request = browser
                .request(route.method.clone(), &path.join("/"))
                .header(CSRF_HEADER, &browser.csrf)
                .header(
                    "content-type",
                    match route.method {
                        Method::PATCH => "application/offset+octet-stream",
                        _ => "application/x-www-form-urlencoded",
                    },
                )
                .body(axum::body::Body::empty())
                .unwrap();
            let status = browser.send(request).await.status();
            // A form whose fields are missing is unreadable before anything is looked for.
            let closed = [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST].contains(&status);
            // Pages of one's own office turn the token for the client away.
            let closed = closed || (is_stale && status == StatusCode::FORBIDDEN);
            assert!(closed, "{message}: {route:?} {object} {status}");
            let reads = [Method::GET, Method::HEAD].contains(&route.method);
            assert!(
                !reads || status == StatusCode::NOT_FOUND,
                "{message}: {route:?}"
            );
        }
    }
}

#[tokio::test]
async fn no_route_shows_a_delegate_what_is_foreign_or_was_revoked() {
    for world in worlds().await {
        let office = world.sharoushi().await;
        let filing = world.alice.file("20240524_0123_資格取得届.pdf").await;
        let (_, page) = world.alice.get(&filing).await;
        let at = page.find("/submissions/").unwrap() + "/submissions/".len();
        let upload = world.alice.upload("x.pdf", b"%PDF-".to_vec()).await;
        let objects = [
            filing.trim_start_matches("/filings/").to_owned(),
            page[at..at + 36].to_owned(),
            upload,
            world.alice.as_member().await.user().to_string(),
            world.alice.as_member().await.device().to_string(),
            world.alpha.to_string(),
        ];
        walk(&office, &objects, "no delegation").await;

        // Acting for beta, nothing of alpha's exists.
        let (_, location, _) = world
            .bob
            .post("/delegations/new", &with("9001", &[("confirmed", "9001")]))
            .await;
        assert_eq!(location, "/delegations");
        let beta = id_before(&office, "/delegations", "/accept").await;
        office
            .post(&format!("/delegations/{beta}/accept"), &[])
            .await;
        let for_beta = acting(&office, &beta).await;
        walk(&for_beta, &objects, "for another").await;
        for_beta.post("/desk/leave", &[]).await;

        // Acting for alpha it does; after the revocation it does not, with the very next
        // request, and the connections that are open are cut.
        let alpha = agreed(&world, &office, &[]).await;
        let for_alpha = acting(&office, &alpha).await;
        assert_eq!(for_alpha.get(&filing).await.0, StatusCode::OK);
        let cut = async || -> i64 {
            sqlx::query_scalar("SELECT COUNT(*) FROM tunnel_sessions WHERE pages_cut > 0")
                .fetch_one(world.app.db.pool())
                .await
                .unwrap()
        };
        assert_eq!(cut().await, 0);
        let (status, ..) = world
            .alice
            .post(&format!("/delegations/{alpha}/end"), &[])
            .await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        assert_eq!(cut().await, 1);
        walk(&for_alpha, &objects, "revoked, with the old token").await;
        walk(&refreshed(&office).await, &objects, "revoked").await;
        let form = [("delegation", alpha.as_str())];
        let again = refreshed(&office).await.post("/desk/act", &form).await;
        assert_eq!(again.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_form_for_one_client_does_nothing_for_another() {
    for world in worlds().await {
        let office = world.sharoushi().await;
        let id = agreed(&world, &office, &[]).await;
        let filing = world.alice.file("20240524_0123_資格取得届.pdf").await;
        let for_alpha = acting(&office, &id).await;
        for_alpha.post("/desk/leave", &[]).await;
        acting(&refreshed(&office).await, &id).await;
        // The token of before the client was taken up is good for the office alone.
        let (status, ..) = office.post(&format!("{filing}/withdraw"), &[]).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        let (status, ..) = for_alpha.post(&format!("{filing}/withdraw"), &[]).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
    }
}

#[tokio::test]
async fn what_is_handed_in_while_the_delegation_is_revoked_is_not_received() {
    for world in worlds().await {
        let office = world.sharoushi().await;
        let id = agreed(&world, &office, &[]).await;
        let member = acting(&office, &id).await.as_member().await;
        let mut tx = world.app.db.begin().await.unwrap();
        assert!(store::still_stands(&mut tx, &member, NOW).await.unwrap());
        drop(tx);
        world
            .alice
            .post(&format!("/delegations/{id}/end"), &[])
            .await;
        let mut tx = world.app.db.begin().await.unwrap();
        assert!(!store::still_stands(&mut tx, &member, NOW).await.unwrap());
    }
}

#[tokio::test]
async fn a_delegate_files_and_sees_the_procedures_that_were_delegated_and_no_others() {
    for world in worlds().await {
        let office = world.sharoushi().await;
        let hers = world.alice.file("20240524_0123_資格取得届.pdf").await;
        let salary_only = [
            ("membership", ""),
            ("record", ""),
            ("establishment", ""),
            ("fetch", ""),
        ];
        let id = agreed(&world, &office, &salary_only).await;
        let works = acting(&office, &id).await;
        assert_eq!(works.get(&hers).await.0, StatusCode::NOT_FOUND);
        assert_eq!(works.get("/notices").await.0, StatusCode::NOT_FOUND);
        let pdf = crate::testing::world::corpus("good/20240229_0123_資格喪失届.pdf");
        let upload = works.upload("20240229_0123_資格喪失届.pdf", pdf).await;
        let body = serde_json::json!({ "files": [{ "upload": upload }] });
        let (status, answer) = works.post_json("/filings", &body).await;
        assert_ne!(status, StatusCode::CREATED, "{answer}");
        assert!(answer.to_string().contains("任されていない"), "{answer}");
        let his = works.file("20240524_0123_算定基礎届.pdf").await;
        assert_eq!(works.get(&his).await.0, StatusCode::OK);
        let (status, history) = works.get("/history").await;
        assert_eq!(status, StatusCode::OK);
        assert!(history.contains("20240524_0123_算定基礎届"), "{history}");
        assert!(!history.contains("20240524_0123_資格取得届"), "{history}");
        // Nor does the choice of kinds name what he does not see.
        assert!(history.contains("value=\"算定基礎届\""), "{history}");
        assert!(!history.contains("value=\"資格取得届\""), "{history}");
        // What the establishment asks the fund, and who becomes its admin, is its own.
        for path in ["/contact", "/handover"] {
            assert_eq!(works.get(path).await.0, StatusCode::NOT_FOUND, "{path}");
            assert_ne!(world.alice.get(path).await.0, StatusCode::NOT_FOUND);
        }
    }
}

#[tokio::test]
async fn a_delegation_ends_at_the_end_of_its_last_day() {
    for world in worlds().await {
        let office = world.sharoushi().await;
        let today = [("last_day", "2026-03-13")];
        let id = agreed(&world, &office, &today).await;
        let member = acting(&office, &id).await.as_member().await;
        let ends = date!(2026 - 03 - 14).midnight().assume_offset(access::JST);
        for (now, stands) in [(ends - Duration::MILLISECOND, true), (ends, false)] {
            let mut tx = world.app.db.begin().await.unwrap();
            let found = store::still_stands(&mut tx, &member, now).await.unwrap();
            assert_eq!(found, stands, "{now}");
        }
        assert!(
            store::desk(&world.app.db, &member, ends)
                .await
                .unwrap()
                .is_empty()
        );
    }
}

/// Returns a filing; its page.
async fn returned(world: &World, filing: &str) {
    world.sato.post(&format!("{filing}/take"), &[]).await;
    let form = [("code", "illegible")];
    let (status, _, text) = world.sato.post(&format!("{filing}/return"), &form).await;
    assert_eq!(status, StatusCode::SEE_OTHER, "{text}");
}

#[tokio::test]
async fn the_desk_counts_what_its_reader_may_see_and_no_more() {
    for world in worlds().await {
        let office = world.sharoushi().await;
        let filing_only = [("history", ""), ("fetch", "")];
        let id = agreed(&world, &office, &filing_only).await;
        let hers = world.alice.file("20240524_0123_資格取得届.pdf").await;
        let his = acting(&office, &id)
            .await
            .file("20240524_0123_算定基礎届.pdf")
            .await;
        returned(&world, &hers).await;
        returned(&world, &his).await;
        let (_, desk) = office.get("/desk").await;
        assert!(desk.contains("20240524_0123_算定基礎届"), "{desk}");
        assert!(!desk.contains("20240524_0123_資格取得届"), "{desk}");
        assert!(desk.contains("<dt>差戻しの届書</dt><dd>1件</dd>"), "{desk}");

        // With the permission for the history he sees all of them.
        world
            .alice
            .post(&format!("/delegations/{id}/end"), &[])
            .await;
        agreed(&world, &office, &[("fetch", "")]).await;
        let (_, desk) = office.get("/desk").await;
        assert!(desk.contains("<dt>差戻しの届書</dt><dd>2件</dd>"), "{desk}");

        // Whoever may do less at home may do no more here.
        let member = office.as_member().await;
        for (permissions, shown) in [("fetch", 0), ("file", 1), ("history", 2)] {
            sqlx::query(
                "UPDATE memberships SET role = 'added', permissions = $1 WHERE user_id = $2",
            )
            .bind(permissions)
            .bind(member.user().to_string())
            .execute(world.app.db.pool())
            .await
            .unwrap();
            let (_, desk) = office.get("/desk").await;
            let counted = format!("<dt>差戻しの届書</dt><dd>{shown}件</dd>");
            assert!(desk.contains(&counted), "{permissions}: {desk}");
            assert_eq!(desk.matches("代理で開く").count(), shown, "{permissions}");
        }
    }
}

#[tokio::test]
async fn an_offices_desk_tells_of_a_hand_over_and_its_number_is_no_establishments() {
    for world in worlds().await {
        let office = world.sharoushi().await;
        let member = office.as_member().await;
        assert!(!office.get("/desk").await.1.contains("管理者の引継ぎ"));
        sqlx::query(
            "INSERT INTO handovers (id, establishment_id, leaver_id, successor_id, leaver_becomes,
                                    proposed_ms, expires_ms)
             VALUES ('01890000-0000-7000-8000-000000000001', $1, $2, $2, 'added', 0, $3)",
        )
        .bind(member.home_establishment().to_string())
        .bind(member.user().to_string())
        .bind(4_000_000_000_000_i64)
        .execute(world.app.db.pool())
        .await
        .unwrap();
        let (_, desk) = office.get("/desk").await;
        assert!(
            desk.contains("管理者の引継ぎの依頼が届いています"),
            "{desk}"
        );
        assert!(desk.contains("href=\"/handover\""), "{desk}");

        let arrival = [
            ("code", ""),
            ("establishment", "9001"),
            ("kind", "acquisition"),
            ("filed_on", "2026-03-12"),
            ("arrived", "2026-03-13"),
            ("sheets", "1"),
        ];
        let (status, _, page) = world.sato.post("/paper", &arrival).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(page.contains("href=\"#establishment\""), "{page}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_the_service_cuts_what_its_delegate_does() {
    for world in worlds().await {
        let office = world.sharoushi().await;
        let id = agreed(&world, &office, &[]).await;
        let office = acting(&office, &id).await;
        let member = office.as_member().await;
        let end = format!("/establishments/{}/leaving/end", world.alpha);
        let (status, ..) = world.tanaka.post(&end, &[]).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        let cut: String = sqlx::query_scalar("SELECT id FROM tunnel_sessions WHERE pages_cut > 0")
            .fetch_one(world.app.db.pool())
            .await
            .unwrap();
        assert_eq!(cut, member.session().to_string());
        // At the own office everything goes on.
        assert!(office.as_member().await.acting().is_none());
        assert_eq!(office.get("/desk").await.0, StatusCode::OK);
        let form = [("delegation", id.as_str()), ("next", "/filings")];
        let (status, ..) = refreshed(&office).await.post("/desk/act", &form).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn the_end_of_the_last_day_cuts_what_is_under_way_and_nobody_elses() {
    for world in worlds().await {
        let office = world.sharoushi().await;
        let today = [("last_day", "2026-03-13")];
        let id = agreed(&world, &office, &today).await;
        let member = acting(&office, &id).await.as_member().await;
        let ends = date!(2026 - 03 - 14).midnight().assume_offset(access::JST);
        let cuts = async || {
            let rows = sqlx::query("SELECT id, pages_cut FROM tunnel_sessions WHERE pages_cut > 0")
                .fetch_all(world.app.db.pool())
                .await
                .unwrap();
            let cut = |row: &sqlx::any::AnyRow| -> (String, i64) {
                use sqlx::Row as _;
                (row.get("id"), row.get("pages_cut"))
            };
            rows.iter().map(cut).collect::<Vec<_>>()
        };
        let over = async |now| store::cut_overdue(&world.app.db, now).await.unwrap();
        assert!(!over(ends - Duration::MILLISECOND).await);
        assert!(cuts().await.is_empty());
        assert!(over(ends).await);
        assert_eq!(cuts().await, [(member.session().to_string(), 1)]);
        // Once: he is at his own office again, and what he does there goes on.
        assert!(!over(ends + Duration::SECOND).await);
        assert_eq!(cuts().await, [(member.session().to_string(), 1)]);
    }
}

#[test]
fn a_last_day_is_neither_past_nor_too_far() {
    for (day, taken) in [
        (date!(2026 - 03 - 12), false),
        (date!(2026 - 03 - 13), true),
        (date!(2029 - 03 - 10), true),
        (date!(2030 - 03 - 13), false),
    ] {
        assert_eq!(end_of(day, NOW).is_some(), taken, "{day}");
    }
}

#[tokio::test]
async fn of_accepting_and_taking_back_at_once_one_comes_too_late() {
    for world in worlds().await {
        let office = world.sharoushi().await;
        for _ in 0..3 {
            let form = with("9001", &[("confirmed", "9001")]);
            world.alice.post("/delegations/new", &form).await;
            let id = id_before(&office, "/delegations", "/accept").await;
            let (accept, end) = (
                format!("/delegations/{id}/accept"),
                format!("/delegations/{id}/end"),
            );
            let (accepter, accept) = (office.clone(), accept);
            let accepting = tokio::spawn(async move { accepter.post(&accept, &[]).await.0 });
            let ended = world.alice.post(&end, &[]).await.0;
            let accepted = accepting.await.unwrap();
            // Ending wins in any order: before the acceptance or after it.
            assert_eq!(ended, StatusCode::SEE_OTHER);
            assert!([StatusCode::SEE_OTHER, StatusCode::NOT_FOUND].contains(&accepted));
            let (_, desk) = office.get("/desk").await;
            assert!(!desk.contains("見本製作所"), "{desk}");
        }
    }
}

#[tokio::test]
async fn a_managing_establishment_has_one_inbox_for_its_group() {
    for world in worlds().await {
        let form = |clients| {
            [
                ("manager", "0123"),
                ("clients", clients),
                ("consent", "2026年3月1日 書面"),
            ]
        };
        let post = async |clients| world.sato.post("/delegations/groups", &form(clients)).await;
        assert_eq!(world.alice.get("/desk").await.0, StatusCode::NOT_FOUND);
        let (status, _, text) = post("0123 0999").await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(
            text.contains("0999") && text.contains("2026年3月1日"),
            "{text}"
        );
        assert_eq!(post("0124").await.0, StatusCode::SEE_OTHER);
        assert_eq!(
            post("0124").await.0,
            StatusCode::UNPROCESSABLE_ENTITY,
            "once"
        );

        let filing = world.bob.file("20240524_0124_資格取得届.pdf").await;
        sqlx::query("UPDATE filings SET state = 'returned', reviewer_id = (SELECT MIN(id) FROM staff), return_code = 'other', return_reason = 'x'")
            .execute(world.app.db.pool())
            .await
            .unwrap();
        let (_, desk) = world.alice.get("/desk").await;
        assert!(
            desk.contains("例示物流株式会社") && desk.contains(&filing),
            "{desk}"
        );
        let at = desk.find("name=\"delegation\" value=\"").unwrap() + 25;
        let works = acting(&world.alice, &desk[at..at + 36]).await;
        assert!(works.get("/").await.1.contains("例示物流株式会社の代理"));
        assert_eq!(works.get(&filing).await.0, StatusCode::OK);

        // The client sees it, and only the fund ends it.
        let id = id_before(&world.sato, "/delegations", "/end").await;
        let (_, page) = world.bob.get("/delegations").await;
        assert!(page.contains("複数事業所管理"), "{page}");
        let path = format!("/delegations/{id}/end");
        assert_eq!(world.bob.post(&path, &[]).await.0, StatusCode::NOT_FOUND);
        assert_eq!(world.sato.post(&path, &[]).await.0, StatusCode::SEE_OTHER);
        assert_eq!(world.alice.get(&filing).await.0, StatusCode::NOT_FOUND);
        assert_eq!(world.alice.get("/desk").await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn only_what_has_exchanged_nothing_becomes_an_office() {
    for world in worlds().await {
        world.alice.file("20240524_0123_資格取得届.pdf").await;
        let make = async |number| {
            world
                .sato
                .post("/delegations/offices", &[("number", number)])
                .await
                .0
        };
        assert_eq!(make("0123").await, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(make("0124").await, StatusCode::SEE_OTHER);
        assert_eq!(make("0124").await, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(world.bob.get("/filings").await.0, StatusCode::NOT_FOUND);
        assert_eq!(world.bob.get("/desk").await.0, StatusCode::OK);
        let status = world
            .admin
            .post("/delegations/offices", &[("number", "0124")])
            .await
            .0;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
}
