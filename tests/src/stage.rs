//! The programs of one fund, with everything they need, in one folder.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::mailbox::Mailbox;
use crate::network::{Place, command_in};
use crate::process::{Process, free_port, output, wait_for};
use crate::wine::{self, Prefix};

mod fleet;

pub use fleet::{ControlLine, FurtherGateway};

/// How long a program may take to say where it listens, in seconds.
const START_PATIENCE_S: u64 = 60;

/// The establishment of the stage; its number is the corpus's.
pub const ESTABLISHMENT_NUMBER: &str = "0123";
/// Its invented name.
pub const ESTABLISHMENT_NAME: &str = "見本電機株式会社";
/// The invented fund.
pub const FUND_NAME: &str = "見本企業年金基金";
/// The host name of the members' pages; it exists only inside tunnels.
pub const MEMBER_HOST: &str = "portal.renkei.test";
/// The staff member who reviews.
pub const STAFF_USER_ID: &str = "kikin01";

/// Which database the portal uses.
#[derive(Debug, Clone)]
pub enum Database {
    /// A file in the stage's folder.
    Sqlite,
    /// A URL of an empty PostgreSQL database.
    Postgres(String),
}

/// How the stage is set.
#[derive(Debug, Clone)]
pub struct StageOptions {
    /// The database.
    pub database: Database,
    /// The calendar never closes (else it is the real one).
    pub rehearsal: bool,
    /// `RUST_LOG` of all programs.
    pub log: String,
    /// Where the gateway faces the internet; none: on loopback, at ports that are free.
    pub front: Option<Front>,
}

/// Where a gateway faces the internet.
#[derive(Debug, Clone)]
pub struct Front {
    /// Its name, and what else its certificate is good for; agents are told the first.
    pub hosts: Vec<String>,
    /// The port of its agent API, on every address.
    pub tls_port: u16,
    /// Where agents find its UDP ports, best first; it listens there on every address.
    pub endpoints: Vec<SocketAddr>,
}

impl Default for StageOptions {
    fn default() -> Self {
        Self {
            database: Database::Sqlite,
            rehearsal: true,
            log: "info".into(),
            front: None,
        }
    }
}

/// A fund's programs, running.
#[derive(Debug)]
pub struct Stage {
    folder: PathBuf,
    programs: PathBuf,
    options: StageOptions,
    ports: Ports,
    front: Front,
    /// The portal.
    pub portal: Process,
    /// The gateway.
    pub gateway: Process,
    /// The mail catcher.
    pub catcher: Process,
    /// The reviewer's account.
    pub staff: Staff,
    _temporary: Option<tempfile::TempDir>,
}

/// A reviewer's account, as `portal staff add` printed it.
#[derive(Debug, Clone)]
pub struct Staff {
    /// What is typed as user ID.
    pub user_id: String,
    /// The password.
    pub password: String,
    /// The authenticator's secret, base32.
    pub totp_secret: String,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    member: u16,
    office: u16,
    control: u16,
    smtp: u16,
}

impl Front {
    fn on_loopback() -> Result<Self> {
        Ok(Self {
            hosts: vec!["127.0.0.1".into(), "localhost".into()],
            tls_port: free_port()?,
            endpoints: vec![([127, 0, 0, 1], free_port()?).into()],
        })
    }

    fn url(&self) -> String {
        format!("https://{}:{}", self.hosts[0], self.tls_port)
    }
}

impl Stage {
    /// Sets a stage in a temporary folder.
    pub async fn start(options: StageOptions) -> Result<Self> {
        let temporary = tempfile::tempdir()?;
        let mut stage = Self::start_in(temporary.path(), options).await?;
        stage._temporary = Some(temporary);
        Ok(stage)
    }

