//! Passkeys in a real browser, with Chromium's virtual authenticator in place of a fingerprint
//! reader: the clerk's window goes through the agent's proxy and trusts the one key that the
//! agent was given, as in life.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use renkei_tests::browser::{Browser, key_shown_at};
use renkei_tests::job::{ADMIN_NAME, AtWork};
use renkei_tests::process::{output, wait_for};
use renkei_tests::{Stage, StageOptions};
use serde_json::{Value, json};

use crate::browser::{Inspector, portal_key};

/// A PC with a fingerprint reader, whose owner is at it.
async fn reader(browser: &Browser) -> Result<String> {
    browser.devtools("WebAuthn.enable", json!({})).await?;
    let options = json!({
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": true,
        "hasUserVerification": true, "isUserVerified": true,
        "automaticPresenceSimulation": true,
    });
    let command = "WebAuthn.addVirtualAuthenticator";
    let made = browser
        .devtools(command, json!({ "options": options }))
        .await?;
    let id = made["authenticatorId"].as_str();
    Ok(id.context("a virtual authenticator")?.to_owned())
}

/// What the reader keeps, secrets and all.
async fn kept(browser: &Browser, reader: &str) -> Result<Value> {
    let asked = json!({ "authenticatorId": reader });
    let kept = browser.devtools("WebAuthn.getCredentials", asked).await?;
    Ok(kept["credentials"].clone())
}

/// Lets everybody's second factor have been shown an hour ago, or just now.
fn let_factors_be(stage: &Stage, age_s: u32) -> Result<()> {
    const AGE: &str = "import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=10)
shown = int((time.time() - int(sys.argv[2])) * 1000)
db.execute('UPDATE web_sessions SET factor_ms = ?', (shown,))
db.commit()";
    output(
        Command::new("/usr/bin/python3")
            .args(["-c", AGE])
            .arg(stage.sqlite_file())
            .arg(age_s.to_string()),
    )
    .map(drop)
}

/// An hour.
const OLD_S: u32 = 3_600;

/// Registers a passkey on the page of one's own.
async fn register(browser: &Browser, page: &str, name: &str) -> Result<()> {
    browser.go(page).await?;
    browser.type_into("name", name).await?;
    browser.click("パスキーを登録する").await?;
    browser.wait_text("パスキーを登録しました").await?;
    browser.wait_text(name).await
}

