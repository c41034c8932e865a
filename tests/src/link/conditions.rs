//! What a direction of a line is like, and its short text: `rate=200M,delay=10ms,loss=0.1%`.

use std::str::FromStr;
use std::time::Duration;

/// What the line does with a packet longer than its MTU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TooBig {
    /// Drops it without a word, as where ICMP is filtered.
    #[default]
    Silent,
    /// Drops it and tells the sender by ICMP.
    Announced,
}

/// What the line does with UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Udp {
    /// The same as with everything.
    #[default]
    Passes,
    /// Drops it without a word, as many a firewall does. A firewall on the sender's own
    /// machine tells the sender, which is not the same.
    Dropped,
}

/// The conditions of one direction. The default is a perfect line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conditions {
    /// Bits per second of whole IP packets; none: without limit.
    pub rate_bit_s: Option<u64>,
    /// Time on the way, behind the queue.
    pub delay: Duration,
    /// At most this much is added to the delay, evenly spread, without changing the order.
    pub jitter: Duration,
    /// Room in front of the bottleneck, in bytes; more is dropped at the tail.
    pub queue_bytes: usize,
    /// Share of packets that are lost behind the queue, 0 to 1.
    pub loss: f64,
    /// Share of packets that are held back by [`Self::REORDER_BY`], 0 to 1.
    pub reorder: f64,
    /// Share of packets that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// Longest IP packet that passes, in bytes.
    pub mtu: usize,
    /// What happens to longer ones.
    pub too_big: TooBig,
    /// What happens to UDP.
    pub udp: Udp,
}

impl Conditions {
    /// How long a reordered packet is held back.
    pub const REORDER_BY: Duration = Duration::from_millis(3);

    /// A line with `mtu` bytes and ICMP filtered, perfect otherwise.
    pub fn with_mtu(mtu: usize) -> Self {
        Self {
            mtu,
            ..Self::default()
        }
    }

    /// A line that lets nothing through.
    pub fn cut() -> Self {
        Self {
            loss: 1.0,
            ..Self::default()
        }
    }
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            rate_bit_s: None,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            queue_bytes: 512 * 1024,
            loss: 0.0,
            reorder: 0.0,
            duplicate: 0.0,
            mtu: 1500,
            too_big: TooBig::Silent,
            udp: Udp::Passes,
        }
    }
}

/// A text that describes no line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?}: expected rate=200M, delay=10ms, jitter=1ms, queue=512K, loss=0.1%, reorder=1%, \
     duplicate=1%, mtu=1454, icmp=announced or udp=dropped, separated by commas"
)]
pub struct WrongConditions(String);

impl FromStr for Conditions {
    type Err = WrongConditions;

    fn from_str(text: &str) -> Result<Self, WrongConditions> {
        let mut conditions = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            conditions
                .apply(part)
                .ok_or_else(|| WrongConditions(part.to_owned()))?;
        }
        Ok(conditions)
    }
}

impl Conditions {
    fn apply(&mut self, part: &str) -> Option<()> {
        let (key, value) = part.split_once('=')?;
        match key {
            "rate" => self.rate_bit_s = Some(scaled(value, 1000)?).filter(|rate| *rate > 0),
            "delay" => self.delay = milliseconds(value)?,
            "jitter" => self.jitter = milliseconds(value)?,
            "queue" => self.queue_bytes = usize::try_from(scaled(value, 1024)?).ok()?,
            "loss" => self.loss = share(value)?,
            "reorder" => self.reorder = share(value)?,
            "duplicate" => self.duplicate = share(value)?,
            "mtu" => self.mtu = value.parse().ok()?,
            "icmp" => {
                self.too_big = match value {
                    "announced" => TooBig::Announced,
                    "filtered" => TooBig::Silent,
                    _ => return None,
                }
            }
            "udp" => {
                self.udp = match value {
                    "passes" => Udp::Passes,
                    "dropped" => Udp::Dropped,
                    _ => return None,
                }
            }
            _ => return None,
        }
        Some(())
    }
}

/// `200M`, `64K`, `1G` or a plain number; K is `kilo`.
fn scaled(text: &str, kilo: u64) -> Option<u64> {
    let (digits, factor) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.ends_with('K') => (digits, kilo),
        Some(digits) if text.ends_with('M') => (digits, kilo * kilo),
        Some(digits) => (digits, kilo * kilo * kilo),
        None => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn milliseconds(text: &str) -> Option<Duration> {
    let number: f64 = text.strip_suffix("ms")?.parse().ok()?;
    Duration::try_from_secs_f64(number / 1000.0).ok()
}

fn share(text: &str) -> Option<f64> {
    let percent: f64 = text.strip_suffix('%')?.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}
