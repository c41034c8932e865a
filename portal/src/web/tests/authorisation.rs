//! The route table of both sides, walked by everybody against what belongs to others.
//!
//! Recipe for a route with a parameter of a new kind: make such an object of beta's in
//! [`Objects::of_beta`] and enter it under the segment before the parameter. A route whose
//! kind is not entered fails the walk; so does a principal that [`roles`] does not know.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use http::{HeaderName, Method, StatusCode, header};
use sqlx::Row as _;

use super::super::{member_routes, office_routes};
use crate::staff::StaffRole;
use crate::testing::key::Device;
use crate::testing::world::{Browser, World, read};
use crate::web::forms::CSRF_HEADER;
use crate::web::router::{Route, Routes};

/// What stands in place of a parameter.
#[derive(Debug, Clone)]
enum Filling {
    /// An object that belongs to somebody.
    Object(String),
    /// A word that belongs to nobody: a page's number, an asset's name.
    Word(&'static str),
}

/// Per kind (the segment before the parameter, and the parameter if another stands there),
/// an object of beta's.
#[derive(Debug)]
pub(super) struct Objects(BTreeMap<&'static str, Filling>);

/// Whom a route of the office is for; `None` if it is for nobody in particular.
pub(super) fn roles(principal: &str) -> Option<&'static [StaffRole]> {
    use StaffRole::{Reviewer, Supervisor, SystemAdmin};
    Some(match principal.trim_start_matches("fresh ") {
        "anyone" | "anyone at the office" => return None,
        "staff" => &[Reviewer, Supervisor, SystemAdmin],
        "reviewer" => &[Reviewer, Supervisor],
        "supervisor" => &[Supervisor],
        "system administrator" => &[SystemAdmin],
        "calendar keeper" => &[Supervisor, SystemAdmin],
        // Who has chosen a password already is none.
        "staff newcomer" => &[],
        unknown => panic!("the walk does not know whom {unknown} lets in"),
    })
}

/// An id of nothing.
const NOBODYS: &str = "01890000-0000-7000-8000-000000000000";
/// Fields that forms cannot do without. Every request of the walk carries all of them, so
/// that it is turned away for what it asks, not for how.
const FIELDS: [(&str, &str); 10] = [
    ("user_name", "見本 太郎"),
    ("name", "見本 太郎"),
    ("password", "asagao-ga-saku-mado-3"),
    ("reason", "見本"),
    ("draft", "01890000-0000-7000-8000-000000000000"),
    ("matched", "yes"),
    ("email", "taro@example.jp"),
    ("code", "123456"),
    ("text", "見本"),
    ("answer", "見本"),
];

async fn one(world: &World, sql: &'static str) -> String {
    let row = sqlx::query(sql).bind(world.beta.to_string());
    let row = row.fetch_one(world.app.db.pool()).await.expect(sql);
    row.try_get::<String, _>("id").expect("an id")
}

impl Objects {
    /// Lets beta have one of everything.
    pub(super) async fn of_beta(world: &World) -> Self {
        let filing = world.bob.file("20260313_0124_資格喪失届.pdf").await;
        let path = format!("{filing}/determination");
        world.sato.post(&format!("{filing}/take"), &[]).await;
        let person = [
            ("member_number", "1"),
            ("name", "山田 太郎"),
            ("event", "loss"),
            ("event_on", "2026-03-01"),
        ];
        world.sato.post(&path, &person).await;
        let (_, page) = world.sato.get(&format!("{path}/draft")).await;
        let at = page.find("name=\"draft\" value=\"").expect("a draft") + 20;
        let draft = [("draft", &page[at..at + 36])];
        let issued = world.sato.post(&format!("{path}/issue"), &draft).await;
        assert_eq!(issued.0, StatusCode::SEE_OTHER, "{}", issued.2);
        // One that is still open, for those who would take or withdraw it.
        let open = world.bob.file("20260313_0124_資格取得届.pdf").await;
        let bytes = b"%PDF-1.7\n".to_vec();
        let upload = world
            .bob
            .upload("20260313_0124_算定基礎届.pdf", bytes)
            .await;

        let (_, options) = world
            .bob
            .post_json("/settings/passkeys/question", &serde_json::Value::Null)
            .await;
        let answer = Device::at("https://renkei.example.jp").create(&options);
        let form = [("name", "総務のパソコン"), ("answer", answer.as_str())];
        let added = world.bob.post("/settings/passkeys", &form).await;
        assert_eq!(added.0, StatusCode::SEE_OTHER, "{}", added.2);

        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let mut objects = BTreeMap::from([
            ("filings", last(&open)),
            ("uploads", last(&upload)),
            ("establishments", world.beta.to_string()),
        ]);
        for (kind, sql) in [
            (
                "submissions",
                "SELECT id FROM submissions WHERE establishment_id = $1",
            ),
            (
                "notices",
                "SELECT id FROM notices WHERE establishment_id = $1",
            ),
            (
                "devices",
                "SELECT id FROM devices WHERE establishment_id = $1",
            ),
            (
                "passkeys",
                "SELECT passkeys.id FROM passkeys
                   JOIN memberships ON memberships.user_id = passkeys.owner_id
                  WHERE memberships.establishment_id = $1",
            ),
            ("pcs", "SELECT id FROM devices WHERE establishment_id = $1"),
            (
                "users",
                "SELECT user_id AS id FROM memberships WHERE establishment_id = $1",
            ),
            (
                "enrolments",
                "SELECT id FROM enrolments WHERE establishment_id = $1",
            ),
        ] {
            objects.insert(kind, one(world, sql).await);
        }
        for (kind, end) in [
            ("approvals", 1),
            ("announcements", 2),
            ("contact", 3),
            ("inquiries", 3),
            ("delegations", 4),
            ("paper", 5),
        ] {
            objects.insert(kind, format!("01890000-0000-7000-8000-00000000a00{end}"));
        }
        let objects = objects
            .into_iter()
            .map(|(kind, id)| (kind, Filling::Object(id)));
        let words = [
            ("pages", "1.png"),
            ("assets", "renkei.css"),
            ("files", "x.exe"),
            ("filing-kinds", "acquisition"),
            ("{act}", "remove"),
            ("help", "nothing"),
            // Of the office alone, and of no establishment: who may not open them is told the
            // same whether they are there or not.
            ("batches", NOBODYS),
            ("items", NOBODYS),
            ("requests", NOBODYS),
            ("tasks", NOBODYS),
            ("quarantine", NOBODYS),
            ("staff", NOBODYS),
        ];
        let words = words.map(|(kind, word)| (kind, Filling::Word(word)));
        Self(objects.chain(words).collect())
    }

