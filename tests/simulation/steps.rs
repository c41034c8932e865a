//! What can happen: the kinds of steps, and how often each is drawn.
//!
//! A step is chosen before the world runs and without looking at it; what a step points at
//! and finds missing does nothing. So any part of a failing sequence can be left out and the
//! rest still runs, which is how a failure is made short.

use crate::random::Random;

/// PCs in a world. The first half belongs to one establishment, the rest to another.
pub const DEVICES: usize = 4;

/// Gateways in a world.
pub const GATEWAYS: usize = 2;

/// Ways to each gateway: two UDP ports, and TLS.
pub const WAYS: usize = 3;

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A user presses 接続, or 切断 if there is a session and `anew`.
    Connect {
        device: usize,
        gateway: usize,
        anew: bool,
    },
    /// A user presses 切断.
    Disconnect { device: usize },
    /// A browser sends and fetches so many bytes on a new stream.
    Transfer { device: usize, up: u32, down: u32 },
    /// A little time passes.
    Wait { ms: u64 },
    /// Much time passes.
    Idle { s: u64 },
    /// Time passes to so many nanoseconds before or after a session's end; just before it
    /// the gateway may lose its processor, or have its wall clock set back.
    ToTheEdge {
        device: usize,
        by_ns: i64,
        stall: bool,
        behind: bool,
    },
    /// The PC's agent makes new WireGuard keys and looks for its path anew.
    NewKeys { device: usize },
    /// The PC gets another address, which its agent may notice.
    Roam { device: usize, noticed: bool },
    /// The PC's network lets only some ways pass; the others are dropped in silence, or refused.
    Ways {
        device: usize,
        pass: [bool; WAYS],
        refused: bool,
    },
    /// The PC sleeps.
    Sleep { device: usize, s: u64 },
    /// All PCs sleep for so long, and that time passes.
    Night { s: u64 },
    /// The agent is killed without a word.
    KillAgent { device: usize },
    /// The agent turns evil, or good again: it ignores every end and goes on sending.
    Rogue { device: usize, evil: bool },
    /// The evil agent sends with another PC's inner address.
    BorrowAddress { device: usize, of: usize },
    /// Somebody sends an old datagram again, from his own address or the sender's.
    Replay { pick: u64, own_address: bool },
    /// Somebody sends a datagram that was changed, cut or made up.
    Forge { pick: u64, how: u8 },
    /// Staff revoke a PC; a new one is enrolled in its place.
    Revoke { device: usize },
    /// Staff revoke a PC so soon after its user pressed 接続 that the word of it and the
    /// answer are on their way together.
    Race {
        device: usize,
        gateway: usize,
        ms: u64,
    },
    /// Staff suspend an establishment, or let it in again.
    Suspend { establishment: usize, out: bool },
    /// Staff close the service today, at once.
    CloseToday,
    /// Staff let today's service end in so many minutes.
    CloseEarlier { minutes: i64 },
    /// Staff open today, whatever day it is, until so many minutes from now.
    ExtraDay { minutes: i64 },
    /// Staff take back what they entered.
    OrdinaryDay,
    /// A gateway stops in order, and starts again after a while.
    StopGateway { gateway: usize, down_ms: u64 },
    /// A gateway is killed, and starts again after a while.
    KillGateway { gateway: usize, down_ms: u64 },
    /// A gateway gets no processor for a while: its timers are late.
    StallGateway { gateway: usize, ms: u64 },
    /// The line between gateway and portal is cut.
    CutFeed { gateway: usize, ms: u64 },
    /// The line between gateway and portal has this delay from now on.
    SlowFeed { gateway: usize, ms: u64 },
    /// The portal restarts.
    RestartPortal { down_ms: u64 },
    /// Somebody sets a gateway's wall clock, so far from the truth.
    SetGatewayWall { gateway: usize, off_s: i64 },
    /// A gateway's clocks run fast or slow from now on.
    DriftGateway { gateway: usize, ppm: i64 },
    /// Somebody sets a PC's wall clock, so far from the truth.
    SetPcWall { device: usize, off_s: i64 },
    /// A PC's clocks run fast or slow from now on.
    DriftPc { device: usize, ppm: i64 },
    /// A PC's path to the internet is like this from now on.
    Path {
        device: usize,
        loss: u64,
        delay_ms: u64,
        jitter_ms: u64,
        twice: u64,
    },
    /// A PC's path is cut.
    CutPath { device: usize, ms: u64 },
    /// All is repaired and stays so for a minute: whatever may arrive must arrive.
    Calm,
}

