//! Why a wish cannot be passed on to a profile, for the log and for the user.

use std::io;

use super::Choice;
use crate::enrolment::EnrolError;
use crate::secret::NoRandomness;
use crate::store::StoreError;
use crate::store::profiles::{MAX_PROFILES, ProfileId};

/// Why a wish cannot be passed on.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The settings or the enrolment.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The loopback proxy.
    #[error("cannot listen on port {port} of loopback: {source}")]
    Listen {
        /// Which port; 0 is any that is free.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// No secrets for a page.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// There is no such profile.
    #[error("there is no profile {0}")]
    Unknown(Choice),
    /// Several profiles fit, and only one can be meant.
    #[error("several profiles fit")]
    Ambiguous(Vec<(ProfileId, String)>),
    /// No further profile fits on this PC.
    #[error("there are {MAX_PROFILES} profiles already")]
    TooMany,
    /// The profile's agent said no.
    #[error("refused: {0}")]
    Refused(String),
    /// This run has no windows, or none came up.
    #[error("no window: {0}")]
    NoWindow(String),
    /// The run is ending, and its profiles with it.
    #[error("this run is ending")]
    Ending,
}

impl DeskError {
    /// What the user is told.
    pub fn page_text(&self) -> String {
        match self {
            Self::Store(error) => error.page_text(),
            Self::Enrol(error) => error.page_text(),
            Self::Listen { port, source } => cannot_listen(*port, source),
            Self::NoRandomness(_) => {
                "このパソコンの中の中継を始められませんでした。もう一度お試しください。".to_owned()
            }
            Self::Ending => {
                "連携を終了しているところです。終了してから、もう一度お試しください。".to_owned()
            }
            Self::Unknown(choice) => format!(
                "「{choice}」という登録先はありません。「vpn-agent profiles」で一覧をご確認ください。"
            ),
            Self::Ambiguous(found) => {
                let lines = found.iter().map(|(id, name)| format!("  {id}: {name}\n"));
                format!(
                    "登録先が複数あります。「--profile 番号」でどれかをお選びください。\n{}",
                    lines.collect::<String>()
                )
            }
            Self::TooMany => format!(
                "登録先は{MAX_PROFILES}件までです。使わない登録先を削除してから、もう一度お試しください。"
            ),
            Self::Refused(sentence) | Self::NoWindow(sentence) => sentence.clone(),
        }
    }
}

/// What the user is told of a port of the settings that cannot be had. Ports that Windows keeps
/// for itself (`netsh interface ipv4 show excludedportrange`) look like a lack of rights.
fn cannot_listen(port: u16, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => format!("ポート{port}は、別のプログラムが使っています"),
        io::ErrorKind::PermissionDenied => format!(
            "ポート{port}は、このパソコンでは使えません。Windowsなどが予約している範囲のポートです"
        ),
        _ => format!("ポート{port}を使えません（{error}）"),
    };
    let what = "このパソコンの中の中継を始められませんでした";
    if port == 0 {
        return format!("{what}（{error}）。パソコンを再起動してから、もう一度お試しください。");
    }
    format!(
        "{what}。{why}。設定の proxy_port を別の番号にするか、その行を消すと（空いているポートを自動で使います）、ご利用いただけます。"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_cannot_be_had_is_named_with_the_reason_and_a_way_on() {
        let told = |port, kind: io::ErrorKind| {
            let source = kind.into();
            DeskError::Listen { port, source }.page_text()
        };
        let busy = told(4000, io::ErrorKind::AddrInUse);
        assert!(busy.contains("ポート4000は、別のプログラム"), "{busy}");
        let excluded = told(4000, io::ErrorKind::PermissionDenied);
        assert!(excluded.contains("予約している範囲"), "{excluded}");
        for sentence in [busy, excluded, told(4000, io::ErrorKind::Other)] {
            assert!(
                sentence.contains("proxy_port を別の番号にするか"),
                "{sentence}"
            );
        }
        let none = told(0, io::ErrorKind::AddrInUse);
        assert!(
            !none.contains("proxy_port") && none.contains("再起動"),
            "{none}"
        );
    }
}
