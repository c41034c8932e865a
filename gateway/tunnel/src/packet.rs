//! The IPv6/UDP packets inside WireGuard: written by us, and read with suspicion.
//!
//! One flow only, between one PC's inner address and the gateway's inner address and port.
//! Whatever comes out of a session's tunnel and is not of this flow is refused here: that
//! is what keeps a PC from speaking with another's address.

use std::net::{Ipv6Addr, SocketAddrV6};

const IPV6_HEADER_BYTES: usize = 40;
const UDP_HEADER_BYTES: usize = 8;
const UDP: u8 = 17;
const HOP_LIMIT: u8 = 64;

/// IPv6 and UDP headers in front of each QUIC datagram, in bytes.
pub const INNER_OVERHEAD_BYTES: usize = IPV6_HEADER_BYTES + UDP_HEADER_BYTES;

/// Sender and receiver of inner packets, from this end's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) source: (Ipv6Addr, u16),
    pub(crate) destination: (Ipv6Addr, u16),
}

/// A packet's addresses; its payload is what follows [`INNER_OVERHEAD_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) source: (Ipv6Addr, u16),
    pub(crate) destination: (Ipv6Addr, u16),
}

/// What came out of the tunnel is no whole IPv6/UDP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotUdp;

impl Flow {
    /// Writes one packet with `payload` into `packet`, replacing what was there.
    pub(crate) fn encode(&self, payload: &[u8], packet: &mut Vec<u8>) {
        packet.clear();
        packet.extend_from_slice(&self.headers(payload));
        packet.extend_from_slice(payload);
    }

    /// Returns what stands in front of `payload` in its packet.
    ///
    /// `payload` must fit an IPv6 packet; QUIC's are bounded by the transport settings.
    pub(crate) fn headers(&self, payload: &[u8]) -> [u8; INNER_OVERHEAD_BYTES] {
        let length = u16::try_from(UDP_HEADER_BYTES + payload.len())
            .expect("QUIC datagrams are bounded far under 65,527 bytes");
        let mut headers = [0; INNER_OVERHEAD_BYTES];
        headers[0] = 0x60;
        headers[4..6].copy_from_slice(&length.to_be_bytes());
        (headers[6], headers[7]) = (UDP, HOP_LIMIT);
        headers[8..24].copy_from_slice(&self.source.0.octets());
        headers[24..40].copy_from_slice(&self.destination.0.octets());
        headers[40..42].copy_from_slice(&self.source.1.to_be_bytes());
        headers[42..44].copy_from_slice(&self.destination.1.to_be_bytes());
        headers[44..46].copy_from_slice(&length.to_be_bytes());
        let checksum = udp_checksum(&headers, payload);
        headers[46..48].copy_from_slice(&checksum);
        headers
    }
}

impl Header {
    /// Reads the headers of a packet whose length is exactly what its headers say.
    ///
    /// The checksum is not looked at: WireGuard and QUIC authenticate the packet, and a
    /// peer's kernel may leave it to hardware that is not there.
    pub(crate) fn parse(packet: &[u8]) -> Result<Self, NotUdp> {
        if packet.len() < INNER_OVERHEAD_BYTES || packet[0] >> 4 != 6 || packet[6] != UDP {
            return Err(NotUdp);
        }
        let ip_payload = usize::from(be16(packet, 4));
        let udp_length = usize::from(be16(packet, 44));
        if ip_payload != packet.len() - IPV6_HEADER_BYTES || udp_length != ip_payload {
            return Err(NotUdp);
        }
        Ok(Self {
            source: (address(packet, 8), be16(packet, 40)),
            destination: (address(packet, 24), be16(packet, 42)),
        })
    }

    /// The sender as QUIC knows it.
    pub(crate) fn remote(&self) -> SocketAddrV6 {
        SocketAddrV6::new(self.source.0, self.source.1, 0, 0)
    }
}

fn be16(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn address(packet: &[u8], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&packet[at..at + 16]);
    Ipv6Addr::from(octets)
}

/// The checksum of RFC 8200 §8.1, in the order of the wire, over a packet whose checksum
/// field is zero.
fn udp_checksum(headers: &[u8; INNER_OVERHEAD_BYTES], payload: &[u8]) -> [u8; 2] {
    // The pseudo-header is the addresses, the UDP length and the protocol; the rest is the
    // UDP header and what follows it.
    let udp_length = [headers[44], headers[45], 0, UDP];
    let mut sum = sum(&headers[8..]) + sum(&udp_length) + sum(payload);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        0 => [0xff, 0xff],
        checksum => checksum.to_ne_bytes(),
    }
}

/// Adds up words in the machine's own order: RFC 1071 §2 shows that the sum is the same but
/// for the order of its bytes, and it takes parts of any even size. Four bytes at a time into
/// eight is what compilers turn into vector instructions.
fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(4);
    let mut sum = 0;
    for word in &mut words {
        sum += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut rest = [0; 4];
    rest[..words.remainder().len()].copy_from_slice(words.remainder());
    sum + u64::from(u32::from_ne_bytes(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flow() -> Flow {
        Flow {
            source: ("fd72::2".parse().unwrap(), 1234),
            destination: ("fd72::1".parse().unwrap(), 4433),
        }
    }

    /// RFC 1071, word by word, over pseudo-header and payload with the checksum in place:
    /// a right checksum makes the sum 0xffff.
    fn sum_with_checksum(packet: &[u8]) -> u16 {
        let length = packet.len() - IPV6_HEADER_BYTES;
        let mut bytes = packet[8..40].to_vec();
        bytes.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, UDP]);
        bytes.extend_from_slice(&packet[40..]);
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read_and_its_checksum_is_right(payload in proptest::collection::vec(any::<u8>(), 0..1400)) {
            let mut packet = Vec::new();
            flow().encode(&payload, &mut packet);
            let header = Header::parse(&packet).unwrap();
            prop_assert_eq!((header.source, header.destination), (flow().source, flow().destination));
            prop_assert_eq!(&packet[INNER_OVERHEAD_BYTES..], &payload[..]);
            prop_assert_eq!(sum_with_checksum(&packet), 0xffff);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(packet in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Header::parse(&packet);
        }
    }

    #[test]
    fn a_packet_of_another_length_than_it_says_is_refused() {
        let mut packet = Vec::new();
        flow().encode(b"hello", &mut packet);
        for length in 0..packet.len() {
            assert_eq!(Header::parse(&packet[..length]), Err(NotUdp));
        }
        packet.push(0);
        assert_eq!(Header::parse(&packet), Err(NotUdp));
    }
}
