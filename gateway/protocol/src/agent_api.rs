//! What the agent and the portal say to each other; the gateway relays it.
//!
//! | request | who may | answer |
//! |---|---|---|
//! | `POST /v1/enrolments` | anyone with a registration code | [`EnrolmentOpened`] |
//! | `GET /v1/enrolments/{id}` | bearer of the poll token | [`EnrolmentState`] |
//! | `GET /v1/status` | a device | [`ServiceStatus`] |
//! | `POST /v1/sessions` | a device | [`AgentGrant`] |
//! | `POST /v1/sessions/{id}/move` | a device | [`AgentGrant`] |
//! | `POST /v1/sessions/{id}/end` | a device | 204 |
//! | `POST /v1/device/certificate` | a device | [`CertificateRenewed`] |
//!
//! Every refusal has the body [`Refusal`]. "A device" means a TLS client certificate that
//! the fund issued and has not revoked. Times are Unix milliseconds, UTC.

use std::net::{Ipv6Addr, SocketAddr};

use access::EndReason;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Bytes32, Der, DeviceId, EnrolmentId, EstablishmentNumber, SessionId};

/// Asks to turn the connection into a tunnel, for networks that let no UDP pass: `GET`, with
/// `Connection: Upgrade` and `Upgrade:` [`TUNNEL_UPGRADE`], by an approved device. After the
/// answer `101 Switching Protocols` both ends send WireGuard datagrams, each behind its
/// length; the agent may begin right behind its request.
pub const TUNNEL_PATH: &str = "/v1/tunnel";

/// What the connection behind [`TUNNEL_PATH`] is turned into.
pub const TUNNEL_UPGRADE: &str = "renkei-wireguard";

/// Largest request body, in bytes. A certificate request is under 1 KB.
pub const BODY_LIMIT_BYTES: usize = 16 * 1024;

/// The header in which the gateway hands the portal the device's certificate (base64 DER).
pub const DEVICE_CERTIFICATE_HEADER: &str = "renkei-device-certificate";

/// The inner address of every gateway: QUIC listens here, inside WireGuard.
pub const GATEWAY_INNER_ADDRESS: Ipv6Addr =
    Ipv6Addr::new(0xfd72, 0x656e, 0x6b65, 0x6900, 0, 0, 0, 1);

/// The port QUIC listens on at [`GATEWAY_INNER_ADDRESS`].
pub const GATEWAY_INNER_PORT: u16 = 4433;

/// The application protocol (ALPN) of the QUIC connection inside the tunnel.
pub const TUNNEL_ALPN: &[u8] = b"renkei/1";

/// `POST /v1/enrolments`: a PC asks to be registered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentRequest {
    /// The establishment the registration code was given to.
    pub establishment: EstablishmentNumber,
    /// The registration code as typed; the portal forgives case, spaces and hyphens.
    pub code: String,
    /// PKCS #10 request, signed by the device key (ECDSA P-256).
    pub certificate_request: Der,
    /// The PC's own name, shown to staff beside the matching code. At most 64 characters.
    pub device_name: String,
    /// The agent's version.
    pub agent_version: String,
    /// The operating system, shown to staff.
    pub os: String,
}

/// The request is recorded and waits for staff.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrolmentOpened {
    /// Names the request.
    pub enrolment: EnrolmentId,
    /// Proves in later polls that the asker is the one who enrolled.
    pub poll_token: String,
    /// The portal's clock, Unix milliseconds, so that the agent can say if the PC's is wrong.
    pub server_time_ms: i64,
}

/// `GET /v1/enrolments/{id}`: what became of a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum EnrolmentState {
    /// Staff have not decided yet.
    Pending,
    /// Approved: the agent stores this and is ready to connect.
    Approved(Box<Enrolled>),
    /// Refused by staff.
    Refused {
        /// What to tell the user.
        sentence: String,
    },
}

/// What an approved PC needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Enrolled {
    /// The PC's identifier.
    pub device: DeviceId,
    /// The PC's certificate, issued by the fund's device authority.
    pub certificate: Der,
    /// The fund's service authority: it signs gateways, and the portal where no public
    /// certificate is configured.
    pub service_authority: Der,
    /// The fund's name.
    pub fund_name: String,
    /// The establishment.
    pub establishment: EstablishmentNumber,
    /// The establishment's name.
    pub establishment_name: String,
    /// The portal's member pages, `https://host/`; reachable only through the tunnel.
    pub portal_url: String,
    /// SHA-256 of the key (SubjectPublicKeyInfo) that the portal's member pages show, if their
    /// certificate is the fund's own and not a public one: the agent's window is told to
    /// trust this one key, whose private half only the portal holds.
    #[serde(default)]
    pub portal_key_sha256: Option<Bytes32>,
    /// Base URLs of all gateways, best first.
    pub gateways: Vec<String>,
}

