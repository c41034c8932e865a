//! Every page of both sides and each state with errors, as a machine can judge them: WCAG 2.2
//! AA by axe-core and by rules of our own, at 1280 and at 320 pixels (400 percent of 1280),
//! with forced colours, with reduced motion.
//!
//! The list of pages is the portal's own route table. A page that nobody finds by following
//! links from a first page fails the story, unless [`LOOKED_AT_ELSEWHERE`] says where it is
//! looked at.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};
use renkei_tests::browser::{Browser, key_shown_at};
use renkei_tests::job::{ADMIN_PASSWORD, AtWork, FILED_PDF, corpus};
use renkei_tests::pages::{MemberPages, OfficePages, Page, Site};
use renkei_tests::process::{output, wait_for};
use renkei_tests::stage::{ESTABLISHMENT_NAME, ESTABLISHMENT_NUMBER};
use renkei_tests::{Stage, StageOptions};
use reqwest::StatusCode;
use serde_json::Value;

use crate::browser::portal_key;

const INSPECT: &str = include_str!("everywhere/inspect.js");
/// The window of a desk, and the same at 400 percent.
const WIDE: (u32, u32) = (1280, 1024);
const NARROW: (u32, u32) = (320, 256 * 3);
/// Pages of one kind that are looked at per person: the same page has several states.
const EACH_KIND: usize = 2;
/// Addresses that are followed in search of pages.
const ADDRESSES_LIMIT: usize = 400;
/// Pages that links do not lead to from a first page, and where they are looked at.
const LOOKED_AT_ELSEWHERE: [(&str, &str); 11] = [
    ("/terms", "the clicking story, at the first sign-in"),
    ("/establishment", "the clicking story, at the first sign-in"),
    ("/profile", "the clicking story, at the first sign-in"),
    ("/welcome", "the clicking story, at the first sign-in"),
    ("/step-up", "at the end, when the second factor is old"),
    ("/assets/{name}", "no page, but a part of each"),
    (
        "/settings/authenticator/picture.png",
        "no page, but a part of one",
    ),
    (
        "/first-password",
        "the clicking story, at the first sign-in",
    ),
    ("/sign-in/code", "the page's script reads it"),
    ("/uploads/{id}/name", "the page's script reads it"),
    ("/agent/files/{name}", "the agent reads it"),
];

/// Pages of members that come after a form.
const BEHIND_FORMS: [&str; 3] = [
    "/settings/authenticator/confirm",
    "/settings/recovery-codes",
    "/signed-out",
];

/// Pages whose picture the manuals show, and what the picture is called there.
const SHOWN_IN_MANUALS: [(&str, &str, &str); 9] = [
    ("member", "/users", "manual-users"),
    ("member", "/users/new", "manual-user-new"),
    ("office", "/registrations/new", "manual-registrations"),
    ("office", "/establishments/{id}", "manual-establishment"),
    (
        "office",
        "/filings/{id}/determination",
        "manual-determination",
    ),
    ("office", "/notices", "manual-notices"),
    ("office", "/calendar", "manual-calendar"),
    ("office", "/filing-kinds", "manual-filing-kinds"),
    ("office", "/approvals", "manual-approvals"),
];

/// One line of the route table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Route {
    side: String,
    path: String,
}

impl Route {
    fn all_read(stage: &Stage) -> Result<Vec<Self>> {
        let printed = output(&mut stage.portal_command(&["routes", "--json"]))?;
        let rows: Vec<Value> = serde_json::from_str(&printed)?;
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let reads = rows.iter().filter(|row| row["method"] == "GET");
        let routes = reads.map(|row| Self {
            side: text(row, "side"),
            path: text(row, "path"),
        });
        Ok(routes.collect())
    }

