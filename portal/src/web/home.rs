//! The first page after signing in, on both sides.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::Method;

use super::layout::{Layout, MemberPage};
use super::page;
use super::page_error::PageError;
use super::principals::{Member, Staff};
use super::router::Routes;
use crate::app::App;
use crate::delegations::EstablishmentKind;
use crate::permissions::Permission;
use crate::staff::StaffRole;

/// Pages of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes.allow::<Member, _, _>(Method::GET, "/", member_home)
}

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes.allow::<Staff, _, _>(Method::GET, "/", office_home)
}

/// Unread notices that the home page names.
const HOME_NOTICES: i64 = 20;

#[derive(Template)]
#[template(path = "member_home.html")]
struct MemberHome {
    layout: Layout,
    name: String,
    announcements: Vec<crate::announcements::pages::Line>,
    unread: Vec<crate::notices::pages::Line>,
    /// Whether an admin offers this member to take over.
    handover: bool,
    overview: crate::filings::pages::Overview,
    closing: crate::reminders::pages::NextClosing,
    may_file: bool,
    may_fetch: bool,
    may_follow: bool,
}

/// `GET /`
async fn member_home(member: Member, State(app): State<App>) -> Result<Response, PageError> {
    let now = app.clock.now();
    // A sharoushi's office has no filings of its own: its home is its desk.
    if member.acting().is_none() && member.home_kind() == EstablishmentKind::Sharoushi {
        return Ok(Redirect::to("/desk").into_response());
    }
    let mut tx = app.db.begin_snapshot().await?;
    let handover =
        crate::people::handover::store::find_open(&mut tx, member.establishment(), now).await?;
    drop(tx);
    let may_fetch = member.may(Permission::Fetch);
    let unread = match may_fetch {
        true => crate::notices::store::unread(&app.db, &member, HOME_NOTICES).await?,
        false => Vec::new(),
    };
    let page = page(&MemberHome {
        layout: Layout::member(&app, &member, MemberPage::Home, now),
        name: member.name().to_owned(),
        announcements: crate::announcements::pages::unread(&app, &member, now).await?,
        unread: unread
            .iter()
            .map(crate::notices::pages::Line::new)
            .collect(),
        handover: handover.is_some_and(|open| open.successor == member.user()),
        overview: crate::filings::pages::overview(&app, &member).await?,
        closing: crate::reminders::pages::next_closing(&app, now).await?,
        may_file: member.may(Permission::File),
        may_fetch,
        may_follow: member.may(Permission::File) || member.may(Permission::History),
    })?;
    Ok(page.into_response())
}

/// `GET /`: each role begins with its main work.
async fn office_home(staff: Staff) -> Redirect {
    Redirect::to(match staff.role() {
        StaffRole::Reviewer | StaffRole::Supervisor => "/filings",
        StaffRole::SystemAdmin => "/devices",
    })
}
