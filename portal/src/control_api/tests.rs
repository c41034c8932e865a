use super::*;
use access::ClosedReason;

#[test]
fn every_refusal_has_a_sentence_and_hides_what_is_inside() {
    let closed = Closed {
        reason: ClosedReason::Weekend,
        today: time::macros::date!(2026 - 03 - 14),
        opens_next: None,
    };
    let all = [
        Refused::Closed(closed),
        Refused::WrongCode,
        Refused::TooManyDevices { limit: 3 },
        Refused::Revoked,
        Refused::NoDevice,
        Refused::BadRequest("secret detail"),
        Refused::NotFound,
        Refused::GatewayUnknown,
        Refused::Store(StoreError::Unreadable {
            what: "secret detail",
        }),
        Refused::Certificate("secret detail"),
    ];
    for refused in all {
        let text = refused.page_text();
        assert!(text.ends_with('。') && !text.is_ascii(), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn a_bearer_token_is_read_from_its_scheme_alone() {
    let value = |text: &'static str| HeaderValue::from_static(text);
    assert_eq!(bearer(Some(&value("Bearer abc"))), Some("abc"));
    assert_eq!(bearer(Some(&value("Basic abc"))), None);
    assert_eq!(bearer(None), None);
}
