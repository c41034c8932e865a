//! The main job in real browsers: two people who click and type, from the PC's registration to
//! the fetched notice. Every page on the way is looked at wide and narrow, must not scroll
//! sideways, and must be free of what axe-core calls a violation.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fantoccini::Locator;
use renkei_tests::browser::{Browser, key_shown_at};
use renkei_tests::job::{ADMIN_EMAIL, ADMIN_NAME, ADMIN_PASSWORD, ADMIN_USER_ID};
use renkei_tests::pages::{authenticator_code, staff_code};
use renkei_tests::process::wait_for;
use renkei_tests::stage::{ESTABLISHMENT_NAME, ESTABLISHMENT_NUMBER};
use renkei_tests::{Agent, Stage, StageOptions};
use serde_json::Value;

/// The agent's page; it exists only behind the agent's proxy.
const AGENT_PAGE: &str = "http://renkei-agent.invalid/";
/// The corpus's zip password.
const ZIP_PASSWORD: &str = "Rene52hsqx3ca4q2";
const ZIP: &str = "20240524_0123_資格取得届.zip";
const PDF: &str = "20240229_0123_資格喪失届.pdf";
/// A Japanese-era date where the year belongs.
const MISNAMED: &str = "R060524_0123_資格取得届.pdf";
/// A desk's screen and the narrowest that must do: 1280 pixels at 300 percent and more.
const WIDTHS_PX: [u32; 2] = [400, 1280];
/// The pictures that the documents show.
const SHOWN_IN_DOCUMENTS: [&str; 15] = [
    "member-history",
    "member-settings",
    "agent-unenrolled",
    "agent-pending",
    "agent-ready",
    "agent-connected",
    "member-sign-in",
    "member-first-password",
    "member-home",
    "member-submit",
    "member-receipt",
    "member-notice",
    "office-queue",
    "office-filing",
    "office-devices",
];

/// Looks at pages as they come by and remembers what is wrong with them.
pub struct Inspector {
    axe: String,
    pictures: PathBuf,
    found: Mutex<Vec<String>>,
}

impl Inspector {
    pub fn new() -> Result<Self> {
        let axe = std::env::var_os("RENKEI_TEST_AXE").context(
            "RENKEI_TEST_AXE names no axe-core source: run scripts/test, which fetches it and sets it",
        )?;
        Ok(Self {
            axe: std::fs::read_to_string(&axe).with_context(|| format!("read {axe:?}"))?,
            pictures: root().join("var/pictures"),
            found: Mutex::default(),
        })
    }

    /// Inspects the page that `browser` shows and keeps its pictures.
    pub async fn look(&self, browser: &Browser, name: &str) -> Result<()> {
        let documents = std::env::var("RENKEI_TEST_PICTURES").is_ok_and(|what| what == "docs");
        for width in WIDTHS_PX {
            let picture = browser.picture(&self.pictures, name, width).await?;
            if documents && SHOWN_IN_DOCUMENTS.contains(&name) {
                let folder = root().join("docs/images");
                std::fs::create_dir_all(&folder)?;
                std::fs::copy(&picture, folder.join(format!("{name}-{width}.png")))?;
            }
            let overhang = browser.overhang_px().await?;
            if overhang > 0 {
                self.note(format!("{name} is {overhang} px too wide at {width} px"));
            }
            if let Err(violations) = browser.accessible(&self.axe).await {
                self.note(format!("{name} at {width} px: {violations}"));
            }
        }
        Ok(())
    }

    fn note(&self, what: String) {
        self.found.lock().expect("no panic while held").push(what);
    }

