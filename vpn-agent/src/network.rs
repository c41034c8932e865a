//! Which network the PC is in, and whether it moved or slept.
//!
//! Pure functions over what [`crate::os`] read: the way that worked in a network is remembered
//! under its identity, and a tunnel looks for its way anew when the network is another one or
//! the PC woke up. An identity is a hash: what lies on the disk names no network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ring::digest::{Context, SHA256};

/// A longer gap between two looks means that the PC slept, whatever its clocks say.
const GAP: Duration = Duration::from_secs(5);

/// A clock that stops in sleep may fall this far behind one that does not, by rounding.
const CLOCKS_AGREE: Duration = Duration::from_secs(2);

/// Routes that are looked at; a PC has some ten.
const MAX_ROUTES: usize = 1000;

/// The interface that leads nowhere else.
const LOOPBACK: &str = "lo";

/// The kernel's tables of routes and neighbours, as text (`/proc/net/…`).
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// `route`: IPv4 routes.
    pub routes: String,
    /// `arp`: IPv4 neighbours.
    pub neighbours: String,
    /// `ipv6_route`: IPv6 routes.
    pub routes_v6: String,
}

/// What the system knows of the network at a moment.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its identity, where there is a way out.
    pub network: Option<Network>,
    /// Whether no interface is connected to anything, as far as is known.
    pub is_cut: bool,
}

/// The identity of a network, good for comparing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Interface, default gateway's address, own prefix.
    place: [u8; 16],
    /// The default gateway's hardware address, if it is known yet.
    router: Option<[u8; 16]>,
}

/// A network's name in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkKey(String);

impl Network {
    /// The identity of the network behind the best default route. None without one.
    pub fn of(tables: &Tables) -> Option<Self> {
        let v4 = place_v4(&tables.routes);
        let v6 = place_v6(&tables.routes_v6);
        let router = v4
            .as_ref()
            .and_then(|place| hardware_address(&tables.neighbours, place.gateway));
        Self::of_places(
            v4.as_ref().map(|place| place.text.as_str()),
            v6.as_deref(),
            router,
        )
    }

    /// The identity of the network behind default routes that were found already: what is
    /// known of the IPv4 and of the IPv6 one, in any form that is the same each time, and the
    /// IPv4 gateway's hardware address. None without a route.
    pub fn of_places(v4: Option<&str>, v6: Option<&str>, router: Option<&str>) -> Option<Self> {
        if v4.is_none() && v6.is_none() {
            return None;
        }
        Some(Self {
            place: hash(&[v4.unwrap_or_default(), v6.unwrap_or_default()]),
            router: router.map(|router| hash(&[router])),
        })
    }

    /// Whether this is certainly another network than `other`. A gateway's hardware address
    /// that is not known says nothing.
    pub fn differs_from(&self, other: &Self) -> bool {
        let routers = self.router.zip(other.router);
        self.place != other.place || routers.is_some_and(|(ours, theirs)| ours != theirs)
    }

