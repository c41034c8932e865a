//! How the next program takes the running one's place.
//!
//! The old one leaves a copy of itself behind as the guard ([`super::guard`]), starts that
//! (`vpn-agent.old[.exe] --guards vpn-agent[.exe] …`, with its own arguments) and ends. The
//! guard starts the next one (`vpn-agent.new[.exe] --replaces vpn-agent[.exe] …`), which
//! renames itself over the old: one step, atomic on every system, possible on Windows too
//! because a running program may be renamed and the one that is replaced no longer runs. Until
//! that step the old program is there under its name, from then on the next one is; a crash
//! anywhere leaves one of them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::staging::{Place, Staged};
use super::{Refusal, running_version};
use crate::os;

/// The argument that names the program to replace.
pub const REPLACES: &str = "--replaces";

/// The argument that names the program whose next version is watched.
pub const GUARDS: &str = "--guards";

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
        tracing::error!(%error, "did not take the old one's place");
    }
    let place = if replaced.is_ok() { target } else { &own };
    let _ = PROGRAM.set(place.to_owned());
    replaced.is_ok()
}

/// Whether this program was started to take another's place, and a guard waits for it.
pub fn is_watched() -> bool {
    std::env::args_os().any(|argument| argument == OsStr::new(REPLACES))
}

/// Where this program lies.
pub fn program() -> PathBuf {
    let arrived = PROGRAM.get().cloned();
    arrived.unwrap_or_else(|| std::env::current_exe().unwrap_or_default())
}

/// Renames `own` over `target` as soon as that is possible.
fn replace(own: &Path, target: &Path) -> io::Result<()> {
    // Replaced already, before the PC lost power: it is only watched once more.
    if own == target {
        return Ok(());
    }
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

/// Starts the next program with this one's arguments, under the eyes of a copy of this one,
/// which was kept before; the caller ends right afterwards.
pub fn start_successor(place: &Place, staged: &Staged) -> io::Result<()> {
    place.note_try(staged.version)?;
    tracing::info!(version = %staged.version, "making way for the next version");
    start_guard(place)
}

/// Whether this program took over and was ended, by a power cut say, before it had come up and
/// without anybody who watches: then it starts once more, watched. `is_watched` says that it
/// is.
///
/// # Errors
/// If the guard does not start.
pub fn start_again_watched(place: &Place, is_watched: bool) -> io::Result<bool> {
    let is_on_trial = place.on_trial() == Some(running_version());
    if is_watched || !is_on_trial || !place.keeps_old() {
        return Ok(false);
    }
    tracing::warn!("this version has not come up yet; starting it under watch");
    start_guard(place).map(|()| true)
}

fn start_guard(place: &Place) -> io::Result<()> {
    Command::new(place.old_path())
        .arg(GUARDS)
        .arg(place.program())
        .args(arguments())
        .spawn()
        .map(drop)
}

/// What this program was started with, for starting it again.
pub fn arguments() -> Vec<OsString> {
    let mut arguments = without_changes(std::env::args_os().skip(1));
    if arguments.is_empty() {
        // A double click: with arguments before it, what it means has to be said.
        arguments.push("open".into());
    }
    arguments
}

/// The arguments, without what an update added to them.
fn without_changes(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        if argument == OsStr::new(REPLACES) || argument == OsStr::new(GUARDS) {
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
        let added = "--guards /x/vpn-agent --replaces /x/vpn-agent";
        let arguments = words(&format!("{added} --config c.toml open --no-browser"));
        let kept = without_changes(arguments.into_iter());
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
