//! What the fuzzer does to the portal's own readers, one function for each target.
//!
//! Only compiled for tests and under the feature `fuzzing`. Each function takes any bytes,
//! must not panic, and states what holds whatever they are.

use archive::{DIRECTORY_LIMIT, ENTRY_LIMIT, Password};
use http::{HeaderMap, HeaderValue, header};
use protocol::EstablishmentNumber;
use time::{Date, Month, OffsetDateTime};

use crate::authenticator::Authenticator;
use crate::authority::DeviceRequest;
use crate::config::Config;
use crate::filings::kinds::Kinds;
use crate::filings::{names, pdf};
use crate::{control_api, one_time_codes};

pub use crate::uploads::pages::fuzzing::upload_headers;
pub use archive::fuzzing::entry_name;

/// A password zip, together with the password that the corpus uses.
pub fn password_zip(data: &[u8]) {
    let _ = archive::looks_like_zip(data);
    match archive::open(data, None) {
        Ok(_) => panic!("opened without a password"),
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(!problem.error.page_text().is_empty());
            }
        }
    }
    match archive::open(data, Some(&Password::new("password".to_owned()))) {
        Ok(opened) => {
            assert!(!opened.entries.is_empty() && opened.entries.len() <= ENTRY_LIMIT);
            for entry in opened.entries {
                let unwanted = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':');
                assert!(!entry.name.contains(unwanted), "{:?}", entry.name);
            }
        }
        Err(problems) => assert!((1..=DIRECTORY_LIMIT).contains(&problems.len())),
    }
}

/// A PDF that somebody hands in.
pub fn pdf_scanner(data: &[u8]) {
    match pdf::check(data) {
        Ok(checked) => {
            assert!((1..=pdf::PAGE_LIMIT).contains(&checked.pages));
            assert!(pdf::looks_like_pdf(data));
        }
        Err(error) => assert!(!error.page_text().is_empty()),
    }
}

/// The name of a filing: what is accepted or suggested is a right name of this establishment.
pub fn filing_name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let own = EstablishmentNumber::new(123).expect("under 10,000");
    let today = Date::from_calendar_date(2026, Month::November, 20).ok();
    let kinds = Kinds::of_a_new_portal();
    for today in [today, None] {
        let right = match names::parse(text, own, today, &kinds) {
            Ok(name) => Some(name),
            Err(error) => {
                assert!(!error.faults().is_empty() && !error.page_text().is_empty());
                error.suggestion()
            }
        };
        if let Some(name) = right {
            assert_eq!(names::parse(&name.file_name(), own, None, &kinds), Ok(name));
            assert_eq!(name.establishment(), own);
        }
    }
}

/// A PC's certificate request (PKCS #10).
pub fn certificate_request(data: &[u8]) {
    if let Ok(request) = DeviceRequest::read(data) {
        let key = request.public_key_info();
        assert!(!key.is_empty() && key.len() < data.len());
    }
}

/// The settings file.
pub fn portal_config(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        // Refused or not, nothing more is known of it here.
        let _ = toml::from_str::<Config>(text);
    }
}

/// What people type or programs send in single fields: codes, secrets, tokens.
pub fn typed_fields(data: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(data) {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value);
        let _ = control_api::bearer(headers.get(header::AUTHORIZATION));
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let digits = one_time_codes::digits(text);
    assert!(digits.len() <= 16 && digits.chars().all(|c| c.is_ascii_digit()));
    assert_eq!(one_time_codes::digits(&digits), digits);
    if let Some(authenticator) = Authenticator::from_base32(text) {
        let now = OffsetDateTime::UNIX_EPOCH;
        // Too short a secret gives no code.
        if let Some(code) = authenticator.code_at(now) {
            assert!(authenticator.check(&code, now).is_some());
        }
        let _ = authenticator.check(text, now);
    }
}

#[cfg(test)]
mod tests {
    use replay::replay;

    #[test]
    fn the_corpus_of_zips_breaks_nothing() {
        replay("password_zip", super::password_zip);
    }

    #[test]
    fn the_corpus_of_pdfs_breaks_nothing() {
        replay("pdf_scanner", super::pdf_scanner);
    }

    #[test]
    fn the_corpus_of_filing_names_breaks_nothing() {
        replay("filing_name", super::filing_name);
    }

    #[test]
    fn the_corpus_of_entry_names_breaks_nothing() {
        replay("entry_name", super::entry_name);
    }

    #[test]
    fn the_corpus_of_certificate_requests_breaks_nothing() {
        replay("certificate_request", super::certificate_request);
    }

    #[test]
    fn the_corpus_of_settings_breaks_nothing() {
        replay("portal_config", super::portal_config);
    }

    #[test]
    fn the_corpus_of_typed_fields_breaks_nothing() {
        replay("typed_fields", super::typed_fields);
    }

    #[test]
    fn the_corpus_of_upload_headers_breaks_nothing() {
        replay("upload_headers", super::upload_headers);
    }
}