    pub fn must_have_found_nothing(self) {
        let found = self.found.into_inner().expect("no panic while held");
        assert!(found.is_empty(), "{}", found.join("\n\n"));
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the workspace")
}

pub fn corpus(name: &str) -> String {
    let path = root().join("tests/corpus").join(name);
    assert!(path.is_file(), "{path:?} is in the corpus");
    path.display().to_string()
}

/// The `portal_key_sha256` that a PC was given, anywhere in the files of its enrolments.
pub fn portal_key(folder: &Path) -> Result<Option<String>> {
    fn find(value: &Value) -> Option<&str> {
        match value {
            Value::Object(members) => match members.get("portal_key_sha256") {
                Some(key) => key.as_str(),
                None => members.values().find_map(find),
            },
            _ => None,
        }
    }
    for enrolment in std::fs::read_dir(folder)? {
        let text = std::fs::read_to_string(enrolment?.path().join("enrolment.json"))?;
        if let Some(key) = find(&serde_json::from_str(&text)?) {
            return Ok(Some(key.to_owned()));
        }
    }
    Ok(None)
}

/// Both people at their screens.
struct Play {
    stage: Stage,
    agent: Agent,
    office: Browser,
    clerk: Browser,
    inspector: Inspector,
    folder: PathBuf,
    proxy: String,
    launch: String,
}

impl Play {
    async fn begin() -> Result<Self> {
        let inspector = Inspector::new()?;
        let stage = Stage::start(StageOptions::default()).await?;
        let mut agent = stage.agent("pc1")?;
        agent.start(&["open", "--no-browser"])?;
        let launch = wait_for("the window's address", 30, async || {
            Ok(agent
                .log_text()
                .lines()
                .find(|line| line.starts_with(AGENT_PAGE))
                .map(str::to_owned))
        })
        .await?;
        let proxy = agent.status()?["proxy"]
            .as_str()
            .context("the agent has a proxy")?
            .to_owned();
        let folder = stage.folder().join("browsers");
        std::fs::create_dir_all(&folder)?;
        let office_key = key_shown_at(&stage.office_url(), &stage.ca_file()).await?;
        let office = Browser::open(&folder, "office", None, Some(&office_key)).await?;
        let clerk = Browser::open(&folder, "new-pc", Some(&proxy), None).await?;
        clerk.go(&launch).await?;
        Ok(Self {
            stage,
            agent,
            office,
            clerk,
            inspector,
            folder,
            proxy,
            launch,
        })
    }

    /// The agent opens its window again once the PC is approved: only now it knows the key
    /// that the fund's pages show.
    async fn open_window_again(&mut self) -> Result<()> {
        let key = portal_key(&self.stage.folder().join("pc1/data/enrolments"))?
            .context("the PC knows the key of the fund's pages")?;
        let window = Browser::open(&self.folder, "clerk", Some(&self.proxy), Some(&key)).await?;
        let old = std::mem::replace(&mut self.clerk, window);
        old.close().await?;
        self.clerk.go(&self.launch).await
    }

    async fn look_at_office(&self, name: &str) -> Result<()> {
        self.inspector.look(&self.office, name).await
    }

    async fn look_at_clerk(&self, name: &str) -> Result<()> {
        self.inspector.look(&self.clerk, name).await
    }

    /// Staff sign in and register the establishment; returns code and password of the letter.
    async fn register(&self) -> Result<(String, String)> {
        let Self { stage, office, .. } = self;
        office.go(&stage.office_url()).await?;
        office.wait_text("職員のログイン").await?;
        self.look_at_office("office-sign-in").await?;
        office.type_into("user_id", &stage.staff.user_id).await?;
        office.type_into("password", "違うパスワード").await?;
        office.type_into("code", "000000").await?;
        office.click("ログイン").await?;
        office.wait_text("入力内容をご確認ください").await?;
        self.look_at_office("office-sign-in-error").await?;
        office.type_into("password", &stage.staff.password).await?;
        office.type_into("code", &staff_code(&stage.staff)?).await?;
        office.click("ログイン").await?;
        office.wait_text("ログアウト").await?;
        office.click("事業所").await?;
        office.wait_text("事業所を登録する").await?;
        self.look_at_office("office-establishments-empty").await?;
        office.click("事業所を登録する").await?;
        office.type_into("number", ESTABLISHMENT_NUMBER).await?;
        office.type_into("name", ESTABLISHMENT_NAME).await?;
        office.type_into("user_name", ADMIN_NAME).await?;
        office.type_into("login", ADMIN_USER_ID).await?;
        office.type_into("email", ADMIN_EMAIL).await?;
        self.look_at_office("office-establishment-new").await?;
        office.press("main button[type=submit]").await?;
        let code = office.find("#registration-code").await?.text().await?;
        let password = office.find("#initial-password").await?.text().await?;
        self.look_at_office("office-letter").await?;
        office.click("事業所の画面へ").await?;
        office.wait_text("登録コードを発行する").await?;
        self.look_at_office("office-establishment").await?;
        Ok((code, password))
    }

