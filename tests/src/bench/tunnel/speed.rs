//! The contestants between two virtual Ethernet devices: as fast as the machine.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::Options;
use super::field::{Contestant, Field, Files, Kind, STREAM_BYTES, Samples, TLS, UDP, WITHOUT};
use crate::bench::client::Client;
use crate::bench::namespaces::Namespaces;
use crate::bench::nginx::BIG_FILE;
use crate::bench::report::{Part, Table, Target};
use crate::bench::usage::{cpu_seconds, ended_children_cpu_seconds, resident_bytes};
use crate::bench::{median, profile};

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

/// Measures and keeps the part `speed`.
pub(super) async fn measure(
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

fn one_round(
    client: &Client<'_>,
    files: &Files,
    server: u32,
    (near, far): (&[u32], &[u32]),
    samples: &mut Samples,
) -> Result<()> {
    samples.upload_s.push(client.upload(&files.file)?);
    samples.download_s.push(client.download(BIG_FILE)?);
    samples.small_s.push(client.small(REQUESTS)?);
    let used = || -> Result<[f64; 3]> {
        let rest = cpu_seconds(&[server])? + ended_children_cpu_seconds(std::process::id())?;
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
        let shares = recording.shares(profile::TUNNEL)?;
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
             processes, kernel time included; everything: client and server as well, in whose name the kernel \
             does the TCP and the devices of those that have an adapter, which is why the peers are \
             compared by everything. {} requests on one connection. Connecting: Renkei from 接続 in an open \
             agent to the real portal's sign-in page, one-time password mailed; SoftEther from \
             its service resident, wireguard-go from nothing, both to nginx, and without any sign-in. \
             SoftEther's two connections share their processes, hence their memory.",
            options.rounds(),
            STREAM_BYTES / 1_000_000,
            REQUESTS,
        ),
    }
}
