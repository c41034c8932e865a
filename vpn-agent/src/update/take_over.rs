//! How the next program takes the running one's place.
//!
//! The old one starts the next one beside it (`vpn-agent.new[.exe] --replaces vpn-agent[.exe]
//! …`, with its own arguments) and ends. The next one renames itself over the old: one step,
//! atomic on every system, possible on Windows too because a running program may be renamed
//! and the one that is replaced no longer runs. Until that step the old program is there under
//! its name, from then on the next one is; a crash anywhere leaves one of them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::Refusal;
use super::staging::{Place, Staged};
use crate::os;

/// The argument that names the program to replace.
pub const REPLACES: &str = "--replaces";

/// How long the old program may take to be gone, and its watchers (antivirus) to let go.
const REPLACE_TRIES: u32 = 100;
const REPLACE_PAUSE: Duration = Duration::from_millis(200);

/// How long the next program may take to say its version.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// Where this program lies, once it has arrived there.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Takes the place of the program at `replaces`, if this one was started to; called once,
/// before anything else. False if it did not succeed: this program works all the same, from
/// where it lies, and the old one is tried again another time.
pub fn arrive(replaces: Option<&Path>) -> bool {
    let own = std::env::current_exe().unwrap_or_default();
    let Some(target) = replaces else {
        // A second call is a test's.
        let _ = PROGRAM.set(own);
        return true;
    };
    let replaced = replace(&own, target);
    if let Err(error) = &replaced {
        tracing::error!(%error, target = %target.display(), "did not take the old one's place");
    }
    let place = if replaced.is_ok() { target } else { &own };
    let _ = PROGRAM.set(place.to_owned());
    replaced.is_ok()
}

/// Where this program lies.
pub fn program() -> PathBuf {
    let arrived = PROGRAM.get().cloned();
    arrived.unwrap_or_else(|| std::env::current_exe().unwrap_or_default())
}

/// Renames `own` over `target` as soon as that is possible.
fn replace(own: &Path, target: &Path) -> io::Result<()> {
    // What this program may replace is the one that it lies beside.
    if own.parent() != target.parent() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the program to replace lies in another folder",
        ));
    }
    let mut tries = 0;
    loop {
        match os::replace_file(own, target) {
            Ok(()) => return Ok(()),
            Err(error) if tries >= REPLACE_TRIES => return Err(error),
            Err(_) => {
                tries += 1;
                std::thread::sleep(REPLACE_PAUSE);
            }
        }
    }
}

/// Lets the next program say its version: what cannot even do that must not take over.
pub async fn try_out(staged: &Staged) -> Result<(), Refusal> {
    let does_not_start = |why: String| Refusal::DoesNotStart {
        version: staged.version,
        why,
    };
    let mut command = tokio::process::Command::new(&staged.path);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(VERSION_LIMIT, command.output())
        .await
        .map_err(|_| does_not_start("no answer".to_owned()))?
        .map_err(|error| does_not_start(error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let is_right = said.split_whitespace().last() == Some(&staged.version.to_string());
    if output.status.success() && is_right {
        Ok(())
    } else {
        Err(does_not_start(format!(
            "{}: {:?}",
            output.status,
            said.trim()
        )))
    }
}

/// Starts the next program with this one's arguments; the caller ends right afterwards.
pub fn start_successor(place: &Place, staged: &Staged) -> io::Result<()> {
    place.note_try(staged.version)?;
    tracing::info!(version = %staged.version, "making way for the next version");
    let mut arguments = arguments();
    if arguments.is_empty() {
        // A double click: with arguments before it, what it means has to be said.
        arguments.push("open".into());
    }
    Command::new(&staged.path)
        .arg(REPLACES)
        .arg(place.program())
        .args(arguments)
        .spawn()
        .map(drop)
}

/// What this program was started with, for starting it again.
pub fn arguments() -> Vec<OsString> {
    without_replaces(std::env::args_os().skip(1))
}

/// The arguments, without who was replaced to get here.
fn without_replaces(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        if argument == OsStr::new(REPLACES) {
            arguments.next();
        } else {
            kept.push(argument);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::version;
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_next_program_gets_the_same_arguments() {
        let arguments = words("--replaces /x/vpn-agent --config c.toml open --no-browser");
        let kept = without_replaces(arguments.into_iter());
        assert_eq!(kept, words("--config c.toml open --no-browser"));
    }

    #[test]
    fn the_next_program_takes_the_old_ones_name_in_one_step() {
        let folder = tempfile::tempdir().unwrap();
        let (own, target) = (folder.path().join("a.new"), folder.path().join("a"));
        fs::write(&own, "next").unwrap();
        fs::write(&target, "old").unwrap();
        replace(&own, &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"next");
        assert!(!own.exists());
    }

    #[test]
    fn a_program_elsewhere_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("other")).unwrap();
        let (own, target) = (folder.path().join("a.new"), folder.path().join("other/a"));
        fs::write(&own, "next").unwrap();
        fs::write(&target, "old").unwrap();
        assert!(replace(&own, &target).is_err());
        assert_eq!(fs::read(&target).unwrap(), b"old");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_program_that_does_not_say_its_version_does_not_take_over() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let staged = |script: &str| {
            let path = folder.path().join(format!("p{}", script.len()));
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            Staged {
                path,
                version: version("1.1.0"),
            }
        };
        try_out(&staged("echo vpn-agent 1.1.0")).await.unwrap();
        for script in ["echo vpn-agent 1.0.0", "echo 1.1.0; exit 1", "kill -9 $$"] {
            let tried = try_out(&staged(script)).await;
            assert!(
                matches!(tried, Err(Refusal::DoesNotStart { .. })),
                "{script}: {tried:?}"
            );
        }
        let missing = Staged {
            path: folder.path().join("none"),
            version: version("1.1.0"),
        };
        assert!(try_out(&missing).await.is_err());
    }
}
