//! What a Windows PC is given: installer and package, signed, put in and taken out again under
//! Wine, with a trace of nothing left.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use renkei_tests::process::{self, Process, output, wait_for};
use renkei_tests::wine::{self, Prefix};

/// Where silent installations are told to connect to.
const GATEWAY: &str = "https://gateway.fund.example";
/// Largest program, in bytes.
const SIZE_LIMIT: u64 = 15 * 1024 * 1024;
/// What people see.
const NAME: &str = "電子連携サービス";
/// How long something under Wine may take, in seconds.
const PATIENCE_S: u64 = 90;

/// Exit codes of the installer; Unix keeps the lowest eight bits.
const WRONG_GATEWAY: i32 = 2;
const STILL_RUNNING: i32 = 3;
const ALREADY_INSTALLING: i32 = 1618 % 256;

/// What `scripts/package-windows` made of the built agent, signed with a throw-away certificate.
struct Package {
    folder: tempfile::TempDir,
    certificate: PathBuf,
}

impl Package {
    /// Made once for all stories here.
    fn made() -> Result<&'static Self> {
        static MADE: OnceLock<Result<Package>> = OnceLock::new();
        let made = MADE.get_or_init(|| Self::make(&wine::agent_program()?));
        made.as_ref()
            .map_err(|error| anyhow::anyhow!("package-windows: {error:#}"))
    }

    fn make(program: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let certificate = folder.path().join("certificate.pem");
        let key = folder.path().join("key.pem");
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Throw-away");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning];
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        let pair = rcgen::KeyPair::generate()?;
        std::fs::write(&certificate, params.self_signed(&pair)?.pem())?;
        std::fs::write(&key, pair.serialize_pem())?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/package-windows");
        output(
            Command::new(script)
                .arg("--exe")
                .arg(program)
                .env("RENKEI_WINDOWS_OUT", folder.path().join("out"))
                .env("RENKEI_SIGN_CERTIFICATE", &certificate)
                .env("RENKEI_SIGN_KEY", &key),
        )?;
        Ok(Self {
            folder,
            certificate,
        })
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn file(&self, ending: &str) -> Result<PathBuf> {
        std::fs::read_dir(self.out())?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().ends_with(ending))
            .with_context(|| format!("no …{ending}"))
    }

    fn check_signature(&self, file: &Path) -> Result<()> {
        let said = output(
            Command::new("osslsigncode")
                .arg("verify")
                .arg("-CAfile")
                .arg(&self.certificate)
                .arg("-in")
                .arg(file),
        )
        .with_context(|| format!("signature of {}", file.display()))?;
        ensure!(said.contains("Signature verification: ok"), "{said}");
        Ok(())
    }
}

/// Files and registry of a prefix, but for Wine's own restlessness.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    files: BTreeSet<String>,
    registry: BTreeSet<String>,
}

impl Traces {
    fn of(prefix: &Prefix) -> Result<Self> {
        prefix.settle()?;
        let mut files = BTreeSet::new();
        for folder in [prefix.drive_c(), prefix.home()] {
            list(&folder, &mut files)?;
        }
        let mut registry = BTreeSet::new();
        for hive in ["user.reg", "system.reg"] {
            let file = prefix.drive_c().join("..").join(hive);
            values(
                hive,
                &std::fs::read(&file).with_context(|| file.display().to_string())?,
                &mut registry,
            );
        }
        Ok(Self { files, registry })
    }

    /// What is here and not in `before`, and the other way round.
    fn differences<'a>(&'a self, before: &'a Self) -> Vec<&'a String> {
        let files = self.files.symmetric_difference(&before.files);
        let registry = self.registry.symmetric_difference(&before.registry);
        files.chain(registry).collect()
    }
}

