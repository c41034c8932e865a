//! The agent whole, against a fund on loopback: enrol, connect, browse, end.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::agent_api::{EndCode, RefusalCode};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::agent::{Agent, Command, Senses};
use crate::clock::{Clock, to_unix_ms};
use crate::config::Config;
use crate::control::{self, Claim, Reply, Request};
use crate::desk::{Desk, Landing, WindowRequest};
use crate::dial::settings::ProxySettings;
use crate::enrolment::Application;
use crate::fake_fund::{CODE, FakeFund, PORTAL, refusal};
use crate::link::pulse::Rates;
use crate::network::Seen;
use crate::os::{Lookout, Notification, Notifier};
use crate::proxy::PAGE_HOST;
use crate::session_state::{Refused, State};
use crate::status::{StateName, View};
use crate::store::Store;
use crate::store::profiles::ProfileId;

mod care;
mod commands;
mod gateways;
mod profiles;
mod states;
mod ways;

const LIMIT: Duration = Duration::from_secs(20);
const YEAR: time::Duration = time::Duration::days(365);

struct Pc {
    folder: TempDir,
    fund: FakeFund,
    desk: Desk,
    /// The first profile.
    agent: Agent,
    windows: mpsc::Receiver<WindowRequest>,
    config: Config,
    /// What was said beside the window.
    said: Arc<Said>,
    /// What the agent sees of the network.
    sight: Arc<Sight>,
}

impl Pc {
    async fn start() -> Self {
        Self::with_fund(FakeFund::start().await, time::Duration::ZERO)
    }

    fn with_fund(fund: FakeFund, wall_error: time::Duration) -> Self {
        Self::behind(ProxySettings::None, fund, wall_error)
    }

    fn behind(proxy: ProxySettings, fund: FakeFund, wall_error: time::Duration) -> Self {
        let ca_pem = fund.ca_pem();
        Self::believing(&ca_pem, proxy, fund, wall_error)
    }

    fn believing(
        ca_pem: &str,
        proxy: ProxySettings,
        fund: FakeFund,
        wall_error: time::Duration,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, ca_pem).unwrap();
        let config = Config {
            update_key: None,
            data_dir: folder.path().join("data"),
            gateway_url: None,
            gateway_ca_file: Some(ca_file),
            browser: None,
            browser_args: Vec::new(),
            proxy_port: 0,
            proxy,
        };
        let said = Arc::new(Said::default());
        let sight = Arc::new(Sight::default());
        let (desk, windows) = start_desk(&config, wall_error, said.clone(), sight.clone());
        Self {
            folder,
            fund,
            agent: desk.agent(ProfileId::FIRST).unwrap(),
            desk,
            windows,
            config,
            said,
            sight,
        }
    }

    /// Ends the agent and starts it again, on a PC whose clock is off by `wall_error`.
    async fn restart(&mut self, wall_error: time::Duration) {
        self.desk.end().await;
        let (said, sight) = (self.said.clone(), self.sight.clone());
        (self.desk, self.windows) = start_desk(&self.config, wall_error, said, sight);
        self.agent = self.desk.agent(ProfileId::FIRST).unwrap();
    }

    async fn enrol(&self, code: &str) -> Result<(), String> {
        let application = Application {
            gateway: self.fund.url.parse().unwrap(),
            establishment: "0123".parse().unwrap(),
            code: code.into(),
        };
        self.agent.enrol(application).await
    }

    async fn until(&self, wish: impl Fn(&View) -> bool) {
        let came = self.agent.wait_for(LIMIT, wish).await;
        assert!(came, "{:?}", self.agent.view());
    }

    async fn until_state(&self, state: StateName) {
        self.until(|view| StateName::from(&view.state) == state)
            .await;
    }

    async fn become_ready(&self) {
        self.fund.decide(|decisions| decisions.approve = true);
        self.enrol(CODE).await.unwrap();
        self.until_state(StateName::Ready).await;
    }

    async fn connect(&self) {
        self.agent.tell(Command::Connect).await;
        self.until_state(StateName::Connected).await;
    }

    async fn until_route(&self) {
        let there = async {
            while self.agent.route().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, there).await.unwrap();
    }

    /// After this both ends know that the tunnel stands.
    async fn exchange_a_byte(&self) {
        let link = self.agent.route().unwrap().link;
        let mut stream = link.open_stream().await.unwrap();
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
    }

    /// The first profile's proxy, and the address of its page.
    async fn serve_proxy(&self) -> (SocketAddr, String) {
        let served = self.desk.serve(ProfileId::FIRST).await.unwrap();
        (served.proxy, served.url(Landing::Profile))
    }
}

