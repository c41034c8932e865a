//! The authenticated PROXY protocol header in front of each connection that a gateway
//! opens to the portal's member listener (PROXY v2, HAProxy proxy-protocol.txt §2.2).
//!
//! The header's source is the device's inner address. One custom TLV (type 0xE0) carries
//! the session's id and an HMAC-SHA-256 over addresses and id under the session's
//! `proxy_key`: only the gateway that holds the grant can speak for the session.

use std::net::{Ipv6Addr, SocketAddrV6};

use hmac::{Hmac, KeyInit as _, Mac as _};
use ppp::v2::{Addresses, Builder, Command, Header, IPv6, Protocol, Version};
use sha2::Sha256;
use uuid::Uuid;

use crate::{Bytes32, SessionId};

/// TLV type of the session claim, from the range for custom use (0xE0–0xEF).
const SESSION_TLV: u8 = 0xE0;

/// Session id (16) and HMAC (32), in bytes.
const CLAIM_BYTES: usize = 16 + 32;

/// Length of every header that [`encode`] makes, in bytes: fixed part, addresses, TLV.
pub const HEADER_BYTES: usize = 16 + 36 + 3 + CLAIM_BYTES;

/// A claim read from a header, not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    session: SessionId,
    source: SocketAddrV6,
    destination: SocketAddrV6,
    tag: [u8; 32],
}

/// A connection whose header was made by the holder of the session's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The session.
    pub session: SessionId,
    /// The device's address inside the tunnel.
    pub inner_address: Ipv6Addr,
}

/// Why a connection's first bytes were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Not a PROXY v2 header of our length and kind.
    #[error("not a renkei PROXY v2 header")]
    Malformed,
    /// The HMAC does not fit: the sender does not hold this session's key.
    #[error("PROXY header of session {0} is not authentic")]
    Forged(SessionId),
}

/// Makes the header for a connection of `session` from `source` (the device, inside the
/// tunnel) to `destination` (where it thinks it goes).
pub fn encode(
    session: SessionId,
    source: SocketAddrV6,
    destination: SocketAddrV6,
    proxy_key: &Bytes32,
) -> Vec<u8> {
    let tag = tag(session, source, destination, proxy_key)
        .finalize()
        .into_bytes();
    let claim = [session.as_uuid().as_bytes().as_slice(), &tag].concat();
    let addresses = IPv6::new(
        *source.ip(),
        *destination.ip(),
        source.port(),
        destination.port(),
    );
    Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, addresses)
        .write_tlv(SESSION_TLV, &claim)
        .and_then(Builder::build)
        .expect("a header of 103 bytes is under the format's 65,535")
}

impl Claim {
    /// Reads a header of exactly [`HEADER_BYTES`].
    pub fn parse(header: &[u8]) -> Result<Self, ProxyError> {
        let parsed = Header::try_from(header).map_err(|_| ProxyError::Malformed)?;
        let Addresses::IPv6(addresses) = parsed.addresses else {
            return Err(ProxyError::Malformed);
        };
        if header.len() != HEADER_BYTES
            || parsed.command != Command::Proxy
            || parsed.protocol != Protocol::Stream
        {
            return Err(ProxyError::Malformed);
        }
        let mut tlvs = parsed.tlvs();
        let claim = match (tlvs.next(), tlvs.next()) {
            (Some(Ok(tlv)), None) if tlv.kind == SESSION_TLV && tlv.value.len() == CLAIM_BYTES => {
                tlv.value.to_vec()
            }
            _ => return Err(ProxyError::Malformed),
        };
        let (id, tag) = claim.split_at(16);
        Ok(Self {
            session: SessionId::from_uuid(Uuid::from_slice(id).map_err(|_| ProxyError::Malformed)?),
            source: SocketAddrV6::new(addresses.source_address, addresses.source_port, 0, 0),
            destination: SocketAddrV6::new(
                addresses.destination_address,
                addresses.destination_port,
                0,
                0,
            ),
            tag: tag.try_into().map_err(|_| ProxyError::Malformed)?,
        })
    }

    /// The session that the header claims: which key to check with.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The inner address that the header claims: of which grant of the session.
    pub fn inner_address(&self) -> Ipv6Addr {
        *self.source.ip()
    }

    /// Believes the claim if it was made with `proxy_key`.
    pub fn verify(self, proxy_key: &Bytes32) -> Result<Verified, ProxyError> {
        tag(self.session, self.source, self.destination, proxy_key)
            .verify_slice(&self.tag)
            .map_err(|_| ProxyError::Forged(self.session))?;
        Ok(Verified {
            session: self.session,
            inner_address: *self.source.ip(),
        })
    }
}

fn tag(
    session: SessionId,
    source: SocketAddrV6,
    destination: SocketAddrV6,
    proxy_key: &Bytes32,
) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&proxy_key.0).expect("HMAC takes a key of any length");
    mac.update(b"renkei proxy v1\0");
    mac.update(session.as_uuid().as_bytes());
    for address in [source, destination] {
        mac.update(&address.ip().octets());
        mac.update(&address.port().to_be_bytes());
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Bytes32 = Bytes32([7; 32]);

    fn header() -> (SessionId, Vec<u8>) {
        let session = SessionId::from_uuid(Uuid::from_u128(42));
        let source = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1234, 0, 0);
        let destination = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 443, 0, 0);
        (session, encode(session, source, destination, &KEY))
    }

    #[test]
    fn the_key_holder_speaks_for_the_session() {
        let (session, header) = header();
        assert_eq!(header.len(), HEADER_BYTES);
        let verified = Claim::parse(&header).unwrap().verify(&KEY).unwrap();
        assert_eq!(
            verified,
            Verified {
                session,
                inner_address: Ipv6Addr::LOCALHOST
            }
        );
    }

    #[test]
    fn nobody_else_does() {
        let (session, header) = header();
        let claim = Claim::parse(&header).unwrap();
        assert_eq!(
            claim.verify(&Bytes32([8; 32])),
            Err(ProxyError::Forged(session))
        );
    }

    #[test]
    fn no_changed_byte_is_believed() {
        let (_, header) = header();
        for at in 0..header.len() {
            let mut changed = header.clone();
            changed[at] ^= 1;
            let believed = Claim::parse(&changed).and_then(|claim| claim.verify(&KEY));
            assert!(believed.is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_short_header_is_malformed() {
        let (_, header) = header();
        for length in 0..header.len() {
            assert_eq!(Claim::parse(&header[..length]), Err(ProxyError::Malformed));
        }
    }
}