    /// Sets a stage in `folder`, which is made anew.
    pub async fn start_in(folder: &Path, options: StageOptions) -> Result<Self> {
        let folder = &std::path::absolute(folder)?;
        let programs = programs()?;
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        for sub in ["portal", "gateway", "mail", "logs"] {
            std::fs::create_dir_all(folder.join(sub))?;
        }
        mail_certificate(folder)?;
        let ports = Ports {
            member: free_port()?,
            office: free_port()?,
            control: free_port()?,
            smtp: free_port()?,
        };
        let front = match &options.front {
            Some(front) => front.clone(),
            None => Front::on_loopback()?,
        };
        write_configs(folder, ports, &front, &options)?;
        let catcher = start_catcher(folder, ports)?;

        let portal_config = folder.join("portal.toml");
        let portal_command = || {
            let mut command = Command::new(programs.join("portal"));
            command
                .arg("--config")
                .arg(&portal_config)
                .env("RUST_LOG", &options.log);
            command
        };
        output(
            portal_command()
                .args(["keys", "new", "--out"])
                .arg(folder.join("portal/master.key")),
        )?;
        output(portal_command().arg("migrate"))?;
        let staff = add_staff(
            &mut portal_command(),
            STAFF_USER_ID,
            "基金 花子",
            "reviewer",
        )?;
        let hosts = front.hosts.iter().flat_map(|host| ["--host", host]);
        output(
            portal_command()
                .args(["gateway", "add", "--name", "demo"])
                .args(hosts)
                .args(["--url", &front.url(), "--out"])
                .arg(folder.join("gateway/identity")),
        )?;
        let portal = start_portal(&programs, folder, &options)?;
        let gateway = start_gateway(&programs, folder, &options)?;
        let mut stage = Self {
            folder: folder.clone(),
            programs,
            options,
            ports,
            front,
            portal,
            gateway,
            catcher,
            staff,
            _temporary: None,
        };
        stage.wait_until_up().await?;
        Ok(stage)
    }

    /// Waits until portal and gateway listen and know each other.
    pub async fn wait_until_up(&mut self) -> Result<()> {
        let (office, tls) = (self.ports.office, self.front.tls_port);
        wait_for("the portal", START_PATIENCE_S, async || {
            self.portal.check_running()?;
            Ok(std::net::TcpStream::connect(("127.0.0.1", office))
                .is_ok()
                .then_some(()))
        })
        .await?;
        wait_for("the gateway", START_PATIENCE_S, async || {
            self.gateway.check_running()?;
            Ok(std::net::TcpStream::connect(("127.0.0.1", tls))
                .is_ok()
                .then_some(()))
        })
        .await
    }

    /// The stage's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts the portal again after it was ended or killed.
    pub async fn restart_portal(&mut self) -> Result<()> {
        self.portal = start_portal(&self.programs, &self.folder, &self.options)?;
        self.wait_until_up().await
    }

    /// Starts the gateway again after it was ended or killed.
    pub async fn restart_gateway(&mut self) -> Result<()> {
        self.gateway = start_gateway(&self.programs, &self.folder, &self.options)?;
        self.wait_until_up().await
    }

    /// Starts the mail catcher again after it was ended or killed.
    pub fn restart_catcher(&mut self) -> Result<()> {
        self.catcher = start_catcher(&self.folder, self.ports)?;
        Ok(())
    }

