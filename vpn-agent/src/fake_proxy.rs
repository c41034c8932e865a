//! An HTTP proxy for tests: good, strict, or broken in the ways that proxies are.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// How a proxy behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Open,
    /// Wants `user:pass word`.
    Password,
    /// Wants to know who is signed in: `one`, then `two` on the same connection.
    Negotiate,
    /// Connects to this port, whatever it is asked for.
    LeadsTo(u16),
    /// Lets nobody through.
    Forbids,
    /// Is something else.
    Garbage,
    /// Takes connections and says nothing.
    Silent,
    /// Sends header fields without end.
    Endless,
}

pub struct FakeProxy {
    pub address: SocketAddr,
    connected: Arc<AtomicUsize>,
}

impl FakeProxy {
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connected = Arc::new(AtomicUsize::new(0));
        let count = connected.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(client, manner, count.clone()));
            }
        });
        Self { address, connected }
    }

    /// How many connections it has made.
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::SeqCst)
    }
}

async fn read_head(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// What a client answers to `challenge`.
async fn leg(client: &mut TcpStream, challenge: &str) -> Option<String> {
    let answer = format!(
        "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: {challenge}\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 4\r\n\r\nwho?"
    );
    client.write_all(answer.as_bytes()).await.ok()?;
    read_head(client).await
}

async fn serve(mut client: TcpStream, manner: Manner, connected: Arc<AtomicUsize>) {
    let Some(mut head) = read_head(&mut client).await else {
        return;
    };
    if manner == Manner::Negotiate {
        // "one", "what", "two"
        let Some(first) = leg(&mut client, "Negotiate").await else {
            return;
        };
        assert!(first.contains("\r\nProxy-Authorization: Negotiate b25l\r\n"));
        let Some(second) = leg(&mut client, "Negotiate d2hhdA==").await else {
            return;
        };
        assert!(second.contains("\r\nProxy-Authorization: Negotiate dHdv\r\n"));
        head = second;
    }
    // "user:pass word"
    let may = head.contains("\r\nProxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=\r\n");
    let answer: &[u8] = match manner {
        Manner::Open | Manner::Negotiate | Manner::LeadsTo(_) => b"",
        Manner::Password if may => b"",
        Manner::Password => {
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\n\r\n"
        }
        Manner::Forbids => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        Manner::Garbage => b"220 mail.example.jp ESMTP\r\n\r\n",
        Manner::Silent => {
            let _ = client.read_u8().await;
            return;
        }
        Manner::Endless => {
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\n").await;
            while client.write_all(b"X-Filler: abcdefgh\r\n").await.is_ok() {}
            return;
        }
    };
    if !answer.is_empty() {
        let _ = client.write_all(answer).await;
        return;
    }
    let target = head.split(' ').nth(1).unwrap();
    // Every name is this machine's.
    let port = match manner {
        Manner::LeadsTo(port) => port,
        _ => target.rsplit(':').next().unwrap().parse().unwrap(),
    };
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .unwrap();
    let _ = client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await;
    connected.fetch_add(1, Ordering::SeqCst);
    let _ = copy_bidirectional(&mut client, &mut server).await;
}
