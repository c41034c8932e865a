//! `scripts/bench tunnel`: the contestants, in turns, between two network namespaces.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::client::{Client, Way};
use super::namespaces::{Cable, FUND, Namespaces};
use super::nginx::{BIG_FILE, Nginx, SMALL_PAGE};
use super::renkei::{Renkei, SIGN_IN_PAGE};
use super::report::{PARTS, Part, Table, Target, document};
use super::softether::{SoftEther, Transport};
use super::usage::{cpu_seconds, resident_bytes};
use super::wireguard::WireGuard;
use super::{first_byte, median, noise, profile, softether, wireguard};
use crate::process::output;

/// What is uploaded and downloaded, in bytes.
const FILE_BYTES: usize = 100_000_000;
/// What is uploaded to see the throughput once it stands, and to count CPU time, in bytes.
const STREAM_BYTES: usize = 400_000_000;
/// Small requests, one after the other.
const REQUESTS: usize = 1000;
/// Uploads of [`STREAM_BYTES`] while perf looks on.
const PROFILED_UPLOADS: usize = 3;

/// Promised: the upload, in seconds.
const UPLOAD_TARGET_S: f64 = 0.45;
/// Promised: the throughput, in Gbit/s.
const THROUGHPUT_TARGET_GBIT: f64 = 2.0;
/// Promised: CPU seconds per GB of both ends together.
const CPU_TARGET_S: f64 = 6.0;
/// Promised: from connecting to the first byte of the sign-in page, in ms.
const FIRST_BYTE_TARGET_MS: f64 = 100.0;
/// Promised: what a small request takes longer than without a tunnel, in ms.
const SMALL_TARGET_MS: f64 = 0.6;

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    quick: bool,
    only: Vec<String>,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--quick" => options.quick = true,
                "--only" => {
                    let part = words.next().context("--only wants a part")?;
                    if !PARTS.contains(part) {
                        bail!("no part {part}; there are {PARTS:?}");
                    }
                    options.only.push((*part).to_owned());
                }
                _ => bail!("unknown option {word}"),
            }
        }
        Ok(options)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }

    fn rounds(&self) -> usize {
        if self.quick { 2 } else { 5 }
    }
}

/// Runs the parts that are wanted and makes the document.
pub(super) fn run(words: &[&str]) -> Result<()> {
    let options = Options::parse(words)?;
    let folder = std::env::current_dir()?.join("var/bench");
    let results = folder.join("results");
    if options.wants("speed") {
        let namespaces = Namespaces::join(Cable::Ethernet)?;
        let fund = namespaces.fund();
        fund.run(async || {
            tokio::select! {
                done = speed(&namespaces, &folder, &results, &options) => done,
                // What was started ends with its owner.
                _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            }
        })?;
    }
    let text = document(&results)?;
    std::fs::write("docs/BENCHMARKS.md", &text)?;
    println!("{text}");
    Ok(())
}

/// One way to the fund, and what was measured on it.
struct Contestant {
    name: String,
    way: Way,
    near: Vec<u32>,
    far: Vec<u32>,
    peer: bool,
    samples: Samples,
}

/// Seconds and bytes, one for each round.
#[derive(Debug, Default)]
struct Samples {
    upload_s: Vec<f64>,
    download_s: Vec<f64>,
    stream_s: Vec<f64>,
    small_s: Vec<f64>,
    near_cpu_s: Vec<f64>,
    far_cpu_s: Vec<f64>,
    near_bytes: Vec<f64>,
    far_bytes: Vec<f64>,
    first_byte_s: Vec<f64>,
}

/// Files that are uploaded.
struct Files {
    file: PathBuf,
    stream: PathBuf,
}

