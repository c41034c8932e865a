//! `portal serve`: the listeners, the workers beside them, and the clean end.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use portal::app::App;
use portal::listeners::{Addresses, Listeners, Routers};
use portal::mail::{outbox, smtp::Smtp};
use portal::{housekeeping, tunnel_sessions, web};
use tokio::signal::unix::{SignalKind, signal};

/// How often sessions that nobody reported are closed.
const SWEEP: Duration = Duration::from_secs(15);
/// How long the workers may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Serves until SIGTERM or SIGINT.
pub(super) async fn serve(app: App) -> anyhow::Result<()> {
    let smtp = Smtp::new(&app.config.smtp)?;
    let listeners = Listeners::bind(&app).await?;
    let addresses = listeners.addresses()?;
    if let Some(folder) = &app.config.state_dir {
        write_addresses(folder, &addresses)
            .with_context(|| format!("cannot write to state_dir {}", folder.display()))?;
    }
    stop_on_signal(&app)?;
    let workers = [
        tokio::spawn(outbox::run(app.clone(), smtp)),
        tokio::spawn(sweep(app.clone())),
        tokio::spawn(housekeeping::run(app.clone())),
    ];
    let Addresses {
        member,
        office,
        control,
    } = addresses;
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

/// Closes the rows of sessions whose deadline has passed.
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
    }
}

/// Writes `listening.json`; whoever waits for it never sees half of it.
fn write_addresses(folder: &Path, addresses: &Addresses) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let (file, draft) = (
        folder.join("listening.json"),
        folder.join("listening.json.new"),
    );
    std::fs::write(&draft, serde_json::to_vec_pretty(addresses)?)?;
    std::fs::rename(&draft, &file)?;
    Ok(())
}
