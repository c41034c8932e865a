//! What can be looked at without the network: disk, browser, enrolment.

use std::path::Path;

use super::{Finding, Outcome};
use crate::browser;
use crate::config::Config;
use crate::enrolment::Approval;
use crate::os;
use crate::store::Enrolment;

/// Room that the agent and its window's profile need, in bytes.
const ROOM_BYTES: u64 = 200 * 1024 * 1024;

/// Whether files can be written, and whether there is room for more.
pub(super) fn disk(data_dir: &Path) -> Finding {
    let subject = "保存場所";
    if let Err(error) = write_and_remove(data_dir) {
        return Finding::new(
            subject,
            Outcome::Bad,
            format!(
                "{} に書き込めません（{error}）。空き容量とアクセス権をご確認ください。",
                data_dir.display()
            ),
        );
    }
    match os::free_bytes(data_dir) {
        Ok(free) if free < ROOM_BYTES => Finding::new(
            subject,
            Outcome::Bad,
            format!(
                "書き込みできますが、空き容量が{}MBしかありません。{}MB以上にしてください。",
                free / 1024 / 1024,
                ROOM_BYTES / 1024 / 1024
            ),
        ),
        Ok(_) => Finding::new(
            subject,
            Outcome::Good,
            "書き込みできます。空き容量も十分です。",
        ),
        Err(_) => Finding::new(subject, Outcome::Good, "書き込みできます。"),
    }
}

fn write_and_remove(data_dir: &Path) -> std::io::Result<()> {
    use std::io::Write as _;
    let path = data_dir.join(format!(".diagnose-{}", std::process::id()));
    let written = os::create_private_file(&path).and_then(|mut file| {
        file.write_all(b"diagnose")?;
        file.sync_all()
    });
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

/// Whether there is a browser to open the window with.
pub(super) fn window(config: &Config) -> Finding {
    let subject = "ブラウザー";
    match browser::find(config.browser.as_deref()) {
        Ok(path) if path.is_file() => Finding::new(
            subject,
            Outcome::Good,
            format!("{} を使います。", path.display()),
        ),
        Ok(path) => Finding::new(
            subject,
            Outcome::Bad,
            format!("設定された {} がありません。", path.display()),
        ),
        Err(error) => Finding::new(subject, Outcome::Bad, error.page_text()),
    }
}

/// Whether this PC is registered.
pub(super) fn registration(enrolment: Option<&Enrolment>) -> Finding {
    let subject = "パソコンの登録";
    match enrolment {
        None => Finding::new(subject, Outcome::Bad, "まだ登録されていません。"),
        Some(enrolment) => match enrolment.enrolled() {
            None => Finding::new(
                subject,
                Outcome::Bad,
                format!(
                    "承認されていません（照合番号 {}）。基金事務局へお問い合わせください。",
                    enrolment.key.matching_code()
                ),
            ),
            Some(enrolled) => match Approval::check(enrolment, enrolled) {
                Ok(_) => Finding::new(
                    subject,
                    Outcome::Good,
                    format!(
                        "{}、{}として登録されています。",
                        enrolled.fund_name, enrolled.establishment_name
                    ),
                ),
                Err(error) => Finding::new(subject, Outcome::Bad, error.page_text()),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_cannot_be_written_is_named() {
        let finding = disk(Path::new("/nonexistent/data"));
        assert!(finding.is_bad());
        assert!(finding.to_string().contains("/nonexistent/data"));
    }

    #[test]
    fn a_disk_with_room_is_good_and_keeps_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(disk(folder.path()).outcome, Outcome::Good);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