fn start_desk(
    config: &Config,
    wall_error: time::Duration,
    said: Arc<Said>,
    sight: Arc<Sight>,
) -> (Desk, mpsc::Receiver<WindowRequest>) {
    let starter = move |config: &Config, store: Store| {
        let clock = Clock::with_wall_error(store.time_floor(), wall_error);
        let pulse = Rates {
            busy: Duration::from_millis(200),
            open: Duration::from_millis(200),
            idle: Duration::from_millis(200),
        };
        let senses = Senses {
            pulse,
            notifier: said.clone(),
            lookout: sight.clone(),
        };
        Agent::start_with(config, store, Arc::new(clock), senses)
    };
    let (sender, windows) = mpsc::channel(4);
    let store = Store::open(&config.data_dir).unwrap();
    let desk = Desk::start_with(config, store, sender, Box::new(starter)).unwrap();
    (desk, windows)
}

/// Remembers what is said beside the window.
#[derive(Debug, Default)]
struct Said(Mutex<Vec<Notification>>);

impl Said {
    fn titles(&self) -> Vec<String> {
        let said = self.0.lock().unwrap();
        said.iter().map(|said| said.title.clone()).collect()
    }
}

/// What the agent sees of the network: a PC whose cable is pulled and moved as the story wants.
#[derive(Debug)]
struct Sight(Mutex<Option<IpAddr>>);

impl Default for Sight {
    fn default() -> Self {
        Self(Mutex::new(Some([192, 0, 2, 1].into())))
    }
}

impl Sight {
    fn pull_the_cable(&self) {
        *self.0.lock().unwrap() = None;
    }

    fn put_the_cable_in(&self, address: [u8; 4]) {
        *self.0.lock().unwrap() = Some(address.into());
    }
}

impl Lookout for Sight {
    fn network(&self) -> Seen {
        let is_cut = self.0.lock().unwrap().is_none();
        Seen {
            network: None,
            is_cut,
        }
    }

    fn source_address(&self, _target: SocketAddr) -> Option<IpAddr> {
        *self.0.lock().unwrap()
    }
}

impl Notifier for Said {
    fn notify(&self, notification: &Notification) {
        self.0.lock().unwrap().push(notification.clone());
    }
}

/// Sends `head` to the proxy and reads the answer until it ends or `enough` bytes are there.
async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = vec![0; 64 * 1024];
    let mut length = 0;
    let read = async {
        while let Ok(count @ 1..) = stream.read(&mut answer[length..]).await {
            length += count;
            let text = String::from_utf8_lossy(&answer[..length]);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let expected = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.parse::<usize>().unwrap())
                });
                if body.len() >= expected.unwrap_or(0) {
                    break;
                }
            }
        }
    };
    tokio::time::timeout(LIMIT, read).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

fn status_of(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .map_or(0, |code| code.parse().unwrap())
}

