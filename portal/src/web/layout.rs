//! What surrounds every page: the fund's name, who is signed in, the time left, the menu.

use time::OffsetDateTime;

use super::dates;
use super::principals::{Member, OfficeVisitor, Staff, Visitor};
use crate::app::App;
use crate::clock::unix_ms;
use crate::delegations::EstablishmentKind;
use crate::establishments::Role;
use crate::permissions::Permission;
use crate::staff::StaffRole;

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
    /// 送受信履歴
    Exchange,
    /// 利用者とパソコン; for admins alone.
    People,
    /// 代理する事業所; for who has clients.
    Desk,
    /// 代理の設定; for admins alone.
    Delegations,
    /// お問い合わせ
    Contact,
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
    /// 送受信履歴
    Exchange,
    /// 事業所
    Establishments,
    /// パソコン
    Devices,
    /// 届書の種類
    FilingKinds,
    /// 利用日カレンダー
    Calendar,
    /// お知らせ
    Announcements,
    /// お問い合わせ
    Inquiries,
    /// タスク
    Tasks,
    /// 統計
    Reports,
    /// 承認
    Approvals,
    /// 操作の記録; for supervisors and system administrators.
    Audit,
    /// 職員; for system administrators alone.
    Staff,
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

/// Entries of the menu that belong together.
#[derive(Debug, Clone)]
pub struct MenuGroup {
    /// What they are about; empty where one group is all.
    pub label: &'static str,
    /// They.
    pub items: Vec<MenuItem>,
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

/// For whom a delegate acts, on every page.
#[derive(Debug, Clone)]
pub struct ActingLine {
    /// Who is represented.
    pub client: String,
    /// Its number.
    pub number: String,
    /// The delegate's own office.
    pub office: String,
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
    /// Whom the member acts for, if not for the own establishment.
    pub acting: Option<ActingLine>,
    /// Who is signed in: name and role.
    pub person: Option<(String, &'static str)>,
    /// The time left.
    pub deadline: Option<DeadlineLine>,
    /// The menu; empty if nobody is signed in.
    pub menu: Vec<MenuGroup>,
    /// The anti-forgery token for forms; empty if there is no session.
    pub csrf: String,
}

impl Layout {
    /// Around a page of a member.
    pub fn member(app: &App, member: &Member, here: MemberPage, now: OffsetDateTime) -> Self {
        let items = MemberPage::ALL
            .iter()
            .copied()
            .filter(|page| page.is_for(member))
            .map(|page| page.item(page == here))
            .collect();
        Self {
            menu: vec![MenuGroup { label: "", items }],
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
            person: Some((
                member.name().to_owned(),
                match member.acting() {
                    None => member.role().page_text(),
                    Some(_) => "代理",
                },
            )),
            acting: member.acting().map(|acting| ActingLine {
                client: acting.name.clone(),
                number: acting.number.to_string(),
                office: member.home_name().to_owned(),
            }),
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
        let group = |(label, pages): &(&'static str, &[OfficePage])| MenuGroup {
            label,
            items: pages
                .iter()
                .filter(|page| page.is_for(staff))
                .map(|page| page.item(*page == here))
                .collect(),
        };
        let groups = OfficePage::GROUPS.iter().map(group);
        Self {
            menu: groups.filter(|group| !group.items.is_empty()).collect(),
            person: Some((staff.name().to_owned(), staff.role().page_text())),
            csrf: staff.csrf().to_owned(),
            ..Self::stranger(app, Side::Office)
        }
    }

    /// Around a page of the office that belongs to no entry of the menu.
    pub fn office_aside(app: &App, staff: &Staff) -> Self {
        let mut layout = Self::office(app, staff, OfficePage::Review);
        for item in layout.menu.iter_mut().flat_map(|group| &mut group.items) {
            item.current = false;
        }
        layout
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
            acting: None,
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
        Self::Exchange,
        Self::Desk,
        Self::People,
        Self::Delegations,
        Self::Contact,
        Self::Settings,
    ];

    /// Whether the member may open it.
    fn is_for(self, member: &Member) -> bool {
        match self {
            Self::Home | Self::Settings => true,
            Self::Contact => member.acting().is_none(),
            Self::People | Self::Delegations => member.role() == Role::Admin,
            Self::Desk => {
                member.clients() > 0 || member.home_kind() == EstablishmentKind::Sharoushi
            }
            Self::Submit => member.may(Permission::File),
            Self::History => member.may(Permission::File) || member.may(Permission::History),
            Self::Notices => member.may(Permission::Fetch),
            Self::Exchange => member.may(Permission::History),
        }
    }

    fn item(self, current: bool) -> MenuItem {
        let (label, href) = match self {
            Self::Home => ("ホーム", "/"),
            Self::Submit => ("届書を提出する", "/filings/new"),
            Self::History => ("提出履歴", "/filings"),
            Self::Notices => ("通知書", "/notices"),
            Self::Desk => ("代理する事業所", "/desk"),
            Self::Delegations => ("代理の設定", "/delegations"),
            Self::Exchange => ("送受信履歴", "/history"),
            Self::People => ("利用者", "/users"),
            Self::Contact => ("お問い合わせ", "/contact"),
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
    /// Whether somebody of the staff may open it.
    fn is_for(self, staff: &Staff) -> bool {
        match self {
            Self::Review
            | Self::Notices
            | Self::Exchange
            | Self::Announcements
            | Self::Inquiries
            | Self::Tasks => staff.may_decide(),
            Self::Staff => staff.role() == StaffRole::SystemAdmin,
            Self::Audit => match staff.role() {
                StaffRole::Supervisor | StaffRole::SystemAdmin => true,
                StaffRole::Reviewer => false,
            },
            Self::Establishments
            | Self::Devices
            | Self::FilingKinds
            | Self::Calendar
            | Self::Reports
            | Self::Approvals => true,
        }
    }

    /// The menu: what the office does with documents, with people, and what it keeps.
    const GROUPS: &[(&str, &[Self])] = &[
        (
            "届書と通知書",
            &[Self::Review, Self::Notices, Self::Exchange],
        ),
        (
            "確認と連絡",
            &[
                Self::Approvals,
                Self::Tasks,
                Self::Inquiries,
                Self::Announcements,
            ],
        ),
        ("利用者", &[Self::Establishments, Self::Devices]),
        (
            "設定と記録",
            &[
                Self::Calendar,
                Self::FilingKinds,
                Self::Reports,
                Self::Audit,
                Self::Staff,
            ],
        ),
    ];

    fn item(self, current: bool) -> MenuItem {
        let (label, href) = match self {
            Self::Review => ("審査", "/filings"),
            Self::Notices => ("通知書", "/notices"),
            Self::Exchange => ("送受信履歴", "/history"),
            Self::Establishments => ("事業所", "/establishments"),
            Self::Devices => ("パソコン", "/devices"),
            Self::FilingKinds => ("届書の種類", "/filing-kinds"),
            Self::Calendar => ("利用日カレンダー", "/calendar"),
            Self::Announcements => ("お知らせ", "/announcements"),
            Self::Inquiries => ("お問い合わせ", "/inquiries"),
            Self::Tasks => ("タスク", "/tasks"),
            Self::Reports => ("統計", "/reports"),
            Self::Approvals => ("承認", "/approvals"),
            Self::Audit => ("操作の記録", "/audit"),
            Self::Staff => ("職員", "/staff"),
        };
        MenuItem {
            label,
            href,
            current,
        }
    }
}
