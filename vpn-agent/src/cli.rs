//! The command line: what may be typed, and what `--help` says about it.
//!
//! Parses only; [`crate::commands`] acts. Wrong usage ends with exit code 2 (clap's own).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use protocol::EstablishmentNumber;

use crate::desk::Choice;
use crate::update::running_version_text;
use crate::urls::GatewayUrl;

/// Connects this PC to the fund's document exchange (連携).
#[derive(Debug, Parser)]
#[command(name = "vpn-agent", version = running_version_text(), arg_required_else_help = true)]
pub struct Cli {
    /// Settings (TOML). Default: vpn-agent.toml in the user's configuration folder, if there.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The program whose place this one takes; an update is started so.
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub replaces: Option<PathBuf>,
    /// The program whose next version this one, its version of before, starts and watches.
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub guards: Option<PathBuf>,
    /// Which profile (登録先), if this PC has several: its number in the list of `profiles`, or
    /// the establishment's number.
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<Choice>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What this process was started with. Wrong usage ends the process.
    pub fn of_process() -> Self {
        Self::parse_from(meant(std::env::args_os().collect()))
    }
}

/// A double click passes no arguments, and means `open` where programs are started so.
fn meant(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if cfg!(windows) && arguments.len() <= 1 {
        arguments.push("open".into());
    }
    arguments
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask the fund to register this PC, show the matching code, wait for the approval.
    Enrol {
        /// Base URL of the fund's gateway. Default: `gateway_url` of the settings.
        #[arg(long, value_name = "URL")]
        gateway: Option<GatewayUrl>,
        /// The establishment's number (事業所番号).
        #[arg(long, value_name = "NUMBER")]
        establishment: EstablishmentNumber,
        /// The registration code (登録コード) that the fund sent.
        #[arg(long, value_name = "CODE")]
        code: String,
        /// Return after the request; `status`, `open` and `connect` go on asking.
        #[arg(long)]
        no_wait: bool,
    },
    /// Connect, and stay in the foreground until the session ends.
    Connect,
    /// Open the agent's window, or a password zip in it.
    Open {
        /// Print the window's address instead of opening a browser.
        #[arg(long)]
        no_browser: bool,
        /// Show the documents in this password zip.
        #[arg(value_name = "ZIP")]
        file: Option<PathBuf>,
    },
    /// List the profiles (登録先): the establishments and funds that this PC is enrolled for.
    Profiles {
        /// As a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Remove a profile and erase its key.
    Remove {
        /// Do it. Without this, only say what would be removed.
        #[arg(long)]
        yes: bool,
    },
    /// Erase every profile with its key; the uninstaller removes the rest.
    #[command(hide = true)]
    Forget,
    /// Say how things stand.
    Status {
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// End the session of the running agent.
    Disconnect,
    /// End the running agent: its session, its window, itself.
    Quit,
    /// Check everything that connecting needs; takes ten seconds at most.
    Diagnose {
        /// Write the result to a new zip too, without names, addresses and secrets.
        #[arg(long, value_name = "FILE")]
        bundle: Option<PathBuf>,
    },
}
