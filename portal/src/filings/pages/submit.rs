//! 届書を提出する: the page with the drop area, and what its script `upload.js` hands in.
//!
//! `POST /filings` takes and answers JSON, for the script only: what is wrong with a file
//! belongs under its card, not on another page.

use askama::Template;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use time::Date;
use time::macros::format_description;

use crate::app::App;
use crate::filings::check::{ChosenName, Problem};
use crate::filings::hand_in::{
    self, Duplicate, FILES_LIMIT, FileProblems, HandIn, HandInError, HandInFailure, HandInFile,
    Outcome, Remedy,
};
use crate::filings::kinds::{self, FilingKind, Kinds};
use crate::filings::words::size;
use crate::filings::{Filing, FilingName, StepError, state_label, store};
use crate::ids::{FilingId, UploadId};
use crate::quarantine;
use crate::uploads::{self, FILE_LIMIT_BYTES, Upload};
use crate::web::dates;
use crate::web::forms::VerifiedScript;
use crate::web::layout::{Layout, MemberPage};
use crate::web::page;
use crate::web::page_error::PageError;
use crate::web::principals::Member;
use archive::Password;

#[derive(Template)]
#[template(path = "filing_new.html")]
struct NewPage {
    layout: Layout,
    replaces: Option<Replaced>,
    kinds: Vec<FilingKind>,
    on_paper: Vec<FilingKind>,
    today: String,
    establishment_number: String,
    files_limit: usize,
    file_limit_bytes: u64,
    file_limit_mb: u64,
    /// Uploads of an earlier session, as JSON for the script.
    waiting: String,
    /// The same in words.
    half_done: Vec<HalfDone>,
    removed: bool,
    /// Files that were held back and may be handed in now.
    released: Vec<String>,
}

/// An upload that has not been handed in.
struct HalfDone {
    name: String,
    progress: String,
    expires: String,
    remove_path: String,
}

struct Replaced {
    id: FilingId,
    name: FilingName,
    reason: String,
    advice: &'static str,
    words: String,
}

#[derive(Deserialize)]
pub(super) struct NewQuery {
    replaces: Option<String>,
    removed: Option<String>,
}

/// `GET /filings/new`
pub(super) async fn new_page(
    member: Member,
    State(app): State<App>,
    Query(query): Query<NewQuery>,
) -> Result<Html<String>, PageError> {
    let now = app.clock.now();
    let replaces = match query.replaces {
        Some(id) => Some(replaced(&app, &member, &id).await?),
        None => None,
    };
    let open = uploads::store::open_uploads(&app.db, &member, now).await?;
    let half_done = open.iter().map(HalfDone::of).collect();
    let waiting: Vec<Value> = open
        .into_iter()
        .map(|upload| {
            json!({
                "path": format!("/uploads/{}", upload.id),
                "name": upload.file_name,
                "length": upload.length_bytes,
                "offset": upload.offset_bytes,
            })
        })
        .collect();
    let kinds = kinds::store::all(app.db.pool()).await?;
    let today = now.to_offset(access::JST).date();
    page(&NewPage {
        layout: Layout::member(&app, &member, MemberPage::Submit, now),
        replaces,
        kinds: kinds.offered_on(today).cloned().collect(),
        on_paper: kinds.on_paper(today).cloned().collect(),
        today: today.to_string(),
        establishment_number: member.establishment_number().to_string(),
        files_limit: FILES_LIMIT,
        file_limit_bytes: FILE_LIMIT_BYTES,
        file_limit_mb: FILE_LIMIT_BYTES / (1024 * 1024),
        waiting: Value::Array(waiting).to_string(),
        half_done,
        removed: query.removed.is_some(),
        released: quarantine::store::released_names(&app.db, &member).await?,
    })
}

impl HalfDone {
    fn of(upload: &Upload) -> Self {
        let percent = 100 * upload.offset_bytes / upload.length_bytes.max(1);
        Self {
            name: upload.file_name.clone(),
            progress: format!("{}のうち{percent}%を受信済み", size(upload.length_bytes)),
            expires: dates::moment(upload.expires),
            remove_path: format!("/uploads/{}/remove", upload.id),
        }
    }
}

async fn replaced(app: &App, member: &Member, id: &str) -> Result<Replaced, PageError> {
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let line = store::find_own_line(&app.db, member, id)
        .await?
        .ok_or(PageError::NotFound)?;
    line.filing
        .may_be_replaced(line.replaced_by)
        .map_err(|error| PageError::Refused(error.page_text()))?;
    let Filing {
        id, name, state, ..
    } = line.filing;
    let reason = state.return_reason().ok_or(PageError::NotFound)?;
    Ok(Replaced {
        id,
        name,
        reason: reason.code().label().to_owned(),
        advice: reason.code().advice(),
        words: reason.text().to_owned(),
    })
}

