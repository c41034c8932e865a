//! Handshakes that lead nowhere, so many a second: garbage, replays, and right ones of keys
//! that nobody knows, from many addresses.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tunnel::keys::PublicKey;

use super::agents;
use super::now;

/// Addresses that the flood comes from.
const SOURCES: usize = 250;
/// Right initiations of unknown keys, sent again and again.
const FRESH: usize = 250;
/// How often a burst is sent.
const BEAT: Duration = Duration::from_millis(2);
/// Length of a handshake initiation, in bytes.
const INITIATION_BYTES: usize = 148;

/// A flood that runs until it is stopped.
pub(super) struct Flood {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<f64>,
}

impl Flood {
    /// Sends `per_s` datagrams a second to `target`: a third garbage in the shape of an
    /// initiation, a third `recorded` again, a third right initiations to `gateway`.
    pub(super) fn start(
        target: SocketAddr,
        gateway: PublicKey,
        recorded: &[u8],
        per_s: u32,
    ) -> Result<Self> {
        let sockets = (0..SOURCES)
            .map(|number| {
                let [_, _, high, low] = u32::try_from(number).unwrap_or_default().to_be_bytes();
                UdpSocket::bind((Ipv4Addr::new(127, 90, high, low.max(1)), 0))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut garbage = vec![0x5a; INITIATION_BYTES];
        garbage[..4].copy_from_slice(&[1, 0, 0, 0]);
        let fresh = (0..FRESH)
            .map(|_| agents::initiation_to(gateway))
            .collect::<Result<Vec<_>>>()?;
        let recorded = recorded.to_vec();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (begun, mut sent) = (now(), 0_u64);
            while !stopped.load(Ordering::Relaxed) {
                let due = (begun.elapsed().as_secs_f64() * f64::from(per_s)) as u64;
                while sent < due {
                    let number = sent as usize;
                    let datagram = match number % 3 {
                        0 => &garbage,
                        1 => &recorded,
                        _ => &fresh[number / 3 % FRESH],
                    };
                    // A full buffer drops it, like the internet would.
                    let _ = sockets[number % SOURCES].send_to(datagram, target);
                    sent += 1;
                }
                std::thread::sleep(BEAT);
            }
            sent as f64 / begun.elapsed().as_secs_f64()
        });
        Ok(Self { stop, thread })
    }

    /// Ends the flood; returns how many datagrams were sent in a second.
    pub(super) fn stop(self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the flood panicked")
    }
}
