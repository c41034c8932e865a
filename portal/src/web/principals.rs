//! Who asks: resolved from the connection and the cookie, once per request.
//!
//! Fields are private; only the extractors here make a principal, and each asks the database
//! whether everything it stands on (tunnel session, device, establishment, membership,
//! account) is alive *now*. What a principal may do is the features' business.
//!
//! | principal | who |
//! |---|---|
//! | [`Anyone`] | whoever reaches the listener |
//! | [`Visitor`] | a live tunnel session, nobody signed in |
//! | [`Newcomer`] | signed in, but the password is still the initial one |
//! | [`Beginner`] | signed in with an own password, in the midst of the first steps or past them |
//! | [`Member`] | signed in at an establishment, through its PC's tunnel session |
//! | [`EstablishmentAdmin`] | a member who is the establishment's admin (管理者) |
//! | [`Insider`] | a member who is at his own establishment, and acts for no other |
//! | [`AnyMember`] | `Newcomer` or `Member`, to sign out |
//! | [`OfficeVisitor`] | whoever reaches the office listener |
//! | [`Filer`], [`Fetcher`], [`Historian`], [`Follower`] | a member with that permission |
//! | [`Staff`] | signed in at the office, any role |
//! | [`Reviewer`] | staff who decide and read documents: all but the system administrator |
//! | [`StaffNewcomer`] | staff whose password is still the one that was handed over |
//! | [`Supervisor`] | 責任者 |
//! | [`SystemAdministrator`] | システム管理者 |
//! | [`Auditor`] | one of these two |
//! | `step_up::Fresh<P>` | `P`, who showed a second factor within the last minutes |

use std::net::{Ipv6Addr, SocketAddr};

mod permitted;

use axum::extract::FromRequestParts;
use http::header;
use http::request::Parts;
use protocol::{DeviceId, EstablishmentNumber, SessionId};
use time::OffsetDateTime;

use super::forms::{CsrfSecret, csrf_token};
use super::page_error::PageError;
use super::router::Principal;
use super::sessions;
use crate::app::App;
use crate::audit::Actor;
use crate::delegations::{Acting, EstablishmentKind};
use crate::establishments::Role;
use crate::first_steps::{Standing, Step};
use crate::ids::{EstablishmentId, StaffId, UserId};
use crate::keys::random_token;
use crate::permissions::{Permission, Permissions};
use crate::staff::StaffRole;

pub use permitted::{
    Auditor, Fetcher, Filer, Follower, Historian, Supervisor, SystemAdministrator,
};

/// The cookie of a web session.
pub const SESSION_COOKIE: &str = "__Host-renkei";
/// The cookie that binds the office's sign-in form to a browser.
pub const VISIT_COOKIE: &str = "__Host-renkei-visit";

/// Put into each request by the member listener after it has verified the gateway's PROXY
/// header: the tunnel session that the connection came through.
#[derive(Clone, Copy, Debug)]
pub struct TunnelConnection {
    /// The session.
    pub session: SessionId,
    /// The PC's address inside the tunnel.
    pub inner_address: Ipv6Addr,
}

/// Put into each request by the office listener.
#[derive(Clone, Copy, Debug)]
pub struct OfficeConnection {
    /// The browser's address.
    pub peer: SocketAddr,
}

/// Whoever reaches the listener.
#[derive(Debug, Clone, Copy)]
pub struct Anyone();

/// A live tunnel session, before anybody signed in.
#[derive(Debug, Clone)]
pub struct Visitor {
    pub(super) session: SessionId,
    pub(super) device: DeviceId,
    pub(super) device_user: UserId,
    pub(super) establishment: EstablishmentId,
    pub(super) establishment_number: EstablishmentNumber,
    pub(super) establishment_name: String,
    pub(super) deadline: OffsetDateTime,
    pub(super) csrf: String,
}

