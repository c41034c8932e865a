//! 送受信履歴: the page of each side, and the same as a file for spreadsheets.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{Html, Response};
use http::Method;
use serde::Deserialize;
use serde_json::json;
use time::Date;
use time::macros::format_description;

use super::export::{self, ExportError};
use super::search::Going;
use super::store::{self, Asker, PAGE_LENGTH, Page, Search};
use super::{Entry, Position};
use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::db::Db;
use crate::filings::words::chip;
use crate::web::download::attachment;
use crate::web::export::{CSV, CSV_CP932, Encoding, XLSX};
use crate::web::forms::FieldErrors;
use crate::web::layout::{Layout, MemberPage, OfficePage, Side};
use crate::web::page_error::PageError;
use crate::web::principals::{Historian, Member, Reviewer};
use crate::web::router::Routes;
use crate::web::{dates, page};

const PATH: &str = "/history";

/// Pages of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Historian, _, _>(Method::GET, PATH, own)
        .allow::<Historian, _, _>(Method::GET, "/history.csv", own_csv)
        .allow::<Historian, _, _>(Method::GET, "/history.xlsx", own_xlsx)
}

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Reviewer, _, _>(Method::GET, PATH, all)
        .allow::<Reviewer, _, _>(Method::GET, "/history.csv", all_csv)
        .allow::<Reviewer, _, _>(Method::GET, "/history.xlsx", all_xlsx)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct HistoryQuery {
    text: String,
    entry: String,
    kind: String,
    person: String,
    from: String,
    to: String,
    establishment: String,
    older: String,
    newer: String,
    encoding: String,
}

#[derive(Template)]
#[template(path = "history_member.html")]
struct MemberHistory {
    layout: Layout,
    body: Body,
}

#[derive(Template)]
#[template(path = "history_office.html")]
struct OfficeHistory {
    layout: Layout,
    body: Body,
}

/// What both pages show.
struct Body {
    office: bool,
    errors: FieldErrors,
    query: HistoryQuery,
    searched: bool,
    entries: Vec<Choice>,
    kinds: Vec<Choice>,
    rows: Vec<Row>,
    /// The page of newer lines.
    newer: Option<String>,
    /// The page of older lines.
    older: Option<String>,
    /// Until when the search looked, where it stopped before the page was full.
    stopped: Option<String>,
    /// The search as it stands in the files' addresses.
    search: String,
    printed: String,
}

struct Choice {
    code: String,
    label: String,
    selected: bool,
}

struct Row {
    at: String,
    way: &'static str,
    entry: &'static str,
    colour: &'static str,
    title: String,
    path: Option<String>,
    number: String,
    person: String,
    reason: String,
    state: Option<crate::filings::words::Chip>,
    establishment: String,
}

/// `GET /history`
async fn own(
    historian: Historian,
    State(app): State<App>,
    Query(query): Query<HistoryQuery>,
) -> Result<Html<String>, PageError> {
    let member: &Member = &historian;
    let (search, going, errors) = query.read();
    let found = match errors.is_empty() {
        true => store::read(&app.db, Asker::Member(member), &search, going, PAGE_LENGTH).await?,
        false => Page::default(),
    };
    let kinds = store::own_kinds(&app.db, member).await?;
    let now = app.clock.now();
    page(&MemberHistory {
        layout: Layout::member(&app, member, MemberPage::Exchange, now),
        body: Body::new(query, errors, found, kinds, Side::Member, now),
    })
}

/// `GET /history`
async fn all(
    reviewer: Reviewer,
    State(app): State<App>,
    Query(query): Query<HistoryQuery>,
) -> Result<Html<String>, PageError> {
    let (search, going, errors) = query.read();
    let found = match errors.is_empty() {
        true => {
            store::read(
                &app.db,
                Asker::Reviewer(&reviewer),
                &search,
                going,
                PAGE_LENGTH,
            )
            .await?
        }
        false => Page::default(),
    };
    let kinds = store::kinds(&app.db, &reviewer).await?;
    page(&OfficeHistory {
        layout: Layout::office(&app, reviewer.staff(), OfficePage::Exchange),
        body: Body::new(query, errors, found, kinds, Side::Office, app.clock.now()),
    })
}

