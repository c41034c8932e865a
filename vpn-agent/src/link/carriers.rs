//! The ways to the gateway as they really are: UDP sockets and TLS connections.
//!
//! Opened, read, written and put away by [`super::event_loop`], which does as
//! [`super::paths`] says. Nothing here decides anything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tunnel::frames::Frames;
use udp::{Batch, Socket};

use super::LinkConfig;
use super::paths::{Way, WayId};
use super::tls_way::{TlsWay, TlsWayError};
use crate::dial::Dialer;
use crate::urls::GatewayUrl;

/// An open way.
enum Carrier {
    Udp(Socket, SocketAddr),
    Tls(TlsWay),
}

/// What opening TLS ways needs.
#[derive(Clone)]
struct Door {
    gateway: GatewayUrl,
    dialer: Dialer,
    tls: Arc<ClientConfig>,
    wake: Arc<Notify>,
}

/// All ways of one tunnel that are open or being opened.
pub(super) struct Carriers {
    door: Door,
    open: Vec<Slot>,
    opening: JoinSet<Opened>,
}

#[derive(Default)]
struct Slot {
    carrier: Option<Carrier>,
    /// Counts the openings: what comes of an earlier one that was given up is dropped.
    generation: u64,
}

struct Opened {
    id: WayId,
    generation: u64,
    result: Result<Carrier, WayError>,
}

/// Why a way is closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WayError {
    #[error("UDP")]
    Udp(#[from] io::Error),
    #[error("TLS")]
    Tls(#[from] TlsWayError),
}

/// What happened on the ways.
pub(super) enum News {
    /// A way can be sent over.
    Opened(WayId),
    /// A way is gone.
    Failed(WayId, WayError),
    /// Datagrams lie in the batch.
    Datagrams(WayId),
    /// Datagrams came over TLS.
    Frames(WayId, Frames),
}

impl Carriers {
    /// None open yet. `wake` is told when a way that was full takes more.
    pub(super) fn new(config: &LinkConfig, ways: usize, wake: Arc<Notify>) -> Self {
        Self {
            door: Door {
                gateway: config.gateway.clone(),
                dialer: config.dialer.clone(),
                tls: config.tls.clone(),
                wake,
            },
            open: (0..ways).map(|_| Slot::default()).collect(),
            opening: JoinSet::new(),
        }
    }

    /// Begins to open a way; [`News::Opened`] or [`News::Failed`] follows.
    pub(super) fn open(&mut self, id: WayId, way: Way) {
        let slot = &mut self.open[id.index()];
        slot.carrier = None;
        slot.generation += 1;
        let (generation, door) = (slot.generation, self.door.clone());
        self.opening.spawn(async move {
            let result = open(way, door).await;
            Opened {
                id,
                generation,
                result,
            }
        });
    }

    /// Puts a way away. What was given to it still leaves.
    pub(super) fn close(&mut self, id: WayId) {
        let slot = &mut self.open[id.index()];
        slot.carrier = None;
        slot.generation += 1;
    }

    /// Whether a way takes a burst now.
    pub(super) fn has_room(&self, id: WayId) -> bool {
        match &self.open[id.index()].carrier {
            Some(Carrier::Udp(..)) => true,
            Some(Carrier::Tls(way)) => way.has_room(),
            None => false,
        }
    }

    /// How many datagrams one burst may hold.
    pub(super) fn max_segments(&self, id: WayId) -> usize {
        match &self.open[id.index()].carrier {
            Some(Carrier::Udp(socket, _)) => socket.max_segments(),
            Some(Carrier::Tls(_)) => tunnel::MAX_SEGMENTS,
            None => 1,
        }
    }

    /// Sends a burst.
    ///
    /// # Errors
    /// Only if the way is of no more use; what is lost otherwise is lost like any datagram.
    pub(super) async fn send(
        &mut self,
        id: WayId,
        contents: &[u8],
        segment_size: usize,
    ) -> Result<(), WayError> {
        match &self.open[id.index()].carrier {
            Some(Carrier::Udp(socket, remote)) => {
                let sent = socket.send(*remote, contents, segment_size).await;
                sent.inspect_err(|_| self.close(id)).map_err(WayError::Udp)
            }
            Some(Carrier::Tls(way)) => {
                way.send(contents, segment_size);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Waits for something to happen; datagrams from UDP are put into `batch`.
    pub(super) async fn next(&mut self, batch: &mut Batch) -> News {
        std::future::poll_fn(|context| self.poll_next(context, batch)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>, batch: &mut Batch) -> Poll<News> {
        while let Poll::Ready(Some(opened)) = self.opening.poll_join_next(context) {
            // A try that died without a word is one whose way stays closed: its limit passes.
            let Ok(opened) = opened else { continue };
            let slot = &mut self.open[opened.id.index()];
            if slot.generation != opened.generation {
                continue;
            }
            return Poll::Ready(match opened.result {
                Ok(carrier) => {
                    slot.carrier = Some(carrier);
                    News::Opened(opened.id)
                }
                Err(error) => News::Failed(opened.id, error),
            });
        }
        for (index, slot) in self.open.iter_mut().enumerate() {
            let id = WayId::at(index);
            let news = match &mut slot.carrier {
                Some(Carrier::Udp(socket, _)) => match socket.poll_recv(context, batch) {
                    Poll::Ready(Ok(())) => News::Datagrams(id),
                    Poll::Ready(Err(error)) => News::Failed(id, error.into()),
                    Poll::Pending => continue,
                },
                Some(Carrier::Tls(way)) => match way.poll_recv(context) {
                    Poll::Ready(Ok(frames)) => News::Frames(id, frames),
                    Poll::Ready(Err(error)) => News::Failed(id, error.into()),
                    Poll::Pending => continue,
                },
                None => continue,
            };
            if matches!(news, News::Failed(..)) {
                slot.carrier = None;
                slot.generation += 1;
            }
            return Poll::Ready(news);
        }
        Poll::Pending
    }
}

async fn open(way: Way, door: Door) -> Result<Carrier, WayError> {
    match way {
        Way::Udp(remote) => Ok(Carrier::Udp(Socket::connect(remote).await?, remote)),
        Way::Tls(via) => {
            let connection = door.dialer.connect_via(&door.gateway, via, &door.tls).await;
            let connection = connection.map_err(TlsWayError::Dial)?;
            let way = TlsWay::start(connection, &door.gateway, door.wake);
            Ok(Carrier::Tls(way))
        }
    }
}