    /// How many of the path's segments are fixed; `None` if this is not the path's route.
    fn fits(&self, path: &str) -> Option<usize> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let (mine, its): (Vec<_>, Vec<_>) =
            (self.path.split('/').collect(), path.split('/').collect());
        let fits = mine.len() == its.len()
            && mine
                .iter()
                .zip(&its)
                .all(|(mine, its)| mine.starts_with('{') || mine == its);
        fits.then(|| mine.iter().filter(|part| !part.starts_with('{')).count())
    }

    fn of<'a>(routes: &'a [Self], side: &str, path: &str) -> Option<&'a Self> {
        let side = routes.iter().filter(|route| route.side == side);
        side.filter_map(|route| Some((route.fits(path)?, route)))
            .max_by_key(|(fixed, _)| *fixed)
            .map(|(_, route)| route)
    }
}

/// The pages that one person finds.
#[derive(Debug, Default)]
struct Found {
    /// Addresses of pages, by route.
    pages: BTreeMap<Route, Vec<String>>,
    /// Routes that answered with something else than a page.
    files: BTreeSet<Route>,
    /// Links that lead to a refusal.
    dead_ends: BTreeSet<String>,
}

impl Found {
    /// Follows every link from the first page.
    async fn by(site: &Site, side: &str, routes: &[Route], behind: &[String]) -> Result<Self> {
        let mut found = Self::default();
        let mut tried: BTreeSet<String> = BTreeSet::new();
        // The help is one text for every role, and leads to what only some may do.
        let mut from_help: BTreeSet<String> = BTreeSet::new();
        let mut next: VecDeque<String> = match site.cookie_header().is_empty() {
            true => VecDeque::from(["/sign-in".to_owned()]),
            false => std::iter::once("/".to_owned())
                .chain(behind.iter().cloned())
                .collect(),
        };
        while let Some(path) = next.pop_front() {
            let Some(route) = Route::of(routes, side, &path) else {
                continue;
            };
            let enough = found
                .pages
                .get(route)
                .is_some_and(|pages| pages.len() >= EACH_KIND);
            if enough || !tried.insert(path.clone()) {
                continue;
            }
            ensure!(
                tried.len() < ADDRESSES_LIMIT,
                "too many addresses: {tried:?}"
            );
            let page = site.open(&path).await?;
            let led_here = path != "/sign-in" && !behind.contains(&path);
            // Whoever is not signed in finds the sign-in page there.
            let stranger = site.cookie_header().is_empty();
            if page.status == StatusCode::UNAUTHORIZED && stranger {
                continue;
            }
            if page.status.is_client_error() && from_help.contains(&path) {
                continue;
            }
            if page.status.is_client_error() && led_here {
                found.dead_ends.insert(format!("{path} is {}", page.status));
                continue;
            }
            let is_page = page.headers.get("content-type").is_some_and(|kind| {
                kind.to_str()
                    .is_ok_and(|kind| kind.starts_with("text/html"))
            });
            // A redirect may have led to another page than the link said.
            if page.path != path {
                found.files.insert(route.clone());
            }
            let Some(route) = Route::of(routes, side, &page.path) else {
                continue;
            };
            if !is_page {
                found.files.insert(route.clone());
                continue;
            }
            let pages = found.pages.entry(route.clone()).or_default();
            if !pages.contains(&page.path) && pages.len() < EACH_KIND {
                pages.push(page.path.clone());
            }
            if page.path.starts_with("/help") {
                from_help.extend(page.links(""));
            }
            next.extend(
                page.links("")
                    .into_iter()
                    .filter(|link| link.starts_with('/')),
            );
            next.extend(sources(&page));
        }
        Ok(found)
    }
}

/// Pictures of a page lie at addresses of the portal too.
fn sources(page: &Page) -> Vec<String> {
    let parts = page.html.split("src=\"").skip(1);
    let sources = parts.filter_map(|rest| rest.split('"').next());
    sources
        .filter(|source| source.starts_with('/'))
        .map(str::to_owned)
        .collect()
}

