//! The fuzzer's way to the headers of the upload protocol.

use http::{HeaderMap, HeaderValue};

use super::{UPLOAD_LENGTH, UPLOAD_METADATA, file_name, number};
use crate::filings::names::NAME_LIMIT_CHARS;
use crate::uploads::{FILE_LIMIT_BYTES, check_length};
use crate::web::download;

/// `Upload-Metadata` and `Upload-Length`, one on each line. A name that is taken can be
/// handed out again.
pub fn upload_headers(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for (name, line) in [UPLOAD_METADATA, UPLOAD_LENGTH]
        .into_iter()
        .zip(data.split(|byte| *byte == b'\n'))
    {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.insert(name, value);
        }
    }
    if let Some(length) = number(&headers, &UPLOAD_LENGTH) {
        let fits = check_length(length).is_ok();
        assert_eq!(fits, (1..=FILE_LIMIT_BYTES).contains(&length));
    }
    if let Ok(name) = file_name(&headers) {
        let name = name.as_str();
        assert!(!name.is_empty() && name.chars().count() <= NAME_LIMIT_CHARS);
        assert!(!name.contains(|c: char| c.is_control() || matches!(c, '/' | '\\')));
        let response = download::attachment(name, download::PDF, Vec::new());
        let disposition = response.headers().get(http::header::CONTENT_DISPOSITION);
        assert!(disposition.is_some_and(|value| value.as_bytes().starts_with(b"attachment; ")));
    }
}
