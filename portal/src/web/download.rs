//! Handing files to browsers, with names that survive (RFC 6266).

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

/// PDF.
pub const PDF: &str = "application/pdf";
/// Zip.
pub const ZIP: &str = "application/zip";
/// CSV in UTF-8.
pub const CSV: &str = "text/csv; charset=utf-8";
/// PNG.
pub const PNG: &str = "image/png";

/// A file to keep. It is never shown in the browser: what an establishment sent must not run
/// there, however well it was checked.
pub fn attachment(name: &str, kind: &'static str, bytes: Vec<u8>) -> Response {
    let mut response = Body::from(bytes).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_DISPOSITION, disposition(name));
    response
}

/// A picture for a page of ours.
pub fn picture(png: Vec<u8>) -> Response {
    let mut response = Body::from(png).into_response();
    let kind = HeaderValue::from_static(PNG);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// `attachment; filename="20240524_0123_.pdf"; filename*=UTF-8''20240524_0123_%E8…`
fn disposition(name: &str) -> HeaderValue {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fallback: String = name.chars().filter(|c| plain(*c)).collect();
    let encoded: String = name
        .bytes()
        .map(|byte| match char::from(byte) {
            c if plain(c) => c.to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    let text = format!("attachment; filename=\"{fallback}\"; filename*=UTF-8''{encoded}");
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn japanese_names_travel_encoded_with_a_plain_one_beside_them() {
        assert_eq!(
            disposition("20240524_0123_届 1\".pdf"),
            "attachment; filename=\"20240524_0123_1.pdf\"; \
             filename*=UTF-8''20240524_0123_%E5%B1%8A%201%22.pdf"
        );
    }
}
