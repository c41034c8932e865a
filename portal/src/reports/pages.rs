//! 統計: the page, and its figures as a file.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{Html, Response};
use http::Method;
use serde::Deserialize;
use time::{Duration, OffsetDateTime};

use super::months::MonthFigures;
use super::plot::{Series, columns};
use super::store::{self, Unread};
use super::{LeadTime, Period, PeriodError, Volume, YearMonth, days};
use crate::app::App;
use crate::db::StoreError;
use crate::filings::reasons::ReturnCode;
use crate::history::Entry;
use crate::web::download::attachment;
use crate::web::export::{CSV, CSV_CP932, Encoding, Table};
use crate::web::forms::FieldErrors;
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::principals::Staff;
use crate::web::router::Routes;
use crate::web::{dates, page};

/// Pages of the office listener. No person stands in a report: every role may see it.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Staff, _, _>(Method::GET, "/reports", show)
        .allow::<Staff, _, _>(Method::GET, "/reports.csv", csv)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ReportQuery {
    from: String,
    to: String,
    encoding: String,
}

impl ReportQuery {
    fn period(&self, now: OffsetDateTime) -> Result<Period, PeriodError> {
        if self.from.is_empty() && self.to.is_empty() {
            return Ok(Period::last_twelve(now));
        }
        let (from, to) = (YearMonth::parse(&self.from)?, YearMonth::parse(&self.to)?);
        Period::between(from, to)
    }
}

/// Everything that is counted for a period.
struct Report {
    period: Period,
    months: Vec<Arc<MonthFigures>>,
    unread: Vec<Unread>,
}

impl Report {
    async fn of(
        app: &App,
        staff: &Staff,
        period: Period,
        now: OffsetDateTime,
    ) -> Result<Self, StoreError> {
        let mut months = Vec::new();
        for month in period.months() {
            let figures = app.months.figures(&app.db, staff, *month, now);
            months.push(figures.await?);
        }
        Ok(Self {
            months,
            unread: store::unread(&app.db, staff, &period).await?,
            period,
        })
    }

    /// How often something happened, in a month or to a kind.
    fn count(volumes: &[Volume], entry: Entry) -> u64 {
        let of_entry = volumes.iter().filter(|volume| volume.entry == entry);
        of_entry.map(|volume| volume.count).sum()
    }

    fn months(&self) -> Vec<MonthRow> {
        self.months
            .iter()
            .map(|figures| MonthRow {
                month: figures.month.label(),
                counts: COLUMNS.map(|entry| Self::count(&figures.volumes, entry)),
                lead: LeadTime::of(figures.decisions.iter().map(|one| one.took).collect()),
            })
            .collect()
    }

    fn kinds(&self) -> Vec<KindRow> {
        let mut kinds: BTreeMap<&str, [u64; COLUMNS.len()]> = BTreeMap::new();
        for volume in self.months.iter().flat_map(|figures| &figures.volumes) {
            let place = COLUMNS.iter().position(|entry| *entry == volume.entry);
            let counts = kinds.entry(&volume.kind).or_default();
            if let Some(place) = place {
                counts[place] += volume.count;
            }
        }
        let mut took: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
        for decision in self.months.iter().flat_map(|figures| &figures.decisions) {
            took.entry(&decision.kind).or_default().push(decision.took);
        }
        let mut rows: Vec<KindRow> = kinds
            .into_iter()
            .map(|(kind, counts)| KindRow {
                lead: LeadTime::of(took.remove(kind).unwrap_or_default()),
                kind: kind.to_owned(),
                counts,
            })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.counts.iter().sum::<u64>()));
        rows
    }

    fn returns(&self) -> Vec<(String, u64, String)> {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (code, count) in self.months.iter().flat_map(|figures| &figures.returns) {
            *counts.entry(code).or_default() += count;
        }
        let all: u64 = counts.values().sum();
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
            .into_iter()
            .map(|(code, count)| {
                let label =
                    ReturnCode::from_code(code).map_or("（理由の記録なし）", ReturnCode::label);
                let share = count as f64 * 100.0 / all.max(1) as f64;
                (label.to_owned(), count, format!("{share:.1}%"))
            })
            .collect()
    }
}

/// What is counted, in the order of the columns.
const COLUMNS: [Entry; 7] = [
    Entry::Filed,
    Entry::FiledOnPaper,
    Entry::Decided,
    Entry::Returned,
    Entry::Withdrawn,
    Entry::Issued,
    Entry::Fetched,
];

struct MonthRow {
    month: String,
    counts: [u64; COLUMNS.len()],
    lead: Option<LeadTime>,
}

struct KindRow {
    kind: String,
    counts: [u64; COLUMNS.len()],
    lead: Option<LeadTime>,
}

/// Median and 90th percentile, as cells; `なし` where nothing was decided.
fn lead_cells(lead: Option<LeadTime>) -> [String; 2] {
    lead.map_or(["なし".to_owned(), "なし".to_owned()], |lead| {
        [days(lead.median), days(lead.p90)]
    })
}

struct Cells {
    head: String,
    cells: Vec<String>,
}

impl Cells {
    fn new(head: String, counts: [u64; COLUMNS.len()], lead: Option<LeadTime>) -> Self {
        let counts = counts.iter().map(u64::to_string);
        Self {
            head,
            cells: counts.chain(lead_cells(lead)).collect(),
        }
    }
}

