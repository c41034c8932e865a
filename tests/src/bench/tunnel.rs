//! `scripts/bench tunnel`: the contestants, in turns, between two network namespaces.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::client::{Client, Way};
use super::namespaces::{Cable, FUND, Namespaces};
use super::nginx::{BIG_FILE, Nginx, SMALL_PAGE};
use super::renkei::{Renkei, SIGN_IN_PAGE};
use super::report::{PARTS, Part, Table, Target, document};
use super::softether::{SoftEther, Transport};
use super::usage::{cpu_seconds, ended_children_cpu_seconds, resident_bytes};
use super::wireguard::WireGuard;
use super::{first_byte, median, noise, profile, softether, wireguard};
use crate::link::Conditions;
use crate::process::output;

/// What is uploaded and downloaded, in bytes.
const FILE_BYTES: usize = 100_000_000;
/// What is uploaded to see the throughput once it stands, and to count CPU time, in bytes.
const STREAM_BYTES: usize = 400_000_000;
/// Small requests, one after the other.
const REQUESTS: usize = 1000;
/// Uploads of [`STREAM_BYTES`] while perf looks on.
const PROFILED_UPLOADS: usize = 3;

/// What goes over an access line, in bytes.
const LINE_BYTES: usize = 20_000_000;
/// What goes over a lossy access line by kernel TCP, in bytes.
const SHORT_BYTES: usize = 10_000_000;
/// The access line's rate, in bit/s.
const LINE_BIT_S: u64 = 200_000_000;
/// Its round trip.
const LINE_ROUND_TRIP: Duration = Duration::from_millis(20);
/// Its queue.
const LINE_QUEUE_BYTES: usize = 512 * 1024;
/// The shares of packets that are lost on it.
const LOSSES: [f64; 3] = [0.0, 0.001, 0.01];

/// Parts that are programs of their own, which take `--keep FILE` for the part's results.
const OTHERS: [(&str, &str); 2] = [("loss", "renkei-loss"), ("many", "renkei-many")];

/// Where [`Field`] keeps the contestant "no tunnel".
const WITHOUT: usize = 0;
/// Where it keeps Renkei over UDP.
const UDP: usize = 1;
/// Where it keeps Renkei over TLS.
const TLS: usize = 2;

/// Promised: the upload, in seconds.
const UPLOAD_TARGET_S: f64 = 0.45;
/// Promised: the throughput, in Gbit/s.
const THROUGHPUT_TARGET_GBIT: f64 = 2.0;
/// Promised: CPU seconds per GB of both ends together.
const CPU_TARGET_S: f64 = 6.0;
/// Promised: from connecting to the first byte of the sign-in page, in ms.
const FIRST_BYTE_TARGET_MS: f64 = 100.0;
/// Promised beside six round trips, on an access line.
const LINE_FIRST_BYTE_ALLOWANCE: Duration = Duration::from_millis(50);
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
        namespaces.fund().run(async || {
            unless_interrupted(speed(&namespaces, &folder, &results, &options)).await
        })?;
    }
    if options.wants("lines") {
        let namespaces = Namespaces::join(Cable::Line(line(0.0)))?;
        namespaces.fund().run(async || {
            unless_interrupted(lines(&namespaces, &folder, &results, &options)).await
        })?;
    }
    for (part, program) in OTHERS {
        let program = std::env::current_exe()?.with_file_name(program);
        if options.wants(part) && program.exists() {
            let kept = results.join(part).with_extension("json");
            std::fs::create_dir_all(&results)?;
            let status = Command::new(&program).arg("--keep").arg(&kept).status()?;
            ensure!(
                status.success(),
                "{} ended with {status}",
                program.display()
            );
        }
    }
    let text = document(&results)?;
    std::fs::write("docs/BENCHMARKS.md", &text)?;
    println!("{text}");
    Ok(())
}