/// Looks at pages and remembers what is wrong with them.
pub(super) struct Walk<'a> {
    browser: &'a Browser,
    base: String,
    axe: String,
    notes: Mutex<Vec<String>>,
    titles: Mutex<BTreeMap<String, Route>>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(browser: &'a Browser, base: &str) -> Result<Self> {
        let axe =
            std::env::var_os("RENKEI_TEST_AXE").context("RENKEI_TEST_AXE: see scripts/test")?;
        Ok(Self {
            browser,
            base: base.trim_end_matches('/').to_owned(),
            axe: std::fs::read_to_string(axe)?,
            notes: Mutex::default(),
            titles: Mutex::default(),
        })
    }

    fn note(&self, place: &str, what: impl std::fmt::Display) {
        let mut notes = self.notes.lock().expect("no panic while held");
        notes.push(format!("{place}: {what}"));
    }

    /// Inspects what the browser shows.
    pub(super) async fn inspect(&self, place: &str) -> Result<()> {
        let browser = self.browser;
        browser.prefer(&[]).await?;
        browser.set_window(WIDE.0, WIDE.1).await?;
        browser.client.execute(&self.axe, vec![]).await?;
        self.run(place, "wide").await?;
        browser
            .prefer(&[
                ("forced-colors", "active"),
                ("prefers-reduced-motion", "reduce"),
            ])
            .await?;
        browser.set_window(NARROW.0, NARROW.1).await?;
        self.run(place, "narrow").await
    }

    async fn run(&self, place: &str, pass: &str) -> Result<()> {
        let found = self
            .browser
            .client
            .execute_async(INSPECT, vec![pass.into()])
            .await
            .with_context(|| format!("inspect {place}"))?;
        let found = found.as_array().context("a list of findings")?;
        for sentence in found.iter().filter_map(Value::as_str) {
            self.note(place, sentence);
        }
        Ok(())
    }

    /// Notes a title that another page has already.
    fn is_unique(&self, route: &Route, path: &str, title: String) {
        let mut titles = self.titles.lock().expect("no panic while held");
        match titles.get(&title) {
            Some(other) if other != route => {
                self.note(path, format!("has the title of {}: {title}", other.path));
            }
            Some(_) | None => {
                titles.insert(title, route.clone());
            }
        }
    }

    async fn page(&self, route: &Route, path: &str) -> Result<()> {
        self.browser.go(&format!("{}{path}", self.base)).await?;
        let title = self.browser.client.title().await?;
        self.is_unique(route, path, title);
        self.inspect(path).await?;
        let shown = SHOWN_IN_MANUALS
            .iter()
            .find(|(side, path, _)| *side == route.side && *path == route.path);
        let wanted = std::env::var("RENKEI_TEST_PICTURES").is_ok_and(|what| what == "docs");
        if let (Some((_, _, name)), true) = (shown, wanted) {
            self.browser.prefer(&[]).await?;
            let blur = "document.activeElement.blur()";
            self.browser.client.execute(blur, vec![]).await?;
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/images");
            self.browser.picture(folder.as_ref(), name, WIDE.0).await?;
        }
        Ok(())
    }

    /// Sends every form of the page empty and inspects what comes back.
    async fn errors(&self, path: &str, done: &mut BTreeSet<String>) -> Result<usize> {
        const FORMS: &str = "return [...document.querySelectorAll('form')].map(form =>
            form.method === 'post' && [...form.elements].some(el =>
                ['text', 'password', 'email', 'date', 'time', 'textarea', 'file', 'checkbox', 'number', 'tel', 'search']
                    .includes(el.type))
            ? form.getAttribute('action') || location.pathname : '')";
        const SEND_EMPTY: &str = "const form = document.querySelectorAll('form')[arguments[0]];
            for (const el of form.elements) {
                if (el.type === 'checkbox') el.checked = false;
                else if (['text', 'password', 'email', 'date', 'time', 'textarea', 'number', 'tel', 'search'].includes(el.type)) el.value = '';
            }
            window.isOld = true;
            const button = form.querySelector('button[name]');
            if (button) form.insertAdjacentHTML('beforeend', `<input type=hidden name=${button.name} value=${button.value}>`);
            HTMLFormElement.prototype.submit.call(form);";
        const ARRIVED: &str = "return window.isOld || document.readyState !== 'complete' ? null :
            [performance.getEntriesByType('navigation')[0].responseStatus,
             document.querySelector('.summary') !== null]";
        let url = format!("{}{path}", self.base);
        self.browser.go(&url).await?;
        let forms = self.browser.client.execute(FORMS, vec![]).await?;
        let mut inspected = 0;
        for (at, action) in forms.as_array().into_iter().flatten().enumerate() {
            let action = action.as_str().unwrap_or_default();
            let kind: String = action
                .split('/')
                .map(|part| if part.len() == 36 { "{}" } else { part })
                .collect::<Vec<_>>()
                .join("/");
            if action.is_empty() || action == "/sign-out" || !done.insert(kind.clone()) {
                continue;
            }
            self.browser.go(&url).await?;
            let at = vec![Value::from(at)];
            self.browser.client.execute(SEND_EMPTY, at).await?;
            let came = wait_for("the answer to an empty form", 20, async || {
                let came = self.browser.client.execute(ARRIVED, vec![]).await;
                Ok(came.ok().filter(|came| !came.is_null()))
            })
            .await
            .with_context(|| format!("{kind} on {path}"))?;
            let place = format!("{kind}, sent empty");
            if came[0] == 400 || came[0].as_u64() >= Some(500) {
                let told = self.browser.text().await?;
                self.note(&place, format!("{} {told}", came[0]));
            }
            if came[1] == true {
                self.inspect(&place).await?;
                inspected += 1;
            }
        }
        Ok(inspected)
    }

    pub(super) fn notes(self) -> Vec<String> {
        self.notes.into_inner().expect("no panic while held")
    }
}

