//! The contestants, running, and what was measured on each.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Options;
use crate::bench::client::{Client, Way};
use crate::bench::namespaces::{FUND, Namespaces};
use crate::bench::nginx::{BIG_FILE, LINE_FILE, Nginx, SMALL_PAGE};
use crate::bench::renkei::{Renkei, SIGN_IN_PAGE};
use crate::bench::softether::{self, SoftEther, Transport};
use crate::bench::wireguard::{self, WireGuard};
use crate::bench::{first_byte, median, noise};
use crate::process::output;

/// What is uploaded and downloaded, in bytes.
pub(super) const FILE_BYTES: usize = 100_000_000;
/// What is uploaded to see the throughput once it stands, and to count CPU time, in bytes.
pub(super) const STREAM_BYTES: usize = 400_000_000;
/// What goes over an access line, in bytes.
pub(super) const LINE_BYTES: usize = 20_000_000;
/// What goes over a lossy access line by kernel TCP, in bytes.
pub(super) const SHORT_BYTES: usize = 10_000_000;

/// Where [`Field`] keeps the contestant "no tunnel".
pub(super) const WITHOUT: usize = 0;
/// Where it keeps Renkei over UDP.
pub(super) const UDP: usize = 1;
/// Where it keeps Renkei over TLS.
pub(super) const TLS: usize = 2;

/// One way to the fund, and what was measured on it.
pub(super) struct Contestant {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) way: Way,
    pub(super) near: Vec<u32>,
    pub(super) far: Vec<u32>,
    pub(super) samples: Samples,
}

/// What a contestant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    NoTunnel,
    Renkei,
    /// Comes after the others: a PC has one session at a time.
    RenkeiTls,
    WireGuard,
    SoftEther(Transport),
}

/// Seconds and bytes, one for each round.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pub(super) upload_s: Vec<f64>,
    pub(super) download_s: Vec<f64>,
    pub(super) stream_s: Vec<f64>,
    pub(super) small_s: Vec<f64>,
    pub(super) near_cpu_s: Vec<f64>,
    pub(super) far_cpu_s: Vec<f64>,
    pub(super) all_cpu_s: Vec<f64>,
    pub(super) near_bytes: Vec<f64>,
    pub(super) far_bytes: Vec<f64>,
    pub(super) first_byte_s: Vec<f64>,
}

impl Samples {
    pub(super) fn append(&mut self, other: Self) {
        self.upload_s.extend(other.upload_s);
        self.download_s.extend(other.download_s);
        self.stream_s.extend(other.stream_s);
        self.small_s.extend(other.small_s);
        self.near_cpu_s.extend(other.near_cpu_s);
        self.far_cpu_s.extend(other.far_cpu_s);
        self.all_cpu_s.extend(other.all_cpu_s);
        self.near_bytes.extend(other.near_bytes);
        self.far_bytes.extend(other.far_bytes);
        self.first_byte_s.extend(other.first_byte_s);
    }
}

/// Files that are uploaded.
pub(super) struct Files {
    pub(super) file: PathBuf,
    pub(super) stream: PathBuf,
    pub(super) line: PathBuf,
    pub(super) short: PathBuf,
}

/// Everything that takes part, running.
pub(super) struct Field<'a> {
    pub(super) namespaces: &'a Namespaces,
    pub(super) renkei: Renkei,
    pub(super) nginx: Nginx,
    pub(super) files: Files,
    pub(super) wireguard: Option<WireGuard>,
    pub(super) softether: Option<SoftEther>,
    pub(super) contestants: Vec<Contestant>,
}

impl<'a> Field<'a> {
    /// Starts all; the times until Renkei's sign-in page came are taken on the way.
    pub(super) async fn start(
        namespaces: &'a Namespaces,
        folder: &Path,
        options: &Options,
    ) -> Result<Self> {
        let mut renkei = Renkei::start(namespaces, &folder.join("stage")).await?;
        let nginx = Nginx::start(folder).await?;
        let files = Files {
            file: nginx.memory().join(BIG_FILE),
            stream: nginx.memory().join("stream"),
            line: nginx.memory().join(LINE_FILE),
            short: nginx.memory().join("short"),
        };
        std::fs::write(&files.file, noise(FILE_BYTES))?;
        std::fs::write(&files.stream, noise(STREAM_BYTES))?;
        std::fs::write(&files.line, noise(LINE_BYTES))?;
        std::fs::write(&files.short, noise(SHORT_BYTES))?;

        let first_bytes = renkei_first_bytes(namespaces, &mut renkei, options).await?;
        renkei.lead_to(nginx.for_gateway()).await?;
        let port = nginx.straight_port();
        let mut field = Self {
            namespaces,
            renkei,
            nginx,
            files,
            wireguard: None,
            softether: None,
            contestants: Vec::new(),
        };
        let straight = Way::Straight((FUND, port).into());
        field.add(
            "no tunnel",
            Kind::NoTunnel,
            straight,
            (Vec::new(), Vec::new()),
        );
        let (way, ends) = (field.renkei.way(), field.renkei.ends()?);
        field.add("Renkei over UDP", Kind::Renkei, way, ends);
        field.contestants[UDP].samples.first_byte_s = first_bytes;
        let ends = field.renkei.ends()?;
        field.add(
            "Renkei over TLS, UDP being blocked",
            Kind::RenkeiTls,
            way,
            ends,
        );
        if wireguard::is_installed() {
            let both = WireGuard::start(namespaces, folder).await?;
            field.add(
                "wireguard-go",
                Kind::WireGuard,
                WireGuard::way(port)?,
                both.ends(),
            );
            field.wireguard = Some(both);
        }
        if softether::is_installed() {
            let both = SoftEther::start(namespaces, folder).await?;
            for (name, transport) in [
                (
                    "SoftEther as installed (UDP acceleration)",
                    Transport::AsInstalled,
                ),
                ("SoftEther over TLS", Transport::Tls),
            ] {
                let way = SoftEther::way(transport, port);
                field.add(name, Kind::SoftEther(transport), way, both.ends());
            }
            field.softether = Some(both);
        }
        Ok(field)
    }