/// The largest drift of any clock, in parts per million. Quartz stays under 100.
pub const DRIFT_LIMIT_PPM: i64 = 500;

/// The longest delay of the line between gateway and portal, in milliseconds.
pub const FEED_DELAY_LIMIT_MS: u64 = 400;

impl Step {
    /// Draws a step.
    pub fn draw(random: &mut Random) -> Self {
        let device = random.below(DEVICES as u64) as usize;
        let gateway = random.below(GATEWAYS as u64) as usize;
        let sign =
            |random: &mut Random, limit: i64| random.between(0, 2 * limit as u64) as i64 - limit;
        let kind = random.below(10_000);
        match kind {
            0..2200 => Self::Transfer {
                device,
                up: size(random),
                down: size(random),
            },
            2200..5200 => Self::Wait {
                ms: random.between(1, 150),
            },
            5200..6400 => Self::Replay {
                pick: random.next(),
                own_address: random.chance(500),
            },
            6400..7900 => Self::Forge {
                pick: random.next(),
                how: random.below(6) as u8,
            },
            7900..8200 => {
                let bad = random.chance(400);
                Self::Path {
                    device,
                    loss: if bad { random.between(0, 300) } else { 0 },
                    delay_ms: random.between(1, 60),
                    jitter_ms: if bad { random.between(0, 80) } else { 0 },
                    twice: if bad { random.between(0, 200) } else { 0 },
                }
            }
            8200..8750 => Self::Connect {
                device,
                gateway,
                anew: random.chance(50),
            },
            8750..8775 => Self::Disconnect { device },
            8775..8840 => Self::Idle {
                s: random.between(1, 60),
            },
            8840..8940 => Self::ToTheEdge {
                device,
                by_ns: match random.below(5) {
                    0 => -1,
                    1 => 0,
                    2 => 1,
                    _ => sign(random, 200_000_000),
                },
                stall: random.chance(400),
                behind: random.chance(400),
            },
            8940..8990 => Self::NewKeys { device },
            8990..9060 => Self::Roam {
                device,
                noticed: random.chance(700),
            },
            9060..9090 => Self::Ways {
                device,
                pass: match random.below(8) {
                    0 => [false, true, true],
                    1 => [true, false, true],
                    2 => [false, false, true],
                    3 => [false, true, false],
                    4 => [true, false, false],
                    _ => [true; WAYS],
                },
                refused: random.chance(300),
            },
            9090..9120 => Self::Sleep {
                device,
                s: match random.below(10) {
                    0..5 => random.between(1, 30),
                    5..9 => random.between(30, 300),
                    _ => random.between(300, 6000),
                },
            },
            9120..9123 => Self::Night {
                s: random.between(600, 6000),
            },
            9123..9140 => Self::KillAgent { device },
            9140..9220 => Self::Rogue {
                device,
                evil: random.chance(600),
            },
            9220..9250 => Self::BorrowAddress {
                device,
                of: random.below(DEVICES as u64) as usize,
            },
            9250..9270 => Self::Revoke { device },
            9270..9300 => Self::Suspend {
                establishment: device % 2,
                out: random.chance(250),
            },
            9300..9303 => Self::CloseToday,
            9303..9306 => Self::CloseEarlier {
                minutes: random.between(0, 40) as i64,
            },
            9306..9312 => Self::Race {
                device,
                gateway,
                ms: random.between(1, 600),
            },
            9312..9318 => Self::CloseEarlier {
                minutes: random.between(0, 40) as i64,
            },
            9318..9330 => Self::ExtraDay {
                minutes: random.between(1, 240) as i64,
            },
            9330..9390 => Self::OrdinaryDay,
            9390..9397 => Self::StopGateway {
                gateway,
                down_ms: random.between(1, 8000),
            },
            9397..9410 => Self::KillGateway {
                gateway,
                down_ms: match random.below(3) {
                    0 => random.between(8_000, 120_000),
                    _ => random.between(1, 8_000),
                },
            },
            9410..9490 => Self::StallGateway {
                gateway,
                ms: random.between(1, 3000),
            },
            9490..9520 => Self::CutFeed {
                gateway,
                ms: match random.below(2) {
                    0 => random.between(1, 4000),
                    _ => random.between(4000, 60_000),
                },
            },
            9520..9570 => Self::SlowFeed {
                gateway,
                ms: random.between(1, FEED_DELAY_LIMIT_MS),
            },
            9570..9580 => Self::RestartPortal {
                down_ms: random.between(1, 20_000),
            },
            9580..9640 => Self::SetGatewayWall {
                gateway,
                off_s: match random.below(6) {
                    0 => sign(random, 7200),
                    1 => sign(random, 40),
                    _ => 0,
                },
            },
            9640..9720 => Self::DriftGateway {
                gateway,
                ppm: sign(random, DRIFT_LIMIT_PPM),
            },
            9720..9800 => Self::SetPcWall {
                device,
                off_s: sign(random, 7200),
            },
            9800..9880 => Self::DriftPc {
                device,
                ppm: sign(random, DRIFT_LIMIT_PPM),
            },
            9880..9985 => Self::CutPath {
                device,
                ms: match random.below(6) {
                    0 => random.between(1000, 40_000),
                    _ => random.between(1, 1000),
                },
            },
            _ => Self::Calm,
        }
    }

