//! One filing as the office sees it: its pages, what was said about it, what can be done.

use access::JST;
use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;

use super::{find_line, queue, rank};
use crate::app::App;
use crate::filings::ReturnCode;
use crate::filings::pages::document_of;
use crate::filings::reasons::Words;
use crate::filings::store::{self, FilingLine};
use crate::filings::words::{Chip, TimelineLine, chip, size, timeline};
use crate::filings::{Filing, Rank, State as FilingState};
use crate::paper::twins::{Among, TwinLine};
use crate::review::words::{ChainLine, CommentLine, MarkedPage};
use crate::review::{assignment, chain, desk, marks, talk, withdrawals, words};
use crate::web::dates;
use crate::web::forms::FieldErrors;
use crate::web::layout::{Layout, OfficePage, Side};
use crate::web::page_error::PageError;
use crate::web::page_with;
use crate::web::principals::Reviewer;
use crate::{notices, paper};

#[derive(Template)]
#[template(path = "review_filing.html")]
struct FilingPage {
    layout: Layout,
    errors: FieldErrors,
    path: String,
    name: String,
    kind: String,
    filed_on: String,
    chip: Chip,
    due: Option<String>,
    urgency: Option<Chip>,
    establishment: String,
    receipt_number: String,
    received: String,
    sender: String,
    paper: Option<PaperFacts>,
    twins: Vec<TwinLine>,
    reviewer: Option<String>,
    size: String,
    sha256: String,
    page_paths: Vec<String>,
    /// What the reviewer may do now.
    acts: Acts,
    request: Option<RequestLine>,
    candidates: Vec<CandidateChoice>,
    returned: Option<(&'static str, String)>,
    mark: Option<MarkedPage>,
    replaced_by: Option<String>,
    chain: Vec<ChainLine>,
    notices: Vec<(String, String, bool)>,
    reasons: Vec<Reason>,
    typed: Typed,
    comments: Vec<CommentLine>,
    timeline: Vec<TimelineLine>,
}

/// What the reviewer who looks at the page may do.
struct Acts {
    take: bool,
    release: bool,
    close: bool,
    assign: bool,
}

struct Reason {
    code: &'static str,
    label: &'static str,
    words_required: bool,
    selected: bool,
}

/// What came on paper.
struct PaperFacts {
    code: String,
    arrived: String,
    sheets: u16,
}

struct RequestLine {
    asked: String,
    asked_by: String,
    reason: String,
    may_answer: bool,
}

struct CandidateChoice {
    id: String,
    name: String,
    cases: u64,
}

/// What was typed into the forms of the page, and what was wrong with it.
#[derive(Default)]
pub(super) struct Typed {
    /// The reason of a return.
    pub code: String,
    /// Its words.
    pub text: String,
    /// Where the mark is.
    pub mark: marks::Typed,
    /// A comment.
    pub comment: String,
    /// For whom; empty: not chosen.
    pub audience: String,
    /// What is wrong.
    pub errors: FieldErrors,
}

/// `GET /filings/{id}`
pub(super) async fn show_filing(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let line = find_line(&app, &reviewer, &id).await?;
    show(&app, &reviewer, &line, Typed::default(), StatusCode::OK).await
}

/// The filing's page, with what was typed into its forms.
pub(super) async fn show(
    app: &App,
    reviewer: &Reviewer,
    line: &FilingLine,
    mut typed: Typed,
    status: StatusCode,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let filing = &line.filing;
    let document = document_of(app, filing).await?;
    let entries = store::timeline(&app.db, filing).await?;
    let comments = talk::read(&app.db, &app.keys, filing, Side::Office).await?;
    let links = chain::of(&app.db, filing).await?;
    let mark = marks::of(&app.db, filing).await?;
    let due_on = desk::due_on(&app.db, reviewer, filing.id).await?;
    let request = withdrawals::open(&app.db, &app.keys, filing).await?;
    let is_holder = filing.decide(reviewer.id(), now).is_ok();
    let is_open = matches!(
        filing.state,
        FilingState::Received | FilingState::InReview { .. }
    );
    let due_on = due_on.filter(|_| is_open);
    let candidates = candidates(app, reviewer, filing, is_open).await?;
    let path = format!("/filings/{}", filing.id);
    let today = now.to_offset(JST).date();
    let holder_is_gone = match filing.state.reviewer().filter(|_| is_open) {
        Some(holder) => assignment::is_gone(&app.db, reviewer, holder).await?,
        None => false,
    };
    let template = FilingPage {
        layout: Layout::office(app, reviewer.staff(), OfficePage::Review),
        errors: std::mem::take(&mut typed.errors),
        name: filing.name.to_string(),
        kind: filing.name.kind().name().to_owned(),
        filed_on: dates::date(filing.name.date()),
        chip: chip(filing.state.code()),
        due: due_on.map(dates::date),
        urgency: due_on.and_then(|due_on| queue::urgency(due_on, today)),
        establishment: format!("{} {}", line.establishment_number, line.establishment_name),
        receipt_number: line.receipt_number.clone(),
        received: dates::moment(filing.received),
        sender: line.sender.clone(),
        paper: paper::store::of(&app.db, filing.id)
            .await?
            .map(|(code, arrived, sheets)| PaperFacts {
                code: code.to_string(),
                arrived: dates::date(arrived),
                sheets,
            }),
        twins: paper::twins::of(
            &app.db,
            reviewer,
            filing.establishment,
            &filing.name,
            Among::OtherWay(filing.id),
        )
        .await?
        .into_iter()
        .map(TwinLine::from)
        .collect(),
        reviewer: line.reviewer.clone(),
        size: size(document.size_bytes),
        sha256: document.sha256,
        page_paths: (1..=document.pages)
            .map(|page| format!("{path}/pages/{page}.png"))
            .collect(),
        acts: Acts {
            take: holder_is_gone || filing.take(reviewer.id(), now).is_ok(),
            release: filing.release(reviewer.id(), rank(reviewer), now).is_ok(),
            close: is_holder && request.is_none(),
            assign: !candidates.is_empty(),
        },
        request: request.map(|request| RequestLine {
            asked: dates::moment(request.asked),
            asked_by: request.asked_by,
            reason: request.reason,
            may_answer: is_holder,
        }),
        candidates,
        returned: filing
            .state
            .return_reason()
            .map(|reason| (reason.code().label(), reason.text().to_owned())),
        mark: mark.map(|mark| words::marked(mark, &path)),
        replaced_by: line.replaced_by.map(|id| format!("/filings/{id}")),
        chain: words::chain(links, filing.id),
        notices: notices::store::of_filing(&app.db, reviewer, filing.id)
            .await?
            .into_iter()
            .map(|notice| {
                let label = format!("{}（{}）", notice.title, notice.number);
                let path = format!("/notices/{}", notice.id);
                (path, label, notice.first_fetched.is_some())
            })
            .collect(),
        reasons: ReturnCode::ALL
            .into_iter()
            .map(|code| Reason {
                code: code.code(),
                label: code.label(),
                words_required: code.words() == Words::Required,
                selected: code.code() == typed.code,
            })
            .collect(),
        typed,
        comments: words::comments(comments, Side::Office),
        timeline: timeline(entries, Side::Office),
        path,
    };
    Ok(page_with(status, &template)?.into_response())
}

/// Whom a supervisor can give the case to; nobody else can give it to anybody.
async fn candidates(
    app: &App,
    reviewer: &Reviewer,
    filing: &Filing,
    is_open: bool,
) -> Result<Vec<CandidateChoice>, PageError> {
    if !is_open || rank(reviewer) != Rank::Supervisor {
        return Ok(Vec::new());
    }
    let candidates = assignment::candidates(&app.db, reviewer).await?;
    Ok(candidates
        .into_iter()
        .filter(|candidate| filing.state.reviewer() != Some(candidate.id))
        .map(|candidate| CandidateChoice {
            id: candidate.id.to_string(),
            name: candidate.name,
            cases: candidate.cases,
        })
        .collect())
}
