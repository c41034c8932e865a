//! Reads the head of an HTTP/1.1 answer, and not a byte too many.
//!
//! What follows the head (`CONNECT` and `Upgrade` hand the connection over) is given back.
//! The other end may be anybody: the head is bounded, and nothing of it but the status and
//! the named fields is looked at.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Largest head that is read, in bytes. Proxies put whole pages' worth of fields into theirs.
pub const HEAD_LIMIT_BYTES: usize = 16 * 1024;

/// Most fields of a head.
const MAX_FIELDS: usize = 64;

/// What a head said.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// The value of `Upgrade`, if there is one.
    pub upgrade: Option<String>,
    /// What came behind the head.
    pub rest: Vec<u8>,
}

/// Why there is no head.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The connection failed or ended.
    #[error("no answer")]
    Io(#[from] io::Error),
    /// The answer is no HTTP/1, or its head is too long.
    #[error("not an HTTP answer")]
    Garbage,
}

/// Reads up to the end of the head and what came with it.
///
/// # Errors
/// [`HeadError`].
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Head, HeadError> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if let Some(head) = parse(&bytes)? {
            return Ok(head);
        }
        if bytes.len() >= HEAD_LIMIT_BYTES {
            return Err(HeadError::Garbage);
        }
        let room = HEAD_LIMIT_BYTES - bytes.len();
        if (&mut *stream)
            .take(room as u64)
            .read_buf(&mut bytes)
            .await?
            == 0
        {
            return Err(HeadError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// Reads a head out of `bytes`. None if its end has not come yet.
///
/// # Errors
/// [`HeadError::Garbage`] if it cannot become one.
pub fn parse(bytes: &[u8]) -> Result<Option<Head>, HeadError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    match answer.parse(bytes) {
        Ok(httparse::Status::Partial) => Ok(None),
        Ok(httparse::Status::Complete(length)) => {
            let upgrade = answer
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case("upgrade"))
                .and_then(|field| str::from_utf8(field.value).ok());
            Ok(Some(Head {
                status: answer.code.ok_or(HeadError::Garbage)?,
                upgrade: upgrade.map(str::to_owned),
                rest: bytes[length..].to_vec(),
            }))
        }
        Err(_) => Err(HeadError::Garbage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_follows_the_head_is_given_back() {
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: Renkei-WireGuard\r\n\r\n\0\x01x";
        for cut in 0..answer.len() {
            let (first, second) = answer.split_at(cut);
            let mut stream = tokio::io::join(first.chain(second), tokio::io::sink());
            let head = read(&mut stream).await.unwrap();
            assert_eq!(head.status, 101);
            assert_eq!(head.upgrade.as_deref(), Some("Renkei-WireGuard"));
            assert!(b"\0\x01x".starts_with(&head.rest));
        }
    }

    #[tokio::test]
    async fn garbage_endless_heads_and_cut_ones_are_errors() {
        let endless = [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"a: b\r\n".repeat(9000)].concat();
        let long_line = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'x'; 20_000]].concat();
        for bytes in [&endless[..], &long_line, b"SSH-2.0-x\r\n", b"\x16\x03\x01"] {
            assert!(matches!(read(&mut &*bytes).await, Err(HeadError::Garbage)));
        }
        for bytes in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1."] {
            assert!(matches!(read(&mut &*bytes).await, Err(HeadError::Io(_))));
        }
    }
}
