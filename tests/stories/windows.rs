//! The agent for Windows, the real .exe, under Wine: it enrols, connects, files and fetches
//! through the real gateway and portal, and keeps its key so that nobody else can use it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use renkei_tests::browser::Browser;
use renkei_tests::job::{ADMIN_EMAIL, CORPUS_PASSWORD, FILED_ZIP, Letter, corpus};
use renkei_tests::process::{output, run, wait_for};
use renkei_tests::stage::{ESTABLISHMENT_NAME, ESTABLISHMENT_NUMBER};
use renkei_tests::wine::{self, Prefix};
use renkei_tests::{Agent, MemberPages, OfficePages, Stage, StageOptions};

/// The agent's page; it exists only behind the agent's proxy.
const AGENT_PAGE: &str = "http://renkei-agent.invalid/";

/// What every Windows 10 has; the program may ask for nothing else.
const SYSTEM_DLLS: [&str; 23] = [
    "advapi32.dll",
    "bcrypt.dll",
    "bcryptprimitives.dll",
    "comctl32.dll",
    "crypt32.dll",
    "dnsapi.dll",
    "gdi32.dll",
    "iphlpapi.dll",
    "kernel32.dll",
    "kernelbase.dll",
    "msvcrt.dll",
    "ncrypt.dll",
    "ntdll.dll",
    "ole32.dll",
    "oleaut32.dll",
    "psapi.dll",
    "secur32.dll",
    "shell32.dll",
    "user32.dll",
    "userenv.dll",
    "winhttp.dll",
    "winmm.dll",
    "ws2_32.dll",
];

/// A user of every Debian who is not the one that runs the tests.
const OTHER_USER: &str = "games";

/// How long the page may take to say something.
const PAGE_PATIENCE_S: u64 = 30;

/// Tries of the story about crashes; each ends the program at another moment.
const CRASHES: u32 = 10;
/// When the first ends it: before it can have written anything.
const FIRST_CRASH: Duration = Duration::from_millis(100);
/// How much later each of the others does.
const CRASH_STEP: Duration = Duration::from_millis(70);

