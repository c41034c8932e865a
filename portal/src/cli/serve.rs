//! `portal serve`: the listeners, the workers beside them, and the clean end.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use portal::app::App;
use portal::listeners::{Addresses, Listeners, Routers};
use portal::mail::{outbox, smtp::Smtp};
use portal::{custody, tunnel_sessions, uploads, web};
use tokio::signal::unix::{SignalKind, signal};

/// How often sessions that nobody reported are closed.
const SESSIONS: Duration = Duration::from_secs(15);
/// How often uploads that nobody finished are thrown away.
const UPLOADS: Duration = Duration::from_secs(10 * 60);
/// How often sealed objects that no row knows are looked for.
const ORPHANS: Duration = Duration::from_secs(6 * 60 * 60);
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
        tokio::spawn(every(app.clone(), "sessions", SESSIONS, |app| async move {
            let now = app.clock.now();
            tunnel_sessions::sweep(&app, now).await.map(drop)
        })),
        tokio::spawn(every(app.clone(), "uploads", UPLOADS, |app| async move {
            uploads::purge(&app, app.clock.now()).await
        })),
        tokio::spawn(every(app.clone(), "orphans", ORPHANS, |app| async move {
            let now = app.clock.now();
            custody::sweep(&app, now).await.map(drop)
        })),
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

/// Does `chore` every `period` until the portal stops.
async fn every<F, E>(
    app: App,
    what: &'static str,
    period: Duration,
    chore: impl Fn(App) -> F + Send,
) where
    F: Future<Output = Result<(), E>> + Send,
    E: std::error::Error + Send + 'static,
{
    let mut stopping = app.signals.stopping();
    loop {
        tokio::select! {
            () = stopping.wait() => return,
            () = tokio::time::sleep(period) => {}
        }
        if let Err(error) = chore(app.clone()).await {
            tracing::error!(what, error = %web::page_error::chain(&error), "chore failed");
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
