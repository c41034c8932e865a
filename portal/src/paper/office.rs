//! 紙の届書: staff scan a cover sheet's code or type what came, and record it.

use access::JST;
use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use protocol::EstablishmentNumber;
use serde::Deserialize;
use serde_json::json;
use time::{Date, Duration, OffsetDateTime};

use super::sheet::{Facts, Page, to_pdf};
use super::store::{self, Found};
use super::twins::{self, Among, Twin, TwinLine};
use super::{ARRIVED_LIMIT_DAYS, Arrival, Code, SHEETS_LIMIT, sheets};
use crate::app::App;
use crate::audit::{self, Act};
use crate::custody;
use crate::db::Db;
use crate::deadlines::store::day_from_text;
use crate::establishments::{self, Establishment};
use crate::filings::FilingName;
use crate::filings::kinds::{self, Kinds};
use crate::ids::FilingId;
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::page_with;
use crate::web::principals::Reviewer;
use crate::web::router::Routes;

/// The routes of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Reviewer, _, _>(Method::GET, "/paper", show)
        .allow::<Reviewer, _, _>(Method::POST, "/paper", record)
}

#[derive(Template)]
#[template(path = "office_paper.html")]
struct PaperPage {
    layout: Layout,
    errors: FieldErrors,
    kinds: Vec<KindChoice>,
    typed: Typed,
    from_cover: bool,
    twins: Vec<TwinLine>,
}