fn page_request(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} http://{PAGE_HOST}{path} HTTP/1.1\r\nHost: {PAGE_HOST}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[tokio::test]
async fn a_pc_enrols_connects_browses_and_disconnects() {
    let pc = Pc::start().await;
    pc.enrol(CODE).await.unwrap();
    let pending = pc.agent.report();
    assert_eq!(pending.state, StateName::Pending);
    assert_eq!(pending.matching_code.unwrap().len(), 9);
    pc.fund.decide(|decisions| decisions.approve = true);
    pc.until_state(StateName::Ready).await;

    let (proxy, _) = pc.serve_proxy().await;
    let connect =
        b"CONNECT portal.fund.example.jp:443 HTTP/1.1\r\nHost: portal.fund.example.jp:443\r\n\r\n";
    assert_eq!(status_of(&raw(proxy, connect).await), 503);
    pc.connect().await;
    let report = pc.agent.report();
    assert_eq!(report.portal_url.as_deref(), Some(PORTAL));
    assert!((5390..=5400).contains(&report.remaining_s.unwrap()));

    let mut stream = TcpStream::connect(proxy).await.unwrap();
    stream.write_all(connect).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert_eq!(status_of(&String::from_utf8(head).unwrap()), 200);
    let sent: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    let (mut reader, mut writer) = stream.into_split();
    let copy = sent.clone();
    let write = tokio::spawn(async move {
        writer.write_all(&copy).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    tokio::time::timeout(LIMIT, reader.read_to_end(&mut received))
        .await
        .unwrap()
        .unwrap();
    write.await.unwrap();
    assert!(
        received == sent,
        "{} of {} bytes",
        received.len(),
        sent.len()
    );
    let elsewhere = b"CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com:443\r\n\r\n";
    assert_eq!(status_of(&raw(proxy, elsewhere).await), 403);

    let session = pc.agent.view().session().unwrap().id;
    pc.agent.tell(Command::Disconnect).await;
    pc.until_state(StateName::Ended).await;
    assert_eq!(status_of(&raw(proxy, connect).await), 503);
    for _ in 0..100 {
        if pc.fund.decisions.lock().unwrap().ended.contains(&session) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the portal was not told of the end");
}

#[tokio::test]
async fn a_clock_a_year_off_connects_and_is_told() {
    for error in [YEAR, -YEAR] {
        let mut pc = Pc::start().await;
        pc.become_ready().await;
        pc.restart(error).await;
        pc.connect().await;
        let report = pc.agent.report();
        assert!((5390..=5400).contains(&report.remaining_s.unwrap()));
        let skew = report.clock_skew_s.unwrap();
        assert!((skew - error.whole_seconds()).abs() < 10, "{skew}");
    }
}

#[tokio::test]
async fn a_clock_that_fell_a_year_behind_what_was_seen_connects() {
    let mut pc = Pc::start().await;
    pc.become_ready().await;
    pc.desk.end().await;
    // Later than the gateway's certificate begins: that alone says nothing against it.
    let store = Store::open(&pc.config.data_dir).unwrap();
    store
        .save_time_floor(Clock::system(None).now().wall)
        .unwrap();
    pc.restart(-YEAR).await;
    pc.connect().await;
}

#[tokio::test]
async fn a_wrong_clock_is_named_while_enrolling() {
    let pc = Pc::with_fund(FakeFund::start().await, YEAR);
    let sentence = pc.enrol(CODE).await.unwrap_err();
    assert!(sentence.contains("日付または時刻"), "{sentence}");
}

#[tokio::test]
async fn the_gateways_reason_reaches_the_user_at_once() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    pc.connect().await;
    let session = pc.agent.view().session().unwrap().id;
    pc.exchange_a_byte().await;
    pc.fund.end_session(session, EndCode::Revoked);
    let told = pc
        .agent
        .wait_for(Duration::from_secs(2), |view| {
            matches!(view.state, State::Ended { .. })
        })
        .await;
    assert!(told);
    let reason = pc.agent.report().reason.unwrap();
    assert_eq!(reason, access::EndReason::Revoked.page_text());
}

#[tokio::test]
async fn a_silent_network_is_told_and_the_same_session_goes_on_after_it() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    pc.connect().await;
    let link = pc.agent.route().unwrap().link;
    let mut stream = link.open_stream().await.unwrap();
    stream.write_all(b"a").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
    pc.fund.mute(true);
    pc.until_state(StateName::Connecting).await;
    assert!(pc.agent.report().remaining_s.is_some());
    pc.fund.mute(false);
    pc.until_state(StateName::Connected).await;
    pc.exchange_a_byte().await;
    assert_eq!(pc.fund.decisions.lock().unwrap().sessions_granted, 1);
}

#[tokio::test]
async fn a_gateway_that_was_killed_and_came_back_is_found_again() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    pc.connect().await;
    pc.exchange_a_byte().await;
    let link = pc.agent.route().unwrap().link;
    pc.fund.forget_connections();
    link.ended().await;
    pc.until(|view| StateName::from(&view.state) == StateName::Connected)
        .await;
    pc.until_route().await;
    pc.exchange_a_byte().await;
    assert_eq!(pc.fund.decisions.lock().unwrap().sessions_granted, 1);
}

