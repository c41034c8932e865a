//! `diagnose` says what an office's network does, in words that its IT department understands.

use anyhow::{Context as _, Result, ensure};
use renkei_tests::Agent;
use renkei_tests::network::squid::Squid;

use super::office::{Family, GATEWAY_HOST, Town};

/// What `diagnose` prints. It ends with 1 if there is something to do, which there always is:
/// no browser is part of the story.
fn diagnosis(agent: &Agent) -> Result<String> {
    let done = agent.command(&["diagnose"]).output()?;
    let text = String::from_utf8(done.stdout.clone())?;
    ensure!(text.contains("保存場所"), "{text}{done:?}");
    Ok(text)
}

fn line<'a>(text: &'a str, begins: &str) -> Result<&'a str> {
    text.lines()
        .find(|line| line.starts_with(begins))
        .with_context(|| format!("no line begins with {begins}:\n{text}"))
}

#[test]
fn a_diagnosis_tells_what_the_network_does() -> Result<()> {
    let town = Town::new()?;
    let office = town.office(Family::V4)?;

    // Everything passes.
    office.firewall("")?;
    office.know_the_gateway(true)?;
    let agent = office.agent(&town.stage, "diagnosis-open", "none")?;
    let text = diagnosis(&agent)?;
    for good in [
        "[OK] パソコンの登録",
        "[OK] 時計",
        "[OK] 接続先の名前",
        "[OK] プロキシの設定",
        "[OK] 通信の検査",
        "[OK] 接続先との暗号通信",
        "[OK] パケットの大きさ",
        "[OK] HTTPS（直接）",
    ] {
        line(&text, good)?;
    }

    // A clock a year off, of a PC that is enrolled: the gateway's time is known all the same.
    let mut wrong = office.agent(&town.stage, "diagnosis-clock", "none")?;
    wrong.set_clock("+1y");
    let text = diagnosis(&wrong)?;
    ensure!(line(&text, "[NG] 時計")?.contains("進んで"), "{text}");
    line(&text, "[OK] 接続先との暗号通信")?;
    line(&text, "[OK] 通信の検査")?;

    // UDP is dropped: told of the session that runs, and nothing to worry about.
    office.firewall("meta l4proto udp drop")?;
    let mut running = office.agent(&town.stage, "diagnosis-udp", "none")?;
    running.start(&["open", "--no-browser"])?;
    office.pc.run(async || {
        running.wait_state("ready").await?;
        running.connect().await.map(drop)
    })?;
    let text = diagnosis(&running)?;
    let udp: Vec<_> = text
        .lines()
        .filter(|line| line.contains("UDPの通信"))
        .collect();
    for port in ["ポート51820", "ポート443"] {
        let told = udp.iter().find(|line| line.contains(port));
        let told = told.with_context(|| text.clone())?;
        ensure!(
            told.starts_with("[--]") && told.contains("応答がありません"),
            "{text}"
        );
    }
    line(&text, "[OK] 業務画面")?;
    running.stop()?;

    // Only the proxy knows the outside.
    office.firewall("meta l4proto udp drop\nmeta l4proto tcp drop")?;
    office.know_the_gateway(false)?;
    let proxy = format!("http://{}:{}", office.edge_host(), Squid::CONNECT_443);
    let agent = office.agent(&town.stage, "diagnosis-proxy", &proxy)?;
    let text = diagnosis(&agent)?;
    line(&text, "[--] 接続先の名前")?;
    line(&text, "[--] HTTPS（直接）")?;
    line(&text, "[OK] HTTPS（プロキシ経由）")?;
    line(&text, "[OK] 通信の検査")?;
    ensure!(
        line(&text, "[OK] プロキシの設定")?.contains("3130"),
        "{text}"
    );

    // A proxy that wants a password, and no name resolution without it.
    let proxy = format!("http://{}:{}", office.edge_host(), Squid::WITH_PASSWORD);
    let agent = office.agent(&town.stage, "diagnosis-password", &proxy)?;
    let text = diagnosis(&agent)?;
    let names = line(&text, "[NG] 接続先の名前")?;
    ensure!(
        names.contains(GATEWAY_HOST) && names.contains("DNS"),
        "{text}"
    );
    let told = line(&text, "[NG] HTTPS（プロキシ経由）")?;
    ensure!(told.contains("利用者名とパスワード"), "{text}");
    Ok(())
}