    /// The clerk enrols the PC; staff compare the matching code and approve.
    async fn enrol(&self, code: &str) -> Result<()> {
        let Self { office, clerk, .. } = self;
        clerk.wait_text("このパソコンを登録する").await?;
        self.look_at_clerk("agent-unenrolled").await?;
        clerk.type_into("establishment", "99").await?;
        clerk.type_into("code", code).await?;
        clerk.click("登録を申請する").await?;
        clerk.wait_text("登録を申請できませんでした").await?;
        self.look_at_clerk("agent-unenrolled-error").await?;
        clerk
            .type_into("establishment", ESTABLISHMENT_NUMBER)
            .await?;
        clerk.type_into("code", code).await?;
        clerk.click("登録を申請する").await?;
        clerk.wait_text("基金の承認を待っています").await?;
        let matching_code = clerk.find(".matching").await?.text().await?;
        self.look_at_clerk("agent-pending").await?;

        office.click("パソコン").await?;
        office.wait_text(&matching_code).await?;
        self.look_at_office("office-devices").await?;
        office.press("input[name=matched]").await?;
        office.click("承認する").await?;
        office.wait_text("承認待ちの申請はありません").await?;
        self.look_at_office("office-devices-approved").await?;
        // Nobody touches the clerk's window: it goes on by itself.
        clerk.wait_text("接続できます").await?;
        clerk.wait_text(ESTABLISHMENT_NAME).await?;
        Ok(())
    }

    /// The clerk connects and signs in for the first time.
    async fn sign_in(&self, initial_password: &str) -> Result<()> {
        let Self { stage, clerk, .. } = self;
        clerk.wait_text("接続できます").await?;
        self.look_at_clerk("agent-ready").await?;
        clerk.press("form[action='/connect'] button").await?;
        // The window goes on to the fund's pages by itself.
        clerk.wait_text("ユーザーID").await?;
        let code = stage.mailbox().wait_code(ADMIN_EMAIL, 0).await?;
        clerk.wait_text("ワンタイムパスワードを送りました").await?;
        self.look_at_clerk("member-sign-in").await?;
        clerk.type_into("user_id", ADMIN_USER_ID).await?;
        clerk.type_into("password", "違うパスワード").await?;
        clerk.type_into("code", &code).await?;
        clerk.press("button[value=sign_in]").await?;
        clerk.wait_text("入力内容をご確認ください").await?;
        self.look_at_clerk("member-sign-in-error").await?;
        clerk.type_into("password", initial_password).await?;
        clerk.type_into("code", &code).await?;
        clerk.press("button[value=sign_in]").await?;
        clerk
            .wait_text("はじめにパスワードを決めてください")
            .await?;
        self.look_at_clerk("member-first-password").await?;
        clerk.type_into("new_password", ADMIN_PASSWORD).await?;
        clerk
            .type_into("new_password_again", ADMIN_PASSWORD)
            .await?;
        clerk.click("このパスワードにする").await?;
        clerk.wait_text("利用規約を読み、同意します").await?;
        self.look_at_clerk("member-terms").await?;
        clerk.press("#accept").await?;
        clerk.click("次へ進む").await?;
        clerk
            .wait_text("基金に登録されている内容をご確認ください")
            .await?;
        clerk.type_into("postal_code", "101-0051").await?;
        clerk
            .type_into("address", "東京都千代田区神田神保町1-1")
            .await?;
        clerk.type_into("telephone", "03-1234-5678").await?;
        self.look_at_clerk("member-establishment").await?;
        clerk.click("この内容で次へ進む").await?;
        clerk.wait_text("基金からご連絡するときに使います").await?;
        clerk.type_into("kana", "スズキ ハナコ").await?;
        clerk.type_into("telephone", "03-1234-5678").await?;
        self.look_at_clerk("member-profile").await?;
        clerk.click("この内容で次へ進む").await?;
        clerk.wait_text("認証アプリを登録する").await?;
        self.look_at_clerk("member-welcome").await?;
        clerk.click("いまはメールのまま始める").await?;
        clerk.wait_text("まだ提出した届書はありません").await?;
        self.look_at_clerk("member-home-empty").await?;
        clerk.go(AGENT_PAGE).await?;
        clerk.wait_text("業務画面をご利用になれます").await?;
        self.look_at_clerk("agent-connected").await?;
        clerk.click("業務画面を開く").await?;
        clerk.wait_text("まだ提出した届書はありません").await
    }

    /// The clerk files a password zip, a bare PDF, and a PDF with a wrong name.
    async fn file(&self) -> Result<()> {
        let Self { clerk, .. } = self;
        clerk.press("a.door[href='/filings/new']").await?;
        clerk.wait_text("ここにファイルをドラッグ").await?;
        self.look_at_clerk("member-submit-empty").await?;
        let input = clerk
            .client
            .find(Locator::Css("#file-input"))
            .await
            .context("the file field")?;
        let files = [
            corpus(&format!("good/{ZIP}")),
            corpus(&format!("good/{PDF}")),
            corpus(&format!("bad/{MISNAMED}")),
        ];
        input.send_keys(&files.join("\n")).await?;
        clerk.wait_text("3個のファイルを提出できます").await?;
        clerk.wait_text("資格取得届.pdf」として提出します").await?;
        clerk.press("#upload-submit").await?;
        clerk.wait_text("まだ何も受け付けられていません").await?;
        self.look_at_clerk("member-submit-refused").await?;
        clerk
            .find("li.upload-card:first-child input[type=password]")
            .await?
            .send_keys(ZIP_PASSWORD)
            .await?;
        self.look_at_clerk("member-submit").await?;
        clerk.press("#upload-submit").await?;
        clerk.wait_text("届書を受け付けました").await?;
        let receipt = clerk.text().await?;
        for name in [ZIP, PDF, MISNAMED] {
            ensure!(
                receipt.contains(name),
                "the receipt names {name}: {receipt}"
            );
        }
        self.look_at_clerk("member-receipt").await?;
        clerk.click("提出履歴").await?;
        clerk.find("td a.filing-name").await?;
        self.look_at_clerk("member-history").await
    }

