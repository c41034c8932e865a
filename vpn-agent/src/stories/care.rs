//! What the agent does for its clerk besides connecting: zips, the support bundle, and the
//! proxies of companies.

use std::io::{Cursor, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use zeroize::Zeroizing;
use zip::write::SimpleFileOptions;
use zip::{AesMode, ZipArchive, ZipWriter};

use super::{LIMIT, Pc, page_request, raw, status_of};
use crate::config::Config;
use crate::desk::Landing;
use crate::diagnose::{self, bundle};
use crate::dial::settings::{ProxySettings, Source};
use crate::dial::sign_on::{Scheme, SignOn};
use crate::dial::system::{Origin, SystemProxy};
use crate::dial::{Dialer, Surroundings};
use crate::fake_fund::FakeFund;
use crate::fake_proxy::{FakeProxy, Manner};
use crate::gateway_client::trust::{Dates, Roots, tls_config};
use crate::link::paths::Via;
use crate::log::LogFile;
use crate::proxy::PAGE_HOST;
use crate::urls::GatewayUrl;

const PASSWORD: &str = "Kanari-Himitsu-77";
const CONTENT: &[u8] = b"%PDF-1.7 kettei tsuuchisho no nakami";

fn password_zip() -> Vec<u8> {
    let options = SimpleFileOptions::default().with_aes_encryption(AesMode::Aes256, PASSWORD);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("決定通知書.pdf", options).unwrap();
    writer.write_all(CONTENT).unwrap();
    writer.finish().unwrap().into_inner()
}

/// The agent's page as its window has it.
struct Window {
    proxy: SocketAddr,
    cookie: String,
    csrf: String,
}

impl Window {
    async fn of(pc: &Pc) -> Self {
        let (proxy, url) = pc.serve_proxy().await;
        let token = url.split_once("?token=").unwrap().1;
        let cookie = format!("Cookie: renkei_launch={token}\r\n");
        let shown = raw(proxy, &page_request("GET", "/documents", &cookie, "")).await;
        let csrf = shown.split_once("data-csrf=\"").unwrap().1;
        let csrf = csrf.split_once('"').unwrap().0.to_owned();
        Self {
            proxy,
            cookie,
            csrf,
        }
    }

    async fn get(&self, path: &str) -> String {
        raw(self.proxy, &page_request("GET", path, &self.cookie, "")).await
    }

    async fn post(&self, path: &str, fields: &str) -> String {
        let headers = format!(
            "{}Origin: http://{PAGE_HOST}\r\nContent-Type: application/x-www-form-urlencoded\r\n",
            self.cookie
        );
        let body = format!("csrf={}&{fields}", self.csrf);
        raw(self.proxy, &page_request("POST", path, &headers, &body)).await
    }

    async fn send_file(&self, headers: &str, bytes: &[u8]) -> String {
        let mut request = format!(
            "POST http://{PAGE_HOST}/documents HTTP/1.1\r\nHost: {PAGE_HOST}\r\n{headers}Content-Length: {}\r\n\r\n",
            bytes.len()
        )
        .into_bytes();
        request.extend(bytes);
        raw(self.proxy, &request).await
    }
}

/// Every byte of every file under a folder.
fn everything_under(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(everything_under(&path));
        } else if path.is_file() {
            all.extend(std::fs::read(&path).unwrap());
        }
    }
    all
}

fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}

