//! From a picture of the agent to HTML. Templates only; no request is read here.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use access::{EndReason, Moment};
use askama::Template;
use protocol::EstablishmentNumber;

use crate::enrolment::Application;
use crate::session_state::{Refused, Session, State};
use crate::status::{View, clock_time, day_and_time, skew_text, way_text};
use crate::update::{Note, running_version_text};
use crate::urls::GatewayUrl;

/// How often a page without script asks anew, in seconds, while something is under way.
pub(super) const REFRESH_SOON_S: u32 = 2;

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
    pub(super) gateway: String,
    pub(super) gateway_error: Option<String>,
    pub(super) establishment: String,
    pub(super) establishment_error: Option<String>,
    pub(super) code_error: Option<String>,
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
    pub(super) fn action(&self) -> &'static str {
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

    pub(super) fn has_errors(&self) -> bool {
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
    /// What kind of problem it is.
    heading: &'static str,
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
            ready(
                shown,
                view.report(shown.now).state_text(),
                "接続",
                tone,
                problem,
            )
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
    // Nothing was asked for: what is there from before cannot be used.
    let is_damage = matches!(shown.view.state, State::Unenrolled { problem: None });
    let page = UnenrolledPage {
        frame: frame(shown, None),
        heading: if is_damage && problem.is_some() {
            "これまでの登録を利用できません"
        } else {
            "登録を申請できませんでした"
        },
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
    // What ended a session may have been the closing time, and names no other day; what is said
    // before one does.
    let says_when = matches!(shown.view.state, State::Ready { .. });
    let next_opening = shown.view.next_opening().filter(|_| !says_when);
    let page = ReadyPage {
        frame: frame(shown, Some(REFRESH_LATER_S)),
        form: &shown.form,
        heading,
        button,
        tone,
        sentence,
        next_opening: next_opening.map(day_and_time),
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

pub(super) fn spell_seconds(left: u64) -> String {
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

pub(super) fn finish(rendered: askama::Result<String>) -> String {
    rendered.unwrap_or_else(|error| {
        tracing::error!(%error, "page not rendered");
        "<!DOCTYPE html><html lang=\"ja\"><title>連携</title><p>画面を表示できませんでした。</p></html>"
            .to_owned()
    })
}

#[cfg(test)]
mod tests;
