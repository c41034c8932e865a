//! The office's pages about batches: drop, look over, have released, follow up.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use archive::Password;

use super::intake::{self, Dropped, IntakeError, Material, Order};
use super::store::{self, Place, Shown, Sums};
use super::{
    Batch, BatchError, Edition, ITEM_LIMIT, Remark, Source, State as BatchState, TargetMonth,
    mails, table,
};
use crate::app::App;
use crate::approvals::{self, Reason};
use crate::audit::{self, Act};
use crate::custody::{self, Document};
use crate::db::{Db, Tx};
use crate::documents::yen_text;
use crate::ids::{BatchId, NoticeId};
use crate::review::pictures::picture_of;
use crate::web::forms::{FieldErrors, FormFile, Typed, Verified, VerifiedBatch};
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::paging::Paging;
use crate::web::principals::Reviewer;
use crate::web::router::Routes;
use crate::web::{dates, download, page, page_with};

/// The routes of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Reviewer, _, _>(Method::GET, "/batches", list)
        .allow::<Reviewer, _, _>(Method::GET, "/batches/new", new)
        .allow::<Reviewer, _, _>(Method::POST, "/batches/new", take)
        .allow::<Reviewer, _, _>(Method::GET, "/batches/template.csv", template)
        .allow::<Reviewer, _, _>(Method::GET, "/batches/{id}", show)
        .allow::<Reviewer, _, _>(Method::POST, "/batches/{id}/propose", propose)
        .allow::<Reviewer, _, _>(Method::POST, "/batches/{id}/discard", discard)
        .allow::<Reviewer, _, _>(Method::POST, "/batches/{id}/remind", remind)
        .allow::<Reviewer, _, _>(Method::GET, "/batches/{id}/items/{item}", item)
        .allow::<Reviewer, _, _>(
            Method::GET,
            "/batches/{id}/items/{item}/pages/{page}",
            picture,
        )
}

#[derive(Template)]
#[template(path = "batches.html")]
struct ListPage {
    layout: Layout,
    lines: Vec<ListLine>,
    paging: Paging,
}

