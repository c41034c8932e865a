//! How much of a line a session gets, and how long a page waits beside it.
//!
//! All in simulated time: a share that is missed is a defect, not a busy machine. Each test
//! prints what it reached: `cargo test --release -p tunnel lines -- --nocapture`.

use std::time::Duration;

use super::line::{Line, Path};
use super::traffic::{Page, Transfer, Way};
use super::world::World;

const MEGABYTE: u64 = 1_000_000;

/// tokio's timers count milliseconds.
const TIMER_GRAIN: Duration = Duration::from_millis(1);

const BOTH_WAYS: [Way; 2] = [Way::Up, Way::Down];

/// An office's line: 200 Mbit/s, and the fund 20 ms away.
fn office() -> Path {
    Path::line(200, 20, 512)
}

/// A line at home: 20 Mbit/s, 30 ms, and a cheap router's queue.
fn home() -> Path {
    Path::line(20, 30, 64)
}

fn connected(path: Path, seed: u64, pcs: usize) -> World {
    let mut world = World::new(path, seed);
    world.timer_grain = TIMER_GRAIN;
    for pc in 0..pcs {
        world.add_pc();
        world.run_until("connected", |world| world.is_connected(pc));
    }
    world
}

fn line(path: &Path) -> Line {
    path.line.expect("these paths have a line")
}

/// What happened in one transfer.
struct Outcome {
    /// Of what the line carries of a user's bytes.
    share: f64,
    /// Of all datagrams that were sent, those that found no room in the queue.
    overflow: f64,
    longest_wait: Duration,
}

/// Moves `megabytes` over a new session.
fn transfer(path: Path, seed: u64, way: Way, megabytes: u64) -> Outcome {
    let mut world = connected(path, seed, 1);
    let mut transfer = Transfer::start(&mut world, 0, way, megabytes * MEGABYTE);
    world.run_until("transferred", |world| transfer.advance(world));
    let used = match way {
        Way::Up => world.up,
        Way::Down => world.down,
    };
    let line = line(&path);
    let outcome = Outcome {
        share: transfer.rate() / line.payload_per_s(),
        overflow: used.dropped as f64 / used.offered as f64,
        longest_wait: used.longest_wait,
    };
    println!(
        "{:>4} Mbit/s {:>3} ms {:>4} KB, {:>4.1} % lost, {:>3.1} % late, {way:<4?} seed {seed}: {:6.2} MB/s, {:3.0} % of the line, {:4.1} % overflow, waited {:?}",
        line.bytes_per_s / 125_000,
        path.delay.as_millis() * 2,
        line.queue_bytes / 1024,
        path.loss as f64 / 10.0,
        path.reorder as f64 / 10.0,
        transfer.rate() / 1e6,
        outcome.share * 100.0,
        outcome.overflow * 100.0,
        outcome.longest_wait,
    );
    outcome
}

fn fills_four_fifths_of_an_office_line(way: Way) {
    for of_a_thousand in [0, 1, 10] {
        for seed in 1..=3 {
            let outcome = transfer(office().losing(of_a_thousand), seed, way, 100);
            assert!(outcome.share >= 0.8, "{}", outcome.share);
            assert!(outcome.overflow < 0.03, "{}", outcome.overflow);
        }
    }
}

#[test]
fn an_upload_fills_four_fifths_of_an_office_line_though_one_percent_is_lost() {
    fills_four_fifths_of_an_office_line(Way::Up);
}

#[test]
fn a_download_fills_four_fifths_of_an_office_line_though_one_percent_is_lost() {
    fills_four_fifths_of_an_office_line(Way::Down);
}

#[test]
fn a_line_at_home_is_filled_to_nine_tenths() {
    for of_a_thousand in [0, 1, 10] {
        for way in BOTH_WAYS {
            for seed in 1..=3 {
                let outcome = transfer(home().losing(of_a_thousand), seed, way, 20);
                assert!(outcome.share >= 0.9, "{}", outcome.share);
                assert!(outcome.overflow < 0.03, "{}", outcome.overflow);
            }
        }
    }
}