/// `GET /history.csv`
async fn own_csv(
    historian: Historian,
    State(app): State<App>,
    Query(query): Query<HistoryQuery>,
) -> Result<Response, PageError> {
    let encoding = query.encoding();
    export_own(&app, &historian, &query, Format::Csv(encoding)).await
}

/// `GET /history.xlsx`
async fn own_xlsx(
    historian: Historian,
    State(app): State<App>,
    Query(query): Query<HistoryQuery>,
) -> Result<Response, PageError> {
    export_own(&app, &historian, &query, Format::Xlsx).await
}

/// `GET /history.csv`
async fn all_csv(
    reviewer: Reviewer,
    State(app): State<App>,
    Query(query): Query<HistoryQuery>,
) -> Result<Response, PageError> {
    let encoding = query.encoding();
    export_all(&app, &reviewer, &query, Format::Csv(encoding)).await
}

/// `GET /history.xlsx`
async fn all_xlsx(
    reviewer: Reviewer,
    State(app): State<App>,
    Query(query): Query<HistoryQuery>,
) -> Result<Response, PageError> {
    export_all(&app, &reviewer, &query, Format::Xlsx).await
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Csv(Encoding),
    Xlsx,
}

async fn export_own(
    app: &App,
    member: &Member,
    query: &HistoryQuery,
    format: Format,
) -> Result<Response, PageError> {
    let search = query.search()?;
    let asker = Asker::Member(member);
    let lines = export::collect(&app.db, asker, &search)
        .await
        .map_err(told)?;
    hand_out(app, &member.actor(), &lines, Side::Member, format).await
}

async fn export_all(
    app: &App,
    reviewer: &Reviewer,
    query: &HistoryQuery,
    format: Format,
) -> Result<Response, PageError> {
    let search = query.search()?;
    let asker = Asker::Reviewer(reviewer);
    let lines = export::collect(&app.db, asker, &search)
        .await
        .map_err(told)?;
    hand_out(app, &reviewer.actor(), &lines, Side::Office, format).await
}

fn told(error: ExportError) -> PageError {
    match error {
        ExportError::TooMany => PageError::Refused(format!(
            "{}件を超えるため、1つのファイルにできません。前の画面に戻り、期間を区切って検索してください。",
            export::ROWS_LIMIT
        )),
        ExportError::Store(error) => error.into(),
    }
}

async fn hand_out(
    app: &App,
    actor: &Actor,
    lines: &[store::Line],
    side: Side,
    format: Format,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let table = export::table(lines, side);
    let (bytes, kind, ending, word) = match format {
        Format::Csv(encoding) => {
            let kind = match encoding {
                Encoding::Utf8 => CSV,
                Encoding::Cp932 => CSV_CP932,
            };
            (table.to_csv(encoding), kind, "csv", "csv")
        }
        Format::Xlsx => {
            let bytes = table.to_xlsx("送受信履歴");
            let bytes = bytes.map_err(PageError::doing("write a workbook"))?;
            (bytes, XLSX, "xlsx", "xlsx")
        }
    };
    let mut tx = app.db.begin().await?;
    let details = json!({ "rows": lines.len() });
    let act = Act::HistoryExported(word);
    audit::record_with(&mut tx, &app.keys, actor, act, "", &details, now).await?;
    Db::commit(tx).await?;
    let name = format!("送受信履歴_{}.{ending}", dates::digits(now));
    Ok(attachment(&name, kind, bytes))
}

impl HistoryQuery {
    /// What is asked for, and what of it cannot be read.
    fn read(&self) -> (Search, Going, FieldErrors) {
        let mut errors = FieldErrors::default();
        let mut day = |field, text: &str| match parse_day(text) {
            Ok(day) => day,
            Err(sentence) => {
                errors.add(field, sentence);
                None
            }
        };
        let (from, to) = (day("from", &self.from), day("to", &self.to));
        let number = crate::one_time_codes::digits(self.establishment.trim());
        let establishment = match number.as_str() {
            "" => None,
            number => number
                .parse()
                .map_err(|_| {
                    errors.add(
                        "establishment",
                        "事業所番号は1から9999までの数字で入力してください。",
                    );
                })
                .ok(),
        };
        let search = Search {
            text: self.text.clone(),
            entry: Entry::from_code(&self.entry),
            kind: self.kind.clone(),
            person: self.person.clone(),
            from,
            to,
            establishment,
        };
        // A place that cannot be read is the beginning: nobody types one.
        let place = |text: &str| text.parse::<Position>().ok();
        let going = match (place(&self.older), place(&self.newer)) {
            (Some(position), _) => Going::OlderThan(position),
            (None, Some(position)) => Going::NewerThan(position),
            (None, None) => Going::FromTheNewest,
        };
        (search, going, errors)
    }

