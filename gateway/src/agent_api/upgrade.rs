//! From an HTTP connection to a tunnel's: takes the bare TLS stream back out of hyper and hands
//! it over to the data path.
//!
//! From then on none of the limits of HTTP requests hold for it, and it no longer counts among
//! their connections; [`crate::tls_tunnel`] has its own.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use crate::identity::fingerprint;
use crate::tls_tunnel::{Entrance, KERNEL_WAITING_BYTES, Place};

use super::Caller;

/// A client's connection. The TLS library asks its reader for 4 KB at a time; the buffer makes
/// fewer system calls of them.
pub(super) type Stream = TlsStream<BufReader<TcpStream>>;

/// Room of the buffer in front of TLS, in bytes: one whole record.
pub(super) const READ_AHEAD_BYTES: usize = 16 * 1024 + 256;

/// A request for a tunnel that was answered with 101.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) upgrade: OnUpgrade,
    pub(super) place: Place,
}

/// Where a connection's request leaves its upgrade for when the answer is written.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot(Arc<Mutex<Option<Upgrade>>>);

impl Slot {
    pub(super) fn put(&self, upgrade: Upgrade) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(upgrade);
    }

    pub(super) fn take(&self) -> Option<Upgrade> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take()
    }
}

/// Hands a connection over whose HTTP part is done. Its task outlives the agent API: when the
/// gateway stops, the last thing that a session hears goes through it.
pub(super) async fn hand_over(upgrade: Upgrade, caller: Caller, entrance: Entrance) {
    let Some(certificate) = &caller.certificate else {
        return;
    };
    let device = fingerprint(certificate);
    let upgraded = match upgrade.upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return debug!(%error, "no tunnel: hung up before the answer"),
    };
    let Ok(Parts { io, read_buf, .. }) = upgraded.downcast::<TokioIo<Stream>>() else {
        return debug!("no tunnel: not a TLS connection");
    };
    let stream = io.into_inner();
    let socket = SockRef::from(stream.get_ref().0.get_ref());
    if let Err(error) = socket.set_tcp_notsent_lowat(KERNEL_WAITING_BYTES) {
        debug!(%error, "the kernel keeps its own queue");
    }
    tokio::spawn(async move {
        let place = upgrade.place;
        let carried = entrance.carry(place, stream, &read_buf, device, caller.address);
        let ended = carried.await;
        debug!(%ended, "TLS tunnel over");
    });
}
