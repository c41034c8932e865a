//! `portal gateway add`

use std::path::Path;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portal::app::App;
use portal::gateways;

use super::GatewayAdd;
use super::keys::write_secret;

/// Characters in a line of PEM (RFC 7468).
const PEM_LINE: usize = 64;

/// Adds the gateway and writes what it needs to know.
pub(super) async fn add(app: &App, add: &GatewayAdd) -> anyhow::Result<()> {
    let out = &add.out;
    // Before anything is written to the database: the folder can be used.
    make_folder(out).with_context(|| format!("cannot use {}", out.display()))?;
    let now = app.clock.now();
    let identity = gateways::add(app, &add.name, &add.url, &add.hosts, now).await?;
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
    println!(
        "gateway {} added: its identity is in {}",
        add.name,
        out.display()
    );
    Ok(())
}

fn make_folder(path: &Path) -> anyhow::Result<()> {
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
