//! The one loop that waits: two devices and the line between them.
//!
//! It reads whole batches, asks the clock once per batch and sleeps until the next packet
//! arrives somewhere, but never for less than [`NAP`]: 200 Mbit/s cost a few per cent of a core.

use std::io::ErrorKind;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use tun_rs::SyncDevice;

use super::{End, Line};

/// Packets read from one device before the other gets its turn.
const BATCH: usize = 64;
/// Longest packet that a device gives, in bytes.
const MAX_PACKET_BYTES: usize = 65_535;
/// The shortest sleep: packets that arrive within it are handed over together.
const NAP: Duration = Duration::from_micros(100);

/// Carries packets until `stop` becomes readable. Returns early if a device is gone.
#[expect(clippy::disallowed_methods, reason = "the loop is where time enters")]
pub(super) fn run(line: &Mutex<Line>, near: &SyncDevice, far: &SyncDevice, stop: &OwnedFd) {
    let mut buffer = vec![0; MAX_PACKET_BYTES];
    loop {
        let mut more = false;
        let wakes = {
            let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            for end in End::BOTH {
                let device = match end {
                    End::Near => near,
                    End::Far => far,
                };
                for read in 0..BATCH {
                    let length = match device.recv(&mut buffer) {
                        Ok(length) => length,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        // The interface is down for now.
                        Err(_) => break,
                    };
                    if let Some(answer) = line.handle_packet(end, &buffer[..length], now) {
                        let _ = device.send(&answer);
                    }
                    more |= read + 1 == BATCH;
                }
            }
            let now = Instant::now();
            for (end, device) in [(End::Near, near), (End::Far, far)] {
                // A device that takes no more drops, as a full interface does.
                while line.poll_packet(end, now, |packet| drop(device.send(packet))) {}
            }
            line.poll_timeout()
                .map(|at| at.saturating_duration_since(now).max(NAP))
        };
        if more {
            continue;
        }
        let mut fds = [
            PollFd::new(stop, PollFlags::IN),
            PollFd::from_borrowed_fd(near.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(far.as_fd(), PollFlags::IN),
        ];
        let timeout = wakes.and_then(|wait| Timespec::try_from(wait).ok());
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        let gone = PollFlags::ERR | PollFlags::NVAL;
        if !fds[0].revents().is_empty() || fds[1..].iter().any(|fd| fd.revents().contains(gone)) {
            return;
        }
    }
}