/// What the script hands in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    files: Vec<BodyFile>,
    #[serde(default)]
    duplicates_confirmed: bool,
    #[serde(default)]
    duplicate_reason: String,
    #[serde(default)]
    replaces: Option<FilingId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyFile {
    upload: UploadId,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    names: Vec<BodyName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyName {
    #[serde(default)]
    entry: Option<String>,
    date: String,
    kind: String,
}

/// `POST /filings`
pub(super) async fn submit(
    member: Member,
    State(app): State<App>,
    _: VerifiedScript,
    body: Result<Json<Body>, JsonRejection>,
) -> Result<Response, PageError> {
    let Json(body) = body.map_err(|error| PageError::BadForm(error.to_string()))?;
    let kinds = kinds::store::all(app.db.pool()).await?;
    let Some(request) = body.into_request(&member, &kinds) else {
        let sentence = "届出年月日と届書名称を選んでください。";
        return Ok(answer(
            StatusCode::UNPROCESSABLE_ENTITY,
            json!({ "sentence": sentence }),
        ));
    };
    let now = app.clock.now();
    // A task of its own: it ends its work even if the browser goes away.
    let work = tokio::spawn(async move { hand_in::hand_in(&app, &member, &request, now).await });
    let outcome = work
        .await
        .map_err(PageError::doing("hand in"))?
        .map_err(failure)?;
    Ok(match outcome {
        Outcome::Accepted(id) => answer(
            StatusCode::CREATED,
            json!({ "receipt": format!("/submissions/{id}") }),
        ),
        Outcome::Refused(files) => answer(
            StatusCode::UNPROCESSABLE_ENTITY,
            json!({
                "sentence": "提出できませんでした。まだ何も受け付けられていません。赤い印のファイルをご確認ください。",
                "files": files.iter().map(file_json).collect::<Vec<_>>(),
            }),
        ),
        Outcome::Duplicates(duplicates) => answer(
            StatusCode::CONFLICT,
            json!({
                "sentence": "同じ内容の届書がすでに提出されています。それでも提出するときは、理由を入力して「このまま提出する」を押してください。",
                "duplicates": duplicates.iter().map(duplicate_json).collect::<Vec<_>>(),
            }),
        ),
        Outcome::Impossible(error) => answer(
            impossible_status(&error),
            json!({ "sentence": error.page_text() }),
        ),
    })
}

impl Body {
    /// `None` if a chosen name has no date or no kind.
    fn into_request(self, member: &Member, kinds: &Kinds) -> Option<HandIn> {
        let own = member.establishment_number();
        let chosen = |name: BodyName| {
            let form = format_description!("[year]-[month]-[day]");
            let date = Date::parse(&name.date, form).ok()?;
            let kind = kinds.find(&name.kind)?.kind;
            Some(ChosenName {
                entry: name.entry,
                name: FilingName::build(date, own, kind),
            })
        };
        let files = self
            .files
            .into_iter()
            .map(|file| {
                Some(HandInFile {
                    upload: file.upload,
                    password: file
                        .password
                        .filter(|text| !text.is_empty())
                        .map(Password::new),
                    names: file.names.into_iter().map(chosen).collect::<Option<_>>()?,
                })
            })
            .collect::<Option<_>>()?;
        Some(HandIn {
            files,
            duplicates_confirmed: self.duplicates_confirmed,
            duplicate_reason: self.duplicate_reason.trim().to_owned(),
            replaces: self.replaces,
        })
    }
}

fn file_json(file: &FileProblems) -> Value {
    json!({
        "upload": file.upload.to_string(),
        "problems": file.problems.iter().map(problem_json).collect::<Vec<_>>(),
    })
}

fn problem_json(problem: &Problem) -> Value {
    let suggestion = problem.suggestion().map(|name| {
        json!({
            "name": name.file_name(),
            "date": name.date().to_string(),
            "kind": name.kind().code(),
        })
    });
    json!({
        "entry": problem.entry,
        "sentence": problem.page_text(),
        "remedy": Remedy::against(&problem.fault).code(),
        "suggestion": suggestion,
    })
}

fn duplicate_json(duplicate: &Duplicate) -> Value {
    let link = duplicate
        .earlier
        .as_ref()
        .map(|earlier| format!("/filings/{}", earlier.id));
    json!({
        "upload": duplicate.upload.to_string(),
        "sentence": duplicate_sentence(duplicate),
        "link": link,
    })
}

/// What was filed before, for the sender.
pub(super) fn duplicate_sentence(duplicate: &Duplicate) -> String {
    match &duplicate.earlier {
        Some(earlier) => format!(
            "「{}」は、{}に受け付けた「{}」（受付番号 {}、{}）と同じ内容です。",
            duplicate.name.file_name(),
            dates::moment(earlier.received),
            earlier.name,
            earlier.receipt_number,
            state_label(&earlier.state),
        ),
        None => format!(
            "「{}」と同じ内容のファイルが、ほかにも選ばれています。",
            duplicate.name.file_name()
        ),
    }
}

fn impossible_status(error: &HandInError) -> StatusCode {
    match error {
        HandInError::Gone(_) | HandInError::DelegationOver => StatusCode::NOT_FOUND,
        HandInError::Nothing
        | HandInError::TooMany
        | HandInError::Twice
        | HandInError::Reason
        | HandInError::NotDelegated
        | HandInError::NotOneReplacement => StatusCode::UNPROCESSABLE_ENTITY,
        HandInError::Incomplete(_)
        | HandInError::HandedIn(_)
        | HandInError::Step(
            StepError::InOtherHands { .. }
            | StepError::NotInReview
            | StepError::NotSupervisor
            | StepError::WithdrawalAsked
            | StepError::ReviewBegan
            | StepError::Closed { .. }
            | StepError::NotReturned { .. }
            | StepError::AlreadyReplaced { .. }
            | StepError::Moved,
        ) => StatusCode::CONFLICT,
    }
}

pub(super) fn failure(error: HandInFailure) -> PageError {
    match error {
        HandInFailure::Store(error) => PageError::Store(error),
        error => PageError::doing("hand in")(error),
    }
}

fn answer(status: StatusCode, body: Value) -> Response {
    (status, Json(body)).into_response()
}