fn list(folder: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // A folder for passing needs, gone since it was seen.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("list {}", folder.display())),
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let name = path.to_string_lossy().into_owned();
        // NSIS uninstalls from a copy of itself there, which the system clears away.
        // And Windows Installer makes its own folder when it first runs, and keeps it.
        let of_windows = name.ends_with("/windows/Installer");
        if name.contains("/Temp/~nsu") || of_windows {
            if of_windows {
                list(&path, found)?;
            }
            continue;
        }
        found.insert(name);
        if entry.file_type()?.is_dir() {
            list(&path, found)?;
        }
    }
    Ok(())
}

/// Keys and values below `Software` in a registry file of Wine's.
fn values(hive: &str, text: &[u8], found: &mut BTreeSet<String>) {
    let text = String::from_utf8_lossy(text);
    let mut key = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.split("] ").next().unwrap_or_default();
            key = format!("{hive} {name}");
        } else if line.starts_with('"') || line.starts_with('@') {
            let ours = key.contains(" Software\\\\") && !key.contains("Software\\\\Wine");
            if ours {
                found.insert(format!("{key}: {line}"));
            }
        }
    }
}

/// Runs a program in the prefix to its end; its exit code.
fn run(prefix: &Prefix, program: &Path, arguments: &[&str]) -> Result<Option<i32>> {
    let mut command = prefix.wine();
    command.arg(program).args(arguments);
    let ended = process::run(&mut command)?;
    Ok(ended.status.code())
}

fn shortcuts(prefix: &Prefix) -> Result<Vec<String>> {
    let traces = Traces::of(prefix)?;
    let names = traces.files.into_iter();
    Ok(names.filter(|name| name.ends_with(".lnk")).collect())
}

/// The resources of a program of one kind, as they lie in it.
fn resource(program: &Path, kind: &str) -> Result<Vec<u8>> {
    let found = Command::new("wrestool")
        .args(["--extract", "--raw", "--type", kind])
        .arg(program)
        .output()?;
    ensure!(found.status.success(), "{found:?}");
    Ok(found.stdout)
}

/// What a program tells Windows before it is started.
fn manifest(program: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&resource(program, "24")?).into_owned())
}

/// S003-23: what an admin is given to install.
#[test]
fn what_is_handed_out_is_signed_small_and_says_what_it_is() -> Result<()> {
    let package = Package::made()?;
    output(
        Command::new("sha256sum")
            .args(["--check", "--strict", "SHA256SUMS"])
            .current_dir(package.out()),
    )?;
    let sums = std::fs::read_to_string(package.out().join("SHA256SUMS"))?;
    for ending in ["vpn-agent.exe", "-setup.exe", ".msi"] {
        let file = package.file(ending)?;
        package.check_signature(&file)?;
        let size = std::fs::metadata(&file)?.len();
        ensure!(size < SIZE_LIMIT, "{} has {size} bytes", file.display());
        let name = file.file_name().context("a name")?.to_string_lossy();
        ensure!(sums.contains(&*name), "{name} is not in SHA256SUMS");
    }

    let program = package.file("vpn-agent.exe")?;
    let version = resource(&program, "16")?;
    for text in [NAME, env!("CARGO_PKG_VERSION")] {
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let said = version.windows(wide.len()).any(|window| window == wide);
        ensure!(said, "the version resource does not say {text}");
    }
    let own = manifest(&program)?;
    for word in ["PerMonitorV2", "UTF-8"] {
        ensure!(own.contains(word), "no {word} in {own}");
    }
    // A clerk has no administrator's password, and a shared PC none to lend.
    for program in [program.clone(), package.file("-setup.exe")?] {
        let told = manifest(&program)?;
        let level = told
            .split_once("<requestedExecutionLevel")
            .and_then(|(_, rest)| rest.split_once("level=\""))
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(level, _)| level);
        ensure!(
            level == Some("asInvoker"),
            "{} asks for {level:?}: {told}",
            program.display()
        );
    }
    ensure!(!resource(&program, "14")?.is_empty(), "no icon");
    Ok(())
}

