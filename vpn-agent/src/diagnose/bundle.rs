//! The support bundle: a zip with the diagnosis, that may be mailed to anybody.
//!
//! It holds what was written for it here, and the end of the agent's own log, which names no
//! address and nobody ([`crate::log`]); no other file of the PC goes in, no key. The sentences
//! of the diagnosis and the lines of the log are masked on top of that: names of people and
//! companies that this PC knows, addresses, numbers, and everything that looks like a token.
//! [`crate::commands`] and [`crate::page`] call it.

use std::io::{Cursor, Write as _};
use std::net::IpAddr;
use std::path::Path;

use serde::Serialize;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{Finding, Outcome};
use crate::config::Config;
use crate::dial::settings::ProxySettings;
use crate::log;
use crate::os;
use crate::status::{StateName, StatusReport, Transport, WayReport};
use crate::store::Store;

/// What the bundle is called when it is saved.
pub const FILE_NAME: &str = "renkei-diagnosis.zip";

/// In place of what is masked.
const MASK: &str = "（伏せました）";

/// Numbers with so many digits are masked: one-time passwords have six.
const MASKED_DIGITS: usize = 6;

/// Words with so many letters and digits are masked: keys and tokens have more.
const MASKED_WORD: usize = 24;

/// How much of the log's end goes in, in bytes: a few hundred lines.
const LOG_LIMIT_BYTES: u64 = 64 * 1024;

/// Names shorter than this are not masked: they would be found in every word.
const SHORTEST_NAME: usize = 2;

#[derive(Serialize)]
struct Details<'a> {
    program: &'static str,
    version: &'static str,
    system: String,
    architecture: &'static str,
    findings: Vec<Line>,
    running: bool,
    state: Option<StateName>,
    transport: Option<Transport>,
    ways: &'a [WayReport],
    clock_ahead_s: Option<i64>,
    registrations: usize,
    damaged_registrations: usize,
    settings: Settings,
}

#[derive(Serialize)]
struct Line {
    subject: &'static str,
    outcome: Outcome,
    sentence: String,
}

/// Which settings there are, without their values.
#[derive(Serialize)]
struct Settings {
    proxy: &'static str,
    gateway_url: bool,
    gateway_ca_file: bool,
    browser: bool,
    browser_args: usize,
}

/// Makes the bundle.
///
/// # Errors
/// If the zip cannot be written, which takes a lack of memory.
pub fn bundle(
    findings: &[Finding],
    config: &Config,
    store: &Store,
    running: Option<&StatusReport>,
) -> Result<Vec<u8>, zip::result::ZipError> {
    let found = store.find().ok();
    let names = names(config, store, running);
    let findings: Vec<_> = findings
        .iter()
        .map(|finding| Line {
            subject: finding.subject,
            outcome: finding.outcome,
            sentence: mask(&finding.sentence, &names),
        })
        .collect();
    let details = Details {
        program: "vpn-agent",
        version: env!("CARGO_PKG_VERSION"),
        system: mask(&os::system_name(), &names),
        architecture: std::env::consts::ARCH,
        running: running.is_some(),
        state: running.map(|report| report.state),
        transport: running.and_then(|report| report.transport),
        ways: running.map_or(&[], |report| &report.ways),
        clock_ahead_s: running.and_then(|report| report.clock_skew_s),
        registrations: found.as_ref().map_or(0, |found| found.enrolments.len()),
        damaged_registrations: found.as_ref().map_or(0, |found| found.damaged.len()),
        settings: Settings {
            proxy: match &config.proxy {
                ProxySettings::System => "system",
                ProxySettings::Environment => "environment",
                ProxySettings::None => "none",
                ProxySettings::Fixed(_) => "fixed",
            },
            gateway_url: config.gateway_url.is_some(),
            gateway_ca_file: config.gateway_ca_file.is_some(),
            browser: config.browser.is_some(),
            browser_args: config.browser_args.len(),
        },
        findings,
    };
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("diagnosis.txt", options)?;
    zip.write_all(text(&details).as_bytes())?;
    zip.start_file("details.json", options)?;
    serde_json::to_writer_pretty(&mut zip, &details).map_err(std::io::Error::from)?;
    zip.start_file("log.txt", options)?;
    for line in log::tail(&config.data_dir, LOG_LIMIT_BYTES).lines() {
        zip.write_all(mask(line, &names).as_bytes())?;
        zip.write_all(b"\r\n")?;
    }
    Ok(zip.finish()?.into_inner())
}

/// For people, as Windows' own editor reads it.
fn text(details: &Details<'_>) -> String {
    let mut text = format!(
        "\u{FEFF}連携（vpn-agent）{} の診断結果\r\n{}・{}\r\n\r\n",
        details.version, details.system, details.architecture
    );
    for line in &details.findings {
        let mark = line.outcome.mark();
        text += &format!("[{mark}] {}：{}\r\n", line.subject, line.sentence);
    }
    text + "\r\n氏名、事業所名、アドレス、番号などは、送る前に自動的に伏せてあります。\r\n"
}