/// S003-04, S003-24: one file for Windows 10 and 11, which needs nothing but what they bring
/// and can lie on a USB stick.
#[test]
fn the_exe_is_one_file_without_a_console_that_asks_for_system_dlls_alone() -> Result<()> {
    let program = wine::agent_program()?;
    let headers = output(
        Command::new("x86_64-w64-mingw32-objdump")
            .arg("-p")
            .arg(&program),
    )?;
    let asked: Vec<String> = headers
        .lines()
        .filter_map(|line| line.trim().strip_prefix("DLL Name:"))
        .map(|name| name.trim().to_lowercase())
        .collect();
    ensure!(!asked.is_empty(), "no imports in {headers}");
    for dll in asked {
        let is_set = dll.starts_with("api-ms-win-");
        ensure!(
            is_set || SYSTEM_DLLS.contains(&dll.as_str()),
            "it asks for {dll}"
        );
    }
    let subsystem = headers.lines().find(|line| line.starts_with("Subsystem"));
    ensure!(
        subsystem.is_some_and(|line| line.contains("Windows GUI")),
        "{subsystem:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_exe_does_the_main_job_under_wine() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let prefix = Arc::new(Prefix::new(&stage.folder().join("wine"))?);
    let office = OfficePages::open(&stage)?;
    office.sign_in(&stage).await?;
    let letter = office.register().await?;

    // Before anything is there, the program says so and what to do.
    let mut agent = stage.windows_agent("pc-windows", &prefix).await?;
    let status = agent.status()?;
    ensure!(status["state"] == "unenrolled", "{status:#}");

    // The clerk registers the PC and connects in the window, which is Linux's browser here.
    agent.start(&["open", "--no-browser"])?;
    let launch = wait_for("the window's address", 60, async || {
        Ok(agent
            .log_text()
            .lines()
            .find(|line| line.starts_with(AGENT_PAGE))
            .map(|line| line.trim().to_owned()))
    })
    .await?;
    let proxy = agent.proxy()?;
    let clerk = Browser::open(stage.folder(), "windows", Some(&proxy), None).await?;
    clerk.go(&launch).await?;
    let code = clicks_until_connected(&stage, &office, &clerk, &letter).await?;
    let status = agent.wait_state("connected").await?;
    ensure!(status["transport"] == "udp", "{status:#}");
    strangers_are_not_let_in(&status["proxy"]).await?;

    // Files go up, a notice comes down, bytes as they are.
    let pages = MemberPages::through(&stage, &agent)?;
    pages.first_sign_in(&letter, &code).await?;
    let zip = corpus(&format!("good/{FILED_ZIP}"))?;
    let receipt = pages.file(FILED_ZIP, &zip, Some(CORPUS_PASSWORD)).await?;
    pages.site.get(&receipt).await?.must_say(FILED_ZIP)?;
    let filing = office.take_oldest().await?;
    office.decide(&filing).await?;
    let list = pages.site.get("/notices").await?;
    let notice = list
        .links("/notices/")
        .into_iter()
        .next()
        .with_context(|| list.text())?;
    let (_, pdf) = pages.site.download(&format!("{notice}.pdf")).await?;
    let file = stage.folder().join("notice.pdf");
    std::fs::write(&file, &pdf)?;
    output(Command::new("qpdf").arg("--check").arg(&file))?;

    // Another double click goes to the same program.
    let again = output(&mut agent.command(&["open", "--no-browser"]))?;
    ensure!(again.trim().starts_with(AGENT_PAGE), "{again}");

    sees(&clerk, "業務画面をご利用になれます").await?;
    output(&mut agent.command(&["disconnect"]))?;
    agent.wait_state("ended").await?;
    clerk.close().await?;
    agent.kill();
    another_user_cannot_use_the_key(&prefix, &agent)?;
    Ok(())
}

/// Enrols and connects with clicks alone; returns the one-time password that was mailed.
async fn clicks_until_connected(
    stage: &Stage,
    office: &OfficePages,
    clerk: &Browser,
    letter: &Letter,
) -> Result<String> {
    clerk.wait_text("このパソコンを登録する").await?;
    clerk
        .type_into("establishment", ESTABLISHMENT_NUMBER)
        .await?;
    clerk.type_into("code", &letter.registration_code).await?;
    clerk.click("登録を申請する").await?;
    clerk.wait_text("基金の承認を待っています").await?;
    let matching_code = clerk.find(".matching").await?.text().await?;
    office.approve(&matching_code).await?;
    sees(clerk, "接続できます").await?;
    clerk.wait_text(ESTABLISHMENT_NAME).await?;
    clerk.press("form[action='/connect'] button").await?;
    stage.mailbox().wait_code(ADMIN_EMAIL, 0).await
}

/// Waits until the agent's page says `words`. Loads it again and again: the page's own script
/// is patient for less than Wine needs on a machine that does other things too.
async fn sees(clerk: &Browser, words: &str) -> Result<()> {
    wait_for(words, PAGE_PATIENCE_S, async || {
        clerk.go(AGENT_PAGE).await?;
        let shown = clerk.text().await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(shown.contains(words).then_some(()))
    })
    .await
}

/// A program of Linux is in no process table of Windows: the proxy answers it nothing.
async fn strangers_are_not_let_in(proxy: &serde_json::Value) -> Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = proxy.as_str().context("a proxy")?;
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    // The other side may close before it has read this.
    let _ = stream
        .write_all(
            b"GET http://renkei-agent.invalid/ HTTP/1.1\r\nhost: renkei-agent.invalid\r\n\r\n",
        )
        .await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    // A reset is as good as an end.
    let _ = tokio::time::timeout(Duration::from_secs(20), read).await?;
    let text = String::from_utf8_lossy(&answer);
    ensure!(!text.contains("200 OK"), "a stranger is answered: {text}");
    Ok(())
}

