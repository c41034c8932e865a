//! SoftEther's own server and client, as Debian has them: once as installed, with its UDP
//! acceleration, and once over TLS alone.
//!
//! Both programs keep their files in fixed folders; here they get folders of their own by a
//! mount namespace, so that an installed SoftEther is left as it is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::client::Way;
use super::namespaces::{FUND, Namespaces};
use crate::process::{Process, wait_for};

const SERVER: &str = "/usr/libexec/softether/vpnserver/vpnserver";
const CLIENT: &str = "/usr/libexec/softether/vpnclient/vpnclient";
const PORT: u16 = 5555;

/// The folders that the programs have fixed.
const FOLDERS: [&str; 3] = ["/var/lib/softether", "/var/log/softether", "/run/softether"];

/// How long one command to server or client may take, in seconds.
const COMMAND_LIMIT_S: u32 = 20;

/// Which way SoftEther's packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// TLS for control, UDP for packets where it works.
    AsInstalled,
    /// TLS alone.
    Tls,
}

/// A server and a client with a connection for each [`Transport`].
#[derive(Debug)]
pub(super) struct SoftEther {
    server: Process,
    client: Process,
    folder: PathBuf,
}

/// Says whether the programs are installed.
pub(super) fn is_installed() -> bool {
    Path::new(SERVER).exists() && Path::new(CLIENT).exists()
}

impl Transport {
    /// Name of hub, account and devices.
    fn name(self) -> &'static str {
        match self {
            Self::AsInstalled => "sse",
            Self::Tls => "sst",
        }
    }

    /// The network inside.
    fn inside(self, host: u8) -> std::net::Ipv4Addr {
        let network = match self {
            Self::AsInstalled => 93,
            Self::Tls => 94,
        };
        std::net::Ipv4Addr::new(10, network, 0, host)
    }
}

impl SoftEther {
    /// Starts server and client and connects them both ways.
    pub(super) async fn start(namespaces: &Namespaces, folder: &Path) -> Result<Self> {
        let folder = folder.join("softether");
        if folder.exists() {
            // It would go on with the hubs and devices of the last run.
            std::fs::remove_dir_all(&folder)?;
        }
        let server = start(&folder, "server", SERVER, Command::new("unshare"))?;
        let client = start(&folder, "client", CLIENT, namespaces.on_pc("unshare"))?;
        let this = Self {
            server,
            client,
            folder,
        };
        wait_for("SoftEther's server", 20, async || {
            Ok(this
                .server_command(&["About".to_owned()])
                .is_ok()
                .then_some(()))
        })
        .await?;
        for transport in [Transport::AsInstalled, Transport::Tls] {
            this.add(namespaces, transport).await?;
        }
        Ok(this)
    }

    async fn add(&self, namespaces: &Namespaces, transport: Transport) -> Result<()> {
        let name = transport.name();
        self.server_command(&[
            format!("HubCreate {name} /PASSWORD:hub"),
            format!("Hub {name}"),
            "UserCreate pc /GROUP:none /REALNAME:none /NOTE:none".to_owned(),
            "UserPasswordSet pc /PASSWORD:password".to_owned(),
            "Hub".to_owned(),
            format!("BridgeCreate {name} /DEVICE:{name} /TAP:yes"),
        ])?;
        let address = format!("{}/24", transport.inside(1));
        let tap = format!("tap_{name}");
        wait_for("SoftEther's bridge", 10, async || {
            Ok(namespaces
                .fund()
                .ip(&["addr", "add", &address, "dev", &tap])
                .is_ok()
                .then_some(()))
        })
        .await?;
        wait_for("SoftEther's client", 20, async || {
            let made = self.client_command(namespaces, &[format!("NicCreate {name}")]);
            Ok(made.is_ok().then_some(()))
        })
        .await?;
        let only_tls = match transport {
            Transport::AsInstalled => "no",
            Transport::Tls => "yes",
        };
        self.client_command(
            namespaces,
            &[
                format!("AccountCreate {name} /SERVER:{FUND}:{PORT} /HUB:{name} /USERNAME:pc /NICNAME:{name}"),
                format!("AccountPasswordSet {name} /PASSWORD:password /TYPE:standard"),
                format!("AccountDetailSet {name} /MAXTCP:2 /INTERVAL:1 /TTL:0 /HALF:no /BRIDGE:no /MONITOR:no /NOTRACK:no /NOQOS:no /DISABLEUDP:{only_tls}"),
            ],
        )?;
        namespaces.pc().ip(&[
            "addr",
            "add",
            &format!("{}/24", transport.inside(2)),
            "dev",
            &format!("vpn_{name}"),
        ])?;
        self.client_command(namespaces, &[format!("AccountConnect {name}")])?;
        self.wait_connected(namespaces, transport).await
    }