#[tokio::test]
async fn the_deadline_ends_the_session_without_a_word_from_the_gateway() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    pc.fund
        .decide(|decisions| decisions.session_length = Some(Duration::from_secs(5)));
    pc.connect().await;
    assert_eq!(pc.agent.report().notice_minutes, Some(2));
    pc.until_state(StateName::Ended).await;
    assert_eq!(
        pc.agent.report().reason.unwrap(),
        access::EndReason::TimeLimit.page_text()
    );
}

#[tokio::test]
async fn a_wrong_code_shows_the_portals_sentence_and_the_form_again() {
    let pc = Pc::start().await;
    assert_eq!(
        pc.enrol("WRONG").await.unwrap_err(),
        "登録コードが違います。"
    );
    assert_eq!(pc.agent.report().state, StateName::Unenrolled);
    pc.become_ready().await;
}

#[tokio::test]
async fn an_approval_for_another_key_is_not_taken() {
    let pc = Pc::start().await;
    pc.fund.decide(|decisions| {
        decisions.approve = true;
        decisions.foreign_certificate = true;
    });
    pc.enrol(CODE).await.unwrap();
    pc.until(
        |view| matches!(&view.state, State::Refused { what, .. } if *what == Refused::Enrolment),
    )
    .await;
    let store = Store::open(&pc.config.data_dir).unwrap();
    let current = store.find().unwrap().into_current().unwrap();
    assert!(current.enrolled().is_none());
}

#[tokio::test]
async fn a_pending_request_goes_on_after_a_restart() {
    let mut pc = Pc::start().await;
    pc.enrol(CODE).await.unwrap();
    let code = pc.agent.report().matching_code;
    pc.restart(time::Duration::ZERO).await;
    assert_eq!(pc.agent.report().matching_code, code);
    pc.fund.decide(|decisions| decisions.approve = true);
    pc.until_state(StateName::Ready).await;
    assert!(pc.folder.path().exists());
}

#[tokio::test]
async fn a_turned_down_pc_is_told_why() {
    let pc = Pc::start().await;
    pc.fund.decide(|decisions| {
        decisions.turn_down = Some("お心当たりがないためお断りします。".into())
    });
    pc.enrol(CODE).await.unwrap();
    pc.until_state(StateName::Refused).await;
    let reason = pc.agent.report().reason.unwrap();
    assert_eq!(reason, "お心当たりがないためお断りします。");
}

#[tokio::test]
async fn a_refused_session_names_the_next_opening() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    let next = time::macros::datetime!(2026-11-24 08:00 +9);
    pc.fund.decide(|decisions| {
        let mut closed = refusal(RefusalCode::Closed, "本日は祝日です。");
        closed.next_opening_ms = Some(to_unix_ms(next));
        decisions.refuse_sessions = Some(closed);
    });
    pc.agent.tell(Command::Connect).await;
    pc.until_state(StateName::Refused).await;
    let report = pc.agent.report();
    assert_eq!(report.reason.unwrap(), "本日は祝日です。");
    assert_eq!(report.next_opening.unwrap(), "2026-11-24T08:00:00+09:00");
}

#[tokio::test]
async fn another_run_steers_the_one_that_holds_the_folder() {
    let mut pc = Pc::start().await;
    let store = Store::open(&pc.config.data_dir).unwrap();
    let Claim::Ours(instance) = control::claim(&store).unwrap() else {
        panic!("nobody else holds the folder");
    };
    tokio::spawn(instance.serve(pc.desk.clone()));
    let Claim::Theirs(other) = control::claim(&store).unwrap() else {
        panic!("the folder is held");
    };
    let connect = Request::Connect { profile: None };
    let reply = other.ask(&connect).await.unwrap();
    assert!(matches!(reply, Reply::Failed { .. }), "not enrolled yet");
    pc.fund.decide(|decisions| decisions.approve = true);
    let enrol = Request::Enrol {
        profile: None,
        gateway: pc.fund.url.parse().unwrap(),
        establishment: "0123".parse().unwrap(),
        code: CODE.into(),
    };
    assert!(matches!(other.ask(&enrol).await.unwrap(), Reply::Status(_)));
    pc.until_state(StateName::Ready).await;
    other.ask(&connect).await.unwrap();
    pc.until_state(StateName::Connected).await;
    let disconnect = Request::Disconnect { profile: None };
    match other.ask(&disconnect).await.unwrap() {
        Reply::Status(report) => assert_eq!(report.state, StateName::Ended),
        reply => panic!("{reply:?}"),
    }
    tokio::spawn(async move {
        let request = pc.windows.recv().await.unwrap();
        assert_eq!(request.landing, Landing::Profile);
        request.reply.send(Ok("http://window/".into())).unwrap();
    });
    let open = Request::Open {
        profile: None,
        no_browser: true,
        file: None,
    };
    match other.ask(&open).await.unwrap() {
        Reply::Window { url } => assert_eq!(url, "http://window/"),
        reply => panic!("{reply:?}"),
    }
}

