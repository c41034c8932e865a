//! 操作の記録: the audit log for supervisors and system administrators. They look through it,
//! take it away as a file, and have the whole chain checked; both of the latter stand in the
//! log themselves.

use access::JST;
use askama::Template;
use axum::extract::{Query, State};
use axum::response::{Html, Redirect, Response};
use http::Method;
use serde::Deserialize;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::search::{self, Check, Line, PAGE_LENGTH, Search};
use super::{Act, Broken, VerifyError, words};
use crate::app::App;
use crate::clock::unix_ms;
use crate::db::Db;
use crate::history::pages::parse_day;
use crate::web::download::attachment;
use crate::web::export::{CSV, Encoding, Table, XLSX};
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::principals::Auditor;
use crate::web::router::Routes;
use crate::web::{dates, page};

const PATH: &str = "/audit";
/// What is shown if no day is given: a month.
const ORDINARY: Duration = Duration::days(31);
/// Rows of one file. More are asked for in parts, by date.
const ROWS_LIMIT: usize = 50_000;
/// Kinds of actors that one chooses from.
const ACTORS: [&str; 6] = [
    "staff",
    "member",
    "delegate",
    "device",
    "command_line",
    "system",
];

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Auditor, _, _>(Method::GET, PATH, show)
        .allow::<Auditor, _, _>(Method::GET, "/audit.csv", csv)
        .allow::<Auditor, _, _>(Method::GET, "/audit.xlsx", xlsx)
        .allow::<Auditor, _, _>(Method::POST, "/audit/check", check)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LogQuery {
    from: String,
    to: String,
    actor: String,
    actor_kind: String,
    act: String,
    object: String,
    older: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct LogPage {
    layout: Layout,
    errors: FieldErrors,
    query: LogQuery,
    actors: Vec<Choice>,
    acts: Vec<Choice>,
    rows: Vec<Row>,
    older: Option<String>,
    /// The search as it stands in the files' addresses.
    search: String,
    searched: bool,
    checks: Vec<CheckRow>,
    printed: String,
}

struct Choice {
    code: &'static str,
    label: String,
    selected: bool,
}

struct Row {
    seq: i64,
    at: String,
    actor_kind: String,
    actor: String,
    device: String,
    act: String,
    object_kind: String,
    object: String,
    more: String,
}

struct CheckRow {
    at: String,
    by: String,
    good: bool,
    text: String,
}

/// `GET /audit`
async fn show(
    auditor: Auditor,
    State(app): State<App>,
    Query(query): Query<LogQuery>,
) -> Result<Html<String>, PageError> {
    let now = app.clock.now();
    let (search, errors) = query.read(&app, &auditor, now).await?;
    let mut lines = match errors.is_empty() {
        true => search::read(&app.db, &auditor, &search, PAGE_LENGTH + 1).await?,
        false => Vec::new(),
    };
    let more = lines.len() > PAGE_LENGTH;
    lines.truncate(PAGE_LENGTH);
    let last = lines.last().filter(|_| more);
    let older = last.map(|line| query.link(&format!("{}-{}", unix_ms(line.at), line.seq)));
    let checks = search::checks(&app.db, &auditor).await?;
    page(&LogPage {
        layout: Layout::office(&app, &auditor, OfficePage::Audit),
        errors,
        actors: ACTORS
            .iter()
            .map(|code| Choice::new(code, words::actor(code), &query.actor_kind))
            .collect(),
        acts: words::ACTS
            .iter()
            .map(|(code, label)| Choice::new(code, label, &query.act))
            .collect(),
        rows: lines.iter().map(Row::new).collect(),
        older,
        search: serde_urlencoded::to_string(query.fields()).unwrap_or_default(),
        searched: !query.fields().is_empty(),
        checks: checks.iter().map(CheckRow::new).collect(),
        printed: dates::moment(now),
        query,
    })
}

/// `GET /audit.csv`
async fn csv(
    auditor: Auditor,
    State(app): State<App>,
    Query(query): Query<LogQuery>,
) -> Result<Response, PageError> {
    let (table, name) = export(&app, &auditor, &query, "csv").await?;
    Ok(attachment(&name, CSV, table.to_csv(Encoding::Utf8)))
}

/// `GET /audit.xlsx`
async fn xlsx(
    auditor: Auditor,
    State(app): State<App>,
    Query(query): Query<LogQuery>,
) -> Result<Response, PageError> {
    let (table, name) = export(&app, &auditor, &query, "xlsx").await?;
    let bytes = table.to_xlsx("操作の記録");
    let bytes = bytes.map_err(PageError::doing("write a workbook"))?;
    Ok(attachment(&name, XLSX, bytes))
}

/// Reads what the search finds as a table, and writes down that it was taken away.
async fn export(
    app: &App,
    auditor: &Auditor,
    query: &LogQuery,
    form: &'static str,
) -> Result<(Table, String), PageError> {
    let now = app.clock.now();
    let (search, errors) = query.read(app, auditor, now).await?;
    if let Some(error) = errors.iter().next() {
        return Err(PageError::Refused(error.sentence.clone()));
    }
    let lines = search::read(&app.db, auditor, &search, ROWS_LIMIT + 1).await?;
    if lines.len() > ROWS_LIMIT {
        return Err(PageError::Refused(format!(
            "{ROWS_LIMIT}件を超えるため、1つのファイルにできません。前の画面に戻り、期間を区切って検索してください。"
        )));
    }
    let mut tx = app.db.begin().await?;
    let details = json!({ "rows": lines.len() });
    let act = Act::AuditExported(form);
    super::record_with(&mut tx, &app.keys, &auditor.actor(), act, "", &details, now).await?;
    Db::commit(tx).await?;
    let name = format!("操作の記録_{}.{form}", dates::digits(now));
    Ok((table(&lines), name))
}

fn table(lines: &[Line]) -> Table {
    let row = |line: &Line| {
        let Row {
            seq,
            actor_kind,
            actor,
            device,
            act,
            object_kind,
            object,
            ..
        } = Row::new(line);
        vec![
            seq.to_string(),
            dates::moment_to_the_second(line.at),
            actor_kind,
            actor,
            device,
            act,
            object_kind,
            object,
            line.object_id.clone(),
            line.reason.clone(),
            line.details.clone(),
        ]
    };
    Table {
        headings: vec![
            "番号",
            "日時",
            "操作者の種類",
            "操作者",
            "パソコン",
            "操作",
            "対象の種類",
            "対象",
            "対象の識別子",
            "理由",
            "詳細",
        ],
        rows: lines.iter().map(row).collect(),
    }
}

#[derive(Deserialize)]
struct Nothing {}

/// `POST /audit/check`: goes through the whole chain.
async fn check(
    auditor: Auditor,
    State(app): State<App>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let (rows, broken) = match super::verify(&app.db, &app.keys).await {
        Ok(rows) => (rows, None),
        Err(VerifyError::Broken(Broken::Row { seq })) => (seq - 1, Some(seq)),
        Err(VerifyError::Broken(Broken::Cut { last, .. })) => (last, Some(last + 1)),
        Err(VerifyError::Store(error)) => return Err(error.into()),
    };
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    search::remember_check(&mut tx, &auditor, rows, broken, now).await?;
    let details = json!({ "rows": rows, "broken": broken });
    let act = Act::AuditChecked;
    super::record_with(&mut tx, &app.keys, &auditor.actor(), act, "", &details, now).await?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/audit#checks"))
}

impl LogQuery {
    /// What is looked for, and what of it cannot be read.
    async fn read(
        &self,
        app: &App,
        auditor: &Auditor,
        now: OffsetDateTime,
    ) -> Result<(Search, FieldErrors), PageError> {
        let mut errors = FieldErrors::default();
        let mut day = |field, text: &str| match parse_day(text) {
            Ok(day) => day,
            Err(sentence) => {
                errors.add(field, sentence);
                None
            }
        };
        let (from, to) = (day("from", &self.from), day("to", &self.to));
        let today = now.to_offset(JST).date();
        let last = to.unwrap_or(today).max(from.unwrap_or(today));
        let last = to.unwrap_or(last);
        let first = from.unwrap_or_else(|| last.saturating_sub(ORDINARY));
        if first > last {
            errors.add(
                "to",
                "「まで」は、「から」と同じ日か、それより後の日にしてください。",
            );
        }
        let begins = |day: time::Date| unix_ms(day.midnight().assume_offset(JST));
        let actors = match self.actor.trim() {
            "" => None,
            text => Some(search::actors(&app.db, auditor, text).await?),
        };
        let objects = match self.object.trim() {
            "" => None,
            text => Some(search::objects(&app.db, auditor, text).await?),
        };
        let place = self.older.split_once('-');
        let search = Search {
            from_ms: begins(first),
            before_ms: last.next_day().map_or(i64::MAX, begins),
            // A place that cannot be read is the beginning: nobody types one.
            older_than: place.and_then(|(at, seq)| Some((at.parse().ok()?, seq.parse().ok()?))),
            actor_kind: self.actor_kind.clone(),
            act: self.act.clone(),
            actors,
            objects,
        };
        Ok((search, errors))
    }

    fn fields(&self) -> Vec<(&'static str, &str)> {
        let fields = [
            ("from", self.from.as_str()),
            ("to", self.to.as_str()),
            ("actor", self.actor.as_str()),
            ("actor_kind", self.actor_kind.as_str()),
            ("act", self.act.as_str()),
            ("object", self.object.as_str()),
        ];
        let given = fields.into_iter().filter(|(_, value)| !value.is_empty());
        given.collect()
    }

    fn link(&self, older: &str) -> String {
        let mut fields = self.fields();
        fields.push(("older", older));
        let query = serde_urlencoded::to_string(&fields).unwrap_or_default();
        format!("{PATH}?{query}")
    }
}

impl Choice {
    fn new(code: &'static str, label: &str, chosen: &str) -> Self {
        Self {
            code,
            label: label.to_owned(),
            selected: code == chosen,
        }
    }
}

impl Row {
    fn new(line: &Line) -> Self {
        let details = match line.details.as_str() {
            "{}" => "",
            details => details,
        };
        let more: Vec<&str> = [line.reason.as_str(), details]
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect();
        Self {
            seq: line.seq,
            at: dates::moment_to_the_second(line.at),
            actor_kind: words::actor(&line.actor_kind).to_owned(),
            actor: line.actor.clone(),
            device: line.device.clone(),
            act: words::act(&line.act).to_owned(),
            object_kind: words::object(&line.object_kind).to_owned(),
            object: match line.object.as_str() {
                "" => line.object_id.clone(),
                name => name.to_owned(),
            },
            more: more.join(" "),
        }
    }
}

impl CheckRow {
    fn new(check: &Check) -> Self {
        Self {
            at: dates::moment(check.at),
            by: check.by.clone(),
            good: check.broken.is_none(),
            text: match check.broken {
                None => format!("{}件すべて、書き換えや抜けはありません", check.rows),
                Some(seq) => format!(
                    "番号{seq}の記録が、書き換えられたか、抜けています。システム管理者へ連絡してください"
                ),
            },
        }
    }
}

#[cfg(test)]
mod tests;
