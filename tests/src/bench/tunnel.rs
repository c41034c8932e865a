//! `scripts/bench tunnel`: the contestants, in turns, between two network namespaces.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::namespaces::{Cable, Namespaces};
use super::report::{PARTS, RESULTS, publish};

mod field;
mod lines;
mod speed;

/// Parts that are programs of their own, which take `--keep FILE` for the part's results.
const OTHERS: [(&str, &str); 1] = [("many", "renkei-many")];

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    quick: bool,
    only: Vec<String>,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--quick" => options.quick = true,
                "--only" => {
                    let part = words.next().context("--only wants a part")?;
                    if !PARTS.contains(part) {
                        bail!("no part {part}; there are {PARTS:?}");
                    }
                    options.only.push((*part).to_owned());
                }
                _ => bail!("unknown option {word}"),
            }
        }
        Ok(options)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }

    fn rounds(&self) -> usize {
        if self.quick { 2 } else { 5 }
    }
}

/// Runs the parts that are wanted and makes the document anew.
pub(super) fn run(words: &[&str]) -> Result<()> {
    let options = Options::parse(words)?;
    let folder = std::env::current_dir()?.join("var/bench");
    let results = Path::new(RESULTS);
    if options.wants("speed") {
        let namespaces = Namespaces::join(Cable::Ethernet)?;
        namespaces.fund().run(async || {
            unless_interrupted(speed::measure(&namespaces, &folder, results, &options)).await
        })?;
    }
    if options.wants("lines") {
        let namespaces = Namespaces::join(Cable::Line(lines::line(0.0)))?;
        namespaces.fund().run(async || {
            unless_interrupted(lines::measure(&namespaces, &folder, results, &options)).await
        })?;
    }
    for (part, program) in OTHERS {
        let program = std::env::current_exe()?.with_file_name(program);
        if options.wants(part) && program.exists() {
            let kept = results.join(part).with_extension("json");
            std::fs::create_dir_all(results)?;
            let status = Command::new(&program).arg("--keep").arg(&kept).status()?;
            ensure!(
                status.success(),
                "{} ended with {status}",
                program.display()
            );
        }
    }
    publish(results)
}

/// Lets what was started be ended before the program is.
async fn unless_interrupted(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_part_is_refused() {
        let options = Options::parse(&["--quick", "--only", "many"]).unwrap();
        assert!(options.quick && options.wants("many") && !options.wants("speed"));
        assert!(Options::parse(&["--only", "mny"]).is_err());
        assert!(Options::parse(&["--fast"]).is_err());
    }
}
