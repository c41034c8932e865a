//! A supervisor (責任者) who sees the office's pages for the first time and has read no manual:
//! from the slip with the initial password to everything that only she may do. Fields are found
//! by their labels, buttons by their words.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use fantoccini::Locator;
use renkei_tests::browser::{Browser, key_shown_at};
use renkei_tests::job::{ADMIN_PASSWORD, AtWork, CORPUS_PASSWORD, corpus};
use renkei_tests::pages::{authenticator_code, staff_code};
use renkei_tests::process::{Process, output, wait_for};
use renkei_tests::stage::{ESTABLISHMENT_NAME, Staff};
use renkei_tests::{OfficePages, Stage, StageOptions};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use super::newcomers::Person;
use crate::browser::Inspector;

const NAME: &str = "責任 花子";
const USER_ID: &str = "sekinin-hanako";
const PASSWORD: &str = "minato-no-akari-to-fune-6";
/// EICAR's test file in parts, so that no scanner takes this file for it; anywhere in a file.
const SIGNATURE: [&str; 3] = [
    "Renkei.Test:0:*:58354f2150254041505b345c505a58353428505e29",
    "3743432937",
    "7d2445494341522d5354414e444152442d414e544956495255532d544553542d46494c452124482b482a\n",
];

/// A real clamd that knows one signature; its socket.
fn scanner(folder: &Path) -> Result<(Process, PathBuf)> {
    let folder = folder.join("clamd");
    std::fs::create_dir_all(folder.join("signatures"))?;
    std::fs::write(folder.join("signatures/renkei.ndb"), SIGNATURE.concat())?;
    let socket = folder.join("socket");
    let config = format!(
        "DatabaseDirectory {0}/signatures\nLocalSocket {0}/socket\nForeground yes\n\
         TemporaryDirectory {0}\nStreamMaxLength 256M\n",
        folder.display()
    );
    std::fs::write(folder.join("clamd.conf"), config)?;
    let mut command = Command::new("/usr/sbin/clamd");
    command.arg("--config-file").arg(folder.join("clamd.conf"));
    Ok((Process::start("clamd", &folder, &mut command)?, socket))
}

/// The seconds of now, by the machine's clock: the story runs on it.
#[expect(
    clippy::disallowed_methods,
    reason = "the story runs on the machine's clock"
)]
fn now_s() -> Result<u64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(now.as_secs())
}

/// The number in the authenticator app, a new one: none counts twice.
async fn next_code(staff: &Staff, used: &str) -> Result<String> {
    wait_for("the app's next number", 40, async || {
        let code = staff_code(staff)?;
        Ok((code != used).then_some(code))
    })
    .await
}

/// Hands in a zip by the plain form; the answer's status and page.
async fn hand_in(work: &AtWork, name: &str) -> Result<(StatusCode, String)> {
    let page = work.pages.site.get("/filings/plain").await?;
    let file = Part::bytes(corpus(&format!("bad/{name}"))?).file_name(name.to_owned());
    let form = Form::new()
        .text("csrf", page.attribute("input[name=csrf]", "value")?)
        .text("password", CORPUS_PASSWORD)
        .part("files", file);
    let request = work.pages.site.request(Method::POST, "/filings/plain");
    let answer = work.pages.site.send(request.multipart(form)).await?;
    Ok((answer.status(), answer.text().await?))
}

/// What others have prepared and she is to decide: a batch, the reset of the admin's
/// authenticator app. And a file in which the scanner found something.
async fn others_propose(work: &AtWork) -> Result<()> {
    let (office, clerk) = (&work.office.site, &work.pages.site);
    let (_, csv) = office.download("/batches/template.csv").await?;
    let csv = String::from_utf8(csv)?.replace("見本製作所株式会社", ESTABLISHMENT_NAME);
    let files = vec![("掛金.csv".to_owned(), csv.into_bytes())];
    let batch = work.office.drop_batch("csv", "2026-10", files).await?;
    work.office.propose_batch(&batch).await?;

    let start = clerk.get("/settings/authenticator").await?;
    let form = start.form("/settings/authenticator")?;
    let page = clerk
        .submit(&form.fill("password", ADMIN_PASSWORD)?)
        .await?;
    let secret: String = page.find("p.code")?.split_whitespace().collect();
    let code = authenticator_code(&secret, now_s()?)?;
    let form = page.form("/confirm")?.fill("code", &code)?;
    clerk.submit(&form).await?;
    let list = office.get("/establishments").await?;
    let links = list.links("/establishments/");
    let here = links.iter().find(|path| !path.ends_with("/new"));
    let page = office.get(here.context("an establishment")?).await?;
    let form = page.form("/authenticator")?.fill("reason", "電話を紛失")?;
    office.submit(&form).await?;

    let (status, page) = hand_in(work, "eicar_attached.zip").await?;
    ensure!(
        status == StatusCode::UNPROCESSABLE_ENTITY,
        "{status} {page}"
    );
    Ok(())
}

