//! The whole job with no mouse: Tab, Enter, Space, arrows and letters. Wherever the focus comes
//! it must be seen. And the end of the ninety minutes, which must surprise nobody.

use anyhow::{Context as _, Result, bail, ensure};
use fantoccini::Locator;
use fantoccini::actions::{InputSource as _, KeyAction, KeyActions};
use renkei_tests::browser::{Browser, key_shown_at};
use renkei_tests::job::{ADMIN_EMAIL, ADMIN_PASSWORD, ADMIN_USER_ID, AtWork, FILED_PDF};
use renkei_tests::pages::staff_code;
use renkei_tests::process::output;
use renkei_tests::{Stage, StageOptions};
use serde_json::Value;

use crate::browser::{corpus, portal_key};

const TAB: &str = "\u{E004}";
pub(super) const ENTER: &str = "\u{E007}";
const SPACE: &str = " ";
const DOWN: &str = "\u{E015}";
/// How often Tab is pressed in search of something.
const TABS_LIMIT: usize = 120;
/// What has the focus: its words, and whether that can be seen.
const FOCUSED: &str = "const el = document.activeElement;
    const label = el.labels && el.labels[0];
    const button = ['BUTTON', 'A', 'SUMMARY'].includes(el.tagName);
    const words = button ? el.innerText : (label ? label.innerText : el.getAttribute('aria-label') || '');
    const shown = el.getBoundingClientRect().width > 1 ? el : label || el;
    const style = getComputedStyle(shown);
    const box = shown.getBoundingClientRect();
    const seen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2
        && box.bottom > 0 && box.top < innerHeight;
    return [words, seen, el.tagName]";

/// Somebody with a keyboard and no mouse.
pub(super) struct Keyboard<'a>(pub(super) &'a Browser);

impl Keyboard<'_> {
    /// Presses keys of the keyboard, one after the other, whatever has the focus.
    pub(super) async fn press(&self, keys: &str) -> Result<()> {
        let mut pressed = KeyActions::new("keyboard".into());
        for value in keys.chars() {
            pressed = pressed.then(KeyAction::Down { value });
            pressed = pressed.then(KeyAction::Up { value });
        }
        let done = self.0.client.perform_actions(pressed).await;
        done.context("press keys")
    }

    /// Presses Tab until what has the focus is called `words`.
    pub(super) async fn to(&self, words: &str) -> Result<()> {
        let mut passed = Vec::new();
        for _ in 0..TABS_LIMIT {
            self.press(TAB).await?;
            let focused = self.0.client.execute(FOCUSED, vec![]).await?;
            let called = focused[0].as_str().unwrap_or_default().trim().to_owned();
            if focused[2] == "BODY" {
                continue;
            }
            ensure!(focused[1] == true, "the focus is not to be seen: {focused}");
            if called.contains(words) {
                return Ok(());
            }
            passed.push(called);
        }
        bail!(
            "Tab does not lead to {words}, only to {passed:?} of {}",
            self.0.client.current_url().await?
        )
    }

    pub(super) async fn follow(&self, words: &str) -> Result<()> {
        self.to(words).await?;
        self.press(ENTER).await
    }

    pub(super) async fn fill(&self, label: &str, text: &str) -> Result<()> {
        self.to(label).await?;
        self.press(text).await
    }

    pub(super) async fn reads(&self, words: &str) -> Result<()> {
        self.0.wait_text(words).await
    }
}

async fn member_files(stage: &Stage, member: &Browser, code: &str) -> Result<()> {
    let keys = Keyboard(member);
    member.go(&stage.member_url()).await?;
    keys.reads("ユーザーID").await?;
    keys.fill("ユーザーID", ADMIN_USER_ID).await?;
    keys.fill("パスワード", ADMIN_PASSWORD).await?;
    keys.fill("ワンタイムパスワード", code).await?;
    keys.press(ENTER).await?;
    keys.reads("ご利用ありがとうございます").await?;
    keys.follow("本文へ移動").await?;
    keys.follow("届書を提出する").await?;
    keys.reads("ここにファイルをドラッグ").await?;
    keys.to("ファイルを選ぶ").await?;
    // Space opens the system's own dialog, which gives the page a file.
    let file = corpus(&format!("good/{FILED_PDF}"));
    member
        .client
        .find(Locator::Css("#file-input:focus"))
        .await
        .context("the file field has the focus")?
        .send_keys(&file)
        .await?;
    keys.reads("1個のファイルを提出できます").await?;
    keys.to("提出する").await?;
    keys.press(SPACE).await?;
    keys.reads("届書を受け付けました").await?;
    Ok(())
}