    /// Who asks for the PC of beta's second user: the rows that an agent leaves; and what waits
    /// for a second member of staff.
    pub(super) async fn ask_to_enrol(world: &World) {
        let user = one(
            world,
            "SELECT user_id AS id FROM memberships WHERE establishment_id = $1",
        )
        .await;
        for sql in [
            "INSERT INTO registration_codes (id, establishment_id, user_id, code_hash, created_by,
                                             created_ms, expires_ms)
             VALUES ('c1', $1, $2, 'x', '', 0, 0)",
            "INSERT INTO enrolments (id, establishment_id, user_id, registration_code_id,
                        device_name, os, agent_version, certificate_request, public_key,
                        matching_code, poll_token_hash, requested_ms)
             VALUES ('01890000-0000-7000-8000-00000000e001', $1, $2, 'c1', 'PC', '', '', '', 'k',
                     '', '', 0)",
            "INSERT INTO approvals (id, kind, subject, reason, proposed_by, proposed_ms, expires_ms)
             SELECT '01890000-0000-7000-8000-00000000a001', 'key_destruction', $1, $2, id, 0,
                    4000000000000
               FROM staff ORDER BY id LIMIT 1",
            "INSERT INTO announcements (id, title, body, audience, shown_from_ms, shown_until_ms,
                                        written_by, written_ms)
             SELECT '01890000-0000-7000-8000-00000000a002', $1, $2, 'chosen', 0, 4000000000000,
                    id, 0
               FROM staff ORDER BY id LIMIT 1",
            "INSERT INTO announcement_targets (announcement_id, establishment_id)
             SELECT '01890000-0000-7000-8000-00000000a002', id
               FROM establishments WHERE id = $1 AND $2 <> ''",
            "INSERT INTO inquiries (id, establishment_id, user_id, subject, state, opened_ms,
                                    changed_ms)
             VALUES ('01890000-0000-7000-8000-00000000a003', $1, $2, 'other', 'waiting', 0, 0)",
            "INSERT INTO delegations (id, client_number, client_id, delegate_id, basis, permissions,
                        procedures, proposed_side, proposed_by, proposed_ms, waits_until_ms)
             VALUES ('01890000-0000-7000-8000-00000000a004', 124, $1, $1, 'agreement', 'file', '',
                     'client', $2, 0, 4000000000000)",
            "INSERT INTO cover_sheets (id, code, establishment_id, kind, filed_on, sheets, made_by,
                        made_ms)
             VALUES ('01890000-0000-7000-8000-00000000a005', 'x', $1, 'loss', '2026-03-13', 1, $2,
                     0)",
        ] {
            let made = sqlx::query(sql)
                .bind(world.beta.to_string())
                .bind(&user)
                .execute(world.app.db.pool())
                .await;
            made.expect(sql);
        }
    }

    /// The path with its parameters filled in, and how many of them are objects.
    pub(super) fn fill(&self, route: &Route) -> (String, usize) {
        let (mut path, mut objects, mut before) = (String::new(), 0, "");
        for part in route.path.split('/').skip(1) {
            path.push('/');
            if !part.starts_with('{') {
                (before, path) = (part, path + part);
                continue;
            }
            let filling = self.0.get(before).or_else(|| self.0.get(part));
            match filling.unwrap_or_else(|| panic!("no object of kind {before}: {route:?}")) {
                Filling::Object(id) => (objects, path) = (objects + 1, path + id),
                Filling::Word(word) => path += word,
            }
            before = part;
        }
        (path, objects)
    }
}