    /// Runs `portal ARGUMENTS` with the stage's configuration.
    pub fn portal_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("portal"));
        command
            .arg("--config")
            .arg(self.portal_config())
            .args(arguments)
            .env("RUST_LOG", "warn");
        command
    }

    /// Adds one more member of staff; `role` as `portal staff add` has it.
    pub fn further_staff(&self, user_id: &str, name: &str, role: &str) -> Result<Staff> {
        add_staff(&mut self.portal_command(&[]), user_id, name, role)
    }

    /// The portal's configuration.
    pub fn portal_config(&self) -> PathBuf {
        self.folder.join("portal.toml")
    }

    /// `PROGRAM ARGUMENTS` of the stage's programs, without a configuration.
    pub fn program(&self, name: &str) -> Command {
        Command::new(self.programs.join(name))
    }

    /// The folder in which documents lie.
    pub fn documents(&self) -> PathBuf {
        self.folder.join("portal/documents")
    }

    /// The folder from which the portal hands out the agent's updates; not there at first.
    pub fn agent_updates(&self) -> PathBuf {
        self.folder.join("portal/updates")
    }

    /// The folder with every program's log.
    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// The SQLite database.
    pub fn sqlite_file(&self) -> PathBuf {
        self.folder.join("portal/portal.db")
    }

    /// The gateway's configuration.
    pub fn gateway_config(&self) -> PathBuf {
        self.folder.join("gateway.toml")
    }

    /// The members' pages, reachable only through a tunnel.
    pub fn member_url(&self) -> String {
        format!("https://{MEMBER_HOST}/")
    }

    /// The office's pages.
    pub fn office_url(&self) -> String {
        format!("https://localhost:{}/", self.ports.office)
    }

    /// The gateway's agent API.
    pub fn gateway_url(&self) -> String {
        self.front.url()
    }

    /// The gateway's WireGuard address.
    pub fn gateway_udp(&self) -> SocketAddr {
        self.front.endpoints[0]
    }

    /// The address of the gateway's agent API.
    pub fn gateway_api(&self) -> SocketAddr {
        SocketAddr::new(self.front.endpoints[0].ip(), self.front.tls_port)
    }

    /// The portal's member listener, which nobody but gateways may use.
    pub fn member_listener(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports.member).into()
    }

    /// The portal's control listener.
    pub fn control_listener(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports.control).into()
    }

    /// The fund's service authority (PEM): it signs the pages' certificates here.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("gateway/identity/service-authority.pem")
    }

    /// What the portal mailed.
    pub fn mailbox(&self) -> Mailbox {
        Mailbox::in_folder(&self.folder.join("mail"))
    }

    /// Makes the configuration of one more PC, called `name`.
    pub fn agent(&self, name: &str) -> Result<Agent> {
        self.agent_at(name, &self.gateway_url())
    }

    /// Makes the configuration of one more PC that enrols at `gateway_url`.
    pub fn agent_at(&self, name: &str, gateway_url: &str) -> Result<Agent> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("agent.toml");
        std::fs::write(
            &config,
            format!(
                "# Test data. One PC of the establishment.\ndata_dir = {:?}\ngateway_url = {:?}\ngateway_ca_file = {:?}\n\
                 browser_args = [\"--no-sandbox\"]\n",
                folder.join("data"),
                gateway_url,
                self.ca_file(),
            ),
        )?;
        Ok(Agent {
            program: self.programs.join("vpn-agent"),
            config,
            name: name.to_owned(),
            logs: self.folder.join("logs"),
            log: self.options.log.clone(),
            gateway_url: gateway_url.to_owned(),
            clock: None,
            place: None,
            windows: None,
            running: None,
        })
    }

    /// Makes one more PC, called `name`, with Windows on it: the agent's program for Windows
    /// in the Wine prefix `prefix`. Its data lie where the program puts them by itself.
    pub async fn windows_agent(&self, name: &str, prefix: &Arc<Prefix>) -> Result<Agent> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("agent.toml");
        let port = free_port()?;
        std::fs::write(
            &config,
            format!(
                "# Test data. One PC of the establishment, under Wine.\ngateway_url = {:?}\ngateway_ca_file = {:?}\nproxy_port = {port}\n",
                self.gateway_url(),
                wine::windows_path(&self.ca_file()),
            ),
        )?;
        let (relay, listens) = prefix.start_relay(&self.logs(), port).await?;
        Ok(Agent {
            program: prefix.install_agent()?,
            config,
            name: name.to_owned(),
            logs: self.logs(),
            log: self.options.log.clone(),
            gateway_url: self.gateway_url(),
            clock: None,
            place: None,
            windows: Some(Windows {
                prefix: prefix.clone(),
                proxy: ([127, 0, 0, 1], listens).into(),
                _relay: relay,
            }),
            running: None,
        })
    }
}

/// What an agent needs to run under Wine, and to be reached there.
#[derive(Debug)]
struct Windows {
    prefix: Arc<Prefix>,
    /// Where programs of Linux reach its proxy.
    proxy: SocketAddr,
    _relay: Process,
}

/// One PC with the agent installed.
#[derive(Debug)]
pub struct Agent {
    program: PathBuf,
    config: PathBuf,
    name: String,
    logs: PathBuf,
    log: String,
    gateway_url: String,
    clock: Option<String>,
    place: Option<String>,
    windows: Option<Windows>,
    running: Option<Process>,
}

impl Agent {
    /// The configuration.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Sets the PC's clock wrong by `offset`, as libfaketime reads it (`+1y`). It counts
    /// from the next command on.
    pub fn set_clock(&mut self, offset: &str) {
        self.clock = Some(offset.to_owned());
    }

    /// Moves the PC to `place`. It counts from the next command on.
    pub fn move_to(&mut self, place: &Place) {
        self.place = Some(place.name().to_owned());
    }