    /// The name in the store.
    pub fn key(&self) -> NetworkKey {
        let router = self.router.unwrap_or_default();
        let whole = [self.place, router].concat();
        NetworkKey(whole.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Display for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

struct PlaceV4 {
    gateway: Ipv4Addr,
    text: String,
}

/// Columns of `/proc/net/route`: interface, destination, gateway, flags, two counters, metric,
/// mask. Addresses are native 32-bit numbers in hex.
fn place_v4(routes: &str) -> Option<PlaceV4> {
    struct Route<'a> {
        interface: &'a str,
        destination: u32,
        gateway: u32,
        metric: u32,
        mask: u32,
    }
    let parse = |line: &'_ str| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let hex = |at: usize| u32::from_str_radix(columns.get(at)?, 16).ok();
        Some((
            hex(1)?,
            hex(2)?,
            columns.get(6)?.parse::<u32>().ok()?,
            hex(7)?,
        ))
    };
    let routes: Vec<Route<'_>> = routes
        .lines()
        .skip(1)
        .take(MAX_ROUTES)
        .filter_map(|line| {
            let (destination, gateway, metric, mask) = parse(line)?;
            Some(Route {
                interface: line.split_ascii_whitespace().next()?,
                destination,
                gateway,
                metric,
                mask,
            })
        })
        .collect();
    let best = routes
        .iter()
        .filter(|route| route.destination == 0 && route.mask == 0)
        .min_by_key(|route| route.metric)?;
    let own = routes.iter().find(|route| {
        route.interface == best.interface
            && route.gateway == 0
            && route.mask != 0
            && best.gateway & route.mask == route.destination
    });
    let own = own.map_or((0, 0), |route| (route.destination, route.mask));
    Some(PlaceV4 {
        gateway: Ipv4Addr::from(best.gateway.to_ne_bytes()),
        text: format!("{} {:08x} {own:08x?}", best.interface, best.gateway),
    })
}

/// Columns of `/proc/net/ipv6_route`: destination, its prefix length, source, its prefix
/// length, next hop, metric, two counters, flags, interface. All hex.
fn place_v6(routes: &str) -> Option<String> {
    let lines = || {
        let lines = routes.lines().take(MAX_ROUTES);
        lines.filter_map(|line| {
            let columns: Vec<&str> = line.split_ascii_whitespace().collect();
            (columns.len() >= 10).then_some(columns)
        })
    };
    let nobody = "0".repeat(32);
    let best = lines()
        .filter(|columns| columns[1] == "00" && columns[4] != nobody && columns[9] != "lo")
        .min_by_key(|columns| u32::from_str_radix(columns[5], 16).unwrap_or(u32::MAX))?;
    let mut own: Vec<&str> = lines()
        .filter(|columns| columns[9] == best[9] && columns[4] == nobody)
        .filter(|columns| columns[1] == "40" && !columns[0].starts_with("fe80"))
        .map(|columns| columns[0])
        .collect();
    own.sort_unstable();
    own.dedup();
    Some(format!("{} {} {}", best[9], best[4], own.join(" ")))
}

/// Columns of `/proc/net/arp`: address, type, flags, hardware address, mask, interface.
fn hardware_address(neighbours: &str, of: Ipv4Addr) -> Option<&str> {
    let of = of.to_string();
    neighbours.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let is_it = columns.next()? == of;
        let address = columns.nth(2)?;
        (is_it && address != "00:00:00:00:00:00").then_some(address)
    })
}

fn hash(parts: &[&str]) -> [u8; 16] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut short = [0; 16];
    short.copy_from_slice(&context.finish().as_ref()[..16]);
    short
}

/// What is seen at one look.
#[derive(Debug, Clone)]
pub struct Reading {
    /// A clock that goes on while the PC sleeps.
    pub running: Instant,
    /// One that may stop.
    pub awake: Instant,
    /// The addresses that the PC sends from, by destination.
    pub sources: Vec<Option<IpAddr>>,
    /// The network.
    pub network: Option<Network>,
    /// Whether no interface is connected to anything, as far as is known.
    pub is_cut: bool,
    /// What the tunnel needs to get through.
    pub needs: Needs,
}

/// What the tunnel needs to get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// A route to the gateway's address.
    Route,
    /// Any network: a proxy in it knows the way.
    AnyNetwork,
}

/// Whether no interface that anything is routed to is connected: `has_carrier` tells of each,
/// None if that is not known. Without tables nothing is known, and nothing is cut.
pub fn is_cut(tables: &Tables, has_carrier: impl Fn(&str) -> Option<bool>) -> bool {
    if tables.routes.is_empty() {
        return false;
    }
    let v4 = tables.routes.lines().skip(1).take(MAX_ROUTES);
    let v4 = v4.filter_map(|line| line.split_ascii_whitespace().next());
    let v6 = tables.routes_v6.lines().take(MAX_ROUTES);
    // Every interface has a route to its own neighbours: that is no network.
    let leads_on = |line: &&str| !line.starts_with("fe8") && !line.starts_with("ff");
    let v6 = v6
        .filter(leads_on)
        .filter_map(|line| line.split_ascii_whitespace().nth(9));
    v4.chain(v6)
        .filter(|interface| *interface != LOOPBACK)
        .all(|interface| has_carrier(interface) == Some(false))
}

/// What changed between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The PC slept.
    Woke,
    /// It is in another network, or has another address.
    Moved,
    /// It has no network any more.
    Gone,
    /// It has a network again: the one that there was before.
    Back,
}

/// The memory between two looks, about once a second.
#[derive(Debug, Default)]
pub struct Surroundings {
    last: Option<Reading>,
    is_offline: bool,
}