/// The files of the enrolment, carried to another Windows user: they say that the key is no
/// use there, and a new registration is offered.
fn another_user_cannot_use_the_key(prefix: &Prefix, agent: &Agent) -> Result<()> {
    let data = prefix.local_app_data()?.join("Renkei");
    let keys = files_called(&data, "device-key")?;
    ensure!(keys.len() == 1, "{keys:?}");
    let key = std::fs::read(&keys[0])?;
    // The OID of a P-256 key stands in clear in every PKCS #8 file.
    let p256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    ensure!(
        !key.windows(p256.len()).any(|part| part == p256),
        "the key lies on the disk as it is"
    );
    let ready = status_in(prefix, agent.config())?;
    ensure!(ready["state"] == "ready", "{ready:#}");

    let folder = tempfile::tempdir()?;
    output(Command::new("chmod").arg("755").arg(folder.path()))?;
    let other = Prefix::of_user(&folder.path().join("wine"), OTHER_USER)?;
    let there = other.local_app_data()?.join("Renkei");
    output(Command::new("cp").arg("-a").arg(&data).arg(&there))?;
    let config = other.drive_c().join("agent.toml");
    std::fs::write(&config, "# Everything by itself.\n")?;
    other.install_agent()?;
    other.hand_over()?;
    let status = status_in(&other, &config)?;
    ensure!(status["state"] == "unenrolled", "{status:#}");
    let reason = status["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("もう一度"), "no way on: {status:#}");
    Ok(())
}

/// What the agent in a prefix says of itself.
pub(crate) fn status_in(prefix: &Prefix, config: &Path) -> Result<serde_json::Value> {
    let mut command = prefix.wine();
    command
        .arg(prefix.agent())
        .args(["--config", &wine::windows_path(config)])
        .args(["status", "--json"]);
    let told = run(&mut command)?;
    let printed = String::from_utf8_lossy(&told.stdout).into_owned();
    serde_json::from_str(&printed)
        .with_context(|| format!("{printed}{}", String::from_utf8_lossy(&told.stderr)))
}

#[tokio::test]
async fn ended_at_any_moment_of_an_enrolment_the_exe_goes_on_with_the_same_key() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let prefix = Arc::new(Prefix::new(&stage.folder().join("wine"))?);
    let office = OfficePages::open(&stage)?;
    office.sign_in(&stage).await?;
    let letter = office.register().await?;
    let mut agent = stage.windows_agent("pc-windows", &prefix).await?;
    let arguments = [
        "enrol",
        "--establishment",
        ESTABLISHMENT_NUMBER,
        "--code",
        &letter.registration_code,
        "--no-wait",
    ];
    let data = prefix.local_app_data()?.join("Renkei");
    let mut delay = FIRST_CRASH;
    let mut code = None;
    for _ in 0..CRASHES {
        agent.start(&arguments)?;
        tokio::time::sleep(delay).await;
        agent.kill();
        delay += CRASH_STEP;
        let status = agent.status()?;
        let damage = status["reason"].as_str().unwrap_or_default();
        ensure!(!damage.contains("壊れて"), "{status:#}");
        // Whose request is there already has nothing more to send.
        if status["state"] == "pending" {
            code = status["matching_code"].as_str().map(str::to_owned);
            break;
        }
    }
    if code.is_none() {
        output(&mut agent.command(&arguments))?;
        code = agent.status()?["matching_code"].as_str().map(str::to_owned);
    }
    let code = code.context("a matching code")?;
    ensure!(
        files_called(&data, "enrolment.json")?.len() == 1,
        "one enrolment, however often it was begun"
    );
    office.approve(&code).await?;
    let status = agent.wait_state("ready").await?;
    ensure!(status["matching_code"].is_null() || status["matching_code"] == code.as_str());
    Ok(())
}

pub(crate) fn files_called(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_called(&path, name)?);
        } else if path.file_name().is_some_and(|found| found == name) {
            found.push(path);
        }
    }
    Ok(found)
}
