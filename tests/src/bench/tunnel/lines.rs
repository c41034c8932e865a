//! The contestants over simulated access lines: what distance, loss and a short queue do.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Options;
use super::field::{FILE_BYTES, Field, Kind, LINE_BYTES, SHORT_BYTES, TLS, UDP};
use crate::bench::median;
use crate::bench::namespaces::{CONGESTION_CONTROL, Namespaces};
use crate::bench::nginx::{BIG_FILE, LINE_FILE};
use crate::bench::report::{Part, Table, Target};
use crate::link::Conditions;

/// The access line's rate, in bit/s.
const LINE_BIT_S: u64 = 200_000_000;
/// Its round trip.
const LINE_ROUND_TRIP: Duration = Duration::from_millis(20);
/// Its queue.
const LINE_QUEUE_BYTES: usize = 512 * 1024;
/// The shares of packets that are lost on it.
const LOSSES: [f64; 3] = [0.0, 0.001, 0.01];

/// The slow access line's rate, in bit/s.
const SLOW_BIT_S: u64 = 20_000_000;
/// Its round trip.
const SLOW_ROUND_TRIP: Duration = Duration::from_millis(30);
/// Its queue.
const SLOW_QUEUE_BYTES: usize = 64 * 1024;
/// Pages that are loaded on it, beside an upload and without.
const PAGES: u64 = 20;

/// Promised beside six round trips, on an access line.
const LINE_FIRST_BYTE_ALLOWANCE: Duration = Duration::from_millis(50);
/// The share of a line's rate that IP, UDP and WireGuard leave to what they carry: 24 of 25 MB/s.
const USABLE: f64 = 0.96;
/// Promised: the share of a fast line's rate that one transfer reaches, whatever is lost.
const LINE_SHARE: f64 = 0.8;
/// Promised: the same on the slow line.
const SLOW_SHARE: f64 = 0.9;
/// Promised: what a page takes longer beside an upload, in ms.
const BESIDE_TARGET_MS: f64 = 300.0;

/// An access line of 200 Mbit/s, 20 ms there and back, and what is lost on it.
pub(super) fn line(loss: f64) -> Conditions {
    Conditions {
        rate_bit_s: Some(LINE_BIT_S),
        delay: LINE_ROUND_TRIP / 2,
        queue_bytes: LINE_QUEUE_BYTES,
        loss,
        ..Conditions::default()
    }
}

/// Measures and keeps the part `lines`.
pub(super) async fn measure(
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
    let promised = whole_files(namespaces, &field, rounds)?;
    let slow = slow_line(namespaces, &field, rounds)?;
    if field.change_to_tls().await {
        for (column, loss) in LOSSES.into_iter().enumerate() {
            namespaces.set(line(loss));
            for _ in 0..rounds {
                let taken = field.client(field.tls()).upload(&field.files.line)?;
                rates[TLS][column].push(LINE_BYTES as f64 / 1e6 / taken);
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
    part.targets.extend(promised);
    part.targets.extend(slow);
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
             would need half a minute and more, TLS handshake included. The kernel's TCP goes by {}, as on \
             nearly all PCs: so do the transfers without a tunnel, inside the peers, and Renkei's over TLS. \
             Renkei over UDP brings its own congestion control.",
            LINE_QUEUE_BYTES / 1024,
            LINE_BYTES / 1_000_000,
            SHORT_BYTES / 1_000_000,
            CONGESTION_CONTROL.to_uppercase(),
        ),
    });
    part.keep(results, "lines")
}

/// One big file up and one down by Renkei at each loss.
fn whole_files(namespaces: &Namespaces, field: &Field<'_>, rounds: usize) -> Result<Vec<Target>> {
    let client = field.client(&field.contestants[UDP]);
    let mut targets = Vec::new();
    for loss in LOSSES {
        namespaces.set(line(loss));
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            up.push(client.upload(&field.files.file)?);
            down.push(client.download(BIG_FILE)?);
        }
        for (direction, taken) in [("up", up), ("down", down)] {
            let what = format!(
                "{} MB {direction}, 200 Mbit/s, 20 ms, {} % lost",
                FILE_BYTES / 1_000_000,
                loss * 100.0
            );
            targets.push(rate(what, FILE_BYTES, &taken, LINE_BIT_S, LINE_SHARE));
        }
    }
    Ok(targets)
}

/// A slow line with a short queue: one file up and down, and pages beside an upload.
fn slow_line(namespaces: &Namespaces, field: &Field<'_>, rounds: usize) -> Result<Vec<Target>> {
    namespaces.set(Conditions {
        rate_bit_s: Some(SLOW_BIT_S),
        delay: SLOW_ROUND_TRIP / 2,
        queue_bytes: SLOW_QUEUE_BYTES,
        ..Conditions::default()
    });
    let client = field.client(&field.contestants[UDP]);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        up.push(client.upload(&field.files.line)?);
        down.push(client.download(LINE_FILE)?);
    }
    let mut targets = Vec::new();
    for (direction, taken) in [("up", up), ("down", down)] {
        let what = format!(
            "{} MB {direction}, 20 Mbit/s, 30 ms, 64 KB of queue",
            LINE_BYTES / 1_000_000
        );
        targets.push(rate(what, LINE_BYTES, &taken, SLOW_BIT_S, SLOW_SHARE));
    }
    let pages = || -> Result<Vec<f64>> {
        let page = |number| {
            // Of different length, so as to meet all states of the queue.
            std::thread::sleep(Duration::from_millis(97 + 13 * number));
            client.page()
        };
        (0..PAGES).map(page).collect()
    };
    let alone = pages()?;
    // Of the big file, which takes longer than the pages.
    let mut upload = client.begin_upload(&field.files.file)?;
    std::thread::sleep(Duration::from_millis(1500));
    let beside = pages();
    ensure!(upload.try_wait()?.is_none(), "the upload was too short");
    upload.kill()?;
    upload.wait()?;
    let alone_s = median(&alone).unwrap_or(f64::NAN);
    let more_ms = |seconds: f64| 1e3 * (seconds - alone_s);
    let beside = beside?;
    let worst_ms = more_ms(beside.iter().copied().fold(f64::NAN, f64::max));
    let median_ms = more_ms(median(&beside).unwrap_or(f64::NAN));
    targets.push(Target {
        what: format!("a page beside an upload on that line, more than alone, worst of {PAGES}"),
        target: format!("< {BESIDE_TARGET_MS:.0} ms"),
        measured: format!("{worst_ms:.0} ms (median {median_ms:.0} ms)"),
        met: worst_ms < BESIDE_TARGET_MS,
    });
    Ok(targets)
}

fn rate(what: String, bytes: usize, taken_s: &[f64], bit_s: u64, share: f64) -> Target {
    let rate = bytes as f64 / 1e6 / median(taken_s).unwrap_or(f64::NAN);
    let usable = bit_s as f64 / 8e6 * USABLE;
    let least = usable * share;
    Target {
        what,
        target: format!("≥ {least:.2} MB/s, {:.0} % of {usable:.1}", 100.0 * share),
        measured: format!("{rate:.2} MB/s"),
        met: rate >= least,
    }
}