async fn reviewer_decides(stage: &Stage, office: &Browser) -> Result<()> {
    let staff = stage.further_staff("kikin02", "基金 次郎", "reviewer")?;
    let keys = Keyboard(office);
    office.go(&stage.office_url()).await?;
    keys.reads("職員のログイン").await?;
    keys.fill("ユーザーID", &staff.user_id).await?;
    keys.fill("パスワード", &staff.password).await?;
    keys.fill("認証アプリの数字", &staff_code(&staff)?).await?;
    keys.press(ENTER).await?;
    keys.reads("ログアウト").await?;
    keys.follow("審査").await?;
    keys.reads("資格喪失届").await?;
    keys.follow("資格喪失届").await?;
    keys.follow("審査を始める").await?;
    keys.reads("決定通知書を作り、").await?;
    keys.follow("決定通知書を作る").await?;
    keys.reads("1人目").await?;
    keys.fill("加入者番号", "0001234").await?;
    keys.fill("氏名", "髙﨑 一郎").await?;
    keys.fill("決定事項", DOWN).await?;
    keys.fill("異動年月日", "05012024").await?;
    keys.follow("下書きを作って確認する").await?;
    keys.reads("まだ発行されていません").await?;
    keys.follow("決定して通知書を発行する").await?;
    keys.reads("未読").await?;
    keys.follow("ログアウト").await?;
    keys.reads("ログイン").await
}

/// The PC's clock is moved on, and the page tells it in time, aloud too, and says at the end
/// what to do next.
async fn end_is_announced(stage: &Stage, member: &Browser) -> Result<()> {
    let source = "const real = Date.now; Date.now = () => real() + (window.aheadMs || 0);";
    member
        .devtools(
            "Page.addScriptToEvaluateOnNewDocument",
            serde_json::json!({"source": source}),
        )
        .await?;
    member.go(&stage.member_url()).await?;
    let left = "return Number(document.querySelector('[data-deadline-ms]').dataset.deadlineMs)
        - Number(document.querySelector('[data-now-ms]').dataset.nowMs)";
    let left_ms = member.client.execute(left, vec![]).await?;
    let left_ms = left_ms.as_i64().context("the time left")?;
    let announced = "const note = document.getElementById('session-notice');
        return !note.hidden && note.getAttribute('role') === 'status' && note.innerText";
    for (minutes, words) in [(9, "残り10分です"), (1, "残り2分です")] {
        let ahead = Value::from(left_ms - minutes * 60_000);
        member
            .client
            .execute("window.aheadMs = arguments[0]", vec![ahead])
            .await?;
        member.wait_text(words).await?;
        let said = member.client.execute(announced, vec![]).await?;
        ensure!(
            said.as_str().is_some_and(|said| said.contains(words)),
            "{said}"
        );
    }
    member
        .client
        .execute("window.aheadMs = arguments[0]", vec![Value::from(left_ms)])
        .await?;
    member.wait_text("切断されました").await?;
    member.wait_text("もう一度「接続」を押してください").await?;
    let modal = "return document.querySelector('dialog:modal') !== null";
    ensure!(
        member.client.execute(modal, vec![]).await? == true,
        "a modal dialog"
    );
    Ok(())
}

/// S003-33, S003-40, S003-44: signing in, filing, deciding and signing out by keyboard alone.
#[tokio::test]
async fn filing_and_deciding_need_no_mouse_and_the_end_comes_announced() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let mut work = AtWork::on(&stage).await?;
    output(&mut work.agent.command(&["disconnect"]))?;
    work.agent.wait_state("ended").await?;
    work.agent.connect().await?;
    let code = stage.mailbox().wait_code(ADMIN_EMAIL, 1).await?;

    let folder = stage.folder().join("browsers");
    std::fs::create_dir_all(&folder)?;
    let member_key = portal_key(&stage.folder().join("pc1/data/enrolments"))?.context("a key")?;
    let proxy = work.agent.proxy()?;
    let member = Browser::open(&folder, "member", Some(&proxy), Some(&member_key)).await?;
    member.set_window(1280, 800).await?;
    member_files(&stage, &member, &code).await?;
    let office_key = key_shown_at(&stage.office_url(), &stage.ca_file()).await?;
    let office = Browser::open(&folder, "office", None, Some(&office_key)).await?;
    office.set_window(1280, 800).await?;
    reviewer_decides(&stage, &office).await?;
    end_is_announced(&stage, &member).await?;
    office.close().await?;
    member.close().await
}
