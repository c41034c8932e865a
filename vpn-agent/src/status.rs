//! What the agent shows of itself: to the page, to `status`, to the control channel.
//!
//! A [`View`] is a still picture of the agent; a [`StatusReport`] is the same picture at one
//! moment, in the words of the contract. Neither holds a secret.

use std::net::SocketAddr;

use access::{JST, Moment, japanese_day};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::link::paths::{Experience, Via, Way};
use crate::session_state::{Doubt, Notice, Refused, Service, Session, State};
use crate::store::profiles::ProfileId;
use crate::update::{self, Note};

/// A still picture of the agent.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// How things stand.
    pub state: State,
    /// What the portal said about the service.
    pub service: Option<Service>,
    /// Why a session is not known to stand, while it is connected anew.
    pub doubt: Doubt,
    /// The warning on show.
    pub notice: Option<Notice>,
    /// What this PC is enrolled as, or asks to be.
    pub pc: Option<Pc>,
    /// Where the loopback proxy listens.
    pub proxy: Option<SocketAddr>,
    /// How far the PC's clock is ahead, in seconds, if it is wrong.
    pub skew_s: Option<i64>,
    /// What is wrong with the stored enrolments, for the user.
    pub damage: Option<String>,
    /// How often this run asked for staff's decision.
    pub polls: u64,
    /// What carries the tunnel.
    pub way: Option<Way>,
    /// What is known of each way.
    pub ways: Vec<(Way, Experience)>,
    /// Where the agent's own update stands.
    pub update: Option<Note>,
}

/// What is known of this PC's enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pc {
    /// What the clerk reads out on the telephone.
    pub matching_code: String,
    /// The establishment's number, four digits.
    pub establishment: String,
    /// What the PC is called.
    pub device_name: String,
    /// What an approval told.
    pub approved: Option<Approved>,
}

/// What is known once staff have approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved {
    /// The fund.
    pub fund_name: String,
    /// The establishment.
    pub establishment_name: String,
    /// The portal's first page.
    pub portal_url: String,
}

/// The states of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// No enrolment.
    Unenrolled,
    /// Staff have to decide.
    Pending,
    /// Can connect.
    Ready,
    /// Connects, or connects anew.
    Connecting,
    /// The tunnel stands.
    Connected,
    /// The fund said no.
    Refused,
    /// The last session is over.
    Ended,
}

/// What carries the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// WireGuard's own UDP.
    Udp,
    /// The fallback over TLS on TCP.
    Tls,
}

/// What is known of one way to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayReport {
    /// What carries the tunnel there.
    pub transport: Transport,
    /// UDP's port.
    pub port: Option<u16>,
    /// What came of it.
    pub result: WayResult,
}

/// What came of trying a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WayResult {
    /// Not tried: another way was faster.
    Untried,
    /// No answer.
    Silent,
    /// Refused.
    Refused,
    /// The gateway answered.
    Answered,
}

/// What `status --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// How things stand.
    pub state: StateName,
    /// Why, for the user.
    pub reason: Option<String>,
    /// When the session ends (RFC 3339).
    pub deadline: Option<String>,
    /// Seconds until then.
    pub remaining_s: Option<u64>,
    /// When the service opens next (RFC 3339).
    pub next_opening: Option<String>,
    /// The loopback proxy, `127.0.0.1:port`.
    pub proxy: Option<String>,
    /// The portal's first page.
    pub portal_url: Option<String>,
    /// What carries the tunnel.
    pub transport: Option<Transport>,
    /// The same in words.
    #[serde(default)]
    pub transport_text: Option<String>,
    /// What the session's search for a way found, while there is one.
    #[serde(default)]
    pub ways: Vec<WayReport>,
    /// What the clerk reads out, while staff have to decide.
    pub matching_code: Option<String>,
    /// The fund.
    pub fund_name: Option<String>,
    /// The establishment's number.
    pub establishment: Option<String>,
    /// The establishment.
    pub establishment_name: Option<String>,
    /// Where the one-time password was mailed to, half hidden.
    pub code_mailed_to: Option<String>,
    /// The warning on show: 10 or 2 minutes.
    pub notice_minutes: Option<u64>,
    /// The warning's sentence.
    pub notice: Option<String>,
    /// How far the PC's clock is ahead, in seconds, if it is wrong.
    pub clock_skew_s: Option<i64>,
    /// A rehearsal calendar that never closes.
    pub rehearsal: bool,
    /// Whether an agent is running.
    pub running: bool,
    /// The version of the program that says so.
    #[serde(default)]
    pub version: String,
    /// Where its update stands, for the user.
    #[serde(default)]
    pub update: Option<String>,
    /// Which of this PC's profiles.
    #[serde(default)]
    pub profile: Option<ProfileId>,
    /// Whether the portal said that the service is closed now.
    #[serde(default)]
    pub closed: bool,
}