    fn add(&mut self, name: &str, kind: Kind, way: Way, (near, far): (Vec<u32>, Vec<u32>)) {
        self.contestants.push(Contestant {
            name: name.to_owned(),
            kind,
            way,
            near,
            far,
            samples: Samples::default(),
        });
    }

    /// Blocks UDP to the gateway and connects anew. False if Renkei finds no way then.
    pub(super) async fn change_to_tls(&mut self) -> bool {
        let changed = self.renkei.connect_over_tls(self.namespaces).await;
        if let Err(error) = &changed {
            eprintln!("no tunnel over TLS: {error:#}");
        }
        changed.is_ok()
    }

    /// Those that can be connected at the same time.
    pub(super) fn in_turns(&self) -> Vec<usize> {
        (0..self.contestants.len())
            .filter(|at| *at != TLS)
            .collect()
    }

    pub(super) fn tls(&self) -> &Contestant {
        &self.contestants[TLS]
    }

    pub(super) fn client(&self, contestant: &Contestant) -> Client<'a> {
        Client {
            namespaces: self.namespaces,
            way: contestant.way,
            certificate: self.nginx.certificate().to_owned(),
        }
    }

    /// Connects each peer again and again.
    pub(super) async fn peers_first_bytes(&mut self, rounds: usize) -> Result<()> {
        let (namespaces, certificate) = (self.namespaces, self.nginx.certificate());
        for contestant in &mut self.contestants {
            let way = contestant.way;
            let measure = |connect: &[String]| {
                first_byte_s(namespaces, way, SMALL_PAGE, certificate, connect)
            };
            for _ in 0..rounds {
                let taken = match (contestant.kind, &mut self.wireguard, &self.softether) {
                    (Kind::NoTunnel, ..) => measure(&["true".to_owned()])?,
                    (Kind::WireGuard, Some(both), _) => {
                        both.disconnect(namespaces).await?;
                        let taken = measure(&both.connect()?)?;
                        both.disconnect(namespaces).await?;
                        both.connect_for_good(namespaces).await?;
                        taken
                    }
                    (Kind::SoftEther(transport), _, Some(both)) => {
                        both.disconnect(namespaces, transport).await?;
                        measure(&both.connect(transport)?)?
                    }
                    _ => continue,
                };
                contestant.samples.first_byte_s.push(taken);
            }
        }
        Ok(())
    }
}

impl Contestant {
    pub(super) fn upload_s(&self) -> f64 {
        median(&self.samples.upload_s).unwrap_or(f64::NAN)
    }

    pub(super) fn throughput_gbit(&self) -> f64 {
        let seconds = median(&self.samples.stream_s).unwrap_or(f64::NAN);
        8.0 * STREAM_BYTES as f64 / 1e9 / seconds
    }

    pub(super) fn cpu_s(&self) -> f64 {
        let near = median(&self.samples.near_cpu_s).unwrap_or(f64::NAN);
        near + median(&self.samples.far_cpu_s).unwrap_or(f64::NAN)
    }

    /// With client and server, whose kernel does the adapter VPNs' TCP and devices.
    pub(super) fn all_cpu_s(&self) -> f64 {
        median(&self.samples.all_cpu_s).unwrap_or(f64::NAN)
    }

    pub(super) fn small_ms(&self) -> f64 {
        1e3 * median(&self.samples.small_s).unwrap_or(f64::NAN)
    }

    pub(super) fn first_byte_ms(&self) -> f64 {
        1e3 * median(&self.samples.first_byte_s).unwrap_or(f64::NAN)
    }
}

async fn renkei_first_bytes(
    namespaces: &Namespaces,
    renkei: &mut Renkei,
    options: &Options,
) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    let certificate = renkei.stage.ca_file();
    for round in 0..=2 * options.rounds() {
        if round > 0 {
            renkei.disconnect().await?;
        }
        let connect = renkei.connect_command();
        let taken = first_byte_s(
            namespaces,
            renkei.way(),
            SIGN_IN_PAGE,
            &certificate,
            &connect,
        )?;
        if round > 0 {
            all.push(taken);
        }
        renkei.wait_code().await?;
    }
    Ok(all)
}

fn first_byte_s(
    namespaces: &Namespaces,
    way: Way,
    path: &str,
    certificate: &Path,
    connect: &[String],
) -> Result<f64> {
    let this = std::env::current_exe()?;
    let arguments = first_byte::arguments(way, path, certificate, connect);
    Ok(output(namespaces.on_pc(this).args(arguments))?
        .trim()
        .parse()?)
}
