//! The page that opens password zips: takes a file, asks for the password, shows the PDFs.
//!
//! Everything comes from [`crate::documents`] and goes to this launch's own window; nothing is
//! written to a disk, unless the clerk asks the browser to save a document.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use askama::Template;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use hyper::{Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::views::{Frame, Shown, finish, frame};
use super::{html, insert, protect, see};
use crate::documents::{Desk, DeskError, FILE_LIMIT_BYTES, Kind, Listed, Sight, Step};
use crate::os::{self, ZipOpener};

/// The desk of this launch, and what the clerk was told last.
#[derive(Debug, Default)]
pub(super) struct Reading {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    desk: Desk,
    problems: Vec<String>,
}

#[derive(Template)]
#[template(path = "documents.html")]
struct DocumentsPage<'a> {
    frame: Frame<'a>,
    sight: Sight,
    problems: Vec<String>,
    opener: ZipOpener,
}

/// One line of the list, as the template shows it.
impl Listed {
    /// `/documents/3/0/%E9%80%9A%E7%9F%A5.pdf`
    fn address(&self, number: &u64, index: &usize) -> String {
        let name = utf8_percent_encode(&self.name, NON_ALPHANUMERIC);
        format!("/documents/{number}/{index}/{name}")
    }

    /// `12KB`, `3.4MB`
    fn size(&self) -> String {
        const KIB: usize = 1024;
        match self.size_bytes {
            bytes if bytes < KIB * KIB => format!("{}KB", bytes.div_ceil(KIB)),
            bytes => {
                let tenths = bytes * 10 / (KIB * KIB);
                format!("{}.{}MB", tenths / 10, tenths % 10)
            }
        }
    }

    fn is_pdf(&self) -> bool {
        self.kind == Kind::Pdf
    }
}

impl Reading {
    /// Reads a file of this PC and lays it on the desk.
    ///
    /// # Errors
    /// The sentence for the user. What is wrong with the zip itself stands on the page.
    pub(super) async fn lay_file(&self, path: &Path, now: Instant) -> Result<(), String> {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let path = path.to_owned();
        let read = tokio::task::spawn_blocking(move || read_bounded(&path)).await;
        match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(bytes) => {
                self.lay(name, bytes, now).await;
                Ok(())
            }
            Err(error) => Err(format!(
                "「{name}」を読み取れませんでした（{error}）。ファイルの場所とアクセス権をご確認ください。"
            )),
        }
    }

    /// Lays a file on the desk; what came of it stands on the page.
    pub(super) async fn lay(&self, name: String, bytes: Zeroizing<Vec<u8>>, now: Instant) {
        self.work(move |desk| desk.lay(&name, bytes, now).map(drop::<Step>))
            .await;
    }

    /// Tries the typed password.
    pub(super) async fn unlock(&self, typed: String, now: Instant) -> StatusCode {
        if self.work(move |desk| desk.unlock(typed, now)).await {
            StatusCode::OK
        } else {
            StatusCode::UNPROCESSABLE_ENTITY
        }
    }

    /// Puts everything away.
    pub(super) async fn close(&self) -> Response<Full<Bytes>> {
        let mut shared = self.shared.lock().await;
        shared.desk.clear();
        shared.problems.clear();
        see("/documents")
    }

    /// Whether something lies on the desk, or its password is remembered.
    pub(super) async fn is_in_use(&self) -> bool {
        self.shared.lock().await.desk.poll_timeout().is_some()
    }

    /// Wipes what nobody looked at for long.
    pub(super) async fn tidy(&self, now: Instant) {
        self.shared.lock().await.desk.handle_timeout(now);
    }

    /// Deriving keys and decrypting takes up to a second: not on the thread that waits.
    async fn work(
        &self,
        job: impl FnOnce(&mut Desk) -> Result<(), DeskError> + Send + 'static,
    ) -> bool {
        let shared = self.shared.clone();
        let worked = tokio::task::spawn_blocking(move || {
            let mut shared = shared.blocking_lock();
            let done = job(&mut shared.desk);
            shared.problems = done
                .as_ref()
                .err()
                .map(DeskError::page_texts)
                .unwrap_or_default();
            done.is_ok()
        });
        worked.await.unwrap_or(false)
    }

    /// The page as things stand.
    pub(super) async fn show(
        &self,
        shown: &Shown<'_>,
        status: StatusCode,
    ) -> Response<Full<Bytes>> {
        let (sight, problems) = {
            let mut shared = self.shared.lock().await;
            (shared.desk.look(shown.now.mono), shared.problems.clone())
        };
        let page = DocumentsPage {
            frame: frame(shown, None),
            sight,
            problems,
            opener: os::zip_opener(),
        };
        html(status, finish(page.render()), None)
    }

    /// One document; `rest` is the address behind `/documents/`.
    pub(super) async fn document(
        &self,
        rest: &str,
        save: bool,
        now: Instant,
    ) -> Response<Full<Bytes>> {
        let mut parts = rest.splitn(3, '/');
        let number = parts.next().and_then(|part| part.parse().ok());
        let index = parts.next().and_then(|part| part.parse().ok());
        let (Some(number), Some(index)) = (number, index) else {
            return see("/documents");
        };
        let found = self.shared.lock().await.desk.document(number, index, now);
        // What is no PDF is neither shown nor handed out: it was never asked for.
        let Some(document) = found.filter(|document| document.kind == Kind::Pdf) else {
            return see("/documents");
        };
        let mut response = Response::new(Full::from(document.bytes));
        protect(&mut response, None);
        insert(&mut response, CONTENT_TYPE, "application/pdf");
        let manner = if save { "attachment" } else { "inline" };
        let name = utf8_percent_encode(&document.name, NON_ALPHANUMERIC);
        let disposition = format!("{manner}; filename=\"document.pdf\"; filename*=UTF-8''{name}");
        insert(&mut response, CONTENT_DISPOSITION, &disposition);
        response
    }
}

/// The file's name as the page's script sends it.
pub(super) fn sent_name(header: Option<&hyper::header::HeaderValue>) -> String {
    let encoded = header
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    percent_decode_str(encoded).decode_utf8_lossy().into_owned()
}

fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    use std::io::Read as _;
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // One more than allowed, so that the desk sees that it is too much.
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_LIMIT_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