/// S003-24, S003-26: the same installer serves each of an establishment's PCs.
#[tokio::test]
async fn the_installer_puts_in_replaces_and_takes_out_without_a_trace() -> Result<()> {
    let package = Package::made()?;
    let setup = package.file("-setup.exe")?;
    let folder = tempfile::tempdir()?;
    let prefix = Prefix::new(&folder.path().join("wine"))?;
    wine::supply_missing_dll(&prefix.drive_c().join("windows/system32"))?;
    let before = Traces::of(&prefix)?;

    // A wrong address: a sentence, an exit code, nothing changed.
    for wrong in ["/GATEWAY=http://gateway.fund.example", "/GATEWAY="] {
        let code = run(&prefix, &setup, &["/S", wrong])?;
        ensure!(code == Some(WRONG_GATEWAY), "{wrong}: {code:?}");
    }
    let after = Traces::of(&prefix)?;
    ensure!(after == before, "{:#?}", after.differences(&before));

    let gateway = format!("/GATEWAY={GATEWAY}");
    ensure!(run(&prefix, &setup, &["/S", &gateway])? == Some(0));
    let home = prefix.local_app_data()?.join("Programs/Renkei");
    let program = home.join("vpn-agent.exe");
    ensure!(program.is_file() && home.join("uninstall.exe").is_file());
    ensure!(std::fs::read(&program)? == std::fs::read(package.file("vpn-agent.exe")?)?);
    package.check_signature(&home.join("uninstall.exe"))?;
    let links = shortcuts(&prefix)?;
    let menu_and_desktop = links.iter().filter(|link| link.contains(NAME)).count();
    ensure!(menu_and_desktop == 2, "{links:?}");
    let registry = Traces::of(&prefix)?.registry;
    ensure!(registry.iter().any(|value| value.contains(GATEWAY)));

    // The agent knows where to ask; without an address it would want one.
    let mut command = prefix.wine();
    let words = [
        "enrol",
        "--establishment",
        "0123",
        "--code",
        "X",
        "--no-wait",
    ];
    let asked = process::run(command.arg(&program).args(words))?;
    let said = String::from_utf8_lossy(&asked.stderr);
    ensure!(asked.status.code() == Some(1), "{asked:?}");
    ensure!(!said.is_empty() && !said.contains("--gateway"), "{said}");

    // The list of programs shows the version that runs: after an update by itself it would
    // show the one that was installed.
    let key = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Uninstall\Renkei";
    let old = ["add", key, "/v", "DisplayVersion", "/d", "0.0.1", "/f"];
    output(prefix.wine().arg("reg").args(old))?;

    // Over itself, while the agent runs: the agent ends, and what was chosen stays.
    let mut command = prefix.wine();
    command.arg(&program).args(["open", "--no-browser"]);
    let mut agent = Process::start("agent", folder.path(), &mut command)?;
    wait_for("the agent's page", PATIENCE_S, async || {
        agent.check_running()?;
        Ok(agent.log_text().contains("http://").then_some(()))
    })
    .await?;
    let shown = ["query", key, "/v", "DisplayVersion"];
    let shown = output(prefix.wine().arg("reg").args(shown))?;
    ensure!(shown.contains(env!("CARGO_PKG_VERSION")), "{shown}");
    ensure!(run(&prefix, &setup, &["/S"])? == Some(0));
    wait_for("the agent's end", PATIENCE_S, async || {
        Ok(agent.check_running().is_err().then_some(()))
    })
    .await?;
    let registry = Traces::of(&prefix)?.registry;
    ensure!(registry.iter().any(|value| value.contains(GATEWAY)));

    // What the agent's page writes down for a user who wants zips opened with it goes too.
    let class = r"HKCU\Software\Classes\Renkei.Zip\shell\open\command";
    let offered = r"HKCU\Software\Classes\.zip\OpenWithProgids";
    prefix.register(class, &["/ve", "/d", "\"vpn-agent.exe\" open \"%1\""])?;
    prefix.register(offered, &["/v", "Renkei.Zip", "/d", ""])?;

    ensure!(run(&prefix, &home.join("uninstall.exe"), &["/S"])? == Some(0));
    wait_for("the uninstaller's end", PATIENCE_S, async || {
        Ok((!home.exists()).then_some(()))
    })
    .await?;
    let after = Traces::of(&prefix)?;
    ensure!(
        after == before,
        "left behind: {:#?}",
        after.differences(&before)
    );
    Ok(())
}

