//! What can be wrong with a clerk's PC: each time a sentence, and a way on. The rest of the list
//! is told in `access` (clocks), `windows` (browsers) and `windows_package` (installers).

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use renkei_tests::disk::{SmallDisk, in_a_namespace_of_its_own, may_mount};
use renkei_tests::job::matching_code_in;
use renkei_tests::process::{Process, output, wait_for};
use renkei_tests::stage::ESTABLISHMENT_NUMBER;
use renkei_tests::{Agent, OfficePages, Stage, StageOptions};

/// How long the agent may take to tell, or to go on, in seconds.
const PATIENCE_S: u64 = 30;

/// How much further the answer of the gateway gets with each try, in bytes, and how many tries
/// are more than enough.
const CUT_STEP: usize = 300;
const MAX_CUTS: usize = 60;

async fn stage_with_a_code() -> Result<(Stage, OfficePages, String)> {
    let stage = Stage::start(StageOptions::default()).await?;
    let office = OfficePages::open(&stage)?;
    office.sign_in(&stage).await?;
    let letter = office.register().await?;
    Ok((stage, office, letter.registration_code))
}

fn enrol(agent: &Agent, gateway: &str, code: &str) -> Result<Output> {
    let number = ["--establishment", ESTABLISHMENT_NUMBER, "--code", code];
    let mut command = agent.command(&["enrol", "--no-wait", "--gateway", gateway]);
    Ok(command.args(number).output()?)
}

/// The sentence of a command that failed.
fn told(run: &Output) -> Result<String> {
    ensure!(run.status.code() == Some(1), "{run:?}");
    Ok(String::from_utf8(run.stderr.clone())?)
}

#[tokio::test]
async fn a_corrupt_key_store_is_told_kept_and_replaced_by_a_new_enrolment() -> Result<()> {
    let (stage, office, code) = stage_with_a_code().await?;
    let mut agent = office.enrol(&stage, "pc1", &code).await?;
    agent.stop()?;
    let data = agent.config().with_file_name("data");
    let key = files_called(&data, "device-key")?
        .pop()
        .context("a device key")?;
    std::fs::write(&key, b"not a key")?;

    agent.start(&["open", "--no-browser"])?;
    let status = agent.wait_state("unenrolled").await?;
    let reason = status["reason"].as_str().context("a reason")?;
    ensure!(reason.contains("登録情報が壊れている"), "{reason}");
    ensure!(reason.contains("登録コードを基金事務局に依頼"), "{reason}");
    // What cannot be read may still be looked at by somebody who knows more.
    ensure!(std::fs::read(&key)? == b"not a key");
    agent.stop()?;

    let code = office.further_code().await?;
    office.enrol_agent(&mut agent, &code).await?;
    agent.connect().await.map(drop)
}

#[tokio::test]
async fn a_full_disk_keeps_nobody_from_enrolling_once_there_is_room() -> Result<()> {
    if !may_mount() {
        return in_a_namespace_of_its_own(
            "misfortune::bad_input::a_full_disk_keeps_nobody_from_enrolling_once_there_is_room",
        );
    }
    let (stage, office, code) = stage_with_a_code().await?;
    let mut agent = stage.agent("pc1")?;
    let disk = SmallDisk::at(&agent.config().with_file_name("data"))?;
    disk.fill()?;
    let gateway = stage.gateway_url();
    let sentence = told(&enrol(&agent, &gateway, &code)?)?;
    ensure!(sentence.contains("空き容量とアクセス権"), "{sentence}");
    ensure!(
        disk.files()?
            .iter()
            .all(|file| !file.contains("device-key"))
    );

    // The same code still works.
    disk.free()?;
    let printed = agent.enrol(ESTABLISHMENT_NUMBER, &code)?;
    let matching = matching_code_in(&printed).with_context(|| printed.clone())?;
    agent.start(&["open", "--no-browser"])?;
    agent.wait_state("pending").await?;

    // The approval comes when there is no room for it, and is taken when there is.
    disk.fill()?;
    office.approve(&matching).await?;
    wait_for("the sentence", PATIENCE_S, async || {
        let status = agent.status()?;
        let reason = status["reason"].as_str().unwrap_or_default();
        Ok((status["state"] == "pending" && reason.contains("空き容量")).then_some(()))
    })
    .await?;
    disk.free()?;
    agent.wait_state("ready").await?;
    agent.connect().await?;
    agent.stop().map(drop)
}