/// A user, signed in at an establishment through the tunnel session of one of its PCs.
#[derive(Debug, Clone)]
pub struct Member {
    pub(super) visit: Visitor,
    pub(super) user: UserId,
    pub(super) user_id: String,
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) permissions: Permissions,
    /// At the own establishment, whomever the user acts for.
    pub(super) own_permissions: Permissions,
    pub(super) acting: Option<Acting>,
    pub(super) home_kind: EstablishmentKind,
    pub(super) clients: u64,
    pub(super) token_hash: String,
    pub(super) first_steps: Standing,
    pub(super) factor_shown: OffsetDateTime,
}

/// What of an establishment's filings a member may see, as texts for a question to the
/// database; an empty text narrows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The establishment's id; never empty.
    pub establishment: String,
    /// Only what this user handed in.
    pub sender: String,
    /// Only kinds of these procedures: `,membership,salary,`.
    pub procedures: String,
}

/// A member who is the admin (管理者) of the establishment.
#[derive(Debug, Clone)]
pub struct EstablishmentAdmin(Member);

/// A member who is at his own establishment: what its people talk about with the fund, and who
/// becomes its admin, is nothing for those who act for it.
#[derive(Debug, Clone)]
pub struct Insider();

/// A user who is signed in with the initial password and must change it first.
#[derive(Debug, Clone)]
pub struct Newcomer(Member);

/// A user who is signed in with an own password, whatever other first steps are open.
#[derive(Debug, Clone)]
pub struct Beginner(Member);

/// A user who is signed in, with whatever password.
#[derive(Debug, Clone)]
pub struct AnyMember(Member);

/// Whoever reaches the office listener.
#[derive(Debug, Clone)]
pub struct OfficeVisitor {
    peer: SocketAddr,
    visit: String,
    csrf: String,
}

/// Fund staff, signed in.
#[derive(Debug, Clone)]
pub struct Staff {
    pub(super) id: StaffId,
    pub(super) user_id: String,
    pub(super) name: String,
    pub(super) role: StaffRole,
    pub(super) token_hash: String,
    pub(super) factor_shown: OffsetDateTime,
    pub(super) password_is_initial: bool,
    pub(super) csrf: String,
}

/// Staff who are signed in with the password that was handed to them and must change it first.
#[derive(Debug, Clone)]
pub struct StaffNewcomer(Staff);

/// Staff who decide and read filings and notices: all but the system administrator.
#[derive(Debug, Clone)]
pub struct Reviewer(Staff);

impl Visitor {
    /// The tunnel session.
    pub fn session(&self) -> SessionId {
        self.session
    }
    /// The PC.
    pub fn device(&self) -> DeviceId {
        self.device
    }
    /// The user who registered the PC.
    pub fn device_user(&self) -> UserId {
        self.device_user
    }
    /// The PC's establishment.
    pub fn establishment(&self) -> EstablishmentId {
        self.establishment
    }
    /// Its number.
    pub fn establishment_number(&self) -> EstablishmentNumber {
        self.establishment_number
    }
    /// Its name.
    pub fn establishment_name(&self) -> &str {
        &self.establishment_name
    }
    /// When the tunnel session ends.
    pub fn deadline(&self) -> OffsetDateTime {
        self.deadline
    }
    /// The anti-forgery token for forms.
    pub fn csrf(&self) -> &str {
        &self.csrf
    }
    /// For the audit log.
    pub fn actor(&self) -> Actor {
        Actor::Stranger {
            device: Some(self.device),
            session: Some(self.session),
        }
    }
}

