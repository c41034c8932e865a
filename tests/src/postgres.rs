//! An empty PostgreSQL database for a stage.
//!
//! The server is the one that `RENKEI_TEST_POSTGRES` names, or one that
//! `scripts/test-postgres` starts once per test run and stops when this process ends.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};

use crate::process::output;

/// Makes a database and returns its URL.
pub fn database() -> Result<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let server = server()?;
    let name = format!(
        "story_{}_{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    query(
        &format!("{server}/postgres"),
        &format!("CREATE DATABASE {name}"),
    )?;
    Ok(format!("{server}/{name}"))
}

/// The process of the server that a database's URL leads to.
///
/// # Errors
/// If it runs on another machine.
pub fn process(url: &str) -> Result<u32> {
    let folder = query(url, "SHOW data_directory")?;
    let file = Path::new(folder.trim()).join("postmaster.pid");
    let text = std::fs::read_to_string(&file).context("the server's process")?;
    let first = text.lines().next().context("a line")?;
    first.trim().parse().context("a process id")
}

/// Runs one statement and returns what `psql` prints.
pub fn query(url: &str, sql: &str) -> Result<String> {
    output(Command::new("psql").args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, url]))
}

/// `postgres://user@127.0.0.1:port`, without a database.
fn server() -> Result<&'static str> {
    static URL: OnceLock<String> = OnceLock::new();
    if let Some(url) = URL.get() {
        return Ok(url);
    }
    let url = match std::env::var("RENKEI_TEST_POSTGRES") {
        Ok(url) => url,
        Err(_) => {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/test-postgres");
            output(Command::new(script).arg(std::process::id().to_string()))?
        }
    };
    // A second server that lost the race is stopped with this process, like the first.
    let _ = URL.set(url.trim().to_owned());
    URL.get().map(String::as_str).context("a server")
}
