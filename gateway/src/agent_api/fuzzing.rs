//! The fuzzer's way to the routes.

use hyper::Method;

use super::routes::{Route, Standing};

/// Paths that a client asks for. The first byte chooses the method and who asks. What the
/// portal is asked is written anew: nothing of the client's text but parsed ids.
pub fn agent_api_path(data: &[u8]) {
    let Some((first, path)) = data.split_first() else {
        return;
    };
    let Ok(path) = std::str::from_utf8(path) else {
        return;
    };
    let method = if first & 1 == 0 {
        Method::GET
    } else {
        Method::POST
    };
    let standing = if first & 2 == 0 {
        Standing::Stranger
    } else {
        Standing::Device
    };
    let Some(route) = Route::find(&method, path, standing) else {
        return;
    };
    if standing == Standing::Stranger {
        assert!(matches!(route, Route::Enrol | Route::Enrolment(_)));
    }
    let Some((asked, written)) = route.at_portal() else {
        return;
    };
    assert_eq!(asked, method);
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "/-".contains(c);
    assert!(written.chars().all(plain), "{written:?}");
    assert_eq!(Route::find(&method, &written, standing), Some(route));
}
