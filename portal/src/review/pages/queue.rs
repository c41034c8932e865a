//! 審査: the office's list of filings, by deadline.

use access::JST;
use askama::Template;
use axum::extract::{Query, State};
use axum::response::Html;
use serde::Deserialize;
use time::Date;

use crate::app::App;
use crate::calendar::holiday_warning;
use crate::filings::kinds::{self, Kind};
use crate::filings::words::{Chip, chip};
use crate::review::desk::{self, Begin, Channel, Counts, DeskLine, Place, Search, View};
use crate::staff::StaffRole;
use crate::web::dates;
use crate::web::layout::{Layout, OfficePage};
use crate::web::page;
use crate::web::page_error::PageError;
use crate::web::principals::Reviewer;

#[derive(Template)]
#[template(path = "review_list.html")]
struct ListPage {
    layout: Layout,
    holiday_warning: Option<String>,
    may_see_held: bool,
    views: Vec<Tab>,
    view: &'static str,
    by_deadline: bool,
    lines: Vec<Line>,
    previous: Option<String>,
    next: Option<String>,
    narrowed: bool,
    text: String,
    establishment: String,
    establishment_error: &'static str,
    kinds: Vec<KindChoice>,
}

struct Tab {
    code: &'static str,
    label: &'static str,
    count: Option<u64>,
    current: bool,
}

struct KindChoice {
    code: &'static str,
    name: &'static str,
    selected: bool,
}

struct Line {
    path: String,
    name: String,
    establishment: String,
    chip: Chip,
    reviewer: Option<String>,
    reviewer_is_gone: bool,
    due: String,
    /// Of the open ones alone: how near the deadline is.
    urgency: Option<Chip>,
    received: String,
    receipt_number: String,
    replacement: bool,
    paper: bool,
    withdrawal_asked: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ListQuery {
    view: String,
    text: String,
    establishment: String,
    kind: String,
    after: String,
    before: String,
}

/// `GET /filings`
pub(super) async fn list(
    reviewer: Reviewer,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Html<String>, PageError> {
    let today = app.clock.now().to_offset(JST).date();
    let number = query.establishment.trim();
    let kinds = kinds::store::all(app.db.pool()).await?;
    let establishment = number.parse().ok();
    let search = Search {
        view: View::from_code(&query.view),
        establishment,
        kind: kinds.find(&query.kind).map(|kind| kind.kind),
        text: query.text.clone(),
        from: match (
            Place::from_text(&query.after),
            Place::from_text(&query.before),
        ) {
            (Some(place), _) => Begin::After(place),
            (None, Some(place)) => Begin::Before(place),
            (None, None) => Begin::Top,
        },
    };
    let listed = desk::list(&app.db, &reviewer, &search, today).await?;
    let counts = desk::counts(&app.db, &reviewer, today).await?;
    let link = |name: &str, place: &Place| {
        let place = place.to_text();
        let fields = [
            ("view", search.view.code()),
            ("text", query.text.as_str()),
            ("establishment", number),
            ("kind", search.kind.map_or("", Kind::code)),
            (name, place.as_str()),
        ];
        let fields: Vec<_> = fields
            .into_iter()
            .filter(|field| !field.1.is_empty())
            .collect();
        let query = serde_urlencoded::to_string(&fields).unwrap_or_default();
        format!("/filings?{query}")
    };
    page(&ListPage {
        layout: Layout::office(&app, reviewer.staff(), OfficePage::Review),
        holiday_warning: holiday_warning(today),
        may_see_held: reviewer.staff().role() == StaffRole::Supervisor,
        views: View::ALL
            .into_iter()
            .map(|view| Tab {
                code: view.code(),
                label: view.label(),
                count: count_of(view, counts),
                current: view == search.view,
            })
            .collect(),
        view: search.view.code(),
        by_deadline: count_of(search.view, counts).is_some(),
        previous: listed.previous.as_ref().map(|place| link("before", place)),
        next: listed.next.as_ref().map(|place| link("after", place)),
        lines: listed
            .lines
            .into_iter()
            .map(|line| Line::of(line, today))
            .collect(),
        narrowed: [&query.text, &query.establishment, &query.kind]
            .iter()
            .any(|field| !field.trim().is_empty()),
        establishment_error: if !number.is_empty() && establishment.is_none() {
            "事業所番号を4桁の数字で入力してください（例：0123）。"
        } else {
            ""
        },
        kinds: kinds
            .iter()
            .map(|kind| KindChoice {
                code: kind.kind.code(),
                name: kind.kind.name(),
                selected: search.kind == Some(kind.kind),
            })
            .collect(),
        text: query.text,
        establishment: query.establishment,
    })
}

/// What is open is counted; what is closed only grows.
fn count_of(view: View, counts: Counts) -> Option<u64> {
    match view {
        View::Open => Some(counts.open),
        View::Mine => Some(counts.mine),
        View::Unassigned => Some(counts.unassigned),
        View::Late => Some(counts.late),
        View::Returned | View::Decided | View::Withdrawn | View::All => None,
    }
}

impl Line {
    fn of(desk: DeskLine, today: Date) -> Self {
        let DeskLine {
            line,
            due_on,
            channel,
            holder_is_gone,
            withdrawal_asked,
        } = desk;
        let is_open = ["received", "in_review"].contains(&line.filing.state.code());
        Self {
            path: format!("/filings/{}", line.filing.id),
            name: line.filing.name.to_string(),
            establishment: format!("{} {}", line.establishment_number, line.establishment_name),
            chip: chip(line.filing.state.code()),
            reviewer: line.reviewer,
            reviewer_is_gone: holder_is_gone,
            due: dates::date(due_on),
            urgency: is_open.then(|| urgency(due_on, today)).flatten(),
            received: dates::moment(line.filing.received),
            receipt_number: line.receipt_number,
            replacement: line.filing.replaces.is_some(),
            paper: channel == Channel::Paper,
            withdrawal_asked,
        }
    }
}

/// Colour and word beside the day of decision of an open filing.
pub(super) fn urgency(due_on: Date, today: Date) -> Option<Chip> {
    let (kind, word) = match (due_on - today).whole_days() {
        ..0 => ("error", "期限切れ"),
        0 => ("warning", "本日まで"),
        1..=3 => ("warning", "期限間近"),
        _ => return None,
    };
    Some(Chip { kind, word })
}