    /// The kind's name, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Disconnect { .. } => "disconnect",
            Self::Transfer { .. } => "transfer",
            Self::Wait { .. } => "wait",
            Self::Idle { .. } => "idle",
            Self::ToTheEdge { .. } => "to the edge",
            Self::NewKeys { .. } => "new keys",
            Self::Roam { .. } => "roam",
            Self::Ways { .. } => "ways",
            Self::Sleep { .. } => "sleep",
            Self::Night { .. } => "night",
            Self::KillAgent { .. } => "kill agent",
            Self::Rogue { .. } => "rogue",
            Self::BorrowAddress { .. } => "borrow address",
            Self::Replay { .. } => "replay",
            Self::Forge { .. } => "forge",
            Self::Revoke { .. } => "revoke",
            Self::Race { .. } => "race",
            Self::Suspend { .. } => "suspend",
            Self::CloseToday => "close today",
            Self::CloseEarlier { .. } => "close earlier",
            Self::ExtraDay { .. } => "extra day",
            Self::OrdinaryDay => "ordinary day",
            Self::StopGateway { .. } => "stop gateway",
            Self::KillGateway { .. } => "kill gateway",
            Self::StallGateway { .. } => "stall gateway",
            Self::CutFeed { .. } => "cut feed",
            Self::SlowFeed { .. } => "slow feed",
            Self::RestartPortal { .. } => "restart portal",
            Self::SetGatewayWall { .. } => "set gateway's wall clock",
            Self::DriftGateway { .. } => "drift of a gateway",
            Self::SetPcWall { .. } => "set PC's wall clock",
            Self::DriftPc { .. } => "drift of a PC",
            Self::Path { .. } => "path",
            Self::CutPath { .. } => "cut path",
            Self::Calm => "calm",
        }
    }
}

/// Most pages are small; some files are not.
fn size(random: &mut Random) -> u32 {
    let limit = match random.below(100) {
        0..60 => 300,
        60..95 => 2_000,
        95..99 => 12_000,
        _ => 60_000,
    };
    random.below(limit) as u32
}
