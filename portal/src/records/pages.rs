//! Searching records and taking them along, for establishments and for the office.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use super::pack::{self, About, LIMIT_BYTES, RECORD_LIMIT, Signer};
use super::store::{self, Asker, Record, Sums};
use super::{Search, Typed};
use crate::app::App;
use crate::audit::{self, Act};
use crate::custody;
use crate::db::Db;
use crate::documents::yen_text;
use crate::filings::store::{ActorSide, write_event};
use crate::filings::{Event, words};
use crate::ids::RowId;
use crate::notices::{self, Fetching, Form};
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, MemberPage, OfficePage};
use crate::web::page_error::PageError;
use crate::web::page_with;
use crate::web::paging::Paging;
use crate::web::principals::{Fetcher, Member, Reviewer};
use crate::web::router::Routes;
use crate::web::{dates, download};

const PATH: &str = "/records";
/// Packs that are made at the same time: each is held in memory.
static PACKING: Semaphore = Semaphore::const_new(1);

/// The routes of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Fetcher, _, _>(Method::GET, PATH, own)
        .allow::<Fetcher, _, _>(Method::POST, "/records/pack", own_pack)
}

/// The routes of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Reviewer, _, _>(Method::GET, PATH, all)
        .allow::<Reviewer, _, _>(Method::POST, "/records/pack", all_pack)
}

/// What the pages of both sides show.
struct Found {
    typed: Typed,
    errors: FieldErrors,
    lines: Vec<Line>,
    sums: Sums,
    size: String,
    paging: Paging,
    /// Why these records cannot become a pack; empty if they can.
    too_much: String,
    public_key: String,
}

struct Line {
    path: Option<String>,
    day: String,
    counterparty: String,
    amount: String,
    title: String,
    number: String,
    corrects: Option<String>,
    chip: (&'static str, &'static str),
}

#[derive(Template)]
#[template(path = "records.html")]
struct OwnPage {
    layout: Layout,
    found: Found,
}

#[derive(Template)]
#[template(path = "office_records.html")]
struct OfficePageOfRecords {
    layout: Layout,
    found: Found,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PageQuery {
    page: Option<u32>,
}

/// `GET /records`
async fn own(
    member: Member,
    State(app): State<App>,
    Query(typed): Query<Typed>,
    Query(query): Query<PageQuery>,
) -> Result<Response, PageError> {
    let asker = Asker::Member(&member);
    let (status, found) = find(&app, asker, typed, query.page.unwrap_or(1)).await?;
    let layout = Layout::member(&app, &member, MemberPage::Notices, app.clock.now());
    Ok(page_with(status, &OwnPage { layout, found })?.into_response())
}

/// `GET /records`
async fn all(
    reviewer: Reviewer,
    State(app): State<App>,
    Query(typed): Query<Typed>,
    Query(query): Query<PageQuery>,
) -> Result<Response, PageError> {
    let asker = Asker::Office(&reviewer);
    let (status, found) = find(&app, asker, typed, query.page.unwrap_or(1)).await?;
    let layout = Layout::office(&app, reviewer.staff(), OfficePage::Notices);
    Ok(page_with(status, &OfficePageOfRecords { layout, found })?.into_response())
}

/// Whether a member's only counterparty, the fund, fits the search.
fn fund_fits(app: &App, search: &Search) -> bool {
    app.config.fund_name.contains(&search.counterparty)
}

async fn sums(app: &App, asker: Asker<'_>, search: &Search) -> Result<Sums, PageError> {
    match asker {
        Asker::Member(_) if !fund_fits(app, search) => Ok(Sums::default()),
        Asker::Member(_) | Asker::Office(_) => Ok(store::sums(&app.db, asker, search).await?),
    }
}

async fn find(
    app: &App,
    asker: Asker<'_>,
    typed: Typed,
    at: u32,
) -> Result<(StatusCode, Found), PageError> {
    let signer = Signer::of(&app.keys).map_err(PageError::doing("find the signing key"))?;
    let at = at.max(1);
    let (search, errors) = match typed.read() {
        Ok(search) => (Some(search), FieldErrors::default()),
        Err(errors) => (None, errors),
    };
    let mut found = Found {
        errors,
        lines: Vec::new(),
        sums: Sums::default(),
        size: String::new(),
        paging: Paging::new(PATH, &typed.fields(), 1, 1, 0),
        too_much: String::new(),
        public_key: signer.public_key(),
        typed,
    };
    let Some(search) = search else {
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, found));
    };
    found.sums = sums(app, asker, &search).await?;
    found.size = found.sums.bytes.map(words::size).unwrap_or_default();
    found.too_much = too_much(found.sums);
    let pages = found
        .sums
        .records
        .div_ceil(store::PAGE_LENGTH.unsigned_abs());
    let pages = u32::try_from(pages.max(1)).unwrap_or(u32::MAX);
    let total = found.sums.records;
    found.paging = Paging::new(PATH, &found.typed.fields(), at, pages, total);
    if total > 0 {
        let offset = (i64::from(at) - 1) * store::PAGE_LENGTH;
        let length = store::PAGE_LENGTH;
        let records = store::list(&app.db, asker, &search, length, offset).await?;
        found.lines = records
            .iter()
            .map(|record| line(app, asker, record))
            .collect();
    }
    Ok((StatusCode::OK, found))
}