impl Member {
    /// The user.
    pub fn user(&self) -> UserId {
        self.user
    }
    /// What the user types at sign-in.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }
    /// The user's name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// What the user is here: at a client's, never its admin.
    pub fn role(&self) -> Role {
        match self.acting {
            None => self.role,
            Some(_) => Role::Added,
        }
    }
    /// Whom the user acts for, if not for his own establishment.
    pub fn acting(&self) -> Option<&Acting> {
        self.acting.as_ref()
    }
    /// How many establishments the user's own acts for.
    pub fn clients(&self) -> u64 {
        self.clients
    }
    /// The establishment that the PC belongs to.
    pub fn home_establishment(&self) -> EstablishmentId {
        self.visit.establishment
    }
    /// Its number.
    pub fn home_number(&self) -> EstablishmentNumber {
        self.visit.establishment_number
    }
    /// Its name.
    pub fn home_name(&self) -> &str {
        &self.visit.establishment_name
    }
    /// What it is to the fund.
    pub fn home_kind(&self) -> EstablishmentKind {
        self.home_kind
    }
    /// How the user signs in a filing's history: with the office, if he acts for another.
    pub fn signature(&self) -> String {
        match self.acting {
            None => self.name.clone(),
            Some(_) => format!("{}（{}・代理）", self.name, self.home_name()),
        }
    }
    /// Whether the user may do this here: an admin may do everything.
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.allow(permission)
    }
    /// Whether the user may do this for those his own establishment acts for, as far as they
    /// let it.
    pub fn at_home(&self, permission: Permission) -> bool {
        self.own_permissions.allow(permission)
    }
    /// What of the establishment's filings the user may see: everybody's with the permission
    /// for the history, else his own.
    pub fn reach(&self) -> Reach {
        Reach {
            establishment: self.establishment().to_string(),
            sender: match self.may(Permission::History) {
                true => String::new(),
                false => self.user.to_string(),
            },
            procedures: match &self.acting {
                None => String::new(),
                Some(acting) => acting.procedures.clone(),
            },
        }
    }
    /// When the user last showed a second factor in this web session.
    pub fn factor_shown(&self) -> OffsetDateTime {
        self.factor_shown
    }
    /// The tunnel session with its PC.
    pub fn visit(&self) -> &Visitor {
        &self.visit
    }
    /// The establishment that this request is for: the client's, if the user acts for one,
    /// else the PC's own.
    pub fn establishment(&self) -> EstablishmentId {
        match &self.acting {
            None => self.visit.establishment,
            Some(acting) => acting.client,
        }
    }
    /// Its number.
    pub fn establishment_number(&self) -> EstablishmentNumber {
        match &self.acting {
            None => self.visit.establishment_number,
            Some(acting) => acting.number,
        }
    }
    /// Its name.
    pub fn establishment_name(&self) -> &str {
        match &self.acting {
            None => &self.visit.establishment_name,
            Some(acting) => &acting.name,
        }
    }
    /// The PC.
    pub fn device(&self) -> DeviceId {
        self.visit.device
    }
    /// The tunnel session.
    pub fn session(&self) -> SessionId {
        self.visit.session
    }
    /// When the tunnel session ends, and the web session with it.
    pub fn deadline(&self) -> OffsetDateTime {
        self.visit.deadline
    }
    /// The anti-forgery token for forms.
    pub fn csrf(&self) -> &str {
        &self.visit.csrf
    }
    /// What was done of the first steps.
    pub fn first_steps(&self) -> &Standing {
        &self.first_steps
    }
    /// The first step that is open, if one is.
    pub fn next_step(&self) -> Option<Step> {
        self.first_steps.next(self.role)
    }
    /// Names the web session in the database.
    pub fn token_hash(&self) -> &str {
        &self.token_hash
    }
    /// For the audit log.
    pub fn actor(&self) -> Actor {
        let (user, device, session) = (self.user, self.visit.device, self.visit.session);
        match &self.acting {
            None => Actor::Member {
                user,
                device,
                session,
            },
            Some(acting) => Actor::Delegate {
                user,
                device,
                session,
                office: self.visit.establishment,
                client: acting.client,
            },
        }
    }

    async fn resolve(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        if let Some(known) = parts.extensions.get::<Self>() {
            return Ok(known.clone());
        }
        let connection = tunnel(parts)?;
        let token = cookie(parts, SESSION_COOKIE).ok_or(PageError::SignInRequired)?;
        let now = app.clock.now();
        let member = sessions::find_member(app, &token, connection.session, now)
            .await?
            .ok_or(PageError::SignInRequired)?;
        let secret = sessions::csrf_secret(&token, member.acting.as_ref());
        parts.extensions.insert(CsrfSecret(secret));
        parts.extensions.insert(member.clone());
        Ok(member)
    }
}