#[tokio::test]
async fn a_port_that_is_taken_or_reserved_is_named_with_a_way_on() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let agent = stage.agent("pc1")?;
    let busy = TcpListener::bind(("127.0.0.1", 0))?;
    let port = busy.local_addr()?.port();
    agent.configure(&format!("proxy_port = {port}"))?;
    let run = agent.command(&["open", "--no-browser"]).output()?;
    let sentence = told(&run)?;
    ensure!(
        sentence.contains(&format!("ポート{port}は、別のプログラムが使っています")),
        "{sentence}"
    );
    ensure!(sentence.contains("その行を消すと"), "{sentence}");
    // As if Windows kept it for itself: this user may not have it.
    let reserved = stage.agent("pc2")?;
    reserved.configure("proxy_port = 80")?;
    let run = without_low_ports(&reserved, &["open", "--no-browser"]).output()?;
    let sentence = told(&run)?;
    ensure!(
        sentence.contains("ポート80は、このパソコンでは使えません"),
        "{sentence}"
    );
    ensure!(sentence.contains("予約している範囲"), "{sentence}");
    ensure!(sentence.contains("その行を消すと"), "{sentence}");

    // The way on: without the line any port does.
    let text = std::fs::read_to_string(reserved.config())?;
    std::fs::write(reserved.config(), text.replace("proxy_port = 80", ""))?;
    let mut command = without_low_ports(&reserved, &["open", "--no-browser"]);
    let opened = Process::start("pc2-again", &stage.logs(), &mut command)?;
    wait_for("the window's address", PATIENCE_S, async || {
        Ok(opened.log_text().contains("token=").then_some(()))
    })
    .await
}

/// The agent in a network of its own, without the right to ports below 1024.
fn without_low_ports(agent: &Agent, arguments: &[&str]) -> Command {
    let ordinary = agent.command(arguments);
    let mut command = Command::new("unshare");
    let script = "ip link set lo up && exec setpriv --bounding-set=-net_bind_service \
                  --inh-caps=-net_bind_service -- \"$@\"";
    command
        .args(["--map-root-user", "--net", "sh", "-c", script, "sh"])
        .arg(ordinary.get_program())
        .args(ordinary.get_args());
    command
}

#[tokio::test]
async fn a_connection_that_is_cut_during_enrolment_costs_neither_code_nor_key() -> Result<()> {
    let (stage, office, code) = stage_with_a_code().await?;
    let mut agent = stage.agent("pc1")?;
    let gateway: SocketAddr = stage
        .gateway_url()
        .strip_prefix("https://")
        .context("a gateway's address")?
        .trim_end_matches('/')
        .replace("localhost", "127.0.0.1")
        .parse()?;
    let limit = Arc::new(AtomicUsize::new(0));
    let relay = cut_after(gateway, limit.clone())?;
    let url = format!("https://127.0.0.1:{relay}");

    let mut cuts = 0;
    let printed = loop {
        limit.store(cuts * CUT_STEP, Ordering::SeqCst);
        let run = enrol(&agent, &url, &code)?;
        if run.status.success() {
            break String::from_utf8(run.stdout)?;
        }
        let sentence = told(&run)?;
        ensure!(
            sentence.contains("基金の接続口に届きませんでした")
                && sentence.contains("もう一度お試しください"),
            "after {} bytes: {sentence}",
            cuts * CUT_STEP
        );
        cuts += 1;
        ensure!(cuts < MAX_CUTS, "it never got through");
    };
    // In the middle of the handshake, and in the middle of the answer.
    ensure!(cuts >= 4, "only {cuts} cuts");
    println!("{cuts} cuts");

    // One PC waits at the office, whatever was asked how often; and it is this one.
    let matching = matching_code_in(&printed).with_context(|| printed.clone())?;
    office.approve(&matching).await?;
    let devices = office.site.get("/devices").await?.links("/devices/");
    ensure!(devices.len() == 1, "{devices:?}");
    limit.store(usize::MAX, Ordering::SeqCst);
    agent.start(&["open", "--no-browser"])?;
    agent.wait_state("ready").await?;
    agent.connect().await.map(drop)
}

/// Passes connections on to `target`, and cuts each after so many bytes from there.
fn cut_after(target: SocketAddr, limit: Arc<AtomicUsize>) -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(target)) else {
                return;
            };
            let limit = limit.clone();
            std::thread::spawn(move || pass_on(client, server, &limit));
        }
    });
    Ok(port)
}

fn pass_on(mut client: TcpStream, mut server: TcpStream, limit: &AtomicUsize) -> Result<()> {
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    let (mut buffer, mut passed) = ([0; 4096], 0);
    loop {
        let read = server.read(&mut buffer)?;
        let left = limit.load(Ordering::SeqCst).saturating_sub(passed);
        let passing = read.min(left);
        client.write_all(&buffer[..passing])?;
        passed += passing;
        if read == 0 || passing < read {
            client.shutdown(Shutdown::Both)?;
            return Ok(server.shutdown(Shutdown::Both)?);
        }
    }
}

fn files_called(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let mut find = Command::new("find");
    let found = output(find.arg(folder).args(["-type", "f", "-name", name]))?;
    Ok(found.lines().map(PathBuf::from).collect())
}