impl Surroundings {
    /// Says what changed since the last look. A network that comes back is compared with the
    /// last one there was.
    pub fn look(&mut self, mut reading: Reading) -> Option<Change> {
        let Some(last) = &self.last else {
            self.last = Some(reading);
            return None;
        };
        let ran = reading.running.saturating_duration_since(last.running);
        let was_awake = reading.awake.saturating_duration_since(last.awake);
        let slept = ran > GAP || ran > was_awake + CLOCKS_AGREE;
        let sourceless = reading.sources.iter().all(Option::is_none);
        let offline = match reading.needs {
            // What leads to a proxy is not known here.
            Needs::AnyNetwork => reading.is_cut,
            Needs::Route => reading.is_cut || sourceless,
        };
        let was_offline = std::mem::replace(&mut self.is_offline, offline);
        let moved = !sourceless && reading.sources != last.sources
            || reading
                .network
                .as_ref()
                .zip(last.network.as_ref())
                .is_some_and(|(now, before)| now.differs_from(before));
        if sourceless {
            reading.sources.clone_from(&last.sources);
        }
        if let (Some(now), Some(before)) = (&mut reading.network, &last.network)
            && now.place == before.place
        {
            now.router = now.router.or(before.router);
        }
        reading.network = reading.network.or_else(|| last.network.clone());
        self.last = Some(reading);
        match (was_offline, offline) {
            (false, true) => Some(Change::Gone),
            // Still none; nothing else matters until there is one.
            (true, true) => None,
            (true | false, false) if moved => Some(Change::Moved),
            (true | false, false) if slept => Some(Change::Woke),
            (true, false) => Some(Change::Back),
            (false, false) => None,
        }
    }

    /// Whether there was no network at the last look.
    pub fn is_offline(&self) -> bool {
        self.is_offline
    }

