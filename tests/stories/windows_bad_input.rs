//! What the agent for Windows, the real .exe, makes of a PC that is not as it should be: each
//! time a sentence and a way on. Where Windows does not differ, `misfortune` shows it.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use renkei_tests::process::run;
use renkei_tests::wine::{self, Prefix};

/// A user of every Debian who may not have ports below 1024.
const OTHER_USER: &str = "games";

/// A PC with settings and nothing else.
pub(crate) struct Pc {
    pub(crate) prefix: Prefix,
    pub(crate) config: PathBuf,
}

impl Pc {
    pub(crate) fn new(prefix: Prefix, settings: &str) -> Result<Self> {
        let config = prefix.drive_c().join("agent.toml");
        std::fs::write(&config, settings)?;
        prefix.install_agent()?;
        prefix.hand_over()?;
        Ok(Self { prefix, config })
    }

    fn set(&self, settings: &str) -> Result<()> {
        Ok(std::fs::write(&self.config, settings)?)
    }

    /// `vpn-agent ARGUMENTS`.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.prefix.wine();
        command
            .arg(self.prefix.agent())
            .args(["--config", &wine::windows_path(&self.config)])
            .args(arguments);
        command
    }

    fn agent(&self, arguments: &[&str]) -> Result<Output> {
        run(&mut self.command(arguments))
    }

    /// What a command says that cannot be done.
    pub(crate) fn told(&self, arguments: &[&str]) -> Result<String> {
        let run = self.agent(arguments)?;
        ensure!(run.status.code() == Some(1), "{run:?}");
        Ok(String::from_utf8(run.stderr)?)
    }
}

#[test]
fn the_exe_names_a_taken_port_a_broken_browser_and_a_corrupt_store_with_a_way_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let busy = TcpListener::bind(("127.0.0.1", 0))?;
    let port = busy.local_addr()?.port();
    let pc = Pc::new(
        Prefix::new(&folder.path().join("wine"))?,
        &format!("proxy_port = {port}\n"),
    )?;
    let said = pc.told(&["open", "--no-browser"])?;
    ensure!(
        said.contains(&format!("ポート{port}は、別のプログラムが使っています")),
        "{said}"
    );
    ensure!(said.contains("その行を消すと"), "{said}");

    let browser = pc.prefix.drive_c().join("crashing.exe");
    wine::compile(&["-o"], &browser, "crashing.c", &[])?;
    pc.set("browser = 'C:\\crashing.exe'\n")?;
    let said = pc.told(&["open"])?;
    ensure!(said.contains("続けて異常終了"), "{said}");
    pc.set("browser = 'C:\\no-such-browser.exe'\n")?;
    let said = pc.told(&["open"])?;
    ensure!(said.contains("ブラウザー"), "{said}");

    // A registration whose files are rubbish is left where it is, and is not in the way.
    pc.set("# Everything by itself.\n")?;
    let data = pc.prefix.local_app_data()?.join("Renkei");
    let damaged = data.join("enrolments/0e2f6c1a-0000-4000-8000-000000000001");
    std::fs::create_dir_all(&damaged)?;
    std::fs::write(damaged.join("enrolment.json"), "{\"version\":1,\"seq")?;
    let status = pc.agent(&["status"])?;
    let said = String::from_utf8(status.stdout)?;
    ensure!(said.contains("壊れている"), "{said}");
    ensure!(said.contains("もう一度パソコンを登録"), "{said}");
    ensure!(damaged.join("enrolment.json").exists());
    Ok(())
}

/// Windows says of a port that it keeps for itself what it says of one without rights.
#[test]
fn the_exe_names_a_port_of_a_range_that_the_system_keeps() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open)?;
    let prefix = Prefix::of_user(&folder.path().join("wine"), OTHER_USER)?;
    let pc = Pc::new(prefix, "proxy_port = 80\n")?;
    let said = pc.told(&["open", "--no-browser"])?;
    ensure!(
        said.contains("ポート80は、このパソコンでは使えません"),
        "{said}"
    );
    ensure!(said.contains("予約している範囲"), "{said}");
    ensure!(said.contains("その行を消すと"), "{said}");
    Ok(())
}
