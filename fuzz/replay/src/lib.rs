//! Replays the committed corpus of a fuzz target in an ordinary test.
//!
//! Whatever input once led a parser somewhere new, or broke it, is under `fuzz/corpus`, one
//! folder for each target. The crate that owns the parser calls [`replay`] in its tests, so
//! that every run of the tests, on the stable compiler, tries them all again. Never used
//! outside tests.

use std::fs;
use std::path::{Path, PathBuf};

/// Runs `target` on every file of `fuzz/corpus/<name>`, in the order of their names.
///
/// # Panics
/// If there is no such corpus, or if `target` panics: the file is named then.
pub fn replay(name: &str, target: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../corpus")
        .join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap_or_else(|error| panic!("{folder:?}: {error}")))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{folder:?} is empty");
    for file in files {
        let input = fs::read(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        let named = NameOnPanic(&file);
        target(&input);
        drop(named);
    }
}

/// Tells which file it was when a target panics.
struct NameOnPanic<'a>(&'a Path);

impl Drop for NameOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the target fails on {}", self.0.display());
        }
    }
}
