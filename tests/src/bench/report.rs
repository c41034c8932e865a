//! What was measured, kept part by part, and the document made of it.
//!
//! Each part of the benchmark leaves a file of results, so that one part can be measured anew
//! without the others. Programs of other benchmarks write the same file.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;

use crate::process::output;

/// The parts, in the order of the document.
pub(super) const PARTS: [&str; 5] = ["speed", "lines", "many", "agent", "portal"];

/// Where the parts lie: with the document, so that one part can be measured on a machine
/// that has never measured the others.
pub(super) const RESULTS: &str = "docs/benchmarks";

/// What one part found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Part {
    /// When, in UTC.
    pub(super) date: String,
    /// The heading.
    pub(super) title: String,
    /// The numbers that are promised.
    pub(super) targets: Vec<Target>,
    /// Everything else.
    pub(super) tables: Vec<Table>,
}

/// A promised number.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Target {
    /// What it is.
    pub(super) what: String,
    /// What is promised.
    pub(super) target: String,
    /// What was measured.
    pub(super) measured: String,
    /// Whether the promise is kept.
    pub(super) met: bool,
}

/// A table of Markdown.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Table {
    /// What it shows.
    pub(super) title: String,
    /// The first row.
    pub(super) head: Vec<String>,
    /// The others.
    pub(super) rows: Vec<Vec<String>>,
    /// What must be known to read it.
    pub(super) note: String,
}

impl Part {
    /// A part measured now.
    pub(super) fn new(title: &str) -> Result<Self> {
        Ok(Self {
            date: today()?.replace_nanosecond(0)?.format(&Rfc3339)?,
            title: title.to_owned(),
            ..Self::default()
        })
    }

    /// Keeps the part as `NAME.json` in `results`.
    pub(super) fn keep(&self, results: &Path, name: &str) -> Result<()> {
        std::fs::create_dir_all(results)?;
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(results.join(name).with_extension("json"), text + "\n")?;
        Ok(())
    }

    fn read(results: &Path, name: &str) -> Result<Option<Self>> {
        let file = results.join(name).with_extension("json");
        if !file.exists() {
            return Ok(None);
        }
        let part = serde_json::from_str(&std::fs::read_to_string(&file)?);
        part.map(Some)
            .with_context(|| format!("read {}", file.display()))
    }
}

/// Writes `docs/BENCHMARKS.md` from the results of all parts that have been measured, on this
/// day or an earlier one, and shows it.
pub(super) fn publish(results: &Path) -> Result<()> {
    let text = document(results)?;
    std::fs::write("docs/BENCHMARKS.md", &text)?;
    println!("{text}");
    Ok(())
}

fn document(results: &Path) -> Result<String> {
    let mut text = format!(
        "# What Renkei costs\n\nMade by `scripts/bench`; not written by hand. {}\n\n\
         | what | promised | measured | kept |\n|---|---|---|---|\n",
        machine()?
    );
    let mut rest = String::new();
    for name in PARTS {
        let Some(part) = Part::read(results, name)? else {
            continue;
        };
        for target in &part.targets {
            let met = if target.met { "yes" } else { "**no**" };
            row(
                &mut text,
                [&target.what, &target.target, &target.measured, met],
            )?;
        }
        write!(rest, "\n## {}\n\nMeasured {}.\n", part.title, part.date)?;
        for table in &part.tables {
            write!(rest, "\n**{}**\n\n", table.title)?;
            row(&mut rest, table.head.iter().map(String::as_str))?;
            row(&mut rest, table.head.iter().map(|_| "---"))?;
            for cells in &table.rows {
                row(&mut rest, cells.iter().map(String::as_str))?;
            }
            if !table.note.is_empty() {
                write!(rest, "\n{}\n", table.note)?;
            }
        }
    }
    Ok(text + &rest)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the machine's clock"
)]
fn today() -> Result<time::OffsetDateTime> {
    Ok(std::time::SystemTime::now().into())
}

fn row<'a>(text: &mut String, cells: impl IntoIterator<Item = &'a str>) -> Result<()> {
    for cell in cells {
        write!(text, "| {cell} ")?;
    }
    text.push_str("|\n");
    Ok(())
}

/// One sentence about this machine.
fn machine() -> Result<String> {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown CPU", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism()?;
    let kernel = output(Command::new("uname").arg("-r"))?;
    Ok(format!(
        "The machine: {cores} cores of {model}, Linux {}; both ends and their clients run on it.",
        kernel.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_is_shown_as_one() {
        let results = tempfile::tempdir().unwrap();
        let mut part = Part::new("Speed").unwrap();
        part.targets.push(Target {
            what: "upload".into(),
            target: "0.45 s".into(),
            measured: "0.50 s".into(),
            met: false,
        });
        part.keep(results.path(), "speed").unwrap();
        let document = document(results.path()).unwrap();
        assert!(
            document.contains("| upload | 0.45 s | 0.50 s | **no** |"),
            "{document}"
        );
    }
}
