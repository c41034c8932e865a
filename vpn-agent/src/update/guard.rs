//! Sees to it that the next version comes up, and puts the one of before back if it does not.
//!
//! What passes every check may still break down right after it took over: at a file of the
//! user's, with an antivirus. So the program of before stays beside it and runs as its own
//! guard: it starts the next version, waits until that has noted that it came up
//! ([`Place::note_came_up`]), and else puts itself back under the program's name, gives the
//! version up, and starts as before. It never speaks to anybody, and reads nothing but what
//! [`Place`] keeps.
//!
//! It polls the child and a file; what a child came to is decided in [`judge`].

use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::staging::Place;
use super::take_over::{REPLACES, arguments};

/// How long the next version may take to come up: an antivirus looks at it first.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often is looked.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How often the old program's name is tried, while somebody looks at the file.
const PUT_BACK_TRIES: u32 = 50;
const PUT_BACK_PAUSE: Duration = Duration::from_millis(200);

/// What a watched start came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Not known yet.
    Open,
    /// The next version is there.
    CameUp,
    /// It ended, or said nothing for too long.
    Failed,
}

fn judge(came_up: bool, has_ended: bool, waited: Duration, patience: Duration) -> Verdict {
    if came_up {
        Verdict::CameUp
    } else if has_ended || waited >= patience {
        Verdict::Failed
    } else {
        Verdict::Open
    }
}

/// Starts the next version of `program`, which remembers in `data_dir`, and stays until it has
/// come up or the one of before runs again.
///
/// # Errors
/// If neither can be started.
pub fn watch_over_start(program: &Path, data_dir: &Path) -> io::Result<()> {
    let place = Place::new(program.to_owned(), data_dir);
    watch(&place, PATIENCE, |path, replaces| {
        let mut command = Command::new(path);
        if replaces {
            command.arg(REPLACES).arg(program);
        }
        command.args(arguments()).spawn()
    })
}

/// `start` starts a program, as one that replaces or not.
fn watch(
    place: &Place,
    patience: Duration,
    start: impl Fn(&Path, bool) -> io::Result<Child>,
) -> io::Result<()> {
    let Some(version) = place.on_trial() else {
        return start(place.program(), false).map(drop);
    };
    // Not there any more: it took over, and was ended before it had come up.
    let next = Some(place.next_path()).filter(|path| path.exists());
    let next = next.unwrap_or_else(|| place.program().to_owned());
    if let Ok(child) = start(&next, true)
        && attend(place, child, patience)
    {
        return Ok(());
    }
    tracing::warn!(%version, "did not come up; the version of before is put back");
    // Noted first: whatever happens now, it is not tried again.
    place.give_up(version)?;
    put_back(place)?;
    place.discard();
    start(place.program(), false).map(drop)
}

/// Waits for what becomes of the started program. True if it came up.
fn attend(place: &Place, mut child: Child, patience: Duration) -> bool {
    let Some(version) = place.on_trial() else {
        return true;
    };
    let start = now();
    loop {
        // In this order: one that came up and was closed at once has come up.
        let has_ended = !matches!(child.try_wait(), Ok(None));
        let came_up = place.has_come_up(version);
        match judge(came_up, has_ended, now() - start, patience) {
            Verdict::Open => std::thread::sleep(LOOK_AGAIN),
            Verdict::CameUp => return true,
            Verdict::Failed => {
                // It may have ended already.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

fn put_back(place: &Place) -> io::Result<()> {
    for _ in 0..PUT_BACK_TRIES {
        if place.put_old_back().is_ok() {
            return Ok(());
        }
        std::thread::sleep(PUT_BACK_PAUSE);
    }
    place.put_old_back()
}

#[expect(clippy::disallowed_methods, reason = "this is the guard's event loop")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::cell::RefCell;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::super::tests::version;
    use super::*;

    /// A PC whose programs are scripts.
    struct Pc {
        folder: tempfile::TempDir,
        place: Place,
        started: RefCell<Vec<(PathBuf, bool)>>,
    }

    impl Pc {
        /// The old program is about to be replaced by one that does `script`.
        fn with_next(script: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let program = folder.path().join("agent");
            write(&program, "true");
            let place = Place::new(program, folder.path());
            place.keep_old().unwrap();
            place.note_try(version("1.1.0")).unwrap();
            write(&place.next_path(), script);
            Self {
                folder,
                place,
                started: RefCell::default(),
            }
        }

        fn watch(&self, patience: Duration) {
            watch(&self.place, patience, |path, replaces| {
                let name = path.to_owned();
                self.started.borrow_mut().push((name, replaces));
                let mut command = Command::new(path);
                command
                    .arg(self.place.program())
                    .current_dir(self.folder.path());
                // Another test's child may hold a script open that was just written.
                for _ in 0..100 {
                    match command.spawn() {
                        Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                            std::thread::sleep(LOOK_AGAIN / 10);
                        }
                        started => return started,
                    }
                }
                command.spawn()
            })
            .unwrap();
        }

        fn program(&self) -> String {
            fs::read_to_string(self.place.program()).unwrap()
        }
    }

    fn write(path: &Path, script: &str) {
        fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Takes over and notes that it came up, as the agent does.
    const GOOD: &str = r#"mv "$0" "$1"
        sed 's/"came_up":null/"came_up":"1.1.0"/' update.json > u && mv u update.json
        sleep 5"#;

    #[test]
    fn a_version_that_comes_up_stays() {
        let pc = Pc::with_next(GOOD);
        pc.watch(Duration::from_secs(20));
        assert!(pc.program().contains("came_up"), "{}", pc.program());
        assert_eq!(*pc.started.borrow(), [(pc.place.next_path(), true)]);
        assert!(!pc.place.has_given_up(version("1.1.0")));
    }

    #[test]
    fn a_version_that_breaks_down_or_hangs_is_put_back_once_and_given_up() {
        for script in [
            "exit 1",
            r#"mv "$0" "$1"; exit 1"#,
            r#"mv "$0" "$1"; exec sleep 100"#,
            r#"mv "$0" "$1"; kill -SEGV $$"#,
        ] {
            let pc = Pc::with_next(script);
            pc.watch(Duration::from_millis(700));
            assert!(pc.program().ends_with("true\n"), "{script}");
            assert_eq!(
                *pc.started.borrow(),
                [
                    (pc.place.next_path(), true),
                    (pc.place.program().to_owned(), false)
                ],
                "{script}"
            );
            assert!(pc.place.has_given_up(version("1.1.0")));
            assert!(!pc.place.next_path().exists());
        }
    }

    #[test]
    fn one_that_was_cut_short_after_it_took_over_is_watched_once_more() {
        let pc = Pc::with_next("true");
        write(&pc.place.next_path(), "exit 1");
        fs::rename(pc.place.next_path(), pc.place.program()).unwrap();
        pc.watch(Duration::from_secs(5));
        let program = pc.place.program().to_owned();
        assert_eq!(
            *pc.started.borrow(),
            [(program.clone(), true), (program, false)]
        );
        assert!(pc.program().ends_with("true\n"));
    }

    #[test]
    fn coming_up_counts_whatever_follows_and_an_end_or_a_long_silence_does_not() {
        let limit = Duration::from_secs(90);
        let short = Duration::from_secs(1);
        assert_eq!(judge(true, true, limit, limit), Verdict::CameUp);
        assert_eq!(judge(false, true, short, limit), Verdict::Failed);
        assert_eq!(judge(false, false, limit, limit), Verdict::Failed);
        assert_eq!(judge(false, false, short, limit), Verdict::Open);
    }
}