/// `POST /v1/device/certificate`: a registered PC asks for a certificate that lasts longer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRequest {
    /// PKCS #10 request, signed by the same device key as ever.
    pub certificate_request: Der,
}

/// The certificate to use from now on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CertificateRenewed {
    /// Issued by the fund's device authority, for the key that the PC has.
    pub certificate: Der,
    /// When it expires, Unix milliseconds.
    pub expires_ms: i64,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// The portal's clock, Unix milliseconds.
    pub server_time_ms: i64,
    /// Whether a session could start now.
    pub open: bool,
    /// Why not, and when next, for the user.
    pub sentence: Option<String>,
    /// When the service opens next, Unix milliseconds.
    pub next_opening_ms: Option<i64>,
    /// Whether this calendar is a rehearsal's that never closes.
    pub rehearsal: bool,
    /// Base URLs of all gateways as they are now, best first. Empty: nothing is said of them.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// When the certificate that the PC showed expires, Unix milliseconds.
    #[serde(default)]
    pub certificate_expires_ms: Option<i64>,
}

/// `POST /v1/sessions`: the device asks to be let in. `POST /v1/sessions/{id}/move`: it asks
/// to go on with its session through the gateway that is asked, until the same deadline.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    /// A WireGuard public key made for this request alone.
    pub wireguard_public_key: Bytes32,
    /// ECDSA P-256 / SHA-256 (ASN.1 DER) by the device key over [`session_message`], or
    /// [`move_message`]. The gateway can relay the request but not make one.
    pub signature: Der,
}

/// Returns what a device signs to open a session. The key is new for each session and the
/// portal takes each only once, so that a recorded request opens nothing.
pub fn session_message(device: &DeviceId, wireguard_public_key: &Bytes32) -> Vec<u8> {
    [
        b"renkei session v1\0".as_slice(),
        device.as_uuid().as_bytes(),
        &wireguard_public_key.0,
    ]
    .concat()
}

/// Returns what a device signs to take a session that it has to another gateway: message and
/// rules are those of [`session_message`], with the session named.
pub fn move_message(
    device: &DeviceId,
    session: &SessionId,
    wireguard_public_key: &Bytes32,
) -> Vec<u8> {
    [
        b"renkei move v1\0".as_slice(),
        device.as_uuid().as_bytes(),
        session.as_uuid().as_bytes(),
        &wireguard_public_key.0,
    ]
    .concat()
}

/// What the agent needs to connect.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentGrant {
    /// The session.
    pub session: SessionId,
    /// The gateway's WireGuard public key.
    pub gateway_public_key: Bytes32,
    /// The session's pre-shared key.
    pub preshared_key: Bytes32,
    /// The agent's address inside the tunnel.
    pub inner_address: Ipv6Addr,
    /// Where the gateway listens for WireGuard, best first.
    pub endpoints: Vec<SocketAddr>,
    /// The gateway's name in its certificate, for QUIC inside the tunnel.
    pub gateway_certificate_name: String,
    /// When the session ends, Unix milliseconds by the portal's clock.
    pub deadline_ms: i64,
    /// Why it will end then.
    pub deadline_reason: EndCode,
    /// The portal's clock, Unix milliseconds. `deadline_ms - server_time_ms` is what is left.
    pub server_time_ms: i64,
    /// The page to open first, `https://host/…`.
    pub portal_url: String,
    /// Whether a one-time password was sent by mail, with the address half hidden.
    pub code_mailed_to: Option<String>,
    /// Base URLs of all gateways as they are now, best first. Empty: nothing is said of them.
    #[serde(default)]
    pub gateways: Vec<String>,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For the user: what happened and what to do next, in Japanese.
    pub sentence: String,
    /// When the service opens next, Unix milliseconds, if that is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_opening_ms: Option<i64>,
    /// The portal's clock, Unix milliseconds; absent if the portal could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_time_ms: Option<i64>,
}

/// The reasons a request can be refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// Outside the service window.
    Closed,
    /// The registration code does not fit, is used up or expired.
    WrongCode,
    /// The establishment may not register more PCs.
    TooManyDevices,
    /// Too many requests; wait.
    TooManyRequests,
    /// The device was revoked, or its establishment suspended.
    Revoked,
    /// No valid device certificate.
    NoDevice,
    /// The request is malformed.
    BadRequest,
    /// No such thing.
    NotFound,
    /// The session that was to be moved is over; the sentence says why.
    SessionOver,
    /// The gateway cannot reach the portal, or the portal its database.
    Unavailable,
}