    /// What is asked for, where there is no form to show what is wrong.
    fn search(&self) -> Result<Search, PageError> {
        let (search, _, errors) = self.read();
        match errors.iter().next() {
            None => Ok(search),
            Some(error) => Err(PageError::Refused(error.sentence.clone())),
        }
    }

    fn encoding(&self) -> Encoding {
        match self.encoding.as_str() {
            "cp932" => Encoding::Cp932,
            _ => Encoding::Utf8,
        }
    }

    fn fields(&self) -> Vec<(&'static str, &str)> {
        let fields = [
            ("text", self.text.as_str()),
            ("entry", self.entry.as_str()),
            ("kind", self.kind.as_str()),
            ("person", self.person.as_str()),
            ("from", self.from.as_str()),
            ("to", self.to.as_str()),
            ("establishment", self.establishment.as_str()),
        ];
        let given = fields.into_iter().filter(|(_, value)| !value.is_empty());
        given.collect()
    }
}

impl Body {
    fn new(
        query: HistoryQuery,
        errors: FieldErrors,
        found: Page,
        kinds: Vec<String>,
        side: Side,
        now: time::OffsetDateTime,
    ) -> Self {
        let fields = query.fields();
        let link = |name: &'static str, position: Position| {
            let position = position.to_string();
            let fields = [fields.as_slice(), &[(name, position.as_str())]].concat();
            let query = serde_urlencoded::to_string(&fields).unwrap_or_default();
            format!("{PATH}?{query}")
        };
        let choice = |code: &str, label: &str, chosen: &str| Choice {
            code: code.to_owned(),
            label: label.to_owned(),
            selected: code == chosen,
        };
        Self {
            office: side == Side::Office,
            errors,
            searched: !fields.is_empty(),
            entries: Entry::ALL
                .into_iter()
                .map(|entry| choice(entry.code(), entry.label(), &query.entry))
                .collect(),
            kinds: kinds
                .iter()
                .map(|kind| choice(kind, kind, &query.kind))
                .collect(),
            rows: found
                .lines
                .iter()
                .map(|line| Row::new(line, side))
                .collect(),
            newer: found.newer.map(|position| link("newer", position)),
            older: found.older.map(|position| link("older", position)),
            stopped: found
                .older
                .filter(|_| found.stopped)
                .map(|position| dates::day(position.at)),
            search: serde_urlencoded::to_string(&fields).unwrap_or_default(),
            printed: dates::moment(now),
            query,
        }
    }
}

impl Row {
    fn new(line: &store::Line, side: Side) -> Self {
        let path = match (line.notice, line.filing) {
            (Some(_), _) if line.entry == Entry::Recalled => None,
            (Some(notice), _) => Some(format!("/notices/{notice}")),
            (None, Some(filing)) => Some(format!("/filings/{filing}")),
            (None, None) => None,
        };
        Self {
            at: dates::moment(line.position.at),
            way: line.entry.way().label(side),
            entry: line.entry.label(),
            colour: line.entry.colour(),
            title: line.title.clone(),
            path,
            number: line.number.clone(),
            person: export::person(line, side),
            reason: export::reason(line),
            state: match line.notice {
                Some(_) => None,
                None => line.filing_state.as_deref().map(chip),
            },
            establishment: format!("{} {}", line.establishment_number, line.establishment_name),
        }
    }
}

/// Reads a day of a search form; nothing is no day.
pub(crate) fn parse_day(text: &str) -> Result<Option<Date>, &'static str> {
    let form = format_description!("[year]-[month]-[day]");
    match text.trim() {
        "" => Ok(None),
        text => Date::parse(text, form)
            .map(Some)
            .map_err(|_| "日付を「2026-04-01」の形で入力してください。"),
    }
}
