//! In place of the members' pages: takes whatever comes through the gateway and counts it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use protocol::proxy;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

const BUFFER_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Sink {
    address: SocketAddr,
    received: Arc<AtomicU64>,
}

impl Sink {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let received = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(take(stream, Arc::clone(&counter)));
            }
        });
        Ok(Self { address, received })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that came so far, without the headers.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

async fn take(mut stream: TcpStream, received: Arc<AtomicU64>) {
    let mut header = [0; proxy::HEADER_BYTES];
    if stream.read_exact(&mut header).await.is_err() || proxy::Claim::parse(&header).is_err() {
        return;
    }
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        received.fetch_add(length as u64, Ordering::Relaxed);
    }
}
