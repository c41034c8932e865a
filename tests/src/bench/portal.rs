//! `scripts/bench portal`: the portal at the size of the reference fund with ten years of data,
//! on SQLite and on PostgreSQL, over HTTPS against the program as it is installed.
//!
//! The years are written into each database once ([`fund`], [`years`], [`around`]), both at the
//! same time; then one database after the other is measured, so that they do not disturb each
//! other. The order within one database matters to none of the numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use portal::db::Db;

use self::bulk::Dice;
use self::fund::Fund;
use self::lists::{LIMIT_MS, Line, Office};
use super::report::{Part, RESULTS, Table, Target, publish};
use super::{now, seconds};
use crate::process::output;
use crate::scanner::Scanner;
use crate::{Database, Stage, StageOptions, postgres};

mod around;
mod audit;
mod batch;
mod bulk;
mod cost;
mod door;
mod filings;
mod fund;
mod lists;
mod sign_ins;
mod years;

/// The reference fund's filings in ten years.
const FILINGS: usize = 200_000;
/// Filings that are handed in, each of 200 KB.
const HANDED_IN: usize = 1_000;
/// What can be measured.
const PARTS: [&str; 4] = ["batch", "lists", "sign-ins", "filings"];

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    filings: usize,
    hand_in: usize,
    only: Vec<String>,
    databases: Vec<&'static str>,
    publish: bool,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self {
            filings: FILINGS,
            hand_in: HANDED_IN,
            only: Vec::new(),
            databases: vec!["SQLite", "PostgreSQL"],
            publish: true,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("{word} wants a value"))
            };
            match *word {
                "--filings" => options.filings = value()?.parse()?,
                "--hand-in" => options.hand_in = value()?.parse()?,
                "--database" => {
                    let asked = value()?;
                    options
                        .databases
                        .retain(|name| name.eq_ignore_ascii_case(asked));
                    ensure!(!options.databases.is_empty(), "no database {asked}");
                }
                "--only" => {
                    let part = value()?;
                    ensure!(PARTS.contains(part), "no part {part}; there are {PARTS:?}");
                    options.only.push((*part).to_owned());
                }
                _ => bail!("unknown option {word}"),
            }
        }
        // A part of it, or a small fund, is for the eye and not for the document.
        options.publish = options.filings == FILINGS
            && options.hand_in == HANDED_IN
            && options.only.is_empty()
            && options.databases.len() == 2;
        ensure!(options.filings >= 2_000, "at least 2000 filings");
        Ok(options)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

/// One database with its fund, ready to be measured.
struct Ready {
    name: &'static str,
    stage: Stage,
    fund: Fund,
    url: String,
    rows: usize,
    took: Duration,
}

/// What was measured on one database.
struct Found {
    name: &'static str,
    rows: usize,
    prepared: Duration,
    batch: Option<batch::Found>,
    lists: Vec<Line>,
    sign_ins: Option<sign_ins::Found>,
    filings: Option<filings::Found>,
}

/// Runs it, and makes the document anew if all of it was measured.
pub(super) fn run(words: &[&str]) -> Result<()> {
    let options = Options::parse(words)?;
    tokio::runtime::Runtime::new()?.block_on(measure(&options))
}

async fn measure(options: &Options) -> Result<()> {
    let folder = std::env::current_dir()?.join("var/bench");
    let preparing = options.databases.iter().map(|name| {
        let (name, folder) = (*name, folder.join(format!("portal-{name}")));
        let filings = options.filings;
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || runtime.block_on(prepare(name, &folder, filings)))
    });
    let mut found = Vec::new();
    for preparing in preparing.collect::<Vec<_>>() {
        let ready = preparing.await??;
        found.push(ready);
    }
    let mut measured = Vec::new();
    for ready in found {
        let place = ready.stage.folder().to_owned();
        measured.push(one(options, ready).await?);
        // Some gigabytes that nobody looks at again.
        std::fs::remove_dir_all(place)?;
    }
    let part = report(options, &measured)?;
    if options.publish {
        part.keep(Path::new(RESULTS), "portal")?;
        return publish(Path::new(RESULTS));
    }
    for target in &part.targets {
        let kept = if target.met { "kept" } else { "NOT KEPT" };
        println!(
            "{}: {} ({}) {kept}",
            target.what, target.measured, target.target
        );
    }
    for table in &part.tables {
        println!("\n{}\n{}", table.title, table.head.join(" | "));
        for row in &table.rows {
            println!("{}", row.join(" | "));
        }
    }
    Ok(())
}

