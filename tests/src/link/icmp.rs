//! The ICMP message that tells a sender of the line's MTU.

/// Most of the dropped packet that an ICMP message repeats, in bytes: the smallest IPv6 MTU
/// holds the message with it (RFC 4443 §2.4c).
const MAX_REPEATED_BYTES: usize = 1280 - 48;
/// Protocol numbers.
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;

/// Makes the message about `packet`, which was longer than `mtu`: fragmentation needed
/// (RFC 1191) or packet too big (RFC 4443). It comes from the packet's destination, since the
/// line has no address. None for what is no IP packet.
pub fn too_big(packet: &[u8], mtu: usize) -> Option<Vec<u8>> {
    let mtu = u16::try_from(mtu).ok()?;
    match packet.first()? >> 4 {
        4 => too_big_v4(packet, mtu),
        6 => too_big_v6(packet, mtu),
        _ => None,
    }
}

fn too_big_v4(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
    let header_bytes = usize::from(packet[0] & 0x0f) * 4;
    let (source, destination) = (packet.get(12..16)?, packet.get(16..20)?);
    let repeated = packet.get(..header_bytes + 8)?;
    let total = u16::try_from(20 + 8 + repeated.len()).ok()?;

    let mut message = vec![0x45, 0];
    message.extend_from_slice(&total.to_be_bytes());
    message.extend_from_slice(&[0, 0, 0, 0, 64, ICMP, 0, 0]);
    message.extend_from_slice(destination);
    message.extend_from_slice(source);
    let checksum = !sum(0, &message);
    message[10..12].copy_from_slice(&checksum.to_be_bytes());

    // Destination unreachable, fragmentation needed.
    message.extend_from_slice(&[3, 4, 0, 0, 0, 0]);
    message.extend_from_slice(&mtu.to_be_bytes());
    message.extend_from_slice(repeated);
    let checksum = !sum(0, &message[20..]);
    message[22..24].copy_from_slice(&checksum.to_be_bytes());
    Some(message)
}

fn too_big_v6(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
    let (source, destination) = (packet.get(8..24)?, packet.get(24..40)?);
    let repeated = &packet[..packet.len().min(MAX_REPEATED_BYTES)];
    let length = u16::try_from(8 + repeated.len()).ok()?;

    let mut message = vec![0x60, 0, 0, 0];
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(&[ICMP_V6, 64]);
    message.extend_from_slice(destination);
    message.extend_from_slice(source);
    message.extend_from_slice(&[2, 0, 0, 0]);
    message.extend_from_slice(&u32::from(mtu).to_be_bytes());
    message.extend_from_slice(repeated);
    // RFC 8200 §8.1: addresses, length and next header are summed as well.
    let pseudo = u32::from(sum(0, &message[8..40])) + u32::from(length) + u32::from(ICMP_V6);
    let checksum = !sum(pseudo, &message[40..]);
    message[42..44].copy_from_slice(&checksum.to_be_bytes());
    Some(message)
}

/// The one's complement sum of 16-bit words (RFC 1071), folded.
fn sum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_about_an_ipv4_packet_has_right_sums_and_names_the_mtu() {
        let mut packet = vec![0x45, 0, 0x05, 0xdc];
        packet.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]);
        packet.resize(1500, 7);
        let message = too_big(&packet, 1454).unwrap();
        assert_eq!(sum(0, &message[..20]), 0xffff);
        assert_eq!(sum(0, &message[20..]), 0xffff);
        assert_eq!(message[12..20], [10, 0, 0, 1, 10, 0, 0, 2]);
        assert_eq!(message[26..28], 1454u16.to_be_bytes());
        assert_eq!(message[28..], packet[..28]);
    }

    #[test]
    fn the_message_about_an_ipv6_packet_has_a_right_sum_and_fits_the_smallest_mtu() {
        let mut packet = vec![0x60, 0, 0, 0, 0x05, 0xb4, 17, 64];
        packet.extend_from_slice(&[0xfd; 32]);
        packet.resize(1500, 9);
        let message = too_big(&packet, 1438).unwrap();
        assert!(message.len() <= 1280);
        let length = u32::try_from(message.len() - 40).unwrap();
        let pseudo = u32::from(sum(0, &message[8..40])) + length + u32::from(ICMP_V6);
        assert_eq!(sum(pseudo, &message[40..]), 0xffff);
        assert_eq!(message[44..48], 1438u32.to_be_bytes());
    }

    #[test]
    fn what_is_no_ip_packet_gets_no_message() {
        for packet in [&[][..], &[0x45], &[0x60, 0], &[0x4f; 30], &[0x10; 60]] {
            assert_eq!(too_big(packet, 1400), None);
        }
    }
}
