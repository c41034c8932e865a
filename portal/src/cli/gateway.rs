//! `portal gateway add | list | renew | retire`

use std::path::Path;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portal::app::App;
use portal::authority::Identity;
use portal::gateways;

use super::keys::write_secret;
use super::{GatewayAdd, GatewayCommand};

/// Characters in a line of PEM (RFC 7468).
const PEM_LINE: usize = 64;

pub(super) async fn run(app: &App, command: GatewayCommand) -> anyhow::Result<()> {
    match command {
        GatewayCommand::Add(add_it) => add(app, &add_it).await,
        GatewayCommand::List { json } => list(app, json).await,
        GatewayCommand::Renew { name, hosts, out } => {
            make_folder(&out).with_context(|| format!("cannot use {}", out.display()))?;
            let identity = gateways::renew(app, &name, &hosts, app.clock.now()).await?;
            write_identity(app, &identity, &out)?;
            println!(
                "gateway {name}: its next identity is in {}; put it in place of the old one and \
                 restart the gateway",
                out.display()
            );
            Ok(())
        }
        GatewayCommand::Retire { name } => {
            let sessions = gateways::retire(app, &name, app.clock.now()).await?;
            println!("gateway {name} retired; it had {sessions} sessions");
            Ok(())
        }
    }
}

async fn list(app: &App, json: bool) -> anyhow::Result<()> {
    let gateways = gateways::list(app).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&gateways)?);
        return Ok(());
    }
    for gateway in gateways {
        let endpoints: Vec<String> = gateway.endpoints.iter().map(ToString::to_string).collect();
        let state = match (gateway.retired, gateway.seen) {
            (Some(retired), _) => format!("retired {retired}"),
            (None, Some(seen)) => format!("registered {seen}"),
            (None, None) => "never came up".to_owned(),
        };
        println!(
            "{}\t{}\t{}\t{} sessions\t{state}",
            gateway.name,
            gateway.url,
            endpoints.join(" "),
            gateway.live_sessions
        );
    }
    Ok(())
}

/// Adds the gateway and writes what it needs to know.
async fn add(app: &App, add: &GatewayAdd) -> anyhow::Result<()> {
    let out = &add.out;
    // Before anything is written to the database: the folder can be used.
    make_folder(out).with_context(|| format!("cannot use {}", out.display()))?;
    let now = app.clock.now();
    let identity = gateways::add(app, &add.name, &add.url, &add.hosts, now).await?;
    write_identity(app, &identity, out)?;
    println!(
        "gateway {} added: its identity is in {}",
        add.name,
        out.display()
    );
    Ok(())
}

fn write_identity(app: &App, identity: &Identity, out: &Path) -> anyhow::Result<()> {
    let authorities = &app.authorities;
    for (file, label, der) in [
        ("key.pem", "PRIVATE KEY", identity.key.secret_der()),
        ("certificate.pem", "CERTIFICATE", &identity.certificate[..]),
        (
            "service-authority.pem",
            "CERTIFICATE",
            &authorities.service_certificate()[..],
        ),
        (
            "device-authority.pem",
            "CERTIFICATE",
            &authorities.device_certificate()[..],
        ),
    ] {
        write_secret(&out.join(file), pem(label, der).as_bytes())?;
    }
    Ok(())
}

pub(super) fn make_folder(path: &Path) -> anyhow::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path)?;
    let is_empty = std::fs::read_dir(path)?.next().is_none();
    ensure!(is_empty, "it is not empty");
    Ok(())
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(PEM_LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem + &format!("-----END {label}-----")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;

    #[test]
    fn what_is_written_can_be_read() {
        for length in [0, 1, 47, 48, 49, 500] {
            let der: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let pem = pem("CERTIFICATE", &der);
            assert!(pem.lines().all(|line| line.len() <= PEM_LINE));
            let read = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            assert_eq!(&read[..], der);
        }
    }
}
