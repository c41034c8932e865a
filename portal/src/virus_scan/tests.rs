//! A real clamd with a signature file of our own, and scanners that are none.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;
use archive::Password;

/// EICAR's test file in parts, so that no scanner takes this file for it; anywhere in a file.
const SIGNATURE: [&str; 3] = [
    "Renkei.Test:0:*:58354f2150254041505b345c505a58353428505e29",
    "3743432937",
    "7d2445494341522d5354414e444152442d414e544956495255532d544553542d46494c452124482b482a",
];

/// How often it is looked whether clamd answers, a minute in all.
const LOOKS: usize = 1200;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A running clamd that knows one signature.
pub(crate) struct Scanner {
    process: Child,
    folder: tempfile::TempDir,
}

impl Scanner {
    /// One that looks at files of 1 MB at most.
    pub(crate) fn start() -> Self {
        Self::with_limit("1M")
    }

    pub(crate) fn with_limit(limit: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("signatures")).unwrap();
        let signature = SIGNATURE.concat();
        std::fs::write(at("signatures/renkei.ndb"), signature + "\n").unwrap();
        let config = format!(
            "DatabaseDirectory {0}/signatures\nLocalSocket {0}/socket\nForeground yes\n\
             TemporaryDirectory {0}\nStreamMaxLength {limit}\n",
            folder.path().display()
        );
        std::fs::write(at("clamd.conf"), config).unwrap();
        let process = Command::new("/usr/sbin/clamd")
            .arg("--config-file")
            .arg(at("clamd.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("clamav-daemon is installed");
        let scanner = Self { process, folder };
        for _ in 0..LOOKS {
            if scan(&scanner.clamd(), b"hello").is_ok() {
                return scanner;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        panic!("clamd does not answer");
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub(crate) fn clamd(&self) -> Clamd {
        Clamd::Socket(self.folder.path().join("socket"))
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn filing(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus");
    let bytes = std::fs::read(folder.join(name)).unwrap();
    if !archive::looks_like_zip(&bytes) {
        return bytes;
    }
    let password = Password::new("Rene52hsqx3ca4q2".into());
    let mut opened = archive::open(&bytes, Some(&password)).unwrap();
    opened.entries.swap_remove(0).bytes
}

fn check(clamd: Clamd, bytes: &[u8]) -> Result<(), Fault> {
    let rule = IsClean { clamd: Some(clamd) };
    rule.check(bytes, &mut Facts::default())
}

#[test]
fn clamd_finds_what_hides_behind_a_good_pdf_and_passes_the_others() {
    let scanner = Scanner::start();
    let virus = Err(Fault::Virus("Renkei.Test.UNOFFICIAL".to_owned()));
    assert_eq!(
        check(scanner.clamd(), &filing("bad/eicar_attached.zip")),
        virus
    );
    for good in [
        "good/20240229_0123_資格喪失届.pdf",
        "good/20240524_0123_資格取得届.zip",
    ] {
        assert_eq!(check(scanner.clamd(), &filing(good)), Ok(()));
    }
    // Longer than this clamd looks at: it says nothing of it, so it does not pass.
    let long = vec![b' '; 3 * 1024 * 1024];
    assert_eq!(check(scanner.clamd(), &long), Err(Fault::Unscannable));
}

#[test]
fn without_a_verdict_nothing_passes() {
    let nowhere = tempfile::tempdir().unwrap();
    let missing = Clamd::Socket(nowhere.path().join("none"));
    assert_eq!(check(missing, b"x"), Err(Fault::Unscanned));
    // Somebody listens and hangs up at once.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Clamd::Address(listener.local_addr().unwrap());
    let hanging_up = std::thread::spawn(move || drop(listener.accept()));
    assert_eq!(check(address, b"x"), Err(Fault::Unscanned));
    hanging_up.join().unwrap();
}

#[test]
fn only_a_clear_answer_is_a_verdict() {
    let clean = |answer: &[u8]| matches!(understand(answer), Ok(Verdict::Clean));
    assert!(clean(b"stream: OK\0") && clean(b"stream: OK\n"));
    for other in [
        b"".as_slice(),
        b"OK",
        b"stream: OK FOUND",
        b"stream: NOT OK",
        b"stream: OKAY\0",
    ] {
        assert!(!clean(other), "{}", String::from_utf8_lossy(other));
    }
    let too_large = b"INSTREAM size limit exceeded. ERROR\0";
    assert!(matches!(
        understand(too_large),
        Err(ScanError::NoVerdict(_))
    ));
    let found = understand(b"stream: Eicar-Signature FOUND\0").unwrap();
    assert_eq!(found, Verdict::Infected("Eicar-Signature".to_owned()));
    let endless = [b"stream: ", vec![b'x'; 300].as_slice(), b" FOUND"].concat();
    assert!(understand(&endless).is_err());
}

#[test]
fn clamd_is_named_by_a_path_or_an_address() {
    let read = |text: &str| Clamd::try_from(text.to_owned());
    assert_eq!(
        read("/run/clamd.ctl"),
        Ok(Clamd::Socket("/run/clamd.ctl".into()))
    );
    assert_eq!(
        read("127.0.0.1:3310"),
        Ok(Clamd::Address(([127, 0, 0, 1], 3310).into()))
    );
    for wrong in ["", "clamd.ctl", "localhost:3310", "127.0.0.1"] {
        assert_eq!(read(wrong), Err(NotAnAddress), "{wrong}");
    }
}
