//! Wine, in place of a Windows PC: a fresh prefix for each story, and what the agent's program
//! needs in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::process::{Process, free_port, output, wait_for};

/// Debian's Wine without its wrapper, which looks for one of 32 bits.
const WINE: &str = "/usr/lib/wine/wine64";
/// The server of each prefix.
const WINE_SERVER: &str = "/usr/lib/wine/wineserver64";
/// Debian's compiler for Windows.
const COMPILER: &str = "x86_64-w64-mingw32-gcc-win32";
/// How long the programs in a prefix may take to listen, in seconds.
const START_PATIENCE_S: u64 = 60;

/// A Windows of its own in a folder. Everything in it ends when this is dropped.
#[derive(Debug)]
pub struct Prefix {
    folder: PathBuf,
    /// Whose Windows it is; none: that of the user who runs the tests.
    user: Option<&'static str>,
    /// What programs in it are told besides.
    variables: Vec<(&'static str, PathBuf)>,
}

impl Prefix {
    /// Sets up a prefix in `folder`, which is made.
    ///
    /// # Errors
    /// If Wine is not installed or does not start.
    pub fn new(folder: &Path) -> Result<Self> {
        Self::set_up(folder, None)
    }

    /// Sets up the prefix of another user of this machine, who must be able to enter the
    /// folder above it. Root only.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_user(folder: &Path, user: &'static str) -> Result<Self> {
        Self::set_up(folder, Some(user))
    }

    fn set_up(folder: &Path, user: Option<&'static str>) -> Result<Self> {
        ensure!(
            Path::new(WINE).exists(),
            "no Wine: run scripts/install-packages test"
        );
        let prefix = Self {
            folder: folder.to_owned(),
            user,
            variables: Vec::new(),
        };
        std::fs::create_dir_all(prefix.home())?;
        prefix.hand_over()?;
        output(prefix.wine().args(["wineboot", "--init"])).context("set up a Wine prefix")?;
        // The settings are written a moment after the command that made them.
        output(prefix.server().arg("--wait"))?;
        Ok(prefix)
    }

    /// Tells every program from now on `variables` of the environment.
    #[must_use]
    pub fn with(mut self, variables: impl IntoIterator<Item = (&'static str, PathBuf)>) -> Self {
        self.variables.extend(variables);
        self
    }

    /// `wine64`, for a program and its arguments. Nothing is drawn where there is no
    /// [`Display`], and then the program has no window at all.
    pub fn wine(&self) -> Command {
        self.command(WINE)
    }

    fn server(&self) -> Command {
        self.command(WINE_SERVER)
    }

    /// Makes everything in the prefix the user's own, after others have put something there.
    ///
    /// # Errors
    /// If this is not root.
    pub fn hand_over(&self) -> Result<()> {
        let Some(user) = self.user else {
            return Ok(());
        };
        output(Command::new("chown").args(["-R", user]).arg(&self.folder)).map(drop)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = match self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--reuid", user, "--clear-groups", program])
                    .env("USER", user)
                    .current_dir(&self.folder);
                command
            }
            None => Command::new(program),
        };
        command
            .env("WINEPREFIX", &self.folder)
            .env("WINEARCH", "win64")
            // Wine's desktop, documents and downloads are this user's, so not the tester's.
            .env("HOME", self.home())
            .env("WINEDEBUG", "-all")
            // No .NET, no Internet Explorer, no entries in the desktop's menus; the chip of
            // `install_chip` where there is one.
            .env(
                "WINEDLLOVERRIDES",
                "mscoree,mshtml=;winemenubuilder.exe=d;ncrypt=n,b",
            )
            .env("LANG", "C.UTF-8")
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The C: drive.
    pub fn drive_c(&self) -> PathBuf {
        self.folder.join("drive_c")
    }