    /// Adds lines to the configuration.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let mut file = std::fs::File::options().append(true).open(&self.config)?;
        writeln!(file, "{lines}")?;
        Ok(())
    }

    /// Gives the PC a program of its own, as an installer does; returns where it lies.
    pub fn install(&mut self) -> Result<PathBuf> {
        let folder = self.config.with_file_name("program");
        std::fs::create_dir_all(&folder)?;
        let own = folder.join("vpn-agent");
        std::fs::copy(&self.program, &own)?;
        self.program.clone_from(&own);
        Ok(own)
    }

    /// Takes over what `other` was enrolled with, as if its PC had got this configuration.
    pub fn take_over(&self, other: &Self) -> Result<()> {
        let data = |agent: &Self| agent.config.with_file_name("data");
        output(
            Command::new("cp")
                .arg("-a")
                .arg(data(other))
                .arg(data(self)),
        )
        .map(drop)
    }

    /// `vpn-agent ARGUMENTS`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match (&self.windows, &self.place) {
            (Some(windows), _) => {
                let mut command = windows.prefix.wine();
                command.arg(&self.program);
                command
            }
            (None, Some(place)) => command_in(place, &self.program),
            (None, None) => Command::new(&self.program),
        };
        if let Some(offset) = &self.clock {
            // What faketime(1) does, but without its process between us and the agent.
            command
                .env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1")
                .env("FAKETIME", offset)
                .env("DONT_FAKE_MONOTONIC", "1");
        }
        let config = match &self.windows {
            Some(_) => wine::windows_path(&self.config),
            None => self.config.display().to_string(),
        };
        command
            .args(["--config", &config])
            .args(arguments)
            .env("RUST_LOG", &self.log);
        command
    }

    /// Where a browser of this machine reaches the running agent's proxy.
    pub fn proxy(&self) -> Result<String> {
        let own = self.status()?["proxy"]
            .as_str()
            .context("the agent has a proxy")?
            .to_owned();
        Ok(match &self.windows {
            Some(windows) => windows.proxy.to_string(),
            None => own,
        })
    }

    /// Where a browser of this machine reaches the proxy of an agent under Wine, running or not.
    pub fn relay(&self) -> Option<String> {
        let windows = self.windows.as_ref()?;
        Some(windows.proxy.to_string())
    }

    /// Asks to be registered, without waiting for staff; returns what was printed.
    pub fn enrol(&self, establishment: &str, code: &str) -> Result<String> {
        output(&mut self.command(&[
            "enrol",
            "--gateway",
            &self.gateway_url,
            "--establishment",
            establishment,
            "--code",
            code,
            "--no-wait",
        ]))
    }

    /// What `status --json` says.
    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&output(
            &mut self.command(&["status", "--json"]),
        )?)?)
    }

    /// Starts `vpn-agent ARGUMENTS` (`connect`, or `open --no-browser`) and lets it run.
    pub fn start(&mut self, arguments: &[&str]) -> Result<()> {
        self.running = None;
        self.running = Some(Process::start(
            &self.name,
            &self.logs,
            &mut self.command(arguments),
        )?);
        Ok(())
    }

    /// Waits until `status` shows `state` and returns it.
    pub async fn wait_state(&mut self, state: &str) -> Result<Value> {
        let mut last = Value::Null;
        let found = wait_for(&format!("{} to be {state}", self.name), 30, async || {
            last = self.status()?;
            // Before a started agent has its folder, `status` answers from the disk; a
            // `connect` that came then would be the agent itself and stay.
            let started = self.running.is_none() || last["proxy"].is_string();
            Ok((started && last["state"] == state).then(|| last.clone()))
        })
        .await;
        found.with_context(|| format!("last status: {last}\n{}", self.log_text()))
    }

    /// The running agent.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.running.as_mut().context("the agent is not running")
    }

    /// Ends the running agent at once, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
    }

    /// Ends the running agent.
    pub fn stop(&mut self) -> Result<Option<i32>> {
        let code = self.process()?.terminate()?;
        self.running = None;
        Ok(code)
    }

    /// What the agent logged.
    pub fn log_text(&self) -> String {
        self.running
            .as_ref()
            .map(Process::log_text)
            .unwrap_or_default()
    }
}

/// The folder with the built programs: the one this program was built into.
fn programs() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("RENKEI_TEST_PROGRAMS") {
        return Ok(folder.into());
    }
    let this = std::env::current_exe()?;
    let folder = this
        .ancestors()
        .find(|folder| folder.join("portal").is_file());
    match folder {
        Some(folder) => Ok(folder.to_owned()),
        None => bail!(
            "no portal program beside {}: run cargo build --release first",
            this.display()
        ),
    }
}