#[tokio::test]
async fn a_second_installer_and_one_that_meets_a_stubborn_agent_change_nothing() -> Result<()> {
    let package = Package::made()?;
    let setup = package.file("-setup.exe")?;
    let folder = tempfile::tempdir()?;
    let prefix = Prefix::new(&folder.path().join("wine"))?;
    wine::supply_missing_dll(&prefix.drive_c().join("windows/system32"))?;
    ensure!(run(&prefix, &setup, &["/S"])? == Some(0));
    let program = prefix
        .local_app_data()?
        .join("Programs/Renkei/vpn-agent.exe");
    // In the agent's place a program that runs on whoever asks it to end.
    std::fs::remove_file(&program)?;
    wine::compile(&["-o"], &program, "stubborn.c", &[])?;
    let stubborn = std::fs::read(&program)?;
    let mut command = prefix.wine();
    command.arg(&program).arg("open");
    let mut agent = Process::start("stubborn", folder.path(), &mut command)?;
    wait_for("the stubborn program", PATIENCE_S, async || {
        agent.check_running()?;
        Ok(agent.log_text().contains("running").then_some(()))
    })
    .await?;

    // Two at once: the one that is first waits ten seconds for the program's end, the other is
    // turned away.
    let mut both = Vec::new();
    for _ in 0..2 {
        let mut command = prefix.wine();
        command.arg(&setup).arg("/S");
        both.push(command.spawn()?);
    }
    let mut codes = Vec::new();
    for installer in &mut both {
        codes.push(installer.wait()?.code());
    }
    codes.sort_unstable();
    ensure!(
        codes == [Some(STILL_RUNNING), Some(ALREADY_INSTALLING)],
        "{codes:?}"
    );
    agent.check_running()?;
    ensure!(
        std::fs::read(&program)? == stubborn,
        "the program was replaced"
    );
    Ok(())
}

#[tokio::test]
async fn the_package_for_group_policy_goes_in_and_out_silently() -> Result<()> {
    let package = Package::made()?;
    let msi = wine::windows_path(&package.file(".msi")?);
    let folder = tempfile::tempdir()?;
    let prefix = Prefix::new(&folder.path().join("wine"))?;
    let msiexec = |arguments: &[&str]| -> Result<()> {
        let code = run(&prefix, Path::new("msiexec"), arguments)?;
        ensure!(code == Some(0), "msiexec {arguments:?}: {code:?}");
        Ok(())
    };
    let before = Traces::of(&prefix)?;
    msiexec(&["/i", &msi, "/qn", &format!("GATEWAY={GATEWAY}")])?;
    let program = prefix.drive_c().join("Program Files/Renkei/vpn-agent.exe");
    let installed = std::fs::read(&program).with_context(|| program.display().to_string())?;
    ensure!(installed == std::fs::read(package.file("vpn-agent.exe")?)?);
    let links = shortcuts(&prefix)?;
    ensure!(
        links.iter().filter(|link| link.contains(NAME)).count() == 2,
        "{links:?}"
    );
    let registry = Traces::of(&prefix)?.registry;
    let told = registry.iter().find(|value| value.contains(GATEWAY));
    ensure!(
        told.is_some_and(|value| value.starts_with("system.reg")),
        "{told:?}"
    );
    msiexec(&["/x", &msi, "/qn"])?;
    let after = Traces::of(&prefix)?;
    ensure!(
        after == before,
        "left behind: {:#?}",
        after.differences(&before)
    );
    Ok(())
}