/// Everybody's pages: several people on one side, each with cookies.
async fn walk_a_side(
    walk: &Walk<'_>,
    side: &str,
    people: &[&Site],
    routes: &[Route],
    behind: &[String],
) -> Result<usize> {
    let mut seen: BTreeSet<Route> = BTreeSet::new();
    let mut answered: BTreeSet<Route> = BTreeSet::new();
    let (mut pages, mut errors, mut done) = (0, 0, BTreeSet::new());
    let mut later = Vec::new();
    for site in people {
        let found = Found::by(site, side, routes, behind).await?;
        answered.extend(found.files.iter().cloned());
        for dead_end in &found.dead_ends {
            walk.note(side, format!("a link leads nowhere: {dead_end}"));
        }
        let cookies = site.cookie_header();
        for (route, paths) in found
            .pages
            .iter()
            .filter(|(route, _)| !seen.contains(route))
        {
            walk.browser.take_cookies(&walk.base, &cookies).await?;
            for path in paths {
                walk.page(route, path).await?;
                pages += 1;
                later.push((cookies.clone(), path.clone()));
            }
        }
        seen.extend(found.pages.into_keys());
    }
    walk.browser.go(&format!("{}/nowhere", walk.base)).await?;
    walk.inspect("a page that does not exist").await?;
    for (cookies, path) in later {
        walk.browser.take_cookies(&walk.base, &cookies).await?;
        errors += walk.errors(&path, &mut done).await?;
    }
    for route in routes.iter().filter(|route| route.side == side) {
        // What is saved and not read needs no inspection.
        let endings = [".csv", ".xlsx", ".pdf", ".png", ".json", "/pages/{page}"];
        let is_file = endings.iter().any(|ending| route.path.ends_with(ending));
        let known = is_file
            || seen.contains(route)
            || answered.contains(route)
            || LOOKED_AT_ELSEWHERE
                .iter()
                .any(|(path, _)| *path == route.path);
        if !known {
            walk.note(&route.path, "nobody finds this page");
        }
    }
    println!("{side}: {pages} pages, {errors} states with errors");
    Ok(errors)
}

