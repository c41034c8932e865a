//! The simulated line does between two kernels what it says.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use renkei_tests::link::wire::Wire;
use renkei_tests::link::{Conditions, End};
use renkei_tests::network::{Hook, Network, Place, join};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const NEAR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 1);
const PORT: u16 = 7;
/// How long a datagram may take on a busy machine that must first find its neighbour.
const ARRIVES_WITHIN: Duration = Duration::from_secs(5);
/// What does not come within this does not come.
const SILENCE: Duration = Duration::from_millis(300);

/// Two places joined by a line with `conditions` both ways.
fn two_places(conditions: &str) -> Result<(Network, Place, Place, Wire)> {
    let mut network = Network::new()?;
    let (near, far) = (network.place("near")?, network.place("far")?);
    let conditions: Conditions = conditions.parse()?;
    let wire = Wire::between(&near, &far, "line0", (conditions, conditions), 1)?;
    near.address("line0", &format!("{NEAR}/24"))?;
    near.address("line0", "fd01::2/64")?;
    far.address("line0", &format!("{FAR}/24"))?;
    far.address("line0", &format!("{FAR_V6}/64"))?;
    Ok((network, near, far, wire))
}

/// Sends `bytes` from a TCP client in `near` to a server in `far`; returns how long it took.
#[expect(
    clippy::disallowed_methods,
    reason = "a story measures on the machine's clock"
)]
fn tcp_upload(near: &Place, far: &Place, bytes: usize) -> Result<Duration> {
    std::thread::scope(|scope| {
        let (ready, listening) = std::sync::mpsc::channel();
        let server = scope.spawn(move || {
            far.run(async move || {
                let listener = tokio::net::TcpListener::bind((FAR, PORT)).await?;
                ready.send(())?;
                let (mut stream, _) = listener.accept().await?;
                let (mut buffer, mut received) = (vec![0; 1 << 16], 0);
                loop {
                    match stream.read(&mut buffer).await? {
                        0 => break,
                        length => received += length,
                    }
                }
                stream.write_u8(1).await?;
                Ok(received)
            })
        });
        listening.recv().context("the server listens")?;
        let took = near.run(async move || {
            let start = Instant::now();
            let mut stream = tokio::net::TcpStream::connect((FAR, PORT)).await?;
            let block = vec![7; 1 << 16];
            for chunk in 0..bytes.div_ceil(block.len()) {
                let rest = bytes - chunk * block.len();
                stream.write_all(&block[..rest.min(block.len())]).await?;
            }
            stream.shutdown().await?;
            stream.read_u8().await?;
            Ok(start.elapsed())
        })?;
        let received = server.join().expect("the server does not panic")?;
        ensure!(received == bytes, "{received} of {bytes} bytes arrived");
        Ok(took)
    })
}

#[test]
fn twenty_milliseconds_and_200_megabits_are_what_the_kernels_get() -> Result<()> {
    let (_network, near, far, wire) = two_places("rate=200M,delay=10ms,queue=512K")?;
    let bytes = 10_000_000;
    let took = tcp_upload(&near, &far, bytes)?;
    let sent = wire.counters(End::Near).arrived_bytes * 8;
    let least = Duration::from_secs_f64(sent as f64 / 200e6) + Duration::from_millis(20);
    println!(
        "10 MB in {took:?}, at least {least:?}; {:?}",
        wire.counters(End::Near)
    );
    ensure!(took >= least, "faster than the line: {took:?} < {least:?}");
    Ok(())
}

#[test]
fn a_datagram_longer_than_the_line_is_lost_without_a_word_or_refused_by_icmp() -> Result<()> {
    let try_to_reach = |conditions: &str, to: IpAddr, bytes: usize, fits: bool| -> Result<_> {
        let (_network, near, far, _wire) = two_places(conditions)?;
        let far = far.inside(|| UdpSocket::bind((to, PORT)))??;
        far.set_read_timeout(Some(if fits { ARRIVES_WITHIN } else { SILENCE }))?;
        let near = near.inside(|| UdpSocket::bind((unspecified(to), 0)))??;
        // Never fragment, and believe what ICMP tells.
        match to {
            IpAddr::V4(_) => sockopt::set_ip_mtu_discover(&near, Ipv4PathMtuDiscovery::DO)?,
            IpAddr::V6(_) => sockopt::set_ipv6_mtu_discover(&near, Ipv6PathMtuDiscovery::DO)?,
        }
        near.connect((to, PORT))?;
        near.send(&vec![1; bytes])?;
        let arrived = match far.recv(&mut [0; 2000]) {
            Ok(length) => Some(length),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => return Err(error.into()),
        };
        Ok((arrived, near.send(&vec![1; bytes]).is_ok()))
    };
    for (to, headers) in [(IpAddr::V4(FAR), 28), (IpAddr::V6(FAR_V6), 48)] {
        let fits = 1454 - headers;
        ensure!(try_to_reach("mtu=1454", to, fits, true)? == (Some(fits), true));
        ensure!(try_to_reach("mtu=1454", to, fits + 1, false)? == (None, true));
        ensure!(try_to_reach("mtu=1454,icmp=announced", to, fits + 1, false)? == (None, false));
    }
    Ok(())
}

#[test]
fn what_a_firewall_drops_or_rejects_does_not_arrive_and_the_rest_does() -> Result<()> {
    let mut network = Network::new()?;
    let (near, far) = (network.place("near")?, network.place("far")?);
    join(&near, &far, "eth0")?;
    near.address("eth0", &format!("{NEAR}/24"))?;
    far.address("eth0", &format!("{FAR}/24"))?;
    let ask = |patience: Duration| -> Result<_> {
        let server = far.inside(|| UdpSocket::bind((FAR, PORT)))??;
        server.set_read_timeout(Some(patience))?;
        let client = near.inside(|| UdpSocket::bind((NEAR, 0)))??;
        client.connect((FAR, PORT))?;
        client.send(b"?")?;
        let arrived = server.recv(&mut [0; 10]).is_ok();
        Ok((arrived, client.send(b"?").err().map(|error| error.kind())))
    };
    let rule = |verdict: &str| format!("udp dport {PORT} {verdict}");
    ensure!(ask(ARRIVES_WITHIN)? == (true, None));
    far.firewall(&[(Hook::In, &rule("drop"))])?;
    ensure!(ask(SILENCE)? == (false, None));
    far.firewall(&[(Hook::In, &rule("reject"))])?;
    ensure!(ask(SILENCE)? == (false, Some(ErrorKind::ConnectionRefused)));
    far.firewall(&[])?;
    ensure!(ask(ARRIVES_WITHIN)? == (true, None));
    Ok(())
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