#[test]
fn heavy_loss_and_reordering_cost_speed_but_stop_nothing() {
    for way in BOTH_WAYS {
        assert!(transfer(office().losing(50), 1, way, 30).share >= 0.6);
        assert!(transfer(office().losing(200), 1, way, 10).share >= 0.3);
        assert!(transfer(office().reordering(50), 1, way, 50).share >= 0.75);
        assert!(transfer(home().losing(200), 1, way, 4).share >= 0.3);
        assert!(transfer(office().losing(500), 1, way, 2).share >= 0.01);
    }
}

#[test]
fn far_away_gateways_are_reached_at_a_good_rate_and_without_flooding_the_line() {
    for way in BOTH_WAYS {
        // A stream's window of 2 MiB allows 20 MB/s at 100 ms and 7 MB/s at 300 ms.
        for (path, share) in [
            (Path::line(200, 100, 512), 0.6),
            (Path::line(200, 100, 512).losing(1), 0.4),
            (Path::line(200, 100, 512).losing(10), 0.3),
            (Path::line(50, 300, 512), 0.7),
            (Path::line(50, 300, 512).losing(10), 0.4),
        ] {
            let outcome = transfer(path, 1, way, 50);
            assert!(outcome.share >= share, "{}", outcome.share);
            assert!(outcome.overflow < 0.05, "{}", outcome.overflow);
        }
    }
}

#[test]
fn a_long_queue_stays_nearly_empty_and_a_short_one_is_not_flooded() {
    for way in BOTH_WAYS {
        let long = transfer(Path::line(20, 30, 2048), 1, way, 20);
        assert!(long.share >= 0.9, "{}", long.share);
        // 2 MB would be 840 ms.
        assert!(long.longest_wait < Duration::from_millis(80));
        let short = transfer(Path::line(100, 20, 64), 1, way, 50);
        assert!(short.share >= 0.85, "{}", short.share);
        assert!(short.overflow < 0.06, "{}", short.overflow);
    }
}

#[test]
fn slow_and_fast_lines_are_filled_alike() {
    for way in BOTH_WAYS {
        assert!(transfer(Path::line(2, 40, 64), 1, way, 3).share >= 0.85);
        assert!(transfer(Path::line(1000, 2, 512), 1, way, 100).share >= 0.85);
    }
}

/// Loads 20 pages, with `beside` at work all the time, and returns how long the slowest and
/// the middle one took.
fn pages(world: &mut World, mut beside: Option<Transfer>) -> (Duration, Duration) {
    let mut took = Vec::new();
    let mut work = |world: &mut World| {
        if let Some(transfer) = &mut beside {
            assert!(!transfer.advance(world), "the transfer is too short");
        }
    };
    let pause = Duration::from_millis(1500);
    let wait = world.now + pause;
    world.keep_awake(wait);
    world.run_until("pause is over", |world| {
        work(world);
        world.now >= wait
    });
    for number in 0..20 {
        let mut page = Page::start(world, 0);
        world.run_until("page is there", |world| {
            work(world);
            page.advance(world)
        });
        took.push(page.took());
        // Of different length, so as to meet all states of the queue.
        let wait = world.now + Duration::from_millis(97 + 13 * number);
        world.keep_awake(wait);
        world.run_until("pause is over", |world| {
            work(world);
            world.now >= wait
        });
    }
    took.sort();
    (took[19], took[10])
}

#[test]
fn a_page_beside_a_transfer_waits_less_than_300_ms_more() {
    for path in [office(), home(), home().losing(1), Path::line(20, 30, 2048)] {
        let alone = pages(&mut connected(path, 1, 1), None);
        for way in BOTH_WAYS {
            let mut world = connected(path, 1, 1);
            let transfer = Transfer::start(&mut world, 0, way, 1000 * MEGABYTE);
            let beside = pages(&mut world, Some(transfer));
            println!(
                "{:?}: alone {alone:?}, beside {way:?} {beside:?}",
                line(&path)
            );
            let more = beside.0.saturating_sub(alone.0);
            assert!(more < Duration::from_millis(300), "{more:?}");
        }
    }
}

