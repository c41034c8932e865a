//! What the people who run the programs see of them while somebody works: Prometheus' own
//! reader of OpenMetrics reads what both show, and the health pages tell who is missing.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use renkei_tests::job::{ADMIN_EMAIL, ADMIN_NAME, AtWork, FILED_PDF, corpus};
use renkei_tests::process::{free_port, output, wait_for};
use renkei_tests::stage::ESTABLISHMENT_NAME;
use renkei_tests::{Stage, StageOptions};

/// Reads OpenMetrics from stdin and prints each sample with its value. Fails on what is not
/// OpenMetrics.
const READER: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.documentation, family.name
    for sample in family.samples:
        labels = ','.join(f'{name}={value}' for name, value in sorted(sample.labels.items()))
        print(f'{sample.name}{{{labels}}}', sample.value)
";
/// How long a figure may take to show what happened, in seconds.
const PATIENCE_S: u64 = 20;

/// One program's listener for the operator.
struct Watched(u16);

impl Watched {
    /// Gives a program such a listener; it opens when the program starts again.
    fn in_config(config: &std::path::Path) -> Result<Self> {
        let port = free_port()?;
        let mut file = OpenOptions::new().append(true).open(config)?;
        writeln!(file, "\n[operator]\nlisten = \"127.0.0.1:{port}\"")?;
        Ok(Self(port))
    }

    fn page(&self, path: &str) -> Result<(u16, String)> {
        let url = format!("http://127.0.0.1:{}{path}", self.0);
        let answer = output(Command::new("curl").args([
            "--silent",
            "--show-error",
            "--max-time",
            "5",
            "--write-out",
            "\n%{http_code}",
            &url,
        ]))?;
        let (text, status) = answer.rsplit_once('\n').context("a status")?;
        Ok((status.parse()?, text.to_owned()))
    }

    /// All samples, as Prometheus reads them.
    fn samples(&self) -> Result<(String, BTreeMap<String, f64>)> {
        let (status, text) = self.page("/metrics")?;
        ensure!(status == 200, "{status}: {text}");
        let mut reader = Command::new("/usr/bin/python3")
            .args(["-c", READER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut input = reader.stdin.take().context("a pipe")?;
        input.write_all(text.as_bytes())?;
        drop(input);
        let read = reader.wait_with_output()?;
        ensure!(read.status.success(), "not OpenMetrics:\n{text}");
        let samples = String::from_utf8(read.stdout)?
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect();
        Ok((text, samples))
    }

    /// Waits until a sample has the value.
    async fn shows(&self, sample: &str, wanted: impl Fn(f64) -> bool) -> Result<()> {
        let mut last = None;
        let shown = wait_for(sample, PATIENCE_S, async || {
            let (_, samples) = self.samples()?;
            last = samples.get(sample).copied();
            Ok(last.filter(|value| wanted(*value)).map(|_| ()))
        })
        .await;
        shown.with_context(|| format!("{sample} is {last:?}"))
    }
}

#[tokio::test]
async fn an_operator_sees_sessions_refusals_bytes_and_what_is_missing() -> Result<()> {
    let mut stage = Stage::start(StageOptions::default()).await?;
    let gateway = Watched::in_config(&stage.gateway_config())?;
    let portal = Watched::in_config(&stage.portal_config())?;
    stage.portal.terminate()?;
    stage.restart_portal().await?;
    stage.gateway.terminate()?;
    stage.restart_gateway().await?;
    for program in [&gateway, &portal] {
        wait_for("both to be ready", PATIENCE_S, async || {
            Ok((program.page("/health/ready")?.0 == 200).then_some(()))
        })
        .await?;
        ensure!(program.page("/health/live")?.0 == 200);
    }
    gateway
        .shows("renkei_gateway_sessions{}", |n| n == 0.0)
        .await?;

    let mut work = AtWork::on(&stage).await?;
    work.pages
        .file(FILED_PDF, &corpus(&format!("good/{FILED_PDF}"))?, None)
        .await?;
    let filed = corpus(&format!("good/{FILED_PDF}"))?.len() as f64;
    gateway
        .shows("renkei_gateway_sessions{}", |n| n == 1.0)
        .await?;
    gateway
        .shows("renkei_gateway_sessions_reached{transport=udp}", |n| {
            n == 1.0
        })
        .await?;
    gateway
        .shows("renkei_gateway_handshakes_total{outcome=completed}", |n| {
            n >= 1.0
        })
        .await?;
    gateway
        .shows("renkei_gateway_received_bytes_total{transport=udp}", |n| {
            n > filed
        })
        .await?;
    portal
        .shows(
            "renkei_portal_acts_total{act=session_opened,detail=}",
            |n| n == 1.0,
        )
        .await?;
    portal
        .shows("renkei_portal_mails_total{outcome=sent}", |n| n >= 2.0)
        .await?;

    work.agent.stop()?;
    gateway
        .shows("renkei_gateway_sessions{}", |n| n == 0.0)
        .await?;
    let closed = "renkei_gateway_sessions_ended_total{reason=disconnected}";
    gateway.shows(closed, |n| n == 1.0).await?;

    // A PC that staff have turned away, and what found no room: nothing, and that is shown.
    let list = work.office.site.get("/devices").await?;
    let device = list.links("/devices/").into_iter().next();
    let page = work.office.site.get(&device.context("a PC")?).await?;
    let form = page.form("/revoke")?.fill("reason", "入替え")?;
    work.office.site.submit(&form).await?;
    let again = work.agent.command(&["connect"]).output()?;
    ensure!(again.status.code() == Some(1), "{again:?}");
    let refused = "renkei_gateway_sessions_refused_total{reason=revoked}";
    gateway.shows(refused, |n| n >= 1.0).await?;
    for queue in ["udp", "tls", "answers"] {
        let dropped = format!("renkei_gateway_queue_drops_total{{queue={queue}}}");
        gateway.shows(&dropped, |n| n == 0.0).await?;
    }

    // Nobody is named, on neither side.
    for program in [&gateway, &portal] {
        let (text, _) = program.samples()?;
        let bare_name = ADMIN_NAME.replace(' ', "");
        for name in [
            ESTABLISHMENT_NAME,
            ADMIN_EMAIL,
            &bare_name,
            "127.0.0.1",
            "pc1",
        ] {
            ensure!(!text.contains(name), "{name} in:\n{text}");
        }
    }

    // Without the portal the gateway lives, and says that nobody new gets in.
    stage.portal.kill();
    wait_for("the gateway to miss the portal", PATIENCE_S, async || {
        let (status, text) = gateway.page("/health/ready")?;
        Ok((status == 503 && text.contains("feed")).then_some(()))
    })
    .await?;
    ensure!(gateway.page("/health/live")?.0 == 200);
    gateway
        .shows("renkei_gateway_feed_live{}", |n| n == 0.0)
        .await?;
    Ok(())
}