    /// The network as of the last look.
    pub fn network(&self) -> Option<&Network> {
        self.last.as_ref()?.network.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
        eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
        eth0\t0002A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
        wlan0\t0001A8C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\t0\t0\t0\n";
    const NEIGHBOURS: &str = "IP address       HW type     Flags       HW address            Mask     Device\n\
        192.168.2.1      0x1         0x2         02:00:00:00:00:01     *        eth0\n\
        192.168.1.1      0x1         0x2         02:00:00:00:00:02     *        wlan0\n";
    const ROUTES_V6: &str = "20010db8000000010000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\n\
        fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo\n";

    fn tables(routes: &str, neighbours: &str, routes_v6: &str) -> Tables {
        Tables {
            routes: routes.to_owned(),
            neighbours: neighbours.to_owned(),
            routes_v6: routes_v6.to_owned(),
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_network_is_known_by_its_best_default_route() {
        let here = Network::of(&tables(ROUTES, NEIGHBOURS, ROUTES_V6)).unwrap();
        let again = Network::of(&tables(ROUTES, NEIGHBOURS, ROUTES_V6)).unwrap();
        assert_eq!(here.key(), again.key());
        assert_eq!(here.key().to_string().len(), 64);
        for (routes, neighbours, routes_v6) in [
            (
                ROUTES.replace("0102A8C0", "0103A8C0"),
                NEIGHBOURS.into(),
                ROUTES_V6.into(),
            ),
            (
                ROUTES.replace("\t100\t00000000", "\t700\t00000000"),
                NEIGHBOURS.into(),
                ROUTES_V6.into(),
            ),
            (
                ROUTES.into(),
                NEIGHBOURS.replace("00:01 ", "00:03 "),
                ROUTES_V6.into(),
            ),
            (
                ROUTES.into(),
                NEIGHBOURS.to_owned(),
                ROUTES_V6.replace("20010db8", "20010db9"),
            ),
            (ROUTES.into(), NEIGHBOURS.into(), String::new()),
        ] {
            let other = Network::of(&tables(&routes, &neighbours, &routes_v6)).unwrap();
            assert!(other.differs_from(&here), "{routes}{neighbours}{routes_v6}");
            assert_ne!(other.key(), here.key());
        }
    }

    #[test]
    fn what_is_not_known_of_a_router_says_nothing() {
        let here = Network::of(&tables(ROUTES, NEIGHBOURS, "")).unwrap();
        let unknown = NEIGHBOURS.replace("02:00:00:00:00:01", "00:00:00:00:00:00");
        let early = Network::of(&tables(ROUTES, &unknown, "")).unwrap();
        assert!(!early.differs_from(&here) && !here.differs_from(&early));
    }

    #[test]
    fn rubbish_and_no_route_are_no_network() {
        for (routes, routes_v6) in [
            ("", ""),
            (
                "Iface\nx\n\n1 2 3 4\neth0\tzz\tyy\t0\t0\t0\tx\tz\n",
                "a b c\n",
            ),
        ] {
            assert_eq!(
                Network::of(&tables(routes, "rubbish\n\nx", routes_v6)),
                None
            );
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other constructor"
    )]
    fn origin() -> Instant {
        Instant::now()
    }

    fn reading(at: (Instant, Instant), source: Option<[u8; 4]>, mac: u8) -> Reading {
        let neighbours = NEIGHBOURS.replace("00:01 ", &format!("00:{mac:02x} "));
        Reading {
            running: at.0,
            awake: at.1,
            sources: vec![source.map(IpAddr::from), None],
            network: Network::of(&tables(ROUTES, &neighbours, "")),
            is_cut: false,
            needs: Needs::Route,
        }
    }

    #[test]
    fn sleep_shows_in_the_clocks_and_a_move_in_addresses_and_router() {
        let start = origin();
        let s = Duration::from_secs;
        let home = Some([192, 168, 2, 7]);
        let mut surroundings = Surroundings::default();
        let mut look = |running: u64, awake: u64, source, mac| {
            surroundings.look(reading((start + s(running), start + s(awake)), source, mac))
        };
        assert_eq!(look(0, 0, home, 1), None);
        assert_eq!(look(1, 1, home, 1), None);
        // Suspended: only one of the clocks goes on.
        assert_eq!(look(602, 2, home, 1), Some(Change::Woke));
        assert_eq!(look(603, 3, home, 1), None);
        // Stopped: both go on.
        assert_eq!(look(1203, 603, home, 1), Some(Change::Woke));
        // A cable is pulled and put in again.
        assert_eq!(look(1204, 604, None, 1), Some(Change::Gone));
        assert_eq!(look(1205, 605, None, 1), None);
        assert_eq!(look(1205, 605, home, 1), Some(Change::Back));
        assert_eq!(look(1206, 606, home, 1), None);
        // Pulled here and put in elsewhere.
        assert_eq!(look(1206, 606, None, 1), Some(Change::Gone));
        assert_eq!(look(1206, 606, Some([10, 0, 0, 7]), 1), Some(Change::Moved));
        assert_eq!(look(1207, 607, Some([10, 0, 0, 7]), 2), Some(Change::Moved));
        // Asleep on the way to another network.
        assert_eq!(look(1807, 608, home, 2), Some(Change::Moved));
        assert_eq!(look(1808, 609, home, 2), None);
    }
    #[test]
    fn a_pc_is_cut_off_when_no_interface_is_connected_and_known_to_be() {
        let home = tables(ROUTES, NEIGHBOURS, ROUTES_V6);
        assert!(!is_cut(&home, |_| Some(true)));
        assert!(!is_cut(&home, |_| None), "not known is not cut");
        assert!(!is_cut(&home, |name| Some(name == "wlan0")));
        assert!(is_cut(&home, |_| Some(false)));
        // Nothing is routed anywhere, but to itself.
        let none = ROUTES.lines().next().unwrap();
        let itself = ROUTES_V6.lines().last().unwrap();
        assert!(is_cut(&tables(none, "", itself), |_| Some(true)));
        assert!(!is_cut(&tables(none, "", ROUTES_V6), |_| Some(true)));
        let neighbours = ROUTES_V6.lines().nth(1).unwrap();
        assert!(is_cut(&tables(none, "", neighbours), |_| Some(true)));
        // A system without such tables.
        assert!(!is_cut(&Tables::default(), |_| Some(false)));
    }

    #[test]
    fn behind_a_proxy_a_missing_route_to_the_fund_says_nothing() {
        let start = origin();
        let mut surroundings = Surroundings::default();
        let mut look = |second: u64, needs, is_cut| {
            let at = start + Duration::from_secs(second);
            let seen = Reading {
                needs,
                is_cut,
                ..reading((at, at), None, 1)
            };
            surroundings.look(seen)
        };
        assert_eq!(look(0, Needs::AnyNetwork, false), None);
        assert_eq!(look(1, Needs::AnyNetwork, false), None);
        assert_eq!(look(2, Needs::AnyNetwork, true), Some(Change::Gone));
        assert_eq!(look(3, Needs::AnyNetwork, false), Some(Change::Back));
        assert_eq!(look(4, Needs::Route, false), Some(Change::Gone));
    }
}
