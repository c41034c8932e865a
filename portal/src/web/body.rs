//! Reading a request's body that is a file: bounded, as fast as it is taken, and only while
//! it keeps coming.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

/// How long the next bytes may keep us waiting.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a body was not received whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreceived {
    /// It has more than there is room for.
    TooMuch,
    /// The connection was lost, or the body is malformed.
    Cut,
    /// Nothing more came.
    Slow,
}

/// Reads a body of at most `room` bytes, as long as the next ones come within `patience`.
pub async fn receive(mut body: Body, room: u64, patience: Duration) -> Result<Vec<u8>, Unreceived> {
    let mut bytes = Vec::new();
    loop {
        let frame = timeout(patience, body.frame())
            .await
            .map_err(|_| Unreceived::Slow)?;
        match frame {
            None => return Ok(bytes),
            Some(Err(_)) => return Err(Unreceived::Cut),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                if (bytes.len() + data.len()) as u64 > room {
                    return Err(Unreceived::TooMuch);
                }
                bytes.extend_from_slice(&data);
            }
        }
    }
}
