//! A UDP socket for tokio that moves many datagrams per system call.
//!
//! Used by the gateway and the agent at the edge of the tunnel, which itself knows no socket.
//! Where the system offers it, datagrams are sent in segmented batches (GSO) and received in
//! merged ones (GRO), and are never fragmented; where set-up fails, one by one.
//!
//! Addresses come out as they are written: an IPv4 peer of a dual-stack socket is an IPv4
//! address here, in both directions.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use quinn_udp::{RecvMeta, UdpSocketState, is_msg_size_err};
use tokio::io::Interest;
use tokio::task::JoinHandle;

/// Asked of the system for each direction, in bytes: 20 ms at 1.6 Gbit/s. It may give less.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Room for one merged batch of datagrams, in bytes: IP allows no more.
const SLOT_BYTES: usize = 64 * 1024;

/// Batches read at a time.
const SLOTS: usize = 8;

/// A bound UDP socket.
pub struct Socket {
    io: Arc<tokio::net::UdpSocket>,
    /// None: no offload here, datagrams go one by one.
    offload: Option<UdpSocketState>,
    /// IPv4 addresses must be written as IPv6 ones.
    maps_ipv4: bool,
    /// Of a socket that speaks with one peer only: waits for that peer's refusal.
    refusal: Option<Mutex<Option<JoinHandle<io::Error>>>>,
}

/// Room for what one call receives; make it once and use it again.
pub struct Batch {
    memory: Box<[u8]>,
    received: [RecvMeta; SLOTS],
    filled: usize,
}

impl Socket {
    /// Binds to `address`. `[::]` takes IPv4 as well.
    ///
    /// # Errors
    /// What the system says, for example that the port is taken.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
        let maps_ipv4 = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        if maps_ipv4 {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        // Best effort: the system's own limits hold.
        let grown = socket
            .set_recv_buffer_size(SOCKET_BUFFER_BYTES)
            .and_then(|()| socket.set_send_buffer_size(SOCKET_BUFFER_BYTES));
        if let Err(error) = grown {
            tracing::debug!(%error, "socket buffers stay as they are");
        }
        let io = tokio::net::UdpSocket::from_std(socket.into())?;
        let offload = UdpSocketState::new((&io).into())
            .inspect_err(|error| tracing::warn!(%error, "no UDP offload: datagrams go one by one"))
            .ok();
        // Until the reactor has seen the socket once, every try says that it would block.
        io.writable().await?;
        Ok(Self {
            io: Arc::new(io),
            offload,
            maps_ipv4,
            refusal: None,
        })
    }

    /// Binds to a port of the system's choice, to speak with `remote` alone: datagrams of
    /// others are not received, and a report that `remote` refuses them is an error of the
    /// next call. When the machine's own address changes, another socket must be made.
    ///
    /// # Errors
    /// What the system says, for example that there is no way to `remote`.
    pub async fn connect(remote: SocketAddr) -> io::Result<Self> {
        let mut socket = Self::bind_any().await?;
        let remote = socket.as_sent(remote);
        socket.io.connect(remote).await?;
        let refusal = tokio::spawn(refusal(Arc::clone(&socket.io)));
        socket.refusal = Some(Mutex::new(Some(refusal)));
        Ok(socket)
    }

    /// Binds to a port of the system's choice on all addresses, IPv6 and IPv4 if there is IPv6.
    ///
    /// # Errors
    /// What the system says.
    pub async fn bind_any() -> io::Result<Self> {
        match Self::bind((Ipv6Addr::UNSPECIFIED, 0).into()).await {
            Ok(socket) => Ok(socket),
            Err(_) => Self::bind((Ipv4Addr::UNSPECIFIED, 0).into()).await,
        }
    }

    /// Where the socket is bound.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// How many datagrams one send may hold. Can shrink when the system refuses a batch.
    pub fn max_segments(&self) -> usize {
        self.offload
            .as_ref()
            .map_or(1, UdpSocketState::max_gso_segments)
            .max(1)
    }

