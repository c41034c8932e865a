//! From a picture of the agent to HTML. Templates only; no request is read here.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use access::{EndReason, Moment};
use askama::Template;
use protocol::EstablishmentNumber;

use crate::desk::Profile;
use crate::enrolment::Application;
use crate::session_state::{Refused, Session, State};
use crate::status::{StateName, View, clock_time, day_and_time, skew_text, way_text};
use crate::update::{Note, running_version_text};
use crate::urls::GatewayUrl;

/// How often a page without script asks anew, in seconds, while something is under way.
const REFRESH_SOON_S: u32 = 2;

/// The same while nothing is.
const REFRESH_LATER_S: u32 = 30;

/// What a page is made from.
pub struct Shown<'a> {
    /// This moment.
    pub now: Moment,
    /// The anti-forgery token for its forms.
    pub csrf: &'a str,
    /// Whether to go on to the portal once connected.
    pub go: bool,
    /// What was typed.
    pub form: EnrolForm,
    /// The picture.
    pub view: &'a View,
}

/// The enrolment form with what was typed and what is wrong with it.
#[derive(Debug, Default, Clone)]
pub struct EnrolForm {
    gateway: String,
    gateway_error: Option<String>,
    establishment: String,
    establishment_error: Option<String>,
    code_error: Option<String>,
    /// Whether it adds a profile instead of filling this one.
    adds: bool,
}

impl EnrolForm {
    /// An empty form with the gateway of the settings.
    pub fn suggested(gateway: Option<&GatewayUrl>) -> Self {
        Self {
            gateway: gateway.map(ToString::to_string).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// The same form for one more profile.
    pub fn for_another(self) -> Self {
        Self { adds: true, ..self }
    }

    /// Where it is sent.
    fn action(&self) -> &'static str {
        if self.adds { "/profiles/add" } else { "/enrol" }
    }

    /// Reads what was typed; without an application, the form says why.
    pub fn read(gateway: String, establishment: String, code: &str) -> (Self, Option<Application>) {
        let url = gateway.parse::<GatewayUrl>();
        let number = establishment.parse::<EstablishmentNumber>();
        let has_code = !code.trim().is_empty();
        let form = Self {
            gateway_error: url.as_ref().err().map(|e| e.page_text().to_owned()),
            establishment_error: number
                .as_ref()
                .err()
                .map(|_| "事業所番号は4桁または6桁の数字で入力してください。".to_owned()),
            code_error: (!has_code).then(|| "登録コードを入力してください。".to_owned()),
            gateway,
            establishment,
            adds: false,
        };
        let application = match (url, number) {
            (Ok(gateway), Ok(establishment)) if has_code => Some(Application {
                gateway,
                establishment,
                code: code.to_owned(),
            }),
            _ => None,
        };
        (form, application)
    }

    fn has_errors(&self) -> bool {
        self.gateway_error.is_some()
            || self.establishment_error.is_some()
            || self.code_error.is_some()
    }
}

/// What every page has.
pub(super) struct Frame<'a> {
    pub(super) picture: String,
    /// Where the page's script learns of another picture.
    pub(super) source: &'static str,
    pub(super) csrf: &'a str,
    pub(super) fund_name: Option<&'a str>,
    pub(super) notice: Option<&'static str>,
    /// The warning in the title.
    pub(super) warning: Option<&'static str>,
    pub(super) skew: Option<String>,
    pub(super) update: Option<String>,
    pub(super) update_refused: bool,
    pub(super) rehearsal: bool,
    pub(super) refresh_s: Option<u32>,
    pub(super) version: &'static str,
}

#[derive(Template)]
#[template(path = "unenrolled.html")]
struct UnenrolledPage<'a> {
    frame: Frame<'a>,
    form: &'a EnrolForm,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "enrolling.html")]
struct EnrollingPage<'a> {
    frame: Frame<'a>,
}

#[derive(Template)]
#[template(path = "pending.html")]
struct PendingPage<'a> {
    frame: Frame<'a>,
    form: &'a EnrolForm,
    matching_code: &'a str,
    spoken: String,
    device_name: &'a str,
    establishment: &'a str,
    problem: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "ready.html")]