/// Starts the programs and writes ten years into their database.
async fn prepare(name: &'static str, folder: &Path, filings: usize) -> Result<Ready> {
    let begun = now();
    let database = match name {
        "SQLite" => Database::Sqlite,
        _ => Database::Postgres(postgres::database()?),
    };
    let options = StageOptions {
        database: database.clone(),
        log: "warn".into(),
        ..StageOptions::default()
    };
    let stage = Stage::start_in(folder, options).await?;
    let url = match database {
        Database::Sqlite => format!("sqlite:{}", stage.sqlite_file().display()),
        Database::Postgres(url) => url,
    };
    let db = Db::open(&url).await?;
    let mut dice = Dice::new();
    let fund = fund::settle(&stage, &db, &mut dice).await?;
    let rows = years::write(&db, &fund, filings, &mut dice).await?;
    around::write(&db, &fund, &mut dice).await?;
    if name == "PostgreSQL" {
        // Within ten years its own tidying up has been here.
        sqlx::query("VACUUM ANALYZE").execute(db.pool()).await?;
    }
    db.pool().close().await;
    let verified = output(&mut stage.portal_command(&["audit", "verify"]))?;
    eprintln!(
        "{name}: {rows} rows written in {:.0} s; {}",
        seconds(begun.elapsed()),
        verified.trim()
    );
    Ok(Ready {
        name,
        stage,
        fund,
        url,
        rows,
        took: begun.elapsed(),
    })
}

async fn one(options: &Options, ready: Ready) -> Result<Found> {
    let Ready {
        name,
        mut stage,
        fund,
        url,
        rows,
        took,
    } = ready;
    let scanner = scan_with_clamd(&mut stage).await?;
    let office = Office::open(&stage).await?;
    let mut found = Found {
        name,
        rows,
        prepared: took,
        batch: None,
        lists: Vec::new(),
        sign_ins: None,
        filings: None,
    };
    if options.wants("batch") {
        eprintln!("{name}: a batch");
        let (reviewer, boss) = (&office.reviewer, &office.supervisor);
        found.batch = Some(batch::issue(&stage, &fund, reviewer, boss).await?);
    }
    if options.wants("lists") {
        eprintln!("{name}: lists");
        found.lists = lists::walk(&stage, &fund, &office, options.filings).await?;
    }
    if options.wants("sign-ins") || options.wants("filings") {
        eprintln!("{name}: sign-ins");
        let mut processes = BTreeMap::from([
            ("portal", stage.portal.pid()),
            ("the clients", std::process::id()),
        ]);
        if name == "PostgreSQL" {
            processes.insert("PostgreSQL", postgres::process(&url)?);
        }
        let folder: PathBuf = stage.folder().to_owned();
        let mut signed = sign_ins::all_at_once(&stage, &fund, processes.clone(), &folder).await?;
        if options.wants("filings") {
            eprintln!("{name}: filings");
            processes.insert("clamd", scanner.pid());
            let numbers = signed.numbers(&fund);
            let (doors, count) = (&mut signed.doors, options.hand_in);
            found.filings = Some(filings::file(doors, &numbers, count, processes, &folder).await?);
        }
        signed.doors.clear();
        found.sign_ins = Some(signed);
    }
    stage.portal.check_running()?;
    Ok(found)
}

/// Gives the portal a virus scanner.
async fn scan_with_clamd(stage: &mut Stage) -> Result<Scanner> {
    let folder = stage.folder().join("clamd");
    let scanner = Scanner::start(&folder, &stage.logs()).await?;
    let config = std::fs::read_to_string(stage.portal_config())?;
    let socket = scanner.socket().display();
    std::fs::write(
        stage.portal_config(),
        format!("{config}\n[virus_scan]\nclamd = \"{socket}\"\n"),
    )?;
    stage.portal.terminate()?;
    stage.restart_portal().await?;
    Ok(scanner)
}

fn report(options: &Options, measured: &[Found]) -> Result<Part> {
    let mut part = Part::new(&format!(
        "The portal with ten years of the reference fund: 185 establishments, 555 PCs, {} filings",
        options.filings
    ))?;
    let mut table = Table {
        title: "Side by side".into(),
        head: ["what", "target"].map(str::to_owned).into(),
        ..Table::default()
    };
    table
        .head
        .extend(measured.iter().map(|found| found.name.to_owned()));
    for found in measured {
        targets(&mut part, found);
    }
    for (what, target, value) in LINES {
        let mut row = vec![(*what).to_owned(), (*target).to_owned()];
        row.extend(measured.iter().map(value));
        table.rows.push(row);
    }
    for at in 0..measured.first().map_or(0, |found| found.lists.len()) {
        let mut row = vec![
            format!("p95 of {}", measured[0].lists[at].page),
            format!("< {LIMIT_MS:.0} ms"),
        ];
        for found in measured {
            let same = found.lists.get(at).context("the same pages")?;
            ensure!(
                same.page == measured[0].lists[at].page,
                "other pages on {}",
                found.name
            );
            row.push(verdict(same.p95_ms));
        }
        table.rows.push(row);
    }
    table.note = "M: an admin of the largest establishment, which has a fourteenth of everything; \
        O: staff. Each page 40 times, over one connection. Members reach the portal behind the \
        header of a gateway, without a tunnel, whose benchmarks stand above. Clients, portal, \
        database and clamd share the machine."
        .into();
    part.tables.push(table);
    Ok(part)
}

fn verdict(p95_ms: f64) -> String {
    match p95_ms < LIMIT_MS {
        true => format!("{p95_ms:.0} ms"),
        false => format!("**{p95_ms:.0} ms**"),
    }
}

