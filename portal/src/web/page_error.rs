//! What goes wrong in a handler, and the page that says so.
//!
//! A [`PageError`] becomes a status and a short text at once; [`dress`], which wraps all
//! routes, turns the text into a whole page with the fund's name and what to do next (or
//! into JSON for a page's own script). Nothing internal reaches a page: a failure of ours
//! shows a reference number, under which the log has the cause.

use std::error::Error as StdError;
use std::panic::AssertUnwindSafe;

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use futures_util::FutureExt as _;
use http::{HeaderMap, Request, StatusCode, header};

use super::forms::CSRF_HEADER;
use super::layout::{Layout, Side};
use super::principals::{OfficeConnection, TunnelConnection};
use crate::app::App;
use crate::custody::CustodyError;
use crate::db::StoreError;
use crate::keys::random_readable;
use crate::step_up;

/// Where a user with an initial password is sent before anything else.
pub const FIRST_PASSWORD_PATH: &str = "/first-password";
/// The page for somebody whose tunnel session is over.
const SESSION_OVER_TITLE: &str = "接続が終了しました";
/// Characters of the reference number on the page for a failure of ours.
const REFERENCE_LENGTH: usize = 8;

/// Why a handler has no page to show.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// No such thing, or nothing the asker may know of.
    #[error("not found")]
    NotFound,
    /// Nobody is signed in, or no longer.
    #[error("sign-in required")]
    SignInRequired,
    /// The tunnel session that this connection came through is over.
    #[error("tunnel session over")]
    SessionOver,
    /// The initial password must be changed first.
    #[error("initial password must be changed first")]
    FirstPasswordRequired,
    /// A step of the first sign-in must be done first; where.
    #[error("a first step must be done first: {0}")]
    FirstStepRequired(&'static str),
    /// The second factor was shown too long ago: see `step_up`.
    #[error("a second factor is required")]
    FactorRequired {
        /// Where to go back to, for a page that was opened.
        next: Option<String>,
    },
    /// The form does not carry this session's anti-forgery token.
    #[error("anti-forgery token missing or wrong")]
    Forged,
    /// The form cannot be read.
    #[error("unreadable form: {0}")]
    BadForm(String),
    /// The body is larger than this page takes.
    #[error("body too large")]
    TooLarge,
    /// The rules say no. The sentence (Japanese) says why and what to do next.
    #[error("refused: {0}")]
    Refused(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something of ours is out of order, and there is a sentence (Japanese) that says what
    /// it means for the user.
    #[error("failed to {doing}")]
    OutOfOrder {
        /// What was being done.
        doing: &'static str,
        /// For the page.
        sentence: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Something else of ours failed; says what was being done.
    #[error("failed to {doing}")]
    Internal {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// What the page will say; travels from the error to [`dress`] in the response.
#[derive(Debug, Clone)]
struct Told {
    status: StatusCode,
    title: &'static str,
    /// What happened, and what to do next.
    sentences: Vec<String>,
    /// Under which the log has the cause.
    reference: Option<String>,
    sign_in: bool,
}

/// Marks an answer that asks for a second factor; travels from the error to `step_up`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FactorAsked;

impl PageError {
    /// Wraps a failure of ours with what was being done, for `map_err`.
    pub fn doing<E: StdError + Send + Sync + 'static>(
        doing: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Internal {
            doing,
            source: Box::new(source),
        }
    }

    /// Wraps a failure of the place where documents lie, for `map_err`.
    pub fn storing(doing: &'static str) -> impl FnOnce(CustodyError) -> Self {
        move |error| match error {
            CustodyError::Vault(error) => Self::OutOfOrder {
                doing,
                sentence: error.page_text(),
                source: Box::new(error),
            },
            error @ (CustodyError::Store(_) | CustodyError::Key(_)) => Self::doing(doing)(error),
        }
    }

    fn told(&self) -> Told {
        let plain = |status, title, sentences: &[&str]| Told {
            status,
            title,
            sentences: sentences.iter().map(|text| (*text).to_owned()).collect(),
            reference: None,
            sign_in: false,
        };
        match self {
            Self::NotFound => plain(
                StatusCode::NOT_FOUND,
                "ページが見つかりません",
                &[
                    "お探しのページはないか、表示する権限がありません。",
                    "アドレスをお確かめになるか、ホームからやり直してください。",
                ],
            ),
            Self::SignInRequired | Self::FirstPasswordRequired | Self::FirstStepRequired(_) => {
                Told {
                    sign_in: true,
                    ..plain(
                        StatusCode::UNAUTHORIZED,
                        "ログインしてください",
                        &["ログインの状態が終了しました。もう一度ログインしてください。"],
                    )
                }
            }
            Self::SessionOver => plain(
                StatusCode::UNAUTHORIZED,
                SESSION_OVER_TITLE,
                &[
                    "この接続は終了しました。受け付け済みの届書は失われていません。",
                    "続けるには、接続用プログラムの画面でもう一度「接続」を押してください。",
                ],
            ),
            Self::FactorRequired { .. } => plain(
                StatusCode::FORBIDDEN,
                "もう一度ご本人の確認が必要です",
                &["前の画面に戻り、再読み込みしてください。確認のあとで、もう一度操作できます。"],
            ),
            Self::Forged => plain(
                StatusCode::FORBIDDEN,
                "画面の有効期限が切れました",
                &[
                    "安全のため、この操作は行われませんでした。",
                    "前の画面に戻り、再読み込みしてから、もう一度操作してください。",
                ],
            ),
            Self::BadForm(_) => plain(
                StatusCode::BAD_REQUEST,
                "入力内容を読み取れませんでした",
                &["前の画面に戻り、再読み込みしてから、もう一度入力してください。"],
            ),
            Self::TooLarge => plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                "送信された内容が大きすぎます",
                &["この画面で送れる大きさを超えています。内容を分けて送信してください。"],
            ),
            Self::Refused(sentence) => Told {
                sentences: vec![sentence.clone()],
                ..plain(StatusCode::CONFLICT, "この操作はできませんでした", &[])
            },
            Self::OutOfOrder { sentence, .. } => Told {
                reference: Some(random_readable(REFERENCE_LENGTH)),
                ..plain(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "ただいま処理できませんでした",
                    &[sentence],
                )
            },
            Self::Store(_) | Self::Internal { .. } => Told {
                reference: Some(random_readable(REFERENCE_LENGTH)),
                ..plain(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "ただいま処理できませんでした",
                    &[
                        "システムの都合により、操作を終えられませんでした。受け付け済みのものは失われていません。",
                        "しばらくしてから、もう一度お試しください。続くときは、下の番号を添えて基金事務局へお知らせください。",
                    ],
                )
            },
        }
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        if let Self::FirstPasswordRequired = self {
            return Redirect::to(FIRST_PASSWORD_PATH).into_response();
        }
        if let Self::FirstStepRequired(path) = self {
            return Redirect::to(path).into_response();
        }
        if let Self::FactorRequired { next: Some(next) } = &self {
            let query = serde_urlencoded::to_string([("next", next)]).unwrap_or_default();
            return Redirect::to(&format!("{}?{query}", step_up::PATH)).into_response();
        }
        let asks = matches!(self, Self::FactorRequired { .. });
        let told = self.told();
        if let Some(reference) = &told.reference {
            crate::metrics::metrics().count_failed_page();
            tracing::error!(%reference, error = %chain(&self), "a page failed");
        }
        let mut response = (told.status, told.sentences.join("\n")).into_response();
        response.extensions_mut().insert(told);
        if asks {
            response.extensions_mut().insert(FactorAsked);
        }
        response
    }
}

/// An error with all its causes, for the log.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    layout: Layout,
    title: &'static str,
    sentences: Vec<String>,
    reference: Option<String>,
}

/// Wraps all routes of one side: turns a [`PageError`]'s text into a page, and a panic into
/// the page for a failure of ours.
pub async fn dress(
    State((app, side)): State<(App, Side)>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let wants_json = is_script(request.headers());
    // What the sign-in page needs of the request, should it take this answer's place.
    let mut asked = Request::new(());
    *asked.method_mut() = request.method().clone();
    *asked.uri_mut() = request.uri().clone();
    *asked.headers_mut() = request.headers().clone();
    if let Some(tunnel) = request.extensions().get::<TunnelConnection>() {
        asked.extensions_mut().insert(*tunnel);
    }
    if let Some(office) = request.extensions().get::<OfficeConnection>() {
        asked.extensions_mut().insert(*office);
    }
    let response = AssertUnwindSafe(next.run(request))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| {
            PageError::Internal {
                doing: "answer without a panic",
                source: "the handler panicked".into(),
            }
            .into_response()
        });
    let Some(told) = response.extensions().get::<Told>().cloned() else {
        return response;
    };
    if wants_json {
        let body = serde_json::json!({
            "sentence": told.sentences.join(""),
            "reference": told.reference,
            "sign_in": told.sign_in,
        });
        return (told.status, axum::Json(body)).into_response();
    }
    if told.sign_in
        && let Some(page) = super::sign_in_again(&app, side, &mut asked.into_parts().0).await
    {
        return page;
    }
    let mut told = told;
    if told.title == SESSION_OVER_TITLE
        && let Ok(access::Opening::Closed(closed)) =
            crate::tunnel_sessions::opening(&app, app.clock.now()).await
    {
        // To press 接続 again would only be refused: say when it will not be.
        told.sentences.truncate(1);
        told.sentences.push(closed.page_text());
    }
    let page = ErrorPage {
        layout: Layout::stranger(&app, side),
        title: told.title,
        sentences: told.sentences,
        reference: told.reference,
    };
    match page.render() {
        Ok(html) => (
            told.status,
            [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
            html,
        )
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "the error page failed");
            response
        }
    }
}

/// Says whether a page's own script asks, and not a person's navigation.
fn is_script(headers: &HeaderMap) -> bool {
    headers.contains_key(CSRF_HEADER)
        || headers
            .get(header::ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.starts_with("application/json"))
}