/// The system administrator makes her account and hands over what the page shows.
async fn administrator_invites(office: &Browser, inspector: &Inspector) -> Result<Staff> {
    let person = Person(office);
    person.click("職員").await?;
    person.click("職員を追加する").await?;
    person.fill("氏名", NAME).await?;
    person.fill("ユーザーID", USER_ID).await?;
    person
        .field("役割")
        .await?
        .select_by_label("責任者")
        .await?;
    person.press("追加する").await?;
    let password = person.read_beside("初期パスワード").await?;
    inspector.look(office, "office-staff-made").await?;
    person.click("図を読み取れないとき").await?;
    let shown = "//p[contains(., 'キーを手動で入力')]/following-sibling::p[1]";
    let secret = office.client.find(Locator::XPath(shown)).await?;
    let secret = secret.text().await?.split_whitespace().collect();
    person.click("職員の一覧に戻る").await?;
    person.reads("承認待ち").await?;
    inspector.look(office, "office-staff-awaiting").await?;
    Ok(Staff {
        user_id: USER_ID.into(),
        password,
        totp_secret: secret,
    })
}

/// She signs in with what she was handed; the number that counts no more.
async fn first_sign_in(office: &Browser, staff: &Staff) -> Result<String> {
    let person = Person(office);
    person.reads("職員のログイン").await?;
    person.fill("ユーザーID", &staff.user_id).await?;
    person.fill("パスワード", &staff.password).await?;
    let code = staff_code(staff)?;
    person.fill("認証アプリの数字", &code).await?;
    person.press("ログイン").await?;
    person.first_password(PASSWORD).await?;
    person.reads("ログアウト").await?;
    Ok(code)
}

/// She decides what waits for a second person. The first time is long after she signed in: the
/// page asks who she is, and goes on with what she pressed.
async fn decides(stage: &Stage, office: &Browser, staff: &Staff, used: &str) -> Result<()> {
    const AGE: &str = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=10)
db.execute('''UPDATE web_sessions SET factor_ms = 0
              WHERE account_id IN (SELECT id FROM staff WHERE name = ?)''', (sys.argv[2],))
db.commit()";
    let mut age = Command::new("/usr/bin/python3");
    output(age.args(["-c", AGE]).arg(stage.sqlite_file()).arg(NAME))?;
    let person = Person(office);
    person.click("承認").await?;
    person.reads("承認待ち").await?;
    person
        .press_under("通知書の一括発行", "承認して実行する")
        .await?;
    person.reads("ご本人の確認").await?;
    let code = next_code(staff, used).await?;
    person.fill("認証アプリの数字", &code).await?;
    person.press("確認して進む").await?;
    person.reads("承認しました").await?;
    let reset = "管理者の認証アプリ・パスキーの解除";
    person.press_under(reset, "承認して実行する").await?;
    person.reads("承認しました").await?;
    person.reads("承認待ちの申請はありません").await
}

/// She frees the file that was held; the system administrator agrees.
async fn frees_a_file(office: &Browser, administrator: &OfficePages) -> Result<()> {
    let person = Person(office);
    person.click("審査").await?;
    person.click("隔離したファイル").await?;
    person.reads("eicar_attached.zip").await?;
    person.fill("解放する理由", "検査用のファイル").await?;
    person.click("解放を申請する").await?;
    person.reads("別の方の承認をお待ちください").await?;
    administrator.approve_proposal().await.map(drop)
}

/// A Wednesday that is no holiday and no office's day off: the first in two months that falls
/// into the first half of March, June, October or November.
#[expect(
    clippy::disallowed_methods,
    reason = "the programs of a story have the machine's clock"
)]
fn a_wednesday_to_come() -> Date {
    let earliest = OffsetDateTime::now_utc().date() + time::Duration::days(60);
    let mut days = std::iter::successors(Some(earliest), |day| day.next_day());
    let is_one = |day: &Date| {
        use time::Month::{June, March, November, October};
        day.weekday() == time::Weekday::Wednesday
            && matches!(day.month(), March | June | October | November)
            && day.day() > 4
            && day.day() < 15
    };
    days.find(is_one).unwrap_or(earliest)
}