/// Things to look at, of every kind; returns the address of a draft, which no link names.
async fn furnish(stage: &Stage, work: &AtWork) -> Result<String> {
    let pdf = corpus(&format!("good/{FILED_PDF}"))?;
    work.pages.file(FILED_PDF, &pdf, None).await?;
    let decided = work.office.take_oldest().await?;
    work.office.decide(&decided).await?;
    let mut other = pdf.clone();
    other.extend_from_slice(b"\n% another\n");
    work.pages
        .file("20240301_0123_資格喪失届.pdf", &other, None)
        .await?;
    let returned = work.office.take_oldest().await?;
    let page = work.office.site.get(&returned).await?;
    let form = page.form("/return")?;
    let code = page.attribute("select[name=code] option:nth-child(2)", "value")?;
    let form = form
        .fill("code", &code)?
        .fill("text", "印影をご確認ください")?;
    work.office.site.submit(&form).await?;
    other.extend_from_slice(b"\n% a third\n");
    work.pages
        .file("20240302_0123_資格喪失届.pdf", &other, None)
        .await?;
    // One is under review, with the determination as a draft.
    let taken = work.office.take_oldest().await?;
    let page = work
        .office
        .site
        .get(&format!("{taken}/determination"))
        .await?;
    let event = page.attribute("select[name=event] option:nth-child(2)", "value")?;
    let form = page
        .form("/determination")?
        .fill("member_number", "0001235")?
        .fill("name", "見本 次子")?
        .fill("event", &event)?
        .fill("event_on", "2024-03-01")?;
    work.office.site.submit(&form).await?;
    other.extend_from_slice(b"\n% a fourth\n");
    work.pages
        .file("20240303_0123_資格喪失届.pdf", &other, None)
        .await?;
    let start = work.pages.site.get("/settings/authenticator").await?;
    let form = start
        .form("/settings/authenticator")?
        .fill("password", ADMIN_PASSWORD)?;
    work.pages.site.submit(&form).await?;
    talk(work).await?;
    let further = work.office.further_code().await?;
    let waiting = stage.agent("waiting-pc")?;
    waiting.enrol(ESTABLISHMENT_NUMBER, &further)?;
    Ok(format!("{taken}/determination/draft"))
}

/// What both sides have to tell each other, and whom the establishment works with and for.
async fn talk(work: &AtWork) -> Result<()> {
    let (office, clerk) = (&work.office.site, &work.pages.site);
    for title in ["システム停止のお知らせ", "年末の受付のお知らせ"] {
        let form = office.get("/announcements/new").await?;
        let form = form.form("/announcements/new")?;
        let form = form
            .fill("title", title)?
            .fill("body", "20日は休みます。")?;
        office.submit(&form).await?.must_say("掲載中")?;
    }
    let form = clerk.get("/contact").await?.form("/contact")?;
    let form = form.fill("subject", "several_establishments")?;
    let form = form.fill("text", "二つの事業所で使えますか。")?;
    clerk.submit(&form).await?.must_say("回答待ち")?;
    let form = clerk.get("/users/new").await?.form("/users/new")?;
    let form = form
        .fill("user_name", "社労 士郎")?
        .fill("login", "sharou-shiro")?
        .fill("email", "shiro@sharoushi.example")?;
    clerk.submit(&form).await?;
    let (number, name) = ("0124", "見本電機販売株式会社");
    work.office
        .register_as(
            number,
            name,
            "hanbai",
            "販売 三郎",
            "saburo@mihon-hanbai.example",
        )
        .await?;
    let page = office.get("/delegations").await?;
    let form = page
        .form("/delegations/groups")?
        .fill("manager", ESTABLISHMENT_NUMBER)?
        .fill("clients", number)?
        .fill("consent", "2026年4月1日 書面")?;
    office.submit(&form).await?.must_say(name)?;
    let (_, csv) = office.download("/batches/template.csv").await?;
    let csv = String::from_utf8(csv)?.replace("見本製作所株式会社", ESTABLISHMENT_NAME);
    let files = vec![("掛金.csv".to_owned(), csv.into_bytes())];
    let batch = work.office.drop_batch("csv", "2026-10", files).await?;
    work.office.propose_batch(&batch).await?;
    Ok(())
}

