//! What the workspace promises about itself: who may depend on whom, and that documents point
//! at things that exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use renkei_tests::process::output;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the workspace")
}

/// The names under `[dependencies]` of a crate.
fn dependencies(krate: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(krate).join("Cargo.toml")).expect("a manifest");
    text.lines()
        .skip_while(|line| line.trim() != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn tracked_files() -> Vec<PathBuf> {
    output(
        Command::new("git")
            .args(["ls-files", "-z"])
            .current_dir(root()),
    )
    .expect("git lists the files")
    .split('\0')
    .filter(|name| !name.is_empty())
    .map(PathBuf::from)
    .collect()
}

#[test]
fn the_rules_of_access_depend_on_nothing_but_errors_and_time() {
    let allowed: BTreeSet<String> = ["thiserror", "time"].map(str::to_owned).into();
    assert_eq!(dependencies("gateway/access"), allowed);
}

#[test]
fn dependencies_between_our_crates_go_one_way() {
    let ours = [
        "access",
        "archive",
        "operator",
        "protocol",
        "tunnel",
        "udp",
        "gateway",
        "portal",
        "vpn-agent",
    ];
    let allowed: [(&str, &[&str]); 9] = [
        ("gateway/access", &[]),
        ("gateway/operator", &[]),
        ("gateway/protocol", &["access"]),
        ("gateway/tunnel", &[]),
        ("gateway/udp", &[]),
        (
            "gateway",
            &["access", "operator", "protocol", "tunnel", "udp"],
        ),
        ("portal", &["access", "archive", "operator", "protocol"]),
        ("portal/archive", &[]),
        (
            "vpn-agent",
            &["access", "archive", "protocol", "tunnel", "udp"],
        ),
    ];
    for (krate, allowed) in allowed {
        for dependency in dependencies(krate)
            .iter()
            .filter(|name| ours.contains(&name.as_str()))
        {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{krate} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn the_tunnel_owns_no_socket_and_the_protocol_sends_nothing() {
    for krate in ["gateway/tunnel", "gateway/protocol", "gateway/access"] {
        for forbidden in ["tokio", "socket2", "quinn-udp", "reqwest", "hyper"] {
            assert!(
                !dependencies(krate).contains(forbidden),
                "{krate} depends on {forbidden}"
            );
        }
    }
}

#[test]
fn every_source_file_says_its_duty_in_its_first_line() {
    for file in tracked_files() {
        if file.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(root().join(&file)).expect("a source file");
            assert!(
                text.starts_with("//!"),
                "{} does not say its duty",
                file.display()
            );
        }
    }
}

/// A runtime that is dropped waits without end for whatever its threads wait for.
#[test]
fn the_end_of_no_program_waits_for_a_silent_neighbour() {
    for (program, words) in [
        ("portal/src/cli.rs", "operator::runtime::run("),
        ("gateway/src/main.rs", "operator::runtime::run("),
        ("gateway/operator/src/runtime.rs", ".shutdown_timeout("),
        ("vpn-agent/src/main.rs", ".shutdown_timeout("),
    ] {
        let source = std::fs::read_to_string(root().join(program)).expect("a source file");
        assert!(source.contains(words), "{program} ends without {words}");
        assert!(!source.contains("#[tokio::main]"), "{program}");
    }
}

#[test]
fn no_module_file_is_called_mod() {
    for file in tracked_files() {
        assert_ne!(
            file.file_name().and_then(|name| name.to_str()),
            Some("mod.rs"),
            "{}",
            file.display()
        );
    }
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    for file in tracked_files() {
        if file.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = std::fs::read_to_string(root().join(&file)).expect("a document");
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if target.starts_with("http") || target.starts_with('#') {
                continue;
            }
            let path = target.split('#').next().unwrap_or(target);
            let folder = root().join(file.parent().expect("a folder"));
            assert!(
                folder.join(path).exists(),
                "{}: {target} does not exist",
                file.display()
            );
        }
    }
}

#[test]
fn every_test_that_the_documents_name_exists() {
    let sources: String = tracked_files()
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .map(|file| std::fs::read_to_string(root().join(file)).expect("a source file"))
        .collect();
    for (document, at_least) in [("docs/SECURITY.md", 100), ("docs/FEATURES.md", 90)] {
        let text = std::fs::read_to_string(root().join(document)).expect(document);
        let names: Vec<&str> = text
            .split('`')
            .filter(|word| {
                word.matches('_').count() >= 2
                    && word
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            })
            .collect();
        assert!(
            names.len() >= at_least,
            "{document} names only {} tests",
            names.len()
        );
        for name in names {
            assert!(
                sources.contains(&format!("fn {name}(")),
                "{document} names {name}, which does not exist"
            );
        }
    }
}

#[test]
fn every_fuzz_target_has_a_corpus_that_the_tests_replay() {
    let files = tracked_files();
    let sources: String = files
        .iter()
        .filter(|file| file.ends_with("fuzzing.rs"))
        .map(|file| std::fs::read_to_string(root().join(file)).expect("a source file"))
        .collect();
    let targets: Vec<&str> = files
        .iter()
        .filter(|file| file.starts_with("fuzz/fuzz_targets"))
        .filter_map(|file| file.file_stem()?.to_str())
        .collect();
    assert!(targets.len() >= 20, "{targets:?}");
    for target in targets {
        let corpus = Path::new("fuzz/corpus").join(target);
        assert!(
            files.iter().any(|file| file.starts_with(&corpus)),
            "{target} has no corpus"
        );
        assert!(
            sources.contains(&format!("replay(\"{target}\"")),
            "{target} is not replayed"
        );
    }
    let bytes: u64 = files
        .iter()
        .filter(|file| file.starts_with("fuzz/corpus"))
        .map(|file| root().join(file).metadata().expect("a file").len())
        .sum();
    assert!(bytes < 2_000_000, "{bytes} bytes of corpora");
}

/// S003-12, S003-22, S003-23, S003-47, S003-48: explanations, start guide and manuals, as pages
/// and as PDF.
#[test]
fn each_manual_has_its_pictures_and_its_pdf() {
    let folder = root().join("docs/manual");
    let mut manuals = 0;
    for file in std::fs::read_dir(&folder).expect("the manuals") {
        let page = file.expect("a file").path();
        if page.extension().is_none_or(|ending| ending != "html") {
            continue;
        }
        manuals += 1;
        let text = std::fs::read_to_string(&page).expect("a page");
        for attribute in ["src=\"", "href=\""] {
            for rest in text.split(attribute).skip(1) {
                let named = rest.split('"').next().unwrap_or_default();
                let there = folder.join(named).is_file();
                assert!(there, "{} wants {named}", page.display());
            }
        }
        let pdf = page.with_extension("pdf");
        assert!(pdf.is_file(), "run scripts/manual: no {}", pdf.display());
    }
    assert!(manuals >= 2, "{manuals} manuals");
}

/// How many functions the service has that Renkei takes the place of (S003-01 to S003-49).
const FUNCTIONS: usize = 49;

/// One row of docs/FEATURES.md: the cells behind the number.
fn function_row(document: &str, number: usize) -> Vec<&str> {
    let start = format!("| S003-{number:02} |");
    let rows: Vec<&str> = document
        .lines()
        .filter(|line| line.starts_with(&start))
        .collect();
    assert_eq!(rows.len(), 1, "docs/FEATURES.md has rows {start}: {rows:?}");
    let cells = rows[0].trim_matches('|').split('|').map(str::trim);
    cells.skip(1).collect()
}

/// What stands between backquotes.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The doc comment of a function, or `None` if the file has no such function.
fn doc_comment(source: &str, name: &str) -> Option<String> {
    let before = &source[..source.find(&format!("fn {name}("))?];
    let lines: Vec<&str> = before
        .lines()
        .rev()
        .skip(usize::from(!before.ends_with('\n')))
        .map(str::trim)
        .take_while(|line| line.starts_with("#[") || line.starts_with("///"))
        .collect();
    let comment = lines.iter().rev().filter(|line| line.starts_with("///"));
    Some(comment.copied().collect::<Vec<_>>().join("\n"))
}

#[test]
fn every_function_of_the_service_has_a_story_that_names_it_and_a_page() {
    let document = std::fs::read_to_string(root().join("docs/FEATURES.md")).expect("a document");
    let sources: String = tracked_files()
        .iter()
        .filter(|file| file.starts_with("portal/src") || file.starts_with("vpn-agent/src"))
        .map(|file| std::fs::read_to_string(root().join(file)).unwrap_or_default())
        .collect();
    for number in 1..=FUNCTIONS {
        let id = format!("S003-{number:02}");
        let row = function_row(&document, number);
        let [_, stories, places] = row[..] else {
            panic!("{id} has other columns: {row:?}")
        };
        for story in quoted(stories) {
            let (file, name) = story.split_once("::").expect(story);
            let source = std::fs::read_to_string(root().join("tests").join(file)).expect(story);
            let comment = doc_comment(&source, name).unwrap_or_else(|| panic!("{id}: no {story}"));
            assert!(
                comment.contains(&id),
                "{story} does not name {id}: {comment}"
            );
        }
        assert!(!quoted(stories).is_empty(), "{id} has no story");
        assert!(!quoted(places).is_empty(), "{id} is to be found nowhere");
        for place in quoted(places) {
            let there = if place.starts_with('/') {
                sources.contains(&format!("\"{place}\""))
            } else {
                root().join(place).exists()
            };
            assert!(there, "{id}: there is no {place}");
        }
    }
}
