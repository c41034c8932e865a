//! The answers that the gateway gives itself, and how the portal's are passed on.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::{Response, StatusCode};
use protocol::agent_api::{Refusal, RefusalCode};

use crate::portal::Answer;

/// An answer of the agent API.
pub(super) type Reply = Response<Full<Bytes>>;

/// Why the gateway itself refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// It does not exist for the caller. Nothing more is said.
    #[error("no such request")]
    NotFound,
    /// The body is longer than the limit.
    #[error("body too long")]
    TooLong,
    /// The body did not come in time.
    #[error("body too slow")]
    TooSlow,
    /// Too many tries from one source.
    #[error("too many requests")]
    TooMany,
    /// The portal cannot be asked.
    #[error("portal unavailable")]
    Unavailable,
}

impl Refused {
    pub(super) fn reply(self) -> Reply {
        let (status, code) = match self {
            Self::NotFound => return bare(StatusCode::NOT_FOUND),
            Self::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, RefusalCode::BadRequest),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, RefusalCode::BadRequest),
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, RefusalCode::TooManyRequests),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, RefusalCode::Unavailable),
        };
        let refusal = Refusal {
            code,
            sentence: self.page_text().to_owned(),
            next_opening_ms: None,
            server_time_ms: None,
        };
        match serde_json::to_vec(&refusal) {
            Ok(body) => json(status, body.into()),
            Err(_) => bare(status),
        }
    }

    /// What the user is told: what happened and what to do next.
    fn page_text(self) -> &'static str {
        match self {
            Self::NotFound => "",
            Self::TooLong => {
                "送信されたデータが大きすぎるため、受け付けられませんでした。連携アプリを最新のものに更新してから、もう一度お試しください。"
            }
            Self::TooSlow => {
                "通信に時間がかかりすぎたため、受け付けられませんでした。インターネット接続をご確認のうえ、もう一度お試しください。"
            }
            Self::TooMany => {
                "短い時間に操作が続いたため、受け付けを一時的に止めています。1分ほど待ってから、もう一度お試しください。"
            }
            Self::Unavailable => {
                "ただいま基金のシステムにつながりません。数分待ってから、もう一度お試しください。それでもつながらないときは、基金事務局へお電話ください。"
            }
        }
    }
}

/// Passes the portal's answer on as it is.
pub(super) fn passed_on(answer: Answer) -> Reply {
    let mut reply = Response::new(Full::new(answer.body));
    *reply.status_mut() = answer.status;
    if let Some(content_type) = answer.content_type {
        reply.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    never_stored(reply)
}

pub(super) fn json(status: StatusCode, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    never_stored(reply)
}

/// What comes behind this answer is no HTTP any more.
pub(super) fn switching_to(what: &'static str) -> Reply {
    let mut reply = bare(StatusCode::SWITCHING_PROTOCOLS);
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(what));
    reply
}

fn bare(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    reply
}

fn never_stored(mut reply: Reply) -> Reply {
    let no_store = HeaderValue::from_static("no-store");
    reply.headers_mut().insert(CACHE_CONTROL, no_store);
    reply
}