impl EstablishmentAdmin {
    /// The user.
    pub fn member(&self) -> &Member {
        &self.0
    }
}

impl Newcomer {
    /// The user.
    pub fn member(&self) -> &Member {
        &self.0
    }
}

impl Beginner {
    /// The user.
    pub fn member(&self) -> &Member {
        &self.0
    }
}

impl AnyMember {
    /// The user.
    pub fn member(&self) -> &Member {
        &self.0
    }
}

impl OfficeVisitor {
    /// The browser's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
    /// The value for [`VISIT_COOKIE`].
    pub fn visit(&self) -> &str {
        &self.visit
    }
    /// The anti-forgery token for forms.
    pub fn csrf(&self) -> &str {
        &self.csrf
    }
}

impl Staff {
    /// The account.
    pub fn id(&self) -> StaffId {
        self.id
    }
    /// What is typed at sign-in.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The role.
    pub fn role(&self) -> StaffRole {
        self.role
    }
    /// The anti-forgery token for forms.
    pub fn csrf(&self) -> &str {
        &self.csrf
    }
    /// When the second factor was last shown in this web session.
    pub fn factor_shown(&self) -> OffsetDateTime {
        self.factor_shown
    }
    /// Whether the forms of the office may be shown: see [`Reviewer`].
    pub fn may_decide(&self) -> bool {
        match self.role {
            StaffRole::Reviewer | StaffRole::Supervisor => true,
            StaffRole::SystemAdmin => false,
        }
    }
    /// Names the web session in the database.
    pub fn token_hash(&self) -> &str {
        &self.token_hash
    }
    /// For the audit log.
    pub fn actor(&self) -> Actor {
        Actor::Staff(self.id)
    }
}

impl StaffNewcomer {
    /// The account.
    pub fn staff(&self) -> &Staff {
        &self.0
    }
}

impl Reviewer {
    /// The account.
    pub fn staff(&self) -> &Staff {
        &self.0
    }
    /// The account's id.
    pub fn id(&self) -> StaffId {
        self.0.id
    }
    /// The name.
    pub fn name(&self) -> &str {
        &self.0.name
    }
    /// For the audit log.
    pub fn actor(&self) -> Actor {
        self.0.actor()
    }
}

impl Principal for Anyone {
    const NAME: &'static str = "anyone";
}
impl FromRequestParts<App> for Anyone {
    type Rejection = PageError;
    async fn from_request_parts(_: &mut Parts, _: &App) -> Result<Self, PageError> {
        Ok(Self())
    }
}

impl Principal for Visitor {
    const NAME: &'static str = "visitor";
}
impl FromRequestParts<App> for Visitor {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        if let Some(known) = parts.extensions.get::<Self>() {
            return Ok(known.clone());
        }
        let connection = tunnel(parts)?;
        let visitor = sessions::find_visitor(app, connection.session, app.clock.now())
            .await?
            .ok_or(PageError::SessionOver)?;
        parts
            .extensions
            .insert(CsrfSecret(sessions::visit_secret(connection.session)));
        parts.extensions.insert(visitor.clone());
        Ok(visitor)
    }
}

impl Principal for Member {
    const NAME: &'static str = "member";
}
impl FromRequestParts<App> for Member {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        let member = Self::resolve(parts, app).await?;
        match member.next_step() {
            None => Ok(member),
            Some(Step::Password) => Err(PageError::FirstPasswordRequired),
            Some(step) => Err(PageError::FirstStepRequired(step.path())),
        }
    }
}

impl Principal for EstablishmentAdmin {
    const NAME: &'static str = "establishment admin";
}
impl FromRequestParts<App> for EstablishmentAdmin {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        let member = Member::from_request_parts(parts, app).await?;
        match member.role() {
            Role::Admin => Ok(Self(member)),
            Role::Added => Err(PageError::NotFound),
        }
    }
}

