//! Hands out the agent's updates: a signed manifest and the programs that it names, from one
//! folder (`agent_updates_dir`) that the operator fills.
//!
//! The portal cannot make or change an update: it holds no signing key, and agents believe
//! only what is signed. Nothing else of the disk can be reached: a name is one path element
//! of plain characters, and what is no ordinary file does not exist. Agents ask through their
//! tunnel, without anybody being signed in.

use std::io;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::extract::{self, State};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderValue, Method, header};
use protocol::updates::{
    FILES_PATH, MANIFEST_FILE, MANIFEST_LIMIT_BYTES, MANIFEST_PATH, Name, PROGRAM_LIMIT_BYTES,
};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, Take};

use crate::app::App;
use crate::web::page_error::PageError;
use crate::web::principals::Visitor;
use crate::web::router::Routes;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// The route of a program; begins with [`FILES_PATH`].
const PROGRAM_ROUTE: &str = "/agent/files/{name}";

/// The routes of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    debug_assert!(PROGRAM_ROUTE.starts_with(FILES_PATH));
    routes
        .allow::<Visitor, _, _>(Method::GET, MANIFEST_PATH, manifest)
        .allow::<Visitor, _, _>(Method::GET, PROGRAM_ROUTE, program)
}

/// `GET /agent/update.json`
async fn manifest(_: Visitor, State(app): State<App>) -> Result<Response, PageError> {
    let path = folder(&app)?.join(MANIFEST_FILE);
    answer(&path, MANIFEST_LIMIT_BYTES as u64, "application/json").await
}

/// `GET /agent/files/{name}`
async fn program(
    _: Visitor,
    State(app): State<App>,
    extract::Path(name): extract::Path<String>,
) -> Result<Response, PageError> {
    let name: Name = name.parse().map_err(|_| PageError::NotFound)?;
    let path = folder(&app)?.join(name.as_str());
    answer(&path, PROGRAM_LIMIT_BYTES, "application/octet-stream").await
}

fn folder(app: &App) -> Result<PathBuf, PageError> {
    let folder = app.config.agent_updates_dir.clone();
    folder.ok_or(PageError::NotFound)
}

/// The file at `path`, if it is an ordinary one of at most `limit` bytes.
async fn answer(path: &Path, limit: u64, kind: &'static str) -> Result<Response, PageError> {
    let (file, size) = match open(path).await {
        Ok(Some(found)) => found,
        Ok(None) => return Err(PageError::NotFound),
        Err(error) => return Err(PageError::doing("read an update of the agent")(error)),
    };
    if size > limit {
        tracing::error!(path = %path.display(), size, limit, "too long to be an update");
        return Err(PageError::NotFound);
    }
    // A file that grows meanwhile does not get longer than what was announced.
    let mut response =
        Body::from_stream(stream::try_unfold(file.take(size), chunk)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    Ok(response)
}

/// Opens an ordinary file; its length. `None`: there is none.
async fn open(path: &Path) -> io::Result<Option<(File, u64)>> {
    // Looked at before it is opened: opening a FIFO would wait for its writer.
    let found = match tokio::fs::metadata(path).await {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !found.is_file() {
        return Ok(None);
    }
    let file = File::open(path).await?;
    let size = file.metadata().await?.len();
    Ok(Some((file, size)))
}

async fn chunk(mut file: Take<File>) -> io::Result<Option<(Bytes, Take<File>)>> {
    let mut bytes = BytesMut::with_capacity(CHUNK_BYTES);
    let read = file.read_buf(&mut bytes).await?;
    Ok((read > 0).then(|| (bytes.freeze(), file)))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::keys::MasterKey;
    use crate::testing::people::{self, Browser, USER_ID, Way};
    use crate::testing::{NOW, config, sqlite};

    #[tokio::test]
    async fn an_agent_gets_manifest_and_program_and_nothing_else_of_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let updates = folder.path().join("updates");
        std::fs::create_dir_all(updates.join("folder")).unwrap();
        std::fs::write(folder.path().join("secret"), "secret").unwrap();
        std::fs::write(updates.join(MANIFEST_FILE), "{}").unwrap();
        std::fs::write(updates.join(".hidden"), "secret").unwrap();
        let program: String = (0..100_000).map(|n| format!("{n:08}")).collect();
        std::fs::write(updates.join("vpn-agent-1.0.0"), &program).unwrap();
        let long = std::fs::File::create(updates.join("long")).unwrap();
        long.set_len(PROGRAM_LIMIT_BYTES + 1).unwrap();

        let db = sqlite().await;
        let config = Config {
            documents_dir: folder.path().join("documents"),
            agent_updates_dir: Some(updates),
            ..config("")
        };
        let keys = MasterKey::generate();
        let app = App::start(db.db.clone(), Clock::set_to(NOW), keys, config);
        let app = app.await.unwrap();
        let place = people::place(&app, "0123", USER_ID).await;
        let router = crate::web::member_router(app.clone());
        let mut agent = Browser::new(router, Way::Tunnel(place.session));

        assert_eq!(agent.get(MANIFEST_PATH).await.text, "{}");
        let answer = agent.get("/agent/files/vpn-agent-1.0.0").await;
        assert_eq!(answer.headers[header::CONTENT_LENGTH], "800000");
        assert!(answer.text == program);
        for name in [
            "folder",
            ".hidden",
            "..%2Fsecret",
            "%2e%2e%2fsecret",
            "..",
            "long",
            "none",
        ] {
            let status = agent.get(&format!("/agent/files/{name}")).await.status;
            assert_eq!(status, StatusCode::NOT_FOUND, "{name}");
        }
    }

    #[tokio::test]
    async fn where_nothing_is_offered_there_is_nothing() {
        let db = sqlite().await;
        let app = crate::testing::app(&db).await;
        let place = people::place(&app, "0123", USER_ID).await;
        let router = crate::web::member_router(app.clone());
        let mut agent = Browser::new(router, Way::Tunnel(place.session));
        for path in [MANIFEST_PATH, "/agent/files/vpn-agent-1.0.0"] {
            assert_eq!(agent.get(path).await.status, StatusCode::NOT_FOUND);
        }
    }
}