/// Asks as the page's form, its script or its file field would, until one way is understood.
async fn ask(browser: &Browser, route: &Route, path: &str) -> StatusCode {
    let fields: Vec<_> = [("csrf", browser.csrf.as_str())]
        .into_iter()
        .chain(FIELDS)
        .collect();
    let form = serde_urlencoded::to_string(&fields).expect("a form");
    let parts: String = fields
        .iter()
        .map(|(name, value)| {
            format!("--x\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        })
        .collect();
    let json: serde_json::Map<_, _> = FIELDS
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let bodies = [
        ("application/x-www-form-urlencoded", form),
        ("multipart/form-data; boundary=x", parts + "--x--\r\n"),
        ("application/offset+octet-stream", "%PDF-".to_owned()),
        (
            "application/json",
            serde_json::Value::Object(json).to_string(),
        ),
    ];
    let mut status = StatusCode::IM_A_TEAPOT;
    for (kind, body) in bodies {
        let request = browser
            .request(route.method.clone(), path)
            .header(header::CONTENT_TYPE, kind)
            .header(CSRF_HEADER, &browser.csrf)
            .header(HeaderName::from_static("upload-offset"), 0);
        let reads = [Method::GET, Method::HEAD].contains(&route.method);
        let body = if reads { Body::empty() } else { body.into() };
        let response = browser.send(request.body(body).expect("a request")).await;
        status = read(response).await.0;
        let misread = [
            StatusCode::BAD_REQUEST,
            StatusCode::FORBIDDEN,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ];
        if reads || !misread.contains(&status) {
            break;
        }
    }
    status
}

pub(super) fn tables(world: &World) -> (Vec<Route>, Vec<Route>) {
    let routes = || Routes::new(world.app.clone());
    (
        member_routes(routes()).finish().1,
        office_routes(routes()).finish().1,
    )
}

/// Objects of alpha's with which a path may begin, before it goes on to beta's.
async fn own_first(world: &World, beta: &Objects) -> Objects {
    let mut objects = beta.0.clone();
    objects.insert("establishments", Filling::Object(world.alpha.to_string()));
    Objects(objects)
}

#[tokio::test]
async fn what_belongs_to_another_establishment_does_not_exist_for_anybody_of_this_one() {
    for world in crate::testing::worlds().await {
        Objects::ask_to_enrol(&world).await;
        let beta = Objects::of_beta(&world).await;
        let colleague = world.colleague().await;
        let (table, _) = tables(&world);
        let mut walked = 0;
        for route in &table {
            let (path, objects) = beta.fill(route);
            if objects == 0 {
                continue;
            }
            for (who, browser) in [("admin", &world.alice), ("added user", &colleague)] {
                let status = ask(browser, route, &path).await;
                assert_eq!(status, StatusCode::NOT_FOUND, "{who} {route:?}");
            }
            // It is there for its own people: else the walk would prove nothing.
            if route.method == Method::GET {
                let status = ask(&world.bob, route, &path).await;
                assert_ne!(status, StatusCode::NOT_FOUND, "beta itself: {route:?}");
            }
            walked += 1;
        }
        assert!(walked >= 8, "{walked} routes");
    }
}

#[tokio::test]
async fn no_page_of_an_establishment_mentions_anothers_objects() {
    let world = World::new().await;
    Objects::ask_to_enrol(&world).await;
    let beta = Objects::of_beta(&world).await;
    let colleague = world.colleague().await;
    let (table, _) = tables(&world);
    let lists = table
        .iter()
        .filter(|route| route.method == Method::GET && !route.path.contains('{'));
    for route in lists {
        for browser in [&world.alice, &colleague] {
            let (_, page) = browser.get(route.path).await;
            for filling in beta.0.values() {
                if let Filling::Object(id) = filling {
                    assert!(!page.contains(id.as_str()), "{route:?} mentions {id}");
                }
            }
            assert!(!page.contains("例示物流株式会社"), "{route:?}");
        }
    }
}

#[tokio::test]
async fn each_role_of_the_office_finds_its_own_routes_and_no_others() {
    let world = World::new().await;
    Objects::ask_to_enrol(&world).await;
    let beta = Objects::of_beta(&world).await;
    let mixed = own_first(&world, &beta).await;
    let (_, table) = tables(&world);
    let mut turned_away = BTreeSet::new();
    // Reading comes first: what changes something may end what is read.
    let (reading, changing): (Vec<_>, Vec<_>) =
        table.iter().partition(|route| route.method == Method::GET);
    for route in reading.into_iter().chain(changing) {
        let Some(allowed) = roles(route.allowed) else {
            continue;
        };
        let (path, objects) = beta.fill(route);
        for (role, browser) in [
            (StaffRole::SystemAdmin, &world.admin),
            (StaffRole::Reviewer, &world.sato),
            (StaffRole::Supervisor, &world.tanaka),
        ] {
            if !allowed.contains(&role) {
                let status = ask(browser, route, &path).await;
                assert_eq!(status, StatusCode::NOT_FOUND, "{role:?} {route:?}");
                turned_away.insert(route.path);
                continue;
            }
            if objects > 1 && route.path.starts_with("/establishments/") {
                let (path, _) = mixed.fill(route);
                let status = ask(browser, route, &path).await;
                assert_eq!(status, StatusCode::NOT_FOUND, "{role:?} {path}");
            }
            if route.method == Method::GET {
                let status = ask(browser, route, &path).await;
                assert_ne!(status, StatusCode::UNAUTHORIZED, "{role:?} {route:?}");
            }
        }
    }
    assert!(turned_away.len() >= 10, "{turned_away:?}");
}

#[tokio::test]
async fn a_session_of_one_side_is_nothing_on_the_other() {
    let world = World::new().await;
    let (members, office) = tables(&world);
    let sides = [
        (&members, &world.tanaka, &world.alice),
        (&office, &world.alice, &world.tanaka),
    ];
    for (table, stranger, there) in sides {
        let stranger = stranger.at_the_place_of(there);
        let open = ["anyone", "visitor", "anyone at the office"];
        let closed = table.iter().filter(|route| !open.contains(&route.allowed));
        for route in closed {
            let path = super::filled(route.path);
            let status = ask(&stranger, route, &path).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{route:?}");
        }
    }
}