    /// The command that connects, the client's service running already.
    pub(super) fn connect(&self, transport: Transport) -> Result<Vec<String>> {
        let file = self.folder.join("connect.in");
        std::fs::write(&file, format!("AccountConnect {}\n", transport.name()))?;
        Ok(vec![
            "vpncmd".to_owned(),
            "localhost".to_owned(),
            "/CLIENT".to_owned(),
            format!("/IN:{}", file.display()),
        ])
    }

    /// Disconnects; the client's service goes on.
    pub(super) async fn disconnect(
        &self,
        namespaces: &Namespaces,
        transport: Transport,
    ) -> Result<()> {
        let command = format!("AccountDisconnect {}", transport.name());
        self.client_command(namespaces, &[command])?;
        wait_for("SoftEther to disconnect", 10, async || {
            Ok(self.status(namespaces, transport).is_err().then_some(()))
        })
        .await
    }

    /// Waits until packets go the way they should: acceleration sets in after some seconds.
    pub(super) async fn wait_connected(
        &self,
        namespaces: &Namespaces,
        transport: Transport,
    ) -> Result<()> {
        wait_for("SoftEther to connect", 30, async || {
            let status = self.status(namespaces, transport)?;
            let line = |start: &str| {
                status
                    .lines()
                    .find(|line| line.trim_start().starts_with(start))
            };
            let established =
                line("Session Status").is_some_and(|line| line.contains("Established"));
            let accelerated =
                line("UDP Acceleration is Active").is_some_and(|line| line.contains("Yes"));
            let wanted = transport == Transport::AsInstalled;
            ensure!(wanted || !accelerated, "UDP although it was switched off");
            Ok((established && accelerated == wanted).then_some(()))
        })
        .await
    }

    fn status(&self, namespaces: &Namespaces, transport: Transport) -> Result<String> {
        self.client_command(
            namespaces,
            &[format!("AccountStatusGet {}", transport.name())],
        )
    }

    /// How clients reach `port` of the fund.
    pub(super) fn way(transport: Transport, port: u16) -> Way {
        Way::Straight((transport.inside(1), port).into())
    }

    /// The PC's processes and the fund's.
    pub(super) fn ends(&self) -> (Vec<u32>, Vec<u32>) {
        (vec![self.client.pid()], vec![self.server.pid()])
    }

    fn server_command(&self, lines: &[String]) -> Result<String> {
        let target = ["localhost:5555", "/SERVER"];
        vpncmd(Command::new("timeout"), &target, &self.folder, lines)
    }

    fn client_command(&self, namespaces: &Namespaces, lines: &[String]) -> Result<String> {
        let target = ["localhost", "/CLIENT"];
        vpncmd(namespaces.on_pc("timeout"), &target, &self.folder, lines)
    }
}

/// Starts a program in the foreground; `unshare` is the command that gives it its folders.
fn start(folder: &Path, name: &str, program: &str, mut unshare: Command) -> Result<Process> {
    let mut script = "set -e\n".to_owned();
    for (number, fixed) in FOLDERS.iter().enumerate() {
        let own = folder.join(format!("{name}-{number}"));
        std::fs::create_dir_all(&own)?;
        std::fs::create_dir_all(fixed).with_context(|| format!("make {fixed}"))?;
        script += &format!("mount --bind {} {fixed}\n", own.display());
    }
    script += &format!("exec {program} execsvc\n");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    Process::start(&format!("softether-{name}"), folder, &mut unshare)
}

/// Gives commands to server or client; an error of one of them is ours.
fn vpncmd(
    mut timeout: Command,
    target: &[&str],
    folder: &Path,
    lines: &[String],
) -> Result<String> {
    let file = folder.join("commands.in");
    std::fs::write(&file, lines.join("\n") + "\n")?;
    let run = timeout
        .arg(COMMAND_LIMIT_S.to_string())
        .arg("vpncmd")
        .args(target)
        .arg(format!("/IN:{}", file.display()))
        .stdin(Stdio::null())
        .output()?;
    let printed = String::from_utf8_lossy(&run.stdout).into_owned();
    if !run.status.success() || printed.contains("Error occurred") {
        bail!("vpncmd {lines:?}: {}\n{printed}", run.status);
    }
    Ok(printed)
}