impl Principal for Insider {
    const NAME: &'static str = "member at home";
}
impl FromRequestParts<App> for Insider {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        let member = Member::from_request_parts(parts, app).await?;
        match member.acting() {
            None => Ok(Self()),
            Some(_) => Err(PageError::NotFound),
        }
    }
}

impl Principal for Newcomer {
    const NAME: &'static str = "newcomer";
}
impl FromRequestParts<App> for Newcomer {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        let member = Member::resolve(parts, app).await?;
        if member.first_steps.password_is_initial {
            Ok(Self(member))
        } else {
            Err(PageError::NotFound)
        }
    }
}

impl Principal for Beginner {
    const NAME: &'static str = "beginner";
}
impl FromRequestParts<App> for Beginner {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        let member = Member::resolve(parts, app).await?;
        if member.first_steps.password_is_initial {
            Err(PageError::FirstPasswordRequired)
        } else {
            Ok(Self(member))
        }
    }
}

impl Principal for AnyMember {
    const NAME: &'static str = "member or newcomer";
}
impl FromRequestParts<App> for AnyMember {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        Member::resolve(parts, app).await.map(Self)
    }
}

impl Principal for OfficeVisitor {
    const NAME: &'static str = "anyone at the office";
}
impl FromRequestParts<App> for OfficeVisitor {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        if let Some(known) = parts.extensions.get::<Self>() {
            return Ok(known.clone());
        }
        let peer = office(parts)?.peer;
        let visit = cookie(parts, VISIT_COOKIE).unwrap_or_else(random_token);
        let visitor = Self {
            peer,
            csrf: csrf_token(app, &visit),
            visit: visit.clone(),
        };
        parts.extensions.insert(CsrfSecret(visit));
        parts.extensions.insert(visitor.clone());
        Ok(visitor)
    }
}

impl Principal for Staff {
    const NAME: &'static str = "staff";
}
impl FromRequestParts<App> for Staff {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        let staff = Self::resolve(parts, app).await?;
        if staff.password_is_initial {
            return Err(PageError::FirstPasswordRequired);
        }
        Ok(staff)
    }
}

impl Principal for StaffNewcomer {
    const NAME: &'static str = "staff newcomer";
}
impl FromRequestParts<App> for StaffNewcomer {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        let staff = Staff::resolve(parts, app).await?;
        if staff.password_is_initial {
            Ok(Self(staff))
        } else {
            Err(PageError::NotFound)
        }
    }
}

impl Staff {
    async fn resolve(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        if let Some(known) = parts.extensions.get::<Self>() {
            return Ok(known.clone());
        }
        office(parts)?;
        let token = cookie(parts, SESSION_COOKIE).ok_or(PageError::SignInRequired)?;
        let staff = sessions::find_staff(app, &token, app.clock.now())
            .await?
            .ok_or(PageError::SignInRequired)?;
        parts.extensions.insert(CsrfSecret(token));
        parts.extensions.insert(staff.clone());
        Ok(staff)
    }
}

impl Principal for Reviewer {
    const NAME: &'static str = "reviewer";
}
impl FromRequestParts<App> for Reviewer {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        let staff = Staff::from_request_parts(parts, app).await?;
        if staff.may_decide() {
            Ok(Self(staff))
        } else {
            Err(PageError::NotFound)
        }
    }
}

/// Outside a tunnel there are no member pages at all.
fn tunnel(parts: &Parts) -> Result<TunnelConnection, PageError> {
    parts
        .extensions
        .get::<TunnelConnection>()
        .copied()
        .ok_or(PageError::SessionOver)
}

fn office(parts: &Parts) -> Result<OfficeConnection, PageError> {
    parts
        .extensions
        .get::<OfficeConnection>()
        .copied()
        .ok_or(PageError::SignInRequired)
}

/// The value of a cookie of ours.
fn cookie(parts: &Parts, name: &str) -> Option<String> {
    parts
        .headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, value)| *key == name && !value.is_empty())
        .map(|(_, value)| value.to_owned())
}