/// A line of the table: what, what is promised, and how one database did.
type TableLine = (&'static str, &'static str, fn(&Found) -> String);

const LINES: &[TableLine] = &[
    ("rows of these ten years", "", |found| {
        found.rows.to_string()
    }),
    ("writing them, audit log verified", "", |found| {
        format!("{:.0} s", seconds(found.prepared))
    }),
    (
        "three notices for each establishment: checked",
        "",
        |found| of(found.batch.as_ref(), |batch| time(batch.checked)),
    ),
    ("… released by a second person", "", |found| {
        of(found.batch.as_ref(), |batch| time(batch.released))
    }),
    ("… the last of the mails sent", "", |found| {
        of(found.batch.as_ref(), |batch| time(batch.mailed))
    }),
    (
        "everybody signs in at once: the middle one waits",
        "",
        |found| of(found.sign_ins.as_ref(), |sign_ins| time(sign_ins.median)),
    ),
    ("… CPU of one sign-in", "", |found| {
        of(found.sign_ins.as_ref(), |sign_ins| {
            sign_ins.cost.each_ms(sign_ins.people)
        })
    }),
    ("… where the portal's goes", "", |found| {
        of(found.sign_ins.as_ref(), |sign_ins| sign_ins.cost.work())
    }),
    ("… the portal's memory at its highest", "", |found| {
        of(found.sign_ins.as_ref(), |sign_ins| sign_ins.cost.peak())
    }),
    ("filings accepted in a second", "", |found| {
        of(found.filings.as_ref(), |filings| {
            format!("{:.1} /s", filings.filings as f64 / seconds(filings.all))
        })
    }),
    (
        "… beginning the upload, its bytes, handing in (medians)",
        "",
        |found| {
            of(found.filings.as_ref(), |filings| {
                filings.steps.map(time).join(", ")
            })
        },
    ),
    ("… CPU of one filing", "", |found| {
        of(found.filings.as_ref(), |filings| {
            filings.cost.each_ms(filings.filings)
        })
    }),
    ("… where the portal's goes", "", |found| {
        of(found.filings.as_ref(), |filings| filings.cost.work())
    }),
    ("… the portal's memory at its highest", "", |found| {
        of(found.filings.as_ref(), |filings| filings.cost.peak())
    }),
    (
        "a zip of 190 MB with four filings: its bytes, handing in",
        "",
        |found| {
            of(found.filings.as_ref(), |filings| {
                filings.largest.steps.map(time).join(", ")
            })
        },
    ),
    ("… the portal's memory at its highest", "", |found| {
        of(found.filings.as_ref(), |filings| {
            filings.largest.cost.peak()
        })
    }),
];

fn of<T>(found: Option<&T>, say: impl FnOnce(&T) -> String) -> String {
    found.map_or_else(|| "–".to_owned(), say)
}

fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        short if short < 1.0 => format!("{:.0} ms", short * 1e3),
        long => format!("{long:.1} s"),
    }
}

/// What is promised, for one database.
fn targets(part: &mut Part, found: &Found) {
    let name = found.name;
    let mut add = |what: String, target: String, measured: String, met: bool| {
        part.targets.push(Target {
            what: format!("{what} ({name})"),
            target,
            measured,
            met,
        });
    };
    let slowest = |one: &&Line, other: &&Line| one.p95_ms.total_cmp(&other.p95_ms);
    if let Some(slowest) = found.lists.iter().max_by(slowest) {
        add(
            format!("p95 of the slowest of {} list pages", found.lists.len()),
            format!("< {LIMIT_MS:.0} ms"),
            format!("{:.0} ms", slowest.p95_ms),
            slowest.p95_ms < LIMIT_MS,
        );
    }
    if let Some(signed) = &found.sign_ins {
        add(
            format!("{} sign-ins at once, without error", signed.people),
            format!("≤ {:.0} s", seconds(sign_ins::LIMIT)),
            time(signed.all),
            signed.all <= sign_ins::LIMIT,
        );
    }
    if let Some(batch) = &found.batch {
        let all = batch.checked + batch.released + batch.mailed;
        add(
            format!("{} notices checked, released and mailed", batch.notices),
            format!("< {:.0} s", seconds(batch::LIMIT)),
            time(all),
            all < batch::LIMIT,
        );
    }
    if let Some(filings) = &found.filings {
        add(
            format!(
                "{} filings of 200 KB accepted with all checks",
                filings.filings
            ),
            "all".to_owned(),
            format!("all, in {}", time(filings.all)),
            true,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_fund_is_measured_but_not_published() {
        let small = Options::parse(&["--filings", "4000", "--only", "lists"]).unwrap();
        assert!(!small.publish && small.wants("lists") && !small.wants("batch"));
        assert!(Options::parse(&[]).unwrap().publish);
        assert!(Options::parse(&["--only", "list"]).is_err());
        assert!(Options::parse(&["--database", "oracle"]).is_err());
        assert!(Options::parse(&["--filings"]).is_err());
    }
}