#[derive(Template)]
#[template(path = "reports.html")]
struct ReportPage {
    layout: Layout,
    errors: FieldErrors,
    from: String,
    to: String,
    title: String,
    headings: Vec<&'static str>,
    months: Vec<Cells>,
    kinds: Vec<Cells>,
    returns: Vec<(String, u64, String)>,
    unread: Vec<Unread>,
    /// Pictures, as markup of ours.
    volumes_plot: String,
    lead_plot: String,
    printed: String,
}

/// `GET /reports`
async fn show(
    staff: Staff,
    State(app): State<App>,
    Query(query): Query<ReportQuery>,
) -> Result<Html<String>, PageError> {
    let now = app.clock.now();
    let (period, errors) = match query.period(now) {
        Ok(period) => (period, FieldErrors::default()),
        Err(error) => (
            Period::last_twelve(now),
            FieldErrors::of_one("from", error.page_text()),
        ),
    };
    let report = Report::of(&app, &staff, period, now).await?;
    let months = report.months();
    let labels: Vec<String> = report
        .months
        .iter()
        .map(|figures| figures.month.short_label())
        .collect();
    let values = |value: fn(&MonthRow) -> f64| months.iter().map(value).collect::<Vec<f64>>();
    let filed = |row: &MonthRow| (row.counts[0] + row.counts[1]) as f64;
    let first_last = format!(
        "{}から{}まで",
        report.period.months()[0].label(),
        report.period.months()[months.len() - 1].label()
    );
    let volumes_plot = columns(
        "volumes",
        "月ごとの届出と差戻しの件数",
        &format!("{first_last}の棒グラフです。数は下の表にあります。"),
        &labels,
        &[
            Series {
                name: "届出",
                values: values(filed),
            },
            Series {
                name: "差戻し",
                values: values(|row| row.counts[3] as f64),
            },
        ],
    );
    let in_days =
        |took: Option<Duration>| took.map_or(0.0, |took| took.as_seconds_f64() / 86_400.0);
    let lead_plot = columns(
        "lead",
        "受付から決定までの日数",
        &format!("{first_last}の棒グラフです。数は下の表にあります。"),
        &labels,
        &[
            Series {
                name: "中央値",
                values: months
                    .iter()
                    .map(|row| in_days(row.lead.map(|lead| lead.median)))
                    .collect(),
            },
            Series {
                name: "90%",
                values: months
                    .iter()
                    .map(|row| in_days(row.lead.map(|lead| lead.p90)))
                    .collect(),
            },
        ],
    );
    let typed = !errors.is_empty();
    let month = |index: usize| report.period.months()[index].code();
    page(&ReportPage {
        layout: Layout::office(&app, &staff, OfficePage::Reports),
        from: if typed { query.from } else { month(0) },
        to: if typed {
            query.to
        } else {
            month(months.len() - 1)
        },
        errors,
        title: first_last,
        headings: headings(),
        kinds: report
            .kinds()
            .into_iter()
            .map(|row| Cells::new(row.kind, row.counts, row.lead))
            .collect(),
        returns: report.returns(),
        months: months
            .into_iter()
            .map(|row| Cells::new(row.month, row.counts, row.lead))
            .collect(),
        unread: report.unread,
        volumes_plot,
        lead_plot,
        printed: dates::moment(now),
    })
}

fn headings() -> Vec<&'static str> {
    let counted = COLUMNS.iter().map(|entry| entry.label());
    counted
        .chain(["決定までの日数（中央値）", "決定までの日数（90%）"])
        .collect()
}

/// `GET /reports.csv`: every figure of the page, one table under the other.
async fn csv(
    staff: Staff,
    State(app): State<App>,
    Query(query): Query<ReportQuery>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let refused = |error: PeriodError| PageError::Refused(error.page_text());
    let period = query.period(now).map_err(refused)?;
    let report = Report::of(&app, &staff, period, now).await?;
    let mut rows = Vec::new();
    let headings = headings();
    let months = report.months().into_iter();
    let months = months.map(|row| ("月", Cells::new(row.month, row.counts, row.lead)));
    let kinds = report.kinds().into_iter();
    let kinds = kinds.map(|row| ("種類", Cells::new(row.kind, row.counts, row.lead)));
    for (table, cells) in months.chain(kinds) {
        for (heading, cell) in headings.iter().zip(cells.cells) {
            let (table, head) = (table.to_owned(), cells.head.clone());
            rows.push(vec![table, head, (*heading).to_owned(), cell]);
        }
    }
    for (reason, count, _) in report.returns() {
        rows.push(vec![
            "差戻しの理由".into(),
            reason,
            "件数".into(),
            count.to_string(),
        ]);
    }
    for unread in &report.unread {
        let head = || vec!["未読の通知書".to_owned(), unread.establishment.clone()];
        rows.push([head(), vec!["件数".into(), unread.count.to_string()]].concat());
        rows.push(
            [
                head(),
                vec!["最も古い発行日".into(), dates::day(unread.oldest)],
            ]
            .concat(),
        );
    }
    let table = Table {
        headings: vec!["表", "区分", "項目", "値"],
        rows,
    };
    let (encoding, kind) = match query.encoding.as_str() {
        "cp932" => (Encoding::Cp932, CSV_CP932),
        _ => (Encoding::Utf8, CSV),
    };
    let name = format!("統計_{}.csv", dates::digits(now));
    Ok(attachment(&name, kind, table.to_csv(encoding)))
}
