//! The data path where a PC comes by other ways than the first UDP port.

use super::*;

/// Bytes between PC and gateway: a fast connection's window.
const PIPE_BYTES: usize = 64 * 1024;

impl Office {
    /// Gives the PC a TLS connection.
    fn connect_by_tls(&self, pc: &mut Pc) {
        self.connect_as(pc, pc.certificate_sha256);
    }

    /// Gives the PC a TLS connection in which the certificate of `device` was shown.
    fn connect_as(&self, pc: &mut Pc, device: Bytes32) {
        let (io, stream) = tokio::io::duplex(PIPE_BYTES);
        let (entrance, place) = (self.entrance.clone(), self.entrance.place().unwrap());
        tokio::spawn(async move {
            let remote = Ipv4Addr::LOCALHOST.into();
            entrance.carry(place, stream, b"", device, remote).await
        });
        pc.tls = Some(OverTls {
            io,
            decoder: Decoder::default(),
            reads: true,
            is_over: false,
        });
    }

    /// Sends back what comes on each connection, until it is finished.
    async fn echo(&self) {
        loop {
            let (mut connection, _) = self.accept().await;
            tokio::spawn(async move {
                let (mut from, mut to) = connection.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    }
}

impl Pc {
    /// Writes all of `data` while reading as much of it back.
    async fn echoed(&mut self, stream: StreamId, data: &[u8]) -> Vec<u8> {
        let mut up = Bytes::copy_from_slice(data);
        let mut back = Vec::new();
        self.run_until("echoed", |pc| {
            if !up.is_empty() {
                pc.tunnel.write(stream, &mut up).unwrap();
            }
            while let Ok(Read::Data(piece)) = pc.tunnel.read(stream, usize::MAX) {
                back.extend_from_slice(&piece);
            }
            back.len() >= data.len()
        })
        .await;
        back
    }
}

#[tokio::test]
async fn a_second_udp_port_answers_from_itself() {
    let mut office = Office::open().await;
    let mut pc = office.admit(60).await;
    pc.gateway = office.addresses[1];
    pc.connect().await;
    assert_eq!(pc.heard_from, Some(office.addresses[1]));
    pc.gateway = office.addresses[0];
    let stream = pc.tunnel.open_stream().unwrap();
    let (back, _) = within(async {
        tokio::select! {
            back = pc.echoed(stream, b"hello") => (back, ()),
            () = office.echo() => unreachable!("endless"),
        }
    })
    .await;
    assert_eq!(back, b"hello");
    assert_eq!(pc.heard_from, Some(office.addresses[0]), "and moves");
}

#[tokio::test]
async fn a_session_moves_from_udp_to_tls_and_back_without_its_streams_noticing() {
    let mut office = Office::open().await;
    let mut pc = office.admit(60).await;
    pc.connect().await;
    let stream = pc.tunnel.open_stream().unwrap();
    let data = pattern(4 * MEGABYTE);
    let moving = async {
        assert!(pc.echoed(stream, &data).await == data);
        office.connect_by_tls(&mut pc);
        // What was under way by UDP still comes.
        pc.echoed(stream, b"here").await;
        while pc.socket.try_recv(&mut pc.batch).unwrap() {}
        pc.heard_from = None;
        assert!(pc.echoed(stream, &data).await == data);
        assert_eq!(pc.heard_from, None, "nothing comes by UDP any more");
        // The connection breaks; nothing but UDP is left.
        pc.tls = None;
        assert!(pc.echoed(stream, &data).await == data);
        // Two connections, one after the other.
        office.connect_by_tls(&mut pc);
        assert!(pc.echoed(stream, &data).await == data);
        office.connect_by_tls(&mut pc);
        assert!(pc.echoed(stream, &data).await == data);
    };
    within(async {
        tokio::select! {
            () = moving => {}
            () = office.echo() => unreachable!("endless"),
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_begins_over_tls_and_hears_there_that_it_is_over() {
    let mut office = Office::open().await;
    let mut pc = office.admit(60).await;
    office.connect_by_tls(&mut pc);
    pc.connect().await;
    office.end(pc.session, EndCode::Revoked).await;
    pc.told(EndCode::Revoked).await;
    pc.run_until("hung up", |pc| pc.tls.as_ref().unwrap().is_over)
        .await;
    let ended = office.next_ended().await;
    assert_eq!(
        (ended.session, ended.reason),
        (pc.session, EndCode::Revoked)
    );
    assert_eq!(pc.heard_from, None);
}

#[tokio::test]
async fn a_gateway_that_stops_says_so_over_tls_too() {
    let mut office = Office::open().await;
    let mut pc = office.admit(60).await;
    office.connect_by_tls(&mut pc);
    pc.connect().await;
    let (done, stopped) = oneshot::channel();
    let command = Command::Shutdown { done };
    office.commands.send(command).await.unwrap();
    pc.told(EndCode::GatewayStopped).await;
    pc.tls = None;
    within(stopped).await.unwrap();
}

#[tokio::test]
async fn a_connection_carries_only_the_sessions_of_the_device_that_opened_it() {
    let mut office = Office::open().await;
    let mut pc = office.admit(60).await;
    let other = office.admit(60).await;
    office.connect_as(&mut pc, other.certificate_sha256);
    let connected = pc.connect();
    let waited = tokio::time::timeout(Duration::from_millis(700), connected).await;
    assert!(
        waited.is_err(),
        "a session passed in another device's connection"
    );
    assert!(pc.events.is_empty(), "{:?}", pc.events);
    // It is the connection, not the session.
    office.connect_by_tls(&mut pc);
    pc.connect().await;
}

#[tokio::test]
async fn a_pc_that_does_not_read_holds_up_nobody_and_loses_nothing() {
    let mut office = Office::open().await;
    let mut slow = office.admit(60).await;
    let mut other = office.admit(60).await;
    office.connect_by_tls(&mut slow);
    slow.connect().await;
    other.connect().await;
    let data = pattern(12 * MEGABYTE);
    let stream = slow.tunnel.open_stream().unwrap();
    let mut question = Bytes::from_static(b"?");
    slow.tunnel.write(stream, &mut question).unwrap();
    slow.tunnel.finish(stream).unwrap();
    slow.run_until("sent", |_| true).await;
    let (mut connection, _) = office.accept().await;
    let all = data.clone();
    let sending = tokio::spawn(async move {
        connection.read_to_end(&mut Vec::new()).await.unwrap();
        connection.write_all(&all).await.unwrap();
        connection.shutdown().await.unwrap();
    });
    // From here the first PC does not read, and the gateway has 12 MB for it.
    let stream_of_other = other.tunnel.open_stream().unwrap();
    let answer = async {
        let (mut connection, _) = office.accept().await;
        let mut question = Vec::new();
        connection.read_to_end(&mut question).await.unwrap();
        connection.write_all(&question).await.unwrap();
        connection.shutdown().await.unwrap();
    };
    let (up, mut down) = (pattern(MEGABYTE), Vec::new());
    let (echoed, ()) = tokio::join!(other.exchange(stream_of_other, &up), answer);
    assert!(echoed.unwrap() == up);
    assert!(
        !sending.is_finished(),
        "what is not read waits at the portal"
    );
    slow.run_until("all arrived", |pc| {
        while let Ok(Read::Data(piece)) = pc.tunnel.read(stream, usize::MAX) {
            down.extend_from_slice(&piece);
        }
        down.len() >= data.len()
    })
    .await;
    assert!(down == data);
}
