//! How much room a disk has, and how large a packet a connection's way takes.

use std::io;
use std::os::windows::io::{AsRawSocket, AsSocket};
use std::path::Path;
use std::ptr::null_mut;

use windows_sys::Win32::Networking::WinSock::{
    IP_MTU, IPPROTO_IP, IPPROTO_IPV6, IPV6_MTU, getsockopt,
};
use windows_sys::Win32::Storage::FileSystem::GetDiskFreeSpaceExW;

use crate::text::wide;

/// Room for this user on the disk that holds the folder `path`, in bytes.
///
/// # Errors
/// What the system says.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let mut free = 0;
    // SAFETY: the text ends with a zero; `free` is a place for the answer, the others are not
    // wanted.
    let done =
        unsafe { GetDiskFreeSpaceExW(wide(path).as_ptr(), &raw mut free, null_mut(), null_mut()) };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(free)
}

/// The largest packet, in bytes, that the way of a connected socket takes as far as is known.
///
/// # Errors
/// What the system says: older ones do not know.
pub fn path_mtu(socket: impl AsSocket, is_ipv6: bool) -> io::Result<u32> {
    let (level, option) = if is_ipv6 {
        (IPPROTO_IPV6, IPV6_MTU)
    } else {
        (IPPROTO_IP, IP_MTU)
    };
    let mut mtu = 0u32;
    let mut bytes = 4;
    let socket = socket.as_socket();
    let raw = usize::try_from(socket.as_raw_socket()).map_err(io::Error::other)?;
    // SAFETY: the socket is borrowed and so open; the size passed is the number's.
    let code = unsafe { getsockopt(raw, level, option, (&raw mut mtu).cast(), &raw mut bytes) };
    if code != 0 || mtu == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(mtu)
}