fn write_configs(folder: &Path, ports: Ports, front: &Front, options: &StageOptions) -> Result<()> {
    let database = match &options.database {
        Database::Sqlite => format!("sqlite:{}", folder.join("portal/portal.db").display()),
        Database::Postgres(url) => url.clone(),
    };
    let Ports {
        member,
        office,
        control,
        smtp,
    } = ports;
    // On loopback the gateway is for this machine alone.
    let listen = match options.front {
        Some(_) => "[::]",
        None => "127.0.0.1",
    };
    let ports: BTreeSet<u16> = front.endpoints.iter().map(SocketAddr::port).collect();
    let udp: Vec<String> = ports
        .iter()
        .map(|port| format!("{listen}:{port}"))
        .collect();
    let endpoints: Vec<String> = front.endpoints.iter().map(ToString::to_string).collect();
    let (state, identity) = (folder.join("portal"), folder.join("gateway/identity"));
    std::fs::write(
        folder.join("portal.toml"),
        format!(
            r#"# Invented fund, for demonstration and tests.
fund_name = "{FUND_NAME}"
fund_contact = "基金事務局 業務課 03-0000-0000（平日 9:00〜17:00）"
database_url = {database:?}
documents_dir = {documents:?}
master_key_file = {master:?}
state_dir = {state:?}
agent_updates_dir = {updates:?}
rehearsal = {rehearsal}

[member]
listen = "127.0.0.1:{member}"
url = "https://{MEMBER_HOST}/"

[office]
listen = "127.0.0.1:{office}"
url = "https://localhost:{office}/"

[control]
listen = "127.0.0.1:{control}"

[smtp]
host = "localhost"
port = {smtp}
from = "{FUND_NAME} <no-reply@renkei.example>"
ca_file = {mail_ca:?}
"#,
            documents = state.join("documents"),
            updates = state.join("updates"),
            master = state.join("master.key"),
            rehearsal = options.rehearsal,
            mail_ca = folder.join("mail-server.pem"),
        ),
    )?;
    std::fs::write(
        folder.join("gateway.toml"),
        format!(
            r#"# Invented gateway, for demonstration and tests.
name = "demo"
udp_listen = {udp:?}
tls_listen = "{listen}:{tls_port}"
public_endpoints = {endpoints:?}
public_url = "{url}"
identity_dir = {identity:?}
state_dir = {state:?}

[portal]
control_url = "https://127.0.0.1:{control}"
member_address = "127.0.0.1:{member}"
"#,
            tls_port = front.tls_port,
            url = front.url(),
            state = folder.join("gateway"),
        ),
    )?;
    Ok(())
}

fn start_portal(programs: &Path, folder: &Path, options: &StageOptions) -> Result<Process> {
    let mut command = Command::new(programs.join("portal"));
    command
        .arg("--config")
        .arg(folder.join("portal.toml"))
        .arg("serve")
        .env("RUST_LOG", &options.log);
    Process::start("portal", &folder.join("logs"), &mut command)
}

fn start_gateway(programs: &Path, folder: &Path, options: &StageOptions) -> Result<Process> {
    let mut command = Command::new(programs.join("gateway"));
    command
        .arg("--config")
        .arg(folder.join("gateway.toml"))
        .arg("serve")
        .env("RUST_LOG", &options.log);
    Process::start("gateway", &folder.join("logs"), &mut command)
}

fn start_catcher(folder: &Path, ports: Ports) -> Result<Process> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/mail-catcher");
    let mut command = Command::new(script);
    command
        .arg(folder.join("mail"))
        .arg(folder.join("mail-server.pem"))
        .arg(folder.join("mail-server.key"))
        .arg(ports.smtp.to_string());
    Process::start("mail-catcher", &folder.join("logs"), &mut command)
}

/// A certificate for the mail catcher's STARTTLS.
fn mail_certificate(folder: &Path) -> Result<()> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(folder.join("mail-server.pem"), made.cert.pem())?;
    std::fs::write(
        folder.join("mail-server.key"),
        made.signing_key.serialize_pem(),
    )?;
    Ok(())
}

fn add_staff(portal: &mut Command, user_id: &str, name: &str, role: &str) -> Result<Staff> {
    let password = "nagai-gasshou-no-heya-7";
    portal.args([
        "staff",
        "add",
        "--user-id",
        user_id,
        "--name",
        name,
        "--role",
        role,
        "--password-stdin",
        "--json",
    ]);
    let mut child = portal
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    {
        child
            .stdin
            .take()
            .context("stdin")?
            .write_all(password.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("portal staff add: {}", output.status);
    }
    let printed: Value = serde_json::from_slice(&output.stdout)?;
    let totp_secret = printed["totp_secret"]
        .as_str()
        .context("staff add prints totp_secret")?
        .to_owned();
    Ok(Staff {
        user_id: user_id.into(),
        password: password.into(),
        totp_secret,
    })
}
