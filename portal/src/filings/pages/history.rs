//! 提出履歴: the establishment's filings, newest first.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Html;
use serde::Deserialize;
use time::Date;
use time::macros::format_description;

use crate::app::App;
use crate::filings::State as FilingState;
use crate::filings::store::{self, FilingLine, Search};
use crate::filings::words::{Chip, StateChoice, chip, state_choices};
use crate::web::dates;
use crate::web::forms::FieldErrors;
use crate::web::layout::{Layout, MemberPage};
use crate::web::page;
use crate::web::page_error::PageError;
use crate::web::paging::Paging;
use crate::web::principals::Member;

#[derive(Template)]
#[template(path = "filing_list.html")]
struct ListPage {
    layout: Layout,
    errors: FieldErrors,
    lines: Vec<Line>,
    paging: Paging,
    searched: bool,
    text: String,
    from: String,
    to: String,
    states: Vec<StateChoice>,
}

/// A line of a list of the member's filings.
pub struct Line {
    /// The filing's page.
    pub path: String,
    /// Its name.
    pub name: String,
    /// Its state.
    pub chip: Chip,
    /// Its receipt's number.
    pub receipt_number: String,
    /// When it was received.
    pub received: String,
    /// Who sent it.
    pub sender: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ListQuery {
    text: String,
    state: String,
    from: String,
    to: String,
    page: Option<u32>,
}

/// `GET /filings`
pub(super) async fn list(
    member: Member,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Html<String>, PageError> {
    let mut errors = FieldErrors::default();
    let mut day = |field, text: &str| match parse_day(text) {
        Ok(day) => day,
        Err(sentence) => {
            errors.add(field, sentence);
            None
        }
    };
    let search = Search {
        text: query.text.clone(),
        state: FilingState::CODES
            .into_iter()
            .find(|code| *code == query.state),
        from: day("from", &query.from),
        to: day("to", &query.to),
        page: query.page.unwrap_or(1),
    };
    let listing = store::history(&app.db, &member, &search).await?;
    let fields = [
        ("text", query.text.as_str()),
        ("state", query.state.as_str()),
        ("from", query.from.as_str()),
        ("to", query.to.as_str()),
    ];
    page(&ListPage {
        layout: Layout::member(&app, &member, MemberPage::History, app.clock.now()),
        errors,
        paging: Paging::new(
            "/filings",
            &fields,
            listing.page,
            listing.pages(),
            listing.total,
        ),
        searched: fields.iter().any(|(_, value)| !value.is_empty()),
        lines: listing.lines.iter().map(Line::new).collect(),
        states: state_choices(search.state),
        text: query.text,
        from: query.from,
        to: query.to,
    })
}

/// Reads a day of a search form; nothing is no day.
fn parse_day(text: &str) -> Result<Option<Date>, &'static str> {
    let form = format_description!("[year]-[month]-[day]");
    match text.trim() {
        "" => Ok(None),
        text => Date::parse(text, form)
            .map(Some)
            .map_err(|_| "日付を「2026-04-01」の形で入力してください。"),
    }
}

impl Line {
    /// A line for one filing.
    pub fn new(line: &FilingLine) -> Self {
        Self {
            path: format!("/filings/{}", line.filing.id),
            name: line.filing.name.to_string(),
            chip: chip(line.filing.state.code()),
            receipt_number: line.receipt_number.clone(),
            received: dates::moment(line.filing.received),
            sender: line.sender.clone(),
        }
    }
}