async fn speed(
    namespaces: &Namespaces,
    folder: &Path,
    results: &Path,
    options: &Options,
) -> Result<()> {
    let mut renkei = Renkei::start(namespaces, &folder.join("stage")).await?;
    let nginx = Nginx::start(folder).await?;
    let files = Files {
        file: nginx.memory().join(BIG_FILE),
        stream: nginx.memory().join("stream"),
    };
    std::fs::write(&files.file, noise(FILE_BYTES))?;
    std::fs::write(&files.stream, noise(STREAM_BYTES))?;

    let first_bytes = renkei_first_bytes(namespaces, &mut renkei, options).await?;
    renkei.lead_to(nginx.for_gateway()).await?;
    let port = nginx.straight_port();
    let straight = Way::Straight((FUND, port).into());
    let mut contestants = vec![Contestant::new("no tunnel", straight, false)];
    contestants.push(Contestant {
        near: renkei.near()?,
        far: renkei.far(),
        ..Contestant::new("Renkei over UDP", renkei.way(), false)
    });
    contestants[1].samples.first_byte_s = first_bytes;
    let mut wireguard = None;
    if wireguard::is_installed() {
        let both = WireGuard::start(namespaces, folder).await?;
        contestants.push(Contestant {
            near: both.near(),
            far: both.far(),
            ..Contestant::new("wireguard-go", both.way(port)?, true)
        });
        wireguard = Some(both);
    }
    let mut softether = None;
    if softether::is_installed() {
        let both = SoftEther::start(namespaces, folder).await?;
        for (name, transport) in [
            (
                "SoftEther as installed (UDP acceleration)",
                Transport::AsInstalled,
            ),
            ("SoftEther over TLS", Transport::Tls),
        ] {
            contestants.push(Contestant {
                near: both.near(),
                far: both.far(),
                ..Contestant::new(name, SoftEther::way(transport, port), true)
            });
        }
        softether = Some(both);
    }

    for round in 0..=options.rounds() {
        for contestant in &mut contestants {
            eprintln!("round {round}: {}", contestant.name);
            let client = Client {
                namespaces,
                way: contestant.way,
                certificate: nginx.certificate().to_owned(),
            };
            let mut warm_up = Samples::default();
            let samples = if round == 0 {
                &mut warm_up
            } else {
                &mut contestant.samples
            };
            let ends = (&contestant.near[..], &contestant.far[..]);
            one_round(&client, &files, ends, samples).with_context(|| contestant.name.clone())?;
        }
    }
    let profiles = profiles(namespaces, &renkei, &nginx, &contestants[1], &files, folder)?;
    let measure = |way: Way, connect: &[String]| {
        first_byte_s(namespaces, way, SMALL_PAGE, nginx.certificate(), connect)
    };
    for contestant in &mut contestants {
        for _ in 0..options.rounds() {
            let taken = match (contestant.name.as_str(), &mut wireguard, &softether) {
                ("no tunnel", ..) => measure(contestant.way, &["true".to_owned()])?,
                ("wireguard-go", Some(both), _) => {
                    both.disconnect(namespaces).await?;
                    let taken = measure(contestant.way, &both.connect()?)?;
                    both.disconnect(namespaces).await?;
                    both.connect_for_good(namespaces).await?;
                    taken
                }
                (name, _, Some(both)) if name.starts_with("SoftEther") => {
                    let transport = match name {
                        "SoftEther over TLS" => Transport::Tls,
                        _ => Transport::AsInstalled,
                    };
                    both.disconnect(namespaces, transport).await?;
                    measure(contestant.way, &both.connect(transport)?)?
                }
                _ => continue,
            };
            contestant.samples.first_byte_s.push(taken);
        }
    }
    let mut part = Part::new("Speed, over a pair of virtual Ethernet devices")?;
    part.targets = targets(&contestants)?;
    part.tables = vec![table(&contestants, options)];
    part.tables.extend(profiles);
    part.keep(results, "speed")
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

fn one_round(
    client: &Client<'_>,
    files: &Files,
    (near, far): (&[u32], &[u32]),
    samples: &mut Samples,
) -> Result<()> {
    samples.upload_s.push(client.upload(&files.file)?);
    samples.download_s.push(client.download()?);
    samples.small_s.push(client.small(REQUESTS)?);
    let before = (cpu_seconds(near)?, cpu_seconds(far)?);
    samples.stream_s.push(client.upload(&files.stream)?);
    let gigabytes = STREAM_BYTES as f64 / 1e9;
    samples
        .near_cpu_s
        .push((cpu_seconds(near)? - before.0) / gigabytes);
    samples
        .far_cpu_s
        .push((cpu_seconds(far)? - before.1) / gigabytes);
    samples.near_bytes.push(resident_bytes(near)?);
    samples.far_bytes.push(resident_bytes(far)?);
    Ok(())
}

/// Where agent and gateway spend their time during uploads.
fn profiles(
    namespaces: &Namespaces,
    renkei: &Renkei,
    nginx: &Nginx,
    contestant: &Contestant,
    files: &Files,
    folder: &Path,
) -> Result<Vec<Table>> {
    if !profile::is_possible() {
        eprintln!("perf cannot be used here: no profile");
        return Ok(Vec::new());
    }
    let client = Client {
        namespaces,
        way: renkei.way(),
        certificate: nginx.certificate().to_owned(),
    };
    let mut tables = Vec::new();
    let ends = [
        ("agent", "sends", &contestant.near),
        ("gateway", "receives", &contestant.far),
    ];
    for (name, does, processes) in ends {
        let recording = profile::start(processes, &folder.join(name).with_extension("perf"))?;
        for _ in 0..PROFILED_UPLOADS {
            client.upload(&files.stream)?;
        }
        let shares = recording.shares()?;
        let row = |(kind, share): &(&str, f64)| vec![(*kind).to_owned(), format!("{share:.0} %")];
        tables.push(Table {
            title: format!("Where the {name}'s time goes while it {does} an upload"),
            head: vec!["work".to_owned(), "share of its CPU time".to_owned()],
            rows: shares
                .iter()
                .filter(|(_, share)| *share >= 0.5)
                .map(row)
                .collect(),
            note: "perf, samples of the CPU clock.".to_owned(),
        });
    }
    Ok(tables)
}

impl Contestant {
    fn new(name: &str, way: Way, peer: bool) -> Self {
        Self {
            name: name.to_owned(),
            way,
            near: Vec::new(),
            far: Vec::new(),
            peer,
            samples: Samples::default(),
        }
    }

    fn upload_s(&self) -> f64 {
        median(&self.samples.upload_s).unwrap_or(f64::NAN)
    }

    fn throughput_gbit(&self) -> f64 {
        let seconds = median(&self.samples.stream_s).unwrap_or(f64::NAN);
        8.0 * STREAM_BYTES as f64 / 1e9 / seconds
    }

    fn cpu_s(&self) -> f64 {
        let near = median(&self.samples.near_cpu_s).unwrap_or(f64::NAN);
        near + median(&self.samples.far_cpu_s).unwrap_or(f64::NAN)
    }

    fn small_ms(&self) -> f64 {
        1e3 * median(&self.samples.small_s).unwrap_or(f64::NAN)
    }

    fn first_byte_ms(&self) -> f64 {
        1e3 * median(&self.samples.first_byte_s).unwrap_or(f64::NAN)
    }
}

fn targets(contestants: &[Contestant]) -> Result<Vec<Target>> {
    let [without, ours, ..] = contestants else {
        bail!("nothing to compare");
    };
    let target = |what: &str, target: String, measured: String, met: bool| Target {
        what: what.to_owned(),
        target,
        measured,
        met,
    };
    let more_ms = ours.small_ms() - without.small_ms();
    let mut targets = vec![
        target(
            "100 MB uploaded through agent and gateway",
            format!("≤ {UPLOAD_TARGET_S} s"),
            format!("{:.2} s", ours.upload_s()),
            ours.upload_s() <= UPLOAD_TARGET_S,
        ),
        target(
            "throughput of an upload",
            format!("≥ {THROUGHPUT_TARGET_GBIT} Gbit/s"),
            format!("{:.2} Gbit/s", ours.throughput_gbit()),
            ours.throughput_gbit() >= THROUGHPUT_TARGET_GBIT,
        ),
        target(
            "CPU of agent and gateway together",
            format!("≤ {CPU_TARGET_S} s per GB"),
            format!("{:.1} s per GB", ours.cpu_s()),
            ours.cpu_s() <= CPU_TARGET_S,
        ),
        target(
            "接続 (agent open) to the first byte of the sign-in page",
            format!("≤ {FIRST_BYTE_TARGET_MS} ms"),
            format!("{:.0} ms", ours.first_byte_ms()),
            ours.first_byte_ms() <= FIRST_BYTE_TARGET_MS,
        ),
        target(
            "a small request, more than without a tunnel",
            format!("≤ {SMALL_TARGET_MS} ms"),
            format!("{more_ms:.2} ms"),
            more_ms <= SMALL_TARGET_MS,
        ),
    ];
    let peers = contestants.iter().filter(|contestant| contestant.peer);
    let best = |value: fn(&Contestant) -> f64| peers.clone().map(value).fold(f64::NAN, f64::min);
    let fastest = best(Contestant::upload_s);
    let thriftiest = best(Contestant::cpu_s);
    if fastest.is_finite() {
        targets.push(target(
            "ahead of every peer: the 100 MB upload",
            format!("< {fastest:.2} s, the best peer"),
            format!("{:.2} of its time", ours.upload_s() / fastest),
            ours.upload_s() < fastest,
        ));
        targets.push(target(
            "ahead of every peer: CPU of both ends",
            format!("< {thriftiest:.1} s per GB, the best peer"),
            format!("{:.2} of its CPU", ours.cpu_s() / thriftiest),
            ours.cpu_s() < thriftiest,
        ));
    }
    Ok(targets)
}

fn table(contestants: &[Contestant], options: &Options) -> Table {
    let head = [
        "",
        "100 MB up, s",
        "100 MB down, s",
        "throughput up, Gbit/s",
        "CPU s per GB, PC",
        "CPU s per GB, fund",
        "small request, ms",
        "connect to first byte, ms",
        "memory after that, PC, MB",
        "memory after that, fund, MB",
    ];
    let rows = contestants.iter().map(|contestant| {
        let samples = &contestant.samples;
        let show = |values: &[f64], factor: f64, digits: usize| {
            median(values).map_or("–".to_owned(), |value| {
                format!("{:.digits$}", value * factor)
            })
        };
        let with_processes = |values: &[f64], factor: f64| {
            if contestant.near.is_empty() {
                "–".to_owned()
            } else {
                show(values, factor, 1)
            }
        };
        vec![
            contestant.name.clone(),
            show(&samples.upload_s, 1.0, 2),
            show(&samples.download_s, 1.0, 2),
            format!("{:.2}", contestant.throughput_gbit()),
            with_processes(&samples.near_cpu_s, 1.0),
            with_processes(&samples.far_cpu_s, 1.0),
            show(&samples.small_s, 1e3, 2),
            show(&samples.first_byte_s, 1e3, 0),
            with_processes(&samples.near_bytes, 1e-6),
            with_processes(&samples.far_bytes, 1e-6),
        ]
    });
    Table {
        title: "Contestants, in turns, medians".to_owned(),
        head: head.map(str::to_owned).to_vec(),
        rows: rows.collect(),
        note: format!(
            "{} rounds after one that does not count. The client is curl, the server nginx with TLS 1.3 \
             and a folder in memory. Throughput and CPU: an upload of {} MB. CPU: the contestant's own \
             processes, kernel time included; {} requests on one connection. Connecting: Renkei from 接続 \
             in an open agent to the real portal's sign-in page, one-time password mailed; SoftEther from \
             its service resident, wireguard-go from nothing, both to nginx, and without any sign-in. \
             SoftEther's two connections share their processes, hence their memory.",
            options.rounds(),
            STREAM_BYTES / 1_000_000,
            REQUESTS,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_part_is_refused() {
        let options = Options::parse(&["--quick", "--only", "many"]).unwrap();
        assert!(options.quick && options.wants("many") && !options.wants("speed"));
        assert!(Options::parse(&["--only", "mny"]).is_err());
        assert!(Options::parse(&["--fast"]).is_err());
    }
}
