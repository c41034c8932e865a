//! wireguard-go at both ends, as Debian has it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::client::Way;
use super::namespaces::{FUND, Namespaces};
use crate::process::{Process, output, wait_for};

/// Names another build of wireguard-go than Debian's, for example a current one.
const PROGRAM_VARIABLE: &str = "RENKEI_BENCH_WIREGUARD_GO";

/// WireGuard's port at the fund.
const PORT: u16 = 51_820;

/// The fund's address inside.
const INSIDE_FUND: &str = "10.92.0.1";

/// The PC's address inside.
const INSIDE_PC: &str = "10.92.0.2";

/// Both ends.
#[derive(Debug)]
pub(super) struct WireGuard {
    fund: Process,
    pc: Option<Process>,
    program: PathBuf,
    folder: PathBuf,
    device: String,
}

/// Says whether the programs are installed.
pub(super) fn is_installed() -> bool {
    program().is_some() && Path::new("/usr/bin/wg").exists()
}

fn program() -> Option<PathBuf> {
    let named = std::env::var_os(PROGRAM_VARIABLE).map(PathBuf::from);
    let program = named.unwrap_or_else(|| "/usr/bin/wireguard-go".into());
    program.exists().then_some(program)
}

impl WireGuard {
    /// Starts both ends and joins them.
    pub(super) async fn start(namespaces: &Namespaces, folder: &Path) -> Result<Self> {
        let folder = folder.join("wireguard");
        std::fs::create_dir_all(&folder)?;
        let program = program().context("no wireguard-go")?;
        for end in ["fund", "pc"] {
            let key = output(Command::new("wg").arg("genkey"))?;
            std::fs::write(folder.join(end).with_extension("key"), &key)?;
            std::fs::write(folder.join(end).with_extension("pub"), public_key(&key)?)?;
        }
        let device = Namespaces::device("wgf");
        let mut command = Command::new(&program);
        let fund = Process::start("wireguard-fund", &folder, command.args(["-f", &device]))?;
        wait_for_device(&device).await?;
        output(
            Command::new("wg")
                .args([
                    "set",
                    &device,
                    "listen-port",
                    &PORT.to_string(),
                    "private-key",
                ])
                .arg(folder.join("fund.key"))
                .args(["peer", &std::fs::read_to_string(folder.join("pc.pub"))?])
                .args(["allowed-ips", INSIDE_PC]),
        )?;
        namespaces
            .fund()
            .ip(&["addr", "add", &format!("{INSIDE_FUND}/24"), "dev", &device])?;
        namespaces.fund().ip(&["link", "set", &device, "up"])?;
        let mut both = Self {
            fund,
            pc: None,
            program,
            folder,
            device: Namespaces::device("wgp"),
        };
        both.connect_for_good(namespaces).await?;
        Ok(both)
    }

    /// The command that takes the PC's end from nothing to a running interface, as a script
    /// or a window would do it: the program goes on in the background.
    pub(super) fn connect(&self) -> Result<Vec<String>> {
        let script = format!(
            "{program} {device}\n\
             wg set {device} private-key {folder}/pc.key peer {peer} allowed-ips {INSIDE_FUND} endpoint {endpoint}\n\
             ip addr add {INSIDE_PC}/24 dev {device}\n\
             ip link set {device} up",
            program = self.program.display(),
            device = self.device,
            folder = self.folder.display(),
            peer = std::fs::read_to_string(self.folder.join("fund.pub"))?,
            endpoint = SocketAddr::from((FUND, PORT)),
        );
        Ok(vec!["sh".to_owned(), "-ec".to_owned(), script])
    }

    /// Ends the PC's end, whoever started it.
    pub(super) async fn disconnect(&mut self, namespaces: &Namespaces) -> Result<()> {
        self.pc = None;
        // Without its interface the program ends.
        let _ = namespaces.pc().ip(&["link", "del", &self.device]);
        let socket = socket(&self.device);
        wait_for("wireguard-go to end", 10, async || {
            Ok((!socket.exists()).then_some(()))
        })
        .await
    }

    /// Connects in a way that shows how much the program uses.
    pub(super) async fn connect_for_good(&mut self, namespaces: &Namespaces) -> Result<()> {
        let mut command = namespaces.on_pc(&self.program);
        let pc = Process::start(
            "wireguard-pc",
            &self.folder,
            command.args(["-f", &self.device]),
        )?;
        self.pc = Some(pc);
        wait_for_device(&self.device).await?;
        let script = self.connect()?;
        // The first line starts the program, which runs already.
        let rest = script[2].split_once('\n').context("a script")?.1;
        output(namespaces.on_pc("sh").args(["-ec", rest]))?;
        Ok(())
    }

    /// How clients reach `port` of the fund.
    pub(super) fn way(port: u16) -> Result<Way> {
        Ok(Way::Straight(
            (INSIDE_FUND.parse::<std::net::IpAddr>()?, port).into(),
        ))
    }

    /// The PC's processes and the fund's.
    pub(super) fn ends(&self) -> (Vec<u32>, Vec<u32>) {
        let pc = self.pc.iter().map(Process::pid).collect();
        (pc, vec![self.fund.pid()])
    }
}

fn socket(device: &str) -> PathBuf {
    Path::new("/var/run/wireguard")
        .join(device)
        .with_extension("sock")
}

async fn wait_for_device(device: &str) -> Result<()> {
    let socket = socket(device);
    wait_for("wireguard-go", 10, async || {
        Ok(socket.exists().then_some(()))
    })
    .await
}

fn public_key(key: &str) -> Result<String> {
    let mut child = Command::new("wg")
        .arg("pubkey")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("stdin")?
        .write_all(key.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "wg pubkey: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