    /// Sends `contents` as datagrams of `segment_size`, the last one shorter. Waits for room.
    /// A datagram that is too long for the path is dropped silently: QUIC probes with those.
    ///
    /// # Errors
    /// What the system says, for example that there is no network. Nothing is left half done
    /// that the caller must care for: UDP may lose anything.
    pub async fn send(
        &self,
        to: SocketAddr,
        contents: &[u8],
        segment_size: usize,
    ) -> io::Result<()> {
        let to = self.as_sent(to);
        let Some(offload) = &self.offload else {
            return self.send_one_by_one(to, contents, segment_size).await;
        };
        let transmit = quinn_udp::Transmit {
            destination: to,
            ecn: None,
            contents,
            segment_size: (segment_size < contents.len()).then_some(segment_size),
            src_ip: None,
        };
        loop {
            let sent = self.io.try_io(Interest::WRITABLE, || {
                offload.try_send((&self.io).into(), &transmit)
            });
            match sent {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.io.writable().await?;
                }
                Err(error) if is_msg_size_err(&error) => return Ok(()),
                Err(error) if self.is_refusal(&error) => return Err(error),
                // Some adapters refuse a batch; what was in it goes one by one.
                Err(_) if transmit.segment_size.is_some() => {
                    return self.send_one_by_one(to, contents, segment_size).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Says whether [`Self::try_recv`] may find something; else wakes the task when it does.
    ///
    /// # Errors
    /// What the system says.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_recv_ready(cx)
    }

    /// Waits for datagrams and fills `batch`.
    ///
    /// # Errors
    /// What the system says.
    pub async fn recv(&self, batch: &mut Batch) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_recv(context, batch)).await
    }

