//! Opens thousands of sessions at one gateway and measures what they cost.
//!
//! Called by `scripts/bench`. Prints a table in Markdown, or with `--json` one JSON object a
//! line; `--keep` leaves the part of the benchmarks' document in a file. Fails if a target is missed and `--strict` is given: on a machine that is busy with
//! other things, numbers say little.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use renkei_tests::many::{self, Options, SecondFactor};

const USAGE: &str = "renkei-many [--sessions N] [--at-once N] [--mail] [--rest-s N] [--work-s N] \
                     [--flood N] [--keep FILE] [--json] [--strict]";

#[tokio::main]
async fn main() -> Result<()> {
    let mut options = Options {
        sessions: 5000,
        at_once: 64,
        second_factor: SecondFactor::Authenticator,
        rest: Duration::from_secs(30),
        work: Duration::from_secs(4),
        flood_per_s: 10_000,
        folder: std::env::current_dir()?.join("var/many"),
    };
    let (mut json, mut strict, mut keep) = (false, false, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--keep" {
            keep = Some(arguments.next().context(USAGE)?);
            continue;
        }
        let mut number = || -> Result<u32> { Ok(arguments.next().context(USAGE)?.parse()?) };
        match argument.as_str() {
            "--sessions" => options.sessions = number()?.try_into()?,
            "--at-once" => options.at_once = number()?.try_into()?,
            "--mail" => options.second_factor = SecondFactor::Mail,
            "--rest-s" => options.rest = Duration::from_secs(number()?.into()),
            "--work-s" => options.work = Duration::from_secs(number()?.into()),
            "--flood" => options.flood_per_s = number()?,
            "--json" => json = true,
            "--strict" => strict = true,
            _ => bail!(USAGE),
        }
    }
    ensure!(options.sessions >= 2, "at least two sessions");
    let rows = many::run(&options, |text| eprintln!("{text}")).await?;
    if let Some(file) = keep {
        let part = serde_json::to_string_pretty(&many::part(&rows, &options))?;
        std::fs::write(&file, part + "\n").with_context(|| format!("write {file}"))?;
    }
    if json {
        for row in &rows {
            println!("{}", serde_json::to_string(row)?);
        }
    } else {
        println!("| what | measured | target | reached |\n|---|---|---|---|");
        for row in &rows {
            println!("{row}");
        }
    }
    ensure!(
        !strict || rows.iter().all(many::Row::is_reached),
        "a target is missed"
    );
    Ok(())
}
