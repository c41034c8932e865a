//! What the pages say, word for word (STYLE: wording is behaviour too).
//!
//! Each page that can be read is shown to the first of those for whom it is, in a small fund
//! in which something of everything has happened, and its text compared with the one in
//! `snapshots/`. After a wanted change: `INSTA_UPDATE=always`, and read the difference.

use scraper::{ElementRef, Html, Node, Selector};

use super::super::router::Route;
use super::authorisation::{Objects, roles, tables};
use super::*;
use crate::testing::world::{Browser as Seat, World};

/// Elements that begin and end a line.
const BLOCKS: [&str; 26] = [
    "article", "aside", "button", "caption", "dd", "details", "div", "dt", "fieldset", "figure",
    "form", "h1", "h2", "h3", "label", "legend", "li", "main", "ol", "option", "p", "section",
    "summary", "table", "tr", "ul",
];

/// The text of an element as one reads it: a line a block, cells apart, links with their paths.
fn written(element: ElementRef<'_>, text: &mut String) {
    let name = element.value().name();
    if ["noscript", "script", "style", "svg", "template"].contains(&name) {
        return;
    }
    let is_block = BLOCKS.contains(&name);
    if is_block {
        text.push('\n');
    }
    match name {
        "h1" | "h2" | "h3" => {
            let depth = usize::from(name.as_bytes()[1] - b'0');
            text.push_str(&"#".repeat(depth));
            text.push(' ');
        }
        "li" => text.push_str("- "),
        "button" => text.push_str("[ "),
        _ => {}
    }
    for child in element.children() {
        match child.value() {
            Node::Text(words) => {
                let words: Vec<_> = words.split_whitespace().collect();
                text.push_str(&words.join(" "));
            }
            Node::Element(_) => {
                written(ElementRef::wrap(child).expect("an element"), text);
            }
            _ => {}
        }
    }
    match name {
        "a" => {
            let path = element.attr("href").unwrap_or_default();
            text.push_str(&format!(" <{path}>"));
        }
        "td" | "th" => text.push_str(" | "),
        "button" => text.push_str(" ]"),
        "input" | "select" | "textarea" if element.attr("type") != Some("hidden") => {
            text.push_str(" (____)");
        }
        _ => {}
    }
    if is_block {
        text.push('\n');
    }
}

/// The text of a page's own part.
fn text_of(page: &str) -> String {
    let page = Html::parse_document(page);
    let main = Selector::parse("main").expect("a selector");
    let mut text = String::new();
    for main in page.select(&main) {
        written(main, &mut text);
    }
    let lines: Vec<_> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines.join("\n")
}

/// Who in the small fund reads such a page.
fn reader<'w>(world: &'w World, side: Side, route: &Route) -> Option<&'w Seat> {
    match side {
        Side::Member => Some(&world.bob),
        Side::Office => match roles(route.allowed) {
            None => Some(&world.sato),
            Some(allowed) if allowed.contains(&StaffRole::Reviewer) => Some(&world.sato),
            Some(allowed) if allowed.contains(&StaffRole::Supervisor) => Some(&world.tanaka),
            Some(allowed) if allowed.contains(&StaffRole::SystemAdmin) => Some(&world.admin),
            Some(_) => None,
        },
    }
}

#[tokio::test]
async fn every_page_says_this() {
    let world = World::new().await;
    Objects::ask_to_enrol(&world).await;
    let beta = Objects::of_beta(&world).await;
    let (members, office) = tables(&world);
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.set_prepend_module_to_snapshot(false);
    for (what, mask) in [
        (
            "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "(id)",
        ),
        ("[0-9a-f]{64}", "(hash)"),
        ("[0-9]+ [KM]?B（[0-9,]+バイト）", "(size)"),
        ("[0-9A-Za-z+/]{43}=", "(key)"),
        ("[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}", "(code)"),
    ] {
        settings.add_filter(what, mask);
    }
    let mut seen = 0;
    for (side, name, table) in [
        (Side::Member, "member", &members),
        (Side::Office, "office", &office),
    ] {
        settings.set_snapshot_path(format!("snapshots/{name}"));
        for route in table.iter().filter(|route| route.method == Method::GET) {
            let Some(reader) = reader(&world, side, route) else {
                continue;
            };
            let (path, _) = beta.fill(route);
            let (status, head, bytes) = reader.download(&path).await;
            let kind = head.get(header::CONTENT_TYPE);
            let is_page = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
            if status != StatusCode::OK || !is_page {
                continue;
            }
            let text = text_of(&String::from_utf8_lossy(&bytes));
            let file = route.path.trim_matches('/').replace(['/', '{', '}'], "_");
            let file = if file.is_empty() {
                "home".to_owned()
            } else {
                file
            };
            settings.bind(|| insta::assert_snapshot!(file, text));
            seen += 1;
        }
    }
    assert!(seen >= 60, "{seen} pages");
}
