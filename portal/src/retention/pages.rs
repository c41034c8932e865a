//! The office's pages about how long notices are kept and what was destroyed.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::{GRACE, Rule, YEARS, store};
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::Db;
use crate::filings::words;
use crate::notices::Kind;
use crate::records::table::Table;
use crate::staff::StaffRole;
use crate::step_up::Fresh;
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::paging::Paging;
use crate::web::principals::{Reviewer, Supervisor};
use crate::web::router::Routes;
use crate::web::{dates, download, page, page_with};

/// Lines that the exported list may have.
const EXPORT_LIMIT: i64 = 100_000;

/// The routes of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Reviewer, _, _>(Method::GET, "/retention", rules)
        .allow::<Fresh<Supervisor>, _, _>(Method::POST, "/retention", change)
        .allow::<Reviewer, _, _>(Method::GET, "/destructions", list)
        .allow::<Reviewer, _, _>(Method::GET, "/destructions.csv", export)
}

#[derive(Template)]
#[template(path = "retention.html")]
struct RulesPage {
    layout: Layout,
    errors: FieldErrors,
    rules: Vec<RuleLine>,
    may_change: bool,
    done: bool,
    grace_days: i64,
}

struct RuleLine {
    code: &'static str,
    name: &'static str,
    years: String,
    changed: Option<String>,
    due: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RulesQuery {
    done: String,
}

/// `GET /retention`
async fn rules(
    reviewer: Reviewer,
    State(app): State<App>,
    Query(query): Query<RulesQuery>,
) -> Result<Html<String>, PageError> {
    let done = query.done == "1";
    page(&rules_page(&app, &reviewer, None, FieldErrors::default(), done).await?)
}

async fn rules_page(
    app: &App,
    reviewer: &Reviewer,
    typed: Option<(Kind, &str)>,
    errors: FieldErrors,
    done: bool,
) -> Result<RulesPage, PageError> {
    let now = app.clock.now();
    let mut rules = Vec::new();
    for kind in Kind::ALL {
        let rule = store::rule(&app.db, kind).await?;
        let final_rule = Rule {
            changed: None,
            ..rule
        };
        rules.push(RuleLine {
            code: kind.code(),
            name: kind.name(),
            years: match typed {
                Some((wrong, years)) if wrong == kind => years.to_owned(),
                Some(_) | None => rule.years.to_string(),
            },
            changed: rule.changed.map(dates::moment),
            due: store::count_due(&app.db, kind, final_rule.limit(now)).await?,
        });
    }
    Ok(RulesPage {
        layout: Layout::office(app, reviewer.staff(), OfficePage::Notices),
        errors,
        rules,
        may_change: reviewer.staff().role() == StaffRole::Supervisor,
        done,
        grace_days: GRACE.whole_days(),
    })
}

#[derive(Deserialize)]
struct RuleForm {
    kind: String,
    years: String,
}

/// `POST /retention`
async fn change(
    reviewer: Reviewer,
    State(app): State<App>,
    Verified(form): Verified<RuleForm>,
) -> Result<Response, PageError> {
    let kind = Kind::from_code(&form.kind).ok_or(PageError::NotFound)?;
    let years = form.years.trim().parse().ok().filter(|y| YEARS.contains(y));
    let Some(years) = years else {
        let sentence = format!(
            "{}の保存期間は、{}～{}の数字で入力してください。",
            kind.name(),
            YEARS.start(),
            YEARS.end()
        );
        let errors = FieldErrors::of_one(kind.code(), sentence);
        let typed = Some((kind, form.years.as_str()));
        let page = rules_page(&app, &reviewer, typed, errors, false).await?;
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    };
    super::change(&app, reviewer.id(), kind, years, app.clock.now()).await?;
    Ok(Redirect::to("/retention?done=1").into_response())
}

#[derive(Template)]
#[template(path = "destructions.html")]
struct ListPage {
    layout: Layout,
    lines: Vec<Line>,
    paging: Paging,
}

struct Line {
    number: String,
    title: String,
    establishment: String,
    issued: String,
    destroyed: String,
    years: u64,
    size: String,
    sha256: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ListQuery {
    page: Option<u32>,
}

/// `GET /destructions`
async fn list(
    reviewer: Reviewer,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Html<String>, PageError> {
    let at = query.page.unwrap_or(1).max(1);
    let (lines, total) = store::list(&app.db, &reviewer, at, store::PAGE_LENGTH).await?;
    let pages = total.div_ceil(store::PAGE_LENGTH.unsigned_abs()).max(1);
    let pages = u32::try_from(pages).unwrap_or(u32::MAX);
    page(&ListPage {
        layout: Layout::office(&app, reviewer.staff(), OfficePage::Notices),
        paging: Paging::new("/destructions", &[], at, pages, total),
        lines: lines
            .into_iter()
            .map(|line| Line {
                establishment: format!("{} {}", line.establishment, line.establishment_name),
                issued: dates::moment(line.issued),
                destroyed: dates::moment(line.destroyed),
                years: line.years,
                size: words::size(line.size_bytes),
                sha256: line.sha256,
                number: line.number,
                title: line.title,
            })
            .collect(),
    })
}

/// `GET /destructions.csv`
async fn export(reviewer: Reviewer, State(app): State<App>) -> Result<Response, PageError> {
    let now = app.clock.now();
    let (lines, _) = store::list(&app.db, &reviewer, 1, EXPORT_LIMIT).await?;
    let mut table = Table::new(&[
        "文書番号",
        "書類",
        "事業所番号",
        "事業所名",
        "発行日時",
        "廃棄日時",
        "保存期間（年）",
        "廃棄の方法",
        "実施者",
        "大きさ（バイト）",
        "SHA-256",
    ]);
    for line in &lines {
        table.row(&[
            &line.number,
            &line.title,
            &line.establishment.to_string(),
            &line.establishment_name,
            &dates::moment(line.issued),
            &dates::moment(line.destroyed),
            &line.years.to_string(),
            "保管データの消去",
            "システム（保存期間の満了）",
            &line.size_bytes.to_string(),
            &line.sha256,
        ]);
    }
    let mut tx = app.db.begin().await?;
    let act = Act::DestructionsExported;
    audit::record(&mut tx, &app.keys, &reviewer.actor(), act, now).await?;
    Db::commit(tx).await?;
    let day = now
        .to_offset(access::JST)
        .date()
        .to_string()
        .replace('-', "");
    let name = format!("{day}_廃棄記録.csv");
    Ok(download::attachment(
        &name,
        download::CSV,
        table.into_bytes(),
    ))
}
