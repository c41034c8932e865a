//! Every list page of both sides, walked by people who are signed in, over HTTPS.

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode};

use super::door::Door;
use super::fund::Fund;
use crate::batches::supervisor;
use crate::bench::now;
use crate::pages::{OfficePages, Site};
use crate::stage::Stage;

/// How often each page is opened.
const ROUNDS: usize = 40;
/// What does not count: the first times.
const WARM: usize = 2;
/// Which of the sorted times is p95.
const P95: usize = ROUNDS * 95 / 100 - 1;
/// Longest that 95 of 100 times may take, in milliseconds.
pub(super) const LIMIT_MS: f64 = 50.0;

/// One page.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Whose, and its address, without what differs from fund to fund.
    pub(super) page: String,
    pub(super) p95_ms: f64,
}

/// Who sees a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Admin,
    Sharoushi,
    Reviewer,
    Supervisor,
    SystemAdmin,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Admin => "M",
            Self::Sharoushi => "M (sharoushi)",
            Self::Reviewer | Self::Supervisor | Self::SystemAdmin => "O",
        }
    }
}

/// The office's people, signed in.
#[derive(Debug)]
pub(super) struct Office {
    pub(super) reviewer: OfficePages,
    pub(super) supervisor: OfficePages,
    pub(super) administrator: OfficePages,
}

impl Office {
    /// Lets them sign in.
    pub(super) async fn open(stage: &Stage) -> Result<Self> {
        let reviewer = OfficePages::open(stage)?;
        reviewer.sign_in(stage).await?;
        let system = stage.further_staff("system", "計測 管理者", "system_admin")?;
        let administrator = OfficePages::open(stage)?;
        administrator.sign_in_as(&system).await?;
        Ok(Self {
            reviewer,
            supervisor: supervisor(stage).await?,
            administrator,
        })
    }
}

/// The pages, with `{middle}` for a page in the middle of a long list, `{next}` for a page
/// behind the first one, and `{first}` for the first thing of the list before it.
const PAGES: &[(Who, &str)] = &[
    (Who::Admin, "/"),
    (Who::Admin, "/filings"),
    (Who::Admin, "/filings?page={middle}"),
    (Who::Admin, "/filings?state=decided"),
    (Who::Admin, "/filings?state=returned"),
    (Who::Admin, "/filings?text=喪失届"),
    (Who::Admin, "/filings?from=2024-01-01&to=2024-03-31"),
    (Who::Admin, "/filings/{first}"),
    (Who::Admin, "/filings/new"),
    (Who::Admin, "/notices"),
    (Who::Admin, "/notices?page={middle}"),
    (Who::Admin, "/notices/{first}"),
    (Who::Admin, "/records"),
    (Who::Admin, "/records?page={middle}"),
    (
        Who::Admin,
        "/records?from=2024-01-01&least=1000&most=9999999",
    ),
    (Who::Admin, "/history"),
    (Who::Admin, "{next}"),
    (Who::Admin, "/history?entry=fetched"),
    (Who::Admin, "/history?kind=訂正届"),
    (Who::Admin, "/history?text=資格喪失届"),
    (Who::Admin, "/history?from=2024-01-01&to=2024-03-31"),
    (Who::Admin, "/users"),
    (Who::Admin, "/users/more-pcs"),
    (Who::Admin, "/handover"),
    (Who::Admin, "/delegations"),
    (Who::Admin, "/announcements"),
    (Who::Admin, "/contact"),
    (Who::Admin, "/paper"),
    (Who::Admin, "/settings"),
    (Who::Sharoushi, "/desk"),
    (Who::Reviewer, "/filings"),
    (Who::Reviewer, "{next}"),
    (Who::Reviewer, "/filings?view=mine"),
    (Who::Reviewer, "/filings?view=unassigned"),
    (Who::Reviewer, "/filings?view=late"),
    (Who::Reviewer, "/filings?view=returned"),
    (Who::Reviewer, "/filings?view=decided"),
    (Who::Reviewer, "{next}"),
    (Who::Reviewer, "/filings?view=withdrawn"),
    (Who::Reviewer, "/filings?view=all"),
    (Who::Reviewer, "/filings?view=all&kind=correction"),
    (
        Who::Reviewer,
        "/filings?view=all&kind=suspension&establishment=0150",
    ),
    (Who::Reviewer, "/filings?view=decided&establishment=0001"),
    (Who::Reviewer, "/filings?view=decided&establishment=0150"),
    (Who::Reviewer, "/filings?view=returned&kind=suspension"),
    (Who::Reviewer, "/filings?view=all&text=0150_訂正届"),
    (Who::Reviewer, "/filings?view=decided&text=訂正届"),
    (Who::Reviewer, "/filings?view=all&text=nothing-like-it"),
    (Who::Reviewer, "/filings?view=all&text=20240115"),
    (Who::Reviewer, "/filings/{first}"),
    (Who::Reviewer, "/paper"),
    (Who::Reviewer, "/notices"),
    (Who::Reviewer, "/notices?page={middle}"),
    (Who::Reviewer, "/notices?fetched=not_yet"),
    (Who::Reviewer, "/notices/{first}"),
    (Who::Reviewer, "/records"),
    (Who::Reviewer, "/records?page={middle}"),
    (
        Who::Reviewer,
        "/records?from=2024-01-01&until=2024-12-31&least=1000&most=2000000",
    ),
    (Who::Reviewer, "/records?counterparty=第150号"),
    (Who::Reviewer, "/history"),
    (Who::Reviewer, "{next}"),
    (Who::Reviewer, "/history?entry=returned"),
    (Who::Reviewer, "/history?kind=中断者届&establishment=0150"),
    (Who::Reviewer, "/history?person=花子150-2"),
    (Who::Reviewer, "/history?text=第150号+資格喪失届"),
    (Who::Reviewer, "/history?text=nothing-like-it"),
    (Who::Reviewer, "/batches"),
    (Who::Reviewer, "/batches?page=3"),
    (Who::Reviewer, "/batches/{first}"),
    (Who::Reviewer, "/batches/{first}?show=unfetched"),
    (Who::Reviewer, "/retention"),
    (Who::Reviewer, "/destructions"),
    (Who::Reviewer, "/destructions?page=100"),
    (Who::Reviewer, "/establishments"),
    (Who::Reviewer, "/establishments/{first}"),
    (Who::Reviewer, "/devices"),
    (Who::Reviewer, "/requests"),
    (Who::Reviewer, "/delegations"),
    (Who::Reviewer, "/filing-kinds"),
    (Who::Reviewer, "/calendar"),
    (Who::Reviewer, "/announcements"),
    (Who::Reviewer, "/inquiries"),
    (Who::Reviewer, "/inquiries?all=1"),
    (Who::Reviewer, "/inquiries/{first}"),
    (Who::Reviewer, "/tasks"),
    (Who::Reviewer, "/reports"),
    (Who::Reviewer, "/reports?from=2023-12&to=2026-11"),
    (Who::Reviewer, "/approvals"),
    (Who::Supervisor, "/quarantine"),
    (Who::SystemAdmin, "/staff"),
];