/// Lets what was started be ended before the program is.
async fn unless_interrupted(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

/// One way to the fund, and what was measured on it.
struct Contestant {
    name: String,
    kind: Kind,
    way: Way,
    near: Vec<u32>,
    far: Vec<u32>,
    samples: Samples,
}

/// What a contestant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    NoTunnel,
    Renkei,
    /// Comes after the others: a PC has one session at a time.
    RenkeiTls,
    WireGuard,
    SoftEther(Transport),
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
    all_cpu_s: Vec<f64>,
    near_bytes: Vec<f64>,
    far_bytes: Vec<f64>,
    first_byte_s: Vec<f64>,
}

impl Samples {
    fn append(&mut self, other: Self) {
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
struct Files {
    file: PathBuf,
    stream: PathBuf,
    line: PathBuf,
    short: PathBuf,
}

/// Everything that takes part, running.
struct Field<'a> {
    namespaces: &'a Namespaces,
    renkei: Renkei,
    nginx: Nginx,
    files: Files,
    wireguard: Option<WireGuard>,
    softether: Option<SoftEther>,
    contestants: Vec<Contestant>,
}

impl<'a> Field<'a> {
    /// Starts all; the times until Renkei's sign-in page came are taken on the way.
    async fn start(namespaces: &'a Namespaces, folder: &Path, options: &Options) -> Result<Self> {
        let mut renkei = Renkei::start(namespaces, &folder.join("stage")).await?;
        let nginx = Nginx::start(folder).await?;
        let files = Files {
            file: nginx.memory().join(BIG_FILE),
            stream: nginx.memory().join("stream"),
            line: nginx.memory().join("line"),
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
    async fn change_to_tls(&mut self) -> bool {
        let changed = self.renkei.connect_over_tls(self.namespaces).await;
        if let Err(error) = &changed {
            eprintln!("no tunnel over TLS: {error:#}");
        }
        changed.is_ok()
    }

    /// Those that can be connected at the same time.
    fn in_turns(&self) -> Vec<usize> {
        (0..self.contestants.len())
            .filter(|at| *at != TLS)
            .collect()
    }

    fn tls(&self) -> &Contestant {
        &self.contestants[TLS]
    }

    fn client(&self, contestant: &Contestant) -> Client<'a> {
        Client {
            namespaces: self.namespaces,
            way: contestant.way,
            certificate: self.nginx.certificate().to_owned(),
        }
    }

    /// Connects each peer again and again.
    async fn peers_first_bytes(&mut self, rounds: usize) -> Result<()> {
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

async fn speed(
    namespaces: &Namespaces,
    folder: &Path,
    results: &Path,
    options: &Options,
) -> Result<()> {
    let mut field = Field::start(namespaces, folder, options).await?;
    for round in 0..=options.rounds() {
        for at in field.in_turns() {
            let contestant = &field.contestants[at];
            eprintln!("round {round}: {}", contestant.name);
            let ends = (&contestant.near[..], &contestant.far[..]);
            let mut samples = Samples::default();
            let server = field.nginx.pid();
            one_round(
                &field.client(contestant),
                &field.files,
                server,
                ends,
                &mut samples,
            )
            .with_context(|| contestant.name.clone())?;
            if round > 0 {
                field.contestants[at].samples.append(samples);
            }
        }
    }
    let profiles = profiles(&field, folder)?;
    if field.change_to_tls().await {
        for round in 0..=options.rounds() {
            let (contestant, server) = (field.tls(), field.nginx.pid());
            eprintln!("round {round}: {}", contestant.name);
            let ends = (&contestant.near[..], &contestant.far[..]);
            let mut samples = Samples::default();
            one_round(
                &field.client(contestant),
                &field.files,
                server,
                ends,
                &mut samples,
            )?;
            if round > 0 {
                field.contestants[TLS].samples.append(samples);
            }
        }
    }
    field.peers_first_bytes(options.rounds()).await?;
    let mut part = Part::new("Speed, over a pair of virtual Ethernet devices")?;
    part.targets = targets(&field.contestants);
    part.tables = vec![table(&field.contestants, options)];
    part.tables.extend(profiles);
    part.keep(results, "speed")
}

/// An access line of 200 Mbit/s, 20 ms there and back, and what is lost on it.
fn line(loss: f64) -> Conditions {
    Conditions {
        rate_bit_s: Some(LINE_BIT_S),
        delay: LINE_ROUND_TRIP / 2,
        queue_bytes: LINE_QUEUE_BYTES,
        loss,
        ..Conditions::default()
    }
}

async fn lines(
    namespaces: &Namespaces,
    folder: &Path,
    results: &Path,
    options: &Options,
) -> Result<()> {
    let mut field = Field::start(namespaces, folder, options).await?;
    field.peers_first_bytes(options.rounds()).await?;
    let rounds = if options.quick { 1 } else { 3 };
    // For each contestant, the rates at each loss.
    let mut rates = vec![vec![Vec::new(); LOSSES.len()]; field.contestants.len()];
    for (column, loss) in LOSSES.into_iter().enumerate() {
        namespaces.set(line(loss));
        for round in 0..rounds {
            for at in field.in_turns() {
                let (contestant, rates) = (&field.contestants[at], &mut rates[at]);
                eprintln!("{} %, round {round}: {}", loss * 100.0, contestant.name);
                // What kernel TCP makes of a lossy line would take half a minute.
                let (file, bytes) = match contestant.kind {
                    Kind::Renkei => (&field.files.line, LINE_BYTES),
                    _ if loss == 0.0 => (&field.files.line, LINE_BYTES),
                    _ => (&field.files.short, SHORT_BYTES),
                };
                let taken = field.client(contestant).upload(file)?;
                rates[column].push(bytes as f64 / 1e6 / taken);
            }
        }
    }
    let mut part = Part::new("Speed, over an access line: 200 Mbit/s, 20 ms there and back")?;
    if field.change_to_tls().await {
        for (column, loss) in LOSSES.into_iter().enumerate() {
            namespaces.set(line(loss));
            for _ in 0..rounds {
                let taken = field.client(field.tls()).upload(&field.files.short)?;
                rates[TLS][column].push(SHORT_BYTES as f64 / 1e6 / taken);
            }
        }
    }
    let ours = &field.contestants[UDP];
    let target_ms =
        6.0 * 1e3 * LINE_ROUND_TRIP.as_secs_f64() + LINE_FIRST_BYTE_ALLOWANCE.as_secs_f64() * 1e3;
    part.targets.push(Target {
        what: "接続 (agent open) to the first byte of the sign-in page, 20 ms away".to_owned(),
        target: format!("≤ {target_ms:.0} ms (6 round trips + 50 ms)"),
        measured: format!("{:.0} ms", ours.first_byte_ms()),
        met: ours.first_byte_ms() <= target_ms,
    });
    let mut head = vec![String::new()];
    head.extend(LOSSES.map(|loss| format!("MB/s up, {} % lost", loss * 100.0)));
    head.push("connect to first byte, ms".to_owned());
    let rows = field
        .contestants
        .iter()
        .zip(&rates)
        .map(|(contestant, rates)| {
            let mut row = vec![contestant.name.clone()];
            row.extend(
                rates.iter().map(|rates| {
                    median(rates).map_or("–".to_owned(), |rate| format!("{rate:.1}"))
                }),
            );
            let first_byte = median(&contestant.samples.first_byte_s);
            row.push(first_byte.map_or("–".to_owned(), |seconds| format!("{:.0}", 1e3 * seconds)));
            row
        });
    part.tables.push(Table {
        title: "Contestants, in turns, medians".to_owned(),
        head,
        rows: rows.collect(),
        note: format!(
            "{rounds} rounds. A simulated line between TUN devices, {} KB of queue, the same in both \
             directions; 24 MB/s are possible. {} MB each; where packets are lost, {} MB for those that \
             would need half a minute and more, TLS handshake included.",
            LINE_QUEUE_BYTES / 1024,
            LINE_BYTES / 1_000_000,
            SHORT_BYTES / 1_000_000,
        ),
    });
    part.keep(results, "lines")
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
    server: u32,
    (near, far): (&[u32], &[u32]),
    samples: &mut Samples,
) -> Result<()> {
    samples.upload_s.push(client.upload(&files.file)?);
    samples.download_s.push(client.download()?);
    samples.small_s.push(client.small(REQUESTS)?);
    let used = || -> Result<[f64; 3]> {
        let rest = cpu_seconds(&[server])? + ended_children_cpu_seconds()?;
        Ok([cpu_seconds(near)?, cpu_seconds(far)?, rest])
    };
    let before = used()?;
    samples.stream_s.push(client.upload(&files.stream)?);
    let gigabytes = STREAM_BYTES as f64 / 1e9;
    let after = used()?;
    let [near_s, far_s, rest_s] = std::array::from_fn(|at| (after[at] - before[at]) / gigabytes);
    samples.near_cpu_s.push(near_s);
    samples.far_cpu_s.push(far_s);
    samples.all_cpu_s.push(near_s + far_s + rest_s);
    samples.near_bytes.push(resident_bytes(near)?);
    samples.far_bytes.push(resident_bytes(far)?);
    Ok(())
}

/// Where agent and gateway spend their time during uploads.
fn profiles(field: &Field<'_>, folder: &Path) -> Result<Vec<Table>> {
    if !profile::is_possible() {
        eprintln!("perf cannot be used here: no profile");
        return Ok(Vec::new());
    }
    let contestant = &field.contestants[UDP];
    let client = field.client(contestant);
    let mut tables = Vec::new();
    let ends = [
        ("agent", "sends", &contestant.near),
        ("gateway", "receives", &contestant.far),
    ];
    for (name, does, processes) in ends {
        let recording = profile::start(processes, &folder.join(name).with_extension("perf"))?;
        for _ in 0..PROFILED_UPLOADS {
            client.upload(&field.files.stream)?;
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

    /// With client and server, whose kernel does the adapter VPNs' TCP and devices.
    fn all_cpu_s(&self) -> f64 {
        median(&self.samples.all_cpu_s).unwrap_or(f64::NAN)
    }

    fn small_ms(&self) -> f64 {
        1e3 * median(&self.samples.small_s).unwrap_or(f64::NAN)
    }

    fn first_byte_ms(&self) -> f64 {
        1e3 * median(&self.samples.first_byte_s).unwrap_or(f64::NAN)
    }
}

fn targets(contestants: &[Contestant]) -> Vec<Target> {
    let (without, ours) = (&contestants[WITHOUT], &contestants[UDP]);
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
    let peers = contestants
        .iter()
        .filter(|contestant| matches!(contestant.kind, Kind::WireGuard | Kind::SoftEther(_)));
    let best = |value: fn(&Contestant) -> f64| peers.clone().map(value).fold(f64::NAN, f64::min);
    let fastest = best(Contestant::upload_s);
    let thriftiest = best(Contestant::all_cpu_s);
    if fastest.is_finite() {
        targets.push(target(
            "ahead of every peer: the 100 MB upload",
            format!("< {fastest:.2} s, the best peer"),
            format!("{:.2} of its time", ours.upload_s() / fastest),
            ours.upload_s() < fastest,
        ));
        targets.push(target(
            "ahead of every peer: CPU of everything, client and server too",
            format!("< {thriftiest:.1} s per GB, the best peer"),
            format!("{:.2} of its CPU", ours.all_cpu_s() / thriftiest),
            ours.all_cpu_s() < thriftiest,
        ));
    }
    targets
}

fn table(contestants: &[Contestant], options: &Options) -> Table {
    let head = [
        "",
        "100 MB up, s",
        "100 MB down, s",
        "throughput up, Gbit/s",
        "CPU s per GB, PC",
        "CPU s per GB, fund",
        "CPU s per GB, everything",
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
        let rate = contestant.throughput_gbit();
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
            if rate.is_finite() {
                format!("{rate:.2}")
            } else {
                "–".to_owned()
            },
            with_processes(&samples.near_cpu_s, 1.0),
            with_processes(&samples.far_cpu_s, 1.0),
            show(&samples.all_cpu_s, 1.0, 1),
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
             processes, kernel time included; everything: client and server as well, in whose name the kernel does \
             the TCP and the devices of those that have an adapter. {} requests on one connection. Connecting: Renkei from 接続 \
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
