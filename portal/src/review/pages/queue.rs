//! 審査: the office's list of filings.

use access::JST;
use askama::Template;
use axum::extract::{Query, State};
use axum::response::Html;
use serde::Deserialize;

use crate::app::App;
use crate::calendar::holiday_warning;
use crate::filings::store::{self, Queue};
use crate::filings::words::{Chip, chip};
use crate::web::dates;
use crate::web::layout::{Layout, OfficePage};
use crate::web::page;
use crate::web::page_error::PageError;
use crate::web::paging::Paging;
use crate::web::principals::Reviewer;

#[derive(Template)]
#[template(path = "review_list.html")]
struct ListPage {
    layout: Layout,
    holiday_warning: Option<String>,
    views: Vec<View>,
    view: &'static str,
    lines: Vec<Line>,
    paging: Paging,
    text: String,
    establishment: String,
}

struct View {
    code: &'static str,
    label: &'static str,
    current: bool,
}

struct Line {
    path: String,
    name: String,
    establishment: String,
    chip: Chip,
    reviewer: Option<String>,
    received: String,
    receipt_number: String,
    replacement: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ListQuery {
    view: String,
    text: String,
    establishment: String,
    page: Option<u32>,
}

/// Code, label and states of each view; the first is the one to begin with.
const VIEWS: [(&str, &str, &[&str]); 5] = [
    ("open", "未処理", &["received", "in_review"]),
    ("mine", "自分の担当", &["in_review"]),
    ("returned", "差戻し", &["returned"]),
    ("decided", "決定", &["decided"]),
    ("all", "すべて", &[]),
];

/// `GET /filings`
pub(super) async fn list(
    reviewer: Reviewer,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Html<String>, PageError> {
    let (view, _, states) = VIEWS
        .into_iter()
        .find(|(code, _, _)| *code == query.view)
        .unwrap_or(VIEWS[0]);
    let queue = Queue {
        states: states.to_vec(),
        reviewer: (view == "mine").then(|| reviewer.id()),
        establishment: query.establishment.trim().parse().ok(),
        text: query.text.clone(),
        page: query.page.unwrap_or(1),
    };
    let listing = store::queue(&app.db, &reviewer, &queue).await?;
    let search = [
        ("view", view),
        ("text", query.text.as_str()),
        ("establishment", query.establishment.as_str()),
    ];
    let today = app.clock.now().to_offset(JST).date();
    page(&ListPage {
        layout: Layout::office(&app, reviewer.staff(), OfficePage::Review),
        holiday_warning: holiday_warning(today),
        views: VIEWS
            .into_iter()
            .map(|(code, label, _)| View {
                code,
                label,
                current: code == view,
            })
            .collect(),
        view,
        paging: Paging::new(
            "/filings",
            &search,
            listing.page,
            listing.pages(),
            listing.total,
        ),
        lines: listing
            .lines
            .into_iter()
            .map(|line| Line {
                path: format!("/filings/{}", line.filing.id),
                name: line.filing.name.to_string(),
                establishment: format!("{} {}", line.establishment_number, line.establishment_name),
                chip: chip(line.filing.state.code()),
                reviewer: line.reviewer,
                received: dates::moment(line.filing.received),
                receipt_number: line.receipt_number,
                replacement: line.filing.replaces.is_some(),
            })
            .collect(),
        text: query.text,
        establishment: query.establishment,
    })
}
