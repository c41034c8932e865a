//! Which browser the agent for Windows, the real .exe, opens its window with: Edge, else Chrome,
//! as the registry and the company's policies have it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use renkei_tests::process::{Process, output, wait_for};
use renkei_tests::wine::Prefix;

use super::windows_bad_input::Pc;

/// Where Windows is told of installed programs.
const APP_PATHS: &str = r"SOFTWARE\Microsoft\Windows\CurrentVersion\App Paths";
/// Where Edge is, below C:.
const EDGE: &str = r"Program Files (x86)\Microsoft\Edge\Application\msedge.exe";
/// Where Chrome is, for one user.
const CHROME: &str = r"users\Public\Google\Chrome\Application\chrome.exe";
/// Where companies say what Edge and Chrome must do.
const EDGE_POLICIES: &str = r"SOFTWARE\Policies\Microsoft\Edge";
const CHROME_POLICIES: &str = r"SOFTWARE\Policies\Google\Chrome";
/// How long something under Wine may take, in seconds.
const PATIENCE_S: u64 = 60;

/// Where a program of the C: drive lies for Linux.
fn on_disk(prefix: &Prefix, program: &str) -> PathBuf {
    prefix.drive_c().join(program.replace('\\', "/"))
}

/// Installs a browser that writes down how it is started.
fn install(prefix: &Prefix, program: &str, key: &str) -> Result<()> {
    prefix.install(program, "browser.c", &[])?;
    prefix.register(key, &["/ve", "/d", &format!(r"C:\{program}")])
}

/// Opens the agent's window, ends the agent, and returns what the browser was started with.
async fn opened_with(pc: &Pc, logs: &Path, program: &str) -> Result<Vec<String>> {
    let written = on_disk(&pc.prefix, program).with_extension("exe.txt");
    let mut command = pc.command(&["open"]);
    let mut agent = Process::start("agent", logs, &mut command)?;
    let arguments = wait_for(program, PATIENCE_S, async || {
        agent.check_running()?;
        Ok(std::fs::read_to_string(&written).ok())
    })
    .await?;
    std::fs::remove_file(&written)?;
    let status = super::windows::status_in(&pc.prefix, &pc.config)?;
    let proxy = status["proxy"].as_str().context("a proxy")?.to_owned();
    output(&mut pc.command(&["quit"]))?;
    let arguments: Vec<String> = arguments.lines().map(str::to_owned).collect();
    for expected in [
        &format!("--proxy-server=http://{proxy}"),
        "--proxy-bypass-list=<-loopback>",
    ] {
        let found = arguments.iter().any(|argument| argument == expected);
        ensure!(found, "no {expected} in {arguments:#?}");
    }
    Ok(arguments)
}

/// The folder that a browser was told to keep its things in.
fn folder_of(arguments: &[String]) -> Result<&str> {
    arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("--user-data-dir="))
        .with_context(|| format!("no folder in {arguments:#?}"))
}

#[tokio::test]
async fn the_window_is_edges_else_chromes_and_never_one_that_a_policy_sends_elsewhere() -> Result<()>
{
    let folder = tempfile::tempdir()?;
    let prefix = Prefix::new(&folder.path().join("wine"))?;
    let pc = Pc::new(prefix, "# Everything by itself.\n")?;
    let (edge, chrome) = (
        format!(r"HKLM\{APP_PATHS}\msedge.exe"),
        format!(r"HKCU\{APP_PATHS}\chrome.exe"),
    );
    let none = pc.told(&["open"])?;
    ensure!(none.contains("Google Chrome が見つかりません"), "{none}");

    // What the user's half says of Edge is left over from one that was removed.
    let removed = format!(r"HKCU\{APP_PATHS}\msedge.exe");
    pc.prefix
        .register(&removed, &["/ve", "/d", r"C:\gone\msedge.exe"])?;
    install(&pc.prefix, CHROME, &chrome)?;
    install(&pc.prefix, EDGE, &edge)?;
    let arguments = opened_with(&pc, folder.path(), EDGE).await?;
    let page = arguments
        .iter()
        .find(|argument| argument.starts_with("--app="));
    ensure!(
        page.is_some_and(|page| page.starts_with("--app=http://renkei-agent.invalid/?token=")),
        "{arguments:#?}"
    );
    let own = folder_of(&arguments)?;
    ensure!(
        own.ends_with(r"\AppData\Local\Renkei\browser"),
        "not its own folder: {own}"
    );
    ensure!(pc.prefix.local_app_data()?.join("Renkei/browser").is_dir());
    let other = on_disk(&pc.prefix, CHROME).with_extension("exe.txt");
    ensure!(!other.exists(), "Chrome was started too");

    // The company sends Edge through a proxy of its own: Chrome still goes where it is told.
    let policies = format!(r"HKLM\{EDGE_POLICIES}");
    let mode = ["/v", "ProxyMode", "/d", "fixed_servers"];
    pc.prefix.register(&policies, &mode)?;
    let arguments = opened_with(&pc, folder.path(), CHROME).await?;
    ensure!(folder_of(&arguments)? == own, "{arguments:#?}");
    let first = on_disk(&pc.prefix, EDGE).with_extension("exe.txt");
    ensure!(!first.exists(), "Edge was started too");

    // Both: no window goes elsewhere, and the sentence names what is to be changed.
    let policies = format!(r"HKCU\{CHROME_POLICIES}");
    let mode = ["/v", "ProxyServerMode", "/t", "REG_DWORD", "/d", "2"];
    pc.prefix.register(&policies, &mode)?;
    let said = pc.told(&["open"])?;
    for words in [
        "会社の設定（グループポリシー）",
        EDGE,
        &format!(r"{EDGE_POLICIES}\ProxyMode"),
    ] {
        ensure!(said.contains(words), "no {words} in {said}");
    }
    ensure!(!first.exists() && !other.exists(), "a window was opened");

    // Without Edge it is Chrome's policy that is named.
    output(pc.prefix.wine().args(["reg", "delete", &edge, "/f"]))?;
    let said = pc.told(&["open"])?;
    let policy = format!(r"{CHROME_POLICIES}\ProxyServerMode");
    ensure!(said.contains(&policy), "{said}");
    Ok(())
}
