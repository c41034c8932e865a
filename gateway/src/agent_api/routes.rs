//! Which requests there are, and for whom.
//!
//! What a caller may not ask does not exist for it: the answer is the same bare 404 as for a
//! path that nobody has. Ids are parsed here and written anew for the portal; the text that
//! a client sent is not passed on.

use hyper::Method;
use protocol::{EnrolmentId, SessionId};

/// A request that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// `POST /v1/enrolments`
    Enrol,
    /// `GET /v1/enrolments/{id}`
    Enrolment(EnrolmentId),
    /// `GET /v1/status`
    Status,
    /// `POST /v1/sessions`
    OpenSession,
    /// `POST /v1/sessions/{id}/move`
    MoveSession(SessionId),
    /// `POST /v1/sessions/{id}/end`
    EndSession(SessionId),
    /// `POST /v1/device/certificate`
    RenewCertificate,
}

/// Whether the caller showed a device certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Stranger,
    Device,
}

impl Route {
    /// Finds the request, if it exists for the caller.
    pub(super) fn find(method: &Method, path: &str, standing: Standing) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix("/v1/")?.splitn(4, '/').collect();
        let route = match (method, parts.as_slice()) {
            (&Method::POST, ["enrolments"]) => Self::Enrol,
            (&Method::GET, ["enrolments", id]) => Self::Enrolment(id.parse().ok()?),
            (&Method::GET, ["status"]) => Self::Status,
            (&Method::POST, ["sessions"]) => Self::OpenSession,
            (&Method::POST, ["sessions", id, "move"]) => Self::MoveSession(id.parse().ok()?),
            (&Method::POST, ["sessions", id, "end"]) => Self::EndSession(id.parse().ok()?),
            (&Method::POST, ["device", "certificate"]) => Self::RenewCertificate,
            _ => return None,
        };
        match (route, standing) {
            (_, Standing::Device) | (Self::Enrol | Self::Enrolment(_), Standing::Stranger) => {
                Some(route)
            }
            (
                Self::Status
                | Self::OpenSession
                | Self::MoveSession(_)
                | Self::EndSession(_)
                | Self::RenewCertificate,
                Standing::Stranger,
            ) => None,
        }
    }

    /// The method and path at the portal.
    pub(super) fn at_portal(self) -> (Method, String) {
        match self {
            Self::Enrol => (Method::POST, "/v1/enrolments".to_owned()),
            Self::Enrolment(id) => (Method::GET, format!("/v1/enrolments/{id}")),
            Self::Status => (Method::GET, "/v1/status".to_owned()),
            Self::OpenSession => (Method::POST, "/v1/sessions".to_owned()),
            Self::MoveSession(id) => (Method::POST, format!("/v1/sessions/{id}/move")),
            Self::RenewCertificate => (Method::POST, "/v1/device/certificate".to_owned()),
            Self::EndSession(id) => (Method::POST, format!("/v1/sessions/{id}/end")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0193b3c4-0000-7000-8000-000000000001";

    #[test]
    fn a_stranger_finds_only_the_enrolment() {
        let find = |method, path: &str| Route::find(&method, path, Standing::Stranger);
        assert_eq!(find(Method::POST, "/v1/enrolments"), Some(Route::Enrol));
        assert!(find(Method::GET, &format!("/v1/enrolments/{ID}")).is_some());
        for (method, path) in every_device_request() {
            assert_eq!(find(method, &path), None, "{path}");
        }
    }

    #[test]
    fn a_device_finds_everything() {
        for (method, path) in every_device_request() {
            let route = Route::find(&method, &path, Standing::Device).unwrap();
            assert_eq!(route.at_portal(), (method, path));
        }
    }

    #[test]
    fn whatever_else_a_path_holds_does_not_exist() {
        for path in [
            "",
            "/",
            "/v1",
            "/v1/",
            "/v1/status/",
            "/v1/status/x",
            "//v1/status",
            "/v1/sessions/../status",
            "/v1/sessions/1/end",
            "/control/v1/grants",
            "/v1/enrolments/..%2f..%2fcontrol",
            &format!("/v1/sessions/{ID}/end/more"),
            &format!("/v1/sessions/{ID}"),
        ] {
            for method in [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS] {
                assert_eq!(Route::find(&method, path, Standing::Device), None, "{path}");
            }
        }
        assert_eq!(
            Route::find(&Method::HEAD, "/v1/status", Standing::Device),
            None
        );
    }

    #[test]
    fn an_id_is_written_anew_for_the_portal() {
        let odd = format!("/v1/sessions/{{{}}}/end", ID.to_uppercase());
        let route = Route::find(&Method::POST, &odd, Standing::Device).unwrap();
        assert_eq!(route.at_portal().1, format!("/v1/sessions/{ID}/end"));
    }

    fn every_device_request() -> [(Method, String); 5] {
        [
            (Method::GET, "/v1/status".to_owned()),
            (Method::POST, "/v1/sessions".to_owned()),
            (Method::POST, format!("/v1/sessions/{ID}/move")),
            (Method::POST, format!("/v1/sessions/{ID}/end")),
            (Method::POST, "/v1/device/certificate".to_owned()),
        ]
    }
}