/// She enters a closing day after a look at what it changes, and takes it back.
async fn edits_the_calendar(office: &Browser, inspector: &Inspector) -> Result<()> {
    let person = Person(office);
    person.click("利用日カレンダー").await?;
    // A date field takes month, day, year. A Wednesday; nobody's holiday.
    let day = a_wednesday_to_come();
    let typed = day.format(format_description!("[month][day][year]"))?;
    person.field("日付").await?.send_keys(&typed).await?;
    person.fill("理由", "設備点検").await?;
    inspector.look(office, "office-calendar-keeper").await?;
    person.press("変更後を確かめる").await?;
    person.reads("まだ保存していません").await?;
    let (year, month, number) = (day.year(), u8::from(day.month()), day.day());
    person
        .reads(&format!(
            "{year}年{month}月{number}日（水）を休業日にします。"
        ))
        .await?;
    inspector.look(office, "office-calendar-preview").await?;
    person.press("この内容で保存する").await?;
    person.reads("カレンダーに登録しました").await?;
    person.reads("設備点検").await?;
    person.click("削除").await?;
    person.reads("通常どおりに戻します").await?;
    person.press("この内容で保存する").await?;
    person.reads("登録を削除しました").await
}

/// She finds what was done today, and has the record checked.
async fn reads_the_log(office: &Browser, inspector: &Inspector) -> Result<()> {
    let person = Person(office);
    person.click("操作の記録").await?;
    person.reads("書き換えや削除はできません").await?;
    person.fill("操作者", NAME).await?;
    person.press("検索する").await?;
    person.reads("利用日カレンダーを変更").await?;
    person.press("いますぐ確かめる").await?;
    person.reads("異常なし").await?;
    inspector.look(office, "office-audit").await
}

/// S003-06: a supervisor finds by the pages' words alone how to release a batch
/// that another made, approve a reset, free a file that was held, edit the calendar and check
/// the record.
#[tokio::test]
async fn a_new_supervisor_finds_everything_that_only_she_may_do() -> Result<()> {
    let mut stage = Stage::start(StageOptions::default()).await?;
    let (_scanner, socket) = scanner(stage.folder())?;
    let config = std::fs::read_to_string(stage.portal_config())?;
    let scan = format!("{config}\n[virus_scan]\nclamd = \"{}\"\n", socket.display());
    std::fs::write(stage.portal_config(), scan)?;
    wait_for("clamd", 30, async || Ok(socket.exists().then_some(()))).await?;
    stage.portal.terminate()?;
    stage.restart_portal().await?;
    let work = AtWork::on(&stage).await?;

    let inspector = Inspector::new()?;
    let folder = stage.folder().join("browsers");
    std::fs::create_dir_all(&folder)?;
    let key = key_shown_at(&stage.office_url(), &stage.ca_file()).await?;
    let administrator = stage.further_staff("kanri", "管理 次郎", "system_admin")?;
    let pages = OfficePages::open(&stage)?;
    pages.sign_in_as(&administrator).await?;
    let office = Browser::open(&folder, "administrator", None, Some(&key)).await?;
    let cookies = pages.site.cookie_header();
    office.take_cookies(&stage.office_url(), &cookies).await?;
    office.go(&stage.office_url()).await?;
    let staff = administrator_invites(&office, &inspector).await?;
    office.close().await?;

    // Until a second person has approved her, she has no vote.
    let colleague = OfficePages::open(&stage)?;
    let another = stage.further_staff("sekinin-jiro", "責任 次郎", "supervisor")?;
    colleague.sign_in_as(&another).await?;
    let page = colleague.approve_proposal().await?;
    page.must_say(&format!("{NAME}（{USER_ID}）"))?;
    others_propose(&work).await?;

    let office = Browser::open(&folder, "supervisor", None, Some(&key)).await?;
    office.go(&stage.office_url()).await?;
    let used = first_sign_in(&office, &staff).await?;
    decides(&stage, &office, &staff, &used).await?;
    frees_a_file(&office, &pages).await?;
    edits_the_calendar(&office, &inspector).await?;
    reads_the_log(&office, &inspector).await?;
    Person(&office).click("ログアウト").await?;
    office.close().await?;
    inspector.must_have_found_nothing();

    // The admin whose app was reset is signed out.
    let page = work.pages.site.open("/").await?;
    page.must_say("ログインしてください")?;
    Ok(())
}