#[tokio::test]
async fn only_the_launch_token_opens_the_page_and_only_its_own_forms_act() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    let (proxy, url) = pc.serve_proxy().await;
    let get = |path: &str, headers: &str| page_request("GET", path, headers, "");

    // Without token: no state, no style.
    for path in ["/", "/status.json", "/assets/agent.css", "/?token=wrong"] {
        let answer = raw(proxy, &get(path, "")).await;
        assert_eq!(status_of(&answer), 403, "{path}");
        assert!(!answer.contains("見本"), "{path}");
    }
    // Not in proxy form, or with a foreign host.
    for request in [
        format!("GET / HTTP/1.1\r\nHost: {PAGE_HOST}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {proxy}\r\n\r\n"),
        "GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n".to_owned(),
        format!("GET http://{PAGE_HOST}/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"),
    ] {
        assert_eq!(
            status_of(&raw(proxy, request.as_bytes()).await),
            403,
            "{request}"
        );
    }
    let huge = format!("X: {}\r\n", "x".repeat(40_000));
    let answer = raw(proxy, &get("/", &huge)).await;
    assert!([0, 431].contains(&status_of(&answer)), "{answer}");

    // With the token: a cookie, and from then on the page.
    let token = url.split_once('?').unwrap().1;
    let entered = raw(proxy, &get(&format!("/?{token}"), "")).await;
    assert_eq!(status_of(&entered), 303);
    let entered_lower = entered.to_lowercase();
    assert!(entered_lower.contains("httponly; samesite=strict"));
    let cookie = format!(
        "Cookie: renkei_launch={}\r\n",
        token.split_once('=').unwrap().1
    );
    let shown = raw(proxy, &get("/", &cookie)).await;
    assert_eq!(status_of(&shown), 200);
    assert!(shown.contains("株式会社見本") && shown.contains("接続"));
    let policy = shown
        .lines()
        .find(|line| line.to_lowercase().starts_with("content-security-policy"))
        .unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));

    // Forms: only with the page's own origin and token.
    let csrf = shown.split_once("name=\"csrf\" value=\"").unwrap().1;
    let csrf = csrf.split_once('"').unwrap().0;
    let origin = format!("Origin: http://{PAGE_HOST}\r\n");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let good = format!("csrf={csrf}");
    for (headers, body) in [
        (format!("{cookie}{form}"), good.as_str()),
        (
            format!("{cookie}{form}Origin: https://evil.test\r\n"),
            &good,
        ),
        (format!("{cookie}{form}Origin: null\r\n"), &good),
        (format!("{cookie}{form}{origin}"), "csrf=wrong"),
        (format!("{cookie}{form}{origin}"), ""),
        (format!("{form}{origin}"), &good),
    ] {
        let answer = raw(proxy, &page_request("POST", "/connect", &headers, body)).await;
        assert_eq!(status_of(&answer), 403, "{headers}{body}");
    }
    assert_eq!(pc.agent.report().state, StateName::Ready);
    let headers = format!("{cookie}{form}{origin}");
    let answer = raw(proxy, &page_request("POST", "/connect", &headers, &good)).await;
    assert_eq!(status_of(&answer), 303);
    assert!(answer.contains(PORTAL), "{answer}");
    assert_eq!(pc.agent.report().state, StateName::Connected);
}
