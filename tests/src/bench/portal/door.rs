//! The gateway's part for PCs that are played in this process: each has a loopback proxy whose
//! connections reach the members' listener behind the header by which a gateway vouches for
//! the PC's session. What lies before the portal costs next to nothing here; the tunnel has
//! benchmarks of its own.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use anyhow::{Result, ensure};
use portal::tunnel_sessions::proxy_key;
use protocol::agent_api::{GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT};
use protocol::proxy::encode;
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::fund::{Fund, Person};
use crate::pages::{MemberPages, Site, authenticator_code};
use crate::stage::Stage;

/// Longest head of a CONNECT, in bytes.
const HEAD_LIMIT_BYTES: usize = 4_096;

/// One PC's way to the portal; closed when it is dropped.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) pages: MemberPages,
    serving: AbortHandle,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Door {
    /// Opens the way of a person's PC.
    pub(super) async fn open(stage: &Stage, fund: &Fund, person: &Person) -> Result<Self> {
        let key = proxy_key(&fund.keys, person.session, person.inner_address);
        let inner = |address: Ipv6Addr, port| SocketAddrV6::new(address, port, 0, 0);
        let header: Arc<[u8]> = encode(
            person.session,
            inner(person.inner_address, 50_000),
            inner(GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT),
            &key,
        )
        .into();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let portal = stage.member_listener();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(relay(stream, portal, Arc::clone(&header)));
            }
        });
        let proxy = address.to_string();
        let site = Site::new(&stage.member_url(), &stage.ca_file(), Some(&proxy))?;
        Ok(Self {
            pages: MemberPages { site },
            serving: serving.abort_handle(),
        })
    }

    /// Signs in on the page, with the authenticator's code of this moment.
    pub(super) async fn sign_in(&self, person: &Person) -> Result<()> {
        let code = authenticator_code(&person.secret, unix_s())?;
        let page = self
            .pages
            .sign_in(&person.login, super::fund::PASSWORD, &code)
            .await?;
        ensure!(
            page.status == StatusCode::OK && matches!(page.path.as_str(), "/" | "/desk"),
            "{} is not signed in: {} {}",
            person.login,
            page.status,
            page.text()
        );
        Ok(())
    }
}

async fn relay(mut client: TcpStream, portal: SocketAddr, header: Arc<[u8]>) -> Result<()> {
    client.set_nodelay(true)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_LIMIT_BYTES {
        head.push(client.read_u8().await?);
    }
    let mut portal = TcpStream::connect(portal).await?;
    portal.set_nodelay(true)?;
    portal.write_all(&header).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut portal).await?;
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark runs on the machine's clock"
)]
fn unix_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