struct ReadyPage<'a> {
    frame: Frame<'a>,
    form: &'a EnrolForm,
    heading: &'static str,
    button: &'static str,
    tone: &'static str,
    sentence: Option<String>,
    next_opening: Option<String>,
    establishment: &'a str,
    establishment_name: Option<&'a str>,
    may_enrol_again: bool,
}

#[derive(Template)]
#[template(path = "connecting.html")]
struct ConnectingPage<'a> {
    frame: Frame<'a>,
    heading: &'static str,
    again: bool,
    go: bool,
    sentence: Option<String>,
    remaining: Option<String>,
}

#[derive(Template)]
#[template(path = "connected.html")]
struct ConnectedPage<'a> {
    frame: Frame<'a>,
    remaining: String,
    ends_at: String,
    will_end: Option<&'static str>,
    way: Option<&'static str>,
    code_mailed_to: Option<&'a str>,
    portal_url: &'a str,
}

#[derive(Template)]
#[template(path = "refused_enrolment.html")]
struct RefusedEnrolmentPage<'a> {
    frame: Frame<'a>,
    form: &'a EnrolForm,
    sentence: &'a str,
}

#[derive(Template)]
#[template(path = "stranger.html")]
struct StrangerPage {
    again: bool,
}

/// The page for a browser without the launch token: no state, no style, one way back.
/// Coming from the portal, a browser leaves the strict cookie out once; `again` tells
/// whether it was asked a second time.
pub fn stranger(again: bool) -> String {
    finish(StrangerPage { again }.render())
}

