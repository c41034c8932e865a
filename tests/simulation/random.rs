//! Chance that can be repeated: every draw follows from a seed.

/// A stream of numbers from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Begins a stream.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.0)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// A number from `low` to `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True so many times in a thousand.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }
}

/// One draw that hangs on nothing but these numbers, so that what befalls one machine's
/// packets does not change with the order in which others send.
pub fn draw(seed: u64, a: u64, b: u64) -> Random {
    Random::new(scramble(
        seed ^ scramble(a ^ scramble(b.wrapping_add(0x5851_f42d))),
    ))
}

/// Spreads a number over all 64 bits.
pub fn scramble(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Bytes `from..from + length` of the endless text of transfer `id`: no two positions, and
/// no two transfers, look alike.
pub fn text(id: u64, from: usize, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length + 16);
    let mut word = from as u64 / 8;
    let skip = from % 8;
    while out.len() < length + skip {
        out.extend_from_slice(&scramble(id ^ scramble(word)).to_le_bytes());
        word += 1;
    }
    out.drain(..skip);
    out.truncate(length);
    out
}
