//! A PC that opens all the streams it may and lets none of them go on: what its session binds,
//! in the gateway and in the kernel, stays within bounds, and the next PC does not notice.

use tunnel::MAX_STREAMS_PER_SESSION;

use super::*;

/// What one session may bind: QUIC's window, its part of what waits, a small piece and the
/// kernel's two buffers for each stream.
const BOUND: usize = 36 * MEGABYTE;

const STREAMS: usize = MAX_STREAMS_PER_SESSION as usize;

/// Opens all streams, each with a byte so that the portal hears of it.
async fn streams(office: &Office, pc: &mut Pc) -> (Vec<StreamId>, Vec<TcpStream>) {
    let mut streams = Vec::new();
    let mut connections = Vec::new();
    for _ in 0..STREAMS {
        let stream = pc.tunnel.open_stream().unwrap();
        let mut first = Bytes::from_static(b"x");
        pc.tunnel.write(stream, &mut first).unwrap();
        let sent = pc.run_until("sent", |_| true);
        let ((connection, _), ()) = tokio::join!(office.accept(), sent);
        streams.push(stream);
        connections.push(connection);
    }
    (streams, connections)
}

async fn a_new_pc_is_served(office: &mut Office) {
    let mut pc = office.admit(60).await;
    pc.connect().await;
    let stream = pc.tunnel.open_stream().unwrap();
    let question = pattern(MEGABYTE);
    let portal = async {
        let (mut connection, _) = office.accept().await;
        let mut all = Vec::new();
        connection.read_to_end(&mut all).await.unwrap();
        connection.write_all(&all).await.unwrap();
        connection.shutdown().await.unwrap();
    };
    let ((), answer) = tokio::join!(portal, pc.exchange(stream, &question));
    assert!(answer.unwrap() == question);
}

#[tokio::test]
async fn uploads_that_the_portal_does_not_read_bind_a_bounded_amount() {
    let mut office = Office::open().await;
    let mut pc = office.admit(60).await;
    pc.connect().await;
    let (streams, _connections) = streams(&office, &mut pc).await;
    let data = Bytes::from(pattern(4 * MEGABYTE));
    let mut left = vec![data.clone(); STREAMS];
    let mut quiet_since = tokio::time::Instant::now();
    pc.run_until("stalled", |pc| {
        for (stream, left) in streams.iter().zip(&mut left) {
            if pc.tunnel.write(*stream, left).unwrap() > 0 {
                quiet_since = tokio::time::Instant::now();
            }
        }
        quiet_since.elapsed() > Duration::from_millis(800)
    })
    .await;
    let taken: usize = left.iter().map(|left| data.len() - left.len()).sum();
    assert!(taken < BOUND, "{taken} bytes taken");
    a_new_pc_is_served(&mut office).await;
}

#[tokio::test]
async fn downloads_that_the_pc_does_not_acknowledge_bind_a_bounded_amount() {
    let mut office = Office::open().await;
    let mut pc = office.admit(60).await;
    pc.connect().await;
    let (_streams, connections) = streams(&office, &mut pc).await;
    // From here on the PC says nothing any more.
    let data = pattern(4 * MEGABYTE);
    let mut taken = 0;
    let mut quiet = 0;
    while quiet < 8 {
        let before = taken;
        for connection in &connections {
            while let Ok(written) = connection.try_write(&data) {
                taken += written;
            }
        }
        quiet = if taken > before { 0 } else { quiet + 1 };
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The portal's own buffers are the portal's to bound.
    let mut theirs = 0;
    for connection in &connections {
        theirs += socket2::SockRef::from(connection)
            .send_buffer_size()
            .unwrap();
    }
    assert!(
        taken < BOUND + theirs,
        "{taken} bytes taken, {theirs} of them the portal's"
    );
    a_new_pc_is_served(&mut office).await;
}