impl View {
    /// The picture at `now`.
    pub fn report(&self, now: Moment) -> StatusReport {
        let session = self.state.session();
        let connected = matches!(self.state, State::Connected(_));
        let way = self.way.filter(|_| connected);
        let approved = self.pc.as_ref().and_then(|pc| pc.approved.as_ref());
        let pending = matches!(self.state, State::Pending { .. });
        StatusReport {
            state: StateName::from(&self.state),
            reason: self.reason(),
            deadline: session.and_then(|session| rfc3339(session.ends_at_wall)),
            remaining_s: session.map(|session| session.remaining(now.mono).as_secs()),
            next_opening: self.next_opening().and_then(rfc3339),
            proxy: self.proxy.map(|address| address.to_string()),
            portal_url: session
                .map(|session| session.portal_url.clone())
                .or_else(|| approved.map(|approved| approved.portal_url.clone())),
            transport: way.map(Transport::from),
            transport_text: way.map(|way| way_text(way).to_owned()),
            ways: self.ways.iter().copied().map(WayReport::from).collect(),
            matching_code: self
                .pc
                .as_ref()
                .filter(|_| pending)
                .map(|pc| pc.matching_code.clone()),
            fund_name: approved.map(|approved| approved.fund_name.clone()),
            establishment: self.pc.as_ref().map(|pc| pc.establishment.clone()),
            establishment_name: approved.map(|approved| approved.establishment_name.clone()),
            code_mailed_to: session.and_then(|session| session.code_mailed_to.clone()),
            notice_minutes: self.notice.map(|notice| notice.left().as_secs() / 60),
            notice: self.notice.map(|notice| notice.page_text().to_owned()),
            clock_skew_s: self.skew_s,
            rehearsal: self
                .service
                .as_ref()
                .is_some_and(|service| service.rehearsal),
            running: true,
            version: update::running_version_text().to_owned(),
            update: self.update.as_ref().map(Note::page_text),
            profile: None,
            closed: self.is_closed(),
        }
    }

    /// Whether the portal said, when last asked, that the service is closed.
    pub fn is_closed(&self) -> bool {
        self.service.as_ref().is_some_and(|service| !service.open)
    }

    /// The sentence that belongs to the state.
    fn reason(&self) -> Option<String> {
        match &self.state {
            State::Unenrolled { problem } => problem.clone().or_else(|| self.damage.clone()),
            State::Pending { problem } => problem.clone(),
            State::Ready { problem } => problem.clone().or_else(|| self.closed_sentence()),
            State::Enrolling { .. } => Some("登録を申請しています。".to_owned()),
            State::Asking | State::Linking(_) | State::Connected(_) => None,
            State::Reconnecting(_) => Some(self.doubt.page_text().to_owned()),
            State::Refused { sentence, .. } | State::Ended { sentence } => Some(sentence.clone()),
        }
    }

    fn closed_sentence(&self) -> Option<String> {
        let service = self.service.as_ref().filter(|service| !service.open)?;
        service.sentence.clone()
    }

    /// When the service opens next, as far as the portal has said.
    pub fn next_opening(&self) -> Option<OffsetDateTime> {
        let refused = match &self.state {
            State::Refused { next_opening, .. } => *next_opening,
            State::Unenrolled { .. }
            | State::Enrolling { .. }
            | State::Pending { .. }
            | State::Ready { .. }
            | State::Asking
            | State::Linking(_)
            | State::Connected(_)
            | State::Reconnecting(_)
            | State::Ended { .. } => None,
        };
        refused.or_else(|| self.service.as_ref()?.next_opening)
    }
}

impl From<&State> for StateName {
    fn from(state: &State) -> Self {
        match state {
            State::Unenrolled { .. } => Self::Unenrolled,
            State::Enrolling { from } => Self::from(&**from),
            State::Pending { .. } => Self::Pending,
            State::Ready { .. } => Self::Ready,
            State::Asking | State::Linking(_) | State::Reconnecting(_) => Self::Connecting,
            State::Connected(_) => Self::Connected,
            State::Refused { .. } => Self::Refused,
            State::Ended { .. } => Self::Ended,
        }
    }
}