fn too_much(sums: Sums) -> String {
    if sums.records > RECORD_LIMIT {
        format!("一式にできるのは一度に{RECORD_LIMIT}件までです。期間を短くしてください。")
    } else if sums.bytes.unwrap_or_default() > LIMIT_BYTES {
        format!(
            "一式にできるのは一度に{}までです。期間を短くしてください。",
            words::size(LIMIT_BYTES)
        )
    } else {
        String::new()
    }
}

fn line(app: &App, asker: Asker<'_>, record: &Record) -> Line {
    let notice = &record.notice;
    let (counterparty, read) = match asker {
        Asker::Member(_) => (app.config.fund_name.clone(), "受取済"),
        Asker::Office(_) => (
            format!(
                "{} {}",
                record.establishment_number, record.establishment_name
            ),
            "受取済",
        ),
    };
    Line {
        path: record
            .destroyed
            .is_none()
            .then(|| format!("/notices/{}", notice.id)),
        day: dates::day(notice.issued),
        counterparty,
        amount: notice
            .amount_yen
            .map(|yen| format!("{}円", yen_text(yen)))
            .unwrap_or_default(),
        title: notice.title.clone(),
        number: notice.number.clone(),
        corrects: record.corrects.clone(),
        chip: match (record.destroyed, notice.recalled, notice.first_fetched) {
            (Some(_), _, _) => ("neutral", "廃棄済み"),
            (None, Some(_), _) => ("error", "取消し"),
            (None, None, Some(_)) => ("neutral", read),
            (None, None, None) => ("warning", "未読"),
        },
    }
}

/// `POST /records/pack`
async fn own_pack(
    member: Member,
    State(app): State<App>,
    Verified(typed): Verified<Typed>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    // The semaphore is never closed.
    let _turn = PACKING.acquire().await.ok();
    let records = collect(&app, Asker::Member(&member), &typed).await?;
    let about = About {
        fund: app.config.fund_name.clone(),
        holder: format!(
            "{} {}",
            member.establishment_number(),
            member.establishment_name()
        ),
        counterparty: Some(app.config.fund_name.clone()),
        search: searched(&typed),
        made_at: now,
    };
    let handed: Vec<_> = records
        .iter()
        .filter(|(_, content)| content.is_some())
        .map(|(record, _)| record.notice.clone())
        .collect();
    // Before the transaction: nobody else waits for the pack.
    let pack = packed(&app, about, records).await?;
    // What is handed out is fetched: written down before the first byte leaves.
    let mut tx = app.db.begin().await?;
    for notice in &handed {
        let form = Form::Pack;
        match notices::store::record_fetch(&mut tx, &member, notice, form, now).await? {
            Fetching::Recalled => {
                let sentence =
                    "保存する間に、基金が取り消した通知書がありました。もう一度お試しください。";
                return Err(PageError::Refused(sentence.into()));
            }
            Fetching::First => {
                if let Some(filing) = notice.filing {
                    let (side, what) = (ActorSide::Member, Event::Fetched);
                    let (who, note) = (member.name(), form.label());
                    write_event(&mut tx, filing, what, side, who, note, now).await?;
                }
            }
            Fetching::Again => {}
        }
    }
    let count = handed.len();
    let (actor, details) = (member.actor(), json!({ "records": count }));
    let act = Act::RecordsPacked(RowId::new());
    audit::record_with(&mut tx, &app.keys, &actor, act, "", &details, now).await?;
    Db::commit(tx).await?;
    Ok(handed_out(now, pack))
}

