//! A rehearsed portal: a control listener with mutual TLS that writes down what it is asked
//! and answers what the story says.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use protocol::control::{FeedLine, Grant};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::authorities::{Fund, Leaf};
use crate::grants::unix_ms;
use crate::portal::CONTROL_NAME;

/// A request as the portal got it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub line: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What the portal does with a feed that is opened.
#[derive(Debug, Clone)]
pub enum FeedStart {
    /// Begins with these live grants.
    Snapshot(Vec<Grant>),
    /// Begins with something else.
    Heartbeat,
}

#[derive(Debug)]
struct Script {
    answers: HashMap<String, (StatusCode, Bytes)>,
    feed_start: FeedStart,
    feed: Option<mpsc::UnboundedSender<Bytes>>,
    /// Answers to this line wait.
    held: Option<(String, Arc<Notify>)>,
}

/// The portal, running or stopped.
pub struct RehearsedPortal {
    pub address: SocketAddr,
    script: Arc<Mutex<Script>>,
    asked: watch::Sender<Vec<Asked>>,
    tls: TlsAcceptor,
    running: Option<JoinHandle<()>>,
}

impl RehearsedPortal {
    pub async fn start(fund: &Fund) -> Self {
        Self::start_as(fund, &fund.service(CONTROL_NAME)).await
    }

    /// With another certificate than the control listener's.
    pub async fn start_as(fund: &Fund, leaf: &Leaf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut portal = Self {
            address: listener.local_addr().unwrap(),
            script: Arc::new(Mutex::new(Script {
                answers: HashMap::new(),
                feed_start: FeedStart::Snapshot(Vec::new()),
                feed: None,
                held: None,
            })),
            asked: watch::Sender::new(Vec::new()),
            tls: TlsAcceptor::from(fund.control_listener(leaf)),
            running: None,
        };
        portal.run(listener);
        portal
    }

    /// Ends every connection and listens no more.
    pub async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        let _ = running.await;
        self.script.lock().unwrap().feed = None;
    }

    pub async fn restart(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.run(listener);
    }

    pub fn answers(&self, line: &str, status: u16, body: impl Into<Bytes>) {
        let answer = (StatusCode::from_u16(status).unwrap(), body.into());
        let mut script = self.script.lock().unwrap();
        script.answers.insert(line.to_owned(), answer);
    }

    /// Lets answers to `line` wait until told.
    pub fn holds(&self, line: &str) -> Arc<Notify> {
        let go = Arc::new(Notify::new());
        self.script.lock().unwrap().held = Some((line.to_owned(), go.clone()));
        go
    }

    pub fn starts_feed_with(&self, start: FeedStart) {
        self.script.lock().unwrap().feed_start = start;
    }

    /// Writes a line into the open feed.
    pub fn feed(&self, line: &FeedLine) {
        let script = self.script.lock().unwrap();
        script.feed.as_ref().unwrap().send(text(line)).unwrap();
    }

    /// Ends the feed but goes on listening.
    pub fn cut_feed(&self) {
        self.script.lock().unwrap().feed = None;
    }

    /// What it was asked so far, without the feed's own requests.
    pub fn asked(&self) -> Vec<Asked> {
        let all = self.asked.borrow().clone();
        let own =
            |asked: &Asked| !asked.line.ends_with("/register") && !asked.line.ends_with("/grants");
        all.into_iter().filter(own).collect()
    }

    /// Waits until it was asked `line` for the `n`th time.
    pub async fn was_asked(&self, line: &str, n: usize) -> Asked {
        let mut watching = self.asked.subscribe();
        let nth = |all: &[Asked]| {
            all.iter()
                .filter(|asked| asked.line == line)
                .nth(n - 1)
                .cloned()
        };
        let seen = watching.wait_for(|all| nth(all).is_some());
        let seen = tokio::time::timeout(super::gateway::LONG, seen).await;
        let all = seen
            .unwrap_or_else(|_| panic!("never asked {line}"))
            .unwrap();
        nth(&all).unwrap()
    }

    fn run(&mut self, listener: TcpListener) {
        let (tls, script, asked) = (self.tls.clone(), self.script.clone(), self.asked.clone());
        self.running = Some(tokio::spawn(async move {
            // Dropped with this task, and all connections with it.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (tls, script, asked) = (tls.clone(), script.clone(), asked.clone());
                connections.spawn(async move {
                    let Ok(stream) = tls.accept(socket).await else {
                        return;
                    };
                    let service = service_fn(|request| answer(&script, &asked, request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        }));
    }
}

async fn answer(
    script: &Mutex<Script>,
    asked: &watch::Sender<Vec<Asked>>,
    request: Request<Incoming>,
) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let line = format!("{} {}", head.method, head.uri);
    let body = body.collect().await?.to_bytes();
    asked.send_modify(|all| {
        all.push(Asked {
            line: line.clone(),
            headers: head.headers,
            body,
        });
    });
    let held = script.lock().unwrap().held.clone();
    if let Some((_, go)) = held.filter(|(held, _)| *held == line) {
        go.notified().await;
    }
    let mut script = script.lock().unwrap();
    if line == "GET /control/v1/grants" && !script.answers.contains_key(&line) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let server_time_ms = unix_ms(crate::clock::now().wall);
        let first = match script.feed_start.clone() {
            FeedStart::Snapshot(grants) => FeedLine::Snapshot {
                server_time_ms,
                grants,
            },
            FeedStart::Heartbeat => FeedLine::Heartbeat { server_time_ms },
        };
        sender.send(text(&first)).unwrap();
        script.feed = Some(sender);
        let lines = stream::unfold(receiver, |mut receiver| async move {
            let line = receiver.recv().await?;
            Some((Ok(Frame::data(line)), receiver))
        });
        return Ok(Response::new(StreamBody::new(lines).boxed_unsync()));
    }
    let unscripted = match line.ends_with("/register") || line.ends_with("/ended") {
        true => (StatusCode::NO_CONTENT, Bytes::new()),
        false => (StatusCode::NOT_FOUND, Bytes::new()),
    };
    let (status, body) = script.answers.get(&line).cloned().unwrap_or(unscripted);
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    response
        .headers_mut()
        .insert("x-internal", "secret".parse().unwrap());
    Ok(response)
}

fn text(line: &FeedLine) -> Bytes {
    format!("{}\n", serde_json::to_string(line).unwrap()).into()
}
