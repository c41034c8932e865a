//! The one loop that waits: two devices and the line between them.
//!
//! It reads whole batches, asks the clock once per batch and sleeps until the next packet
//! arrives somewhere, but never for less than [`NAP`].

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use tun_rs::SyncDevice;

use super::{End, Line};

/// Packets read from one device before the other gets its turn.
const BATCH: usize = 256;
/// Longest packet that a device gives, in bytes.
const MAX_PACKET_BYTES: usize = 65_535;
/// The shortest sleep: packets that come or arrive within it are handled together.
const NAP: Duration = Duration::from_micros(100);

/// Carries packets until `stop` becomes readable. Returns early if a device is gone.
#[expect(clippy::disallowed_methods, reason = "the loop is where time enters")]
pub(super) fn run(line: &Mutex<Line>, near: &SyncDevice, far: &SyncDevice, stop: &OwnedFd) {
    let ends = [(End::Near, near), (End::Far, far)];
    let mut buffer = vec![0; MAX_PACKET_BYTES];
    // What was waiting before the loop began is read at once.
    let mut readable = [true; 2];
    loop {
        let mut moved = false;
        let wakes = {
            let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            for ((end, device), readable) in ends.into_iter().zip(readable) {
                if readable {
                    moved |= read(&mut line, end, device, &mut buffer, now);
                }
            }
            let now = Instant::now();
            for (end, device) in ends {
                // A device that takes no more drops, as a full interface does.
                while line.poll_packet(end, now, |packet| drop(device.send(packet))) {
                    moved = true;
                }
            }
            line.poll_timeout()
                .map(|at| at.saturating_duration_since(now).max(NAP))
        };
        if moved {
            // Where one packet was, more follow; they are worth one wake-up together.
            std::thread::sleep(NAP);
        }
        let mut fds = [
            PollFd::from_borrowed_fd(near.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(far.as_fd(), PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        let wait = wakes.map(|wait| if moved { wait - NAP } else { wait });
        let timeout = wait.and_then(|wait| Timespec::try_from(wait).ok());
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        let gone = PollFlags::ERR | PollFlags::NVAL;
        if !fds[2].revents().is_empty() || fds[..2].iter().any(|fd| fd.revents().contains(gone)) {
            return;
        }
        readable = [0, 1].map(|end: usize| fds[end].revents().contains(PollFlags::IN));
    }
}

/// Reads a batch from one end. Says whether there was anything.
fn read(line: &mut Line, end: End, device: &SyncDevice, buffer: &mut [u8], now: Instant) -> bool {
    for read in 0..BATCH {
        // Would block, or the interface is down for now.
        let Ok(length) = device.recv(buffer) else {
            return read > 0;
        };
        if let Some(answer) = line.handle_packet(end, &buffer[..length], now) {
            let _ = device.send(&answer);
        }
    }
    true
}