/// Walks all pages.
pub(super) async fn walk(
    stage: &Stage,
    fund: &Fund,
    office: &Office,
    filings: usize,
) -> Result<Vec<Line>> {
    let admin = Door::open(stage, fund, &fund.people[0]).await?;
    admin.sign_in(&fund.people[0]).await?;
    let sharoushi = Door::open(stage, fund, fund.sharoushi()).await?;
    sharoushi.sign_in(fund.sharoushi()).await?;

    let mut lines = Vec::new();
    let mut before = String::new();
    for (who, pattern) in PAGES {
        let site = match who {
            Who::Admin => &admin.pages.site,
            Who::Sharoushi => &sharoushi.pages.site,
            Who::Reviewer => &office.reviewer.site,
            Who::Supervisor => &office.supervisor.site,
            Who::SystemAdmin => &office.administrator.site,
        };
        let path = address(site, *who, pattern, &before, filings).await?;
        let Some(path) = path else { continue };
        let name = match *pattern {
            "{next}" => format!("{} {before}, the next page", who.name()),
            pattern => format!("{} {pattern}", who.name()),
        };
        let line = Line {
            page: name.replace("={middle}", "=(the middle)"),
            p95_ms: p95_ms(site, &path).await?,
        };
        eprintln!("{:.0} ms: {}", line.p95_ms, line.page);
        lines.push(line);
        if !pattern.contains('{') {
            before = (*pattern).to_owned();
        }
    }
    Ok(lines)
}

/// The address of a page; none, if the list before it has no more than one page.
async fn address(
    site: &Site,
    who: Who,
    pattern: &str,
    before: &str,
    filings: usize,
) -> Result<Option<String>> {
    // The largest employer has a fourteenth of the filings, and as many notices.
    let middle = match who {
        Who::Admin => filings / 14 / 40,
        _ => filings / 40,
    };
    let path = pattern.replace("{middle}", &middle.max(1).to_string());
    if path == "{next}" {
        let page = site.get(before).await?;
        return Ok(page.attribute("a[rel=next]", "href").ok());
    }
    let Some((list, rest)) = path.split_once("/{first}") else {
        return Ok(Some(path));
    };
    let page = site.get(list).await?;
    let links = page.links(&format!("{list}/"));
    let id = links
        .iter()
        .filter_map(|link| link.strip_prefix(&format!("{list}/")))
        .map(|rest| rest.split(['?', '/']).next().unwrap_or_default())
        .find(|id| id.len() == 36)
        .with_context(|| format!("nothing on {list}"))?;
    Ok(Some(format!("{list}/{id}{rest}")))
}

async fn p95_ms(site: &Site, path: &str) -> Result<f64> {
    let mut took = Vec::with_capacity(ROUNDS);
    for round in 0..WARM + ROUNDS {
        let begun = now();
        let answer = site.send(site.request(Method::GET, path)).await?;
        let status = answer.status();
        let length = answer.bytes().await?.len();
        let time = begun.elapsed();
        ensure!(
            status == StatusCode::OK && length > 0,
            "{path} is {status}, {length} bytes"
        );
        if round >= WARM {
            took.push(time.as_secs_f64() * 1e3);
        }
    }
    took.sort_by(f64::total_cmp);
    Ok(took[P95])
}
