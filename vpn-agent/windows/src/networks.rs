//! The PC's network adapters with their addresses and routers.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr::{NonNull, null};

use windows_sys::Win32::Foundation::{ERROR_BUFFER_OVERFLOW, ERROR_NO_DATA, ERROR_SUCCESS};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    FreeMibTable, GAA_FLAG_INCLUDE_GATEWAYS, GAA_FLAG_SKIP_ANYCAST, GAA_FLAG_SKIP_DNS_SERVER,
    GAA_FLAG_SKIP_FRIENDLY_NAME, GAA_FLAG_SKIP_MULTICAST, GetAdaptersAddresses, GetIpNetTable2,
    IP_ADAPTER_ADDRESSES_LH, MIB_IPNET_ROW2, MIB_IPNET_TABLE2,
};
use windows_sys::Win32::NetworkManagement::Ndis::IfOperStatusUp;
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, AF_INET6, AF_UNSPEC, SOCKADDR_IN, SOCKADDR_IN6, SOCKET_ADDRESS,
};

/// First room for the list, as Microsoft recommends, in bytes.
const FIRST_BYTES: u32 = 15 * 1024;

/// How often the list is read again because it grew in between.
const LIST_TRIES: usize = 4;

/// Adapters, and addresses of one, that are looked at; a PC has some ten.
const MAX_ENTRIES: usize = 256;

/// One adapter that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// Its name, a GUID that lasts.
    pub name: String,
    /// Its number among the IPv4 interfaces.
    pub index: u32,
    /// What its IPv4 routes cost; the smaller, the better.
    pub metric: u32,
    /// What its IPv6 routes cost.
    pub metric_v6: u32,
    /// Its addresses with the lengths of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Its default gateways.
    pub gateways: Vec<IpAddr>,
}

/// All adapters that are up.
///
/// # Errors
/// What the system says.
pub fn adapters() -> io::Result<Vec<Adapter>> {
    let flags = GAA_FLAG_INCLUDE_GATEWAYS
        | GAA_FLAG_SKIP_ANYCAST
        | GAA_FLAG_SKIP_MULTICAST
        | GAA_FLAG_SKIP_DNS_SERVER
        | GAA_FLAG_SKIP_FRIENDLY_NAME;
    let mut bytes = FIRST_BYTES;
    for _ in 0..LIST_TRIES {
        let mut room = vec![0u64; usize::try_from(bytes).expect("32 bits fit").div_ceil(8)];
        let start = room.as_mut_ptr().cast::<IP_ADAPTER_ADDRESSES_LH>();
        // SAFETY: the buffer holds at least `bytes` and is aligned for the structure.
        let code = unsafe {
            GetAdaptersAddresses(u32::from(AF_UNSPEC), flags, null(), start, &raw mut bytes)
        };
        match code {
            ERROR_SUCCESS => {
                // SAFETY: Windows has filled `room`, in which the whole list lies.
                return Ok(unsafe { read(start) });
            }
            ERROR_NO_DATA => return Ok(Vec::new()),
            ERROR_BUFFER_OVERFLOW => {}
            code => {
                return Err(io::Error::from_raw_os_error(
                    i32::try_from(code).unwrap_or(i32::MAX),
                ));
            }
        }
    }
    Err(io::Error::other("the list of adapters keeps growing"))
}

