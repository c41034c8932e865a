//! The first page after signing in, on both sides.

use askama::Template;
use axum::extract::State;
use axum::response::{Html, Redirect};
use http::Method;

use super::layout::{Layout, MemberPage};
use super::page;
use super::page_error::PageError;
use super::principals::{Member, Staff};
use super::router::Routes;
use crate::app::App;
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

#[derive(Template)]
#[template(path = "member_home.html")]
struct MemberHome {
    layout: Layout,
    name: String,
    unread: Vec<crate::notices::pages::Line>,
    overview: crate::filings::pages::Overview,
    may_file: bool,
    may_fetch: bool,
    may_follow: bool,
}

/// `GET /`
async fn member_home(member: Member, State(app): State<App>) -> Result<Html<String>, PageError> {
    let now = app.clock.now();
    let may_fetch = member.may(Permission::Fetch);
    let unread = match may_fetch {
        true => crate::notices::store::unread(&app.db, &member).await?,
        false => Vec::new(),
    };
    page(&MemberHome {
        layout: Layout::member(&app, &member, MemberPage::Home, now),
        name: member.name().to_owned(),
        unread: unread
            .iter()
            .map(crate::notices::pages::Line::new)
            .collect(),
        overview: crate::filings::pages::overview(&app, &member).await?,
        may_file: member.may(Permission::File),
        may_fetch,
        may_follow: member.may(Permission::File) || member.may(Permission::History),
    })
}

/// `GET /`: each role begins with its main work.
async fn office_home(staff: Staff) -> Redirect {
    Redirect::to(match staff.role() {
        StaffRole::Reviewer | StaffRole::Supervisor => "/filings",
        StaffRole::SystemAdmin => "/devices",
    })
}
