//! The program: reads the command line and the settings, runs one command, sets the exit
//! code (0 done, 1 failed, 2 wrong usage or settings).
//!
//! On Windows it has no console of its own, so that a double click opens none; started from
//! one, it speaks there.

#![cfg_attr(windows, windows_subsystem = "windows")]

use std::process::ExitCode;
use std::time::Duration;

use vpn_agent::cli::Cli;
use vpn_agent::config::Config;
use vpn_agent::os;
use vpn_agent::update::{guard, take_over};

/// Wrong usage or settings; clap uses the same.
const USAGE: u8 = 2;

/// How long work outside the loop, such as asking for a name's address, may hold up the end.
const LAST_WORK_LIMIT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    os::attach_console();
    let cli = Cli::of_process();
    vpn_agent::log::begin();
    if cli.guards.is_none() {
        take_over::arrive(cli.replaces.as_deref());
    }
    let environment = |name: &str| std::env::var(name).ok();
    let config = match Config::load(cli.config.as_deref(), environment) {
        Ok(config) => config,
        Err(error) => {
            os::tell_failure(&error.to_string());
            return ExitCode::from(USAGE);
        }
    };
    if let Some(program) = &cli.guards {
        return match guard::watch_over_start(program, &config.data_dir) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                os::tell_failure(&error.to_string());
                ExitCode::FAILURE
            }
        };
    }
    // One worker: a packet meets the browser's connection without changing threads, which
    // costs more than everything else that is done with it but encrypting.
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            os::tell_failure(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(vpn_agent::commands::run(cli.command, cli.profile, &config));
    // A name server that does not answer keeps its thread for up to half a minute.
    runtime.shutdown_timeout(LAST_WORK_LIMIT);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            os::tell_failure(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
