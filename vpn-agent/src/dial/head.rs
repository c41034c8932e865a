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
    /// The values of `Proxy-Authenticate`, in order.
    pub challenges: Vec<String>,
    /// How the body behind it ends.
    pub body: Body,
    /// Whether the connection goes on after the body.
    pub keeps: bool,
    /// The value of `Upgrade`, if there is one.
    pub upgrade: Option<String>,
    /// What came behind the head.
    pub rest: Vec<u8>,
}

/// How the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// After so many bytes.
    Length(u64),
    /// After a chunk of length zero.
    Chunked,
    /// With the connection.
    UntilEnd,
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
        Ok(httparse::Status::Complete(end)) => {
            let says = |name: &str, word: &str| {
                let mut words = values(answer.headers, name).flat_map(|value| value.split(','));
                words.any(|said| said.trim().eq_ignore_ascii_case(word))
            };
            // Squid and its like speak of the connection in a field of their own.
            let said_of_connection =
                |word: &str| says("connection", word) || says("proxy-connection", word);
            let mut lengths = values(answer.headers, "content-length");
            let length = lengths.next().map(|value| value.trim().parse());
            let body = match length {
                _ if says("transfer-encoding", "chunked") => Body::Chunked,
                Some(length) => Body::Length(length.map_err(|_| HeadError::Garbage)?),
                None => Body::UntilEnd,
            };
            let keeps = match answer.version {
                Some(1) => !said_of_connection("close"),
                _ => said_of_connection("keep-alive"),
            };
            Ok(Some(Head {
                status: answer.code.ok_or(HeadError::Garbage)?,
                challenges: values(answer.headers, "proxy-authenticate")
                    .map(str::to_owned)
                    .collect(),
                body,
                keeps: keeps && body != Body::UntilEnd,
                upgrade: values(answer.headers, "upgrade").next().map(str::to_owned),
                rest: bytes[end..].to_vec(),
            }))
        }
        Err(_) => Err(HeadError::Garbage),
    }
}

/// The values of the fields with this name that are text.
fn values<'a>(fields: &'a [httparse::Header<'a>], name: &'a str) -> impl Iterator<Item = &'a str> {
    let named = fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name));
    named.filter_map(|field| str::from_utf8(field.value).ok())
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

    #[test]
    fn how_a_body_ends_and_whether_the_connection_goes_on_is_told() {
        let cases: [(&str, &str, Body, bool); 7] = [
            ("1.1", "content-length: 12", Body::Length(12), true),
            (
                "1.1",
                "transfer-encoding: gzip, chunked",
                Body::Chunked,
                true,
            ),
            ("1.1", "x: y", Body::UntilEnd, false),
            (
                "1.1",
                "content-length: 0\r\nConnection: close",
                Body::Length(0),
                false,
            ),
            (
                "1.1",
                "content-length: 0\r\nProxy-Connection: Close",
                Body::Length(0),
                false,
            ),
            ("1.0", "content-length: 0", Body::Length(0), false),
            (
                "1.0",
                "content-length: 0\r\nProxy-Connection: keep-alive",
                Body::Length(0),
                true,
            ),
        ];
        for (version, fields, body, keeps) in cases {
            let text = format!("HTTP/{version} 407 No\r\n{fields}\r\n\r\n");
            let head = parse(text.as_bytes()).unwrap().unwrap();
            assert_eq!((head.body, head.keeps), (body, keeps), "{text}");
        }
        let wrong = b"HTTP/1.1 407 No\r\ncontent-length: -1\r\n\r\n";
        assert!(matches!(parse(wrong), Err(HeadError::Garbage)));
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
