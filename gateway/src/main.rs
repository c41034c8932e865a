//! The gateway program: reads its arguments and settings, runs until it is told to stop.
//!
//! Logs go to stderr (`RUST_LOG`, `RENKEI_LOG_FORMAT`). Exit codes: 0 done, 1 failed, 2 wrong usage or
//! configuration.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use gateway::config::Config;
use gateway::serve::Gateway;
use tokio::signal::unix::{SignalKind, signal};
use tracing::error;

/// What is logged if `RUST_LOG` does not say.
const DEFAULT_LOG: &str = "info";

/// Where the settings lie unless `--config` says otherwise.
const DEFAULT_CONFIG: &str = "/etc/renkei/gateway.toml";
/// Wrong usage or configuration.
const USAGE: u8 = 2;

/// Renkei's gateway: lets devices in that the portal has granted a session.
#[derive(Debug, Parser)]
#[command(name = "gateway", version)]
struct Arguments {
    /// The settings (TOML). Each key can be overridden by RENKEI_… in the environment.
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT.
    Serve,
}

fn main() -> ExitCode {
    let Arguments {
        config,
        command: Command::Serve,
    } = Arguments::parse();
    if let Err(error) = operator::log::to_stderr(DEFAULT_LOG) {
        eprintln!("gateway: {error}");
        return USAGE.into();
    }
    let config = match Config::load(&config, std::env::vars_os()) {
        Ok(config) => config,
        Err(wrong) => {
            let wrong = anyhow::Error::from(wrong);
            error!("{wrong:#}");
            return USAGE.into();
        }
    };
    let served = operator::runtime::run(serve(&config));
    match served.context("cannot start").flatten() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            error!("{failed:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let gateway = Gateway::bind(config).await?;
    gateway.run(stop).await?;
    Ok(())
}
