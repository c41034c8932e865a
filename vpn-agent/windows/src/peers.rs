//! Which user is at the other end of a loopback connection.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ptr::null_mut;

use windows_sys::Win32::Foundation::{ERROR_INSUFFICIENT_BUFFER, ERROR_SUCCESS};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    GetExtendedTcpTable, MIB_TCPROW_OWNER_PID, TCP_TABLE_OWNER_PID_CONNECTIONS,
};
use windows_sys::Win32::Networking::WinSock::AF_INET;

use crate::identity::{own_sid, sid_of_process};

/// How often the table is read again because it grew in between.
const TABLE_TRIES: usize = 8;

/// How often a connection is looked for: a table that changes while it is read may leave out a
/// row. Under Wine on a busy machine one look in ten did.
const LOOKS: usize = 6;

/// Room that is added to what Windows asks for: the table grows while it is asked, in bytes.
const SPARE_BYTES: u32 = 4096;

/// The table's header: how many rows follow.
const HEADER_WORDS: usize = 1;

/// Who owns a connection's other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The user of this process.
    SameUser,
    /// Somebody else, by security identifier.
    OtherUser(String),
    /// The table has no such connection, or one without a process.
    Nobody,
}

/// Looks up who has made the loopback connection that goes from `peer` to `local`, by the
/// process table.
///
/// # Errors
/// What the system says, for example that the process may not be looked at: then it is not one
/// of this user's ordinary programs.
pub fn owner(local: SocketAddr, peer: SocketAddr) -> io::Result<Owner> {
    let (SocketAddr::V4(local), SocketAddr::V4(peer)) = (local, peer) else {
        return Ok(Owner::Nobody);
    };
    for _ in 0..LOOKS {
        let Some(process_id) = process_of(local, peer)? else {
            continue;
        };
        let sid = sid_of_process(process_id)?;
        // A process id may have been given to another process in between; the connection has
        // not.
        if process_of(local, peer)? == Some(process_id) {
            return Ok(if sid == own_sid()? {
                Owner::SameUser
            } else {
                Owner::OtherUser(sid)
            });
        }
    }
    Ok(Owner::Nobody)
}

/// The process that owns the socket bound to `peer` and connected to `local`.
fn process_of(local: SocketAddrV4, peer: SocketAddrV4) -> io::Result<Option<u32>> {
    let row = connections()?.into_iter().find(|row| {
        address(row.dwLocalAddr, row.dwLocalPort) == peer
            && address(row.dwRemoteAddr, row.dwRemotePort) == local
    });
    Ok(row.map(|row| row.dwOwningPid).filter(|id| *id != 0))
}

/// Address and port as the table has them: both in network order, in the lower bytes.
fn address(address: u32, port: u32) -> SocketAddrV4 {
    let [high, low, ..] = port.to_le_bytes();
    SocketAddrV4::new(
        Ipv4Addr::from(address.to_le_bytes()),
        u16::from_be_bytes([high, low]),
    )
}

/// All IPv4 connections of the PC.
fn connections() -> io::Result<Vec<MIB_TCPROW_OWNER_PID>> {
    let mut bytes: u32 = 0;
    for _ in 0..TABLE_TRIES {
        let asked = bytes.saturating_add(SPARE_BYTES);
        let words = usize::try_from(asked).expect("32 bits fit") / size_of::<u32>();
        let mut table = vec![0u32; words];
        bytes = u32::try_from(words * size_of::<u32>()).expect("no more than asked");
        // SAFETY: the size passed is the buffer's; rows are made of 32-bit numbers, as it is.
        let code = unsafe {
            GetExtendedTcpTable(
                if table.is_empty() {
                    null_mut()
                } else {
                    table.as_mut_ptr().cast()
                },
                &raw mut bytes,
                0,
                u32::from(AF_INET),
                TCP_TABLE_OWNER_PID_CONNECTIONS,
                0,
            )
        };
        match code {
            ERROR_SUCCESS => return Ok(rows(&table)),
            ERROR_INSUFFICIENT_BUFFER => {}
            code => {
                return Err(io::Error::from_raw_os_error(
                    i32::try_from(code).unwrap_or(i32::MAX),
                ));
            }
        }
    }
    Err(io::Error::other("the connection table keeps growing"))
}

fn rows(table: &[u32]) -> Vec<MIB_TCPROW_OWNER_PID> {
    let count = table.first().copied().unwrap_or_default();
    let numbers = size_of::<MIB_TCPROW_OWNER_PID>() / size_of::<u32>();
    table[HEADER_WORDS.min(table.len())..]
        .chunks_exact(numbers)
        .take(usize::try_from(count).unwrap_or_default())
        .map(|row| MIB_TCPROW_OWNER_PID {
            dwState: row[0],
            dwLocalAddr: row[1],
            dwLocalPort: row[2],
            dwRemoteAddr: row[3],
            dwRemotePort: row[4],
            dwOwningPid: row[5],
        })
        .collect()
}
