//! People who see the service for the first time and have read no manual: each does what the
//! page says, finds fields by their labels and buttons by their words, and reaches the goal.
//! Nothing here names an id, a class or an address of a page.

use anyhow::{Context as _, Result, bail};
use fantoccini::Locator;
use renkei_tests::browser::{Browser, key_shown_at};
use renkei_tests::job::{ADMIN_EMAIL, ADMIN_NAME, ADMIN_PASSWORD, ADMIN_USER_ID};
use renkei_tests::pages::staff_code;
use renkei_tests::process::wait_for;
use renkei_tests::stage::{ESTABLISHMENT_NAME, ESTABLISHMENT_NUMBER, Staff};
use renkei_tests::{Agent, Stage, StageOptions};

use crate::browser::{corpus, portal_key};

const AGENT_PAGE: &str = "http://renkei-agent.invalid/";
const PDF: &str = "20240229_0123_資格喪失届.pdf";
const SHAROUSHI_NAME: &str = "社労 士郎";
const SHAROUSHI_USER_ID: &str = "sharou-shiro";
const SHAROUSHI_EMAIL: &str = "shiro@sharoushi.example";
const SHAROUSHI_PASSWORD: &str = "yuugata-no-kaze-to-hon-4";

/// Somebody before a window, who reads.
pub(super) struct Person<'a>(pub(super) &'a Browser);

impl Person<'_> {
    /// The control whose label says `label`.
    pub(super) async fn field(&self, label: &str) -> Result<fantoccini::elements::Element> {
        const FIND: &str = "const label = [...document.querySelectorAll('label')].find(el =>
            el.checkVisibility() && el.innerText.includes(arguments[0]));
            return label ? label.control : null";
        let found = wait_for(label, 20, async || {
            let found = self.0.client.execute(FIND, vec![label.into()]).await?;
            Ok((!found.is_null()).then_some(found))
        })
        .await;
        match found {
            Ok(found) => Ok(fantoccini::elements::Element::from_element_id(
                self.0.client.clone(),
                element_id(&found)?,
            )),
            Err(_) => bail!("no label says {label}: {}", self.0.text().await?),
        }
    }

    pub(super) async fn fill(&self, label: &str, text: &str) -> Result<()> {
        let field = self.field(label).await?;
        field.clear().await?;
        field
            .send_keys(text)
            .await
            .with_context(|| format!("type into {label}"))
    }

    pub(super) async fn tick(&self, label: &str) -> Result<()> {
        let field = self.field(label).await?;
        field.click().await.with_context(|| format!("tick {label}"))
    }

    pub(super) async fn click(&self, words: &str) -> Result<()> {
        self.0.click(words).await
    }

    /// Presses the button that says just `words`.
    pub(super) async fn press(&self, words: &str) -> Result<()> {
        let path = format!("//button[normalize-space(.)='{words}']");
        let wait = self.0.client.wait();
        match wait.for_element(Locator::XPath(&path)).await {
            Ok(button) => button
                .click()
                .await
                .with_context(|| format!("press {words}")),
            Err(error) => bail!("no button {words}: {error}; {}", self.0.text().await?),
        }
    }

    pub(super) async fn reads(&self, words: &str) -> Result<()> {
        self.0.wait_text(words).await
    }

    /// Presses the button that says just `words`, under the heading that contains `heading`.
    pub(super) async fn press_under(&self, heading: &str, words: &str) -> Result<()> {
        let path = format!(
            "//*[self::section or self::li][(./h2|./h3)[contains(normalize-space(.), '{heading}')]]\
             //button[starts-with(normalize-space(.), '{words}')]"
        );
        let wait = self.0.client.wait();
        match wait.for_element(Locator::XPath(&path)).await {
            Ok(button) => Ok(button.click().await?),
            Err(error) => bail!(
                "no {words} under {heading}: {error}; {}",
                self.0.text().await?
            ),
        }
    }

    /// What the page says beside `term`.
    pub(super) async fn read_beside(&self, term: &str) -> Result<String> {
        let path = format!("//dt[normalize-space(.)='{term}']/following-sibling::dd[1]");
        let wait = self.0.client.wait();
        let told = match wait.for_element(Locator::XPath(&path)).await {
            Ok(told) => told.text().await?,
            Err(error) => bail!("nothing beside {term}: {error}; {}", self.0.text().await?),
        };
        let first = told.lines().next().unwrap_or_default();
        Ok(first.trim().to_owned())
    }

    /// Goes through the questions of the first sign-in, whichever come.
    pub(super) async fn first_password(&self, password: &str) -> Result<()> {
        self.reads("はじめにパスワードを決めてください").await?;
        self.fill("新しいパスワード", password).await?;
        self.fill("もう一度", password).await?;
        self.click("このパスワードにする").await
    }

    /// Reads and accepts the terms, and answers what the fund asks, as far as it asks.
    async fn first_steps(&self, is_admin: bool) -> Result<()> {
        self.tick("利用規約を読み、同意します").await?;
        self.click("次へ進む").await?;
        if is_admin {
            self.reads("基金に登録されている内容をご確認ください")
                .await?;
            self.fill("郵便番号", "101-0051").await?;
            self.fill("所在地", "東京都千代田区神田神保町1-1").await?;
            self.fill("電話番号", "03-1234-5678").await?;
            self.click("この内容で次へ進む").await?;
            self.reads("基金からご連絡するときに使います").await?;
            self.fill("フリガナ", "ミホン タロウ").await?;
            self.fill("電話番号", "03-1234-5678").await?;
            self.click("この内容で次へ進む").await?;
        }
        self.click("いまはメールのまま始める").await
    }

    /// The word for a matching code: two groups of four digits.
    async fn matching_code(&self) -> Result<String> {
        self.reads("基金の承認を待っています").await?;
        let text = self.0.text().await?;
        renkei_tests::job::matching_code_in(&text).context("a matching code on the page")
    }
}

