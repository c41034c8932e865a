//! A [`Line`] between TUN devices of two network namespaces.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use rustix::event::EventfdFlags;
use tun_rs::{DeviceBuilder, SyncDevice};

use super::{Conditions, Counters, End, Line, event_loop};
use crate::network::Place;

/// What the devices say of themselves, in bytes. The line's own MTU, which the kernel at the
/// ends is not told, is in its [`Conditions`].
const DEVICE_MTU_BYTES: usize = 1500;

/// A running line; it ends when dropped, and its devices with it.
#[derive(Debug)]
pub struct Wire {
    line: Arc<Mutex<Line>>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Makes a device called `device` in `near` and in `far` and carries packets between them.
    /// The devices are up, without addresses: see [`Place::address`].
    pub fn between(
        near: &Place,
        far: &Place,
        device: &str,
        (up, down): (Conditions, Conditions),
        seed: u64,
    ) -> Result<Self> {
        let (near, far) = (open(near, device)?, open(far, device)?);
        let line = Arc::new(Mutex::new(Line::new(up, down, seed)));
        let stop = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?);
        let thread = std::thread::Builder::new().name("line".into()).spawn({
            let (line, stop) = (line.clone(), stop.clone());
            move || event_loop::run(&line, &near, &far, &stop)
        })?;
        Ok(Self {
            line,
            stop,
            thread: Some(thread),
        })
    }

    /// Changes the conditions for what `from` sends from now on.
    pub fn set(&self, from: End, conditions: Conditions) {
        self.line().set(from, conditions);
    }

    /// Changes the conditions of both directions from now on.
    pub fn set_both(&self, conditions: Conditions) {
        for end in End::BOTH {
            self.set(end, conditions);
        }
    }

    /// What became of the packets that `from` sent.
    pub fn counters(&self, from: End) -> Counters {
        self.line().counters(from)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let told = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        if let (Ok(_), Some(thread)) = (told, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn open(place: &Place, name: &str) -> Result<SyncDevice> {
    let device = place.inside(|| -> Result<SyncDevice> {
        let device = DeviceBuilder::new()
            .name(name)
            .enable(false)
            .build_sync()
            .context("open /dev/net/tun")?;
        device.set_nonblocking(true)?;
        Ok(device)
    })??;
    place.ip(&[
        "link",
        "set",
        "dev",
        name,
        "mtu",
        &DEVICE_MTU_BYTES.to_string(),
    ])?;
    place.ip(&["link", "set", "dev", name, "txqueuelen", "1000", "up"])?;
    Ok(device)
}