impl StateName {
    /// What the user is told.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::Unenrolled => "未登録",
            Self::Pending => "承認待ち",
            Self::Ready => "接続できます",
            Self::Connecting => "接続しています",
            Self::Connected => "接続中",
            Self::Refused => "利用できません",
            Self::Ended => "切断しました",
        }
    }
}

/// What a PC that could connect, at another hour, is called.
pub const CLOSED_TEXT: &str = "ただいまはご利用時間外です";

impl StatusReport {
    /// The state, in a few words for the user.
    pub fn state_text(&self) -> &'static str {
        if self.state == StateName::Ready && self.closed {
            CLOSED_TEXT
        } else {
            self.state.page_text()
        }
    }

    /// A few lines for a person at the command line.
    pub fn to_text(&self) -> String {
        let state = self.state_text();
        let mut lines = vec![format!("状態: {state}")];
        let mut line = |label: &str, value: Option<String>| {
            if let Some(value) = value {
                lines.push(format!("{label}: {value}"));
            }
        };
        line("説明", self.reason.clone());
        line("照合番号", self.matching_code.clone());
        line("基金", self.fund_name.clone());
        line("事業所", self.establishment_name.clone());
        line("終了時刻", self.deadline.as_deref().and_then(said));
        line(
            "残り時間",
            self.remaining_s
                .map(|left| format!("{}分{:02}秒", left / 60, left % 60)),
        );
        line(
            "次回のご利用開始",
            self.next_opening.as_deref().and_then(said),
        );
        line("通信方法", self.transport_text.clone());
        line("業務画面", self.portal_url.clone());
        line("プロキシ", self.proxy.clone());
        line("お知らせ", self.notice.clone());
        line("更新", self.update.clone());
        line("時計", self.clock_skew_s.map(skew_text));
        lines.join("\n")
    }
}

impl From<Way> for Transport {
    fn from(way: Way) -> Self {
        match way {
            Way::Udp(_) => Self::Udp,
            Way::Tls(_) => Self::Tls,
        }
    }
}

impl From<(Way, Experience)> for WayReport {
    fn from((way, experience): (Way, Experience)) -> Self {
        Self {
            transport: way.into(),
            port: match way {
                Way::Udp(remote) => Some(remote.port()),
                Way::Tls(_) => None,
            },
            result: match experience {
                Experience::Untried => WayResult::Untried,
                Experience::Silent => WayResult::Silent,
                Experience::Refused => WayResult::Refused,
                Experience::Answered => WayResult::Answered,
            },
        }
    }
}

/// How the tunnel runs, in words.
pub fn way_text(way: Way) -> &'static str {
    match way {
        Way::Udp(_) => "UDPで接続中",
        Way::Tls(Via::Straight) => "HTTPSで接続中",
        Way::Tls(Via::Proxy) => "HTTPS（プロキシ経由）で接続中",
    }
}

/// What a user with a wrong clock is told.
pub fn skew_text(skew_s: i64) -> String {
    let (days, hours, minutes) = (
        skew_s.unsigned_abs() / 86_400,
        skew_s.unsigned_abs() / 3600,
        skew_s.unsigned_abs() / 60,
    );
    let amount = match (days, hours) {
        (1.., _) => format!("約{days}日"),
        (0, 1..) => format!("約{hours}時間"),
        (0, 0) => format!("約{minutes}分"),
    };
    let direction = if skew_s > 0 { "進んで" } else { "遅れて" };
    format!(
        "このパソコンの時計が{amount}{direction}います。接続はできますが、日付と時刻の設定をご確認ください。"
    )
}

/// A time of day as people read it: `11:30`.
pub fn clock_time(time: OffsetDateTime) -> String {
    let local = time.to_offset(JST);
    format!("{}:{:02}", local.hour(), local.minute())
}

/// A day and time as people read it: `11月24日（火）8:00`.
pub fn day_and_time(time: OffsetDateTime) -> String {
    let local = time.to_offset(JST);
    format!("{}{}", japanese_day(local.date()), clock_time(local))
}

/// A time of the report, as people read it.
fn said(rfc3339: &str) -> Option<String> {
    let time = OffsetDateTime::parse(rfc3339, &Rfc3339).ok()?;
    Some(day_and_time(time))
}

/// RFC 3339 in Japan's time. `None` for years that the format does not have.
fn rfc3339(time: OffsetDateTime) -> Option<String> {
    time.to_offset(JST).format(&Rfc3339).ok()
}