fn element_id(found: &serde_json::Value) -> Result<fantoccini::elements::ElementRef> {
    let id = found
        .as_object()
        .and_then(|members| members.values().next());
    let id = id
        .and_then(serde_json::Value::as_str)
        .context("an element")?;
    Ok(id.to_owned().into())
}

/// What stands in the letter to somebody new.
struct Letter {
    code: String,
    password: String,
}

/// A PC of somebody's, with the agent's window.
struct Pc {
    agent: Agent,
    window: Browser,
    /// What the window opens with.
    launch: String,
}

impl Pc {
    /// Unpacks a PC and asks for its registration with the letter's code; the matching code
    /// that the page then shows.
    async fn register(stage: &Stage, name: &str, code: &str) -> Result<(Self, String)> {
        let mut agent = stage.agent(name)?;
        agent.start(&["open", "--no-browser"])?;
        let launch = wait_for("the window's address", 30, async || {
            let log = agent.log_text();
            let line = log.lines().find(|line| line.starts_with(AGENT_PAGE));
            Ok(line.map(str::to_owned))
        })
        .await?;
        let folder = stage.folder().join("browsers");
        std::fs::create_dir_all(&folder)?;
        let proxy = agent.proxy()?;
        let window = Browser::open(&folder, &format!("{name}-new"), Some(&proxy), None).await?;
        window.go(&launch).await?;
        let person = Person(&window);
        person.reads("このパソコンを登録する").await?;
        person.fill("事業所番号", ESTABLISHMENT_NUMBER).await?;
        person.fill("登録コード", code).await?;
        person.click("登録を申請する").await?;
        let matching = person.matching_code().await?;
        let pc = Self {
            agent,
            window,
            launch,
        };
        Ok((pc, matching))
    }

