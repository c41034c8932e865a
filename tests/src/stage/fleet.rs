//! Further gateways of a stage, and a way to cut one off from the portal.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{START_PATIENCE_S, Stage};
use crate::process::{Process, free_port, output, wait_for};

/// A gateway beside the stage's first one.
#[derive(Debug)]
pub struct FurtherGateway {
    name: String,
    program: PathBuf,
    config: PathBuf,
    logs: PathBuf,
    log: String,
    tls_port: u16,
    /// The program.
    pub process: Process,
}

/// A line between a gateway and the portal's control listener that can be cut.
#[derive(Debug)]
pub struct ControlLine {
    address: SocketAddr,
    whole: watch::Sender<bool>,
}

impl Stage {
    /// Adds a gateway, as the system administrator does, and starts it.
    pub async fn add_gateway(&self, name: &str) -> Result<FurtherGateway> {
        self.add_gateway_behind(name, self.control_listener()).await
    }

    /// Adds a gateway that reaches the portal's control listener at `control`.
    pub async fn add_gateway_behind(
        &self,
        name: &str,
        control: SocketAddr,
    ) -> Result<FurtherGateway> {
        let folder = self.folder().join(format!("gateway-{name}"));
        std::fs::create_dir_all(&folder)?;
        let (tls_port, udp_port) = (free_port()?, free_port()?);
        let (identity, state) = (folder.join("identity"), folder.join("state"));
        let url = format!("https://127.0.0.1:{tls_port}");
        output(
            self.portal_command(&["gateway", "add", "--name", name, "--host", "127.0.0.1"])
                .args(["--url", &url, "--out"])
                .arg(&identity),
        )?;
        let config = folder.join("gateway.toml");
        let member = self.member_listener();
        std::fs::write(
            &config,
            format!(
                "# Invented gateway, for tests.\nname = {name:?}\n\
                 udp_listen = \"127.0.0.1:{udp_port}\"\ntls_listen = \"127.0.0.1:{tls_port}\"\n\
                 public_endpoints = [\"127.0.0.1:{udp_port}\"]\npublic_url = {url:?}\n\
                 identity_dir = {identity:?}\nstate_dir = {state:?}\n\n\
                 [portal]\ncontrol_url = \"https://{control}\"\nmember_address = \"{member}\"\n"
            ),
        )?;
        let program = self.programs.join("gateway");
        let (logs, log) = (self.logs(), self.options.log.clone());
        let process = start(&program, &config, &logs, &log, name)?;
        let mut gateway = FurtherGateway {
            name: name.to_owned(),
            program,
            config,
            logs,
            log,
            tls_port,
            process,
        };
        gateway.wait_until_up(self).await?;
        Ok(gateway)
    }

    /// A line to the control listener that can be cut.
    pub fn control_line(&self) -> Result<ControlLine> {
        ControlLine::to(self.control_listener())
    }

    /// What `portal gateway list --json` says of a gateway.
    pub fn listed_gateway(&self, name: &str) -> Result<serde_json::Value> {
        let listed = output(&mut self.portal_command(&["gateway", "list", "--json"]))?;
        let listed: Vec<serde_json::Value> = serde_json::from_str(&listed)?;
        let found = listed.into_iter().find(|gateway| gateway["name"] == name);
        Ok(found.unwrap_or_default())
    }
}

impl FurtherGateway {
    /// Base URL of its agent API.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.tls_port)
    }

    /// Starts it again after it was ended or killed.
    pub async fn restart(&mut self, stage: &Stage) -> Result<()> {
        self.process = start(
            &self.program,
            &self.config,
            &self.logs,
            &self.log,
            &self.name,
        )?;
        self.wait_until_up(stage).await
    }

    /// Waits until it listens and the portal knows where.
    async fn wait_until_up(&mut self, stage: &Stage) -> Result<()> {
        wait_for("the further gateway", START_PATIENCE_S, async || {
            self.process.check_running()?;
            let listens = std::net::TcpStream::connect(("127.0.0.1", self.tls_port)).is_ok();
            let known = stage.listed_gateway(&self.name)?["seen"].is_string();
            Ok((listens && known).then_some(()))
        })
        .await
    }
}

fn start(
    program: &PathBuf,
    config: &PathBuf,
    logs: &std::path::Path,
    log: &str,
    name: &str,
) -> Result<Process> {
    let mut command = Command::new(program);
    command
        .arg("--config")
        .arg(config)
        .arg("serve")
        .env("RUST_LOG", log);
    Process::start(&format!("gateway-{name}"), logs, &mut command)
}

impl ControlLine {
    /// On a thread of its own: a story's thread also waits for programs to end.
    fn to(target: SocketAddr) -> Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let whole = watch::Sender::new(true);
        let state = whole.subscribe();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::spawn(move || runtime.block_on(serve(listener, target, state)));
        Ok(Self { address, whole })
    }

    /// Where a gateway reaches the control listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection; new ones are closed at once.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

/// Carries connections until the line is gone.
async fn serve(
    listener: std::net::TcpListener,
    target: SocketAddr,
    mut whole: watch::Receiver<bool>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            changed = whole.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        if let Ok((from, _)) = accepted
            && *whole.borrow()
        {
            tokio::spawn(carry(from, target, whole.clone()));
        }
    }
}

async fn carry(mut from: TcpStream, target: SocketAddr, mut whole: watch::Receiver<bool>) {
    let Ok(mut to) = TcpStream::connect(target).await else {
        return;
    };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
        _ = whole.wait_for(|whole| !whole) => {}
    }
}