#[tokio::test]
async fn a_password_zip_is_read_in_the_window_and_leaves_nothing_on_the_disk() {
    let pc = Pc::start().await;
    let window = Window::of(&pc).await;
    let name = "X-Name: %E9%80%9A%E7%9F%A5.zip\r\nContent-Type: application/octet-stream\r\n";
    let origin = format!("Origin: http://{PAGE_HOST}\r\n");
    let csrf = format!("X-Csrf: {}\r\n", window.csrf);

    // From the page itself, with its token, or not at all.
    for headers in [
        format!("{name}{origin}{csrf}"),
        format!("{}{name}{csrf}", window.cookie),
        format!("{}{name}Origin: https://evil.test\r\n{csrf}", window.cookie),
        format!("{}{name}{origin}", window.cookie),
        format!("{}{name}{origin}X-Csrf: wrong\r\n", window.cookie),
    ] {
        let answer = window.send_file(&headers, &password_zip()).await;
        assert_eq!(status_of(&answer), 403, "{headers}");
    }
    let page = window.get("/documents").await;
    assert!(!page.contains("のパスワード</h2>"), "{page}");

    let headers = format!("{}{name}{origin}{csrf}", window.cookie);
    let answer = window.send_file(&headers, &password_zip()).await;
    assert_eq!(status_of(&answer), 303, "{answer}");
    let page = window.get("/documents").await;
    assert!(page.contains("「通知.zip」のパスワード"), "{page}");
    let answer = window.post("/documents/unlock", "password=wrong").await;
    assert_eq!(status_of(&answer), 422);
    assert!(answer.contains("パスワードが違います") && answer.contains("name=\"password\""));
    let typed = format!("password={PASSWORD}");
    let answer = window.post("/documents/unlock", &typed).await;
    assert_eq!(status_of(&answer), 303);
    let page = window.get("/documents").await;
    assert!(page.contains("決定通知書.pdf") && !page.contains(PASSWORD));

    let address = page.split_once("href=\"/documents/").unwrap().1;
    let address = format!("/documents/{}", address.split_once('"').unwrap().0);
    let document = window.get(&address).await;
    let head = document.to_lowercase();
    assert!(document.ends_with(std::str::from_utf8(CONTENT).unwrap()));
    assert!(head.contains("content-type: application/pdf") && head.contains("inline"));
    assert!(head.contains("cache-control: no-store") && head.contains("nosniff"));
    let saved = window.get(&format!("{address}?save=1")).await;
    assert!(
        saved
            .to_lowercase()
            .contains("content-disposition: attachment")
    );
    let stranger = raw(window.proxy, &page_request("GET", &address, "", "")).await;
    assert_eq!(status_of(&stranger), 403);

    let kept = everything_under(pc.folder.path());
    for secret in [PASSWORD.as_bytes(), CONTENT, &password_zip()[..30]] {
        assert!(!holds(&kept, secret), "on the disk");
    }
    window.post("/documents/close", "").await;
    assert_eq!(status_of(&window.get(&address).await), 303);
    for nonsense in [
        "/documents/x/y",
        "/documents/1",
        "/documents/1/0",
        "/documents//",
    ] {
        assert_eq!(status_of(&window.get(nonsense).await), 303, "{nonsense}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_zip_or_too_large_is_told_on_the_page() {
    let pc = Pc::start().await;
    let window = Window::of(&pc).await;
    let headers = format!(
        "{}Origin: http://{PAGE_HOST}\r\nX-Csrf: {}\r\nX-Name: a%00%FF.exe\r\n",
        window.cookie, window.csrf
    );
    let answer = window.send_file(&headers, b"MZ\x90 not a zip").await;
    assert_eq!(status_of(&answer), 303);
    let page = window.get("/documents").await;
    assert!(
        page.contains("zipファイルでもPDFファイルでもない"),
        "{page}"
    );
    // Announced, never sent: refused at once.
    let request = format!(
        "POST http://{PAGE_HOST}/documents HTTP/1.1\r\nHost: {PAGE_HOST}\r\n{headers}Content-Length: 99999999999\r\n\r\n"
    );
    let answer = raw(window.proxy, request.as_bytes()).await;
    assert_eq!(status_of(&answer), 413, "{answer}");
    let nowhere = Some(Path::new("/nonexistent/x.zip"));
    let missing = pc.desk.landing_with(None, nowhere).await;
    assert!(missing.unwrap_err().page_text().contains("x.zip"));
    let present = pc.folder.path().join("x.zip");
    std::fs::write(&present, password_zip()).unwrap();
    let (_, landing) = pc.desk.landing_with(None, Some(&present)).await.unwrap();
    assert_eq!(landing, Landing::Documents);
    let page = window.get("/documents").await;
    assert!(page.contains("「x.zip」のパスワード"), "{page}");
}

/// Planted wherever the agent could pick them up.
const CANARIES: [&str; 7] = [
    "CanaryPassword99",
    "canary.user",
    "株式会社カナリア",
    "CanaryCookie1234567890",
    "canary@mail.example.jp",
    "198.51.100.99",
    "カナリア秘密.zip",
];

#[tokio::test]
async fn the_support_bundle_holds_no_secret_and_nobodys_name() {
    let mut pc = Pc::start().await;
    pc.become_ready().await;
    pc.connect().await;
    let [password, user, company, cookie, mail, address, file] = CANARIES;

    // In the window: an open zip, whose name, password and content are known to the page.
    let window = Window::of(&pc).await;
    let headers = format!(
        "{}Origin: http://{PAGE_HOST}\r\nX-Csrf: {}\r\nX-Name: {file}\r\n",
        window.cookie, window.csrf
    );
    window.send_file(&headers, &password_zip()).await;
    window
        .post("/documents/unlock", &format!("password={PASSWORD}"))
        .await;

    // On the disk: the profile's cookies, and a path with the user's name in it.
    let home = pc.folder.path().join("home").join(user);
    let profile = home.join("browser");
    std::fs::create_dir_all(&profile).unwrap();
    std::fs::write(profile.join("Cookies"), cookie).unwrap();
    let browser = profile.join(format!("{company}-browser"));
    pc.config = Config {
        browser: Some(browser),
        browser_args: vec![format!("--user={user}")],
        proxy: ProxySettings::try_from(format!("http://{user}:{password}@{address}:1")).unwrap(),
        ..pc.config.clone()
    };

    // In what the running agent tells.
    let mut report = pc.agent.report();
    let known = [
        report.establishment_name.clone(),
        report.fund_name.clone(),
        report.establishment.clone(),
    ];
    report.reason = Some(format!("{company}の{mail}"));
    report.code_mailed_to = Some(mail.to_owned());
    report.notice = Some(format!("ワンタイムパスワード 482913 {password}"));

    let store = pc.agent.store().clone();
    let mut findings = diagnose::run(&pc.config, &store, Some(&report)).await;
    // As if something had said more than it should.
    let logged = LogFile::in_folder(&pc.config.data_dir);
    logged.add("INFO vpn_agent: registration approved\n".as_bytes());
    let line = format!("WARN {company} {mail} {address} 482913 {user} {password} {cookie}\n");
    logged.add(line.as_bytes());
    // As if a sentence of the portal's or the system's held them.
    report.establishment_name = Some(company.to_owned());
    let told = known[0].clone().unwrap();
    findings[0].sentence += &format!(
        "{company} {told} {mail} {address} 482913 {user}/{} ",
        home.display()
    );
    let bytes = bundle::bundle(&findings, &pc.config, &store, Some(&report)).unwrap();
    let mut zip = ZipArchive::new(Cursor::new(&bytes)).unwrap();
    let mut all = bytes.clone();
    let mut texts = String::new();
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        all.extend(entry.name_raw());
        all.extend(text.as_bytes());
        texts += &text;
    }
    let mut secrets: Vec<Vec<u8>> = CANARIES.map(|canary| canary.as_bytes().to_vec()).into();
    secrets.extend(known.into_iter().flatten().map(String::into_bytes));
    secrets.extend(["482913", PASSWORD, "決定通知書"].map(|text| text.as_bytes().to_vec()));
    secrets.push(CONTENT.to_vec());
    secrets.push(pc.folder.path().display().to_string().into_bytes());
    secrets.push(window.csrf.into_bytes());
    let enrolment = store.find().unwrap().into_current().unwrap();
    secrets.push(enrolment.key.matching_code().into_bytes());
    for entry in walk(&pc.config.data_dir) {
        if entry.ends_with("device-key") {
            let key = std::fs::read(entry).unwrap();
            secrets.push(key[key.len() - 20..].to_vec());
        }
    }
    assert!(secrets.len() >= 17, "the key is among them");
    for secret in secrets {
        let shown = String::from_utf8_lossy(&secret).into_owned();
        assert!(!holds(&all, &secret), "{shown} is in the bundle:\n{texts}");
    }
    // It still says what it is there for.
    for words in [
        "保存場所",
        "通信の検査",
        "vpn-agent",
        "\"transport\": \"udp\"",
        "registration approved",
    ] {
        assert!(texts.contains(words), "{texts}");
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[tokio::test]
async fn the_page_diagnoses_shows_and_hands_out_the_bundle() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    let window = Window::of(&pc).await;
    let page = window.get("/diagnosis").await;
    assert!(page.contains("action=\"/diagnosis\"") && !page.contains("bundle.zip"));
    assert_eq!(status_of(&window.get("/diagnosis/bundle.zip").await), 303);
    let answer = window.post("/diagnosis", "").await;
    assert_eq!(status_of(&answer), 303, "{answer}");
    let page = window.get("/diagnosis").await;
    for words in [
        "通信の検査",
        "検査されていません",
        "正常",
        "<textarea",
        "bundle.zip",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let bundle = window.get("/diagnosis/bundle.zip").await;
    assert!(
        bundle
            .to_lowercase()
            .contains("content-type: application/zip")
    );
    assert!(bundle.contains("PK\u{3}\u{4}"));
}

static SYSTEM_PROXY: OnceLock<SocketAddr> = OnceLock::new();

struct Partner;

impl SignOn for Partner {
    fn step(&mut self, challenge: Option<&[u8]>) -> std::io::Result<Zeroizing<Vec<u8>>> {
        let word: &[u8] = if challenge.is_some() { b"two" } else { b"one" };
        Ok(Zeroizing::new(word.to_vec()))
    }
}

#[tokio::test]
async fn the_systems_proxy_is_found_and_told_who_is_signed_in() {
    let fund = FakeFund::start().await;
    let proxy = FakeProxy::start(Manner::Negotiate).await;
    SYSTEM_PROXY.set(proxy.address).unwrap();
    let surroundings = Surroundings {
        environment: |_| None,
        system: |url| {
            assert!(url.starts_with("https://test.gateway.renkei.internal"));
            // A script that names a dead proxy first, as they do.
            Some(SystemProxy {
                origin: Origin::Script,
                list: format!("127.0.0.1:1;{}", SYSTEM_PROXY.get()?),
                exceptions: String::new(),
            })
        },
        sign_ons: |scheme, _| {
            (scheme == Scheme::Negotiate).then(|| Box::new(Partner) as Box<dyn SignOn>)
        },
    };
    let dialer = Dialer::with_surroundings(ProxySettings::System, surroundings);
    let port = fund.url.rsplit(':').next().unwrap().trim_end_matches('/');
    let gateway = format!("https://test.gateway.renkei.internal:{port}");
    let gateway: GatewayUrl = gateway.parse().unwrap();
    let roots = Roots::public_and(Some(fund.ca_pem().as_bytes())).unwrap();
    let clock = Arc::new(crate::clock::Clock::system(None));
    let tls = Arc::new(tls_config(&roots, None, clock, Dates::Strict).unwrap());

    // Before the system was asked, both ways are tried; afterwards the proxy comes first.
    assert_eq!(dialer.ways(&gateway), [Via::Straight, Via::Proxy]);
    let connected = tokio::time::timeout(LIMIT, dialer.connect(&gateway, &tls)).await;
    connected.unwrap().unwrap();
    assert_eq!(proxy.connected(), 1);
    assert_eq!(dialer.ways(&gateway), [Via::Proxy, Via::Straight]);
    let (source, proxies) = dialer.proxies(&gateway).await.unwrap();
    assert_eq!((source, proxies.len()), (Source::Script, 2));
}
