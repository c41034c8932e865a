//! Style sheets and scripts, built into the program.
//!
//! An asset's URL carries a hash of its content, so that browsers keep it for good and an
//! update shows at once. Features add their scripts to [`ASSETS`].

use std::sync::OnceLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{Method, header};
use sha2::{Digest as _, Sha256};

use super::page_error::PageError;
use super::principals::Anyone;
use super::router::Routes;

/// Browsers keep an asset this long, in seconds: a year.
const KEEP: &str = "private, max-age=31536000, immutable";

struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

const ASSETS: &[Asset] = &[
    Asset {
        name: "renkei.css",
        kind: STYLE,
        bytes: include_bytes!("../../assets/renkei.css"),
    },
    Asset {
        name: "session.js",
        kind: SCRIPT,
        bytes: include_bytes!("../../assets/session.js"),
    },
    Asset {
        name: "sign_in.js",
        kind: SCRIPT,
        bytes: include_bytes!("../../assets/sign_in.js"),
    },
    Asset {
        name: "passkey.js",
        kind: SCRIPT,
        bytes: include_bytes!("../../assets/passkey.js"),
    },
    Asset {
        name: "upload.js",
        kind: SCRIPT,
        bytes: include_bytes!("../../assets/upload.js"),
    },
    Asset {
        name: "notice-file.js",
        kind: SCRIPT,
        bytes: include_bytes!("../../assets/notice-file.js"),
    },
    Asset {
        name: "office.js",
        kind: SCRIPT,
        bytes: include_bytes!("../../assets/office.js"),
    },
    Asset {
        name: "mark.js",
        kind: SCRIPT,
        bytes: include_bytes!("../../assets/mark.js"),
    },
    Asset {
        name: "icon.svg",
        kind: SVG,
        bytes: include_bytes!("../../assets/icon.svg"),
    },
];

/// Where a page finds the asset `name`, for templates.
///
/// # Panics
/// If there is no such asset: a page that names one is a mistake that its test shows.
pub fn url(name: &str) -> &'static str {
    static URLS: OnceLock<Vec<String>> = OnceLock::new();
    let urls = URLS.get_or_init(|| {
        ASSETS
            .iter()
            .map(|asset| {
                let hash = Sha256::digest(asset.bytes);
                let hash: String = hash[..6].iter().map(|byte| format!("{byte:02x}")).collect();
                format!("/assets/{}?{hash}", asset.name)
            })
            .collect()
    });
    let place = ASSETS
        .iter()
        .position(|asset| asset.name == name)
        .expect("templates name assets that exist");
    &urls[place]
}

/// Both sides' routes.
pub fn routes(routes: Routes) -> Routes {
    routes.allow::<Anyone, _, _>(Method::GET, "/assets/{name}", serve)
}

async fn serve(Anyone(): Anyone, Path(name): Path<String>) -> Result<Response, PageError> {
    let asset = ASSETS
        .iter()
        .find(|asset| asset.name == name)
        .ok_or(PageError::NotFound)?;
    let headers = [
        (header::CONTENT_TYPE, asset.kind),
        (header::CACHE_CONTROL, KEEP),
    ];
    Ok((headers, asset.bytes).into_response())
}