/// The names that this PC knows and nobody else has to.
fn names(config: &Config, store: &Store, running: Option<&StatusReport>) -> Vec<String> {
    let mut names = vec![os::machine_name()];
    for variable in [
        "USERNAME",
        "USER",
        "LOGNAME",
        "USERDOMAIN",
        "COMPUTERNAME",
        "HOSTNAME",
    ] {
        names.extend(std::env::var(variable));
    }
    for variable in ["USERPROFILE", "HOME"] {
        names.extend(std::env::var(variable));
    }
    let paths = [
        Some(&config.data_dir),
        config.gateway_ca_file.as_ref(),
        config.browser.as_ref(),
    ];
    for path in paths.into_iter().flatten() {
        names.push(path.display().to_string());
        names.extend(path.parent().map(|parent| parent.display().to_string()));
        names.extend(owner(path));
    }
    names.extend(config.browser_args.iter().cloned());
    if let ProxySettings::Fixed(proxy) = &config.proxy {
        names.push(proxy.host().to_owned());
        names.extend(proxy.secrets());
    }
    for enrolment in store.find().into_iter().flat_map(|found| found.enrolments) {
        names.push(enrolment.record.establishment.to_string());
        names.push(enrolment.record.device_name.clone());
        names.push(enrolment.key.matching_code());
        if let Some(enrolled) = enrolment.enrolled() {
            names.push(enrolled.establishment_name.clone());
            names.push(enrolled.fund_name.clone());
        }
    }
    if let Some(report) = running {
        let told = [
            &report.establishment,
            &report.establishment_name,
            &report.fund_name,
            &report.matching_code,
            &report.code_mailed_to,
            &report.portal_url,
            &report.proxy,
        ];
        names.extend(told.into_iter().flatten().cloned());
    }
    // `/` would mask everything that has a path in it.
    names.retain(|name| name.chars().filter(|c| c.is_alphanumeric()).count() >= SHORTEST_NAME);
    // The longest first: a name may hold another.
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    names.dedup();
    names
}

/// Whose folder a path leads into: `C:\Users\tanaka\…`, `/home/tanaka/…`.
fn owner(path: &Path) -> Option<String> {
    let mut parts = path.components();
    parts.find(|part| {
        let name = part.as_os_str();
        name.eq_ignore_ascii_case("users") || name.eq_ignore_ascii_case("home")
    })?;
    Some(parts.next()?.as_os_str().to_string_lossy().into_owned())
}

/// Takes `names`, addresses, long numbers and tokens out of a sentence.
pub fn mask(sentence: &str, names: &[String]) -> String {
    let mut text = sentence.to_owned();
    for name in names {
        // A number of four digits must not take a part out of a longer one.
        if name.chars().all(|c| c.is_ascii_digit()) {
            text = map_words(
                &text,
                |c| c.is_ascii_digit(),
                |word| (word == name).then_some(MASK),
            );
        } else {
            text = text.replace(name, MASK);
        }
    }
    let is_mail = |c: char| c.is_ascii_alphanumeric() || "._%+-*@".contains(c);
    text = map_words(&text, is_mail, |word| {
        let inner = word.trim_matches('.');
        (inner.contains('@') && inner.len() > 2).then_some(MASK)
    });
    let is_address = |c: char| c.is_ascii_hexdigit() || ".:".contains(c);
    text = map_words(&text, is_address, |word| {
        let port_off = word.rsplit_once(':').map_or(word, |(host, _)| host);
        [word, word.trim_matches(['.', ':']), port_off]
            .iter()
            .any(|part| part.parse::<IpAddr>().is_ok())
            .then_some(MASK)
    });
    text = map_words(
        &text,
        |c| c.is_ascii_digit(),
        |word| (word.len() >= MASKED_DIGITS).then_some(MASK),
    );
    let is_token = |c: char| c.is_ascii_alphanumeric() || "+/_=-".contains(c);
    map_words(&text, is_token, |word| {
        (word.len() >= MASKED_WORD && word.contains(|c: char| c.is_ascii_digit())).then_some(MASK)
    })
}

/// Replaces the longest runs of characters that belong to words.
fn map_words(
    text: &str,
    belongs: impl Fn(char) -> bool,
    replacement: impl Fn(&str) -> Option<&'static str>,
) -> String {
    let mut mapped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(&belongs) {
        let (before, word) = rest.split_at(start);
        let end = word.find(|c| !belongs(c)).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        mapped.push_str(before);
        mapped.push_str(replacement(word).unwrap_or(word));
        rest = after;
    }
    mapped + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_secret_or_a_person_is_masked() {
        let names = [
            "C:\\Users\\tanaka".to_owned(),
            "田中製作所".into(),
            "tanaka".into(),
            "0123".into(),
        ];
        for (sentence, hidden) in [
            ("C:\\Users\\tanaka\\AppData に書き込めません", "tanaka"),
            ("田中製作所として登録されています", "田中"),
            ("事業所0123です", "0123"),
            ("コードは123456です", "123456"),
            ("t***@example.jp へ送りました", "example.jp"),
            ("宛先：taro.yamada+x@example.co.jp。", "yamada"),
            ("gw は 203.0.113.7 です", "203.0"),
            ("203.0.113.7:8080 を使います", "203.0"),
            ("fd06::1 です", "fd06"),
            ("[2001:db8::1]:443", "2001"),
            ("token dGhpcyBpcyBhIHNlY3JldCB0b2tlbg", "dGhp"),
            ("0195f1a2-0000-7000-8000-0123456789ab", "0195"),
        ] {
            let masked = mask(sentence, &names);
            assert!(!masked.contains(hidden), "{masked}");
            assert!(masked.contains(MASK));
        }
    }

    #[test]
    fn what_helps_is_left() {
        let names = ["0123".to_owned()];
        for sentence in [
            "gw.kikin.example.jp は見つかりませんでした（DNSの名前解決の失敗）。",
            "約1500バイトで、足りています。",
            "発行者：CN=Example Inspection CA, O=Example／SHA-256：0011 2233 4455",
            "2026年11月20日 12:34",
            "ポート51820: 応答がありません。",
            "01234",
        ] {
            assert_eq!(mask(sentence, &names), sentence);
        }
    }
}