    /// The agent opens its window anew when the PC is approved: only now it knows the key that
    /// the fund's pages show.
    async fn approved(&mut self, stage: &Stage, name: &str) -> Result<()> {
        Person(&self.window).reads("接続できます").await?;
        let data = stage.folder().join(name).join("data/enrolments");
        let key = portal_key(&data)?.context("the PC knows the key of the fund's pages")?;
        let (folder, proxy) = (stage.folder().join("browsers"), self.agent.proxy()?);
        let window = Browser::open(&folder, name, Some(&proxy), Some(&key)).await?;
        std::mem::replace(&mut self.window, window).close().await?;
        self.window.go(&self.launch).await
    }

    /// Connects, signs in with the letter's password and the mailed code, and answers what the
    /// first sign-in asks.
    async fn first_sign_in(&self, stage: &Stage, who: &New) -> Result<()> {
        let person = Person(&self.window);
        person.reads("接続できます").await?;
        let sent = stage.mailbox().codes_sent(who.email)?;
        person.press("接続").await?;
        person.reads("ユーザーID").await?;
        person.fill("ユーザーID", who.user_id).await?;
        person.fill("パスワード", &who.letter.password).await?;
        let code = stage.mailbox().wait_code(who.email, sent).await?;
        person.fill("ワンタイムパスワード", &code).await?;
        person.click("ログイン").await?;
        person.first_password(who.password).await?;
        person.first_steps(who.user_id == ADMIN_USER_ID).await
    }

    /// Files the PDF and reads that it was received.
    async fn file(&self, pdf: &str) -> Result<()> {
        let person = Person(&self.window);
        person.reads("ご利用ありがとうございます").await?;
        person.click("届書を提出する").await?;
        person.reads("ここにファイルをドラッグ").await?;
        person.field("ファイルを選ぶ").await?.send_keys(pdf).await?;
        person.reads("1個のファイルを提出できます").await?;
        person.press("提出する").await?;
        person.reads("届書を受け付けました").await
    }
}

/// Somebody who signs in for the first time.
struct New {
    user_id: &'static str,
    email: &'static str,
    letter: Letter,
    /// What is chosen in place of the letter's.
    password: &'static str,
}

async fn staff_signs_in(office: &Browser, staff: &Staff) -> Result<()> {
    let person = Person(office);
    person.reads("職員のログイン").await?;
    person.fill("ユーザーID", &staff.user_id).await?;
    person.fill("パスワード", &staff.password).await?;
    person.fill("認証アプリの数字", &staff_code(staff)?).await?;
    person.click("ログイン").await?;
    person.reads("ログアウト").await
}

/// Staff hear a code on the telephone and approve the PC.
async fn staff_approves(office: &Browser, matching: &str) -> Result<()> {
    let person = Person(office);
    person.click("パソコン").await?;
    person.reads(matching).await?;
    person.tick("番号と一致しました").await?;
    person.click("承認する").await?;
    person.reads("承認しました").await
}

/// The reviewer registers an establishment while on the telephone, and reads the letter.
async fn reviewer_registers(office: &Browser) -> Result<Letter> {
    let person = Person(office);
    person.click("事業所").await?;
    person.click("事業所を登録する").await?;
    person.fill("事業所番号", ESTABLISHMENT_NUMBER).await?;
    person.fill("事業所の名称", ESTABLISHMENT_NAME).await?;
    person.fill("氏名", ADMIN_NAME).await?;
    person.fill("ユーザーID", ADMIN_USER_ID).await?;
    person.fill("メールアドレス", ADMIN_EMAIL).await?;
    person.press("登録する").await?;
    Ok(Letter {
        code: person.read_beside("登録コード").await?,
        password: person.read_beside("初期パスワード").await?,
    })
}