struct KindChoice {
    code: &'static str,
    name: &'static str,
    selected: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Typed {
    code: String,
    establishment: String,
    kind: String,
    filed_on: String,
    arrived: String,
    sheets: String,
    /// The reviewer has compared it with the filings that may be the same.
    another: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CodeQuery {
    code: String,
}

/// `GET /paper`: with a code, the filing that it leads to, or its form filled in.
async fn show(
    reviewer: Reviewer,
    State(app): State<App>,
    Query(query): Query<CodeQuery>,
) -> Result<Response, PageError> {
    let today = app.clock.now().to_offset(JST).date();
    let mut typed = Typed {
        arrived: today.to_string(),
        ..Typed::default()
    };
    if query.code.trim().is_empty() {
        return answer(&app, &reviewer, typed, (FieldErrors::default(), Vec::new())).await;
    }
    let found = match query.code.parse::<Code>() {
        Ok(code) => store::find(&app.db, &reviewer, &code).await?,
        Err(_) => None,
    };
    match found {
        Some(Found::Filing(id)) => Ok(Redirect::to(&format!("/filings/{id}")).into_response()),
        Some(Found::Cover(cover, number)) => {
            typed.code = cover.code.to_string();
            typed.establishment = number.to_string();
            typed.kind = cover.name.kind().code().to_owned();
            typed.filed_on = cover.name.date().to_string();
            typed.sheets = cover.sheets.to_string();
            answer(&app, &reviewer, typed, (FieldErrors::default(), Vec::new())).await
        }
        None => {
            typed.code = query.code;
            let sentence = "この照会コードの送付状はありません。読み取り直すか、送付状の8文字を入力してください。";
            let errors = FieldErrors::of_one("find-code", sentence);
            answer(&app, &reviewer, typed, (errors, Vec::new())).await
        }
    }
}

async fn answer(
    app: &App,
    reviewer: &Reviewer,
    typed: Typed,
    (errors, twins): (FieldErrors, Vec<Twin>),
) -> Result<Response, PageError> {
    let kinds = kinds::store::all(app.db.pool()).await?;
    let status = if errors.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    let template = PaperPage {
        layout: Layout::office(app, reviewer.staff(), OfficePage::Review),
        kinds: kinds
            .iter()
            .map(|kind| KindChoice {
                code: kind.kind.code(),
                name: kind.kind.name(),
                selected: kind.kind.code() == typed.kind,
            })
            .collect(),
        twins: twins.into_iter().map(TwinLine::from).collect(),
        from_cover: !typed.code.is_empty() && errors.on("find-code").is_empty(),
        typed,
        errors,
    };
    Ok(page_with(status, &template)?.into_response())
}

impl Typed {
    /// What came, or everything that is wrong.
    async fn check(
        &self,
        app: &App,
        reviewer: &Reviewer,
        kinds: &Kinds,
        today: Date,
    ) -> Result<Result<(Establishment, Arrival), FieldErrors>, PageError> {
        let mut errors = FieldErrors::default();
        let number = self.establishment.trim().parse::<EstablishmentNumber>();
        let establishment = match number {
            Ok(number) => establishments::store::find_by_number(&app.db, number).await?,
            Err(_) => None,
        };
        if establishment.is_none() {
            errors.add(
                "establishment",
                "登録されている事業所の番号を4桁の数字で入力してください（例：0123）。",
            );
        }
        let kind = kinds.find(&self.kind).map(|kind| kind.kind);
        if kind.is_none() {
            errors.add("kind", "届書名称を選んでください。");
        }
        let filed_on = day_from_text(&self.filed_on);
        if filed_on.is_none() {
            errors.add("filed_on", "届出年月日を選んでください。");
        }
        let first = today.saturating_sub(Duration::days(ARRIVED_LIMIT_DAYS));
        let arrived = day_from_text(&self.arrived).filter(|day| (first..=today).contains(day));
        if arrived.is_none() {
            errors.add("arrived", "届いた日を、本日までの日付で入力してください。");
        }
        let count = sheets(&self.sheets);
        if count.is_none() {
            errors.add(
                "sheets",
                format!("届書の枚数を1から{SHEETS_LIMIT}までの数字で入力してください。"),
            );
        }
        let code = self.code_for(app, reviewer, establishment.as_ref(), &mut errors);
        let code = code.await?;
        Ok(
            match (establishment, kind, filed_on, arrived, count, code) {
                (
                    Some(place),
                    Some(kind),
                    Some(filed_on),
                    Some(arrived),
                    Some(sheets),
                    Some(code),
                ) if errors.is_empty() => {
                    let name = FilingName::build(filed_on, place.number, kind);
                    let arrival = Arrival {
                        name,
                        sheets,
                        arrived,
                        code,
                    };
                    Ok((place, arrival))
                }
                _ => Err(errors),
            },
        )
    }

    /// The cover sheet's code, if it is one of this establishment's; a new one without.
    async fn code_for(
        &self,
        app: &App,
        reviewer: &Reviewer,
        establishment: Option<&Establishment>,
        errors: &mut FieldErrors,
    ) -> Result<Option<Code>, PageError> {
        if self.code.trim().is_empty() {
            return Ok(Some(Code::generate()));
        }
        let found = match self.code.parse::<Code>() {
            Ok(code) => store::find(&app.db, reviewer, &code).await?,
            Err(_) => None,
        };
        match (found, establishment) {
            (Some(Found::Cover(cover, _)), Some(place)) if cover.establishment == place.id => {
                Ok(Some(cover.code))
            }
            (Some(Found::Cover(..)), Some(_)) => {
                errors.add(
                    "establishment",
                    "送付状の事業所と違います。送付状の事業所番号を確かめてください。",
                );
                Ok(None)
            }
            (Some(Found::Cover(..)), None) => Ok(None),
            (Some(Found::Filing(_)), _) => {
                errors.add("find-code", "この送付状の届書は、すでに記録されています。");
                Ok(None)
            }
            (None, _) => {
                errors.add("find-code", "この照会コードの送付状はありません。");
                Ok(None)
            }
        }
    }
}

/// `POST /paper`
async fn record(
    reviewer: Reviewer,
    State(app): State<App>,
    Verified(typed): Verified<Typed>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let today = now.to_offset(JST).date();
    let kinds = kinds::store::all(app.db.pool()).await?;
    let (place, arrival) = match typed.check(&app, &reviewer, &kinds, today).await? {
        Ok(checked) => checked,
        Err(errors) => return answer(&app, &reviewer, typed, (errors, Vec::new())).await,
    };
    if typed.another.is_none() {
        let twins = twins::of(&app.db, &reviewer, place.id, &arrival.name, Among::All).await?;
        if !twins.is_empty() {
            let sentence = "すでに届いている届書と同じかどうかを見比べて、別の届書であればチェックを入れてください。";
            let errors = FieldErrors::of_one("another", sentence);
            return answer(&app, &reviewer, typed, (errors, twins)).await;
        }
    }
    let pdf = record_page(&app, &place, &arrival, now).await?;
    let id = FilingId::new();
    let file_name = arrival.name.file_name();
    let sealed = custody::seal(&app, place.id, &file_name, pdf, 1)
        .await
        .map_err(PageError::storing("seal the record of a filing on paper"))?;
    let object = sealed.document().id;
    let mut tx = app.db.begin().await?;
    let written = store::record(&mut tx, &reviewer, place.id, &arrival, (id, sealed), now).await?;
    if written.is_none() {
        drop(tx);
        custody::remove_objects(&app, [object]).await;
        return Err(PageError::Refused(
            "この送付状の届書は、ほかの人が先に記録しました。照会コードでもう一度探してください。"
                .into(),
        ));
    }
    let (act, actor) = (Act::PaperFilingRecorded(id), reviewer.actor());
    let details = json!({ "sheets": arrival.sheets });
    audit::record_with(&mut tx, &app.keys, &actor, act, "", &details, now).await?;
    Db::commit(tx).await?;
    Ok(Redirect::to(&format!("/filings/{id}")).into_response())
}

async fn record_page(
    app: &App,
    place: &Establishment,
    arrival: &Arrival,
    now: OffsetDateTime,
) -> Result<Vec<u8>, PageError> {
    let establishment = format!("{}　{}", place.number, place.name);
    let (app, arrival) = (app.clone(), arrival.clone());
    tokio::task::spawn_blocking(move || {
        let facts = Facts {
            fund: &app.config.fund_name,
            contact: &app.config.fund_contact,
            establishment: &establishment,
            kind: arrival.name.kind().name(),
            filed_on: arrival.name.date(),
            sheets: arrival.sheets,
            code: &arrival.code,
            now,
        };
        let arrived = arrival.arrived;
        to_pdf(&facts, Page::Record { arrived })
    })
    .await
    .map_err(PageError::doing("make the record of a filing on paper"))?
    .map_err(PageError::doing("make the record of a filing on paper"))
}