/// `POST /records/pack`
async fn all_pack(
    reviewer: Reviewer,
    State(app): State<App>,
    Verified(typed): Verified<Typed>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let _turn = PACKING.acquire().await.ok();
    let records = collect(&app, Asker::Office(&reviewer), &typed).await?;
    let about = About {
        fund: app.config.fund_name.clone(),
        holder: app.config.fund_name.clone(),
        counterparty: None,
        search: searched(&typed),
        made_at: now,
    };
    let details = json!({ "records": records.len() });
    let pack = packed(&app, about, records).await?;
    let mut tx = app.db.begin().await?;
    let (actor, act) = (reviewer.actor(), Act::RecordsPacked(RowId::new()));
    audit::record_with(&mut tx, &app.keys, &actor, act, "", &details, now).await?;
    Db::commit(tx).await?;
    Ok(handed_out(now, pack))
}

fn searched(typed: &Typed) -> Vec<(String, String)> {
    let given = typed
        .fields()
        .into_iter()
        .filter(|(_, text)| !text.trim().is_empty());
    given
        .map(|(name, text)| (name.to_owned(), text.trim().to_owned()))
        .collect()
}

/// Everything that is found, with its documents, as far as it fits.
async fn collect(
    app: &App,
    asker: Asker<'_>,
    typed: &Typed,
) -> Result<Vec<(Record, Option<Vec<u8>>)>, PageError> {
    let search = typed.read().map_err(|errors| {
        let first = errors.iter().next().map(|error| error.sentence.clone());
        PageError::Refused(first.unwrap_or_default())
    })?;
    let found = sums(app, asker, &search).await?;
    if found.records == 0 {
        let sentence = "この条件に合う記録はありません。条件を変えて検索してください。";
        return Err(PageError::Refused(sentence.into()));
    }
    let too_much = too_much(found);
    if !too_much.is_empty() {
        return Err(PageError::Refused(too_much));
    }
    let limit = i64::try_from(RECORD_LIMIT).unwrap_or(i64::MAX);
    let records = store::list(&app.db, asker, &search, limit, 0).await?;
    let mut collected = Vec::with_capacity(records.len());
    let mut left_bytes = LIMIT_BYTES;
    for record in records {
        let content = match record.destroyed {
            Some(_) => None,
            None => {
                // More may have come since it was counted.
                left_bytes = left_bytes
                    .checked_sub(record.document.size_bytes)
                    .ok_or(PageError::TooLarge)?;
                let content = custody::read(app, &record.document).await;
                Some(content.map_err(PageError::storing("read a record"))?)
            }
        };
        collected.push((record, content));
    }
    Ok(collected)
}

async fn packed(
    app: &App,
    about: About,
    records: Vec<(Record, Option<Vec<u8>>)>,
) -> Result<Vec<u8>, PageError> {
    let signer = Signer::of(&app.keys).map_err(PageError::doing("find the signing key"))?;
    tokio::task::spawn_blocking(move || pack::make(&signer, about, records))
        .await
        .map_err(PageError::doing("make a pack of records"))?
        .map_err(PageError::doing("make a pack of records"))
}

fn handed_out(now: time::OffsetDateTime, pack: Vec<u8>) -> Response {
    let day = now
        .to_offset(access::JST)
        .date()
        .to_string()
        .replace('-', "");
    download::attachment(
        &format!("{day}_電子帳簿保存法の記録.zip"),
        download::ZIP,
        pack,
    )
}
