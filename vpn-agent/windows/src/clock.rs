//! A clock that nobody can set.

use std::time::Duration;

use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};

/// How long the PC has been up. Goes on while it sleeps or hibernates ("Acquiring
/// high-resolution time stamps" in Microsoft's documentation).
pub fn since_boot() -> Duration {
    let (mut ticks, mut per_second) = (0, 0);
    // SAFETY: both pointers are to live 64-bit numbers. Neither call fails since Windows XP.
    unsafe {
        QueryPerformanceCounter(&raw mut ticks);
        QueryPerformanceFrequency(&raw mut per_second);
    }
    let (ticks, per_second) = (
        u64::try_from(ticks).unwrap_or_default(),
        u64::try_from(per_second).unwrap_or_default().max(1),
    );
    let nanoseconds = u128::from(ticks % per_second) * 1_000_000_000 / u128::from(per_second);
    Duration::new(
        ticks / per_second,
        u32::try_from(nanoseconds).expect("a remainder is less than a second"),
    )
}