    /// As [`Self::recv`], for callers that wait for several things.
    ///
    /// # Errors
    /// What the system says.
    pub fn poll_recv(&self, context: &mut Context<'_>, batch: &mut Batch) -> Poll<io::Result<()>> {
        loop {
            match self.io.poll_recv_ready(context) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => return self.poll_refusal(context).map(Err),
            }
            if self.try_recv(batch)? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Says once that the peer turned a datagram away; wakes the task when it does.
    fn poll_refusal(&self, context: &mut Context<'_>) -> Poll<io::Error> {
        let Some(refusal) = &self.refusal else {
            return Poll::Pending;
        };
        let mut refusal = refusal.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(waiting) = refusal.as_mut() else {
            return Poll::Pending;
        };
        let ended = ready!(Pin::new(waiting).poll(context));
        *refusal = None;
        Poll::Ready(ended.unwrap_or_else(io::Error::other))
    }

    /// Fills `batch` with what is there. False if nothing is.
    ///
    /// # Errors
    /// What the system says.
    pub fn try_recv(&self, batch: &mut Batch) -> io::Result<bool> {
        batch.filled = 0;
        let received = match &self.offload {
            Some(offload) => self.io.try_io(Interest::READABLE, || {
                let mut slots = batch.memory.chunks_exact_mut(SLOT_BYTES);
                let mut slots: [IoSliceMut<'_>; SLOTS] =
                    std::array::from_fn(|_| IoSliceMut::new(slots.next().unwrap_or_default()));
                offload.recv((&self.io).into(), &mut slots, &mut batch.received)
            }),
            None => self.recv_one_by_one(batch),
        };
        match received {
            Ok(filled) => {
                batch.filled = filled;
                Ok(filled > 0)
            }
            Err(error) if self.is_refusal(&error) => Err(error),
            Err(error) => match error.kind() {
                // Windows and Linux report here that an earlier datagram found no listener.
                io::ErrorKind::WouldBlock
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionRefused => Ok(false),
                _ => Err(error),
            },
        }
    }

    async fn send_one_by_one(
        &self,
        to: SocketAddr,
        contents: &[u8],
        segment_size: usize,
    ) -> io::Result<()> {
        for datagram in contents.chunks(segment_size.max(1)) {
            match self.io.send_to(datagram, to).await {
                Err(error) if !is_msg_size_err(&error) => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Says whether the one peer of this socket has turned a datagram away.
    fn is_refusal(&self, error: &io::Error) -> bool {
        self.refusal.is_some() && is_refused(error)
    }

    fn recv_one_by_one(&self, batch: &mut Batch) -> io::Result<usize> {
        let slots = batch.memory.chunks_exact_mut(SLOT_BYTES);
        let mut filled = 0;
        for (slot, meta) in slots.zip(&mut batch.received) {
            match self.io.try_recv_from(slot) {
                Ok((length, from)) => {
                    *meta = RecvMeta::default();
                    (meta.addr, meta.len, meta.stride) = (from, length, length);
                    filled += 1;
                }
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn as_sent(&self, to: SocketAddr) -> SocketAddr {
        match to {
            SocketAddr::V4(to) if self.maps_ipv4 => {
                SocketAddrV6::new(to.ip().to_ipv6_mapped(), to.port(), 0, 0).into()
            }
            SocketAddr::V4(_) | SocketAddr::V6(_) => to,
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let refusal = self.refusal.take().map(Mutex::into_inner);
        if let Some(waiting) =
            refusal.and_then(|inner| inner.unwrap_or_else(PoisonError::into_inner))
        {
            waiting.abort();
        }
    }
}

/// Says whether a datagram found no listener; Windows says it as a reset.
fn is_refused(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}

/// Waits until the system reports that a connected socket's peer refuses its datagrams. It does
/// so as an error of the socket, which makes nothing readable: a receiver would not wake.
async fn refusal(io: Arc<tokio::net::UdpSocket>) -> io::Error {
    loop {
        let reported = io.async_io(Interest::ERROR, || match io.take_error()? {
            Some(error) => Ok(error),
            None => Err(io::ErrorKind::WouldBlock.into()),
        });
        let error = match reported.await {
            Ok(error) => error,
            Err(error) => return error,
        };
        // Others pass, as that a datagram was too long for the path.
        if is_refused(&error) || error.kind() == io::ErrorKind::HostUnreachable {
            return error;
        }
        tracing::debug!(%error, "reported about an earlier datagram");
    }
}

impl Batch {
    /// Makes room.
    pub fn new() -> Self {
        Self {
            memory: vec![0; SLOT_BYTES * SLOTS].into(),
            received: [RecvMeta::default(); SLOTS],
            filled: 0,
        }
    }

    /// The datagrams, with their senders.
    pub fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let slots = self.memory.chunks_exact(SLOT_BYTES);
        let filled = slots.zip(&self.received).take(self.filled);
        filled.flat_map(|(slot, meta)| {
            let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            let merged = &slot[..meta.len.min(slot.len())];
            // An empty datagram has no stride, and nothing to say either.
            merged
                .chunks(meta.stride.max(1))
                .map(move |datagram| (from, datagram))
        })
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("local_addr", &self.io.local_addr().ok())
            .field("max_segments", &self.max_segments())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(10);

    async fn receive(socket: &Socket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut batch = Batch::new();
        let mut all = Vec::new();
        while all.len() < count {
            tokio::time::timeout(LIMIT, socket.recv(&mut batch))
                .await
                .expect("datagrams arrive")
                .unwrap();
            let datagrams = batch.datagrams();
            all.extend(datagrams.map(|(from, datagram)| (from, datagram.to_vec())));
        }
        all
    }

    fn loopback_v4(socket: &Socket) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, socket.local_addr().unwrap().port()).into()
    }

    /// Ten datagrams of 1,000 bytes and a shorter one.
    fn eleven() -> Vec<u8> {
        (0..10_500u32).map(|at| (at / 1000) as u8).collect()
    }

    async fn eleven_arrive_whole(a: &Socket, b: &Socket, to: SocketAddr) {
        a.send(to, &eleven(), 1000).await.unwrap();
        let received = receive(b, 11).await;
        assert_eq!(received.len(), 11);
        for (number, (from, datagram)) in received.iter().enumerate() {
            assert_eq!(datagram[..], eleven()[number * 1000..][..datagram.len()]);
            assert_eq!(datagram.len(), if number == 10 { 500 } else { 1000 });
            assert_eq!(from.port(), a.local_addr().unwrap().port());
        }
    }

    #[tokio::test]
    async fn a_batch_arrives_as_the_datagrams_it_was_made_of() {
        let a = Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let b = Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        eleven_arrive_whole(&a, &b, b.local_addr().unwrap()).await;
    }

    #[tokio::test]
    async fn without_offload_it_does_so_too() {
        let mut a = Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let mut b = Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        (a.offload, b.offload) = (None, None);
        assert_eq!(a.max_segments(), 1);
        eleven_arrive_whole(&a, &b, b.local_addr().unwrap()).await;
    }

    #[tokio::test]
    async fn ipv4_peers_of_a_dual_stack_socket_have_ipv4_addresses() {
        let gateway = Socket::bind((Ipv6Addr::UNSPECIFIED, 0).into())
            .await
            .unwrap();
        let pc = Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        eleven_arrive_whole(&pc, &gateway, loopback_v4(&gateway)).await;
        pc.send(loopback_v4(&gateway), b"x", 1).await.unwrap();
        let (from, _) = receive(&gateway, 1).await.remove(0);
        assert_eq!(from, pc.local_addr().unwrap());
        gateway.send(from, b"answer", 6).await.unwrap();
        assert_eq!(receive(&pc, 1).await[0].1, b"answer");
    }

    #[tokio::test]
    async fn a_first_datagram_is_not_lost() {
        let b = Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        for _ in 0..50 {
            let a = Socket::bind_any().await.unwrap();
            a.send(b.local_addr().unwrap(), b"first", 5).await.unwrap();
            assert_eq!(receive(&b, 1).await[0].1, b"first");
        }
    }

    #[tokio::test]
    async fn a_datagram_that_is_too_long_for_any_path_is_dropped_without_an_error() {
        let a = Socket::bind_any().await.unwrap();
        let to = (Ipv4Addr::LOCALHOST, 9).into();
        a.send(to, &vec![0; 70_000], 70_000).await.unwrap();
    }

    #[tokio::test]
    async fn a_connected_socket_hears_of_a_refusal_and_nothing_of_others() {
        let closed = {
            let gone = Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
            gone.local_addr().unwrap()
        };
        let a = Socket::connect(closed).await.unwrap();
        a.send(closed, b"anybody?", 8).await.unwrap();
        let mut batch = Batch::new();
        let refused = tokio::time::timeout(LIMIT, a.recv(&mut batch)).await;
        let error = refused.expect("the refusal is reported").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);

        let b = Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let other = Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let a = Socket::connect(b.local_addr().unwrap()).await.unwrap();
        other.send(loopback_v4(&a), b"stranger", 8).await.unwrap();
        eleven_arrive_whole(&a, &b, b.local_addr().unwrap()).await;
        b.send(loopback_v4(&a), b"friend", 6).await.unwrap();
        let first = std::future::poll_fn(|context| a.poll_recv(context, &mut batch));
        tokio::time::timeout(LIMIT, first).await.unwrap().unwrap();
        let (from, datagram) = batch.datagrams().next().unwrap();
        assert_eq!((from, datagram), (b.local_addr().unwrap(), &b"friend"[..]));
    }

    #[tokio::test]
    async fn datagrams_to_a_closed_port_do_not_break_the_socket() {
        let a = Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let b = Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let closed = {
            let gone = Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
            gone.local_addr().unwrap()
        };
        let _ = a.send(closed, b"anybody?", 8).await;
        b.send(a.local_addr().unwrap(), b"me", 2).await.unwrap();
        assert_eq!(receive(&a, 1).await[0].1, b"me");
    }
}