    /// `%LOCALAPPDATA%` of the one user.
    ///
    /// # Errors
    /// If the prefix has no user.
    pub fn local_app_data(&self) -> Result<PathBuf> {
        let users = self.drive_c().join("users");
        let mut found = std::fs::read_dir(&users)?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| !path.ends_with("Public"));
        let user = found.next().context("a user in the prefix")?;
        Ok(user.join("AppData/Local"))
    }

    /// Where desktop, documents and downloads lie.
    pub fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// Waits until every program in the prefix has ended and the registry is written down.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub fn settle(&self) -> Result<()> {
        output(self.server().arg("--wait")).map(drop)
    }

    /// Ends every program in the prefix.
    pub fn stop(&self) {
        let _ = self.server().arg("--kill").status();
    }

    /// Adds a value to the registry, as `reg add KEY VALUE` does.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn register(&self, key: &str, value: &[&str]) -> Result<()> {
        let mut command = self.wine();
        command.args(["reg", "add", key]).args(value).arg("/f");
        output(&mut command).map(drop)
    }

    /// Makes `program`, a path below C: as Windows writes it, of a source of `tests/wine`;
    /// returns where it lies.
    ///
    /// # Errors
    /// If the compiler is not installed.
    pub fn install(&self, program: &str, source: &str, more: &[&str]) -> Result<PathBuf> {
        let target = self.drive_c().join(program.replace('\\', "/"));
        let folder = target.parent().context("it lies in a folder")?;
        std::fs::create_dir_all(folder)?;
        compile(&["-o"], &target, source, more)?;
        Ok(target)
    }

    /// Puts the agent's program into a folder of the C: drive, with the DLL that Wine lacks
    /// beside it, and returns the program.
    ///
    /// # Errors
    /// If the program was not built.
    pub fn install_agent(&self) -> Result<PathBuf> {
        let program = self.agent();
        let folder = program.parent().context("it lies in a folder")?;
        std::fs::create_dir_all(folder)?;
        std::fs::copy(agent_program()?, &program)?;
        supply_missing_dll(folder)?;
        Ok(program)
    }

    /// Gives the PC a security chip: a DLL beside the agent's program, in the place of Windows'
    /// own. Its keys lie in `C:\tpm`; while `C:\tpm\off` is there, it does not answer.
    ///
    /// # Errors
    /// If the compiler is not installed.
    pub fn install_chip(&self) -> Result<()> {
        let program = self.agent();
        let dll = program.with_file_name("ncrypt.dll");
        compile(&["-shared", "-o"], &dll, "ncrypt.c", &["-lbcrypt"])
    }

    /// Where [`Self::install_agent`] puts the agent's program.
    pub fn agent(&self) -> PathBuf {
        self.drive_c().join("renkei/vpn-agent.exe")
    }

    /// Starts a program in the prefix that passes connections from a port of its own on to
    /// `port`, and returns its port.
    ///
    /// # Errors
    /// If it does not listen in time.
    pub async fn start_relay(&self, logs: &Path, port: u16) -> Result<(Process, u16)> {
        let folder = self.drive_c().join("tests");
        std::fs::create_dir_all(&folder)?;
        let program = folder.join("relay.exe");
        compile(&["-o"], &program, "relay.c", &["-lws2_32"])?;
        let listens = free_port()?;
        let mut command = self.wine();
        command
            .arg(&program)
            .args([listens.to_string(), port.to_string()]);
        let mut relay = Process::start("relay", logs, &mut command)?;
        wait_for("the relay", START_PATIENCE_S, async || {
            relay.check_running()?;
            Ok(std::net::TcpStream::connect(("127.0.0.1", listens))
                .is_ok()
                .then_some(()))
        })
        .await?;
        Ok((relay, listens))
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A screen that nobody sees (Debian's package xvfb), for programs that need windows.
#[derive(Debug)]
pub struct Display {
    name: String,
    _server: Process,
}

impl Display {
    /// Starts one with a number that is free.
    ///
    /// # Errors
    /// If Xvfb is not installed or does not start.
    pub async fn start(logs: &Path) -> Result<Self> {
        let mut command = Command::new("Xvfb");
        // It prints its number once it is there, and keeps to sockets of this machine.
        command.args(["-displayfd", "1", "-screen", "0", "1024x768x24"]);
        command.args(["-nolisten", "tcp"]);
        let mut server = Process::start("display", logs, &mut command)
            .context("Xvfb (Debian's package xvfb)")?;
        let number = wait_for("a display", START_PATIENCE_S, async || {
            server.check_running()?;
            let log = server.log_text();
            Ok(log.lines().find_map(|line| line.parse::<u32>().ok()))
        })
        .await?;
        Ok(Self {
            name: format!(":{number}"),
            _server: server,
        })
    }

    /// What a program finds it by, in its environment.
    pub fn variables(&self) -> [(&'static str, PathBuf); 1] {
        [("DISPLAY", PathBuf::from(&self.name))]
    }
}

/// A path as programs under Wine write it.
pub fn windows_path(path: &Path) -> String {
    format!("Z:{}", path.display()).replace('/', "\\")
}

/// The agent for Windows, as `scripts/build-windows` leaves it.
///
/// # Errors
/// If it was not built.
pub fn agent_program() -> Result<PathBuf> {
    let built = match std::env::var_os("RENKEI_TEST_WINDOWS_AGENT") {
        Some(named) => PathBuf::from(named),
        None => Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../target/x86_64-pc-windows-gnu/release/vpn-agent.exe"),
    };
    ensure!(
        built.is_file(),
        "no {}: run scripts/build-windows first",
        built.display()
    );
    Ok(built)
}

/// Makes the one DLL that Wine 8 does not have, in `folder`.
///
/// # Errors
/// If the compiler is not installed.
pub fn supply_missing_dll(folder: &Path) -> Result<()> {
    let dll = folder.join("bcryptprimitives.dll");
    compile(
        &["-shared", "-o"],
        &dll,
        "bcryptprimitives.c",
        &["-ladvapi32"],
    )
}

/// Compiles a program of `tests/wine` for Windows: `before`, the program's path, `after`.
///
/// # Errors
/// If the compiler is not installed, or does not like the source.
pub fn compile(before: &[&str], target: &Path, source: &str, after: &[&str]) -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("wine")
        .join(source);
    output(
        Command::new(COMPILER)
            .args(before)
            .arg(target)
            .args(["-Os", "-Wall", "-Werror", "-static", "-s"])
            .arg(source)
            .args(after),
    )
    .map(drop)
}