/// S003-33: a clerk registers a passkey, signs in and confirms with it alone; a
/// copy of it is found out, and the other ways are still there; staff do the same.
#[tokio::test]
async fn a_passkey_signs_in_and_confirms_and_a_copy_of_it_is_found_out() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let inspector = Inspector::new()?;
    let folder = stage.folder().join("browsers");
    std::fs::create_dir_all(&folder)?;
    let key = portal_key(&stage.folder().join("pc1/data/enrolments"))?.context("a key")?;
    let proxy = work.agent.proxy()?;
    let clerk = Browser::open(&folder, "clerk", Some(&proxy), Some(&key)).await?;
    let url = stage.member_url();
    let at = |path: &str| format!("{}{path}", url.trim_end_matches('/'));
    let own = reader(&clerk).await?;
    clerk
        .take_cookies(&url, &work.pages.site.cookie_header())
        .await?;
    let_factors_be(&stage, 0)?;
    clerk.go(&at("/settings")).await?;
    inspector.look(&clerk, "member-settings-passkeys").await?;
    clerk.go(&at("/settings/passkeys")).await?;
    inspector.look(&clerk, "member-passkeys-none").await?;
    register(&clerk, &at("/settings/passkeys"), "総務のパソコン").await?;
    inspector.look(&clerk, "member-passkeys").await?;
    let mails = stage.mailbox();
    wait_for("a mail about the passkey", 30, async || {
        let mails = mails.mails()?;
        Ok(mails
            .iter()
            .any(|mail| mail.body.contains("パスキーが登録されました"))
            .then_some(()))
    })
    .await?;

    // The second time, the reader says that it has one already.
    clerk.type_into("name", "もう一つ").await?;
    clerk.click("パスキーを登録する").await?;
    clerk.wait_text("すでに登録されています").await?;

    clerk.click("ログアウト").await?;
    clerk.wait_text("ログアウトしました").await?;
    clerk.go(&at("/sign-in")).await?;
    clerk.find("[data-passkey]:not([hidden])").await?;
    inspector.look(&clerk, "member-sign-in-passkey").await?;
    clerk.click("パスキーでログイン").await?;
    clerk.wait_text(&format!("{ADMIN_NAME} さん")).await?;

    let_factors_be(&stage, OLD_S)?;
    clerk.go(&at("/settings/zip-password")).await?;
    clerk.wait_text("ご本人の確認").await?;
    clerk.find("[data-passkey]:not([hidden])").await?;
    inspector.look(&clerk, "member-step-up-passkey").await?;
    clerk.click("で確認する").await?;
    clerk.wait_text("zipファイルのパスワード").await?;

    // A page of another name gets nothing out of the reader.
    let elsewhere = "const done = arguments[arguments.length - 1];
        navigator.credentials.get({publicKey: {challenge: new Uint8Array(32), rpId: 'example.jp',
            userVerification: 'required'}}).then(() => done('shown'), error => done(error.name));";
    let refused = clerk.client.execute_async(elsewhere, vec![]).await?;
    ensure!(refused == "SecurityError", "{refused}");

    // Somebody has copied the key, and uses the copy as it was then.
    let mut copied = kept(&clerk, &own).await?[0].clone();
    ensure!(copied["signCount"].as_u64() >= Some(3), "{copied}");
    copied["signCount"] = json!(1);
    let gone = json!({ "authenticatorId": own });
    clerk
        .devtools("WebAuthn.removeVirtualAuthenticator", gone)
        .await?;
    let thiefs = reader(&clerk).await?;
    let copied = json!({ "authenticatorId": thiefs, "credential": copied });
    clerk.devtools("WebAuthn.addCredential", copied).await?;
    clerk.click("ログアウト").await?;
    clerk.wait_text("ログアウトしました").await?;
    clerk.go(&at("/sign-in")).await?;
    clerk.find("[data-passkey]:not([hidden])").await?;
    clerk.click("パスキーでログイン").await?;
    clerk.wait_text("複製された疑いがある").await?;
    // The other ways are there as ever, and the passkey's is gone with it.
    clerk.find("input[name='password']").await?;
    inspector
        .look(&clerk, "member-sign-in-passkey-copied")
        .await?;
    let told = "複製された疑い";
    wait_for("a mail about the copy", 30, async || {
        let mails = mails.mails()?;
        Ok(mails
            .iter()
            .any(|mail| mail.body.contains(told))
            .then_some(()))
    })
    .await?;
    clerk.close().await?;

    staff_do_the_same(&stage, &work, &inspector).await?;
    inspector.must_have_found_nothing();
    Ok(())
}

async fn staff_do_the_same(stage: &Stage, work: &AtWork, inspector: &Inspector) -> Result<()> {
    let folder = stage.folder().join("browsers");
    let url = stage.office_url();
    let at = |path: &str| format!("{}{path}", url.trim_end_matches('/'));
    let key = key_shown_at(&url, &stage.ca_file()).await?;
    let office = Browser::open(&folder, "office", None, Some(&key)).await?;
    reader(&office).await?;
    office
        .take_cookies(&url, &work.office.site.cookie_header())
        .await?;
    let_factors_be(stage, 0)?;
    register(&office, &at("/passkeys"), "業務課の窓口").await?;
    inspector.look(&office, "office-passkeys").await?;
    office.click("ログアウト").await?;
    office.wait_text("職員のログイン").await?;
    office.go(&at("/sign-in")).await?;
    office.find("[data-passkey]:not([hidden])").await?;
    inspector.look(&office, "office-sign-in-passkey").await?;
    office.click("パスキーでログイン").await?;
    office.wait_text("ログアウト").await?;
    let_factors_be(stage, OLD_S)?;
    office.go(&at("/passkeys")).await?;
    office.wait_text("ご本人の確認").await?;
    office.find("[data-passkey]:not([hidden])").await?;
    office.click("で確認する").await?;
    office.wait_text("業務課の窓口").await?;
    office.close().await
}