/// The picture of an agent that is not running, from what is on disk.
pub fn at_rest(view: &View, now: Moment) -> StatusReport {
    StatusReport {
        running: false,
        proxy: None,
        ..view.report(now)
    }
}

impl View {
    /// The session on show, if there is one.
    pub fn session(&self) -> Option<&Session> {
        self.state.session()
    }

    /// Whether the way on is another registration code.
    pub fn wants_code(&self) -> bool {
        match &self.state {
            State::Unenrolled { .. } => true,
            State::Enrolling { from } => matches!(**from, State::Unenrolled { .. }),
            State::Refused { what, .. } => *what == Refused::Enrolment,
            State::Pending { .. }
            | State::Ready { .. }
            | State::Asking
            | State::Linking(_)
            | State::Connected(_)
            | State::Reconnecting(_)
            | State::Ended { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use access::EndReason;
    use std::time::Duration;
    use time::macros::datetime;

    fn view(state: State) -> View {
        View {
            update: None,
            state,
            service: None,
            doubt: Doubt::default(),
            notice: None,
            pc: None,
            proxy: Some(([127, 0, 0, 1], 4000).into()),
            skew_s: None,
            damage: None,
            polls: 0,
            way: None,
            ways: Vec::new(),
        }
    }

    #[test]
    fn a_connected_report_has_what_the_contract_names() {
        let now = Clock::system(None).now();
        let session = Session {
            id: protocol::SessionId::from_uuid(uuid::Uuid::from_u128(1)),
            ends_at: now.mono + Duration::from_secs(61),
            ends_at_wall: datetime!(2026-11-20 02:30 UTC),
            will_end: EndReason::TimeLimit,
            portal_url: "https://portal.example.jp/".into(),
            code_mailed_to: None,
        };
        let mut view = view(State::Connected(session));
        view.way = Some(Way::Udp(([192, 0, 2, 1], 443).into()));
        let report = view.report(now);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["state"], "connected");
        assert_eq!(json["deadline"], "2026-11-20T11:30:00+09:00");
        assert_eq!(json["remaining_s"], 61);
        assert_eq!(json["proxy"], "127.0.0.1:4000");
        assert_eq!(json["portal_url"], "https://portal.example.jp/");
        assert_eq!(json["transport"], "udp");
        assert_eq!(json["transport_text"], "UDPで接続中");
        view.way = Some(Way::Tls(Via::Proxy));
        let json = serde_json::to_value(view.report(now)).unwrap();
        assert_eq!(json["transport"], "tls");
        assert_eq!(json["transport_text"], "HTTPS（プロキシ経由）で接続中");
        for key in ["reason", "next_opening"] {
            assert!(
                json.get(key).is_some_and(serde_json::Value::is_null),
                "{key}"
            );
        }
    }

    #[test]
    fn a_refusal_names_the_next_opening() {
        let state = State::Refused {
            sentence: "本日は祝日です。".into(),
            next_opening: Some(datetime!(2026-11-24 08:00 +9)),
            what: Refused::Session,
        };
        let report = view(state).report(Clock::system(None).now());
        assert_eq!(report.reason.as_deref(), Some("本日は祝日です。"));
        assert_eq!(
            report.next_opening.as_deref(),
            Some("2026-11-24T08:00:00+09:00")
        );
        assert_eq!(
            day_and_time(datetime!(2026-11-23 23:00 UTC)),
            "11月24日（火）8:00"
        );
        let text = report.to_text();
        assert!(
            text.contains("次回のご利用開始: 11月24日（火）8:00"),
            "{text}"
        );
    }

    #[test]
    fn outside_the_hours_nothing_says_that_the_pc_can_connect() {
        let sentence = "土曜日・日曜日はご利用いただけません。次回は11月24日（火）8:00からご利用いただけます。";
        let mut view = view(State::Ready { problem: None });
        view.service = Some(Service {
            open: false,
            sentence: Some(sentence.to_owned()),
            next_opening: Some(datetime!(2026-11-24 08:00 +9)),
            rehearsal: false,
        });
        let report = view.report(Clock::system(None).now());
        let text = report.to_text();
        assert!(
            text.contains(CLOSED_TEXT) && text.contains(sentence),
            "{text}"
        );
        assert!(!text.contains("接続できます"), "{text}");
    }

    #[test]
    fn a_wrong_clock_is_told_in_words() {
        assert!(skew_text(365 * 86_400).contains("約365日進んで"));
        assert!(skew_text(-7200).contains("約2時間遅れて"));
        assert!(skew_text(-180).contains("約3分遅れて"));
    }
}
