//! From a command that connects to the first byte of a page behind the tunnel.
//!
//! Runs as a process of its own in the PC's network namespace. Until the page comes it asks
//! for it again every few milliseconds, each time on a new connection, as nobody can know
//! when a tunnel is up; a try that was begun too early does not hold the next one up.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::{Client, StatusCode};
use tokio::task::JoinSet;

use super::client::Way;
use super::{now, seconds};
use crate::stage::MEMBER_HOST;

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(3);
/// How long a try may take.
const TRY_LIMIT: Duration = Duration::from_secs(3);
/// Tries at a time.
const TRIES: usize = 50;
/// After this nobody waits any more.
const LIMIT: Duration = Duration::from_secs(30);

/// The arguments that make [`run`] do it.
pub(super) fn arguments(
    way: Way,
    path: &str,
    certificate: &Path,
    connect: &[String],
) -> Vec<String> {
    let (kind, address) = match way {
        Way::Straight(address) => ("straight", address),
        Way::Proxy(address) => ("proxy", address),
    };
    let mut all = vec![
        "first-byte".to_owned(),
        kind.to_owned(),
        address.to_string(),
        path.to_owned(),
        certificate.display().to_string(),
    ];
    all.extend_from_slice(connect);
    all
}

/// Runs the command and prints the seconds from its start to the first byte of the page.
pub(super) fn run(arguments: &[&str]) -> Result<()> {
    let [kind, address, path, certificate, program, rest @ ..] = arguments else {
        bail!("first-byte is for the benchmark itself");
    };
    let client = client(kind, address.parse()?, Path::new(certificate))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut connect = Command::new(program);
    connect
        .args(rest)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let url = format!("https://{MEMBER_HOST}/{path}");
    let taken = runtime.block_on(measure(&client, &url, &mut connect))?;
    println!("{}", seconds(taken));
    Ok(())
}

fn client(kind: &str, address: SocketAddr, certificate: &Path) -> Result<Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pem = std::fs::read(certificate)?;
    let builder = Client::builder()
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?)
        .pool_max_idle_per_host(0)
        .timeout(TRY_LIMIT);
    let builder = match kind {
        "straight" => builder.no_proxy().resolve(MEMBER_HOST, address),
        "proxy" => builder.proxy(reqwest::Proxy::all(format!("http://{address}"))?),
        _ => bail!("unknown way {kind}"),
    };
    Ok(builder.build()?)
}

async fn measure(client: &Client, url: &str, connect: &mut Command) -> Result<Duration> {
    let begun = now();
    let mut command = connect.spawn().context("start the command that connects")?;
    let mut tries = JoinSet::new();
    let taken = loop {
        if tries.len() < TRIES {
            let request = client.get(url).send();
            tries.spawn(async move { Ok::<_, reqwest::Error>(request.await?.status()) });
        }
        tokio::select! {
            Some(tried) = tries.join_next() => {
                if let Ok(Ok(StatusCode::OK)) = tried {
                    break begun.elapsed();
                }
                tokio::time::sleep(PAUSE).await;
            }
            () = tokio::time::sleep(PAUSE) => {}
        }
        ensure!(begun.elapsed() < LIMIT, "no page within {LIMIT:?}");
    };
    let status = command.wait()?;
    ensure!(status.success(), "the command that connects: {status}");
    Ok(taken)
}