struct ListLine {
    path: String,
    number: String,
    what: String,
    chip: (&'static str, &'static str),
    made: String,
    made_by: String,
    sums: Sums,
    released: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PageQuery {
    page: Option<u32>,
    show: String,
    done: String,
}

/// `GET /batches`
async fn list(
    reviewer: Reviewer,
    State(app): State<App>,
    Query(query): Query<PageQuery>,
) -> Result<Html<String>, PageError> {
    let listing = store::list(&app.db, &reviewer, query.page.unwrap_or(1)).await?;
    let pages = pages_of(listing.total, store::PAGE_LENGTH);
    page(&ListPage {
        layout: Layout::office(&app, reviewer.staff(), OfficePage::Notices),
        paging: Paging::new("/batches", &[], listing.page, pages, listing.total),
        lines: listing
            .lines
            .into_iter()
            .map(|line| ListLine {
                path: format!("/batches/{}", line.batch.id),
                what: what(&line.batch),
                chip: line.batch.state.chip(),
                made: dates::moment(line.batch.made),
                made_by: line.made_by,
                sums: line.sums,
                released: line.batch.state == BatchState::Released,
                number: line.batch.number,
            })
            .collect(),
    })
}

fn pages_of(total: u64, length: i64) -> u32 {
    let pages = total.div_ceil(length.unsigned_abs()).max(1);
    u32::try_from(pages).unwrap_or(u32::MAX)
}

/// `令和8年10月分（CSVから作成・訂正版）`
fn what(batch: &Batch) -> String {
    let edition = match batch.edition {
        Edition::First => "",
        Edition::Correction => "・訂正版",
    };
    format!("{}（{}{edition}）", batch.month.name(), batch.source.name())
}

#[derive(Template)]
#[template(path = "batch_new.html")]
struct NewPage {
    layout: Layout,
    errors: FieldErrors,
    month: String,
    csv: bool,
    correction: bool,
    limit: usize,
}

/// `GET /batches/new`
async fn new(reviewer: Reviewer, State(app): State<App>) -> Result<Html<String>, PageError> {
    let month = TargetMonth::before(app.clock.now()).code();
    page(&NewPage {
        layout: Layout::office(&app, reviewer.staff(), OfficePage::Notices),
        errors: FieldErrors::default(),
        month,
        csv: true,
        correction: false,
        limit: ITEM_LIMIT,
    })
}

/// `GET /batches/template.csv`
async fn template(_: Reviewer) -> Response {
    let name = "掛金計算書・納入告知書のひな形.csv";
    download::attachment(name, download::CSV, table::template().into_bytes())
}

/// `POST /batches/new`
async fn take(
    reviewer: Reviewer,
    State(app): State<App>,
    VerifiedBatch(form): VerifiedBatch,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let field = |name: &str| form.fields.get(name).map_or("", |typed: &Typed| typed);
    let source = Source::from_code(field("source"));
    let edition = Edition::from_code(field("edition")).unwrap_or(Edition::First);
    let month = TargetMonth::read(field("month").trim());
    let password = field("zip_password").to_owned();
    let mut errors = FieldErrors::default();
    if month.is_none() {
        errors.add("month", "対象の月を「2026-10」のように入力してください。");
    }
    match source {
        None => errors.add("source", "発行するもの（CSVまたはPDF）を選んでください。"),
        Some(_) if form.files.is_empty() => errors.add("files", "ファイルを選んでください。"),
        Some(Source::Csv) if form.files.len() > 1 => {
            errors.add("files", "CSVファイルは1つだけ選んでください。");
        }
        Some(_) => {}
    }
    let (typed_month, csv) = (field("month").to_owned(), source != Some(Source::Files));
    let correction = edition == Edition::Correction;
    let mut files = form
        .files
        .into_iter()
        .map(|FormFile { name, bytes }| Dropped { name, bytes });
    let material = match (source, errors.is_empty()) {
        (Some(Source::Csv), true) => files.next().map(Material::Csv),
        (Some(Source::Files), true) => Some(Material::Files(
            files.collect(),
            (!password.is_empty()).then(|| Password::new(password)),
        )),
        (None, _) | (Some(_), false) => None,
    };
    let (Some(month), Some(material)) = (month, material) else {
        let page = NewPage {
            layout: Layout::office(&app, reviewer.staff(), OfficePage::Notices),
            errors,
            month: typed_month,
            csv,
            correction,
            limit: ITEM_LIMIT,
        };
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    };
    let order = Order { month, edition };
    let id = intake::take(&app, &reviewer, order, material, now)
        .await
        .map_err(|error| match error {
            IntakeError::Store(error) => PageError::Store(error),
            IntakeError::Custody(error) => PageError::storing("seal a batch")(error),
            IntakeError::Interrupted(error) => PageError::doing("check a batch")(error),
        })?;
    Ok(Redirect::to(&format!("/batches/{id}")).into_response())
}

#[derive(Template)]
#[template(path = "batch.html")]
struct BatchPage {
    layout: Layout,
    path: String,
    number: String,
    what: String,
    chip: (&'static str, &'static str),
    made: String,
    sums: Sums,
    contribution: String,
    payment: String,
    problems: Vec<store::Problem>,
    places: Vec<PlaceLine>,
    missing: Vec<String>,
    paging: Paging,
    unfetched_only: bool,
    acts: Acts,
    released: Option<String>,
    rounds: Vec<RoundLine>,
    proposed: bool,
    errors: FieldErrors,
    reason: String,
    remind_days: usize,
    done: &'static str,
}

/// What whoever looks at the page may do.
struct Acts {
    propose: bool,
    discard: bool,
    remind: bool,
}

struct PlaceLine {
    name: String,
    items: Vec<ItemLine>,
}

struct ItemLine {
    path: String,
    title: String,
    number: String,
    amount: String,
    origin: String,
    remark: &'static str,
    chip: Option<(&'static str, &'static str)>,
    pages: u64,
}

struct RoundLine {
    what: &'static str,
    at: String,
    people: u64,
}

/// `GET /batches/{id}`
async fn show(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Response, PageError> {
    let batch = find(&app, &reviewer, &id).await?;
    let (errors, reason) = (FieldErrors::default(), String::new());
    show_with(&app, &reviewer, batch, query, errors, reason).await
}

async fn show_with(
    app: &App,
    reviewer: &Reviewer,
    batch: Batch,
    query: PageQuery,
    errors: FieldErrors,
    reason: String,
) -> Result<Response, PageError> {
    let shown = match query.show.as_str() {
        "unfetched" => Shown::Unfetched,
        _ => Shown::All,
    };
    let at = query.page.unwrap_or(1).max(1);
    let (places, total) = store::places(&app.db, reviewer, batch.id, shown, at).await?;
    let sums = store::sums(&app.db, batch.id).await?;
    let path = format!("/batches/{}", batch.id);
    let pages = pages_of(total, store::PLACES_PAGE_LENGTH);
    let is_checked = batch.state == BatchState::Checked;
    let missing = match is_checked {
        true => store::missing(&app.db, reviewer, batch.id).await?,
        false => Vec::new(),
    };
    let now = app.clock.now();
    let proposed = is_checked && store::is_proposed(&app.db, batch.id, now).await?;
    let status = match errors.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let template = BatchPage {
        layout: Layout::office(app, reviewer.staff(), OfficePage::Notices),
        errors,
        reason,
        number: batch.number.clone(),
        what: what(&batch),
        chip: match proposed {
            true => ("warning", "発行の承認待ち"),
            false => batch.state.chip(),
        },
        made: dates::moment(batch.made),
        contribution: yen_text(sums.contribution_yen),
        payment: yen_text(sums.payment_yen),
        problems: store::problems(&app.db, reviewer, batch.id).await?,
        places: places
            .into_iter()
            .map(|place| place_line(&path, place))
            .collect(),
        missing: missing
            .into_iter()
            .map(|(number, name)| format!("{number} {name}"))
            .collect(),
        paging: Paging::new(&path, &[("show", query.show.as_str())], at, pages, total),
        unfetched_only: shown == Shown::Unfetched,
        acts: Acts {
            propose: batch.propose().is_ok() && !proposed,
            discard: batch.discard().is_ok() && !proposed,
            remind: batch.remind().is_ok() && sums.waiting > 0,
        },
        proposed,
        rounds: rounds(app, &batch).await?,
        remind_days: mails::REMIND_AFTER_WORKING_DAYS,
        done: match query.done.as_str() {
            "proposed" => "責任者に発行の承認を依頼しました。",
            "reminded" => "まだ受け取っていない事業所へ、再度お知らせメールを送信しています。",
            _ => "",
        },
        released: batch.released.map(dates::moment),
        sums,
        path,
    };
    Ok(page_with(status, &template)?.into_response())
}

fn place_line(path: &str, place: Place) -> PlaceLine {
    let items = place.items.into_iter().map(|line| ItemLine {
        path: match line.fetched.or(line.recalled) {
            Some(_) => format!("/notices/{}", line.item.id),
            None => format!("{path}/items/{}", line.item.id),
        },
        amount: line
            .item
            .amount_yen
            .map(|yen| format!("{}円", yen_text(yen)))
            .unwrap_or_default(),
        remark: line.item.remark.page_text(),
        chip: match (line.recalled, line.fetched) {
            (Some(_), _) => Some(("error", "取消し")),
            (None, Some(_)) => Some(("success", "受取済")),
            (None, None) => None,
        },
        title: line.item.title,
        number: line.item.number,
        origin: line.item.origin,
        pages: line.pages,
    });
    PlaceLine {
        name: format!("{} {}", place.number, place.name),
        items: items.collect(),
    }
}

async fn rounds(app: &App, batch: &Batch) -> Result<Vec<RoundLine>, PageError> {
    let rounds = mails::rounds(&app.db, batch).await?;
    let line = |(round, at, people): (String, _, _)| RoundLine {
        what: match round.as_str() {
            "issued" => "発行のお知らせ",
            "automatic" => "再度のお知らせ（自動）",
            _ => "再度のお知らせ",
        },
        at: dates::moment(at),
        people,
    };
    Ok(rounds.into_iter().map(line).collect())
}

async fn find(app: &App, reviewer: &Reviewer, id: &str) -> Result<Batch, PageError> {
    let id: BatchId = id.parse().map_err(|_| PageError::NotFound)?;
    store::find(&app.db, reviewer, id)
        .await?
        .ok_or(PageError::NotFound)
}

async fn find_in(tx: &mut Tx, id: &str) -> Result<Batch, PageError> {
    let id: BatchId = id.parse().map_err(|_| PageError::NotFound)?;
    store::find_in(tx, id).await?.ok_or(PageError::NotFound)
}

fn allowed<T>(outcome: Result<T, BatchError>) -> Result<T, PageError> {
    outcome.map_err(|error| PageError::Refused(error.page_text()))
}

fn to(id: BatchId, done: &str) -> Redirect {
    Redirect::to(&format!("/batches/{id}?done={done}"))
}

/// What buttons send: nothing but the token.
#[derive(Deserialize)]
struct Nothing {}

/// What who proposes a batch says about it.
#[derive(Deserialize)]
struct ProposeForm {
    reason: String,
}

/// `POST /batches/{id}/propose`: the second person decides on `/approvals`.
async fn propose(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<ProposeForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let Some(reason) = Reason::new(&form.reason) else {
        let batch = find(&app, &reviewer, &id).await?;
        let errors = FieldErrors::of_one("reason", Reason::page_text());
        let query = PageQuery::default();
        return show_with(&app, &reviewer, batch, query, errors, form.reason).await;
    };
    let mut tx = app.db.begin().await?;
    let batch = find_in(&mut tx, &id).await?;
    allowed(batch.propose())?;
    let (kind, subject) = (approvals::Kind::BatchRelease, batch.id.to_string());
    approvals::propose(
        &mut tx,
        &app,
        kind,
        &subject,
        &reason,
        reviewer.staff(),
        now,
    )
    .await
    .map_err(approvals::refused)?;
    Db::commit(tx).await?;
    Ok(to(batch.id, "proposed").into_response())
}

/// `POST /batches/{id}/discard`
async fn discard(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let batch = find_in(&mut tx, &id).await?;
    allowed(batch.discard())?;
    let documents = allowed(store::discard(&mut tx, &batch, reviewer.id(), now).await?)?;
    let act = Act::BatchDiscarded(batch.id);
    audit::record(&mut tx, &app.keys, &reviewer.actor(), act, now).await?;
    Db::commit(tx).await?;
    custody::remove_objects(&app, documents).await;
    Ok(Redirect::to("/batches"))
}

/// `POST /batches/{id}/remind`
async fn remind(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let batch = find(&app, &reviewer, &id).await?;
    allowed(batch.remind())?;
    let today = now.to_offset(access::JST).date();
    if mails::was_reminded(&app.db, batch.id, today).await? {
        return allowed(Err(BatchError::RemindedToday));
    }
    let queued = mails::queue(&app, batch.id, mails::Round::Manual(today), now).await?;
    if queued == 0 {
        return allowed(Err(BatchError::NobodyToRemind));
    }
    let mut tx = app.db.begin().await?;
    let (actor, act) = (reviewer.actor(), Act::BatchReminded(batch.id, "manual"));
    let details = json!({ "mails": queued });
    audit::record_with(&mut tx, &app.keys, &actor, act, "", &details, now).await?;
    Db::commit(tx).await?;
    Ok(to(batch.id, "reminded"))
}

#[derive(Template)]
#[template(path = "batch_item.html")]
struct ItemPage {
    layout: Layout,
    batch_path: String,
    batch_number: String,
    title: String,
    number: String,
    amount: String,
    origin: String,
    remark: &'static str,
    issued: bool,
    notice_path: String,
    page_paths: Vec<String>,
}

async fn find_item(
    app: &App,
    reviewer: &Reviewer,
    batch: &Batch,
    item: &str,
) -> Result<(store::Item, Document), PageError> {
    let item: NoticeId = item.parse().map_err(|_| PageError::NotFound)?;
    let item = store::find_item(&app.db, reviewer, batch.id, item)
        .await?
        .ok_or(PageError::NotFound)?;
    let document = custody::store::find(&app.db, item.document)
        .await?
        .ok_or(PageError::NotFound)?;
    Ok((item, document))
}

/// `GET /batches/{id}/items/{item}`
async fn item(
    reviewer: Reviewer,
    State(app): State<App>,
    Path((id, item)): Path<(String, String)>,
) -> Result<Html<String>, PageError> {
    let batch = find(&app, &reviewer, &id).await?;
    let (item, document) = find_item(&app, &reviewer, &batch, &item).await?;
    let batch_path = format!("/batches/{}", batch.id);
    page(&ItemPage {
        layout: Layout::office(&app, reviewer.staff(), OfficePage::Notices),
        amount: item
            .amount_yen
            .map(|yen| format!("{}円", yen_text(yen)))
            .unwrap_or_default(),
        page_paths: (1..=document.pages)
            .map(|page| format!("{batch_path}/items/{}/pages/{page}.png", item.id))
            .collect(),
        remark: match item.remark {
            Remark::Nothing => "",
            remark => remark.page_text(),
        },
        issued: batch.state == BatchState::Released,
        notice_path: format!("/notices/{}", item.id),
        batch_number: batch.number,
        title: item.title,
        number: item.number,
        origin: item.origin,
        batch_path,
    })
}

/// `GET /batches/{id}/items/{item}/pages/{page}`
async fn picture(
    reviewer: Reviewer,
    State(app): State<App>,
    Path((id, item, page)): Path<(String, String, String)>,
) -> Result<Response, PageError> {
    let batch = find(&app, &reviewer, &id).await?;
    let (item, document) = find_item(&app, &reviewer, &batch, &item).await?;
    let (number, picture) = picture_of(&app, &document, &page).await?;
    let mut tx = app.db.begin().await?;
    let (actor, act, now) = (reviewer.actor(), Act::BatchRead(batch.id), app.clock.now());
    let details = json!({ "item": item.id.to_string(), "page": number });
    audit::record_with(&mut tx, &app.keys, &actor, act, "", &details, now).await?;
    Db::commit(tx).await?;
    Ok(picture)
}

#[cfg(test)]
mod tests;