/// The reviewer decides the oldest filing.
async fn reviewer_decides(office: &Browser) -> Result<()> {
    let person = Person(office);
    person.click("審査").await?;
    person.click("資格喪失届").await?;
    person.click("審査を始める").await?;
    person.click("決定通知書を作る").await?;
    person.fill("加入者番号", "0001234").await?;
    person.fill("氏名", "髙﨑 一郎").await?;
    person.field("決定事項").await?.select_by_index(1).await?;
    person
        .field("異動年月日")
        .await?
        .send_keys("05012024")
        .await?;
    person.click("下書きを作って確認する").await?;
    person.click("決定して通知書を発行する").await?;
    person.reads("未読").await
}

/// The admin fetches what the mail spoke of.
async fn admin_fetches(admin: &Browser) -> Result<()> {
    let person = Person(admin);
    person.click("通知書").await?;
    person.reads("未読").await?;
    person.click("決定通知書").await?;
    person.click("PDFで受け取る").await?;
    wait_for("the downloaded notice", 20, async || {
        let files = std::fs::read_dir(&admin.downloads)?;
        let names = files.map(|file| Ok(file?.file_name().to_string_lossy().into_owned()));
        let names = names.collect::<Result<Vec<_>>>()?;
        Ok(names.into_iter().find(|name| name.ends_with(".pdf")))
    })
    .await
    .map(drop)
}

/// The admin lets a sharoushi work for the establishment, and reads the slip.
async fn admin_adds_sharoushi(admin: &Browser) -> Result<Letter> {
    let person = Person(admin);
    person.click("利用者").await?;
    person.click("利用者を追加する").await?;
    person.fill("氏名", SHAROUSHI_NAME).await?;
    person.fill("ユーザーID", SHAROUSHI_USER_ID).await?;
    person.fill("メールアドレス", SHAROUSHI_EMAIL).await?;
    person.tick("この方専用のパソコンを登録する").await?;
    person.press("追加する").await?;
    Ok(Letter {
        code: person.read_beside("登録コード").await?,
        password: person.read_beside("初期パスワード").await?,
    })
}

/// S003-19, S003-21, S003-25, S003-34, S003-35, S003-39: a reviewer, an admin and a sharoushi, each from the
/// invitation to the goal, by what the pages say.
#[tokio::test]
async fn newcomers_reach_their_goals_by_what_the_pages_say() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let folder = stage.folder().join("browsers");
    std::fs::create_dir_all(&folder)?;
    let key = key_shown_at(&stage.office_url(), &stage.ca_file()).await?;
    let office = Browser::open(&folder, "office", None, Some(&key)).await?;
    office.go(&stage.office_url()).await?;
    staff_signs_in(&office, &stage.staff).await?;
    let letter = reviewer_registers(&office).await?;

    let (mut admin, matching) = Pc::register(&stage, "pc1", &letter.code).await?;
    staff_approves(&office, &matching).await?;
    admin.approved(&stage, "pc1").await?;
    let new = New {
        user_id: ADMIN_USER_ID,
        email: ADMIN_EMAIL,
        letter,
        password: ADMIN_PASSWORD,
    };
    admin.first_sign_in(&stage, &new).await?;
    admin.file(&corpus(&format!("good/{PDF}"))).await?;
    reviewer_decides(&office).await?;
    admin_fetches(&admin.window).await?;

    let letter = admin_adds_sharoushi(&admin.window).await?;
    let (mut sharoushi, matching) = Pc::register(&stage, "pc2", &letter.code).await?;
    staff_approves(&office, &matching).await?;
    sharoushi.approved(&stage, "pc2").await?;
    let new = New {
        user_id: SHAROUSHI_USER_ID,
        email: SHAROUSHI_EMAIL,
        letter,
        password: SHAROUSHI_PASSWORD,
    };
    sharoushi.first_sign_in(&stage, &new).await?;
    sharoushi
        .file(&corpus("good/20250402_0123_資格取得届.pdf"))
        .await?;
    for window in [office, admin.window, sharoushi.window] {
        window.close().await?;
    }
    Ok(())
}
