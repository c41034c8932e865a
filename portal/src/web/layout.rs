//! What surrounds every page: the fund's name, who is signed in, the time left, the menu.

use time::OffsetDateTime;

use super::dates;
use super::principals::{Member, OfficeVisitor, Staff, Visitor};
use crate::app::App;
use crate::clock::unix_ms;
use crate::establishments::Role;
use crate::permissions::Permission;

/// Which of the two sets of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// 事業所
    Member,
    /// 基金事務局
    Office,
}

/// A menu's entry of the member pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberPage {
    /// ホーム
    Home,
    /// 届書を提出する
    Submit,
    /// 提出履歴
    History,
    /// 通知書
    Notices,
    /// 利用者とパソコン; for admins alone.
    People,
    /// 設定
    Settings,
}

/// A menu's entry of the office pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfficePage {
    /// 審査
    Review,
    /// 通知書
    Notices,
    /// 事業所
    Establishments,
    /// パソコン
    Devices,
    /// 届書の種類
    FilingKinds,
    /// 利用日カレンダー
    Calendar,
    /// 承認
    Approvals,
}

/// One entry of the menu.
#[derive(Debug, Clone)]
pub struct MenuItem {
    /// Its words.
    pub label: &'static str,
    /// Where it leads.
    pub href: &'static str,
    /// Whether the page belongs to it.
    pub current: bool,
}

/// How long the tunnel session lasts.
#[derive(Debug, Clone)]
pub struct DeadlineLine {
    /// Unix milliseconds.
    pub deadline_ms: i64,
    /// The portal's clock, for PCs whose clock is wrong.
    pub now_ms: i64,
    /// For the `datetime` attribute.
    pub machine: String,
    /// `13:05`
    pub clock: String,
    /// Whole minutes left.
    pub minutes_left: i64,
}

/// Everything `member.html` and `office.html` need. Every page's template has one, in a
/// field called `layout`.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The fund's name.
    pub fund_name: String,
    /// Whom to ask.
    pub fund_contact: String,
    /// Whether to say that this is a rehearsal.
    pub rehearsal: bool,
    /// The establishment's number and name, or `None` before sign-in and at the office.
    pub establishment: Option<(String, String)>,
    /// Who is signed in: name and role.
    pub person: Option<(String, &'static str)>,
    /// The time left.
    pub deadline: Option<DeadlineLine>,
    /// The menu; empty if nobody is signed in.
    pub menu: Vec<MenuItem>,
    /// The anti-forgery token for forms; empty if there is no session.
    pub csrf: String,
}

impl Layout {
    /// Around a page of a member.
    pub fn member(app: &App, member: &Member, here: MemberPage, now: OffsetDateTime) -> Self {
        Self {
            menu: MemberPage::ALL
                .iter()
                .copied()
                .filter(|page| page.is_for(member))
                .map(|page| page.item(page == here))
                .collect(),
            ..Self::member_without_menu(app, member, now)
        }
    }

    /// Around a page of a member who must do something first.
    pub fn member_without_menu(app: &App, member: &Member, now: OffsetDateTime) -> Self {
        Self {
            establishment: Some((
                member.establishment_number().to_string(),
                member.establishment_name().to_owned(),
            )),
            person: Some((member.name().to_owned(), member.role().page_text())),
            deadline: Some(DeadlineLine::new(member.deadline(), now)),
            csrf: member.csrf().to_owned(),
            ..Self::stranger(app, Side::Member)
        }
    }

    /// Around the members' sign-in page.
    pub fn visitor(app: &App, visitor: &Visitor, now: OffsetDateTime) -> Self {
        Self {
            establishment: Some((
                visitor.establishment_number().to_string(),
                visitor.establishment_name().to_owned(),
            )),
            deadline: Some(DeadlineLine::new(visitor.deadline(), now)),
            csrf: visitor.csrf().to_owned(),
            ..Self::stranger(app, Side::Member)
        }
    }

    /// Around a page of the office.
    pub fn office(app: &App, staff: &Staff, here: OfficePage) -> Self {
        Self {
            menu: OfficePage::ALL
                .iter()
                .map(|page| page.item(*page == here))
                .collect(),
            person: Some((staff.name().to_owned(), staff.role().page_text())),
            csrf: staff.csrf().to_owned(),
            ..Self::stranger(app, Side::Office)
        }
    }

    /// Around the office's sign-in page.
    pub fn office_visitor(app: &App, visitor: &OfficeVisitor) -> Self {
        Self {
            csrf: visitor.csrf().to_owned(),
            ..Self::stranger(app, Side::Office)
        }
    }

    /// Around a page for nobody in particular.
    pub fn stranger(app: &App, side: Side) -> Self {
        let fund_name = &app.config.fund_name;
        Self {
            fund_name: match side {
                Side::Member => fund_name.clone(),
                Side::Office => format!("{fund_name} 事務局"),
            },
            fund_contact: app.config.fund_contact.clone(),
            rehearsal: app.config.rehearsal,
            establishment: None,
            person: None,
            deadline: None,
            menu: Vec::new(),
            csrf: String::new(),
        }
    }
}

impl DeadlineLine {
    fn new(deadline: OffsetDateTime, now: OffsetDateTime) -> Self {
        Self {
            deadline_ms: unix_ms(deadline),
            now_ms: unix_ms(now),
            machine: dates::machine(deadline),
            clock: dates::clock(deadline),
            minutes_left: (deadline - now).whole_minutes().max(0),
        }
    }
}

impl MemberPage {
    const ALL: &[Self] = &[
        Self::Home,
        Self::Submit,
        Self::History,
        Self::Notices,
        Self::People,
        Self::Settings,
    ];

    /// Whether the member may open it.
    fn is_for(self, member: &Member) -> bool {
        match self {
            Self::Home | Self::Settings => true,
            Self::People => member.role() == Role::Admin,
            Self::Submit => member.may(Permission::File),
            Self::History => member.may(Permission::File) || member.may(Permission::History),
            Self::Notices => member.may(Permission::Fetch),
        }
    }

    fn item(self, current: bool) -> MenuItem {
        let (label, href) = match self {
            Self::Home => ("ホーム", "/"),
            Self::Submit => ("届書を提出する", "/filings/new"),
            Self::History => ("提出履歴", "/filings"),
            Self::Notices => ("通知書", "/notices"),
            Self::People => ("利用者", "/users"),
            Self::Settings => ("設定", "/settings"),
        };
        MenuItem {
            label,
            href,
            current,
        }
    }
}

impl OfficePage {
    const ALL: &[Self] = &[
        Self::Review,
        Self::Notices,
        Self::Establishments,
        Self::Devices,
        Self::FilingKinds,
        Self::Calendar,
        Self::Approvals,
    ];

    fn item(self, current: bool) -> MenuItem {
        let (label, href) = match self {
            Self::Review => ("審査", "/filings"),
            Self::Notices => ("通知書", "/notices"),
            Self::Establishments => ("事業所", "/establishments"),
            Self::Devices => ("パソコン", "/devices"),
            Self::FilingKinds => ("届書の種類", "/filing-kinds"),
            Self::Calendar => ("利用日カレンダー", "/calendar"),
            Self::Approvals => ("承認", "/approvals"),
        };
        MenuItem {
            label,
            href,
            current,
        }
    }
}
