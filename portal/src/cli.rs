//! The command line: what the system administrator does, and `serve`.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage. Results go to standard output, the log to
//! standard error by `RUST_LOG`. Secrets are printed only by the command that makes them,
//! once.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use portal::app::App;
use portal::batches::guard::worker as guard;
use portal::clock::Clock;
use portal::config::{Config, ConfigError};
use portal::db::Db;
use portal::keys::MasterKey;
use portal::page_images::worker;
use portal::staff::StaffRole;
use portal::text_layer;
use protocol::GatewayName;
use protocol::updates::Version;

mod agent_update;
mod copies;
mod gateway;
mod keys;
mod mail;
mod receipt;
mod records;
mod routes;
mod serve;
mod staff;

/// Where the configuration lies unless `--config` says otherwise.
const DEFAULT_CONFIG: &str = "/etc/renkei/portal.toml";
/// The variable that may hold the master key instead of a file.
const MASTER_KEY_VARIABLE: &str = "RENKEI_MASTER_KEY";
/// Exit code for a wrong configuration, as for wrong arguments.
const USAGE: u8 = 2;
/// What is logged unless `RUST_LOG` says otherwise.
const DEFAULT_LOG: &str = "info,sqlx=warn";

/// Renkei's portal: decides who may connect, and keeps what is exchanged.
#[derive(Debug, Parser)]
#[command(name = "portal", version)]
struct Cli {
    /// The configuration file.
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the members', the office's and the gateways' listeners.
    Serve,
    /// Brings the database up to date and ends.
    Migrate,
    /// Accounts of fund staff.
    #[command(subcommand)]
    Staff(StaffCommand),
    /// Gateways.
    #[command(subcommand)]
    Gateway(GatewayCommand),
    /// The master key.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// The agent's updates: signed where the key is kept, away from every server. These commands
    /// need no configuration.
    #[command(subcommand)]
    AgentUpdate(AgentUpdateCommand),
    /// The audit log.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Packs of records (電子帳簿保存法).
    #[command(subcommand)]
    Records(RecordsCommand),
    /// Mails that come back.
    #[command(subcommand)]
    Mail(MailCommand),
    /// Receipts (受付票).
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Copies everything but the master key into a new folder.
    Backup {
        /// The folder; it must be new or empty.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Restores a copy into an empty database and an empty folder.
    Restore {
        /// The folder that `backup` made.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
    },
    /// Lists every route of the pages: side, method, path, and who may use it.
    Routes {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Draws a page of the PDF on standard input; the portal calls itself so.
    #[command(name = worker::COMMAND, hide = true)]
    DrawPage {
        /// Which page, from 1.
        page: usize,
        /// How wide, in points.
        width: u16,
    },
    /// Searches the PDF on standard input for individual numbers; the portal calls itself so.
    #[command(name = text_layer::worker::COMMAND, hide = true)]
    FindIndividualNumber,
    /// Searches the PDF behind two lines of JSON on standard input for establishments; the
    /// portal calls itself so.
    #[command(name = guard::COMMAND, hide = true)]
    FindOtherEstablishments,
}

#[derive(Debug, Subcommand)]
enum StaffCommand {
    /// Adds an account; prints its authenticator's secret once.
    Add(StaffAdd),
}

#[derive(Debug, Args)]
struct StaffAdd {
    /// What is typed at sign-in.
    #[arg(long, value_name = "ID")]
    user_id: String,
    /// The person's name.
    #[arg(long)]
    name: String,
    /// What the account may do.
    #[arg(long, value_enum)]
    role: RoleArgument,
    /// Reads the password from standard input, in place of making one and printing it.
    #[arg(long)]
    password_stdin: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum RoleArgument {
    /// 業務課: approves PCs, reviews filings, issues notices.
    Reviewer,
    /// A reviewer who also releases and decides in doubt.
    Supervisor,
    /// Watches and restores; never reads a document.
    SystemAdmin,
}

#[derive(Debug, Subcommand)]
enum GatewayCommand {
    /// Adds a gateway and writes its certificates and key into a folder.
    Add(GatewayAdd),
    /// Lists the gateways.
    List {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Makes a gateway's next certificate and key. What it has stays good until the new ones
    /// are first used.
    Renew {
        /// Its name.
        name: GatewayName,
        /// A name or address for the certificate; may be given several times. None: as before.
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        /// The folder to write; it must be new or empty.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Takes a gateway out of use for good. Its sessions go on through other gateways.
    Retire {
        /// Its name.
        name: GatewayName,
    },
}

#[derive(Debug, Args)]
struct GatewayAdd {
    /// Its name: 1 to 32 of a-z, 0-9 and -.
    #[arg(long)]
    name: GatewayName,
    /// The base URL of its agent API, as agents reach it.
    #[arg(long)]
    url: String,
    /// A name or address for its certificate; may be given several times.
    #[arg(long = "host", value_name = "HOST", required = true)]
    hosts: Vec<String>,
    /// The folder to write; it must be new or empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Makes a new master key.
    New {
        /// The file to write (mode 0600); it must not exist.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum AgentUpdateCommand {
    /// Makes a new signing key and prints its public half, which agents are built with.
    NewKey {
        /// The file to write (mode 0600); it must not exist.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Writes programs and their signed manifest, ready for the portal's `agent_updates_dir`.
    Sign(AgentUpdateSign),
}

#[derive(Debug, Args)]
struct AgentUpdateSign {
    /// The signing key.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The programs' version.
    #[arg(long = "of", value_name = "VERSION")]
    version: Version,
    /// The oldest version that can be replaced without an installer.
    #[arg(long, value_name = "VERSION", default_value = "0.1.0")]
    minimum: Version,
    /// For how many days agents believe it.
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(i64).range(1..=366))]
    days: i64,
    /// The folder to write; it must be new or empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A program, `windows-x86_64=vpn-agent.exe`; one for each platform.
    #[arg(value_name = "PLATFORM=FILE", required = true)]
    programs: Vec<agent_update::Source>,
}

#[derive(Debug, Subcommand)]
enum MailCommand {
    /// Reads delivery reports and raises a task for each address that refuses mail for good.
    Bounce {
        /// A message, an mbox, or a maildir; standard input if there is none.
        #[arg(value_name = "PATH")]
        from: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum ReceiptCommand {
    /// Prints the public key that the fund's receipts are checked with.
    Key,
    /// Says whether a receipt's PDF is as the fund made it. Needs no configuration and no network.
    Verify {
        /// The receipt.
        file: PathBuf,
        /// The fund's public key in base64, or a file with it.
        #[arg(long, value_name = "KEY")]
        key: String,
    },
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Checks that no row was changed, removed or reordered; names the first bad one.
    Verify,
}

#[derive(Debug, Subcommand)]
enum RecordsCommand {
    /// Checks that a pack is whole, unchanged and signed by the fund; names the first thing
    /// that is not.
    Verify {
        /// The zip, or the folder that it was unpacked into.
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// The fund's public key (base64). With it no configuration is needed; without it the
        /// key follows from the master key.
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
    /// Prints the public key that packs are verified with.
    Key,
}

impl From<RoleArgument> for StaffRole {
    fn from(role: RoleArgument) -> Self {
        match role {
            RoleArgument::Reviewer => Self::Reviewer,
            RoleArgument::Supervisor => Self::Supervisor,
            RoleArgument::SystemAdmin => Self::SystemAdmin,
        }
    }
}

/// Does what the command line says.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    // This process is limited in memory and has no environment: nothing else is set up.
    if let Command::DrawPage { page, width } = cli.command {
        return match draw_page(page, width) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    if let Command::FindIndividualNumber = cli.command {
        return match find_individual_number() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    if let Command::FindOtherEstablishments = cli.command {
        return match find_other_establishments() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    if let Err(error) = operator::log::to_stderr(DEFAULT_LOG) {
        eprintln!("portal: {error}");
        return ExitCode::from(USAGE);
    }
    // A second provider is an error only if somebody installed one before us.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = operator::runtime::run(execute(cli));
    match done.context("cannot start").flatten() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portal: {error:#}");
            match error.downcast_ref::<ConfigError>() {
                Some(_) => ExitCode::from(USAGE),
                None => ExitCode::FAILURE,
            }
        }
    }
}

async fn execute(cli: Cli) -> anyhow::Result<()> {
    let Cli { config, command } = cli;
    let prepared = || Prepared::load(config);
    match command {
        Command::Keys(KeysCommand::New { out }) => keys::make_new(&out),
        Command::AgentUpdate(command) => agent_update::run(command, Clock::System.now()),
        Command::Serve => serve::serve(prepared()?.app().await?).await,
        Command::Migrate => {
            prepared()?.database().await?;
            Ok(())
        }
        Command::Staff(StaffCommand::Add(add)) => staff::add(&prepared()?.app().await?, add).await,
        Command::Gateway(command) => gateway::run(&prepared()?.app().await?, command).await,
        Command::Mail(MailCommand::Bounce { from }) => {
            mail::bounce(&prepared()?.app().await?, from).await
        }
        Command::Audit(AuditCommand::Verify) => copies::verify(prepared()?).await,
        Command::Records(RecordsCommand::Verify {
            path,
            key: Some(key),
        }) => records::check(&path, &key),
        Command::Records(RecordsCommand::Verify { path, key: None }) => {
            records::check(&path, &records::public_key(&prepared()?.keys)?)
        }
        Command::Records(RecordsCommand::Key) => {
            println!("{}", records::public_key(&prepared()?.keys)?);
            Ok(())
        }
        Command::Receipt(ReceiptCommand::Key) => receipt::key(&prepared()?.app().await?).await,
        Command::Receipt(ReceiptCommand::Verify { file, key }) => receipt::verify(&file, &key),
        Command::Backup { out } => copies::backup(prepared()?, &out).await,
        Command::Restore { from } => copies::restore(prepared()?, &from).await,
        Command::Routes { json } => {
            routes::list(prepared()?.app().await?, json);
            Ok(())
        }
        Command::DrawPage { page, width } => draw_page(page, width),
        Command::FindIndividualNumber => find_individual_number(),
        Command::FindOtherEstablishments => find_other_establishments(),
    }
}

fn find_other_establishments() -> anyhow::Result<()> {
    guard::serve(std::io::stdin(), std::io::stdout())?;
    Ok(())
}

fn find_individual_number() -> anyhow::Result<()> {
    text_layer::worker::serve(std::io::stdin(), std::io::stdout())?;
    Ok(())
}

fn draw_page(page: usize, width: u16) -> anyhow::Result<()> {
    worker::serve(page, width, std::io::stdin(), std::io::stdout())?;
    Ok(())
}

/// Configuration and master key, before the database is opened.
struct Prepared {
    config: Config,
    keys: MasterKey,
}

impl Prepared {
    fn load(path: PathBuf) -> anyhow::Result<Self> {
        let config = Config::load(&path, std::env::vars())?;
        let keys = match (std::env::var(MASTER_KEY_VARIABLE), &config.master_key_file) {
            (Ok(key), _) => MasterKey::from_base64(&key)?,
            (Err(_), Some(file)) => MasterKey::from_file(file)?,
            (Err(_), None) => anyhow::bail!(
                "no master key: set master_key_file, or {MASTER_KEY_VARIABLE}; \
                 `portal keys new --out FILE` makes one"
            ),
        };
        Ok(Self { config, keys })
    }

    /// Opens the database and brings it up to date.
    async fn database(&self) -> anyhow::Result<Db> {
        let db = Db::open(&self.config.database_url).await?;
        db.migrate().await?;
        Ok(db)
    }

    async fn app(self) -> anyhow::Result<App> {
        let db = self.database().await?;
        Ok(App::start(db, Clock::System, self.keys, self.config).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn roles_are_written_as_in_the_database() {
        for role in RoleArgument::value_variants() {
            let word = role.to_possible_value().unwrap().get_name().to_owned();
            assert_eq!(StaffRole::from(*role).as_str(), word);
        }
    }

    #[test]
    fn wrong_usage_is_exit_code_two() {
        for line in [
            "portal",
            "portal serv",
            "portal gateway add --name UPPER --url https://x --host x --out /tmp/x",
            "portal staff add --user-id x --name y --role emperor",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
