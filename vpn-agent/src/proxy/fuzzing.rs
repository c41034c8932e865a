//! The fuzzer's way through the loopback proxy's reader of requests to its guard.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::header::HOST;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guard::{self, PAGE_HOST, Verdict};
use super::{http, plain};
use crate::urls::PortalUrl;

/// Whatever a local program sends to the proxy's port. Only `CONNECT` to the portal's own
/// host and port leads to the portal, and only proxy-form requests for the page's made-up
/// host lead to the page.
pub fn proxy_requests(data: &[u8]) {
    let portal: PortalUrl = "https://portal.example.jp/"
        .parse()
        .expect("an address of ours");
    let passed = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&passed);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let host = request.headers().get(HOST).map(|value| value.as_bytes());
        let verdict = guard::judge(request.method(), request.uri(), host, Some(&portal));
        seen.lock().unwrap_or_else(PoisonError::into_inner).push((
            verdict,
            request.method().clone(),
            request.uri().to_string(),
        ));
        async { Ok::<_, Infallible>(plain(StatusCode::FORBIDDEN)) }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without threads");
    runtime.block_on(async {
        let stream = TokioIo::new(Fixed(data));
        // What is no HTTP ends the connection.
        let _ = http().serve_connection(stream, service).await;
    });
    let passed = std::mem::take(&mut *passed.lock().unwrap_or_else(PoisonError::into_inner));
    for (verdict, method, uri) in passed {
        let uri = uri.to_ascii_lowercase();
        match verdict {
            Verdict::Portal => {
                assert_eq!(
                    (method, uri.as_str()),
                    (Method::CONNECT, "portal.example.jp:443")
                );
            }
            Verdict::Page => {
                assert!(method == Method::GET || method == Method::POST);
                let rest = uri
                    .strip_prefix("http://")
                    .and_then(|rest| rest.strip_prefix(PAGE_HOST));
                let rest = rest.map(|rest| rest.strip_prefix(":80").unwrap_or(rest));
                assert!(
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?'])),
                    "{uri}"
                );
            }
            Verdict::NotConnected => panic!("there is a session"),
            Verdict::Refused => {}
        }
    }
}

/// A connection that says what it has to say, hangs up, and listens to nothing.
struct Fixed<'a>(&'a [u8]);

impl AsyncRead for Fixed<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (now, later) = self.0.split_at(self.0.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Fixed<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buffer.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
