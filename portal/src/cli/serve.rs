//! `portal serve`: the listeners, the workers beside them, and the clean end.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use operator::Operator;
use portal::app::App;
use portal::listeners::{Addresses, Listeners, Routers};
use portal::mail::{outbox, smtp::Smtp};
use portal::metrics::metrics;
use portal::{housekeeping, reminders, tunnel_sessions, virus_scan, web};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

/// How often sessions that nobody reported are closed.
const SWEEP: Duration = Duration::from_secs(15);
/// How long the workers may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Where the portal listens, for scripts that let the operating system choose ports.
#[derive(Serialize)]
struct Listening {
    #[serde(flatten)]
    pages: Addresses,
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<SocketAddr>,
}

/// Serves until SIGTERM or SIGINT.
pub(super) async fn serve(app: App) -> anyhow::Result<()> {
    let smtp = Smtp::new(&app.config.smtp)?;
    if app.config.virus_scan.is_none() {
        tracing::warn!("no virus_scan in the configuration: filings are not scanned for viruses");
    }
    let listeners = Listeners::bind(&app).await?;
    let operator = match &app.config.operator {
        Some(at) => {
            let checks = portal::metrics::checks(app.clone());
            Some(Operator::bind(at.listen, metrics().registry(), checks).await?)
        }
        None => None,
    };
    let addresses = Listening {
        pages: listeners.addresses()?,
        operator: operator.as_ref().map(Operator::local_addr).transpose()?,
    };
    if let Some(folder) = &app.config.state_dir {
        write_addresses(folder, &addresses)
            .with_context(|| format!("cannot write to state_dir {}", folder.display()))?;
    }
    stop_on_signal(&app)?;
    let workers = [
        tokio::spawn(outbox::run(app.clone(), smtp)),
        tokio::spawn(sweep(app.clone())),
        tokio::spawn(housekeeping::run(app.clone())),
        tokio::spawn(reminders::run(app.clone())),
        tokio::spawn(virus_scan::size::run(app.clone())),
    ];
    let operator = operator.map(|at| tokio::spawn(at.serve()));
    let Addresses {
        member,
        office,
        control,
    } = addresses.pages;
    tracing::info!(%member, %office, %control, "portal is up");
    if app.config.rehearsal {
        tracing::warn!("rehearsal: the calendar never closes");
    }
    let routers = Routers {
        member: web::member_router(app.clone()),
        office: web::office_router(app.clone()),
    };
    let served = listeners.serve(app.clone(), routers).await;
    app.signals.stop();
    if let Some(operator) = operator {
        operator.abort();
    }
    for worker in workers {
        if tokio::time::timeout(STOP_TIMEOUT, worker).await.is_err() {
            tracing::warn!("a worker did not end in time");
        }
    }
    served?;
    tracing::info!("portal has ended");
    Ok(())
}

fn stop_on_signal(app: &App) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let app = app.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        app.signals.stop();
    });
    Ok(())
}

/// Closes the rows of sessions whose deadline has passed, and counts the mails that wait.
async fn sweep(app: App) {
    let mut stopping = app.signals.stopping();
    loop {
        tokio::select! {
            () = stopping.wait() => return,
            () = tokio::time::sleep(SWEEP) => {}
        }
        if let Err(error) = tunnel_sessions::sweep(&app, app.clock.now()).await {
            tracing::error!(error = %web::page_error::chain(&error), "sessions not swept");
        }
        match outbox::waiting(&app.db).await {
            Ok(mails) => metrics().show_mails_waiting(mails),
            Err(error) => {
                tracing::error!(error = %web::page_error::chain(&error), "mails not counted");
            }
        }
    }
}

/// Writes `listening.json`; whoever waits for it never sees half of it.
fn write_addresses(folder: &Path, addresses: &Listening) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let (file, draft) = (
        folder.join("listening.json"),
        folder.join("listening.json.new"),
    );
    std::fs::write(&draft, serde_json::to_vec_pretty(addresses)?)?;
    std::fs::rename(&draft, &file)?;
    Ok(())
}