/// [`EndReason`] as it travels: the JSON word, and the QUIC application close code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum EndCode {
    /// See [`EndReason::TimeLimit`].
    TimeLimit = 1,
    /// See [`EndReason::ClosingTime`].
    ClosingTime = 2,
    /// See [`EndReason::Revoked`].
    Revoked = 3,
    /// See [`EndReason::Replaced`].
    Replaced = 4,
    /// See [`EndReason::Disconnected`].
    Disconnected = 5,
    /// See [`EndReason::GatewayStopped`].
    GatewayStopped = 6,
    /// See [`EndReason::Moved`].
    Moved = 7,
}

impl EndCode {
    /// All codes.
    pub const ALL: [Self; 7] = [
        Self::TimeLimit,
        Self::ClosingTime,
        Self::Revoked,
        Self::Replaced,
        Self::Disconnected,
        Self::GatewayStopped,
        Self::Moved,
    ];

    /// Reads a QUIC application close code.
    pub fn from_close_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|known| *known as u64 == code)
    }

    /// The word that stands in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TimeLimit => "time_limit",
            Self::ClosingTime => "closing_time",
            Self::Revoked => "revoked",
            Self::Replaced => "replaced",
            Self::Disconnected => "disconnected",
            Self::GatewayStopped => "gateway_stopped",
            Self::Moved => "moved",
        }
    }
}

impl From<EndReason> for EndCode {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::TimeLimit => Self::TimeLimit,
            EndReason::ClosingTime => Self::ClosingTime,
            EndReason::Revoked => Self::Revoked,
            EndReason::Replaced => Self::Replaced,
            EndReason::Disconnected => Self::Disconnected,
            EndReason::GatewayStopped => Self::GatewayStopped,
            EndReason::Moved => Self::Moved,
        }
    }
}

impl From<EndCode> for EndReason {
    fn from(code: EndCode) -> Self {
        match code {
            EndCode::TimeLimit => Self::TimeLimit,
            EndCode::ClosingTime => Self::ClosingTime,
            EndCode::Revoked => Self::Revoked,
            EndCode::Replaced => Self::Replaced,
            EndCode::Disconnected => Self::Disconnected,
            EndCode::GatewayStopped => Self::GatewayStopped,
            EndCode::Moved => Self::Moved,
        }
    }
}

/// What the gateway tells an agent inside the tunnel: one JSON text per message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum TunnelMessage {
    /// The session will end earlier than the grant said.
    Deadline {
        /// The new deadline, Unix milliseconds by the portal's clock.
        deadline_ms: i64,
        /// Why it will end then.
        reason: EndCode,
    },
}

/// Returns the code that the clerk reads out on the telephone and staff compare, made by
/// both sides from the device's public key (SubjectPublicKeyInfo, DER): eight digits in two
/// groups, `1234-5678`. It shows that the request on staff's screen is this PC's.
pub fn matching_code(public_key_info: &[u8]) -> String {
    let hash = Sha256::new()
        .chain_update(b"renkei matching v1\0")
        .chain_update(public_key_info)
        .finalize();
    let mut number = [0; 8];
    number.copy_from_slice(&hash[..8]);
    let number = u64::from_be_bytes(number) % 100_000_000;
    format!("{:04}-{:04}", number / 10_000, number % 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_reason_survives_the_wire() {
        for code in EndCode::ALL {
            assert_eq!(EndCode::from(EndReason::from(code)), code);
            assert_eq!(EndCode::from_close_code(code as u64), Some(code));
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
        assert_eq!(EndCode::from_close_code(0), None);
    }

    #[test]
    fn a_matching_code_is_two_groups_of_four_digits() {
        let code = matching_code(b"some key");
        assert_eq!(code.len(), 9);
        assert_ne!(code, matching_code(b"another key"));
    }

    #[test]
    fn what_a_device_signs_for_one_purpose_fits_no_other() {
        let (device, key) = (DeviceId::from_uuid(uuid::Uuid::nil()), Bytes32([7; 32]));
        let sessions = [1, 2].map(|n| SessionId::from_uuid(uuid::Uuid::from_u128(n)));
        let [first, second] = sessions.map(|session| move_message(&device, &session, &key));
        assert_ne!(first, second);
        assert_ne!(first, session_message(&device, &key));
    }

    #[test]
    fn answers_of_an_older_portal_are_still_understood() {
        let status = r#"{"server_time_ms":1,"open":true,"sentence":null,"next_opening_ms":null,"rehearsal":false}"#;
        let status: ServiceStatus = serde_json::from_str(status).unwrap();
        assert_eq!(status.gateways, [""; 0]);
        assert_eq!(status.certificate_expires_ms, None);
    }

    #[test]
    fn an_unknown_field_in_a_request_is_refused() {
        let request = r#"{"wireguard_public_key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","signature":"","x":1}"#;
        assert!(serde_json::from_str::<SessionRequest>(request).is_err());
    }
}