/// The mark of a picture: two pages with the same mark show the same, but for the seconds.
pub fn picture_of(view: &View) -> String {
    let mut hasher = DefaultHasher::new();
    format!(
        "{:?}",
        (
            &view.state,
            &view.service,
            &view.doubt,
            &view.notice,
            &view.pc,
            &view.skew_s.map(skew_text),
            &view.damage,
            &view.update,
        )
    )
    .hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Whether a session is coming about.
pub fn is_connecting(view: &View) -> bool {
    matches!(
        view.state,
        State::Asking | State::Linking(_) | State::Reconnecting(_)
    )
}

/// Renders the page for the picture.
pub fn render(shown: &Shown<'_>) -> String {
    let view = shown.view;
    match &view.state {
        State::Unenrolled { .. } => unenrolled(shown),
        State::Enrolling { .. } => finish(
            EnrollingPage {
                frame: frame(shown, Some(REFRESH_SOON_S)),
            }
            .render(),
        ),
        State::Pending { problem } => pending(shown, problem.as_deref()),
        State::Ready { .. } => {
            let problem = view.report(shown.now).reason;
            let tone = if problem.is_some() { "warning" } else { "info" };
            ready(shown, "接続できます", "接続", tone, problem)
        }
        State::Asking | State::Linking(_) => connecting(shown, None),
        State::Reconnecting(session) => connecting(shown, Some(session)),
        State::Connected(session) => connected(shown, session),
        State::Refused { sentence, what, .. } => match what {
            Refused::Enrolment => finish(
                RefusedEnrolmentPage {
                    frame: frame(shown, None),
                    form: &shown.form,
                    sentence,
                }
                .render(),
            ),
            Refused::Session => ready(
                shown,
                "ただいま接続できません",
                "もう一度接続する",
                "error",
                Some(sentence.clone()),
            ),
        },
        State::Ended { sentence } => ready(
            shown,
            "接続は終了しました",
            "もう一度接続する",
            "info",
            Some(sentence.clone()),
        ),
    }
}

fn unenrolled(shown: &Shown<'_>) -> String {
    let problem = shown.view.report(shown.now).reason;
    let page = UnenrolledPage {
        frame: frame(shown, None),
        problem: match problem {
            Some(problem) => Some(problem),
            None if shown.form.has_errors() => Some("入力内容をご確認ください。".to_owned()),
            None => None,
        },
        form: &shown.form,
    };
    finish(page.render())
}

fn pending(shown: &Shown<'_>, problem: Option<&str>) -> String {
    let Some(pc) = &shown.view.pc else {
        return unenrolled(shown);
    };
    let spoken: Vec<String> = pc.matching_code.chars().map(String::from).collect();
    let page = PendingPage {
        frame: frame(shown, Some(REFRESH_SOON_S)),
        form: &shown.form,
        matching_code: &pc.matching_code,
        spoken: spoken.join(" "),
        device_name: &pc.device_name,
        establishment: &pc.establishment,
        problem,
    };
    finish(page.render())
}

fn ready(
    shown: &Shown<'_>,
    heading: &'static str,
    button: &'static str,
    tone: &'static str,
    sentence: Option<String>,
) -> String {
    let pc = shown.view.pc.as_ref();
    let next_opening = match &shown.view.state {
        State::Refused { next_opening, .. } => next_opening.map(day_and_time),
        _ => None,
    };
    let page = ReadyPage {
        frame: frame(shown, Some(REFRESH_LATER_S)),
        form: &shown.form,
        heading,
        button,
        tone,
        sentence,
        next_opening,
        establishment: pc.map_or("", |pc| &pc.establishment),
        establishment_name: pc
            .and_then(|pc| pc.approved.as_ref())
            .map(|approved| approved.establishment_name.as_str()),
        may_enrol_again: matches!(shown.view.state, State::Refused { .. }),
    };
    finish(page.render())
}

fn connecting(shown: &Shown<'_>, lost: Option<&Session>) -> String {
    let page = ConnectingPage {
        frame: frame(shown, Some(REFRESH_SOON_S)),
        heading: match lost {
            Some(_) => shown.view.doubt.heading(),
            None => "接続しています",
        },
        again: lost.is_some(),
        go: shown.go,
        sentence: shown.view.report(shown.now).reason,
        remaining: lost.map(|session| spell(session, shown.now)),
    };
    finish(page.render())
}

fn connected(shown: &Shown<'_>, session: &Session) -> String {
    let page = ConnectedPage {
        frame: frame(shown, Some(REFRESH_LATER_S)),
        remaining: spell(session, shown.now),
        ends_at: clock_time(session.ends_at_wall),
        will_end: match session.will_end {
            EndReason::ClosingTime => Some("サービス時間の終了"),
            EndReason::TimeLimit => Some("1回の接続は90分まで"),
            EndReason::Revoked
            | EndReason::Replaced
            | EndReason::Disconnected
            | EndReason::GatewayStopped
            | EndReason::Moved => None,
        },
        way: shown.view.way.map(way_text),
        code_mailed_to: session.code_mailed_to.as_deref(),
        portal_url: &session.portal_url,
    };
    finish(page.render())
}

fn spell(session: &Session, now: Moment) -> String {
    spell_seconds(session.remaining(now.mono).as_secs())
}

fn spell_seconds(left: u64) -> String {
    format!("{}分{:02}秒", left / 60, left % 60)
}

pub(super) fn frame<'a>(shown: &Shown<'a>, refresh_s: Option<u32>) -> Frame<'a> {
    let view = shown.view;
    Frame {
        picture: picture_of(view),
        source: "/status.json",
        csrf: shown.csrf,
        fund_name: view
            .pc
            .as_ref()
            .and_then(|pc| pc.approved.as_ref())
            .map(|approved| approved.fund_name.as_str()),
        notice: view.notice.map(|notice| notice.page_text()),
        warning: view.notice.map(|notice| notice.title()),
        skew: view.skew_s.map(skew_text),
        update: view.update.as_ref().map(Note::page_text),
        update_refused: view.update.as_ref().is_some_and(Note::is_refusal),
        rehearsal: view.service.as_ref().is_some_and(|s| s.rehearsal),
        refresh_s,
        version: running_version_text(),
    }
}

/// One profile in the list.
struct Entry {
    id: String,
    name: String,
    fund_name: Option<String>,
    establishment: Option<String>,
    state: &'static str,
    is_connected: bool,
    remaining: Option<String>,
    matching_code: Option<String>,
    sentence: Option<String>,
}

#[derive(Template)]
#[template(path = "profiles.html")]
struct ProfilesPage<'a> {
    frame: Frame<'a>,
    entries: Vec<Entry>,
    form: &'a EnrolForm,
    problem: Option<&'a str>,
    is_adding: bool,
}

#[derive(Template)]
#[template(path = "remove_profile.html")]
struct RemoveProfilePage<'a> {
    frame: Frame<'a>,
    entry: Entry,
}