/// Runs all transfers for so long and returns what each has moved in that time.
fn run(world: &mut World, transfers: &mut [Transfer], time: Duration) -> Vec<u64> {
    let before: Vec<_> = transfers.iter().map(Transfer::arrived).collect();
    let until = world.now + time;
    world.keep_awake(until);
    world.run_until("time is over", |world| {
        for transfer in &mut *transfers {
            transfer.advance(world);
        }
        world.now >= until
    });
    let moved = transfers.iter().zip(before);
    moved
        .map(|(after, before)| after.arrived() - before)
        .collect()
}

#[test]
fn two_sessions_on_one_line_get_a_fair_share_each() {
    for path in [
        office(),
        home(),
        Path::line(20, 30, 2048),
        Path::line(100, 20, 64),
    ] {
        for way in BOTH_WAYS {
            let mut world = connected(path, 1, 2);
            let first = Transfer::start(&mut world, 0, way, 1000 * MEGABYTE);
            let mut transfers = vec![first];
            run(&mut world, &mut transfers, Duration::from_secs(2));
            let second = Transfer::start(&mut world, 1, way, 1000 * MEGABYTE);
            transfers.push(second);
            run(&mut world, &mut transfers, Duration::from_secs(2));
            let moved = run(&mut world, &mut transfers, Duration::from_secs(6));
            let whole = line(&path).payload_per_s() * 6.0;
            let shares: Vec<_> = moved.iter().map(|moved| *moved as f64 / whole).collect();
            println!("{:?} {way:?}: {shares:.2?}", line(&path));
            assert!(shares.iter().all(|share| *share >= 0.25), "{shares:?}");
            assert!(shares.iter().sum::<f64>() >= 0.8, "{shares:?}");
        }
    }
}

#[test]
fn a_line_that_drops_to_a_tenth_and_comes_back_is_followed() {
    for way in BOTH_WAYS {
        let mut world = connected(office(), 1, 1);
        let mut transfers = vec![Transfer::start(&mut world, 0, way, 1000 * MEGABYTE)];
        run(&mut world, &mut transfers, Duration::from_secs(2));
        let fast = line(&world.path);
        let slow = Line {
            bytes_per_s: fast.bytes_per_s / 10,
            ..fast
        };
        let mut shares = Vec::new();
        for line in [slow, fast] {
            world.path.line = Some(line);
            run(&mut world, &mut transfers, Duration::from_secs(3));
            let moved = run(&mut world, &mut transfers, Duration::from_secs(3));
            shares.push(moved[0] as f64 / (line.payload_per_s() * 3.0));
        }
        println!("{way:?}: {shares:.2?} of the line");
        assert!(shares.iter().all(|share| *share >= 0.8), "{shares:?}");
    }
}

#[test]
fn both_ways_at_once_are_filled() {
    for path in [office(), office().losing(10), home(), home().losing(10)] {
        let mut world = connected(path, 1, 1);
        let mut transfers =
            BOTH_WAYS.map(|way| Transfer::start(&mut world, 0, way, 1000 * MEGABYTE));
        run(&mut world, &mut transfers, Duration::from_secs(2));
        // Ten seconds: within three, one cut more or less at 1 % loss moves a share by a tenth.
        let moved = run(&mut world, &mut transfers, Duration::from_secs(10));
        let whole = line(&path).payload_per_s() * 10.0;
        let shares: Vec<_> = moved.iter().map(|moved| *moved as f64 / whole).collect();
        println!("{:?} {} of 1000 lost: {shares:.2?}", line(&path), path.loss);
        assert!(shares.iter().all(|share| *share >= 0.7), "{shares:?}");
    }
}
