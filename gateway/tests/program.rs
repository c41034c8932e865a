//! The program as an operator meets it: arguments, exit codes, signals, what it writes.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// How often the program is looked at until it has started, and with which pauses.
const LOOKS: u32 = 2000;
const PAUSE: Duration = Duration::from_millis(10);

#[test]
fn version_and_help_are_told() {
    let version = run(&["--version"]);
    assert!(version.status.success());
    let expected = format!("gateway {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), expected);
    let help = run(&["serve", "--help"]);
    assert!(help.status.success());
    assert!(String::from_utf8(help.stdout).unwrap().contains("--config"));
}

#[test]
fn wrong_usage_ends_with_code_two() {
    for arguments in [&[][..], &["serve"], &["dance"], &["serve", "--config"]] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_wrong_key_ends_with_code_two_and_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_settings(folder.path(), "udp_listn = \"127.0.0.1:0\"\n");
    let output = run(&["serve", "--config", &path]);
    assert_eq!(output.status.code(), Some(2));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("udp_listn"), "{log}");
}

#[test]
fn a_missing_identity_ends_with_code_one_and_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_settings(folder.path(), "");
    let output = run(&["serve", "--config", &path]);
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("certificate.pem"), "{log}");
}

#[test]
fn it_starts_without_the_portal_says_where_it_listens_and_ends_when_told() {
    for signal in ["-TERM", "-INT"] {
        let folder = tempfile::tempdir().unwrap();
        write_identity(&folder.path().join("identity"));
        let path = write_settings(folder.path(), "");
        let mut child = program(&["serve", "--config", &path]).spawn().unwrap();
        let listening = wait_for(&mut child, || {
            std::fs::read_to_string(folder.path().join("state/listening.json")).ok()
        });
        let listening: serde_json::Value = serde_json::from_str(&listening).unwrap();
        let tls = listening["tls"].as_str().unwrap();
        std::net::TcpStream::connect(tls).unwrap();
        let udp = listening["udp"][0].as_str().unwrap();
        assert!(udp.starts_with("127.0.0.1:"));

        let pid = child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
        let output = child.wait_with_output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{signal}: {log}");
        assert!(log.contains("gateway listens"), "{log}");
        assert!(output.stdout.is_empty(), "logs go to stderr");
    }
}

#[test]
fn a_port_in_use_ends_with_code_one_and_the_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    write_identity(&folder.path().join("identity"));
    let path = write_settings(folder.path(), "");
    let output = program(&["serve", "--config", &path])
        .env("RENKEI_TLS_LISTEN", &address)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains(&address), "{log}");
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> Output {
    program(arguments).output().unwrap()
}

fn wait_for(child: &mut Child, mut what: impl FnMut() -> Option<String>) -> String {
    for _ in 0..LOOKS {
        if let Some(found) = what() {
            return found;
        }
        assert!(child.try_wait().unwrap().is_none(), "ended too early");
        std::thread::sleep(PAUSE);
    }
    child.kill().unwrap();
    panic!("nothing came in time");
}

/// Paths start at the folder; the portal's addresses lead nowhere.
fn write_settings(folder: &Path, more: &str) -> String {
    let path = folder.join("gateway.toml");
    let text = format!(
        r#"{more}
        name = "tokyo-1"
        identity_dir = "identity"
        state_dir = "state"
        {listen}
        [portal]
        control_url = "https://127.0.0.1:9"
        member_address = "127.0.0.1:9"
        "#,
        listen = match more.is_empty() {
            true => "udp_listen = \"127.0.0.1:0\"\ntls_listen = \"127.0.0.1:0\"",
            false => "",
        },
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn write_identity(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_key = KeyPair::generate().unwrap();
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let issuer = Issuer::new(root, root_key);
    let leaf = CertificateParams::new(vec!["tokyo-1.gateway.renkei.internal".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    for (file, text) in [
        ("certificate.pem", leaf.pem()),
        ("key.pem", key.serialize_pem()),
        ("service-authority.pem", root_pem.clone()),
        ("device-authority.pem", root_pem),
    ] {
        std::fs::write(folder.join(file), text).unwrap();
    }
}