/// # Safety
/// `next` is null or the head of a list that `GetAdaptersAddresses` has made and that lives
/// until this returns.
unsafe fn read(mut next: *const IP_ADAPTER_ADDRESSES_LH) -> Vec<Adapter> {
    let mut adapters = Vec::new();
    // SAFETY: the caller says that the list is whole; each entry points to the next or to null.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.Next;
        if adapters.len() == MAX_ENTRIES {
            break;
        }
        if entry.OperStatus != IfOperStatusUp || entry.AdapterName.is_null() {
            continue;
        }
        // SAFETY: the name ends with a zero and lives as long as the list.
        let name = unsafe { CStr::from_ptr(entry.AdapterName.cast()) };
        let mut addresses = Vec::new();
        let mut unicast = entry.FirstUnicastAddress;
        // SAFETY: as the outer list.
        while let Some(found) =
            unsafe { unicast.as_ref() }.filter(|_| addresses.len() < MAX_ENTRIES)
        {
            unicast = found.Next;
            // SAFETY: the address belongs to the list.
            if let Some(address) = unsafe { address(&found.Address) } {
                addresses.push((address, found.OnLinkPrefixLength));
            }
        }
        let mut gateways = Vec::new();
        let mut gateway = entry.FirstGatewayAddress;
        // SAFETY: as the outer list.
        while let Some(found) = unsafe { gateway.as_ref() }.filter(|_| gateways.len() < MAX_ENTRIES)
        {
            gateway = found.Next;
            // SAFETY: the address belongs to the list.
            gateways.extend(unsafe { address(&found.Address) });
        }
        adapters.push(Adapter {
            name: name.to_string_lossy().into_owned(),
            // SAFETY: both variants of the union are numbers.
            index: unsafe { entry.Anonymous1.Anonymous.IfIndex },
            metric: entry.Ipv4Metric,
            metric_v6: entry.Ipv6Metric,
            addresses,
            gateways,
        });
    }
    adapters
}

/// # Safety
/// The socket address is null or one that Windows has made.
unsafe fn address(found: &SOCKET_ADDRESS) -> Option<IpAddr> {
    let length = usize::try_from(found.iSockaddrLength).ok()?;
    // SAFETY: every socket address begins with its family.
    match unsafe { found.lpSockaddr.as_ref() }?.sa_family {
        AF_INET if length >= size_of::<SOCKADDR_IN>() => {
            // SAFETY: the family and the length say that it is of this type.
            let address = unsafe { &*found.lpSockaddr.cast::<SOCKADDR_IN>() };
            // SAFETY: all variants of the union are the same four bytes.
            let number = unsafe { address.sin_addr.S_un.S_addr };
            Some(Ipv4Addr::from(number.to_ne_bytes()).into())
        }
        AF_INET6 if length >= size_of::<SOCKADDR_IN6>() => {
            // SAFETY: the family and the length say that it is of this type.
            let address = unsafe { &*found.lpSockaddr.cast::<SOCKADDR_IN6>() };
            // SAFETY: both variants of the union are the same sixteen bytes.
            Some(Ipv6Addr::from(unsafe { address.sin6_addr.u.Byte }).into())
        }
        _ => None,
    }
}

/// The hardware address of a neighbour, if the PC knows it. Sends nothing.
///
/// Looks through the whole table: the call for one entry is missing in Wine 8, which ends a
/// program that makes it.
pub fn hardware_address(neighbour: Ipv4Addr, interface: u32) -> Option<Vec<u8>> {
    let table = Table::read()?;
    let row = table.rows().iter().find(|row| {
        // SAFETY: the table was asked for IPv4 alone, so this is the member that is filled in;
        // and all its bits are valid as a number.
        let address = unsafe { row.Address.Ipv4.sin_addr.S_un.S_addr };
        row.InterfaceIndex == interface && address.to_ne_bytes() == neighbour.octets()
    })?;
    let length = usize::try_from(row.PhysicalAddressLength).ok()?;
    let address = row.PhysicalAddress.get(..length)?;
    address
        .iter()
        .any(|byte| *byte != 0)
        .then(|| address.to_vec())
}

/// The table of IPv4 neighbours; the system's memory, given back when dropped.
struct Table(NonNull<MIB_IPNET_TABLE2>);

impl Table {
    fn read() -> Option<Self> {
        let mut table = std::ptr::null_mut();
        // SAFETY: the system writes a pointer to a table of its own there, if it succeeds.
        let status = unsafe { GetIpNetTable2(AF_INET, &raw mut table) };
        let table = NonNull::new(table)?;
        (status == ERROR_SUCCESS).then_some(Self(table))
    }

    fn rows(&self) -> &[MIB_IPNET_ROW2] {
        // SAFETY: the table holds as many rows as it says, one after the other, and lives as
        // long as `self`.
        unsafe {
            let table = self.0.as_ptr();
            let count = usize::try_from((*table).NumEntries).unwrap_or(0);
            std::slice::from_raw_parts((&raw const (*table).Table).cast(), count)
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: the table came from the system and is given back once.
        unsafe { FreeMibTable(self.0.as_ptr().cast()) };
    }
}
