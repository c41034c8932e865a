//! The UDP socket of a tunnel, with the system's segmentation offloads where there are any.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tunnel::MAX_DATAGRAM_BYTES;

/// Receive calls return up to this many coalesced batches.
const BATCHES: usize = 8;

/// What the system may queue for the tunnel while it is busy, in bytes.
const KERNEL_BUFFER_BYTES: usize = 2 * 1024 * 1024;

/// A socket that speaks with one endpoint of a gateway. It is not connected to it, so that
/// it goes on when the PC's own address changes.
pub struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    endpoint: SocketAddr,
}

/// Memory for received datagrams.
pub struct Received {
    buffers: Vec<Vec<u8>>,
    metas: [RecvMeta; BATCHES],
    filled: usize,
}

impl Socket {
    /// Makes a socket of the endpoint's family.
    pub fn bind_for(endpoint: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match endpoint {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0u16; 8], 0).into(),
        };
        let socket = std::net::UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new((&socket).into())?;
        // Smaller buffers than asked for only cost speed.
        let _ = state.set_send_buffer_size((&socket).into(), KERNEL_BUFFER_BYTES);
        let _ = state.set_recv_buffer_size((&socket).into(), KERNEL_BUFFER_BYTES);
        Ok(Self {
            io: UdpSocket::from_std(socket)?,
            state,
            endpoint,
        })
    }

    /// Memory that fits this socket.
    pub fn received(&self) -> Received {
        let bytes = MAX_DATAGRAM_BYTES * self.state.gro_segments();
        Received {
            buffers: vec![vec![0; bytes]; BATCHES],
            metas: [RecvMeta::default(); BATCHES],
            filled: 0,
        }
    }

    /// Datagrams that one send may hold.
    pub fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Waits until the socket can be written: the first send must not come before.
    pub async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }

    /// Sends datagrams of `segment_size` bytes each.
    pub async fn send(&self, contents: &[u8], segment_size: usize) -> io::Result<()> {
        let transmit = Transmit {
            destination: self.endpoint,
            ecn: None,
            contents,
            segment_size: Some(segment_size),
            src_ip: None,
        };
        loop {
            self.io.writable().await?;
            let sent = self.io.try_io(Interest::WRITABLE, || {
                self.state.try_send((&self.io).into(), &transmit)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return sent,
            }
        }
    }

    /// Waits for datagrams.
    pub async fn receive(&self, received: &mut Received) -> io::Result<()> {
        loop {
            self.io.readable().await?;
            let count = self.io.try_io(Interest::READABLE, || {
                let mut buffers = received.buffers.iter_mut();
                let mut slices: [IoSliceMut<'_>; BATCHES] = std::array::from_fn(|_| {
                    IoSliceMut::new(buffers.next().map_or(&mut [], |buffer| &mut buffer[..]))
                });
                self.state
                    .recv((&self.io).into(), &mut slices, &mut received.metas)
            });
            match count {
                Ok(count) => {
                    received.filled = count;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether a datagram comes from the endpoint.
    fn is_endpoint(&self, address: SocketAddr) -> bool {
        address.ip().to_canonical() == self.endpoint.ip().to_canonical()
            && address.port() == self.endpoint.port()
    }

    /// The datagrams of the last receive that came from the endpoint.
    pub fn datagrams<'a>(&'a self, received: &'a Received) -> impl Iterator<Item = &'a [u8]> {
        received.metas[..received.filled]
            .iter()
            .zip(&received.buffers)
            .filter(|(meta, _)| self.is_endpoint(meta.addr))
            .flat_map(|(meta, buffer)| buffer[..meta.len].chunks(meta.stride.max(1)))
    }
}