    /// Staff take the oldest filing, look at it, decide, and issue the notice.
    async fn decide(&self) -> Result<()> {
        let Self { office, .. } = self;
        office.click("審査").await?;
        office.wait_text("処理期限の近い順").await?;
        self.look_at_office("office-queue").await?;
        office.press("td a.filing-name").await?;
        office.wait_text("審査を始める").await?;
        wait_for("the page's picture", 20, async || {
            let script = "return document.querySelector('.sheets__image').naturalWidth";
            let width = office.client.execute(script, vec![]).await?;
            Ok(width.as_u64().filter(|width| *width > 0))
        })
        .await?;
        self.look_at_office("office-filing").await?;
        office.click("審査を始める").await?;
        office.wait_text("決定通知書を作り、").await?;
        self.look_at_office("office-filing-taken").await?;
        office.click("差し戻す").await?;
        office.wait_text("入力内容をご確認ください").await?;
        self.look_at_office("office-filing-error").await?;
        office.click("決定通知書を作る").await?;
        office.type_into("member_number", "0001234").await?;
        office.type_into("name", "髙﨑 一郎").await?;
        office
            .find("select[name=event]")
            .await?
            .select_by_index(1)
            .await?;
        office
            .find("input[name=event_on]")
            .await?
            .send_keys("05012024")
            .await?;
        office.type_into("salary", "320000").await?;
        self.look_at_office("office-determination").await?;
        office.click("下書きを作って確認する").await?;
        office.wait_text("まだ発行されていません").await?;
        self.look_at_office("office-draft").await?;
        office.click("決定して通知書を発行する").await?;
        office.wait_text("未読").await?;
        self.look_at_office("office-filing-decided").await
    }

    /// The clerk finds the notice and fetches it; both sides see it in the timeline.
    async fn fetch(&self) -> Result<()> {
        let Self {
            stage,
            office,
            clerk,
            ..
        } = self;
        stage
            .mailbox()
            .wait(ADMIN_EMAIL, 0, |mail| mail.subject.contains("通知書"))
            .await?;
        clerk.click("ホーム").await?;
        clerk.wait_text("新しい通知書が1件届いています").await?;
        self.look_at_clerk("member-home").await?;
        clerk.press("nav a[href='/notices']").await?;
        clerk.wait_text("未読").await?;
        self.look_at_clerk("member-notices").await?;
        clerk.press("td a[href^='/notices/']").await?;
        clerk.wait_text("まだ受け取られていません").await?;
        self.look_at_clerk("member-notice").await?;
        clerk.click("PDFで受け取る").await?;
        let file = wait_for("the downloaded notice", 20, async || {
            let files = std::fs::read_dir(&clerk.downloads)?
                .map(|entry| Ok(entry?.path()))
                .collect::<Result<Vec<_>>>()?;
            Ok(files
                .into_iter()
                .find(|file| file.extension().is_some_and(|ending| ending == "pdf")))
        })
        .await?;
        let bytes = std::fs::read(&file)?;
        ensure!(bytes.starts_with(b"%PDF-"), "{file:?} is a PDF");
        clerk.press("dl.facts a[href^='/filings/']").await?;
        clerk.wait_text("通知書を受け取りました").await?;
        self.look_at_clerk("member-filing").await?;
        office.client.refresh().await?;
        office.wait_text("受取済").await?;
        office.wait_text("通知書を受け取りました").await?;
        office.press("nav a[href='/notices']").await?;
        office.wait_text("受取済").await?;
        self.look_at_office("office-notices").await?;
        office.press("td a[href^='/notices/']").await?;
        office.wait_text("受け取りの記録").await?;
        self.look_at_office("office-notice").await
    }