/// When the second factor was shown too long ago, both sides ask for it once more.
async fn confirmations(stage: &Stage, office: &Walk<'_>, member: &Walk<'_>) -> Result<()> {
    const AGE: &str = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=10)
db.execute('UPDATE web_sessions SET factor_ms = 0')
db.commit()";
    output(
        Command::new("/usr/bin/python3")
            .args(["-c", AGE])
            .arg(stage.sqlite_file()),
    )?;
    for (walk, side, path) in [
        (office, "office", "/step-up?next=/devices"),
        (member, "member", "/step-up?next=/settings"),
    ] {
        let route = Route {
            side: side.into(),
            path: "/step-up".into(),
        };
        walk.page(&route, path).await?;
        ensure!(
            walk.browser.text().await?.contains("ご本人の確認"),
            "{path}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn every_page_and_each_error_can_be_used_by_everybody() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let drafts = [furnish(&stage, &work).await?];
    let behind = BEHIND_FORMS.map(str::to_owned);
    let mut offices = Vec::new();
    for (user_id, name, role) in [
        ("sekinin", "責任 者子", "supervisor"),
        ("kanri", "管理 次郎", "system_admin"),
    ] {
        let office = OfficePages::open(&stage)?;
        office
            .sign_in_as(&stage.further_staff(user_id, name, role)?)
            .await?;
        offices.push(office);
    }
    let routes = Route::all_read(&stage)?;
    let folder = stage.folder().join("browsers");
    std::fs::create_dir_all(&folder)?;
    let office_key = key_shown_at(&stage.office_url(), &stage.ca_file()).await?;
    let member_key = portal_key(&stage.folder().join("pc1/data/enrolments"))?.context("a key")?;
    let proxy = work.agent.proxy()?;
    let office = Browser::open(&folder, "office", None, Some(&office_key)).await?;
    let member = Browser::open(&folder, "member", Some(&proxy), Some(&member_key)).await?;
    let office_walk = Walk::new(&office, &stage.office_url())?;
    let member_walk = Walk::new(&member, &stage.member_url())?;

    let nobody = (
        OfficePages::open(&stage)?,
        MemberPages::through(&stage, &work.agent)?,
    );
    let mut staff = vec![&work.office.site];
    staff.extend(offices.iter().map(|office| &office.site));
    staff.push(&nobody.0.site);
    let members = [&work.pages.site, &nobody.1.site];
    let walked = tokio::try_join!(
        walk_a_side(&office_walk, "office", &staff, &routes, &drafts),
        walk_a_side(&member_walk, "member", &members, &routes, &behind),
    );
    let confirmed = confirmations(&stage, &office_walk, &member_walk).await;
    let mut notes = office_walk.notes();
    notes.extend(member_walk.notes());
    office.close().await?;
    member.close().await?;
    confirmed?;
    let (office_errors, member_errors) =
        walked.with_context(|| format!("after {}", notes.join("\n")))?;
    notes.sort();
    notes.dedup();
    ensure!(
        notes.is_empty(),
        "{} findings:\n{}",
        notes.len(),
        notes.join("\n")
    );
    ensure!(
        office_errors >= 4 && member_errors >= 2,
        "{office_errors} and {member_errors}"
    );
    Ok(())
}
