//! 代理する事業所: the desk of who acts for others, with one inbox for all of them.
//!
//! Acting for a client is a state of the web session. Every page then says for whom, forms
//! carry a token that is good for this client alone, and it ends here or with the delegation.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::EstablishmentKind;
use super::store::{self, Client, Waiting};
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::Db;
use crate::ids::DelegationId;
use crate::people::handover;
use crate::step_up::safe_next;
use crate::web::forms::Verified;
use crate::web::layout::{Layout, MemberPage};
use crate::web::page_error::PageError;
use crate::web::principals::Member;
use crate::web::router::Routes;
use crate::web::{dates, page_with};

/// Pages of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Member, _, _>(Method::GET, "/desk", show)
        .allow::<Member, _, _>(Method::POST, "/desk/act", act)
        .allow::<Member, _, _>(Method::POST, "/desk/leave", leave)
}

#[derive(Template)]
#[template(path = "desk.html")]
struct DeskPage {
    layout: Layout,
    is_office: bool,
    /// Whether an admin of the own establishment offers this member to take over.
    handover: bool,
    office: String,
    number: String,
    clients: Vec<ClientRow>,
    inbox: Vec<InboxRow>,
}

struct ClientRow {
    delegation: DelegationId,
    number: String,
    name: String,
    scope: String,
    ends: String,
    unread: u64,
    returned: u64,
    open: u64,
    current: bool,
}

struct InboxRow {
    delegation: DelegationId,
    client: String,
    title: String,
    since: String,
    path: String,
    is_notice: bool,
}

/// `GET /desk`: for a sharoushi's office, and for who has clients.
async fn show(member: Member, State(app): State<App>) -> Result<Response, PageError> {
    let now = app.clock.now();
    let is_office = member.home_kind() == EstablishmentKind::Sharoushi;
    let clients = store::desk(&app.db, &member, now).await?;
    if !is_office && clients.is_empty() {
        return Err(PageError::NotFound);
    }
    let mut tx = app.db.begin_snapshot().await?;
    let handover = handover::store::find_open(&mut tx, member.home_establishment(), now).await?;
    drop(tx);
    let current = member.acting().map(|acting| acting.delegation);
    let page = DeskPage {
        is_office,
        handover: handover.is_some_and(|open| open.successor == member.user()),
        office: member.home_name().to_owned(),
        number: member.home_number().to_string(),
        clients: clients
            .into_iter()
            .map(|client| client_row(client, current))
            .collect(),
        inbox: store::inbox(&app.db, &member, now)
            .await?
            .into_iter()
            .map(inbox_row)
            .collect(),
        layout: Layout::member(&app, &member, MemberPage::Desk, now),
    };
    Ok(page_with(StatusCode::OK, &page)?.into_response())
}

fn client_row(client: Client, current: Option<DelegationId>) -> ClientRow {
    ClientRow {
        delegation: client.delegation,
        number: client.number.to_string(),
        name: client.name,
        scope: format!(
            "{}（{}）",
            client.scope.permissions.page_text(),
            client.scope.procedures.page_text()
        ),
        ends: match client.scope.ends {
            Some(ends) => dates::day(ends - time::Duration::SECOND),
            None => "期限なし".to_owned(),
        },
        unread: client.unread,
        returned: client.returned,
        open: client.open,
        current: current == Some(client.delegation),
    }
}

fn inbox_row(waiting: Waiting) -> InboxRow {
    InboxRow {
        delegation: waiting.delegation,
        client: waiting.client,
        title: waiting.title,
        since: dates::moment(waiting.since),
        path: waiting.path,
        is_notice: waiting.is_notice,
    }
}

#[derive(Deserialize)]
struct ActForm {
    delegation: String,
    #[serde(default)]
    next: String,
}

/// `POST /desk/act`: acts for a client from now on.
async fn act(
    member: Member,
    State(app): State<App>,
    Verified(form): Verified<ActForm>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let id: DelegationId = form.delegation.parse().map_err(|_| PageError::NotFound)?;
    let mut tx = app.db.begin().await?;
    if !store::act(&mut tx, &member, Some(id), now).await? {
        return Err(PageError::NotFound);
    }
    let act = Act::DelegateActs(id);
    audit::record(&mut tx, &app.keys, &member.actor(), act, now).await?;
    Db::commit(tx).await?;
    Ok(Redirect::to(safe_next(&form.next)))
}

#[derive(Deserialize)]
struct Nothing {}

/// `POST /desk/leave`: acts for nobody but one's own.
async fn leave(
    member: Member,
    State(app): State<App>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    store::act(&mut tx, &member, None, now).await?;
    audit::record(
        &mut tx,
        &app.keys,
        &member.actor(),
        Act::DelegateLeaves,
        now,
    )
    .await?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/desk"))
}