    /// The pages beside the main job.
    async fn look_around(&self) -> Result<()> {
        let Self {
            stage,
            office,
            clerk,
            ..
        } = self;
        clerk.press("nav a[href='/settings']").await?;
        clerk.wait_text("認証アプリに切り替える").await?;
        self.look_at_clerk("member-settings").await?;
        clerk.click("認証アプリに切り替える").await?;
        clerk.wait_text("ご本人であることを確認します").await?;
        self.look_at_clerk("member-authenticator").await?;
        clerk.type_into("password", ADMIN_PASSWORD).await?;
        clerk.click("登録を始める").await?;
        clerk.wait_text("認証アプリで読み取る").await?;
        clerk.click("図を読み取れないとき").await?;
        let secret = clerk.find("p.code").await?.text().await?;
        authenticator_code(&secret.replace(char::is_whitespace, ""), 0)
            .with_context(|| format!("an authenticator's secret: {secret}"))?;
        self.look_at_clerk("member-authenticator-picture").await?;
        clerk.click("やめる").await?;
        clerk.click("パスワードを変更する").await?;
        clerk.wait_text("いまのパスワード").await?;
        self.look_at_clerk("member-password").await?;
        clerk
            .go(&format!("{}settings/zip-password", stage.member_url()))
            .await?;
        self.look_at_clerk("member-zip-password").await?;
        clerk.go(&format!("{}nowhere", stage.member_url())).await?;
        clerk.wait_text("ホームへ").await?;
        self.look_at_clerk("member-not-found").await?;
        office.click("利用日カレンダー").await?;
        office.wait_text("これから2週間").await?;
        self.look_at_office("office-calendar").await?;
        office.click("パソコン").await?;
        office.press("td a[href^='/devices/']").await?;
        office.wait_text("登録を解除する").await?;
        self.look_at_office("office-device").await?;
        office.go(&format!("{}nowhere", stage.office_url())).await?;
        office.wait_text("ホームへ").await?;
        self.look_at_office("office-not-found").await
    }

    /// The clerk disconnects.
    async fn end(mut self) -> Result<()> {
        self.clerk.go(AGENT_PAGE).await?;
        self.clerk.click("切断する").await?;
        self.clerk.wait_text("接続は終了しました").await?;
        self.look_at_clerk("agent-ended").await?;
        let state = self.agent.status()?["state"].clone();
        ensure!(state != "connected", "the agent is {state}");
        let gone = self.clerk.go(&self.stage.member_url()).await;
        ensure!(gone.is_err(), "the fund's pages are out of reach");
        self.office.click("ホームへ").await?;
        self.office.click("ログアウト").await?;
        self.office.wait_text("ログイン").await?;
        self.clerk.go(AGENT_PAGE).await?;
        self.clerk.wait_text("接続は終了しました").await?;
        self.clerk.click("登録先の一覧").await?;
        self.clerk.wait_text("お手続きをする事業所").await?;
        self.look_at_clerk("agent-profiles").await?;
        self.clerk.click("削除する").await?;
        self.clerk.wait_text("元には戻せません").await?;
        self.look_at_clerk("agent-profile-remove").await?;
        self.clerk.click("やめる").await?;
        self.clerk.wait_text("お手続きをする事業所").await?;
        // The page says itself that its program is gone.
        ensure!(self.agent.stop()? == Some(0), "the agent ends well");
        let gone = self.clerk.wait_text("応答がありません");
        tokio::time::timeout(Duration::from_secs(2), gone)
            .await
            .context("the page still claims to be true")??;
        let left = self.clerk.text().await?;
        ensure!(!left.contains("お手続きをする事業所"), "{left}");
        self.look_at_clerk("agent-gone").await?;
        self.clerk.close().await?;
        self.office.close().await?;
        self.inspector.must_have_found_nothing();
        Ok(())
    }
}

/// S003-03, S003-05, S003-26, S003-27, S003-28, S003-31, S003-33, S003-40, S003-41, S003-43,
/// S003-44, S003-45, S003-46, S003-49: the routine from the first start to logging out and
/// disconnecting, in a browser, with a file that is named wrongly and the contact on every
/// page.
#[tokio::test]
async fn clicking_through_from_enrolment_to_the_fetched_notice() -> Result<()> {
    let mut play = Play::begin().await?;
    let told = async {
        let (code, password) = play.register().await?;
        play.enrol(&code).await?;
        play.open_window_again().await?;
        play.sign_in(&password).await?;
        play.file().await?;
        play.decide().await?;
        play.fetch().await?;
        play.look_around().await
    }
    .await;
    if let Err(error) = told {
        let found = play.inspector.found.lock().expect("no panic while held");
        return Err(error.context(found.join("\n\n")));
    }
    play.end().await
}
