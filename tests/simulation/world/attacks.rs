//! What somebody on the internet does who hears everything and holds no key.

use std::net::{Ipv4Addr, SocketAddr};

use tunnel::server::Route;

use super::{Input, World};
use crate::random::Random;
use crate::steps::GATEWAYS;

impl World {
    /// One of the last datagrams that PCs sent; the highest number is the very last.
    pub(super) fn recording(&self, pick: u64) -> Option<(usize, Route, Vec<u8>)> {
        let count = self.recorded.len() as u64;
        let at = match pick {
            u64::MAX => count.checked_sub(1)?,
            pick => pick.checked_rem(count)?,
        };
        self.recorded.get(at as usize).cloned()
    }

    /// Something that no agent sent.
    pub(super) fn forge(&mut self, pick: u64, how: u8) {
        let mut random = Random::new(pick);
        let gateway = random.below(GATEWAYS as u64) as usize;
        let stranger = Route::from(SocketAddr::from((
            Ipv4Addr::new(203, 0, 113, random.below(200) as u8),
            1000 + random.below(50) as u16,
        )));
        let (mut data, mut gateway) = match self.recording(random.next()) {
            Some((to, _, data)) if how < 4 => (data, to),
            _ => {
                let length =
                    [0, 1, 3, 31, 32, 64, 92, 148, 149, 700, 2048, 2049][random.below(12) as usize];
                ((0..length).map(|_| random.next() as u8).collect(), gateway)
            }
        };
        match how {
            // A bit is changed, the rest is cut, something is added, another gateway is meant.
            0 if !data.is_empty() => {
                // The last 16 bytes of a handshake message are looked at only under load.
                let covered = match data[0] {
                    1 | 2 => data.len().saturating_sub(16).max(1),
                    _ => data.len(),
                };
                let at = random.below(covered as u64) as usize;
                data[at] ^= 1 << random.below(8);
            }
            1 => data.truncate(random.below(data.len() as u64 + 1) as usize),
            2 => data.push(0),
            3 => gateway = (gateway + 1) % GATEWAYS,
            // Looks like WireGuard from outside.
            4 if data.len() >= 32 => {
                data[..4].copy_from_slice(&[random.between(1, 4) as u8, 0, 0, 0])
            }
            _ => {}
        }
        // A message for the right gateway that was not changed is a replay, not a forgery;
        // and a bit that no key covers may be changed without harm.
        self.tally.count("forgeries");
        let whole = self
            .recorded
            .iter()
            .any(|(to, _, known)| *to == gateway && *known == data);
        if whole {
            return;
        }
        self.strangers.insert(stranger);
        self.at_gateway(gateway, Input::Datagram(stranger, data));
    }
}
