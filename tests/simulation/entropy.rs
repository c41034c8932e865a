//! The randomness that everything on this thread draws, as the simulation deals it.
//!
//! Two runs from one seed are to be the same, and three things hang on the system's
//! randomness: the order in which a `HashMap` is walked, the packet numbers that QUIC skips,
//! and how long its greeting is. All three ask the C library's `getrandom`, so this program
//! defines that itself: a thread that has called [`deal`] gets numbers that follow from a
//! seed, every other thread the machine's. Keys and nonces come from the kernel as ever; no
//! length and no order follows from them.
//!
//! Like [`crate::clock`], it is in no program that is shipped.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;

use crate::random::Random;

thread_local! {
    static DEALT: RefCell<Option<Random>> = const { RefCell::new(None) };
}

/// From now on what this thread draws follows from `seed`. It must not have made a `HashMap`
/// before: the standard library draws for all of a thread's maps once.
pub fn deal(seed: u64) {
    DEALT.set(Some(Random::new(seed)));
}

/// What the standard library and the `getrandom` crate draw from.
#[expect(
    unsafe_code,
    reason = "the only way to give the standard library's maps, and QUIC, another randomness"
)]
// SAFETY: this is the C library's function with its contract: `out` points to `length` bytes
// that may be written.
#[unsafe(no_mangle)]
extern "C" fn getrandom(out: *mut u8, length: usize, _flags: u32) -> isize {
    if length == 0 {
        return 0;
    }
    // SAFETY: see above; a slice is at most `isize::MAX` long, as any object in memory.
    unsafe { out.write_bytes(0, length) };
    // SAFETY: see above; all of it was just written.
    let out = unsafe { std::slice::from_raw_parts_mut(out, length) };
    let dealt = DEALT.try_with(|dealt| {
        let mut dealt = dealt.try_borrow_mut().ok()?;
        let random = dealt.as_mut()?;
        for bytes in out.chunks_mut(8) {
            bytes.copy_from_slice(&random.next().to_le_bytes()[..bytes.len()]);
        }
        Some(())
    });
    if dealt.ok().flatten().is_none() {
        let mut machine = File::open("/dev/urandom").expect("every machine has it");
        machine.read_exact(out).expect("it never ends");
    }
    length as isize
}

#[test]
fn maps_are_walked_in_an_order_that_follows_from_the_seed() {
    let walked = |seed: u64| {
        let walk = move || {
            deal(seed);
            let map: std::collections::HashMap<u32, u32> = (0..100).map(|n| (n, n)).collect();
            map.into_keys().collect::<Vec<u32>>()
        };
        std::thread::spawn(walk).join().expect("no panic")
    };
    assert_eq!(walked(1), walked(1));
    assert_ne!(walked(1), walked(2));
}