/// The mark of a list: see [`picture_of`].
pub fn picture_of_all(profiles: &[Profile]) -> String {
    let mut hasher = DefaultHasher::new();
    for profile in profiles {
        (profile.id, picture_of(&profile.view)).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

/// Renders the list of all profiles.
pub fn render_list(
    profiles: &[Profile],
    csrf: &str,
    form: &EnrolForm,
    problem: Option<&str>,
) -> String {
    let page = ProfilesPage {
        frame: list_frame(profiles, csrf),
        entries: profiles.iter().map(entry).collect(),
        is_adding: problem.is_some() || form.has_errors(),
        form,
        problem,
    };
    finish(page.render())
}

/// Renders the question whether a profile shall be removed.
pub fn render_removal(profile: &Profile, csrf: &str) -> String {
    let page = RemoveProfilePage {
        frame: Frame {
            picture: picture_of(&profile.view),
            // What is asked about does not change by itself.
            source: "",
            ..list_frame(&[], csrf)
        },
        entry: entry(profile),
    };
    finish(page.render())
}

fn list_frame<'a>(profiles: &[Profile], csrf: &'a str) -> Frame<'a> {
    Frame {
        picture: picture_of_all(profiles),
        source: "/profiles.json",
        csrf,
        fund_name: None,
        notice: None,
        warning: None,
        skew: None,
        update: None,
        update_refused: false,
        rehearsal: false,
        refresh_s: Some(REFRESH_SOON_S),
        version: running_version_text(),
    }
}

fn entry(profile: &Profile) -> Entry {
    let report = &profile.report;
    Entry {
        id: profile.id.to_string(),
        name: match (&report.establishment_name, &report.establishment) {
            (Some(name), _) => name.clone(),
            (None, Some(number)) => format!("事業所番号 {number}"),
            (None, None) => "まだ登録されていません".to_owned(),
        },
        fund_name: report.fund_name.clone(),
        establishment: report.establishment.clone(),
        state: report.state.page_text(),
        is_connected: report.state == StateName::Connected,
        remaining: report.remaining_s.map(spell_seconds),
        matching_code: report.matching_code.clone(),
        sentence: report.reason.clone(),
    }
}

pub(super) fn finish(rendered: askama::Result<String>) -> String {
    rendered.unwrap_or_else(|error| {
        tracing::error!(%error, "page not rendered");
        "<!DOCTYPE html><html lang=\"ja\"><title>連携</title><p>画面を表示できませんでした。</p></html>"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::session_state::{Doubt, Notice, Service};
    use crate::status::{Approved, Pc};
    use std::time::Duration;
    use time::macros::datetime;

    fn now() -> Moment {
        Clock::system(None).now()
    }

    fn view(state: State) -> View {
        View {
            update: None,
            state,
            service: None,
            doubt: Doubt::default(),
            notice: None,
            pc: Some(Pc {
                matching_code: "1234-5678".into(),
                establishment: "0123".into(),
                device_name: "<SOUMU-PC>".into(),
                approved: Some(Approved {
                    fund_name: "見本企業年金基金".into(),
                    establishment_name: "株式会社見本".into(),
                    portal_url: "https://portal.example.jp/".into(),
                }),
            }),
            proxy: None,
            skew_s: None,
            damage: None,
            way: None,
            ways: Vec::new(),
            polls: 0,
        }
    }

    fn session(now: Moment) -> Session {
        Session {
            id: protocol::SessionId::from_uuid(uuid::Uuid::from_u128(1)),
            ends_at: now.mono + Duration::from_millis(599_900),
            ends_at_wall: datetime!(2026-11-20 11:30 +9),
            will_end: EndReason::TimeLimit,
            portal_url: "https://portal.example.jp/".into(),
            code_mailed_to: Some("t***@example.jp".into()),
        }
    }

    fn page(view: &View, now: Moment) -> String {
        render(&Shown {
            now,
            csrf: "token",
            go: false,
            form: EnrolForm::suggested(Some(&"https://gw.example.jp".parse().unwrap())),
            view,
        })
    }

    /// Every state with what its page must say.
    fn every_page() -> Vec<(&'static str, View, Vec<&'static str>)> {
        let now = now();
        let sentence = "本日は祝日（勤労感謝の日）のためご利用いただけません。".to_owned();
        let mut unenrolled = view(State::Unenrolled {
            problem: Some("登録コードが違います。".into()),
        });
        unenrolled.pc = None;
        let mut warned = view(State::Connected(session(now)));
        warned.notice = Some(Notice::TenMinutes);
        warned.skew_s = Some(365 * 86_400);
        let mut ready = view(State::Ready { problem: None });
        ready.service = Some(Service {
            open: true,
            sentence: None,
            next_opening: None,
            rehearsal: true,
        });
        let from = Box::new(State::Unenrolled { problem: None });
        let doubtful = |doubt| View {
            doubt,
            ..view(State::Reconnecting(session(now)))
        };
        vec![
            (
                "unenrolled",
                unenrolled,
                vec!["登録コードが違います。", "https://gw.example.jp/"],
            ),
            (
                "enrolling",
                view(State::Enrolling { from }),
                vec!["申請しています"],
            ),
            (
                "pending",
                view(State::Pending { problem: None }),
                vec!["1234-5678", "&#60;SOUMU-PC&#62;", "お電話"],
            ),
            (
                "ready",
                ready,
                vec!["action=\"/connect\"", "株式会社見本", "練習用"],
            ),
            (
                "asking",
                view(State::Asking),
                vec!["接続しています", "取りやめる"],
            ),
            (
                "connected",
                warned,
                vec![
                    "9分59秒",
                    "11:30に",
                    "https://portal.example.jp/",
                    "t***@example.jp",
                    "残り10分",
                    "<title>【残り10分】",
                    "進んで",
                    "action=\"/disconnect\"",
                ],
            ),
            (
                "reconnecting",
                doubtful(Doubt::Lost),
                vec!["つなぎ直して", "9分59秒"],
            ),
            (
                "silent",
                doubtful(Doubt::Silent),
                vec!["応答を待っています", "9分59秒"],
            ),
            (
                "offline",
                doubtful(Doubt::Offline),
                vec!["LANケーブル", "9分59秒"],
            ),
            (
                "awake again",
                doubtful(Doubt::Woke),
                vec!["スリープから復帰", "9分59秒"],
            ),
            (
                "refused",
                view(State::Refused {
                    sentence: sentence.clone(),
                    next_opening: Some(datetime!(2026-11-24 08:00 +9)),
                    what: Refused::Session,
                }),
                vec!["勤労感謝の日", "11月24日（火）8:00"],
            ),
            (
                "refused_enrolment",
                view(State::Refused {
                    sentence,
                    next_opening: None,
                    what: Refused::Enrolment,
                }),
                vec!["勤労感謝の日", "action=\"/enrol\""],
            ),
            (
                "ended",
                view(State::Ended {
                    sentence: EndReason::TimeLimit.page_text().into(),
                }),
                vec!["90分が経過", "もう一度接続する"],
            ),
        ]
    }

    #[test]
    fn every_state_has_a_page_that_says_what_it_must() {
        for (name, view, words) in every_page() {
            let html = page(&view, now());
            for word in words {
                assert!(html.contains(word), "{name}: {word}\n{html}");
            }
            assert_eq!(html.matches("<h1").count(), 1, "{name}");
            assert!(html.contains("<html lang=\"ja\">"), "{name}");
            assert!(
                !html.contains("style=") && !html.contains("<script>"),
                "{name}"
            );
        }
    }

    #[test]
    fn seconds_do_not_change_the_picture_and_everything_else_does() {
        let pages = every_page();
        let mut pictures: Vec<_> = pages.iter().map(|(_, view, _)| picture_of(view)).collect();
        assert_eq!(picture_of(&pages[5].1), pictures[5]);
        pictures.sort();
        pictures.dedup();
        assert_eq!(pictures.len(), pages.len());
    }

    #[test]
    fn a_form_with_mistakes_names_each_and_keeps_what_was_typed() {
        let (form, application) = EnrolForm::read("http://gw".into(), "12345678".into(), " ");
        assert!(application.is_none());
        let mut unenrolled = view(State::Unenrolled { problem: None });
        unenrolled.pc = None;
        let html = render(&Shown {
            now: now(),
            csrf: "token",
            go: false,
            form,
            view: &unenrolled,
        });
        for word in [
            "https://」で始めて",
            "4桁または6桁の数字で",
            "登録コードを入力",
            "value=\"12345678\"",
            "value=\"http://gw\"",
        ] {
            assert!(html.contains(word), "{word}");
        }
        let (_, application) =
            EnrolForm::read("https://gw.example.jp".into(), "０１２３".into(), "ABCD");
        assert_eq!(application.unwrap().establishment.to_string(), "0123");
    }
}
